//! Whose turn it is: each node is looked at once a round, at a time of its own. One whose last look is still under way has its turn in
//! another round, and nobody waits for it.
//!
//! **Invariant:** a node has one look at a time, with the words that inventory said last.

use super::list::{Watched, Words};
use farrier_proto::inventory::WatchedNode;
use rand::Rng as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The nodes that are looked at. Dropped, it ends their looks.
#[derive(Default)]
pub(super) struct Rounds {
    by_node: HashMap<String, Turn>,
    looks: JoinSet<Watched>,
}

struct Turn {
    words: Arc<Words>,
    now: Now,
}

enum Now {
    Waits(Box<Watched>),
    Looked(AbortHandle),
}

impl Rounds {
    /// These, and no others. What is kept of a BMC stays while the words about it do; a look with other words ends.
    pub(super) fn renew(&mut self, nodes: Vec<WatchedNode>) {
        let mut old = std::mem::take(&mut self.by_node);
        for node in nodes {
            let (name, words) = (node.node.clone(), Arc::new(Words::of(node)));
            let turn = match old.remove(&name) {
                Some(known) if known.words.digest() == words.digest() => known,
                other => {
                    other.iter().for_each(Turn::end);
                    Turn::new(&name, words)
                }
            };
            self.by_node.insert(name, turn);
        }
        old.values().for_each(Turn::end);
    }

    /// Digests of what inventory says of each node's BMC, by `nodes/{node}`.
    pub(super) fn words(&self) -> HashMap<&str, [u8; 32]> {
        self.by_node.iter().map(|(node, turn)| (node.as_str(), turn.words.digest())).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Looks at each that is not looked at, spread at random over less than half of the round, which ends `every` after its begin:
    /// neither the network nor those who share a BMC see a burst.
    pub(super) async fn round<F>(&mut self, begin: Instant, every: Duration, look: impl Fn(Watched) -> F)
    where
        F: Future<Output = Watched> + Send + 'static,
    {
        // What comes before the looks may take its time.
        let (first, spread) = (Instant::now(), every.mul_f64(SPREAD));
        let after = |node: &String| (spread.mul_f64(rand::rng().random_range(0.0..1.0)), node.clone());
        let mut due: Vec<(Duration, String)> = self.by_node.keys().map(after).collect();
        due.sort_unstable();
        for (after, node) in due {
            self.until(first + after).await;
            self.begin(node, &look).await;
        }
        self.until(begin + every).await;
    }

    async fn begin<F>(&mut self, node: String, look: &impl Fn(Watched) -> F)
    where
        F: Future<Output = Watched> + Send + 'static,
    {
        while self.looks.len() >= AT_ONCE
            && let Some(ended) = self.looks.join_next_with_id().await
        {
            self.take_back(ended);
        }
        let Some(Turn { words, now }) = self.by_node.remove(&node) else { return };
        let now = match now {
            Now::Waits(watched) => Now::Looked(self.looks.spawn(look(*watched))),
            looked @ Now::Looked(_) => looked,
        };
        self.by_node.insert(node, Turn { words, now });
    }

    /// Waits, and takes back those whose look ends meanwhile: what a look needed is free then.
    async fn until(&mut self, at: Instant) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.looks.join_next_with_id() => self.take_back(ended),
                () = sleep_until(at) => return,
            }
        }
    }

    fn take_back(&mut self, ended: Result<(Id, Watched), JoinError>) {
        match ended {
            Ok((id, watched)) => {
                if let Some(turn) = self.by_node.get_mut(&watched.node)
                    && turn.is_looked(id)
                {
                    turn.now = Now::Waits(Box::new(watched));
                }
            }
            Err(error) => {
                let of = self.by_node.iter_mut().find(|(_, turn)| turn.is_looked(error.id()));
                // One that was ended is nobody's any more.
                if let Some((node, turn)) = of {
                    tracing::error!(node.id = %node, "a defect of rackd: the log has the panic; the BMC is looked at again");
                    *turn = Turn::new(node, Arc::clone(&turn.words));
                }
            }
        }
    }
}

impl Turn {
    fn new(node: &str, words: Arc<Words>) -> Self {
        Self { now: Now::Waits(Box::new(Watched::new(node, Arc::clone(&words)))), words }
    }

    fn end(&self) {
        if let Now::Looked(look) = &self.now {
            look.abort();
        }
    }

    fn is_looked(&self, id: Id) -> bool {
        matches!(&self.now, Now::Looked(look) if look.id() == id)
    }
}

