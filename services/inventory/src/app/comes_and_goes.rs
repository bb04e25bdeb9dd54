//! A BMC that is lost, and one that is back: an event each, with the look that saw it. The history is kept for ever, and there are
//! BMCs that come and go with each look: of these the changes are counted and told by the hour, until it stays as it is.

use super::observe::Happened;
use farrier_proto::inventory::{BmcHealth, Observation};
use farrier_runtime::time::{millis, timestamp};
use prost_types::Timestamp;

/// `now` is how the BMC is seen now, and what was known of its changes before.
pub(super) fn judge(before: &Observation, now: &mut Observation, now_ms: i64) -> Option<Happened> {
    let well = is_well(now);
    if well == is_well(before) {
        let settled = settled(now, now_ms);
        let hour = hour_ends(now, now_ms);
        return settled.or(hour);
    }
    let hour = hour_ends(now, now_ms);
    now.bmc_changes = now.bmc_changes.saturating_add(1);
    now.bmc_change_time = Some(timestamp(now_ms));
    now.bmc_changes_since.get_or_insert_with(|| timestamp(now_ms));
    if now.bmc_flapping {
        return hour;
    }
    if now.bmc_changes <= TOLD_EACH {
        return Some(happened(well, now.bmc_problem.clone()));
    }
    now.bmc_flapping = true;
    let what = "from now on they are counted, and told by the hour until it stays as it is for ten minutes";
    Some(flapping(now, what))
}

/// Until now nobody was told how it is.
fn settled(now: &mut Observation, now_ms: i64) -> Option<Happened> {
    let long = now.bmc_change_time.as_ref().is_some_and(|at| is_over(at, SETTLES_MS, now_ms));
    if !now.bmc_flapping || !long {
        return None;
    }
    now.bmc_flapping = false;
    let problem = if now.bmc_problem.is_empty() { String::new() } else { format!("{}; ", now.bmc_problem) };
    let detail = format!(
        "{problem}it has stayed so for ten minutes, after {} changes within an hour",
        now.bmc_changes
    );
    Some(happened(is_well(now), detail))
}

/// What was counted in an hour that is over, of a BMC whose changes are not told one by one.
fn hour_ends(now: &mut Observation, now_ms: i64) -> Option<Happened> {
    if !now.bmc_changes_since.as_ref().is_some_and(|since| is_over(since, HOUR_MS, now_ms)) {
        return None;
    }
    let told = now.bmc_flapping.then(|| flapping(now, "it still comes and goes"));
    now.bmc_changes = 0;
    now.bmc_changes_since = now.bmc_flapping.then(|| timestamp(now_ms));
    told
}

fn flapping(now: &Observation, what: &str) -> Happened {
    let seen = if is_well(now) { "it answers".to_owned() } else { now.bmc_problem.clone() };
    let detail =
        format!("lost and back: {} changes within an hour; {what}; at this look: {seen}", now.bmc_changes);
    Happened { action: "bmc flapping", before: String::new(), after: String::new(), detail }
}

fn happened(is_well: bool, detail: String) -> Happened {
    let action = if is_well { "bmc back" } else { "bmc lost" };
    Happened { action, before: String::new(), after: String::new(), detail }
}

/// One that nobody has looked at yet is not lost.
fn is_well(seen: &Observation) -> bool {
    matches!(seen.bmc_health(), BmcHealth::Ok | BmcHealth::Unspecified)
}

/// A clock that was set back by more than that keeps nobody silent for ever.
fn is_over(since: &Timestamp, after_ms: u64, now_ms: i64) -> bool {
    now_ms.abs_diff(millis(since)) >= after_ms
}

