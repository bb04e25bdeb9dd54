//! What an observation means: a pure function from what is known and what is seen.

use super::{comes_and_goes, who_answers};
use farrier_proto::inventory::{
    BmcHealth, MachineHealth, Node, Observation, PowerPolicy, ReportedObservation, WaitingTask,
};
use farrier_proto::types::PowerState;
use farrier_runtime::time::{millis, timestamp};
use prost_types::{Duration, Timestamp};

/// What is kept, and what is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judged {
    pub(super) observation: Observation,
    pub(super) happened: Vec<Happened>,
}

/// An event to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) action: &'static str,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) detail: String,
}

pub(super) fn judge(
    node: &Node,
    before: Option<&Observation>,
    reported: &ReportedObservation,
    now_ms: i64,
) -> Judged {
    let unseen = Observation::default();
    let before = before.unwrap_or(&unseen);
    let seen_ms = now_ms.saturating_sub(age_ms(reported.age.as_ref(), OLDEST_MS));
    let health = reported.bmc_health();
    let mut now = Observation {
        bmc_health: health.into(),
        bmc_time: Some(timestamp(seen_ms)),
        bmc_problem: reported.bmc_problem.clone(),
        ..before.clone()
    };
    let mut happened: Vec<Happened> = comes_and_goes::judge(before, &mut now, now_ms).into_iter().collect();
    let power = reported.power_state();
    if health == BmcHealth::Ok && power != PowerState::Unspecified {
        now.set_power_state(power);
        now.power_time = Some(timestamp(seen_ms));
        now.driver.clone_from(&reported.driver);
        now.passed_over.clone_from(&reported.passed_over);
        happened.extend(machine_event(before, &mut now, reported, now_ms));
        // It may have waited longer than the rest; and the node's BMC may be another one since.
        let age = reported.machine_age.as_ref().or(reported.age.as_ref());
        let machine_ms = now_ms.saturating_sub(age_ms(age, i64::MAX));
        let machine = reported.machine.as_ref().filter(|_| is_since_written(node, machine_ms));
        happened.extend(who_answers::judge(node, &mut now, machine));
        if let Some(left) = left(node, reported, seen_ms) {
            left.write(&mut now);
            happened.extend(power_event(node, &left, before, &now));
        }
    }
    Judged { observation: now, happened }
}

/// How the power was left, and by whom.
#[derive(Debug, Clone, Copy)]
struct Left<'a> {
    power: PowerState,
    /// The task that waits meanwhile; none: nothing works on the node.
    waits: Option<&'a WaitingTask>,
    /// The operation whose task that is, where it left the power so; empty: it was so before.
    operation: &'a str,
}

impl Left<'_> {
    /// Whether what is seen now, which is written already, is something else.
    fn write(&self, now: &mut Observation) {
        now.power_differs = self.power != PowerState::Unspecified && self.power != now.power_state();
        let by_task = if now.power_differs { self.operation } else { "" };
        by_task.clone_into(&mut now.power_differs_operation);
        now.set_power_left(if by_task.is_empty() { PowerState::Unspecified } else { self.power });
    }
}

/// While Farrier works on a node its power is Farrier's to change, unless the work only waits; and what was seen before the last
/// write of the node may be from the middle of work that has ended since. Then nobody can say how it should be.
fn left<'a>(node: &'a Node, reported: &'a ReportedObservation, seen_ms: i64) -> Option<Left<'a>> {
    let before = Left { power: node.power_state(), waits: None, operation: "" };
    if node.operation.is_empty() {
        return is_since_written(node, seen_ms).then_some(before);
    }
    let waits = reported.waiting.as_ref().filter(|task| task.fence == node.fence)?;
    Some(match waits.power_state() {
        PowerState::Unspecified => Left { waits: Some(waits), ..before },
        power => Left { power, waits: Some(waits), operation: &node.operation },
    })
}

fn is_since_written(node: &Node, seen_ms: i64) -> bool {
    node.update_time.as_ref().is_none_or(|written| millis(written) <= seen_ms)
}

