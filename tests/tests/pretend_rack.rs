//! rackd's whole task path over pretend nodes: every kind of task, one after another and many at once.

use std::time::Instant;

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Clean, Inspect, Power, PowerAction, StepState, Task, TaskState, Verify};
use farrier_proto::types;
use farrier_sim::bmc::PowerState;
use farrier_sim::pretend::Event;

use crate::bench::{Bench, deploy, spec};

#[track_caller]
fn assert_done(task: &Task) {
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    assert!(task.end_time.is_some());
    for step in &task.steps {
        assert_eq!(step.state(), StepState::Done, "{}", step.name);
        assert_eq!(step.attempt, 1, "{}: {}", step.name, step.detail);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_goes_through_every_kind_of_task() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 << 20).await;
    let node = bench.node(1).await;

    let verified = bench.run("verify", 1, &node, Work::Verify(Verify::default())).await;
    assert_done(&verified);
    assert_eq!(verified.result.unwrap().power_state(), types::PowerState::Off);
    assert_eq!(node.events(), []);

    let inspected = bench.run("inspect", 2, &node, Work::Inspect(Inspect {})).await;
    assert_done(&inspected);
    let hardware = inspected.result.unwrap().hardware.unwrap();
    assert_eq!(hardware.system.unwrap().serial_number, "n1");
    assert_eq!(hardware.nics[0].mac_address, node.mac_address());
    assert_eq!(node.power().await, PowerState::Off);

    let started = Instant::now();
    let deployed = bench.run("deploy-1", 3, &node, deploy(&image, "anvil")).await;
    eprintln!("one pretend deploy: {:.2?}", started.elapsed());
    assert_done(&deployed);
    let result = deployed.result.unwrap();
    assert_eq!(result.addresses, [node.address().to_string()]);
    assert_eq!(result.power_state(), types::PowerState::On);
    assert!(content.is_on(&node).await);
    assert_eq!(node.power().await, PowerState::On);
    let events = node.events();
    assert!(events.contains(&Event::SystemUp { hostname: "anvil".into() }), "{events:?}");
    assert!(events.contains(&Event::PhonedHome { instance: "deploy-1".into() }), "{events:?}");
    let counters = node.counters();
    // An inspection and a deployment, each in a ramdisk of its own; then the system.
    assert_eq!((counters.network_boots, counters.agent_runs), (2, 2));
    assert_eq!((counters.disk_boots, counters.phone_homes), (1, 1));
    assert_eq!(counters.power_transitions, 5);

    // The power button of a running system, and a restart from the disk that does not call home again.
    let power = |action: PowerAction| Work::Power(Power { action: action.into() });
    assert_done(&bench.run("soft", 4, &node, power(PowerAction::SoftOff)).await);
    assert_eq!(node.events().last(), Some(&Event::SwitchedOff));
    assert_done(&bench.run("on", 5, &node, power(PowerAction::On)).await);
    assert_done(&bench.run("cycle", 6, &node, power(PowerAction::Cycle)).await);
    node.wait_for(|events| events.iter().filter(|e| **e == Event::DiskBoot).count() == 3).await;
    assert_eq!(node.counters().phone_homes, 1);

    let cleaned = bench.run("clean", 7, &node, Work::Clean(Clean { full: true })).await;
    assert_done(&cleaned);
    assert_eq!(cleaned.result.unwrap().disks, ["/dev/sda"]);
    assert_eq!(node.power().await, PowerState::Off);
    let zeros = farrier_sim::pretend::file_sha256("/dev/zero".as_ref(), 0..256 << 20).unwrap();
    assert_eq!(node.disk_sha256(0..256 << 20).await.unwrap(), zeros);

    // And once more on the clean disk.
    assert_done(&bench.run("deploy-2", 8, &node, deploy(&image, "hammer")).await);
    assert!(content.is_on(&node).await);
    assert_eq!(node.counters().phone_homes, 2);
    bench.stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_are_deployed_at_once() {
    const NODES: u16 = 20;
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 << 20).await;
    let mut nodes = Vec::new();
    for index in 0..NODES {
        nodes.push(bench.node(index).await);
    }
    let started = Instant::now();
    for node in &nodes {
        let name = node.name();
        bench.start_task(&format!("deploy-{name}"), 1, spec(node, deploy(&image, name))).await.unwrap();
    }
    for node in &nodes {
        assert_done(&bench.ended(&format!("deploy-{}", node.name())).await);
    }
    eprintln!("{NODES} pretend deploys at once: {:.2?}", started.elapsed());
    for node in &nodes {
        assert!(content.is_on(node).await);
        let counters = node.counters();
        assert_eq!((counters.network_boots, counters.agent_runs, counters.phone_homes), (1, 1, 1));
        assert!(node.events().contains(&Event::SystemUp { hostname: node.name().into() }));
    }
    bench.stop(nodes).await;
}
