//! Power that is kept as Farrier left it, where a node's policy says so.
//!
//! It takes no input but what inventory knows and which operations there were: each try is an operation like a person's, so it
//! has a fencing token and is in the history; it is refused once other work had the node. Several schedulers make one of it:
//! the request's id is the same.

use super::node_rack::Audit;
use super::{App, operation_of};
use farrier_proto::inventory::{ListPowerToKeepRequest, PowerToKeep};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Power, PowerAction, TaskSpec};
use farrier_proto::scheduler::OperationType;
use farrier_proto::types::PowerState;
use farrier_runtime::telemetry::chain;
use farrier_runtime::time::now_ms;
use farrier_scheduler_store::{NewOperation, OperationFilter, StoreError};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Builder;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Nodes that one look works through; the others have their turn at the next ones. A hall whose power comes back has all its
/// machines off: switched on at once, their inrush takes the power away again, and those that boot from the network ask
/// for their addresses and files all at once. And what inventory said of the last of a long list would be old by its turn.
const A_LOOK: usize = 8;
/// Tries within [`WINDOW_MS`]: whoever switches a machine more often than that means it.
const MOST: usize = 3;
const WINDOW_MS: i64 = 24 * 3_600_000;
/// After the first try, and after the second.
const PAUSES_MS: [i64; 2] = [2 * 60_000, 10 * 60_000];
/// Who does it, in operations and events.
pub(crate) const ACTOR: &str = "spiffe://farrier/service/scheduler";

/// Whether to try, after tries at these times.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// For the time that this is.
    Now(usize),
    Later,
    Enough,
}

