//! Watching an operation, over breaks of the connection, until it is done.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::{GetOperationRequest, Operation, WatchOperationRequest};
use prost_types::Timestamp;
use thiserror::Error;
use tonic::transport::Channel;

/// An operation that is done and failed.
#[derive(Debug, Error)]
#[error("{} of {} failed: {}", kind(operation), operation.target, cause(operation))]
pub struct OperationFailed {
    pub operation: Box<Operation>,
}

fn kind(operation: &Operation) -> String {
    let name = operation.r#type().as_str_name();
    name.strip_prefix("OPERATION_TYPE_").unwrap_or(name).to_lowercase()
}

fn cause(operation: &Operation) -> String {
    let Some(error) = &operation.error else { return "no reason given".to_owned() };
    let mut text = format!("{}: {}", error.reason, error.message);
    for rejection in &error.rejections {
        text.push_str(&format!("\n  {}: {}", rejection.node, rejection.reason));
    }
    text
}

/// Watches `operation` to its end, telling `progress` of every change. Services may be killed and started
/// again meanwhile. A failed operation is [`OperationFailed`].
pub(super) async fn wait(
    channel: &Channel,
    mut operation: Operation,
    mut progress: impl FnMut(&Operation),
) -> Result<Operation> {
    let mut silence = Silence::default();
    progress(&operation);
    while !operation.done {
        let mut heard = false;
        let Err(status) = follow(channel, &mut operation, &mut heard, &mut progress).await else { continue };
        if silence.broke(heard, Instant::now()) > AWAY {
            return Err(status).with_context(|| format!("{}: the scheduler is away", operation.name));
        }
        tokio::time::sleep(PAUSE).await;
    }
    if operation.error.is_some() {
        return Err(OperationFailed { operation: Box::new(operation) }.into());
    }
    Ok(operation)
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

async fn follow(
    channel: &Channel,
    last: &mut Operation,
    heard: &mut bool,
    progress: &mut impl FnMut(&Operation),
) -> Result<(), tonic::Status> {
    let name = last.name.clone();
    let mut client = OperationServiceClient::new(channel.clone());
    let mut stream = client.watch_operation(WatchOperationRequest { name: name.clone() }).await?.into_inner();
    while let Some(operation) = stream.message().await? {
        *heard = true;
        progress(&operation);
        *last = operation;
        if last.done {
            return Ok(());
        }
    }
    // A stream that ends early says nothing; what is stored does.
    *last = client.get_operation(GetOperationRequest { name }).await?.into_inner();
    progress(last);
    Ok(())
}

/// Seconds between two time stamps of the API; `None` when one is missing.
pub fn seconds(from: &Option<Timestamp>, to: &Option<Timestamp>) -> Option<f64> {
    Some(since_epoch(to.as_ref()?) - since_epoch(from.as_ref()?))
}

#[allow(clippy::cast_precision_loss, reason = "microseconds are enough for a timeline")]
pub(super) fn since_epoch(time: &Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

/// How long the scheduler may stay away: a restart takes a second, a debug build on a busy machine more.
const AWAY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

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
