//! Listening to one BMC's events: what they say is not believed, each is a look.

use super::look::{self, Sighting};
use crate::rack::Rack;
use farrier_bmc::{Bmc, BmcError, Deadline, EventStream};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How a listener ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: Instant,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time was over, or it ended after so long that nothing is wrong with it.
    Lasted,
    Failed,
    /// This BMC tells no events.
    Unsupported,
    /// The password: another try would count against the account.
    Refused,
}

/// Waits until no task has the node's BMC for itself.
pub(super) type Free = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

pub(super) struct Listener {
    /// `nodes/{node}`
    pub(super) node: String,
    pub(super) bmc: Bmc,
    pub(super) told: mpsc::Sender<Sighting>,
    pub(super) free: Free,
}

/// `None`: a task has the BMC now, and nobody else asks it for a stream.
pub(super) fn no_task_of(rack: &Arc<Rack>, node: &str) -> Option<Free> {
    if !rack.tasks.of_node(node).is_empty() {
        return None;
    }
    let (rack, node) = (Arc::clone(rack), node.to_owned());
    Some(Box::new(move || {
        let (rack, node) = (Arc::clone(&rack), node.clone());
        Box::pin(async move {
            while let Some(task) = rack.tasks.of_node(&node).pop() {
                let mut ended = task.ended.subscribe();
                let _ended = ended.wait_for(|ended| *ended).await;
            }
        })
    }))
}

impl Listener {
    /// Until the stream ends, or its time is over.
    pub(super) async fn run(self) -> Ended {
        let begin = Instant::now();
        // A peer that is gone without a word is not noticed: no stream lives for ever.
        let life = LIFE.mul_f64(rand::random_range(0.75..1.25));
        let listened = tokio::time::timeout(life, async {
            (self.free)().await;
            match self.bmc.events(Deadline::after(look::PATIENCE)).await {
                Ok(stream) => self.listen(stream).await,
                Err(error) => error,
            }
        });
        let why = match listened.await {
            Err(_) => Why::Lasted,
            Ok(error) => {
                tracing::debug!(node.id = %self.node, %error, "a BMC's events are not listened to any more");
                match error {
                    BmcError::Unsupported { .. } => Why::Unsupported,
                    error if error.is_wrong_password() => Why::Refused,
                    _ if begin.elapsed() > GOOD => Why::Lasted,
                    _ => Why::Failed,
                }
            }
        };
        Ended { at: Instant::now(), why }
    }

    /// Looks for each event, or for some that come together, until the stream ends or the password is refused. Why.
    async fn listen(&self, mut stream: EventStream) -> BmcError {
        let mut plan = Plan::default();
        loop {
            // Events are taken while it is not time for a look, and a look's turn comes however many there are.
            tokio::select! {
                biased;
                () = self.turn(plan.next()) => {}
                notice = stream.next() => {
                    let notice = match notice {
                        Ok(notice) => notice,
                        Err(ended) => return ended,
                    };
                    let id = &notice.message_id;
                    tracing::debug!(node.id = %self.node, event = %id, "a BMC tells an event");
                    if notice.may_be_of_the_machine() {
                        plan.event();
                    }
                    continue;
                }
            }
            plan.looked(Instant::now());
            match self.bmc.look(Deadline::after(look::PATIENCE)).await {
                // The next round tells, or another event.
                Ok(seen) if seen.settling => {}
                Ok(seen) => {
                    let sighting = look::seen(&self.node, seen, self.bmc.driver());
                    // The receiver is gone when rackd ends.
                    let _ending = self.told.send(sighting).await;
                }
                Err(error) if error.is_wrong_password() => return error,
                // The next round tells.
                Err(_) => {}
            }
        }
    }

    /// A task has the machine's BMC for itself: what comes meanwhile is one look after it.
    async fn turn(&self, at: Option<Instant>) {
        let Some(at) = at else { return std::future::pending().await };
        if at > Instant::now() {
            tokio::time::sleep_until(at).await;
        }
        (self.free)().await;
    }
}

/// When to look next. Looks are bounded however many events come: of a machine that flaps, and of a BMC that tells each look of
/// ours as an event.
#[derive(Debug, Default)]
struct Plan {
    /// An event has come since the last look.
    event: bool,
    /// The look after the look, since some tell an event before their power says so.
    again: Option<Instant>,
    /// No look before this.
    not_before: Option<Instant>,
    /// When all of the looks that may come at once may come again.
    rested: Option<Instant>,
}

impl Plan {
    fn event(&mut self) {
        self.event = true;
    }

    fn next(&self) -> Option<Instant> {
        let wanted = if self.event { Some(self.not_before.unwrap_or_else(Instant::now)) } else { self.again };
        wanted.max(self.not_before.filter(|_| wanted.is_some()))
    }

    fn looked(&mut self, now: Instant) {
        self.again = std::mem::take(&mut self.event).then(|| now + AGAIN);
        let rested = self.rested.map_or(now, |rested| rested.max(now)) + EACH;
        self.rested = Some(rested);
        let spare = EACH * (AT_ONCE - 1);
        // Of the looks at once there is one left at this time.
        let left = rested.checked_sub(spare).unwrap_or(now);
        self.not_before = Some(left.max(now + BETWEEN));
    }
}

/// Of a stream, about; an iDRAC ends them itself after less.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// A stream that lasted so long was good, however it ended.
const GOOD: Duration = Duration::from_secs(300);
/// Between two looks at one BMC: some tell dozens of events at a machine's start.
const BETWEEN: Duration = Duration::from_secs(1);
/// Looks that may come at that pace; then one comes each `EACH`.
const AT_ONCE: u32 = 8;
const EACH: Duration = Duration::from_secs(30);
/// From a look that an event asked for to the one after it.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
