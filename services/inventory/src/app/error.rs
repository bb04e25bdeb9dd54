//! What the store says, as callers see it.

use farrier_inventory_store::StoreError;
use farrier_runtime::error::{Reason, internal, not_found, refuse, stale_etag};
use farrier_runtime::telemetry::chain;
use tonic::{Code, Status};

/// The status of a failed store call.
pub(crate) fn store(error: StoreError) -> Status {
    match error {
        StoreError::NotFound { name } => not_found(&name),
        StoreError::Conflict { name } => stale_etag(&name, None),
        StoreError::Taken { name } if name.starts_with("ports/") => refuse(
            Code::AlreadyExists,
            Reason::MacTaken,
            format!("{name} exists already: each MAC address is one port"),
        ),
        StoreError::Taken { name } => refuse(
            Code::AlreadyExists,
            Reason::NameTaken,
            format!("{name} exists already: choose another name"),
        ),
        StoreError::Rival { name, other } => refuse(
            Code::AlreadyExists,
            Reason::BmcTaken,
            format!(
                "{name}: expected a BMC of its own, saw that of {other}: each would switch the other's machine off; \
                 correct the address, or name the system of a BMC that has several"
            ),
        ),
        StoreError::NoParent { name } => refuse(
            Code::NotFound,
            Reason::NotFound,
            format!("what {name} belongs to does not exist: create that first"),
        ),
        StoreError::InUse { name } => {
            let (what, list) = match name.split('/').next() {
                Some("sites") => ("racks", "farrier rack list --filter site="),
                _ => ("nodes", "farrier node list --filter rack="),
            };
            in_use(&format!("{name} still has {what}: `{list}{name}` shows them; delete those first"))
        }
        StoreError::UnknownField { field } => {
            refuse(Code::InvalidArgument, Reason::InvalidFilter, format!("filter: cannot search by {field}"))
        }
        error @ (StoreError::Corrupt(_) | StoreError::Database(_)) => internal(chain(&error)),
    }
}

pub(crate) fn in_use(why: &str) -> Status {
    refuse(Code::FailedPrecondition, Reason::InUse, why)
}
