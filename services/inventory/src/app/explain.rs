//! Why a node is where it is. Pure: the node and the time in, sentences out. `tests/tests/commands.rs` types
//! every command that is printed here.

use super::bmc::has_bmc;
use super::observe::{health_word, power_word};
use super::{state, unsettled, who_answers};
use farrier_model::lifecycle::{Event, State, verbs};
use farrier_proto::inventory::{Bmc, Event as HistoryEvent, Explanation, Node, Observation};
use farrier_proto::types::PowerState;
use farrier_runtime::time::{ago_since, millis};
use prost_types::Timestamp;

/// Explains a node as it is at `now_ms`.
pub fn explain(node: Node, now_ms: i64) -> Explanation {
    let at = state::read(node.state());
    let since = node.state_time.as_ref().map_or_else(
        || "since an unknown time".to_owned(),
        |t| format!("for {}", ago_since(millis(t), now_ms)),
    );
    let mut summary = format!("{} is `{at}` {since}", node.name);
    if node.maintenance {
        summary.push_str(" and in maintenance");
    }
    Explanation {
        summary,
        expected: if at == State::Available && bmc_in_trouble(&node) {
            "its BMC answers again; placement passes it over until then".to_owned()
        } else {
            expected(at).to_owned()
        },
        observed: observed(&node, at, now_ms),
        actions: actions(&node, at),
        verbs: verbs(at).filter(|v| v.is_driven()).map(|v| v.to_string()).collect(),
        node: Some(node),
    }
}

/// Adds what its rack told last of its iSCSI disk, unless that is over: it is told again while it lasts.
pub(crate) fn add_disk(explained: &mut Explanation, failed: &HistoryEvent, now_ms: i64) {
    let Some(at) = failed.time.as_ref().map(millis) else { return };
    if now_ms.saturating_sub(at) > DISK_TOLD_MS {
        return;
    }
    let told = format!("; {} ago its rack told: {}", ago_since(at, now_ms), failed.detail);
    explained.observed.push_str(&told);
    let history = format!("farrier event list --filter resource={}", failed.resource);
    if !explained.actions.contains(&history) {
        explained.actions.insert(0, history);
    }
}

/// Ten minutes and some: as often a rack tells that a disk still fails.
const DISK_TOLD_MS: i64 = 11 * 60_000;

/// What has to happen next.
fn expected(state: State) -> &'static str {
    use State::*;
    match state {
        Enroll => "an operator describes the BMC and asks for `manage`",
        Verifying => "the rack logs in to the BMC and reads its power state",
        VerifyFailed => "an operator corrects the BMC's address or credentials and asks for `manage` again",
        Manageable => "an operator asks for `inspect`, then for `provide`",
        Inspecting => "the node boots the ramdisk and its agent reports the hardware",
        InspectFailed => "an operator finds out why the ramdisk did not report and asks for `inspect` again",
        Cleaning => "the agent erases every disk and reads back that nothing is left",
        CleanFailed => "an operator finds out what was left on a disk and asks for `provide` again",
        Available => "placement gives the node to an instance that it fits",
        Deploying => "the image is written and the operating system itself answers",
        DeployFailed => "the instance is deleted, which cleans the node, or made again elsewhere",
        Active => "nothing: the node serves its instance until that is deleted",
        Deleting => "the node is switched off, erased and read back, then available again",
        DeleteFailed => "an operator finds out why it could not be erased and deletes the instance again",
        Rescuing => "the node boots the rescue system and that answers",
        Rescue => "somebody repairs the instance and asks for `unrescue`",
        RescueFailed => "an operator finds out why the rescue system did not answer",
        Unrescuing => "the instance's own operating system answers again",
        UnrescueFailed => "an operator finds out why the operating system did not answer",
        Adopting => "the running server is found to be as it is described",
        AdoptFailed => "an operator corrects the description, or takes the node back with `manage`",
        Servicing => "firmware or settings are changed and the operating system answers again",
        ServiceFailed => "an operator finds out which step failed",
    }
}

