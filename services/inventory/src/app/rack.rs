use super::check;
use super::noun::{Noun, etag, fields, labelled};
use farrier_identity::Identity;
use farrier_model::{Collection, parse_name};
use farrier_proto::inventory::Rack;
use farrier_runtime::authz::Caller;
use farrier_runtime::error::invalid;
use farrier_runtime::filter::Term;
use prost_types::Timestamp;
use tonic::Status;

impl Noun for Rack {
    const COLLECTION: Collection = Collection::Racks;
    const FIELD: &'static str = "rack";
    const FILTER: &'static [&'static str] = &["site", "labels"];
    fields!(description, labels, address);
    etag!();
    labelled!();

    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status> {
        let Self { name, description, site, address, labels, .. } = self;
        check::name("rack.name", Self::COLLECTION, &name)?;
        check::name("rack.site", Collection::Sites, &site)?;
        let new = Self {
            name,
            uid,
            description,
            site,
            address,
            labels,

            etag: String::new(),
            create_time: Some(now),
            update_time: Some(now),
        };
        new.check()?;
        Ok(new)
    }

    fn check(&self) -> Result<(), Status> {
        check::text("rack.description", &self.description)?;
        check::labels("rack.labels", &self.labels)?;
        if self.address.is_empty() {
            return Ok(());
        }
        match self.address.strip_prefix("https://") {
            Some(authority) => check::host_port("rack.address", authority.trim_end_matches('/')),
            None => Err(invalid("rack.address", "expected https://host:port")),
        }
    }

    fn touch(&mut self, now: Timestamp) {
        self.update_time = Some(now);
    }

    fn parent(&self) -> Option<&str> {
        Some(&self.site)
    }

    fn visible_to(&self, caller: &Caller) -> bool {
        is_own_rack(caller, &self.name).unwrap_or(true)
    }

    fn term(term: Term) -> Result<Term, Status> {
        Ok(match term.field.as_str() {
            "site" => Term { value: Collection::Sites.whole(term.value), ..term },
            _ => term,
        })
    }
}

/// For a rack's certificate: whether `rack` is its own. None for everybody else.
pub(super) fn is_own_rack(caller: &Caller, rack: &str) -> Option<bool> {
    match caller.identity() {
        Some(Identity::Rack(id)) => Some(parse_name(Collection::Racks, rack) == Ok(id.as_str())),
        _ => None,
    }
}
