//! What went wrong: one exit code, the sentence, the reason, and what to do next.

use crate::names::short;
use crate::output::table;
use farrier_identity::IdentityError;
use farrier_model::hint;
use std::fmt::Write as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What the exit code says. Listed in `--help`; scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Refused,
    Usage,
    NotFound,
    Unreachable,
    OperationFailed,
    Conflict,
}

impl Exit {
    /// Interrupted, as shells report SIGINT.
    pub const INTERRUPTED: u8 = 130;

    pub fn code(self) -> u8 {
        match self {
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Unreachable => 4,
            Exit::OperationFailed => 5,
            Exit::Conflict => 6,
        }
    }
}

/// A command's failure, ready to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    /// `google.rpc.ErrorInfo.reason`, or an operation's.
    pub reason: Option<String>,
    /// NO_NODE_FITS: node and why it does not.
    pub rejections: Vec<(String, String)>,
    /// What to do next, most likely first.
    pub next: Vec<String>,
}

/// Where a URL came from that was typed.
pub const COMMAND_LINE: &str = "the command line";

/// The call that failed.
#[derive(Debug, Clone)]
pub struct Called {
    /// Word for people: `inventory`, `rack r1`.
    pub service: String,
    pub url: String,
    /// Where the URL came from: `context lab`, `--inventory`.
    pub source: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), reason: None, rejections: Vec::new(), next: Vec::new() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, hint: impl Into<String>) -> Self {
        self.next.push(hint.into());
        self
    }

    /// The same of a command about this node: who answered may not have known its name.
    #[must_use]
    pub fn about_node(mut self, node: &str) -> Self {
        let node = short(node);
        self.message = hint::about_node(&self.message, node);
        self.next.iter_mut().for_each(|next| *next = hint::about_node(next, node));
        self
    }

    /// A file that cannot be read or written.
    pub fn file(path: &std::path::Path, doing: &str, error: &std::io::Error) -> Self {
        Self::refused(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// A status of `called`.
    pub fn of_status(status: &Status, called: &Called) -> Self {
        let info = status.get_details_error_info();
        let reason = info.map(|i| i.reason).filter(|r| !r.is_empty());
        let exit = exit_of(status, reason.as_deref());
        let unreached = exit == Exit::Unreachable && reason.is_none();
        let mut failure = Failure { reason, ..Failure::new(exit, sentence(status, called, unreached)) };
        if failure.reason.as_deref() == Some("NO_NODE_FITS") {
            failure.rejections = rejections(status);
        }
        failure.next = next(&failure, status, called);
        failure
    }

    /// The text for stderr.
    pub fn render(&self, colour: bool) -> String {
        let (red, bold, off) = if colour { ("\x1b[31;1m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let mut out = format!("{red}error:{off} {}", clean_lines(&self.message));
        if let Some(reason) = &self.reason {
            let _ = write!(out, " ({})", table::clean(reason));
        }
        out.push('\n');
        if !self.rejections.is_empty() {
            let rows = self.rejections.iter().map(|(node, why)| vec![node.clone(), why.clone()]).collect();
            out.push_str(&table::render(&["NODE", "WHY NOT"], rows, &[], false));
        }
        for hint in &self.next {
            let _ = writeln!(out, "{bold}next:{off} {hint}");
        }
        out
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let exit = if matches!(error, IdentityError::BadUri { .. }) { Exit::Usage } else { Exit::Refused };
        Failure::new(exit, chain(&error))
    }
}

/// An error and its causes, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        source = cause.source();
    }
    out
}

fn exit_of(status: &Status, reason: Option<&str>) -> Exit {
    match (status.code(), reason) {
        (
            _,
            Some("NAME_TAKEN" | "MAC_TAKEN" | "BMC_TAKEN" | "STALE_ETAG" | "NODE_BUSY" | "REQUEST_ID_REUSED"),
        ) => Exit::Conflict,
        (Code::NotFound, _) => Exit::NotFound,
        // The same mistake is the same exit code, whoever sees it first.
        (Code::InvalidArgument | Code::OutOfRange, _) => Exit::Usage,
        (Code::Aborted | Code::AlreadyExists, _) => Exit::Conflict,
        (Code::Unavailable | Code::DeadlineExceeded, _) => Exit::Unreachable,
        // tonic reports its own deadline and a connection that broke under a call with these codes; a
        // server that answered would have given a reason.
        (Code::Cancelled | Code::Unknown | Code::Internal, None) if of_transport(status) => Exit::Unreachable,
        _ => Exit::Refused,
    }
}

/// Whether the status was made on this side of the wire.
pub fn of_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || status.message().eq_ignore_ascii_case("timeout expired")
}

