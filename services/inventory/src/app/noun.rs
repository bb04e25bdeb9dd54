//! What differs between nouns; `resource.rs` has what is the same.

use farrier_inventory_store::Resource;
use farrier_model::Collection;
use farrier_runtime::authz::Caller;
use farrier_runtime::filter::Term;
use farrier_runtime::vault::Vault;
use prost_types::Timestamp;
use std::collections::HashMap;
use tonic::Status;

/// A resource of this service.
pub(crate) trait Noun: Resource {
    const COLLECTION: Collection;
    /// Field of a request that holds it, for messages: `node`.
    const FIELD: &'static str;
    /// Fields that an update may name.
    const MASK: &'static [&'static str] = &[];
    /// Fields that a list may be searched by.
    const FILTER: &'static [&'static str];

    /// The new resource: checked input fields, and output fields as they are at birth.
    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status>;

    /// Checks the fields that a caller may write.
    fn check(&self) -> Result<(), Status>;

    /// Whether an updatable field has a value.
    fn is_set(&self, _field: &str) -> bool {
        false
    }

    /// Takes an updatable field over.
    fn take(&mut self, _field: &str, _from: &Self) {}

    fn etag(&self) -> &str;

    /// Records when it was written.
    fn touch(&mut self, _now: Timestamp) {}

    fn labels_mut(&mut self) -> Option<&mut HashMap<String, String>> {
        None
    }

    /// Resource that it belongs to.
    fn parent(&self) -> Option<&str> {
        None
    }

    /// Moves secrets out of the message, sealed. `before` is what is stored.
    fn seal(&mut self, _before: Option<&Self>, _vault: &Vault) -> Result<Self::Extra, Status> {
        Ok(Self::Extra::default())
    }

    /// Whether it exists for this caller. Racks see only what says so.
    fn visible_to(&self, caller: &Caller) -> bool {
        !matches!(caller.identity(), Some(farrier_identity::Identity::Rack(_)))
    }

    /// A filter term as it is stored: short names made whole, words checked.
    fn term(term: Term) -> Result<Term, Status> {
        Ok(term)
    }
}

macro_rules! fields {
    ($($field:ident),*) => {
        fn is_set(&self, field: &str) -> bool {
            let unset = Self::default();
            match field {
                $(stringify!($field) => self.$field != unset.$field,)*
                _ => false,
            }
        }

        fn take(&mut self, field: &str, from: &Self) {
            match field {
                $(stringify!($field) => self.$field = from.$field.clone(),)*
                _ => {}
            }
        }

        const MASK: &'static [&'static str] = &[$(stringify!($field)),*];
    };
}

macro_rules! etag {
    () => {
        fn etag(&self) -> &str {
            &self.etag
        }
    };
}

macro_rules! labelled {
    () => {
        fn labels_mut(&mut self) -> Option<&mut std::collections::HashMap<String, String>> {
            Some(&mut self.labels)
        }
    };
}

pub(crate) use {etag, fields, labelled};
