//! How long a machine that boots its ramdisk is waited for, and when it is switched off and on: by what was heard of it. Pure.
//!
//! Firmware that could not boot, since a switch's port came up late, a storm took its packets, or we or its BMC were away, goes on to
//! something else and does not come back. One that is being sent its kernel over a slow line needs nothing but time.

use std::time::Duration;
use tokio::time::Instant;

/// What was heard of a machine since it was switched on, and how often that was done.
#[derive(Debug)]
pub(super) struct Patience {
    /// From when it is switched on, and from each part of what it boots, until its agent calls.
    whole: Duration,
    /// Nothing is heard of one that was heard before.
    quiet: Duration,
    /// When it was switched on, as far as we know.
    on: Instant,
    heard: Option<Instant>,
    got: Option<Instant>,
    scripts: u32,
    again: u32,
}

/// What is done when nothing is heard until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is switched off, and on into the same.
    Again(Instant),
    GiveUp(Instant),
}

impl Next {
    pub(super) fn at(self) -> Instant {
        match self {
            Self::Again(at) | Self::GiveUp(at) => at,
        }
    }
}

impl Patience {
    /// By the time that an agent has, for a machine that was switched on just now. `quiet`: how long nothing is heard of one that was
    /// heard before.
    pub(super) fn new(whole: Duration, quiet: Duration, now: Instant) -> Self {
        Self { whole, quiet, on: now, heard: None, got: None, scripts: 0, again: 0 }
    }

    /// Nobody can switch it off and on.
    pub(super) fn without_again(self) -> Self {
        Self { again: AGAIN, ..self }
    }

    /// It asked for something, or was told something.
    pub(super) fn heard(&mut self, at: Instant) {
        self.heard = self.heard.max(Some(at));
    }

    /// It was given its script. One that is given it again and again starts again and again, and gets nowhere by that.
    pub(super) fn got_script(&mut self, at: Instant) {
        self.scripts = self.scripts.saturating_add(1);
        self.got(at);
    }

    /// It was sent a part of what it boots. Whether that is news.
    pub(super) fn got(&mut self, at: Instant) -> bool {
        let is_news = self.heard.is_none_or(|heard| heard < at);
        self.heard(at);
        if self.scripts <= SCRIPTS {
            self.got = self.got.max(Some(at));
        }
        is_news
    }

    /// It was switched off and on.
    pub(super) fn begins_again(&mut self, now: Instant) {
        let again = self.again + 1;
        *self = Self { again, ..Self::new(self.whole, self.quiet, now) };
    }

    /// How often it was switched off and on.
    pub(super) fn times(&self) -> u32 {
        self.again
    }

    pub(super) fn was_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// When it is given up where nothing is heard, whatever is tried until then.
    pub(super) fn give_up(&self) -> Instant {
        self.got.unwrap_or(self.on) + self.whole
    }

    /// What comes next where nothing is heard.
    pub(super) fn next(&self) -> Next {
        let unheard = || self.on + self.whole.mul_f64(UNHEARD);
        let again = self.heard.map_or_else(unheard, |heard| heard + self.quiet);
        let give_up = self.give_up();
        if self.again < AGAIN && again < give_up { Next::Again(again) } else { Next::GiveUp(give_up) }
    }

    /// Since when it has the time that is over at [`Next::GiveUp`], for people.
    pub(super) fn counted_from(&self) -> &'static str {
        match (self.got, self.again) {
            (Some(_), _) => "the last of what it boots was sent",
            (None, 0) => "it was switched on",
            (None, _) => "it was switched on again",
        }
    }
}

/// How much of the time that an agent has it takes until a machine of which nothing is heard is taken for lost: servers with much
/// memory test it for ten minutes and more before they ask for anything.
const UNHEARD: f64 = 2.0 / 3.0;
/// What is heard of one that boots is never further apart than this part of that time: its agent calls in a minute after the kernel
/// has come.
pub(super) const QUIET: f64 = 1.0 / 3.0;
/// How often a machine is switched off and on. What twice did not help is for a person to look at.
pub(super) const AGAIN: u32 = 2;
/// Scripts given after it was switched on which count as one boot that goes on: iPXE chained by iPXE, and one more try.
const SCRIPTS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn patience(now: Instant) -> Patience {
        Patience::new(30 * MINUTE, 10 * MINUTE, now)
    }

    #[test]
    fn a_machine_of_which_nothing_is_heard_is_switched_off_and_on_twice_and_given_up() {
        let mut now = Instant::now();
        let mut patience = patience(now);
        for times in 0..2 {
            assert_eq!((patience.times(), patience.was_heard()), (times, false));
            assert_eq!(patience.next(), Next::Again(now + 20 * MINUTE), "longer than any self-test");
            now += 25 * MINUTE;
            patience.begins_again(now);
        }
        assert_eq!(patience.next(), Next::GiveUp(now + 30 * MINUTE));
        assert_eq!(patience.counted_from(), "it was switched on again");
    }

    #[test]
    fn firmware_that_asked_and_fell_silent_is_tried_again_sooner_and_one_that_asks_on_is_left_alone() {
        let on = Instant::now();
        let mut patience = patience(on);
        patience.heard(on + 12 * MINUTE);
        assert_eq!(patience.next(), Next::Again(on + 22 * MINUTE));
        for minute in 13..30 {
            patience.heard(on + minute * MINUTE);
        }
        assert_eq!(patience.next(), Next::GiveUp(on + 30 * MINUTE), "it asks, and nothing comes of it");
        assert_eq!(patience.counted_from(), "it was switched on");
    }

    #[test]
    fn one_that_is_being_sent_its_kernel_has_all_the_time_that_it_needs() {
        let on = Instant::now();
        let mut patience = patience(on);
        patience.got_script(on + 10 * MINUTE);
        for minute in 10..80 {
            assert!(patience.got(on + minute * MINUTE + MINUTE / 2), "{minute}");
        }
        let last = on + 79 * MINUTE + MINUTE / 2;
        assert!(!patience.got(last), "nothing came since");
        assert_eq!(patience.next(), Next::Again(last + 10 * MINUTE));
        let patience = Patience { again: AGAIN, ..patience };
        assert_eq!(patience.next(), Next::GiveUp(last + 30 * MINUTE));
        assert_eq!(patience.counted_from(), "the last of what it boots was sent");
    }

    #[test]
    fn one_that_boots_again_and_again_is_given_up() {
        let on = Instant::now();
        let mut patience = patience(on).without_again();
        let mut counted = on;
        for minute in 1..90 {
            let at = on + minute * MINUTE;
            patience.got_script(at);
            patience.got(at + MINUTE / 2);
            if minute <= SCRIPTS {
                counted = at + MINUTE / 2;
            }
        }
        assert_eq!(patience.next(), Next::GiveUp(counted + 30 * MINUTE));
    }

    #[test]
    fn what_was_heard_late_is_not_taken_for_newer() {
        let on = Instant::now();
        let mut patience = patience(on);
        patience.got(on + 5 * MINUTE);
        patience.heard(on + 2 * MINUTE);
        assert!(!patience.got(on + 3 * MINUTE));
        assert_eq!(patience.next(), Next::Again(on + 15 * MINUTE));
    }
}