/// Looks and tries until shutdown.
pub(crate) async fn run(app: Arc<App>) {
    let (mut given_up, mut last) = (HashSet::new(), String::new());
    let work = async {
        loop {
            match app.clients.dispatch.clone().list_power_to_keep(ListPowerToKeepRequest {}).await {
                Ok(answer) => {
                    let nodes = answer.into_inner().nodes;
                    given_up.retain(|name| nodes.iter().any(|node| node.node == *name));
                    for node in turn(nodes, &last) {
                        if let Err(error) = app.keep_power(&node, &mut given_up).await {
                            tracing::warn!(node.id = %node.node, error = %chain(&error), "power is not put back yet");
                        }
                        last = node.node;
                    }
                }
                Err(status) => tracing::debug!(%status, "not told whose power is to be kept"),
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    app.engine.shutdown.run_until_cancelled(work).await;
}

/// Whose turn it is in this look: those after the last one of the look before, by name, and then from the beginning. One that
/// waits or was given up keeps no other from its turn.
fn turn(mut nodes: Vec<PowerToKeep>, last: &str) -> Vec<PowerToKeep> {
    let had_it = |node: &PowerToKeep| node.node.as_str() <= last;
    nodes.sort_by(|a, b| (had_it(a), &a.node).cmp(&(had_it(b), &b.node)));
    nodes.truncate(A_LOOK);
    nodes
}

impl App {
    async fn keep_power(&self, node: &PowerToKeep, given_up: &mut HashSet<String>) -> Result<(), StoreError> {
        let action = match node.left() {
            PowerState::On => PowerAction::On,
            PowerState::Off => PowerAction::Off,
            PowerState::Unspecified => return Ok(()),
        };
        let tries = self.tries(&node.node).await?;
        let audit = Audit { clients: self.clients.clone(), node: node.node.clone(), actor: ACTOR.to_owned() };
        let (left, seen) = (word(node.left()), word(node.seen()));
        let number = match due(&tries, now_ms()) {
            Due::Now(number) => number,
            Due::Later => return Ok(()),
            Due::Enough => {
                if given_up.insert(node.node.clone()) {
                    let detail = format!(
                        "put back {MOST} times within a day, and {seen} again where {left} was left: somebody means it, \
                         or something is wrong; Farrier leaves it so"
                    );
                    told(&node.node, audit.record("power not kept", &detail).await);
                }
                return Ok(());
            }
        };
        let work = TaskSpec { machine: None, work: Some(Work::Power(Power { action: action.into() })) };
        let mut row = operation_of(ACTOR.to_owned(), OperationType::Power, &node.node, &node.node, work);
        // Whatever works on the node before this has its turn changes what its power should be.
        row.operation.seen_fence = node.fence;
        let name = row.operation.name.clone();
        // A try that was refused before it held the node has left the fence as it was; and so it may be after a window
        // that nobody remembers.
        let (last, window) = (tries.last().unwrap_or(&0), now_ms() / WINDOW_MS);
        let id = format!("power-policy/{}/{}/{last}/{window}", node.node, node.fence);
        let request = Some((id, vec![u8::try_from(node.left).unwrap_or_default()]));
        let stored = self.store.create(NewOperation { row, request, create: None }).await?;
        // Another scheduler was first.
        if stored.name == name {
            let detail = format!("try {number} of {MOST} within a day: expected {left}, saw {seen}");
            told(&node.node, audit.record("keep power", &detail).await);
            self.engine.nudge();
        }
        Ok(())
    }

    /// When it was tried within the window, oldest first; an unfinished one is one.
    async fn tries(&self, node: &str) -> Result<Vec<i64>, StoreError> {
        let since = u64::try_from(now_ms().saturating_sub(WINDOW_MS)).unwrap_or_default();
        // Names of operations sort by their age (UUID v7).
        let after =
            format!("operations/{}", Builder::from_unix_timestamp_millis(since, &[0; 10]).into_uuid());
        let filter = OperationFilter {
            node: Some(node.to_owned()),
            kind: Some(OperationType::Power.into()),
            ..OperationFilter::default()
        };
        let rows = self.store.operations(&filter, Some(&after), LOOKED_AT).await?;
        let ours = rows.into_iter().filter(|row| row.operation.actor == ACTOR);
        Ok(ours
            .filter_map(|row| row.operation.create_time.map(|time| farrier_runtime::time::millis(&time)))
            .collect())
    }
}

/// Power work on one node within a day that is looked through: more than anybody does.
const LOOKED_AT: u64 = 1000;

fn due(tries: &[i64], now: i64) -> Due {
    let Some(last) = tries.last() else { return Due::Now(1) };
    match PAUSES_MS.get(tries.len() - 1) {
        _ if tries.len() >= MOST => Due::Enough,
        Some(pause) if now.saturating_sub(*last) < *pause => Due::Later,
        _ => Due::Now(tries.len() + 1),
    }
}

fn word(power: PowerState) -> &'static str {
    match power {
        PowerState::On => "on",
        PowerState::Off => "off",
        PowerState::Unspecified => "unknown",
    }
}

/// What it did stands in the operation too: an inventory that is away for a moment stops nothing.
fn told(node: &str, recorded: Result<(), tonic::Status>) {
    if let Err(status) = recorded {
        tracing::warn!(node.id = node, %status, "not written into the history");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_at_once_then_ever_later_and_no_fourth_time() {
        assert_eq!(due(&[], 0), Due::Now(1));
        assert_eq!((due(&[0], 119_999), due(&[0], 120_000)), (Due::Later, Due::Now(2)));
        assert_eq!((due(&[0, 10], 600_009), due(&[0, 10], 600_010)), (Due::Later, Due::Now(3)));
        assert_eq!(due(&[0, 10, 20], i64::MAX), Due::Enough);
        // A clock that was set back.
        assert_eq!(due(&[i64::MAX], 0), Due::Later);
    }

    #[test]
    fn a_look_works_through_some_nodes_and_each_has_its_turn() {
        let nodes: Vec<_> = (10..30)
            .map(|index| PowerToKeep { node: format!("nodes/n{index}"), ..PowerToKeep::default() })
            .collect();
        let (mut last, mut looks) = (String::new(), Vec::new());
        for _ in 0..3 {
            // In whatever order they are told.
            let told: Vec<_> = nodes.iter().rev().cloned().collect();
            let turn: Vec<_> = turn(told, &last).into_iter().map(|node| node.node).collect();
            last = turn.last().cloned().unwrap();
            looks.push(turn);
        }
        assert!(looks.iter().all(|turn| turn.len() == A_LOOK), "{looks:?}");
        let all: HashSet<_> = looks.iter().flatten().collect();
        assert_eq!(all.len(), nodes.len(), "{looks:?}");
        assert_eq!(looks[2][4..], ["nodes/n10", "nodes/n11", "nodes/n12", "nodes/n13"], "{looks:?}");
        assert_eq!(turn(Vec::new(), &last), []);
    }
}
