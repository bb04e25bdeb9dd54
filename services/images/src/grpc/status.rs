//! What went wrong, as callers see it.

use crate::app::AppError;
use crate::import::ImportError;
use farrier_runtime::error::{Reason, internal, invalid, not_found, refuse, refuse_with, stale_etag};
use farrier_runtime::telemetry::chain;
use std::io;
use tonic::{Code, Status};

pub(super) fn status(error: AppError) -> Status {
    match error {
        AppError::NotFound(name) => not_found(&name),
        AppError::Invalid { field, expected } => invalid(field, expected),
        AppError::NotAllowed(why) => refuse(Code::PermissionDenied, Reason::NotAllowed, why),
        AppError::NameTaken(name) => refuse_with(
            Code::AlreadyExists,
            Reason::NameTaken,
            format!("{name} exists: choose another name or delete it first"),
            [("resource", name)],
        ),
        AppError::Reserved(name) => refuse_with(
            Code::AlreadyExists,
            Reason::NameTaken,
            format!("{name} is being made of an instance's disk: choose another name"),
            [("resource", name)],
        ),
        AppError::RequestIdReused(_) => {
            refuse(Code::InvalidArgument, Reason::RequestIdReused, error.to_string())
        }
        AppError::Stale(name) => stale_etag(&name, None),
        AppError::InUse { name, by, others } => in_use(&name, &by, others),
        AppError::ImageChanged { name, now } => refuse_with(
            Code::FailedPrecondition,
            Reason::ImageChanged,
            format!("{name} has other content now: read it again"),
            now.map(|now| ("manifest_sha256", now)),
        ),
        AppError::ShuttingDown => {
            refuse(Code::Unavailable, Reason::Unavailable, "the service is shutting down: try again")
        }
        AppError::Import(error) => import(error),
        AppError::Disk { ref source, .. } if is_full(source) => full(),
        AppError::Store(_) | AppError::Disk { .. } | AppError::Lost => internal(chain(&error)),
    }
}

/// Who uses the image, few enough for a message.
fn in_use(name: &str, by: &[String], others: usize) -> Status {
    let mut users: Vec<String> = by.iter().take(NAMED).cloned().collect();
    let more = by.len().saturating_sub(NAMED).saturating_add(others);
    if more > 0 {
        users.push(format!("{more} more"));
    }
    let text = format!(
        "{name} is in use by {}: their disks need its bytes; delete those instances first, or keep the image",
        users.join(", ")
    );
    let facts = [("resource", name.to_owned()), ("users", by.len().saturating_add(others).to_string())];
    refuse_with(Code::FailedPrecondition, Reason::InUse, text, facts)
}

fn import(error: ImportError) -> Status {
    let refused = |reason, text: String| refuse(Code::InvalidArgument, reason, text);
    match error {
        ImportError::TooLong { .. } => invalid("header.file_bytes", error),
        ImportError::Truncated { declared, seen } => refuse_with(
            Code::InvalidArgument,
            Reason::Truncated,
            format!("the upload ended after {seen} of {declared} bytes"),
            [("expected", declared.to_string()), ("seen", seen.to_string())],
        ),
        ImportError::Checksum { ref expected, ref seen } => {
            let facts = [("expected", expected.clone()), ("seen", seen.clone())];
            refuse_with(Code::InvalidArgument, Reason::ChecksumMismatch, error.to_string(), facts)
        }
        ImportError::BadFormat(why) => refused(Reason::BadFormat, why),
        ImportError::NoBase(_) => refuse(Code::FailedPrecondition, Reason::NotFound, error.to_string()),
        ImportError::TooLarge { limit } => refuse_with(
            Code::InvalidArgument,
            Reason::ImageTooLarge,
            error.to_string(),
            [("limit", limit.to_string())],
        ),
        ImportError::Cancelled => Status::cancelled(error.to_string()),
        ImportError::Disk { ref source, .. } if is_full(source) => full(),
        ImportError::Disk { .. } => internal(chain(&error)),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn full() -> Status {
    tracing::error!("the data directory is full");
    refuse(
        Code::ResourceExhausted,
        Reason::Unavailable,
        "the images service has no room: delete images or give it a larger disk",
    )
}

/// Instances that a refused deletion names.
const NAMED: usize = 10;
