//! Which BMCs' events are listened to: those that tell them by themselves, so that what happens is seen at once. A look a round
//! stays the truth, since a stream loses what happens while it is down.
//!
//! **Invariant:** a listener has the BMC that the rounds have. It ends by itself on every failure and after some time, and is
//! begun anew only after a look of a round that saw the machine, no sooner than its last end allows.

use super::list::Watched;
use super::listener::{self, Ended, Listener, Why};
use super::look::{REFUSED, Sighting};
use crate::rack::Rack;
use farrier_bmc::Capability;
use futures::FutureExt as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The listeners of a rack's BMCs, one each.
pub(super) struct Streams {
    by_node: Mutex<HashMap<String, Stream>>,
    /// Only who listens has one: a BMC without a stream takes no other's place.
    places: Arc<Semaphore>,
}

/// Of one node.
struct Stream {
    /// Of the words about the BMC; others are another stream.
    words: [u8; 32],
    /// Which of the node's BMC handles is listened to.
    opens: u64,
    running: Option<AbortOnDropHandle<Ended>>,
    /// None is begun before this.
    not_before: Instant,
    /// Ends in a row that were failures.
    failed: u32,
}

impl Default for Streams {
    fn default() -> Self {
        Self::with_places(MOST)
    }
}

impl Streams {
    fn with_places(most: usize) -> Self {
        Self { by_node: Mutex::default(), places: Arc::new(Semaphore::new(most)) }
    }

    /// Listens to a BMC that has just answered, if it tells events, nobody listens to it yet, and no task has it.
    pub(super) fn ensure(&self, rack: &Arc<Rack>, node: &Watched, told: &mpsc::Sender<Sighting>) {
        let bmc = node.bmc.as_ref().map(|known| &known.bmc);
        let Some(bmc) = bmc.filter(|bmc| bmc.driver_of(Capability::Events).is_some()) else {
            return self.end(&node.node);
        };
        self.begin(node, |place| {
            let free = listener::no_task_of(rack, &node.node)?;
            let listener = Listener { node: node.node.clone(), bmc: bmc.clone(), told: told.clone(), free };
            Some(listen(place, listener.run()))
        });
    }

    /// Has `listen` begin a listener where it is time for one.
    fn begin(
        &self,
        node: &Watched,
        listen: impl FnOnce(OwnedSemaphorePermit) -> Option<AbortOnDropHandle<Ended>>,
    ) {
        let (words, opens, now) = (node.words.digest(), node.opens, Instant::now());
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Stream { words, opens, running: None, not_before: now, failed: 0 };
        let stream = by_node.entry(node.node.clone()).or_insert_with(new);
        if stream.words != words {
            *stream = new();
        }
        stream.settle();
        if stream.opens != opens {
            // It may listen at an address where another machine is by now.
            stream.running = None;
        }
        stream.opens = opens;
        if stream.running.is_some() || now < stream.not_before {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        stream.running = listen(place);
    }

    /// Listens to a node's BMC no more.
    pub(super) fn end(&self, node: &str) {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// Ends those of nodes that are not looked at any more, or whose BMC inventory has other words about.
    pub(super) fn keep_only(&self, words: &HashMap<&str, [u8; 32]>) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.retain(|node, stream| words.get(node.as_str()) == Some(&stream.words));
    }
}

/// Its place is free as soon as it has ended.
fn listen(
    place: OwnedSemaphorePermit,
    run: impl Future<Output = Ended> + Send + 'static,
) -> AbortOnDropHandle<Ended> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let ended = run.await;
        drop(place);
        ended
    }))
}

impl Stream {
    /// Takes in how the listener ended, if it did.
    fn settle(&mut self) {
        let Some(ended) = self.running.as_mut().and_then(|running| running.now_or_never()) else { return };
        self.running = None;
        // A panic is a defect of ours, told where it happened.
        let Ended { at, why } = ended.unwrap_or_else(|_| Ended { at: Instant::now(), why: Why::Failed });
        let wait = match why {
            Why::Lasted => {
                self.failed = 0;
                Duration::ZERO
            }
            Why::Failed => {
                let wait = pause(self.failed);
                self.failed = self.failed.saturating_add(1);
                wait
            }
            Why::Unsupported => jittered(UNSUPPORTED),
            Why::Refused => REFUSED,
        };
        self.not_before = at + wait;
    }
}

/// Before a stream that failed so often is tried again.
fn pause(failed: u32) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(1 << failed.min(8)).min(LAST_PAUSE))
}