/// What is seen instead, or so far.
fn observed(node: &Node, at: State, now_ms: i64) -> String {
    let mut seen = Vec::new();
    if !node.last_error.is_empty() {
        seen.push(format!("the last work failed: {}", node.last_error));
    }
    match (node.operation.as_str(), at.is_working()) {
        ("", true) => seen.push("no operation works on it".to_owned()),
        ("", false) => {}
        (operation, _) => seen.push(format!("{operation} works on it")),
    }
    if node.maintenance {
        let reason =
            if node.maintenance_reason.is_empty() { "no reason given" } else { &node.maintenance_reason };
        seen.push(format!("maintenance: {reason}"));
    }
    if !node.instance.is_empty() {
        seen.push(format!("given to {}", node.instance));
    }
    seen.push(
        match node.power_state() {
            PowerState::On => "Farrier left its power on",
            PowerState::Off => "Farrier left its power off",
            PowerState::Unspecified => "Farrier never set or read its power",
        }
        .to_owned(),
    );
    if let Some(observation) = &node.observation {
        seen.extend(seen_by_rack(node, observation, now_ms));
    }
    seen.extend(unsettled::told(node, now_ms));
    match &node.bmc {
        None => seen.push("no BMC is described".to_owned()),
        Some(bmc) if bmc.default_password && !is_opened(at) => {
            seen.push("its BMC has a default password, which `manage` replaces".to_owned());
        }
        Some(bmc) if bmc.default_password => {
            seen.push("its BMC has a default password, which could not be replaced".to_owned());
        }
        Some(_) => {}
    }
    seen.join("; ")
}

/// Whether its rack got nothing out of the BMC when it last asked.
fn bmc_in_trouble(node: &Node) -> bool {
    node.bmc.as_ref().is_some_and(has_bmc)
        && node.observation.as_ref().is_some_and(|seen| !seen.bmc_problem.is_empty())
}

/// Whether its BMC has a better driver, and somebody has to do something for it.
fn passes_over(node: &Node) -> bool {
    node.bmc.as_ref().is_some_and(has_bmc)
        && node.observation.as_ref().is_some_and(|seen| !seen.passed_over.is_empty())
}

/// Whether its BMC was opened before.
fn is_opened(at: State) -> bool {
    !matches!(at, State::Enroll | State::Verifying | State::VerifyFailed)
}

/// Whether somebody else switched it. What was seen of work that is over says nothing: the next look does.
fn differs(node: &Node) -> bool {
    node.observation.as_ref().is_some_and(|seen| {
        let by_work = &seen.power_differs_operation;
        seen.power_differs && (by_work.is_empty() || *by_work == node.operation)
    })
}

/// What the rack sees without being asked.
fn seen_by_rack(node: &Node, seen: &Observation, now_ms: i64) -> Vec<String> {
    let ago = |time: &Option<Timestamp>| {
        time.as_ref().map_or_else(String::new, |t| format!(" {} ago", ago_since(millis(t), now_ms)))
    };
    let mut told = Vec::new();
    let power = power_word(seen.power_state());
    if !power.is_empty() {
        let by = match (differs(node), power_word(seen.power_left()).as_str()) {
            // The rack's look is older than what Farrier did.
            (false, _)
                if node.power_state() != PowerState::Unspecified
                    && node.power_state() != seen.power_state() =>
            {
                ", before that".to_owned()
            }
            (false, _) => String::new(),
            (true, "") => ": Farrier did not do that".to_owned(),
            (true, left) => format!(": its work left it {left}, and Farrier did not do that"),
        };
        told.push(format!("{} saw it {power}{}{by}", node.rack, ago(&seen.power_time)));
    }
    if !seen.bmc_problem.is_empty() {
        told.push(format!("its BMC is in trouble, asked{}: {}", ago(&seen.bmc_time), seen.bmc_problem));
    }
    if seen.bmc_flapping {
        told.push(format!(
            "its BMC comes and goes, {} times within an hour{}: see `farrier event list --resource {}`",
            seen.bmc_changes,
            ago(&seen.bmc_change_time),
            node.name.strip_prefix("nodes/").unwrap_or(&node.name)
        ));
    }
    if !seen.passed_over.is_empty() {
        told.push(format!(
            "it is driven by {}, since another driver does not work: {}",
            seen.driver, seen.passed_over
        ));
    }
    if !seen.machine_problem.is_empty() {
        let health = health_word(seen.machine_health());
        told.push(format!("its health is {health}{}: {}", ago(&seen.power_time), seen.machine_problem));
    }
    if let (Some(first), Some(other)) = (&seen.machine, &seen.other_machine) {
        let (first, other) = (who_answers::told(first), who_answers::told(other));
        told.push(format!("another machine answers at its BMC's address: expected {first}, saw {other}"));
    }
    told
}

