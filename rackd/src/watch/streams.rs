//! Events that BMCs tell by themselves: each is a look at once, so that what happens is told within a second. A look a round
//! stays the truth, since a stream loses what happens while it is down.

use super::list::Watched;
use super::look::{self, Sighting};
use crate::rack::Rack;
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, EventStream};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The streams of a rack's BMCs, one each.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<String, Listening>>);

struct Listening {
    /// Of the words about the BMC; others are another stream.
    words: [u8; 32],
    task: AbortOnDropHandle<()>,
}

impl Streams {
    /// Listens to a BMC that has just answered, if it tells events and nobody listens to it yet.
    pub(super) fn ensure(&self, rack: &Arc<Rack>, node: &Watched, told: &mpsc::Sender<Sighting>) {
        let Some(bmc) = node.bmc.as_ref().map(|known| &known.bmc) else { return };
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = node.words.digest();
        let has =
            streams.get(&node.node).is_some_and(|known| known.words == words && !known.task.is_finished());
        if has || bmc.driver_of(Capability::Events).is_none() {
            return;
        }
        let full = streams.len() >= MOST && !streams.contains_key(&node.node);
        if full {
            return;
        }
        let listener = Listener {
            rack: Arc::clone(rack),
            node: node.node.clone(),
            bmc: bmc.clone(),
            told: told.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(listener.run()));
        streams.insert(node.node.clone(), Listening { words, task });
    }

    /// Ends those of nodes that are not looked at any more.
    pub(super) fn keep_only(&self, watched: &[Watched]) {
        let nodes: HashSet<&str> = watched.iter().map(|node| node.node.as_str()).collect();
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|node, _| nodes.contains(node.as_str()));
    }
}

struct Listener {
    rack: Arc<Rack>,
    node: String,
    bmc: Bmc,
    told: mpsc::Sender<Sighting>,
}

impl Listener {
    /// For as long as the node is looked at.
    async fn run(self) {
        let mut failed = 0;
        loop {
            let begin = Instant::now();
            let ended = match self.bmc.events(Deadline::after(look::PATIENCE)).await {
                Ok(stream) => {
                    let life = LIFE.mul_f64(rand::random_range(0.75..1.25));
                    // A peer that is gone without a word is not noticed: no stream lives for ever.
                    tokio::time::timeout(life, self.listen(stream)).await.err().map(drop)
                }
                Err(error @ BmcError::Unsupported { .. }) => {
                    tracing::debug!(node.id = %self.node, %error, "this BMC tells no events");
                    // Firmware is updated.
                    failed = u32::MAX;
                    None
                }
                // Another try would count against the account: the next look that is let in listens again.
                Err(error) if error.is_wrong_password() => return,
                Err(error) => {
                    tracing::debug!(node.id = %self.node, %error, "cannot listen to a BMC's events");
                    None
                }
            };
            // What lasted was good.
            failed = match ended {
                Some(()) => 0,
                None if failed == u32::MAX => failed,
                None if begin.elapsed() > LAST_PAUSE => 0,
                None => failed + 1,
            };
            tokio::time::sleep(pause(failed)).await;
            if failed == u32::MAX {
                failed = 0;
            }
        }
    }

    /// Looks once for each event, or for some that come together, until the stream ends.
    async fn listen(&self, mut stream: EventStream) {
        loop {
            match stream.next().await {
                Ok(notice) => {
                    let id = &notice.message_id;
                    tracing::debug!(node.id = %self.node, event = %id, "a BMC tells an event");
                }
                Err(error) => {
                    tracing::debug!(node.id = %self.node, %error, "a BMC's stream of events ended");
                    return;
                }
            }
            self.look().await;
            // Those that come meanwhile are one look, then.
            tokio::time::sleep(BETWEEN).await;
            let mut ended = None;
            let mut more = false;
            while let Ok(next) = tokio::time::timeout(Duration::ZERO, stream.next()).await {
                more = true;
                if let Err(error) = next {
                    ended = Some(error);
                    break;
                }
            }
            if more {
                self.look().await;
            }
            if ended.is_some() {
                return;
            }
        }
    }

    /// A task has the machine's BMC for itself, and tells what it makes of it. What fails the next round tells.
    async fn look(&self) {
        if self.rack.tasks.of_node(&self.node).is_empty()
            && let Ok(seen) = self.bmc.look(Deadline::after(look::PATIENCE)).await
        {
            let sighting = look::seen(&self.node, seen, self.bmc.driver());
            // The receiver is gone when rackd ends.
            let _ending = self.told.send(sighting).await;
        }
    }
}

/// Before a stream that ended or was refused so often is tried again; jittered, so that those of a rack whose network was away
/// do not come together.
fn pause(failed: u32) -> Duration {
    let pause = match failed {
        u32::MAX => UNSUPPORTED,
        failed => FIRST_PAUSE.saturating_mul(1 << failed.min(8)).min(LAST_PAUSE),
    };
    pause.mul_f64(rand::random_range(0.5..1.5))
}

/// Streams of one rackd: each is a connection and a file. More BMCs are looked at once a round, as all of them are.
const MOST: usize = 1024;
/// Of a stream, about; an iDRAC ends them itself after less.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Between two looks at one BMC that events ask for: some tell dozens at a machine's start.
const BETWEEN: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// Until one that has no such stream is asked again.
const UNSUPPORTED: Duration = Duration::from_secs(6 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_fails_is_tried_ever_less_often_and_never_in_step() {
        for (failed, least, most) in [(0, 1, 3), (1, 2, 6), (20, 150, 450), (u32::MAX, 3 * 3600, 9 * 3600)] {
            for _ in 0..100 {
                let pause = pause(failed);
                assert!(
                    (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&pause),
                    "{pause:?}"
                );
            }
        }
    }
}
