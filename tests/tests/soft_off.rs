//! A soft switch-off on BMCs that do not offer one: iLO 4 and iRMC S4 have the power button alone, others nothing at all; and what
//! becomes of one while rackd restarts. A hard reset on BMCs that do not offer that.

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Machine, Power, PowerAction, Task, TaskState};
use farrier_proto::types;
use farrier_sim::bmc::Faults;
use farrier_sim::bmc::redfish::{FailsFirst, ILO_4_RESETS, RedfishConfig, RedfishFaults};
use farrier_sim::lab::Service;
use farrier_sim::pretend::{BmcSockets, Event, Mishaps, PretendNode, PretendOptions};
use std::time::Duration;
use tokio::net::TcpListener;

use crate::bench::{Bench, spec, within};
use crate::pretend_site::Site;

const NEITHER: &[&str] = &["On", "ForceOff", "ForceRestart", "Nmi"];
/// Neither a reset nor a power cycle.
const FEW: &[&str] = &["On", "ForceOff", "GracefulShutdown"];

async fn run(bench: &Bench, node: &PretendNode, fence: i64, action: PowerAction, driver: &str) -> Task {
    let mut ordered = spec(node, Work::Power(Power { action: action.into() }));
    let Machine { bmc_driver, bmc_scheme, .. } = ordered.machine.as_mut().unwrap();
    (*bmc_driver, *bmc_scheme) = (driver.into(), "http".into());
    let id = format!("{}-{fence}", node.name());
    bench.start_task(&id, fence, ordered).await.unwrap();
    let done = bench.ended(&id).await;
    assert_eq!(done.state(), TaskState::Done, "{}", done.error);
    done
}

/// Starts the machine, switches it off softly, and returns what the step says of it.
async fn on_and_softly_off(bench: &Bench, node: &PretendNode, driver: &str) -> String {
    run(bench, node, 1, PowerAction::On, driver).await;
    within(node.wait_for(|events| events.contains(&Event::PowerOn))).await;
    let off = run(bench, node, 2, PowerAction::SoftOff, driver).await;
    assert_eq!(off.result.unwrap().power_state(), types::PowerState::Off);
    off.steps.last().unwrap().detail.clone()
}