/// `unreached`: nobody gave a reason, so nobody answered. Who answers may still say that another does not.
fn sentence(status: &Status, called: &Called, unreached: bool) -> String {
    if unreached {
        let cause = std::error::Error::source(status).map_or_else(|| status.message().to_owned(), chain);
        return format!("cannot reach {} at {}: {cause}", called.service, called.url);
    }
    if status.message().is_empty() {
        format!("{} answered {}", called.service, status.code())
    } else {
        status.message().to_owned()
    }
}

/// Placement's reasons: a precondition violation each. How many more there are is in the message.
fn rejections(status: &Status) -> Vec<(String, String)> {
    let mut out: Vec<_> = status
        .get_details_precondition_failure()
        .map(|p| p.violations.into_iter().map(|v| (v.subject, v.description)).collect())
        .unwrap_or_default();
    out.sort();
    out
}

fn next(failure: &Failure, status: &Status, called: &Called) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    let facts = status.get_details_error_info().map(|info| info.metadata).unwrap_or_default();
    let fact = |key: &str| facts.get(key).map(|value| table::clean(value));
    let explain = || {
        let node = fact("node").map_or_else(|| "NODE".to_owned(), |node| short(&node).to_owned());
        format!("`farrier node explain {node}`")
    };
    match (failure.reason.as_deref(), failure.exit) {
        (Some("BMC_FAILED"), _) => one(
            "`farrier node explain NODE` tells how the node's BMC does, `farrier node capabilities NODE` what it can",
        ),
        (Some(_), Exit::Unreachable) => Vec::new(),
        (None, Exit::Unreachable) => {
            let shown = match called.source.strip_prefix("racks/").and_then(|source| source.split_once(' ')) {
                Some((rack, _)) => format!(": `farrier rack get {rack}`"),
                None if called.source == COMMAND_LINE => String::new(),
                None => ": `farrier context show`".to_owned(),
            };
            vec![format!(
                "the address is from {}{shown}; is {} running there?",
                called.source, called.service
            )]
        }
        (Some("STALE_ETAG"), _) => one("somebody changed it meanwhile: read it again and repeat"),
        (Some("NAME_TAKEN"), _) => one("choose another name, or `get` the one that is there"),
        (Some("MAC_TAKEN"), _) => {
            one("`farrier port list` shows whose it is; `farrier port delete` frees it")
        }
        (Some("BMC_TAKEN"), _) => one("`farrier node list -o wide` shows each node's BMC"),
        (Some("NODE_BUSY"), _) => vec![format!("see what works on it: {}", explain())],
        (Some("LIFECYCLE_REFUSED"), _) => vec![format!("see what its state allows: {}", explain())],
        (Some("NO_NODE_FITS"), _) => {
            vec![make_one_available(&failure.rejections)]
        }
        (Some("IN_USE"), _) => one("remove what refers to it first"),
        (Some("CHECKSUM_MISMATCH"), _) => one("compare with `sha256sum FILE` and the publisher's list"),
        (Some("BAD_FORMAT" | "TRUNCATED"), _) => one(
            "look at the file with `file FILE` and `qemu-img info FILE`; `--format` says what it is to be read as",
        ),
        (_, Exit::NotFound) => {
            fact("resource").as_deref().and_then(where_listed).map(one).unwrap_or_default()
        }
        _ if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => {
            one("`farrier context show` prints who you are")
        }
        _ => Vec::new(),
    }
}

/// What to do where no node fits: one that only has to be provided is named.
pub fn make_one_available(rejections: &[(String, String)]) -> String {
    // Placement says of every node that is not available what it is instead.
    let idle = rejections.iter().find(|(_, why)| why.ends_with(" is manageable"));
    let node = idle.map_or("NODE", |(node, _)| short(node));
    format!("make a node available: `farrier node provide {node}`; or ask for less, or elsewhere")
}

/// What shows the resources that there are of this one's collection.
fn where_listed(resource: &str) -> Option<&'static str> {
    let collection = resource.split('/').next()?;
    LISTS.iter().find(|(plural, _)| *plural == collection).map(|(_, hint)| *hint)
}