/// Whether an API over https is asked for, and no certificate is right.
fn trusts_nobody(bmc: &Bmc) -> bool {
    super::bmc::speaks_http(bmc) && has_no_certificate(bmc)
}

fn has_no_certificate(bmc: &Bmc) -> bool {
    bmc.scheme != "http" && bmc.certificate_sha256.is_empty() && bmc.ca_pem.is_empty()
}

/// What a person can do, most likely first.
fn actions(node: &Node, at: State) -> Vec<String> {
    use State::*;
    let name = node.name.strip_prefix("nodes/").unwrap_or(&node.name);
    let mut actions = Vec::new();
    if let Some(operation) = node.operation.strip_prefix("operations/") {
        actions.push(format!("farrier operation watch {operation}"));
    }
    // `abort` lets go of a node that is held without a change of state, or by work that is over.
    if !node.operation.is_empty() && !verbs(at).any(|v| v == Event::Abort) {
        actions.push(format!("farrier node abort {name}"));
    }
    if node.bmc.is_none() {
        actions.push(format!(
            "farrier node update {name} --bmc-driver ipmi --bmc-address HOST --bmc-user USER \
             --bmc-password-file FILE"
        ));
    } else if at == VerifyFailed || bmc_in_trouble(node) || passes_over(node) {
        // The refusal names the fingerprint it saw.
        let unknown = |bmc: &Bmc| trusts_nobody(bmc) || (passes_over(node) && has_no_certificate(bmc));
        if node.bmc.as_ref().is_some_and(unknown) {
            actions.push(format!("farrier node update {name} --bmc-certificate-sha256 SHA256"));
        }
        actions.push(format!(
            "farrier node update {name} --bmc-address HOST --bmc-user USER --bmc-password-file FILE"
        ));
    }
    if node.maintenance {
        actions.push(format!("farrier node maintenance off {name}"));
    }
    if !node.last_error.is_empty() || at.is_failed() {
        // The ramdisk's way up is seen by the rack: what the machine asked for, and what it got.
        if boots_ramdisk(at) {
            actions.push(format!("farrier node boot-trace {name}"));
        }
        actions.push(format!("farrier event list --filter resource={}", node.name));
    }
    if matches!(at, DeployFailed | Active | DeleteFailed)
        && let Some(instance) = node.instance.strip_prefix("instances/")
    {
        actions.push(format!("farrier instance delete {instance}"));
    }
    if at == Available && !bmc_in_trouble(node) {
        actions.push("farrier instance create --flavor FLAVOR --image IMAGE NAME".to_owned());
    }
    if unsettled::told(node, 0).is_some() {
        actions.extend(unsettled::commands(node));
    }
    let left = power_word(node.power_state());
    // Work that waits has the node: nobody else is given it.
    let differs = differs(node);
    if differs && node.operation.is_empty() && !left.is_empty() {
        actions.push(format!("farrier node power {left} {name}"));
    } else if at == Active && node.power_state() == PowerState::Off && node.operation.is_empty() {
        actions.push(format!("farrier node power on {name}"));
    }
    // Instances are asked for, not states: `deploy` and `undeploy` are no commands for a node.
    let verbs = preferred(at)
        .iter()
        .copied()
        .chain(verbs(at).map(|v| v.as_str()).filter(|v| !preferred(at).contains(v)))
        .filter(|verb| verbs_driven(at).any(|v| v == *verb))
        .filter(|verb| !matches!(*verb, "deploy" | "undeploy" | "recover"))
        // Which disks are to be erased is known from an inspection.
        .filter(|verb| node.hardware.is_some() || at != Manageable || !matches!(*verb, "provide" | "clean"));
    actions.extend(verbs.map(|verb| format!("farrier node {verb} {name}")));
    actions
}

/// Failed work that booted the ramdisk.
fn boots_ramdisk(at: State) -> bool {
    matches!(at, State::InspectFailed | State::CleanFailed | State::DeployFailed | State::DeleteFailed)
}

/// Verbs that lead onwards, before the ones that lead elsewhere.
fn preferred(at: State) -> &'static [&'static str] {
    match at {
        State::Manageable => &["inspect", "provide"],
        State::CleanFailed => &["provide"],
        State::InspectFailed => &["inspect"],
        _ => &[],
    }
}

