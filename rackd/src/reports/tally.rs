//! Counting what is reported now and then: the first at once, more of the same a minute later as one number.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Who tried what, and why that failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    peer: IpAddr,
    initiator: Option<String>,
    target: Option<String>,
    reason: String,
}

impl Subject {
    /// The names are whatever a stranger sent.
    pub(super) fn new(peer: IpAddr, initiator: Option<String>, target: Option<String>, reason: &str) -> Self {
        Self {
            peer,
            initiator: initiator.map(plain),
            target: target.map(plain),
            reason: plain(reason.to_owned()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    subjects: BTreeMap<Subject, Seen>,
    /// More kinds of them than are told apart.
    others: Seen,
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
pub(super) struct Line {
    /// `None`: many different ones.
    subject: Option<Subject>,
    count: u64,
}

impl Line {
    pub(super) fn initiator(&self) -> Option<&str> {
        self.subject.as_ref()?.initiator.as_deref()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(Subject { peer, initiator, target, reason }) => {
                let initiator = initiator.as_deref().unwrap_or("somebody without a name");
                let target = target.as_deref().unwrap_or("no target");
                write!(f, "{initiator} at {peer} was not let in to {target}: {reason}")?;
            }
            None => f.write_str("others were not let in to iSCSI disks; rackd's log has each")?,
        }
        if self.count == 1 { Ok(()) } else { write!(f, " ({} times)", self.count) }
    }
}

impl Tally {
    pub(super) fn saw(&mut self, subject: Subject, now: Instant) {
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

    /// When there is something to report.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let all = self.subjects.values().chain([&self.others]);
        all.filter(|seen| seen.count > 0).filter_map(|seen| seen.not_before).min()
    }

    /// What is to be reported now; it counts as reported.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Line> {
        let subjects = self.subjects.iter_mut().map(|(subject, seen)| (Some(subject), seen));
        let mut lines = Vec::new();
        for (subject, seen) in subjects.chain([(None, &mut self.others)]) {
            if seen.count > 0 && seen.not_before.is_none_or(|at| at <= now) {
                lines.push(Line { subject: subject.cloned(), count: seen.count });
                *seen = Seen { count: 0, not_before: Some(now + EVERY) };
            }
        }
        lines
    }

    /// It could not be reported: again later.
    pub(super) fn give_back(&mut self, lines: Vec<Line>, now: Instant) {
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

fn plain(text: String) -> String {
    let visible = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(NAME).map(visible).collect()
}

/// Between two reports of the same.
const EVERY: Duration = Duration::from_secs(60);
/// After a report that did not get through.
const RETRY: Duration = Duration::from_secs(10);
/// Told apart at once: a report has at most a hundred events.
const SUBJECTS: usize = 64;
/// An iSCSI name has at most 223 bytes (RFC 7143 section 4.2.7.1).
const NAME: usize = 223;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u8) -> Subject {
        Subject::new(
            [10, 0, 0, number].into(),
            Some("iqn.x:i".into()),
            Some("iqn.x:t".into()),
            "wrong secret",
        )
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
        tally.saw(Subject::new([10, 1, 0, 0].into(), Some("a\n\u{7}ä".repeat(500)), None, ""), begin + EVERY);
        let line = &tally.take(begin + EVERY)[0];
        assert!(
            line.initiator().is_some_and(|name| name.len() == NAME && name.starts_with("a???")),
            "{line}"
        );
        assert!(tally.subjects.len() <= SUBJECTS);
    }
}