const LISTS: [(&str, &str); 8] = [
    ("sites", "`farrier site list` shows what there is"),
    ("racks", "`farrier rack list` shows what there is"),
    ("nodes", "`farrier node list` shows what there is"),
    ("ports", "`farrier port list` shows what there is"),
    ("images", "`farrier image list` shows what there is"),
    ("flavors", "`farrier flavor list` shows what there is"),
    ("instances", "`farrier instance list` shows what there is"),
    ("operations", "`farrier operation list` shows what there is"),
];

/// A server's text may have lines, never other control characters.
fn clean_lines(text: &str) -> String {
    text.lines().map(table::clean).collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, PreconditionViolation};

    fn called() -> Called {
        Called { service: "inventory".into(), url: "https://h:1".into(), source: "context lab".into() }
    }

    fn status(code: Code, reason: &str) -> Status {
        Status::with_error_details(
            code,
            "why",
            ErrorDetails::with_error_info(
                reason,
                "farrier",
                [("k", "v")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into_iter()
                    .collect::<std::collections::HashMap<_, _>>(),
            ),
        )
    }

    #[test]
    fn codes_become_the_listed_exits() {
        for (status, exit) in [
            (Status::not_found("x"), 3),
            (Status::unavailable("x"), 4),
            (Status::deadline_exceeded("x"), 4),
            (status(Code::Aborted, "STALE_ETAG"), 6),
            (status(Code::AlreadyExists, "NAME_TAKEN"), 6),
            (status(Code::FailedPrecondition, "LIFECYCLE_REFUSED"), 1),
            (Status::internal("x"), 1),
            (Status::permission_denied("x"), 1),
            (status(Code::InvalidArgument, "INVALID_FIELD"), 2),
        ] {
            assert_eq!(Failure::of_status(&status, &called()).exit.code(), exit, "{status}");
        }
    }

    #[test]
    fn what_does_not_fit_is_a_table() {
        let mut details = ErrorDetails::with_error_info(
            "NO_NODE_FITS",
            "farrier",
            std::collections::HashMap::<String, String>::new(),
        );
        details.set_precondition_failure(vec![
            PreconditionViolation::new("NODE", "nodes/n2", "has 4 CPUs, needs 8"),
            PreconditionViolation::new("NODE", "nodes/n1", "is active\x1b[2J"),
            PreconditionViolation::new("NODE", "nodes/n3", "state: must be available, is manageable"),
        ]);
        let status = Status::with_error_details(Code::FailedPrecondition, "no node fits", details);
        insta::assert_snapshot!(Failure::of_status(&status, &called()).render(false), @r"
        error: no node fits (NO_NODE_FITS)
        NODE      WHY NOT
        nodes/n1  is active?[2J
        nodes/n2  has 4 CPUs, needs 8
        nodes/n3  state: must be available, is manageable
        next: make a node available: `farrier node provide n3`; or ask for less, or elsewhere
        ");
    }

    #[test]
    fn hints_name_the_thing_itself() {
        for (code, reason, fact, value, hint) in [
            (Code::FailedPrecondition, "LIFECYCLE_REFUSED", "node", "nodes/n7", "`farrier node explain n7`"),
            (Code::Aborted, "NODE_BUSY", "node", "nodes/n7", "`farrier node explain n7`"),
            (Code::NotFound, "NOT_FOUND", "resource", "flavors/big", "`farrier flavor list` shows"),
        ] {
            let facts = std::collections::HashMap::from([(fact.to_owned(), value.to_owned())]);
            let details = ErrorDetails::with_error_info(reason, "farrier", facts);
            let status = Status::with_error_details(code, "why", details);
            let text = Failure::of_status(&status, &called()).render(false);
            assert!(text.contains(hint), "{text}");
        }
    }

    #[test]
    fn who_answers_that_another_does_not_is_not_told_as_absent() {
        for (reason, hinted) in [("BMC_FAILED", true), ("UNAVAILABLE", false)] {
            let failure = Failure::of_status(&status(Code::Unavailable, reason), &called());
            assert_eq!((failure.exit, failure.message.as_str()), (Exit::Unreachable, "why"));
            assert_eq!(
                failure.next.iter().any(|next| next.contains("`farrier node explain NODE` tells")),
                hinted
            );
            assert!(!failure.next.iter().any(|next| next.contains("context")), "{:?}", failure.next);
        }
    }

    #[test]
    fn unreachable_names_url_and_context() {
        let text = Failure::of_status(&Status::unavailable("refused"), &called()).render(false);
        assert!(text.contains("https://h:1") && text.contains("context lab"), "{text}");
    }
}
