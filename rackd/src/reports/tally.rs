//! Counting what is reported now and then: the first at once, more of the same a minute later as one number.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What can be seen again and again.
pub(super) trait Subject: Ord + Clone + fmt::Display {
    /// Between two reports of the same.
    const EVERY: Duration;
    /// Of many different ones, that they are more than can be told.
    const OTHERS: &'static str;
}

#[derive(Debug)]
pub(super) struct Tally<S> {
    subjects: BTreeMap<S, Seen>,
    /// More kinds of them than are told apart.
    others: Seen,
}

impl<S> Default for Tally<S> {
    fn default() -> Self {
        Self { subjects: BTreeMap::new(), others: Seen::default() }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// Not reported yet.
    count: u64,
    /// No report of it before this.
    not_before: Option<Instant>,
}

/// One event to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<S> {
    /// `None`: many different ones.
    pub(super) subject: Option<S>,
    count: u64,
}

impl<S: Subject> fmt::Display for Line<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(subject) => write!(f, "{subject}")?,
            None => f.write_str(S::OTHERS)?,
        }
        if self.count == 1 { Ok(()) } else { write!(f, " ({} times)", self.count) }
    }
}

impl<S: Subject> Tally<S> {
    pub(super) fn saw(&mut self, subject: S, now: Instant) {
        if !self.subjects.contains_key(&subject) && self.subjects.len() >= SUBJECTS {
            // What was told long ago makes room.
            self.subjects.retain(|_, seen| seen.count > 0 || seen.not_before.is_some_and(|at| at > now));
            if self.subjects.len() >= SUBJECTS {
                return self.lost(1, now);
            }
        }
        self.subjects.entry(subject).or_default().add(1, now);
    }

    /// Seen, and not by name.
    pub(super) fn lost(&mut self, count: u64, now: Instant) {
        self.others.add(count, now);
    }

    /// These are over: what was not reported of them is not any more.
    pub(super) fn is_over(&mut self, these: impl Fn(&S) -> bool) {
        for (_, seen) in self.subjects.iter_mut().filter(|(subject, _)| these(subject)) {
            seen.count = 0;
        }
    }

    /// When there is something to report.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let all = self.subjects.values().chain([&self.others]);
        all.filter(|seen| seen.count > 0).filter_map(|seen| seen.not_before).min()
    }

    /// What is to be reported now; it counts as reported.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Line<S>> {
        let subjects = self.subjects.iter_mut().map(|(subject, seen)| (Some(subject), seen));
        let mut lines = Vec::new();
        for (subject, seen) in subjects.chain([(None, &mut self.others)]) {
            if seen.count > 0 && seen.not_before.is_none_or(|at| at <= now) {
                lines.push(Line { subject: subject.cloned(), count: seen.count });
                *seen = Seen { count: 0, not_before: Some(now + S::EVERY) };
            }
        }
        lines
    }

    /// It could not be reported: again later.
    pub(super) fn give_back(&mut self, lines: Vec<Line<S>>, now: Instant) {
        for Line { subject, count } in lines {
            let seen = match subject {
                Some(subject) => self.subjects.entry(subject).or_default(),
                None => &mut self.others,
            };
            seen.count += count;
            seen.not_before = Some(now + RETRY);
        }
    }
}

impl Seen {
    fn add(&mut self, count: u64, now: Instant) {
        self.count = self.count.saturating_add(count);
        self.not_before.get_or_insert(now);
    }
}

/// After a report that did not get through.
const RETRY: Duration = Duration::from_secs(10);
/// Told apart at once: a report has at most a hundred events.
const SUBJECTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    use crate::reports::subject::Login;

    const EVERY: Duration = Login::EVERY;

    fn subject(number: u8) -> Login {
        Login::new([10, 0, 0, number].into(), Some("iqn.x:i".into()), Some("iqn.x:t".into()), "wrong secret")
    }

    #[test]
    fn the_first_is_told_at_once_and_a_thousand_more_are_one_line_a_minute_later() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        assert_eq!(tally.due_at(), None);
        tally.saw(subject(1), begin);
        assert_eq!(tally.due_at(), Some(begin));
        let lines = tally.take(begin);
        assert_eq!(lines[0].to_string(), "iqn.x:i at 10.0.0.1 was not let in to iqn.x:t: wrong secret");
        for _ in 0..1000 {
            tally.saw(subject(1), begin);
        }
        assert_eq!(tally.take(begin), []);
        assert_eq!(tally.due_at(), Some(begin + EVERY));
        // Somebody else is news.
        tally.saw(subject(2), begin);
        assert_eq!(tally.take(begin).len(), 1);
        let lines = tally.take(begin + EVERY);
        assert!(lines.len() == 1 && lines[0].to_string().ends_with("(1000 times)"), "{lines:?}");
        assert_eq!(tally.due_at(), None);
    }

    #[test]
    fn what_is_over_is_not_told_and_no_sooner_again_when_it_comes_back() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        for number in [1, 2] {
            tally.saw(subject(number), begin);
        }
        assert_eq!(tally.take(begin).len(), 2);
        for number in [1, 2] {
            tally.saw(subject(number), begin);
        }
        tally.is_over(|one| *one == subject(1));
        let lines = tally.take(begin + EVERY);
        assert!(lines.len() == 1 && lines[0].subject == Some(subject(2)), "{lines:?}");
        assert_eq!(tally.due_at(), None);
        tally.saw(subject(1), begin + EVERY / 2);
        assert_eq!(tally.due_at(), Some(begin + EVERY));
    }

    #[test]
    fn what_did_not_get_through_is_not_lost() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        tally.saw(subject(1), begin);
        let lines = tally.take(begin);
        tally.saw(subject(1), begin);
        tally.give_back(lines, begin);
        assert_eq!(tally.take(begin), []);
        let lines = tally.take(begin + RETRY);
        assert!(lines.len() == 1 && lines[0].to_string().ends_with("(2 times)"), "{lines:?}");
    }

    #[test]
    fn strangers_cost_bounded_memory_and_write_nothing_odd() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        for number in 0..=255 {
            tally.saw(subject(number), begin);
        }
        tally.lost(7, begin);
        let lines = tally.take(begin);
        assert_eq!(lines.len(), SUBJECTS + 1);
        let text = lines[SUBJECTS].to_string();
        assert!(text.starts_with("others") && text.contains("(199 times)"), "{text}");
        // A while later there is room for others.
        tally.saw(Login::new([10, 1, 0, 0].into(), Some("a\n\u{7}ä".repeat(500)), None, ""), begin + EVERY);
        let line = &tally.take(begin + EVERY)[0];
        assert!(line.to_string().starts_with("a???") && line.to_string().len() < 300, "{line}");
        assert!(tally.subjects.len() <= SUBJECTS);
    }
}