/// Looks under way. A dead BMC takes a look of some seconds, until its breaker opens.
const AT_ONCE: usize = 2048;
/// The part of a round in which looks begin; most of the slowest end in the rest.
pub(super) const SPREAD: f64 = 0.4;

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const EVERY: Duration = Duration::from_secs(60);

    fn many(count: usize) -> Rounds {
        let mut rounds = Rounds::default();
        rounds.renew((0..count).map(|index| node(&format!("n{index}"), "x")).collect());
        rounds
    }

    fn counted(counter: &Arc<AtomicUsize>) -> Arc<AtomicUsize> {
        Arc::clone(counter)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_of_a_bmc_stays_while_its_words_do() {
        let mut rounds = Rounds::default();
        rounds.renew(vec![node("a", "x"), node("b", "x"), node("c", "x")]);
        rounds
            .round(Instant::now(), EVERY, |mut node| async move {
                node.opens += 1;
                node
            })
            .await;
        rounds.renew(vec![node("a", "x"), node("b", "new"), node("d", "x")]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        rounds
            .round(Instant::now(), EVERY, move |node| {
                kept.lock().unwrap().push((node.node.clone(), node.opens));
                async { node }
            })
            .await;
        let mut seen = seen.lock().unwrap().clone();
        seen.sort();
        let of = |node: &str, opens| (node.to_owned(), opens);
        assert_eq!(seen, [of("nodes/a", 1), of("nodes/b", 0), of("nodes/d", 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_looks_once_at_each_spread_over_part_of_it() {
        let mut rounds = many(1000);
        let begin = Instant::now();
        let (all, first_half) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (looked, early) = (counted(&all), counted(&first_half));
        rounds
            .round(Instant::now(), EVERY, move |node| {
                looked.fetch_add(1, Ordering::Relaxed);
                if begin.elapsed() < EVERY.mul_f64(SPREAD / 2.0) {
                    early.fetch_add(1, Ordering::Relaxed);
                }
                assert!(begin.elapsed() <= EVERY.mul_f64(SPREAD) + Duration::from_millis(1));
                async { node }
            })
            .await;
        assert_eq!((all.load(Ordering::Relaxed), begin.elapsed()), (1000, EVERY));
        // Of a thousand fair coins: 400 to 600 with all but one in ten thousand million chances.
        let first_half = first_half.load(Ordering::Relaxed);
        assert!((400..=600).contains(&first_half), "{first_half}");
    }

    /// One in ten never ends its look.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_look_that_is_under_way_and_it_is_the_only_one_of_its_node() {
        let mut rounds = many(100);
        let begin = Instant::now();
        let looks: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        for _ in 0..5 {
            let looks = Arc::clone(&looks);
            rounds
                .round(Instant::now(), EVERY, move |node| {
                    *looks.lock().unwrap().entry(node.node.clone()).or_default() += 1;
                    async move {
                        if node.node.ends_with('7') {
                            std::future::pending::<()>().await;
                        }
                        node
                    }
                })
                .await;
        }
        assert_eq!(begin.elapsed(), EVERY * 5);
        for (node, looks) in &*looks.lock().unwrap() {
            assert_eq!(*looks, if node.ends_with('7') { 1 } else { 5 }, "{node}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_ends_with_the_words_about_its_bmc_and_with_its_node() {
        /// Tells that it is gone.
        struct Ends(Arc<AtomicUsize>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut rounds = Rounds::default();
        rounds.renew(vec![node("a", "x"), node("b", "x"), node("c", "x")]);
        let (ended, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let look = |node: Watched| {
            begun.lock().unwrap().push(node.node.clone());
            let ends = Ends(counted(&ended));
            async move {
                std::future::pending::<()>().await;
                drop(ends);
                node
            }
        };
        rounds.round(Instant::now(), EVERY, look).await;
        rounds.renew(vec![node("a", "x"), node("b", "new")]);
        rounds.round(Instant::now(), EVERY, look).await;
        assert_eq!(ended.load(Ordering::Relaxed), 2);
        let mut seen = begun.lock().unwrap().clone();
        seen.sort();
        assert_eq!(seen, ["nodes/a", "nodes/b", "nodes/b", "nodes/c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_hang_take_a_bounded_number_of_looks_and_all_come_to_their_turn() {
        let mut rounds = many(3 * AT_ONCE);
        let [all, now, most] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let (looked, under_way, highest) = (counted(&all), counted(&now), counted(&most));
        rounds
            .round(Instant::now(), Duration::from_secs(1), move |node| {
                looked.fetch_add(1, Ordering::Relaxed);
                let (under_way, highest) = (counted(&under_way), counted(&highest));
                async move {
                    highest.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(15)).await;
                    under_way.fetch_sub(1, Ordering::Relaxed);
                    node
                }
            })
            .await;
        assert_eq!(all.load(Ordering::Relaxed), 3 * AT_ONCE);
        assert!(most.load(Ordering::Relaxed) <= AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_defect_costs_a_look_and_not_the_watch() {
        let mut rounds = many(10);
        let looks = Arc::new(AtomicUsize::new(0));
        for round in 0..3 {
            let looks = counted(&looks);
            rounds
                .round(Instant::now(), EVERY, move |node| {
                    looks.fetch_add(1, Ordering::Relaxed);
                    async move {
                        assert!(round > 0 || node.node != "nodes/n3", "the defect");
                        node
                    }
                })
                .await;
        }
        assert_eq!(looks.load(Ordering::Relaxed), 30);
    }
}
