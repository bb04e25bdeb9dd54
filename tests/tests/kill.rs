//! Kill -9 at every step of a deployment: no operation is lost, no node is given twice, no step does harm
//! when it runs again.
//!
//! Real processes, real IPMI on the wire, the real agent; only the machines are pretended.

use crate::bench::within;
use crate::pretend_site::Site;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Deploy, Machine, StepState, TaskSpec, WatchTasksRequest};
use farrier_proto::scheduler::{InstanceState, Operation};
use farrier_proto::types::{BootInterface, DeployMethod};
use farrier_sim::lab::Service;
use std::collections::HashSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

/// The steps of a deployment, from rackd itself: a new step is tested without anybody thinking of it.
fn steps(method: DeployMethod) -> Vec<&'static str> {
    let deploy = Deploy { method: method.into(), ..Deploy::default() };
    farrier_rackd::step_names(&TaskSpec { machine: None, work: Some(Work::Deploy(deploy)) })
}

/// Everything that must be true after a deployment, whatever was killed meanwhile.
async fn assert_deployed(site: &Site, name: &str, operation: &Operation) {
    let instance = site.client.instance(name).await.unwrap();
    assert_eq!(instance.state(), InstanceState::Active, "{name}");
    assert_eq!(instance.placed_node, operation.node, "{name}");
    let node = site.client.node(operation.node.trim_start_matches("nodes/")).await.unwrap();
    assert_eq!(node.instance, format!("instances/{name}"));
    assert_eq!(node.operation, "", "nobody works on it any more");
    // It began once and ended once, whoever died in between.
    let events = site.client.events(&format!("operation={}", operation.name)).await.unwrap();
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["deploy", "done"], "{name}");
    match instance.method() {
        DeployMethod::Diskless => site.assert_system_read_image(&operation.node),
        _ => site.assert_disk_has_image(&operation.node).await,
    }
}