async fn node(bench: &Bench, index: u16, change: impl FnOnce(&mut PretendOptions)) -> PretendNode {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench
        .node_with(index, |options| {
            options.sockets = listener.into();
            change(options);
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_a_button_and_no_graceful_shutdown_the_button_is_pressed() {
    let bench = Bench::start().await;
    let node = node(&bench, 1, |options| options.resets = Some(ILO_4_RESETS)).await;
    let told = on_and_softly_off(&bench, &node, "redfish").await;
    assert_eq!(told, "off, read back by driver redfish");
    within(node.wait_for(|events| events.last() == Some(&Event::SwitchedOff))).await;
    // Off it stays: pressed once more it would start.
    let again = run(&bench, &node, 3, PowerAction::SoftOff, "redfish").await;
    assert_eq!(again.result.unwrap().power_state(), types::PowerState::Off);
    within(node.wait_for(|events| events.last() == Some(&Event::SwitchedOff))).await;
    bench.stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_asks_the_system_the_power_is_taken_away_and_that_is_said() {
    let bench = Bench::start().await;
    let node = node(&bench, 1, |options| options.resets = Some(NEITHER)).await;
    let told = on_and_softly_off(&bench, &node, "redfish").await;
    assert!(
        told.starts_with("off, read back by driver redfish; forced: the system cannot be asked"),
        "{told}"
    );
    assert!(told.contains("does not offer soft power off"), "{told}");
    within(node.wait_for(|events| events.last() == Some(&Event::PowerCut))).await;
    bench.stop(vec![node]).await;
}

/// What Redfish does not offer is IPMI's to give, where that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_such_a_redfish_ipmi_asks_the_system() {
    let bench = Bench::start().await;
    let both = BmcSockets::both([127, 0, 0, 1].into()).await.unwrap();
    let node = bench
        .node_with(1, |options| {
            options.sockets = both;
            options.resets = Some(NEITHER);
        })
        .await;
    let told = on_and_softly_off(&bench, &node, "auto").await;
    assert_eq!(told, "off, read back by driver redfish");
    within(node.wait_for(|events| events.last() == Some(&Event::SwitchedOff))).await;
    bench.stop(vec![node]).await;
}

/// How often the button was pressed of a machine that does nothing about it.
fn presses(node: &PretendNode) -> usize {
    node.events().iter().filter(|event| **event == Event::Struck("ignores_button")).count()
}

const IGNORES: Mishaps = Mishaps {
    hang_before_agent: false,
    agent_never_calls: false,
    die_after_bytes: None,
    system_never_calls: false,
    stall_after_bytes: None,
    ignores_button: true,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_was_asked_before_a_restart_of_rackd_is_waited_for_and_not_asked_again() {
    let bench = Bench::start_with(|timeouts| timeouts.soft_off = Duration::from_secs(15)).await;
    let node = node(&bench, 1, |options| options.resets = Some(ILO_4_RESETS)).await;
    run(&bench, &node, 1, PowerAction::On, "redfish").await;
    within(node.wait_for(|events| events.contains(&Event::PowerOn))).await;
    node.set_mishaps(IGNORES);
    let mut ordered = spec(&node, Work::Power(Power { action: PowerAction::SoftOff.into() }));
    let Machine { bmc_driver, bmc_scheme, .. } = ordered.machine.as_mut().unwrap();
    (*bmc_driver, *bmc_scheme) = ("redfish".into(), "http".into());
    bench.start_task("soft", 2, ordered).await.unwrap();
    let step = |task: &Task| task.steps.last().unwrap().clone();
    let asked = bench.until("soft", |task| step(task).detail.starts_with("asked the system")).await;
    assert!(step(&asked).detail.ends_with("by driver redfish: it has 15s for it"), "{asked:?}");
    let bench = bench.restart_rackd().await;
    let done = bench.ended("soft").await;
    assert_eq!((done.state(), step(&done).attempt), (TaskState::Done, 2), "{}", done.error);
    assert!(step(&done).detail.ends_with("forced: the system did not switch itself off"), "{done:?}");
    assert_eq!((presses(&node), node.events().last()), (1, Some(&Event::PowerCut)));
    bench.stop(vec![node]).await;
}

/// Killed as by kill -9 before the system is asked, and when it has been: it is asked once, in both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rackd_killed_around_asking_a_system_asks_it_once() {
    let mut site = Site::enrolled(2).await;
    site.set_timeouts(&[("soft_off_seconds", 3)]).await;
    for (index, point, ends_with) in
        [(0, "soft_off:asked", Event::PowerCut), (1, "soft_off:told", Event::SwitchedOff)]
    {
        let name = format!("n{index}");
        site.installation.farrier(&["node", "manage", &name, "--wait"]).unwrap();
        site.installation.farrier(&["node", "power", "on", &name, "--wait"]).unwrap();
        let node = &site.nodes[index];
        within(node.wait_for(|events| events.contains(&Event::PowerOn))).await;
        if ends_with == Event::PowerCut {
            node.set_mishaps(IGNORES);
        }
        site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        site.installation.farrier(&["node", "power", "soft-off", &name, "--yes"]).unwrap();
        site.installation.wait_ended(Service::Rackd).await.unwrap();
        site.installation.restart(Service::Rackd).await.unwrap();
        let node = &site.nodes[index];
        within(node.wait_for(|events| events.last() == Some(&ends_with))).await;
        assert_eq!(presses(node), usize::from(ends_with == Event::PowerCut), "{point}");
    }
    site.shutdown().await;
}

/// The answer is lost and the system goes on: whether it was asked nobody knows, and it is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_whose_bmc_gives_no_answer_is_waited_for_and_not_asked_again() {
    const CHASSIS_CONTROL: (u8, u8) = (0x00, 0x02);
    let bench = Bench::start_with(|timeouts| timeouts.soft_off = Duration::from_secs(3)).await;
    let node = bench.node(1).await;
    run(&bench, &node, 1, PowerAction::On, "ipmi").await;
    within(node.wait_for(|events| events.contains(&Event::PowerOn))).await;
    node.set_mishaps(IGNORES);
    node.set_faults(Faults { unanswered: vec![CHASSIS_CONTROL], ..Faults::default() });
    let mut ordered = spec(&node, Work::Power(Power { action: PowerAction::SoftOff.into() }));
    ordered.machine.as_mut().unwrap().bmc_driver = "ipmi".into();
    bench.start_task("soft", 2, ordered).await.unwrap();
    let detail = |task: &Task| task.steps.last().unwrap().detail.clone();
    bench.until("soft", |task| detail(task).starts_with("asked the system")).await;
    within(node.wait_for(|events| events.last() == Some(&Event::PowerCut))).await;
    node.set_faults(Faults::default());
    let done = bench.ended("soft").await;
    assert_eq!(done.state(), TaskState::Done, "{}", done.error);
    assert!(detail(&done).ends_with("forced: the system did not switch itself off"), "{done:?}");
    assert_eq!(presses(&node), 1);
    bench.stop(vec![node]).await;
}

/// Answered so, it was perhaps asked: it has its time, and is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_whose_bmc_answers_that_asking_failed_is_waited_for_and_not_asked_again() {
    let bench = Bench::start_with(|timeouts| timeouts.soft_off = Duration::from_secs(3)).await;
    let node = node(&bench, 1, |_| {}).await;
    run(&bench, &node, 1, PowerAction::On, "redfish").await;
    within(node.wait_for(|events| events.contains(&Event::PowerOn))).await;
    let words: &[&str] = &["POST", "ComputerSystem.Reset", "GracefulShutdown"];
    let fails_first = Some(FailsFirst { words, status: 500, times: 8 });
    node.set_redfish_faults(RedfishFaults { fails_first, ..RedfishFaults::default() });
    let off = run(&bench, &node, 2, PowerAction::SoftOff, "redfish").await;
    let told = &off.steps.last().unwrap().detail;
    assert!(told.ends_with("forced: the system did not switch itself off"), "{told}");
    assert_eq!(node.redfish().unwrap().failures_left(), 7, "asked once");
    bench.stop(vec![node]).await;
}

/// Off and on in its place, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_reset_the_machine_is_switched_off_and_on_in_its_place() {
    let bench = Bench::start().await;
    let node = node(&bench, 1, |options| options.resets = Some(FEW)).await;
    run(&bench, &node, 1, PowerAction::On, "redfish").await;
    within(node.wait_for(|events| events.contains(&Event::PowerOn))).await;
    let reset = run(&bench, &node, 2, PowerAction::Reset, "redfish").await;
    let told = &reset.steps.last().unwrap().detail;
    assert!(told.starts_with("reset by driver redfish, which offers no hard reset: switched off"), "{told}");
    assert_eq!(reset.result.unwrap().power_state(), types::PowerState::On);
    let power = |event: &&Event| matches!(event, Event::PowerOn | Event::PowerCut);
    let power: Vec<Event> = node.events().iter().filter(power).cloned().collect();
    assert_eq!(power, [Event::PowerOn, Event::PowerCut, Event::PowerOn]);
    bench.stop(vec![node]).await;

    // One that goes off and not on again is left as what it is, and that is said too.
    let bench = Bench::start_with(|timeouts| timeouts.bmc_call = Duration::from_secs(5)).await;
    let node = self::node(&bench, 2, |options| options.resets = Some(&["ForceOff"])).await;
    node.switch_on().await;
    let mut ordered = spec(&node, Work::Power(Power { action: PowerAction::Reset.into() }));
    let Machine { bmc_driver, bmc_scheme, .. } = ordered.machine.as_mut().unwrap();
    (*bmc_driver, *bmc_scheme) = ("redfish".into(), "http".into());
    bench.start_task("half", 1, ordered).await.unwrap();
    let failed = bench.ended("half").await;
    assert_eq!(failed.state(), TaskState::Failed, "{failed:?}");
    assert!(failed.error.contains("is off now: `farrier node power on n2`"), "{}", failed.error);
    assert_eq!(failed.result.unwrap().power_state(), types::PowerState::Off);
    bench.stop(vec![node]).await;
}