/// A BMC that does not say leaves what it said last.
fn machine_event(
    before: &Observation,
    now: &mut Observation,
    reported: &ReportedObservation,
    now_ms: i64,
) -> Option<Happened> {
    let health = reported.machine_health();
    if health == MachineHealth::Unspecified {
        return None;
    }
    now.set_machine_health(health);
    now.machine_problem.clone_from(&reported.machine_problem);
    let was = before.machine_health();
    let is_well = health == MachineHealth::Ok;
    if was == health && (is_well || !is_told_again(before, &now.machine_problem, now_ms)) {
        return None;
    }
    now.machine_told_problem.clone_from(&now.machine_problem);
    now.machine_told_time = Some(timestamp(now_ms));
    if was == MachineHealth::Unspecified && is_well {
        return None;
    }
    Some(Happened {
        action: "machine health",
        before: health_word(was),
        after: health_word(health),
        detail: now.machine_problem.clone(),
    })
}

/// Whether a health that stays as bad as it was is told again: of another part, too, for what is wrong is told, not only how
/// bad it is. There are BMCs whose words have readings in them, or come in another order each time.
fn is_told_again(before: &Observation, problem: &str, now_ms: i64) -> bool {
    before.machine_told_problem != problem
        && before.machine_told_time.as_ref().is_none_or(|told| is_due(told, now_ms))
}

/// A clock that was set back by more than that keeps nobody silent for ever.
fn is_due(told: &Timestamp, now_ms: i64) -> bool {
    now_ms.abs_diff(millis(told)) >= AGAIN_MS
}

/// `ok`, `warning`, `critical`, or nothing.
pub(super) fn health_word(health: MachineHealth) -> String {
    match health {
        MachineHealth::Unspecified => String::new(),
        other => other.as_str_name().trim_start_matches("MACHINE_HEALTH_").to_lowercase(),
    }
}

fn power_event(node: &Node, left: &Left<'_>, before: &Observation, now: &Observation) -> Option<Happened> {
    let seen = now.power_state();
    let (action, was, detail) = if now.power_differs {
        // Work may have put it back in between, unseen.
        let by_other_work = !left.operation.is_empty() && before.power_differs_operation != left.operation;
        if before.power_differs && before.power_state() == seen && !by_other_work {
            return None;
        }
        ("power differs", left.power, differs(node, left))
    } else if before.power_differs {
        ("power agrees", before.power_state(), String::new())
    } else if left.power == PowerState::Unspecified
        && !matches!(before.power_state(), PowerState::Unspecified)
    {
        if before.power_state() == seen {
            return None;
        }
        ("power changed", before.power_state(), "Farrier never set it".to_owned())
    } else {
        return None;
    };
    Some(Happened { action, before: power_word(was), after: power_word(seen), detail })
}

/// Who is to be thought of, and what becomes of it.
fn differs(node: &Node, left: &Left<'_>) -> String {
    let name = node.name.strip_prefix("nodes/").unwrap_or(&node.name);
    let (power, by) = (power_word(left.power), "somebody else switched the machine, or it did so itself");
    if let Some(task) = left.waits {
        let who = if left.operation.is_empty() { "Farrier" } else { "it" };
        return format!(
            "while {} waits at {}: expected {power}, as {who} left it; {by}; Farrier leaves it so and goes on waiting: switch \
             the machine {power} yourself, or end the work with `farrier node abort {name}`",
            node.operation, task.step
        );
    }
    let back = format!("farrier node power {power} {name}");
    let then = match node.power_policy() {
        PowerPolicy::Keep if left.power == PowerState::On && super::state::read(node.state()).is_failed() => {
            format!("Farrier leaves it so, since its last work failed: `{back}` brings it back")
        }
        PowerPolicy::Keep => "Farrier puts it back, at most three times in a day".to_owned(),
        PowerPolicy::Report | PowerPolicy::Unspecified => {
            format!("Farrier leaves it so: `{back}` brings it back")
        }
    };
    format!("expected {power}, as Farrier left it; {by}; {then}")
}