async fn assert_no_node_twice(site: &Site, names: &[String]) {
    let mut nodes = HashSet::new();
    for name in names {
        let instance = site.client.instance(name).await.unwrap();
        assert!(nodes.insert(instance.placed_node.clone()), "{} twice", instance.placed_node);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rackd_killed_before_and_after_every_step_goes_on() {
    let points = points(DeployMethod::Direct);
    rackd_killed(Site::start(points.len()).await, DeployMethod::Direct, points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rackd_killed_before_and_after_every_step_of_a_diskless_deployment_goes_on() {
    let points = points(DeployMethod::Diskless);
    rackd_killed(Site::diskless(points.len()).await, DeployMethod::Diskless, points).await;
}

/// A machine that boots from virtual media has steps of its own: its CD in and out.
#[tokio::test(flavor = "multi_thread")]
async fn rackd_killed_around_the_steps_of_virtual_media_goes_on() {
    let machine = Machine { boot_interface: BootInterface::VirtualMedia.into(), ..Machine::default() };
    let spec = TaskSpec { machine: Some(machine), work: Some(Work::Deploy(Deploy::default())) };
    let steps = farrier_rackd::step_names(&spec);
    let media = ["publish_ramdisk", "insert_cd", "wait_agent", "eject_cd"];
    assert!(media.iter().all(|step| steps.contains(step)), "{steps:?}");
    let points: Vec<String> = media.into_iter().flat_map(points_of).collect();
    let site = Site::media(points.len()).await;
    for node in &site.nodes {
        let counters = node.counters();
        assert_eq!((counters.network_boots, counters.media_boots), (0, 2), "inspection and cleaning");
    }
    rackd_killed(site, DeployMethod::Direct, points).await;
}

/// The method `iscsi` has the steps of `direct`; what it does in one of them is its own.
#[tokio::test(flavor = "multi_thread")]
async fn rackd_killed_around_the_copy_over_iscsi_goes_on() {
    assert_eq!(steps(DeployMethod::Iscsi), steps(DeployMethod::Direct));
    let mut points = points(DeployMethod::Iscsi);
    points.retain(|point| point.starts_with("write_image:"));
    assert_eq!(points.len(), 3);
    rackd_killed(Site::start(points.len()).await, DeployMethod::Iscsi, points).await;
}

/// And in the middle of it: bytes of the image are on the machine's disk, and its session is gone.
#[tokio::test(flavor = "multi_thread")]
async fn rackd_killed_in_the_copy_over_iscsi_goes_on() {
    let mut site = Site::start(1).await;
    let mut reports = RackServiceClient::new(site.scheduler_to_rack())
        .watch_tasks(WatchTasksRequest { after_sequence: site.rack_sequence().await })
        .await
        .unwrap()
        .into_inner();
    let operation = site.create_instance_by("i0", DeployMethod::Iscsi).await;
    loop {
        let task = reports.message().await.unwrap().expect("rackd stays up");
        let writes = task.steps.iter().find(|step| step.name == "write_image").map(|step| step.state());
        if matches!(writes, Some(StepState::Running | StepState::Done)) {
            break;
        }
    }
    site.installation.kill(Service::Rackd);
    site.installation.restart(Service::Rackd).await.unwrap();
    let operation = site.succeeds(operation, "the copy").await;
    assert_deployed(&site, "i0", &operation).await;
    site.shutdown().await;
}

fn points(method: DeployMethod) -> Vec<String> {
    steps(method).into_iter().flat_map(points_of).collect()
}

fn points_of(step: &str) -> [String; 3] {
    ["before", "after", "done"].map(|when| format!("{step}:{when}"))
}

async fn rackd_killed(mut site: Site, method: DeployMethod, points: Vec<String>) {
    let mut names = Vec::new();
    for (index, point) in points.iter().enumerate() {
        site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let name = format!("i{index}");
        let operation = site.create_instance_by(&name, method).await;
        // It kills itself at the point, as by kill -9: nothing is flushed, nothing is said.
        site.installation.wait_ended(Service::Rackd).await.unwrap();
        site.installation.restart(Service::Rackd).await.unwrap();
        let operation = site.succeeds(operation, point).await;
        assert_deployed(&site, &name, &operation).await;
        names.push(name);
    }
    assert_no_node_twice(&site, &names).await;
    site.shutdown().await;
}

/// The scheduler's own windows: between what it tells others and what it notes.
#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_killed_around_all_that_it_says_goes_on() {
    const POINTS: &[&str] = &[
        "reserve:before",
        "reserve:after",
        "start:before",
        "start:after",
        "close:before",
        "close:after",
        "close:done",
    ];
    let mut site = Site::start(POINTS.len()).await;
    let mut names = Vec::new();
    for (index, point) in POINTS.iter().enumerate() {
        site.installation.restart_with(Service::Scheduler, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let name = format!("i{index}");
        // It may die before it answers; what it has stored by then it does.
        let answer = site.try_create_instance(&name).await;
        site.installation.wait_ended(Service::Scheduler).await.unwrap();
        site.installation.restart(Service::Scheduler).await.unwrap();
        let operation = match answer {
            Ok(operation) => operation,
            Err(_) => {
                let stored = site.client.instance(&name).await.unwrap();
                site.client.operation(&stored.operation).await.unwrap()
            }
        };
        let operation = site.succeeds(operation, point).await;
        assert_deployed(&site, &name, &operation).await;
        names.push(name);
    }
    assert_no_node_twice(&site, &names).await;
    site.shutdown().await;
}

/// Inventory's own: what it writes of a deployment, its beginning and its end, just before and just after.
#[tokio::test(flavor = "multi_thread")]
async fn inventory_killed_around_all_that_it_writes_goes_on() {
    const POINTS: &[&str] = &["deploy:before", "deploy:after", "done:before", "done:after"];
    let mut site = Site::start(POINTS.len()).await;
    let mut names = Vec::new();
    for (index, point) in POINTS.iter().enumerate() {
        site.installation.restart_with(Service::Inventory, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let name = format!("i{index}");
        let operation = site.create_instance(&name).await;
        site.installation.wait_ended(Service::Inventory).await.unwrap();
        site.installation.restart(Service::Inventory).await.unwrap();
        let operation = site.succeeds(operation, point).await;
        assert_deployed(&site, &name, &operation).await;
        names.push(name);
    }
    assert_no_node_twice(&site, &names).await;
    site.shutdown().await;
}

/// Kills `service` while rackd waits before each step, and again when the step is done and journaled; one deployment a
/// step.
async fn centre_killed(service: Service) {
    let steps = steps(DeployMethod::Direct);
    let mut site = Site::start(steps.len()).await;
    let mut names = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let mut gate = Gate::new();
        let hold = format!("{step}={}", gate.dir.path().display());
        site.installation.restart_with(Service::Rackd, &[("FARRIER_HOLD_AT", &hold)]).await.unwrap();
        let name = format!("i{index}");
        let operation = site.create_instance(&name).await;
        for _before_and_done in 0..2 {
            gate.arrived().await;
            site.installation.kill(service);
            site.installation.restart(service).await.unwrap();
            gate.open().await;
        }
        let operation = site.succeeds(operation, step).await;
        assert_deployed(&site, &name, &operation).await;
        names.push(name);
    }
    assert_no_node_twice(&site, &names).await;
    site.shutdown().await;
}

/// Where rackd waits until it is let on (`services/runtime/src/crash.rs`).
struct Gate {
    dir: tempfile::TempDir,
    here: pipe::Receiver,
    go: pipe::Sender,
}

impl Gate {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = |name: &str| {
            let path = dir.path().join(name);
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        // Open at both ends: neither side waits for the other in open(2).
        let both = || pipe::OpenOptions::new().read_write(true).clone();
        let here = both().open_receiver(fifo("here")).unwrap();
        let go = both().open_sender(fifo("go")).unwrap();
        Self { dir, here, go }
    }

    async fn arrived(&mut self) {
        let mut byte = [0];
        within(self.here.read_exact(&mut byte)).await.unwrap();
    }

    async fn open(&mut self) {
        within(self.go.write_all(b".")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_killed_at_every_step_goes_on() {
    centre_killed(Service::Scheduler).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inventory_killed_at_every_step_goes_on() {
    centre_killed(Service::Inventory).await;
}
