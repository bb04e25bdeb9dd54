//! One map from what went wrong to what a caller sees: a gRPC code, a sentence, and a
//! `google.rpc.ErrorInfo` with a reason from a closed set (AIP-193).

use std::collections::HashMap;
use tonic::{Code, Status};
pub use tonic_types::PreconditionViolation;
use tonic_types::{ErrorDetails, StatusExt as _};

/// Domain of every [`Reason`].
pub const DOMAIN: &str = "farrier";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Why a call was refused. Closed: clients may match on it; each has a section in `docs/errors.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    /// The caller's identity may not do this.
    NotAllowed = "NOT_ALLOWED",
    /// No such resource, or none that the caller may see.
    NotFound = "NOT_FOUND",
    /// Another resource has the name.
    NameTaken = "NAME_TAKEN",
    /// Another node has the MAC address.
    MacTaken = "MAC_TAKEN",
    /// Another node has the BMC.
    BmcTaken = "BMC_TAKEN",
    /// The resource changed since it was read.
    StaleEtag = "STALE_ETAG",
    /// Other resources refer to it.
    InUse = "IN_USE",
    /// A field has a value that cannot be.
    InvalidField = "INVALID_FIELD",
    /// The update mask names a field that cannot be updated.
    InvalidMask = "INVALID_MASK",
    /// The filter cannot be read.
    InvalidFilter = "INVALID_FILTER",
    /// The page token is not one that was given out.
    InvalidPageToken = "INVALID_PAGE_TOKEN",
    /// The request id was used for another request.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// The life cycle has no such edge.
    LifecycleRefused = "LIFECYCLE_REFUSED",
    /// The life cycle knows the verb; this version does not do it.
    NotDriven = "NOT_DRIVEN",
    /// Only a diskless instance has a disk at its rack.
    NotDiskless = "NOT_DISKLESS",
    /// Another operation has the node.
    NodeBusy = "NODE_BUSY",
    /// Somebody else has the console.
    ConsoleTaken = "CONSOLE_TAKEN",
    /// The console is another BMC's now.
    ConsoleMoved = "CONSOLE_MOVED",
    /// A BMC did not do what it was asked.
    BmcFailed = "BMC_FAILED",
    /// No node fits the request.
    NoNodeFits = "NO_NODE_FITS",
    /// The bytes do not have the digest that was promised.
    ChecksumMismatch = "CHECKSUM_MISMATCH",
    /// The upload ended early.
    Truncated = "TRUNCATED",
    /// The image is not in the format that was declared, or uses a refused feature.
    BadFormat = "BAD_FORMAT",
    /// The image is larger than this installation takes.
    ImageTooLarge = "IMAGE_TOO_LARGE",
    /// The image has other content than asked for.
    ImageChanged = "IMAGE_CHANGED",
    /// A newer owner works on the node.
    StaleFence = "STALE_FENCE",
    /// The one-time token is not known.
    TokenUnknown = "TOKEN_UNKNOWN",
    /// The one-time token was used.
    TokenUsed = "TOKEN_USED",
    /// The one-time token is too old.
    TokenExpired = "TOKEN_EXPIRED",
    /// This installation has no embedded authority: certificates come from an external PKI.
    NoAuthority = "NO_AUTHORITY",
    /// Another service did not answer.
    Unavailable = "UNAVAILABLE",
    /// A defect of Farrier: the log has more.
    Internal = "INTERNAL",
}

/// A status with its reason.
pub fn refuse(code: Code, reason: Reason, message: impl Into<String>) -> Status {
    refuse_with(code, reason, message, [])
}

/// A status with its reason and facts that a program may want.
pub fn refuse_with<'a>(
    code: Code,
    reason: Reason,
    message: impl Into<String>,
    facts: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let facts: HashMap<String, String> = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason.as_str(), DOMAIN, facts))
}

/// A status with its reason, and one typed violation for each thing that stood in the way. The caller keeps
/// them few: clients take some 16 KiB of headers, and a status is one.
pub fn refuse_each<const N: usize>(
    code: Code,
    reason: Reason,
    message: impl Into<String>,
    facts: [(&str, String); N],
    violations: Vec<PreconditionViolation>,
) -> Status {
    let facts: HashMap<String, String> = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, facts);
    details.set_precondition_failure(violations);
    Status::with_error_details(code, message, details)
}

/// Another service's answer for our own caller: a refusal as it is, silence as UNAVAILABLE with its name.
pub fn asked(who: &str, status: Status) -> Status {
    // A server of ours gives a reason with all it says; without one it did not answer.
    let silent =
        matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown)
            && reason_of(&status).is_none();
    if !silent {
        return status;
    }
    refuse(
        Code::Unavailable,
        Reason::Unavailable,
        format!("{who} does not answer: {}; try again", status.message()),
    )
}

/// The reason in a status that one of our servers sent.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

pub fn invalid(field: &str, expected: impl std::fmt::Display) -> Status {
    refuse_with(
        Code::InvalidArgument,
        Reason::InvalidField,
        format!("{field}: {expected}"),
        [("field", field.to_owned())],
    )
}

pub fn not_found(name: &str) -> Status {
    refuse_with(
        Code::NotFound,
        Reason::NotFound,
        format!("{name} is not here, or not yours to see"),
        [("resource", name.to_owned())],
    )
}

/// Somebody changed it meanwhile. `etags`: what the caller sent and what is there, where that is known.
pub fn stale_etag(name: &str, etags: Option<(&str, &str)>) -> Status {
    let told = etags.map(|(sent, has)| format!(" (expected etag {has:?}, saw {sent:?})")).unwrap_or_default();
    let message = format!("{name} changed since it was read{told}: read it again and retry");
    refuse_with(
        Code::Aborted,
        Reason::StaleEtag,
        message,
        etags.into_iter().flat_map(|(sent, has)| [("expected", has.to_owned()), ("seen", sent.to_owned())]),
    )
}

/// A defect or a broken database: the caller learns nothing of it, the log everything.
pub fn internal(error: impl std::fmt::Display) -> Status {
    tracing::error!(%error, "internal error");
    refuse(Code::Internal, Reason::Internal, "internal error: the server's log has the cause")
}