fn verbs_driven(at: State) -> impl Iterator<Item = &'static str> {
    verbs(at).filter(|v| v.is_driven()).map(|v| v.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::{MachineHealth, MachineIdentity};
    use farrier_runtime::time::timestamp;

    fn node(at: State) -> Node {
        Node {
            name: "nodes/n1".into(),
            state: state::write(at).into(),
            state_time: Some(timestamp(0)),
            ..Node::default()
        }
    }

    #[test]
    fn every_state_says_what_is_expected_and_what_to_do() {
        for at in State::ALL {
            let told = explain(node(*at), 192_000);
            assert_eq!(told.summary, format!("nodes/n1 is `{at}` for 3m12s"));
            assert!(!told.expected.is_empty() && !told.observed.is_empty(), "{at}");
            assert!(!told.actions.is_empty(), "{at}");
        }
    }

    #[test]
    fn a_failure_is_told_with_its_reason_and_the_way_on() {
        let told = explain(
            Node {
                last_error: "no answer from 10.0.0.1".into(),
                bmc: Some(Default::default()),
                ..node(State::VerifyFailed)
            },
            1000,
        );
        assert!(told.observed.contains("no answer from 10.0.0.1"));
        assert_eq!(
            told.actions,
            [
                "farrier node update n1 --bmc-address HOST --bmc-user USER --bmc-password-file FILE",
                "farrier event list --filter resource=nodes/n1",
                "farrier node manage n1"
            ]
        );
        assert_eq!(told.verbs, ["manage"]);
    }

    #[test]
    fn a_bmc_that_nothing_is_known_of_is_pinned_first() {
        let told = |change: fn(&mut Bmc)| {
            let mut bmc = Bmc { driver: "redfish".into(), ..Bmc::default() };
            change(&mut bmc);
            explain(Node { bmc: Some(bmc), ..node(State::VerifyFailed) }, 0).actions
        };
        let pin = "farrier node update n1 --bmc-certificate-sha256 SHA256".to_owned();
        assert_eq!(told(|_| ()).first(), Some(&pin));
        for known in [
            told(|b| b.driver = "ipmi".into()),
            told(|b| b.scheme = "http".into()),
            told(|b| b.certificate_sha256 = "ab".into()),
        ] {
            assert!(!known.contains(&pin), "{known:?}");
        }
    }

    #[test]
    fn a_redfish_that_is_there_and_not_trusted_is_told_with_what_to_do() {
        let bmc = Bmc { driver: "auto".into(), address: "192.0.2.1".into(), ..Bmc::default() };
        let seen = Observation { passed_over: "an unknown certificate".into(), ..Observation::default() };
        let told = explain(Node { bmc: Some(bmc), observation: Some(seen), ..node(State::Available) }, 0);
        let pin = "farrier node update n1 --bmc-certificate-sha256 SHA256";
        assert_eq!(told.actions.first().map(String::as_str), Some(pin));
        assert!(told.observed.contains("an unknown certificate"), "{}", told.observed);
    }

    #[test]
    fn a_ramdisk_that_did_not_report_is_looked_for_in_the_boot_trace() {
        let told = explain(Node { bmc: Some(Default::default()), ..node(State::InspectFailed) }, 0);
        assert_eq!(told.actions.first().map(String::as_str), Some("farrier node boot-trace n1"));
        assert!(told.actions.contains(&"farrier node inspect n1".to_owned()), "{:?}", told.actions);
    }

    #[test]
    fn what_was_never_inspected_is_inspected_first() {
        let actions = |hardware| {
            let bmc = Some(Default::default());
            explain(Node { hardware, bmc, ..node(State::Manageable) }, 0).actions
        };
        assert_eq!(actions(None).first().map(String::as_str), Some("farrier node inspect n1"));
        assert!(!actions(None).contains(&"farrier node provide n1".to_owned()));
        assert!(actions(Some(Default::default())).contains(&"farrier node provide n1".to_owned()));
    }

    #[test]
    fn an_instance_whose_machine_is_off_can_be_switched_on() {
        let off = Node { bmc: Some(Default::default()), ..node(State::Active) };
        let mut on = off.clone();
        on.set_power_state(PowerState::On);
        let switch = "farrier node power on n1".to_owned();
        let mut known = off.clone();
        known.set_power_state(PowerState::Off);
        assert!(explain(known, 0).actions.contains(&switch));
        assert!(!explain(on, 0).actions.contains(&switch) && !explain(off, 0).actions.contains(&switch));
    }

    #[test]
    fn power_that_somebody_else_switched_is_told_with_the_way_back() {
        let mut seen = Observation {
            power_differs: true,
            power_time: Some(timestamp(180_000)),
            bmc_time: Some(timestamp(180_000)),
            ..Observation::default()
        };
        seen.set_power_state(PowerState::Off);
        let mut node = Node { rack: "racks/r1".into(), bmc: Some(Default::default()), ..node(State::Active) };
        node.set_power_state(PowerState::On);
        node.observation = Some(seen.clone());
        let told = explain(node.clone(), 192_000);
        let words = "Farrier left its power on; racks/r1 saw it off 12s ago: Farrier did not do that";
        assert!(told.observed.contains(words), "{}", told.observed);
        assert!(told.actions.contains(&"farrier node power on n1".to_owned()), "{:?}", told.actions);
        seen.bmc_problem = "no answer".into();
        node.observation = Some(seen);
        let told = explain(node.clone(), 192_000).observed;
        assert!(told.contains("its BMC is in trouble, asked 12s ago: no answer"), "{told}");
        let seen = node.observation.as_mut().unwrap();
        (seen.bmc_flapping, seen.bmc_changes) = (true, 9);
        let told = explain(node.clone(), 192_000).observed;
        assert!(
            told.contains("its BMC comes and goes, 9 times within an hour: see `farrier event"),
            "{told}"
        );
        let seen = node.observation.as_mut().unwrap();
        (seen.driver, seen.passed_over) = ("ipmi".into(), "an unknown certificate".into());
        let told = explain(node.clone(), 192_000).observed;
        let words = "it is driven by ipmi, since another driver does not work: an unknown certificate";
        assert!(told.contains(words), "{told}");
        let machine = |serial: &str| MachineIdentity { serial_number: serial.into(), ..Default::default() };
        let seen = node.observation.as_mut().unwrap();
        seen.set_machine_health(MachineHealth::Critical);
        seen.machine_problem = "drive fault".into();
        (seen.machine, seen.other_machine) = (Some(machine("A1")), Some(machine("B2")));
        let told = explain(node, 192_000).observed;
        assert!(told.contains("its health is critical 12s ago: drive fault"), "{told}");
        assert!(
            told.contains("another machine answers at its BMC's address: expected serial A1, saw serial B2"),
            "{told}"
        );
    }

    #[test]
    fn a_disk_that_fails_is_told_as_long_as_its_rack_tells_it() {
        let failed = HistoryEvent {
            resource: "nodes/n1".into(),
            detail: "the disk of instances/web cannot be offered".into(),
            time: Some(timestamp(60_000)),
            ..HistoryEvent::default()
        };
        let told = |now_ms| {
            let mut explained = explain(node(State::Active), now_ms);
            add_disk(&mut explained, &failed, now_ms);
            explained
        };
        let now = told(180_000);
        let words = "; 2m00s ago its rack told: the disk of instances/web cannot be offered";
        assert!(now.observed.ends_with(words), "{}", now.observed);
        assert_eq!(now.actions[0], "farrier event list --filter resource=nodes/n1");
        let over = told(60_000 + DISK_TOLD_MS + 1);
        assert_eq!(over.actions, explain(node(State::Active), 0).actions);
        assert!(!over.observed.contains("the disk"), "{}", over.observed);
    }

    #[test]
    fn a_node_that_power_work_holds_can_be_freed() {
        let held =
            Node { operation: "operations/o1".into(), bmc: Some(Default::default()), ..node(State::Active) };
        assert_eq!(
            explain(held, 0).actions.get(..2).unwrap_or_default(),
            ["farrier operation watch o1", "farrier node abort n1"]
        );
    }

    #[test]
    fn work_under_way_is_watched_or_stopped() {
        let busy = Node {
            operation: "operations/o1".into(),
            bmc: Some(Default::default()),
            ..node(State::Cleaning)
        };
        assert_eq!(explain(busy, 0).actions, ["farrier operation watch o1", "farrier node abort n1"]);
    }

    #[test]
    fn verbs_that_nothing_drives_are_not_offered() {
        for at in State::ALL {
            let told = explain(node(*at), 0);
            for verb in ["rebuild", "rescue", "unrescue", "adopt", "service"] {
                assert!(!told.verbs.iter().any(|v| v == verb), "{at} {verb}");
                assert!(!told.actions.iter().any(|a| a.contains(&format!("node {verb} "))), "{at} {verb}");
            }
        }
    }
}
