//! Kill -9 at every step of a snapshot and of a recovery: the disk is never lost, never offered to two machines, and
//! the work goes on.
//!
//! One instance moves from node to node, one step of the list a move. Real processes; only the machines are pretended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use crate::pretend_diskless::{guest, is_refused};
use crate::pretend_site::Site;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Deploy, Fence, Recovery, Snapshot, StepState, TaskSpec, WatchTasksRequest};
use farrier_proto::scheduler::{Instance, InstanceState, Operation};
use farrier_proto::types::{DeployMethod, ProvisionState};
use farrier_sim::lab::Service;
use farrier_sim::pretend::PretendNode;

fn steps_of(work: Work) -> Vec<&'static str> {
    farrier_rackd::step_names(&TaskSpec { machine: None, work: Some(work) })
}

/// Of both tasks of a recovery, from rackd itself.
fn recovery_steps() -> Vec<&'static str> {
    let attach = Deploy {
        method: DeployMethod::Diskless.into(),
        recovery: Some(Recovery::default()),
        ..Deploy::default()
    };
    [steps_of(Work::Fence(Fence::default())), steps_of(Work::Deploy(attach))].concat()
}

fn snapshot_steps() -> Vec<&'static str> {
    steps_of(Work::Snapshot(Snapshot::default()))
}

/// `web`, diskless, on one of the nodes, with something written to its disk.
async fn start(nodes: usize) -> (Site, usize) {
    let site = Site::start(nodes).await;
    let instance = Instance {
        name: "web".to_owned(),
        flavor: "flavors/any".to_owned(),
        image: "images/os".to_owned(),
        ready_seconds: 120,
        method: DeployMethod::Diskless.into(),
        ..Instance::default()
    };
    let operation = site.client.create_instance(instance).await.unwrap();
    let operation = site.client.wait(operation, |_| ()).await.unwrap();
    let at = site.nodes.iter().position(|n| operation.node.ends_with(n.name())).unwrap();
    guest(&site.nodes[at], &["write -P 0x42 1M 64k", "flush"]).await;
    (site, at)
}

/// The nodes that it goes to, one after another.
fn way(site: &Site, from: usize) -> Vec<usize> {
    (0..site.nodes.len()).filter(|i| *i != from).collect()
}

