//! Tables, one a file. Entities never leave this crate.
// The derives want `pub` types; the modules keep them in.
#![allow(unreachable_pub)]

pub(crate) mod counter;
pub(crate) mod discovered;
pub(crate) mod discovered_mac;
pub(crate) mod event;
pub(crate) mod flavor;
pub(crate) mod join_token;
pub(crate) mod label;
pub(crate) mod node;
pub(crate) mod observation;
pub(crate) mod port;
pub(crate) mod rack;
pub(crate) mod request;
pub(crate) mod site;

use crate::resource::{Resource, label_matches};
use prost_types::Timestamp;

/// The part of [`Resource`] that is the same for all: columns and fields of the same names.
macro_rules! common {
    ($extra:ty) => {
        type Table = Entity;
        type Extra = $extra;
        const NAME: Column = Column::Name;
        const REVISION: Column = Column::Revision;
        const BODY: Column = Column::Body;

        fn name(&self) -> &str {
            &self.name
        }

        fn etag_mut(&mut self) -> &mut String {
            &mut self.etag
        }
    };
}
use common;

/// A row: the columns that all resources have, and its own.
macro_rules! row {
    ($message:ident, $revision:ident, $updated:ident { $($own:tt)* }) => {
        ActiveModel {
            name: Set($message.name.clone()),
            uid: Set($message.uid.clone()),
            revision: Set($revision),
            created_ms: Set($crate::entity::millis($message.create_time.as_ref())),
            updated_ms: Set($crate::entity::millis($message.$updated.as_ref())),
            body: Set(prost::Message::encode_to_vec($message)),
            $($own)*
        }
    };
}
use row;

/// A message's time as it is stored.
pub(crate) fn millis(time: Option<&Timestamp>) -> i64 {
    time.map_or(0, |t| t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000))
}

/// A stored time as a message has it.
pub(crate) fn timestamp(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: ms.div_euclid(1000), nanos }
}
