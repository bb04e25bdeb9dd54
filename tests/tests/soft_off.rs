//! A soft switch-off on BMCs that do not offer one: iLO 4 and iRMC S4 have the power button alone, others nothing at all.

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Machine, Power, PowerAction, Task, TaskState};
use farrier_proto::types;
use farrier_sim::bmc::redfish::ILO_4_RESETS;
use farrier_sim::pretend::{BmcSockets, Event, PretendNode, PretendOptions};
use tokio::net::TcpListener;

use crate::bench::{Bench, spec, within};

const NEITHER: &[&str] = &["On", "ForceOff", "ForceRestart", "Nmi"];

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