/// Killed as by kill -9 before it is switched off, when it is off, and when it is on again: it is switched off and on once, and
/// ends on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rackd_killed_between_off_and_on_in_place_of_a_reset_goes_on_and_the_machine_ends_on() {
    use farrier_sim::bmc::PowerAction::{Off, On};
    let mut site = Site::enrolled(0).await;
    let few = |config| RedfishConfig { resets: Some(FEW), ..config };
    let (service, chassis) = site.create_redfish("n0", "redfish", few, &[]).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.installation.farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    for (point, sent) in
        [("power_reset:off", &[][..]), ("power_reset:on", &[Off]), ("power_reset:after", &[Off, On])]
    {
        let before = chassis.actions().len();
        site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let operation = site.client.power("n0", PowerAction::Reset).await.unwrap();
        site.installation.wait_ended(Service::Rackd).await.unwrap();
        assert_eq!(chassis.actions()[before..], *sent, "{point}");
        site.installation.restart(Service::Rackd).await.unwrap();
        site.succeeds(operation, point).await;
        assert_eq!(chassis.actions()[before..], [Off, On], "{point}");
        let node = site.client.node("n0").await.unwrap();
        assert_eq!(node.power_state(), types::PowerState::On, "{point}");
    }
    service.shutdown().await;
    site.shutdown().await;
}