/// Everything that must be true after a recovery, whatever was killed meanwhile.
async fn assert_moved(site: &Site, operation: &Operation, old: &PretendNode, new: &PretendNode) {
    let known = old.san().unwrap();
    assert_eq!(operation.node, format!("nodes/{}", new.name()));
    let web = site.client.instance("web").await.unwrap();
    assert_eq!((web.state(), web.placed_node.as_str()), (InstanceState::Active, operation.node.as_str()));
    let (first, second) =
        (site.client.node(old.name()).await.unwrap(), site.client.node(new.name()).await.unwrap());
    assert_eq!((second.state(), second.instance.as_str()), (ProvisionState::Active, "instances/web"));
    // Dirty, and nobody's: a person goes on from there.
    assert_eq!((first.state(), first.instance.as_str()), (ProvisionState::CleanFailed, ""));
    assert_eq!((first.operation.as_str(), second.operation.as_str()), ("", ""));
    guest(new, &["read -P 0x42 1M 64k"]).await;
    assert!(is_refused(known).await, "{} still has the disk", old.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rackd_killed_before_and_after_every_step_of_a_recovery_goes_on() {
    let points: Vec<String> = recovery_steps()
        .into_iter()
        .flat_map(|step| ["before", "after", "done"].map(|when| format!("{step}:{when}")))
        .collect();
    let (mut site, mut at) = start(points.len() + 1).await;
    for (point, to) in points.iter().zip(way(&site, at)) {
        site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let onto = site.nodes[to].name().to_owned();
        let operation = site.client.recover_instance("web", &onto, false).await.unwrap();
        let died = site.installation.wait_ended(Service::Rackd).await;
        died.unwrap_or_else(|e| panic!("{point}: {e:#}\n{}", site.tails()));
        site.installation.restart(Service::Rackd).await.unwrap();
        let operation = site.succeeds(operation, point).await;
        assert_moved(&site, &operation, &site.nodes[at], &site.nodes[to]).await;
        at = to;
    }
    site.shutdown().await;
}

/// Kills `service` when rackd reports that a step has begun, and again when it is done; one recovery a step.
async fn centre_killed(service: Service) {
    let steps = recovery_steps();
    let (mut site, mut at) = start(steps.len() + 1).await;
    for (step, to) in steps.iter().zip(way(&site, at)) {
        // rackd's own word, not the scheduler's: the scheduler is what dies.
        let mut reports = RackServiceClient::new(site.scheduler_to_rack())
            .watch_tasks(WatchTasksRequest { after_sequence: site.rack_sequence().await })
            .await
            .unwrap()
            .into_inner();
        let onto = site.nodes[to].name().to_owned();
        let operation = site.client.recover_instance("web", &onto, false).await.unwrap();
        for wanted in [StepState::Running, StepState::Done] {
            let seen = loop {
                let task = reports.message().await.unwrap().expect("rackd stays up");
                let state = task.steps.iter().find(|s| s.name == *step).map(|s| s.state());
                // A quick step may be seen done at once.
                if let Some(state) = state.filter(|s| *s == wanted || *s == StepState::Done) {
                    break state;
                }
            };
            site.installation.kill(service);
            site.installation.restart(service).await.unwrap();
            if seen == StepState::Done {
                break;
            }
        }
        let operation = site.succeeds(operation, step).await;
        assert_moved(&site, &operation, &site.nodes[at], &site.nodes[to]).await;
        at = to;
    }
    site.shutdown().await;
}

/// The scheduler's own windows: between what it tells inventory of two nodes and what it notes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_killed_around_all_that_it_says_of_a_recovery_goes_on() {
    const POINTS: &[&str] = &[
        "recover_hold_from:after",
        "recover_hold_onto:after",
        "recover_attach:after",
        "recover_moved:after",
    ];
    let (mut site, mut at) = start(POINTS.len() + 1).await;
    for (point, to) in POINTS.iter().zip(way(&site, at)) {
        site.installation.restart_with(Service::Scheduler, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let onto = site.nodes[to].name().to_owned();
        // It may die before it answers; what it has stored by then it does.
        let answer = site.client.recover_instance("web", &onto, false).await;
        let died = site.installation.wait_ended(Service::Scheduler).await;
        died.unwrap_or_else(|e| panic!("{point}: {e:#}\n{}", site.tails()));
        site.installation.restart(Service::Scheduler).await.unwrap();
        let operation = match answer {
            Ok(operation) => operation,
            Err(_) => {
                let held = site.client.node(site.nodes[at].name()).await.unwrap();
                site.client.operation(&held.operation).await.unwrap()
            }
        };
        let operation = site.succeeds(operation, point).await;
        assert_moved(&site, &operation, &site.nodes[at], &site.nodes[to]).await;
        at = to;
    }
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_killed_at_every_step_of_a_recovery_goes_on() {
    centre_killed(Service::Scheduler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inventory_killed_at_every_step_of_a_recovery_goes_on() {
    centre_killed(Service::Inventory).await;
}

/// The snapshot is an image from which a machine could boot, and nothing is left of the work.
async fn assert_snapshot(site: &Site, image: &str, at: usize) {
    let node = site.client.node(site.nodes[at].name()).await.unwrap();
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::Active, ""));
    let shown = site.installation.farrier(&["image", "get", image, "-o", "json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["disk_bytes"].to_string().trim_matches('"').parse::<u64>().unwrap() > 0, "{shown}");
    let left = site.installation.data(Service::Rackd).join("snapshots");
    let left: Vec<_> = std::fs::read_dir(left).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    guest(&site.nodes[at], &["read -P 0x42 1M 64k"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_at_every_step_of_a_snapshot_it_goes_on() {
    let (mut site, at) = start(1).await;
    let points: Vec<String> = snapshot_steps()
        .into_iter()
        .flat_map(|step| ["before", "after", "done"].map(|when| format!("{step}:{when}")))
        .collect();
    for (index, point) in points.iter().enumerate() {
        site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let image = format!("rackd-{index}");
        let operation = site.client.snapshot_instance("web", &image).await.unwrap();
        let died = site.installation.wait_ended(Service::Rackd).await;
        died.unwrap_or_else(|e| panic!("{point}: {e:#}\n{}", site.tails()));
        site.installation.restart(Service::Rackd).await.unwrap();
        let ended = site.client.wait(operation, |_| ()).await;
        ended.unwrap_or_else(|e| panic!("{point}: {e:#}\n{}", site.tails()));
        assert_snapshot(&site, &image, at).await;
    }
    for service in [Service::Scheduler, Service::Inventory, Service::Images] {
        for step in snapshot_steps() {
            let mut reports = RackServiceClient::new(site.scheduler_to_rack())
                .watch_tasks(WatchTasksRequest { after_sequence: site.rack_sequence().await })
                .await
                .unwrap()
                .into_inner();
            let image = format!("{}-{}", service.name(), step.replace('_', "-"));
            let operation = site.client.snapshot_instance("web", &image).await.unwrap();
            loop {
                let task = reports.message().await.unwrap().expect("rackd stays up");
                let state = task.steps.iter().find(|s| s.name == step).map(|s| s.state());
                if matches!(state, Some(StepState::Running | StepState::Done)) {
                    break;
                }
            }
            site.installation.kill(service);
            site.installation.restart(service).await.unwrap();
            let ended = site.client.wait(operation, |_| ()).await;
            ended.unwrap_or_else(|e| panic!("{image}: {e:#}\n{}", site.tails()));
            assert_snapshot(&site, &image, at).await;
        }
    }
    site.shutdown().await;
}
