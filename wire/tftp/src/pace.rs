//! How long to wait before something is sent again.
//!
//! A second is long where an answer takes a millisecond, and short where it takes two. So the wait follows what is
//! measured, as TCP's does (RFC 6298), from a fifth of a second up to what the client asked for (RFC 2349); how long a
//! silent client is waited for in all does not depend on it.

use std::time::Duration;

use crate::Limits;

#[derive(Debug)]
pub(crate) struct Pace {
    /// The wait while nothing is measured.
    first: Duration,
    /// No wait is longer.
    longest: Duration,
    patience: Duration,
    /// Smoothed round trip, and how much it varies.
    measured: Option<(Duration, Duration)>,
    /// Whether it ever answered.
    heard: bool,
}

impl Pace {
    /// `asked`: the client's own interval.
    pub(crate) fn new(asked: Option<Duration>, limits: &Limits) -> Self {
        let (first, longest) = match asked {
            Some(asked) => (asked, asked),
            None => (limits.timeout, LONGEST.max(limits.timeout)),
        };
        let all = (0..=limits.retries).map(|tries| doubled(first, tries).min(longest));
        Self { first, longest, patience: all.sum(), measured: None, heard: false }
    }

    /// An answer came.
    pub(crate) fn heard(&mut self) {
        self.heard = true;
    }

    /// An answer came so long after what it answers was sent.
    pub(crate) fn heard_after(&mut self, took: Duration) {
        self.measured = Some(match self.measured {
            None => (took, took / 2),
            Some((smooth, varies)) => (
                smooth.saturating_mul(7) / 8 + took / 8,
                varies.saturating_mul(3) / 4 + smooth.abs_diff(took) / 4,
            ),
        });
    }

    /// The wait after so many tries.
    pub(crate) fn wait(&self, tries: u32) -> Duration {
        let once = match self.measured {
            None if self.heard => self.first,
            None => return doubled(self.first, tries).min(self.longest).min(LONGEST),
            Some((smooth, varies)) => {
                smooth.saturating_add(varies.saturating_mul(4)).max(SHORTEST).min(self.longest)
            }
        };
        doubled(once, tries).min(self.longest)
    }

    /// How long a silent client is waited for. One that never answered may be nobody (a forged sender), whatever interval
    /// it asked for: it holds its place no longer than one that asked for nothing.
    pub(crate) fn patience(&self) -> Duration {
        if self.heard { self.patience } else { self.patience.min(UNHEARD) }
    }
}

fn doubled(wait: Duration, times: u32) -> Duration {
    wait.saturating_mul(1 << times.min(16))
}

/// As TCP has it on Linux: a client that is busy for a moment is not asked twice.
const SHORTEST: Duration = Duration::from_millis(200);
/// 1 + 2 + 4 + 8 + 8 + 8 seconds.
const UNHEARD: Duration = Duration::from_secs(31);
/// Where the client says nothing; doubling stops here.
const LONGEST: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_measure_it_is_as_agreed() {
        let own = Pace::new(None, &Limits::default());
        let waits: Vec<u64> = (0..6).map(|tries| own.wait(tries).as_secs()).collect();
        assert_eq!((waits, own.patience().as_secs()), (vec![1, 2, 4, 8, 8, 8], 31));
        let asked = Pace::new(Some(Duration::from_secs(6)), &Limits::default());
        assert_eq!((asked.wait(0), asked.wait(3)), (Duration::from_secs(6), Duration::from_secs(6)));
        assert_eq!(asked.patience().as_secs(), 31, "nobody answered yet");
        let forged = Pace::new(Some(Duration::from_secs(255)), &Limits::default());
        assert_eq!(forged.patience(), UNHEARD);
    }

    #[test]
    fn it_follows_the_link_and_never_beyond_what_was_asked() {
        let mut pace = Pace::new(Some(Duration::from_secs(6)), &Limits::default());
        pace.heard();
        pace.heard_after(MS);
        assert_eq!((pace.wait(0), pace.wait(1)), (SHORTEST, SHORTEST * 2));
        assert_eq!((pace.wait(9), pace.patience().as_secs()), (Duration::from_secs(6), 36));
        let mut far = Pace::new(None, &Limits::default());
        (0..50).for_each(|_| far.heard_after(MS * 300));
        assert!((MS * 300..MS * 400).contains(&far.wait(0)), "{:?}", far.wait(0));
        // One answer that was late makes it patient.
        far.heard_after(MS * 1500);
        assert!(far.wait(0) > MS * 1500, "{:?}", far.wait(0));
        far.heard_after(Duration::MAX / 8);
        assert_eq!(far.wait(0), LONGEST);
    }
}
