//! What a rack does when machines, BMCs and callers do not do what they should.

use std::time::Duration;

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Deploy, Inspect, Power, PowerAction, Step, StepState, Task, TaskState, Verify};
use farrier_proto::types;
use farrier_rackd::Timeouts;
use farrier_runtime::error::reason_of;
use farrier_sim::bmc::{Faults, PowerState};
use farrier_sim::pretend::{Event, Mishaps, PretendNode};
use tonic::Code;

use crate::bench::{Bench, deploy, spec, within};

const MIB: u64 = 1 << 20;

/// Short enough for a test, and for steps that wait in vain.
async fn impatient() -> Bench {
    Bench::start_with(impatience).await
}

/// Short waits for what does not come. A boot that must succeed has its time: machines with tests on them are busy.
fn impatience(timeouts: &mut Timeouts) {
    timeouts.bmc = Duration::from_secs(15);
    timeouts.bmc_call = Duration::from_secs(4);
    timeouts.agent = Duration::from_secs(60);
    timeouts.silence = Duration::from_secs(5);
    timeouts.soft_off = Duration::from_secs(3);
}

#[track_caller]
fn assert_failed(task: &Task, step: &str, words: &[&str]) {
    assert_eq!(task.state(), TaskState::Failed, "{task:#?}");
    assert!(task.error.starts_with(&format!("{step}: ")), "{}", task.error);
    for word in words {
        assert!(task.error.contains(word), "expected {word:?}, saw {}", task.error);
    }
    let failed = of(task, step);
    assert_eq!(failed.state(), StepState::Failed);
    assert!(task.error.contains(&failed.error) && failed.end_time.is_some());
}

fn of<'a>(task: &'a Task, step: &str) -> &'a Step {
    task.steps.iter().find(|s| s.name == step).unwrap()
}

async fn struck(node: &PretendNode, mishap: &'static str) {
    within(node.wait_for(|events| events.last() == Some(&Event::Struck(mishap)))).await;
}