/// `on`, `off`, or nothing.
pub(super) fn power_word(power: PowerState) -> String {
    match power {
        PowerState::Unspecified => String::new(),
        other => other.as_str_name().trim_start_matches("POWER_STATE_").to_lowercase(),
    }
}

/// An age that makes no sense is none.
fn age_ms(age: Option<&Duration>, oldest: i64) -> i64 {
    let Some(age) = age else { return 0 };
    age.seconds.saturating_mul(1000).saturating_add(i64::from(age.nanos) / 1_000_000).clamp(0, oldest)
}

/// A rack that the centre did not hear of for longer looks again before it reports.
const OLDEST_MS: i64 = 86_400_000;
/// Until other words about a machine whose health is the same are an event again.
const AGAIN_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::MachineIdentity;

    const NOW: i64 = 1_000_000;

    fn node(power: PowerState) -> Node {
        Node {
            name: "nodes/n1".into(),
            power_state: power.into(),
            update_time: Some(timestamp(NOW - 10_000)),
            ..Node::default()
        }
    }

    fn seen(power: PowerState) -> ReportedObservation {
        ReportedObservation {
            node: "nodes/n1".into(),
            bmc_health: BmcHealth::Ok.into(),
            power_state: power.into(),
            driver: "ipmi".into(),
            ..ReportedObservation::default()
        }
    }

    fn silent() -> ReportedObservation {
        ReportedObservation {
            bmc_health: BmcHealth::Unreachable.into(),
            bmc_problem: "no answer".into(),
            ..ReportedObservation::default()
        }
    }

    /// The actions that reports, one after the other, lead to.
    fn told(node: &Node, reports: &[ReportedObservation]) -> Vec<&'static str> {
        let (mut before, mut told) = (None, Vec::new());
        for reported in reports {
            let judged = judge(node, before.as_ref(), reported, NOW);
            told.extend(judged.happened.iter().map(|happened| happened.action));
            before = Some(judged.observation);
        }
        told
    }

    #[test]
    fn power_that_is_as_farrier_left_it_is_no_news() {
        use PowerState::{Off, On, Unspecified};
        assert_eq!(told(&node(On), &[seen(On), seen(On)]), [""; 0]);
        assert_eq!(told(&node(Unspecified), &[seen(On), seen(On)]), [""; 0]);
        assert_eq!(told(&node(Unspecified), &[seen(On), seen(Off), seen(Off)]), ["power changed"]);
    }

    #[test]
    fn a_difference_is_told_once_and_so_is_its_end() {
        use PowerState::{Off, On};
        let reports = [seen(On), seen(Off), seen(Off), silent(), seen(Off), seen(On)];
        let told = told(&node(On), &reports);
        assert_eq!(told, ["power differs", "bmc lost", "bmc back", "power agrees"]);
        let judged = judge(&node(On), None, &seen(Off), NOW);
        let told = judged.happened.first().unwrap();
        assert_eq!((told.before.as_str(), told.after.as_str()), ("on", "off"));
        assert!(told.detail.contains("`farrier node power on n1`"), "{}", told.detail);
        assert!(judged.observation.power_differs);
    }

    #[test]
    fn work_on_a_node_is_no_difference_and_neither_is_what_was_seen_before_it_ended() {
        use PowerState::{Off, On};
        let held = Node { operation: "operations/o1".into(), ..node(On) };
        assert_eq!(told(&held, &[seen(Off), seen(On), seen(Off)]), [""; 0]);
        let age = |seconds| Some(Duration { seconds, nanos: 0 });
        assert_eq!(told(&node(On), &[ReportedObservation { age: age(11), ..seen(Off) }]), [""; 0]);
        assert_eq!(told(&node(On), &[ReportedObservation { age: age(9), ..seen(Off) }]), ["power differs"]);
        // Nor does it end one that there was.
        let before = judge(&node(On), None, &seen(Off), NOW).observation;
        assert!(judge(&held, Some(&before), &seen(Off), NOW).observation.power_differs);
    }

    /// A task that left the power so, and waits.
    fn waiting(seen: ReportedObservation, fence: i64, left: PowerState) -> ReportedObservation {
        let waiting = WaitingTask { fence, step: "wait_agent".into(), power_state: left.into() };
        ReportedObservation { waiting: Some(waiting), ..seen }
    }

    /// What happens in this order, while `operations/o1` with the fence 7 has a node that was off before.
    #[test]
    fn power_that_somebody_switches_while_a_task_waits_is_told_once_and_work_of_ours_never() {
        use PowerState::{Off, On, Unspecified};
        let held = Node { operation: "operations/o1".into(), fence: 7, ..node(Off) };
        let while_waiting = |power| waiting(seen(power), 7, On);
        for (what, reports, expected) in [
            ("as the task left it", vec![while_waiting(On), while_waiting(On)], vec![]),
            (
                "switched off",
                vec![while_waiting(On), while_waiting(Off), while_waiting(Off)],
                vec!["power differs"],
            ),
            (
                "and on again",
                vec![while_waiting(On), while_waiting(Off), while_waiting(On)],
                vec!["power differs", "power agrees"],
            ),
            (
                "in the middle of a step of ours",
                vec![while_waiting(On), seen(Off), seen(On), while_waiting(On)],
                vec![],
            ),
            (
                "our own step ends the difference",
                vec![while_waiting(Off), seen(Off), seen(On), while_waiting(On)],
                vec!["power differs", "power agrees"],
            ),
            (
                "seen by a task that is over",
                vec![waiting(seen(Off), 6, On), waiting(seen(On), 6, On)],
                vec![],
            ),
            (
                "before the task did anything to it",
                vec![waiting(seen(Off), 7, Unspecified), waiting(seen(On), 7, Unspecified)],
                vec!["power differs"],
            ),
        ] {
            assert_eq!(told(&held, &reports), expected, "{what}");
        }
        let judged = judge(&held, None, &while_waiting(Off), NOW);
        let told_first = judged.happened.first().unwrap();
        assert_eq!((told_first.before.as_str(), told_first.after.as_str()), ("on", "off"));
        for words in ["while operations/o1 waits at wait_agent", "expected on", "`farrier node abort n1`"] {
            assert!(told_first.detail.contains(words), "{}", told_first.detail);
        }
        let kept = judged.observation;
        assert_eq!((kept.power_differs, kept.power_left()), (true, On));
        assert_eq!(kept.power_differs_operation, "operations/o1");
        // When the work has ended, it is told no second time: it left the node on.
        let ended = Node { fence: 7, ..node(On) };
        let then = judge(&ended, Some(&kept), &seen(Off), NOW);
        assert_eq!(then.happened, []);
        assert!(then.observation.power_differs && then.observation.power_differs_operation.is_empty());
    }

    #[test]
    fn power_that_differed_before_the_work_and_is_switched_again_while_it_waits_is_told_again() {
        use PowerState::{Off, On, Unspecified};
        let before = judge(&node(On), None, &seen(Off), NOW).observation;
        let held = Node { operation: "operations/o1".into(), fence: 7, ..node(On) };
        let judged = |reported| judge(&held, Some(&before), &reported, NOW).happened;
        assert_eq!(judged(waiting(seen(Off), 7, Unspecified)), [], "it is as it was");
        let told = judged(waiting(seen(Off), 7, On));
        assert_eq!(told.first().map(|told| told.action), Some("power differs"), "the work had put it back");
    }

    #[test]
    fn who_answered_before_the_node_was_written_is_not_who_answers() {
        let age = |seconds| Some(Duration { seconds, nanos: 0 });
        let machine = Some(MachineIdentity { serial_number: "A17".into(), ..MachineIdentity::default() });
        // Of the identity, and of the look that told it.
        let ages =
            [(age(11), age(0)), (age(i64::MAX), age(0)), (None, age(11)), (age(9), age(0)), (None, age(9))];
        let judged = ages.map(|(machine_age, age)| {
            let machine = machine.clone();
            let reported = ReportedObservation { machine, machine_age, age, ..seen(PowerState::On) };
            judge(&node(PowerState::On), None, &reported, NOW).observation.machine.is_some()
        });
        assert_eq!(judged, [false, false, false, true, true]);
    }

    #[test]
    fn a_bmc_that_says_nothing_leaves_what_was_read_last() {
        let first = judge(&node(PowerState::On), None, &seen(PowerState::On), NOW).observation;
        let then = judge(&node(PowerState::On), Some(&first), &silent(), NOW + 60_000).observation;
        assert_eq!((then.power_state(), then.power_time), (PowerState::On, Some(timestamp(NOW))));
        assert_eq!(
            (then.bmc_health(), then.bmc_time),
            (BmcHealth::Unreachable, Some(timestamp(NOW + 60_000)))
        );
        assert_eq!(then.bmc_problem, "no answer");
        let back = judge(&node(PowerState::On), Some(&then), &seen(PowerState::On), NOW).observation;
        assert_eq!((back.bmc_problem.as_str(), back.driver.as_str()), ("", "ipmi"));
    }

    fn ill(health: MachineHealth, problem: &str) -> ReportedObservation {
        ReportedObservation {
            machine_health: health.into(),
            machine_problem: problem.into(),
            ..seen(PowerState::On)
        }
    }

    #[test]
    fn other_words_of_the_same_health_are_told_once_an_hour_and_what_is_worse_at_once() {
        let node = node(PowerState::On);
        let (mut before, mut told) = (None, Vec::new());
        for minute in 0..=200 {
            let reported = match minute {
                // A reading that is another one at each look.
                0..90 => ill(MachineHealth::Warning, &format!("reading of {minute}")),
                90..190 => ill(MachineHealth::Warning, "fan 4"),
                _ => ill(MachineHealth::Critical, "fan 4"),
            };
            let judged = judge(&node, before.as_ref(), &reported, NOW + minute * 60_000);
            told.extend(
                judged.happened.into_iter().map(|one| format!("{minute} {} {}", one.after, one.detail)),
            );
            before = Some(judged.observation);
        }
        assert_eq!(
            told,
            ["0 warning reading of 0", "60 warning reading of 60", "120 warning fan 4", "190 critical fan 4"]
        );
        // A clock that was set back by more than that keeps nobody silent for ever.
        let earlier = judge(&node, before.as_ref(), &ill(MachineHealth::Critical, "fan 5"), NOW);
        assert_eq!(earlier.happened.len(), 1, "{earlier:?}");
    }

    #[test]
    fn a_machines_health_is_told_at_each_change_and_not_when_nobody_says_it() {
        use MachineHealth::{Critical, Ok, Unspecified, Warning};
        let fan = || ill(Warning, "fan 3");
        let reports = [
            ill(Ok, ""),
            fan(),
            fan(),
            silent(),
            ill(Unspecified, ""),
            fan(),
            ill(Warning, "fan 4"),
            ill(Critical, "fan 4"),
            ill(Ok, ""),
        ];
        let told = told(&node(PowerState::On), &reports);
        let health: Vec<_> = told.into_iter().filter(|action| *action == "machine health").collect();
        // The other fan is told within the hour only because it is worse.
        assert_eq!(health.len(), 3, "{health:?}");
        let first = judge(&node(PowerState::On), None, &ill(Critical, "drive fault"), NOW);
        let told = first.happened.first().unwrap();
        assert_eq!((told.before.as_str(), told.after.as_str()), ("", "critical"));
        assert_eq!(told.detail, "drive fault");
    }

    #[test]
    fn an_absurd_age_is_bounded() {
        for seconds in [i64::MIN, -1, i64::MAX] {
            let age = Some(Duration { seconds, nanos: i32::MAX });
            let reported = ReportedObservation { age, ..seen(PowerState::On) };
            let at = judge(&node(PowerState::On), None, &reported, NOW).observation.bmc_time.unwrap();
            assert!((NOW - OLDEST_MS..=NOW).contains(&millis(&at)), "{seconds}: {at:?}");
        }
    }
}
