//! Watching an operation until it is done: which step of which node runs since when, on stderr.
//!
//! **Invariant:** a broken stream is not a failed operation. The watch is opened again; only a server
//! that stays away, or that says no, ends it.

mod report;
mod timeline;

pub use report::{Bar, Lines, Report, clear, upload_bar};

use crate::call;
use crate::client::Link;
use crate::failure::{Exit, Failure, make_one_available, of_transport};
use crate::names::short;
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::{GetOperationRequest, Operation, OperationError, WatchOperationRequest};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// How long a server may stay away while we watch. Longer than the restart of a service or the failover
/// of its database, shorter than a person's patience with a dead link.
const AWAY: Duration = Duration::from_secs(300);
/// First and longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a line that shows a running time is drawn again.
const TICK: Duration = Duration::from_secs(1);

/// Watches with the reporter that fits stderr, and tells the timeline at the end.
pub async fn wait(link: &Link, operation: Operation) -> Result<Operation, Failure> {
    let terminal = std::io::stderr().is_terminal();
    let mut report: Box<dyn Report + Send> =
        if terminal { Box::new(Bar::new()) } else { Box::new(Lines::new(std::io::stderr())) };
    let last = watch(link, operation, report.as_mut()).await?;
    report.end();
    crate::talk::part(timeline::render(&last));
    Ok(last)
}

/// Success only when the operation succeeded.
pub fn outcome(operation: &Operation) -> Result<(), Failure> {
    match &operation.error {
        Some(error) => Err(failed(operation, error)),
        None => Ok(()),
    }
}

/// Watches until the operation is done. Cancel-safe: the operation does not depend on its watchers.
pub async fn watch(
    link: &Link,
    mut last: Operation,
    report: &mut (dyn Report + Send),
) -> Result<Operation, Failure> {
    let mut silence = Silence::default();
    let mut pause = PAUSE;
    report.update(&last);
    while !last.done {
        let name = last.name.clone();
        let mut heard = false;
        let broken = follow(link, &name, &mut last, &mut heard, report).await;
        if last.done {
            break;
        }
        if let Some(status) = broken.as_ref().filter(|status| is_final(status)) {
            return Err(link.failed(status));
        }
        if heard {
            pause = PAUSE;
        }
        let why = broken.as_ref().map_or("the stream ended", Status::message);
        if silence.broke(heard, Instant::now()) > AWAY {
            let status = broken.unwrap_or_else(|| Status::unavailable("the stream ended early"));
            return Err(link
                .failed(&status)
                .next(format!("the operation goes on: `farrier operation watch {}`", short(&name))));
        }
        report.say(&format!("the watch broke ({why}), trying again"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    // A stream may end with its last change; the operation as it is stored is the truth.
    if last.end_time.is_none() {
        last = call!(
            link,
            OperationServiceClient,
            get_operation,
            GetOperationRequest { name: last.name.clone() }
        )
        .unwrap_or(last);
    }
    Ok(last)
}

/// Since when nobody answers. It counts from the first break of a watch that was heard: a stream that has
/// nothing to say for an hour is not away.
#[derive(Debug, Default)]
struct Silence {
    since: Option<Instant>,
}

impl Silence {
    /// A watch broke at `now`; `heard`: it had said something. Returns how long nobody has answered.
    fn broke(&mut self, heard: bool, now: Instant) -> Duration {
        if heard {
            self.since = None;
        }
        now.saturating_duration_since(*self.since.get_or_insert(now))
    }
}

/// One stream, to its end. Returns why it broke, if it did.
async fn follow(
    link: &Link,
    name: &str,
    last: &mut Operation,
    heard: &mut bool,
    report: &mut (dyn Report + Send),
) -> Option<Status> {
    let mut client = OperationServiceClient::new(link.channel.clone());
    let mut stream = match client.watch_operation(WatchOperationRequest { name: name.to_owned() }).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Some(status),
    };
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            message = stream.message() => match message {
                Ok(Some(operation)) => {
                    *heard = true;
                    report.update(&operation);
                    *last = operation;
                    if last.done {
                        return None;
                    }
                }
                Ok(None) => return None,
                Err(status) => return Some(status),
            },
            _ = tick.tick() => report.update(last),
        }
    }
}

/// Whether asking again is pointless.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::InvalidArgument
    ) && !of_transport(status)
}

fn failed(operation: &Operation, error: &OperationError) -> Failure {
    let what = if operation.target.is_empty() { &operation.name } else { &operation.target };
    let mut failure = Failure::new(Exit::OperationFailed, format!("{what}: {}", error.message));
    failure.reason = Some(error.reason.clone()).filter(|reason| !reason.is_empty());
    failure.rejections = error.rejections.iter().map(|r| (r.node.clone(), r.reason.clone())).collect();
    let next = match error.reason.as_str() {
        "NO_NODE_FITS" => make_one_available(&failure.rejections),
        _ if operation.node.is_empty() => format!("`farrier operation get {}`", short(&operation.name)),
        _ => format!("`farrier node explain {}`", short(&operation.node)),
    };
    failure.next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_watch_is_not_away_and_an_absent_server_is_given_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        // An hour without a word, then a restart of the server: the first break is where counting begins.
        assert_eq!(silence.broke(true, at(3600)), Duration::ZERO);
        assert_eq!(silence.broke(false, at(3610)), Duration::from_secs(10));
        assert!(silence.broke(false, at(3600 + AWAY.as_secs() + 1)) > AWAY);
        // It came back and said something: the next break counts anew.
        assert_eq!(silence.broke(true, at(9000)), Duration::ZERO);
        // Never heard at all.
        let mut silence = Silence::default();
        assert_eq!(silence.broke(false, at(1)), Duration::ZERO);
        assert_eq!(silence.broke(false, at(5)), Duration::from_secs(4));
    }
}
