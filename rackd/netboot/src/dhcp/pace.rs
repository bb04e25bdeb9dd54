//! How often the socket is read while very many ask at once.
//!
//! Being woken for a packet costs more than what there is to do for it. In a storm packets gather for a moment before they are
//! read, as network cards do with their interrupts: a firmware waits seconds for its answer.

use std::time::{Duration, Instant};

/// Of one socket.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    packets: usize,
    storm: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, packets: 0, storm: false }
    }

    /// How long to let packets gather, after `packets` of them have been dealt with.
    pub(super) fn rest(&mut self, packets: usize, now: Instant) -> Option<Duration> {
        self.packets = self.packets.saturating_add(packets);
        let span = now.saturating_duration_since(self.since);
        if span >= SPAN {
            self.storm = span <= SPAN * 2 && self.packets >= MANY;
            (self.since, self.packets) = (now, 0);
        }
        self.storm.then_some(REST)
    }
}

/// What a storm is known by: so many packets within so long, which is two thousand a second.
const MANY: usize = 100;
const SPAN: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_gather_in_a_storm_alone() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start);
        // Five hundred a second, for a second.
        assert!((1..500).all(|n| pace.rest(1, at(n * 2)).is_none()));
        // Four thousand a second are known as such within two spans, and as long as they last.
        let start = 1000;
        let rests: Vec<_> = (0..200).map(|n| pace.rest(4, at(start + n)).is_some()).collect();
        let first = rests.iter().position(|rests| *rests).unwrap();
        assert!(first <= 100 && rests[first..].iter().all(|rests| *rests), "{first}");
        // Whoever asks after it waits for nobody, though he be the first.
        assert_eq!(pace.rest(1, at(60_000)), None);
        assert_eq!(pace.rest(1, at(60_001)), None);
    }
}