/// Changes of an hour that are told one by one: a BMC whose firmware is updated, or whose switch is, comes and goes so often.
const TOLD_EACH: i32 = 8;
const HOUR_MS: u64 = 3_600_000;
/// Ten looks of a rack that looks every minute.
const SETTLES_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    /// What is told of a BMC that is away at these minutes, with the minute, and what is known in the end.
    fn told(minutes: i64, is_away: impl Fn(i64) -> bool) -> (Vec<String>, Observation) {
        let (mut before, mut told) = (Observation::default(), Vec::new());
        for minute in 0..=minutes {
            let mut now = before.clone();
            let away = is_away(minute);
            now.set_bmc_health(if away { BmcHealth::Unreachable } else { BmcHealth::Ok });
            now.bmc_problem = if away { "no answer".to_owned() } else { String::new() };
            let happened = judge(&before, &mut now, NOW + minute * 60_000);
            told.extend(happened.map(|one| format!("{minute} {} {}", one.action, one.detail)));
            before = now;
        }
        (told, before)
    }

    #[test]
    fn every_loss_and_every_return_is_told_with_the_look_that_saw_it() {
        let (told, seen) = told(500, |minute| matches!(minute, 3..=4 | 9..=20 | 30 | 45..=46 | 200..=450));
        let expected = [
            "3 bmc lost no answer",
            "5 bmc back ",
            "9 bmc lost no answer",
            "21 bmc back ",
            "30 bmc lost no answer",
            "31 bmc back ",
            "45 bmc lost no answer",
            "47 bmc back ",
            "200 bmc lost no answer",
            "451 bmc back ",
        ];
        assert_eq!(told, expected);
        assert!(!seen.bmc_flapping && seen.bmc_changes == 1, "{seen:?}");
    }

    #[test]
    fn one_that_comes_and_goes_with_each_look_is_told_by_the_hour_and_when_it_stays() {
        // Every other minute for two hours and a half; then it stays away, and in the end it is back.
        let (told, seen) = told(300, |minute| if minute < 150 { minute % 2 == 1 } else { minute < 290 });
        let (each, rest) = told.split_at(8);
        assert!(
            each.iter().zip(1..).all(|(one, minute)| one.starts_with(&format!("{minute} bmc "))),
            "{each:?}"
        );
        let expected = [
            "9 bmc flapping lost and back: 9 changes within an hour; from now on they are counted, and told by the hour until it \
             stays as it is for ten minutes; at this look: no answer",
            "61 bmc flapping lost and back: 60 changes within an hour; it still comes and goes; at this look: no answer",
            "121 bmc flapping lost and back: 60 changes within an hour; it still comes and goes; at this look: no answer",
            "159 bmc lost no answer; it has stayed so for ten minutes, after 29 changes within an hour",
            "290 bmc back ",
        ];
        assert_eq!(rest, expected);
        assert!(!seen.bmc_flapping, "{seen:?}");
    }

    /// However it comes and goes: events are bounded, and whoever reads the last of them knows how it is ten minutes later.
    #[test]
    fn whatever_it_does_the_events_of_an_hour_are_few_and_the_last_one_is_true() {
        for period in 1..=40 {
            let (events, _) = told(24 * 60, |minute| minute / period % 2 == 1);
            let most = events.len();
            assert!(most <= 24 * 18, "{most} events in a day where it changes every {period} minutes");
            if period >= 8 {
                let changes = usize::try_from(24 * 60 / period).unwrap();
                assert_eq!(most, changes, "each change of every {period} minutes");
            }
            for (stays, action) in [(false, "bmc back"), (true, "bmc lost")] {
                let (events, seen) =
                    told(200, |minute| if minute < 100 { minute / period % 2 == 1 } else { stays });
                let last = events.last();
                let is_told = last.is_some_and(|last| last.contains(action));
                assert!(is_told && !seen.bmc_flapping, "{period} {stays}: {last:?}");
            }
        }
    }

    /// The count is of an hour as our clock has it.
    #[test]
    fn a_clock_that_is_set_back_ends_an_hour() {
        let (_, mut seen) = told(30, |minute| minute % 2 == 1);
        assert!(seen.bmc_flapping);
        let before = seen.clone();
        let happened = judge(&before, &mut seen, NOW - 7_200_000);
        assert!(happened.is_some_and(|one| one.action == "bmc back"), "{seen:?}");
        assert!(!seen.bmc_flapping);
    }
}