/// So that those of a rack whose network was away do not come together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}

/// Listeners of one rackd: each is a connection and a file. More BMCs are looked at once a round, as all of them are.
const MOST: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// Until one that has no such stream is asked again: firmware is updated.
const UNSUPPORTED: Duration = Duration::from_secs(6 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;
    use crate::watch::list::Words;
    use tokio::sync::oneshot;

    /// What a test has its listener end by.
    type End = oneshot::Sender<Why>;

    fn watched(name: &str, password: &str) -> Watched {
        let words = Arc::new(Words::of(node(name, password)));
        Watched::new(&format!("nodes/{name}"), words)
    }

    /// The listener that is begun now, if one is.
    fn begun(streams: &Streams, node: &Watched) -> Option<End> {
        let mut begun = None;
        streams.begin(node, |place| {
            let (end, ended) = oneshot::channel();
            begun = Some(end);
            Some(listen(place, async { Ended { why: ended.await.unwrap(), at: Instant::now() } }))
        });
        begun
    }

    async fn end(streams: &Streams, node: &Watched, end: End, why: Why) {
        end.send(why).unwrap();
        while !streams.by_node.lock().unwrap()[&node.node].running.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_listener_ends_with_the_words_about_its_bmc_and_with_the_node() {
        let streams = Streams::default();
        let (old, other) = (watched("a", "x"), watched("b", "x"));
        let (mut first, mut second) = (begun(&streams, &old).unwrap(), begun(&streams, &other).unwrap());
        assert!(begun(&streams, &old).is_none(), "one each");
        let digest = |name, password| watched(name, password).words.digest();
        streams.keep_only(&HashMap::from([("nodes/a", digest("a", "x")), ("nodes/b", digest("b", "new"))]));
        second.closed().await;
        assert!(!first.is_closed());
        streams.keep_only(&HashMap::new());
        first.closed().await;
        assert!(streams.by_node.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_listener_has_the_handle_that_the_rounds_have() {
        let (streams, mut node) = (Streams::default(), watched("a", "x"));
        let mut first = begun(&streams, &node).unwrap();
        node.opens += 1;
        let mut second = begun(&streams, &node).expect("another address, perhaps");
        first.closed().await;
        streams.end(&node.node);
        second.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ended_is_begun_anew_when_its_end_allows_it() {
        let (streams, node) = (Streams::default(), watched("a", "x"));
        for (why, least, most) in [
            (Why::Lasted, 0, 0),
            (Why::Failed, 1, 3),
            (Why::Failed, 2, 6),
            (Why::Refused, 15 * 60, 15 * 60),
            (Why::Failed, 4, 12),
            (Why::Unsupported, 3 * 3600, 9 * 3600),
            (Why::Lasted, 0, 0),
            (Why::Failed, 1, 3),
        ] {
            let running = begun(&streams, &node).unwrap();
            end(&streams, &node, running, why).await;
            if least > 0 {
                tokio::time::advance(Duration::from_millis(least * 1000 - 1)).await;
                assert!(begun(&streams, &node).is_none(), "{why:?}");
            }
            tokio::time::advance(Duration::from_millis((most - least) * 1000 + 1)).await;
        }
        assert!(begun(&streams, &node).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn new_words_are_tried_at_once() {
        let (streams, node) = (Streams::default(), watched("a", "x"));
        let running = begun(&streams, &node).unwrap();
        end(&streams, &node, running, Why::Refused).await;
        assert!(begun(&streams, &node).is_none());
        assert!(begun(&streams, &watched("a", "new")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bmc_without_a_stream_takes_no_place() {
        let streams = Streams::with_places(2);
        for name in ["a", "b", "c"] {
            let node = watched(name, "x");
            let running = begun(&streams, &node).unwrap();
            end(&streams, &node, running, Why::Unsupported).await;
        }
        let listening = [begun(&streams, &watched("d", "x")), begun(&streams, &watched("e", "x"))];
        assert!(listening.iter().all(Option::is_some));
        assert!(begun(&streams, &watched("f", "x")).is_none());
        streams.end("nodes/d");
        while streams.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(begun(&streams, &watched("f", "x")).is_some());
    }

    #[test]
    fn a_stream_that_fails_is_tried_ever_less_often_and_never_in_step() {
        for (failed, least, most) in [(0, 1, 3), (1, 2, 6), (20, 150, 450), (u32::MAX, 150, 450)] {
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