#[tokio::test]
async fn a_wrong_bmc_password_ends_the_task_at_once_and_says_so() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    for (id, work) in [("verify", Work::Verify(Verify::default())), ("inspect", Work::Inspect(Inspect {}))] {
        let mut spec = spec(&node, work);
        spec.machine.as_mut().unwrap().bmc_password = "guess".into();
        bench.start_task(id, 1, spec).await.unwrap();
        let task = bench.ended(id).await;
        let step = if id == "verify" { "verify_bmc" } else { "power_off" };
        assert_failed(&task, step, &["password", "admin", &node.bmc_address().to_string()]);
        assert!(!format!("{task:?}").contains("guess"));
    }
    assert_eq!(node.events(), []);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_machine_without_a_port_that_boots_is_refused_before_it_is_switched_off() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    let mut portless = spec(&node, Work::Inspect(Inspect {}));
    portless.machine.as_mut().unwrap().ports.clear();
    let status = bench.start_task("inspect", 1, portless).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("farrier port create"), "{status:?}");
    assert_eq!(node.events(), []);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn an_image_larger_than_the_disk_fails_before_a_byte_is_written_and_leaves_the_machine_off() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("big", 24 * MIB).await;
    let node = bench.node_with(1, |options| options.disk_bytes = 16 * MIB).await;
    let task = bench.run("deploy", 1, &node, deploy(&image, "anvil")).await;
    assert_failed(&task, "write_image", &["/dev/sda", "16777216"]);
    assert_eq!(node.counters().bytes_written, 0);
    assert_eq!(node.power().await, PowerState::Off);
    assert_eq!(node.events().last(), Some(&Event::PowerCut));
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_bmc_that_is_silent_for_a_while_delays_a_deployment_and_one_that_stays_so_fails_it() {
    let bench = Bench::start_with(|timeouts| {
        timeouts.bmc = Duration::from_secs(40);
        timeouts.bmc_call = Duration::from_secs(1);
        timeouts.soft_off = Duration::from_secs(2);
    })
    .await;
    let (image, content) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    let stall = Mishaps { stall_after_bytes: Some(8 * MIB), ..Mishaps::default() };
    let silent = Faults { silent: true, ..Faults::default() };

    node.set_mishaps(stall);
    bench.start_task("brief", 1, spec(&node, deploy(&image, "anvil"))).await.unwrap();
    struck(&node, "stall_after_bytes").await;
    node.set_faults(silent.clone());
    node.set_mishaps(Mishaps::default());
    bench.until("brief", |task| of(task, "agent_off").detail.contains("next try")).await;
    node.set_faults(Faults::default());
    let task = bench.ended("brief").await;
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    assert!(content.is_on(&node).await);
    bench.stop(vec![node]).await;

    let bench = impatient().await;
    let (image, _) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    node.set_mishaps(stall);
    bench.start_task("long", 1, spec(&node, deploy(&image, "anvil"))).await.unwrap();
    struck(&node, "stall_after_bytes").await;
    node.set_faults(silent);
    node.set_mishaps(Mishaps::default());
    let task = bench.ended("long").await;
    let still_on = "the machine could not be switched off: ";
    assert_failed(&task, "agent_off", &["BMC", &node.bmc_address().to_string()]);
    assert!(task.error.contains(still_on), "{}", task.error);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_machine_whose_agent_never_calls_is_given_up_and_switched_off() {
    let bench = Bench::start_with(|timeouts| {
        impatience(timeouts);
        timeouts.agent = Duration::from_secs(10);
    })
    .await;
    let node = bench.node(1).await;
    let mishaps = [
        ("hung", Mishaps { hang_before_agent: true, ..Mishaps::default() }, 0),
        ("lost", Mishaps { agent_never_calls: true, ..Mishaps::default() }, 1),
    ];
    for (fence, (id, mishap, network_boots)) in (1..).zip(mishaps) {
        node.set_mishaps(mishap);
        let task = bench.run(id, fence, &node, Work::Inspect(Inspect {})).await;
        assert_failed(&task, "wait_agent", &["not done within 10s", "boot-trace n1"]);
        assert_eq!(node.counters().network_boots, network_boots);
        assert_eq!(node.events().last(), Some(&Event::PowerCut));
    }
    // Nothing is left served: a person's power-on finds no ramdisk.
    node.set_mishaps(Mishaps::default());
    let on = Work::Power(Power { action: PowerAction::On.into() });
    assert_eq!(bench.run("on", 3, &node, on).await.state(), TaskState::Done);
    within(node.wait_for(|events| events.last() == Some(&Event::NothingToBoot))).await;
    bench.stop(vec![node]).await;
}

/// A switch's port came up late, or a storm took its packets: firmware gives up, and asks no more by itself.
#[tokio::test]
async fn a_machine_that_asked_for_nothing_is_switched_off_and_on_and_boots_from_the_network_once_more() {
    let bench = Bench::start_with(|timeouts| {
        impatience(timeouts);
        timeouts.agent = Duration::from_secs(30);
    })
    .await;
    let node = bench.node(1).await;
    // What it would start from if nobody told it otherwise again.
    farrier_sim::pretend::write_image(node.disk_path(), 16 * MIB, 1).unwrap();
    node.set_mishaps(Mishaps { hang_before_agent: true, ..Mishaps::default() });
    bench.start_task("inspect", 1, spec(&node, Work::Inspect(Inspect {}))).await.unwrap();
    struck(&node, "hang_before_agent").await;
    node.set_mishaps(Mishaps::default());
    let task = bench.ended("inspect").await;
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    assert_eq!(
        node.events(),
        [
            Event::PowerOn,
            Event::Struck("hang_before_agent"),
            Event::PowerCut,
            Event::PowerOn,
            Event::NetworkBoot,
            Event::AgentStarted,
            Event::SwitchedOff
        ]
    );
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_ramdisk_that_dies_while_it_writes_is_noticed_and_the_next_deployment_succeeds() {
    let bench = impatient().await;
    let (image, content) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    node.set_mishaps(Mishaps { die_after_bytes: Some(9 * MIB), ..Mishaps::default() });
    bench.start_task("first", 1, spec(&node, deploy(&image, "anvil"))).await.unwrap();
    bench
        .until("first", |task| of(task, "write_image").detail.contains("the agent is gone: it has 5s"))
        .await;
    let task = bench.ended("first").await;
    assert_failed(&task, "write_image", &["no agent for 5s"]);
    assert_eq!(node.power().await, PowerState::Off);
    assert_eq!(task.result.as_ref().map(|result| result.power_state()), Some(types::PowerState::Off));
    let written = node.counters().bytes_written;
    assert!((8 * MIB..=9 * MIB).contains(&written), "{written}");

    node.set_mishaps(Mishaps::default());
    let task = bench.run("second", 2, &node, deploy(&image, "anvil")).await;
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    assert!(content.is_on(&node).await);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_system_that_does_not_call_home_fails_the_deployment_and_is_left_running() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    node.set_mishaps(Mishaps { system_never_calls: true, ..Mishaps::default() });
    let mut work = deploy(&image, "anvil");
    if let Work::Deploy(deploy) = &mut work {
        deploy.ready_seconds = 2;
    }
    let task = bench.run("deploy", 1, &node, work).await;
    assert_failed(&task, "wait_system", &["phone-home", "within 2s"]);
    assert_eq!(node.power().await, PowerState::On);
    assert_eq!(node.events().last(), Some(&Event::Struck("system_never_calls")));
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn an_abort_in_mid_write_cuts_power_and_the_disk_keeps_what_was_written() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    node.set_mishaps(Mishaps { stall_after_bytes: Some(9 * MIB), ..Mishaps::default() });
    bench.start_task("deploy", 1, spec(&node, deploy(&image, "anvil"))).await.unwrap();
    struck(&node, "stall_after_bytes").await;
    let task = bench.abort("deploy", "the operator thinks better of it").await;
    assert_eq!((task.state(), task.error.as_str()), (TaskState::Aborted, "the operator thinks better of it"));
    assert_eq!(of(&task, "write_image").state(), StepState::Running);
    assert_eq!(node.events().last(), Some(&Event::PowerCut));
    assert_eq!(node.power().await, PowerState::Off);
    let before = node.disk_sha256(0..24 * MIB).await.unwrap();
    assert!(!content.is_on(&node).await && node.counters().bytes_written <= 9 * MIB);
    // Again: nothing more happens.
    assert_eq!(bench.abort("deploy", "once more").await.error, task.error);
    assert_eq!(node.disk_sha256(0..24 * MIB).await.unwrap(), before);

    node.set_mishaps(Mishaps::default());
    let task = bench.run("again", 2, &node, deploy(&image, "anvil")).await;
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    assert!(content.is_on(&node).await);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn an_id_is_one_task_and_an_older_fence_changes_nothing() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    let verify = || spec(&node, Work::Verify(Verify::default()));
    let done = bench.run("a", 5, &node, Work::Verify(Verify::default())).await;

    let known = bench.start_task("a", 5, verify()).await.unwrap();
    assert_eq!(known, done);
    let reused = bench.start_task("a", 6, verify()).await.unwrap_err();
    assert_eq!(reused.code(), Code::InvalidArgument);
    assert_eq!(reason_of(&reused).as_deref(), Some("REQUEST_ID_REUSED"));

    let on = || spec(&node, Work::Power(Power { action: PowerAction::On.into() }));
    let stale = bench.start_task("b", 4, on()).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert_eq!(reason_of(&stale).as_deref(), Some("STALE_FENCE"));
    assert_eq!(node.power().await, PowerState::Off);
    // The refused id is free for whoever owns the node.
    bench.start_task("b", 6, on()).await.unwrap();
    assert_eq!(bench.ended("b").await.state(), TaskState::Done);
    assert_eq!(node.power().await, PowerState::On);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_newer_owner_of_a_node_stops_the_older_ones_task_first() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    node.set_mishaps(Mishaps { stall_after_bytes: Some(8 * MIB), ..Mishaps::default() });
    bench.start_task("old", 1, spec(&node, deploy(&image, "anvil"))).await.unwrap();
    struck(&node, "stall_after_bytes").await;
    let new = bench.run("new", 2, &node, Work::Inspect(Inspect {})).await;
    assert_eq!(new.state(), TaskState::Done, "{}", new.error);
    let old = bench.ended("old").await;
    assert_eq!(old.state(), TaskState::Aborted);
    assert!(old.error.contains("newer operation"), "{}", old.error);
    assert_eq!(node.counters().agent_runs, 2);
    assert_eq!(node.power().await, PowerState::Off);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn a_restart_of_rackd_in_mid_write_costs_a_deployment_neither_a_boot_nor_a_byte() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    node.set_mishaps(Mishaps { stall_after_bytes: Some(8 * MIB), ..Mishaps::default() });
    bench.start_task("deploy", 1, spec(&node, deploy(&image, "anvil"))).await.unwrap();
    struck(&node, "stall_after_bytes").await;
    let bench = bench.restart_rackd().await;
    node.set_mishaps(Mishaps::default());
    let task = bench.ended("deploy").await;
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    assert_eq!(of(&task, "write_image").attempt, 2);
    assert!(content.is_on(&node).await);
    let counters = node.counters();
    assert_eq!((counters.network_boots, counters.agent_runs, counters.phone_homes), (1, 1, 1));
    assert!(counters.bytes_written < 24 * MIB, "{}", counters.bytes_written);
    bench.stop(vec![node]).await;
}

#[tokio::test]
async fn an_instance_gets_no_network_that_is_not_a_tenants() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", 24 * MIB).await;
    let node = bench.node(1).await;
    for network in ["provisioning", "nowhere"] {
        let Work::Deploy(deploy) = deploy(&image, "anvil") else { unreachable!() };
        let work = Work::Deploy(Deploy { network: network.to_owned(), ..deploy });
        let status = bench.start_task(network, 1, spec(&node, work)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(
            status.message().contains("expected a tenant network of this rack (it has none)")
                && status.message().contains(&format!("saw {network:?}")),
            "{status:?}"
        );
    }
    assert_eq!(node.events(), []);
    bench.stop(vec![node]).await;
}
