//! A rack whose centre is away: everything that is known boots, what was under way ends, and both are told when the link is back.

use crate::bench::within;
use crate::hall::in_a_hall;
use crate::pretend_site::{BMC_PASSWORD, Site, ipmitool};
use farrier_proto::inventory::DeleteNodeRequest;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::{
    GetRackStatusRequest, KnownMachines, ListReservationsRequest, ListTasksRequest, StepState, TaskState,
};
use farrier_proto::scheduler::Instance;
use farrier_proto::types::{DeployMethod, NodeVerb, ProvisionState};
use farrier_sim::lab::Service;
use farrier_sim::pretend::{self, Event, Mishaps, PretendOptions, Rom};
use std::time::Duration;

/// Of each kind: a system on the disk, a system on an iSCSI disk of the rack, a ramdisk that a task waits for, and a machine
/// that somebody described and nothing more.
const EACH: usize = 8;
const CENTRE: [Service; 3] = [Service::Inventory, Service::Scheduler, Service::Images];

/// By DHCP, TFTP, HTTP and iSCSI, each from a network card of its own, whose port the rack's switch moves.
#[test]
fn thirty_two_known_machines_boot_over_the_wire_while_no_service_of_the_centre_runs() {
    in_a_hall(4 * EACH as u8, |hall| async move {
        let diskless = |options: &mut PretendOptions| {
            options.diskless = kind(&options.name) == Kind::Diskless;
        };
        boot_without_a_centre(Site::enrolled_in(Some(hall), 4 * EACH, diskless).await).await;
    });
}

async fn boot_without_a_centre(mut site: Site) {
    let of = |site: &Site, wanted: Kind| -> Vec<String> {
        site.nodes.iter().map(|n| n.name().to_owned()).filter(|name| kind(name) == wanted).collect()
    };
    let (disk, diskless) = (of(&site, Kind::Disk), of(&site, Kind::Diskless));
    site.bring(
        &[disk.clone(), diskless.clone()].concat(),
        &[NodeVerb::Manage, NodeVerb::Inspect, NodeVerb::Provide],
    )
    .await;
    site.bring(&of(&site, Kind::Ramdisk), &[NodeVerb::Manage]).await;
    for (names, method) in [(disk, DeployMethod::Direct), (diskless, DeployMethod::Diskless)] {
        let mut deployments = Vec::new();
        for name in names {
            let instance = Instance {
                name: format!("i-{name}"),
                node: format!("nodes/{name}"),
                ..site.instance("", method)
            };
            deployments.push(site.client.create_instance(instance).await.unwrap());
        }
        for deployment in deployments {
            site.succeeds(deployment, "before the outage").await;
        }
    }
    // Inspections under way, whose machines have hung before the network heard of them.
    let mut inspections = Vec::new();
    for node in site.nodes.iter().filter(|node| kind(node.name()) == Kind::Ramdisk) {
        node.set_mishaps(Mishaps { hang_before_agent: true, ..Mishaps::default() });
        inspections.push(site.client.act(node.name(), NodeVerb::Inspect).await.unwrap());
    }
    within(agents_waited_for(&site, EACH)).await;
    // What a person put onto a disk that Farrier has never seen.
    for node in site.nodes.iter().filter(|node| kind(node.name()) == Kind::Untouched) {
        pretend::write_image(node.disk_path(), 16 << 20, 1).unwrap();
    }
    let before = within(known(&site, |known| known.port_count == 4 * EACH as i32)).await;

    CENTRE.into_iter().for_each(|service| site.installation.kill(service));
    site.installation.restart(Service::Rackd).await.unwrap();
    let now = within(known(&site, |_| true)).await;
    assert_eq!((now.generation, now.port_count, now.read_time), (before.generation, before.port_count, None));

    let seen: Vec<usize> = site.nodes.iter().map(|node| node.events().len()).collect();
    for node in &site.nodes {
        node.set_mishaps(Mishaps::default());
        ipmitool(node.bmc_address(), &["chassis", "bootdev", "pxe"]);
        let on = if kind(node.name()) == Kind::Untouched { "on" } else { "cycle" };
        ipmitool(node.bmc_address(), &["chassis", "power", on]);
    }
    for (node, seen) in site.nodes.iter().zip(seen) {
        let expected = match kind(node.name()) {
            Kind::Disk | Kind::Untouched => Event::DiskBoot,
            Kind::Diskless => Event::SanBoot,
            Kind::Ramdisk => Event::AgentStarted,
        };
        let booted = node.wait_for(|events| events.iter().skip(seen).any(|event| *event == expected));
        let booted = tokio::time::timeout(Duration::from_secs(120), booted).await;
        booted.unwrap_or_else(|_| {
            panic!("{} did not boot: {:?}\n{}", node.name(), node.events().split_off(seen), site.tails())
        });
    }
    for node in &site.nodes {
        let trace = site.client.boot_trace(&node.mac_address()).await.unwrap();
        let has = |kind: &str| trace.iter().any(|event| event.kind.starts_with(kind));
        let (kind, rom) = (kind(node.name()), node.lan().unwrap().rom);
        // What starts from its disk is told so by having no boot file, or by a script where it has iPXE.
        let fetches = matches!(kind, Kind::Diskless | Kind::Ramdisk);
        assert!(has("DHCPACK"), "{trace:#?}");
        assert_eq!(has("TFTP done"), fetches && rom == Rom::Pxe, "{kind:?} {trace:#?}");
        assert_eq!(has("HTTP boot script"), fetches || rom == Rom::Ipxe, "{kind:?} {trace:#?}");
        // And what came after the script.
        assert_eq!(has("iSCSI login"), kind == Kind::Diskless, "{kind:?} {trace:#?}");
        assert_eq!(has("agent registered"), kind == Kind::Ramdisk, "{kind:?} {trace:#?}");
        let [net @ .., _] = node.address().octets();
        let tenant = matches!(kind, Kind::Disk | Kind::Diskless);
        assert_eq!(net, if tenant { [10, 91, 0] } else { [10, 90, 0] }, "{kind:?}");
    }
    within(all_ended(&site)).await;
    // Whose task has ended is a known machine like the others.
    let all_are_known = async {
        while site.nodes.len() != reserved(&site).await.len() {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(all_are_known).await;

    // The link is back: what happened meanwhile is told, and what changed there is heard here.
    for service in CENTRE {
        site.installation.restart(service).await.unwrap();
    }
    for inspection in inspections {
        let operation = site.succeeds(inspection, "an inspection over an outage").await;
        let node = site.client.node(operation.node.trim_start_matches("nodes/")).await.unwrap();
        assert_eq!(node.state(), ProvisionState::Manageable);
        assert!(node.hardware.is_some(), "{node:?}");
    }
    let gone = site.nodes.last().unwrap();
    let delete = DeleteNodeRequest { name: format!("nodes/{}", gone.name()), ..Default::default() };
    NodeServiceClient::new(site.client.inventory.clone()).delete_node(delete).await.unwrap();
    within(known(&site, |known| known.generation > before.generation && known.read_time.is_some())).await;
    let reserved = reserved(&site).await;
    assert!(!reserved.contains(&gone.mac_address()), "{reserved:?}");
    assert!(reserved.contains(&site.nodes[4 * EACH - 2].mac_address()), "{reserved:?}");
    site.shutdown().await;
}

/// What inventory told of BMCs is kept, sealed: power is looked at and consoles are kept also by a rackd that has not met the
/// centre since it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rack_that_restarts_without_its_centre_goes_on_looking_at_power_and_keeping_consoles() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.set_console_log("always").await;
    within(site.nodes[0].serial_port().wait_connected()).await;
    let kept = site.installation.data(Service::Rackd).join("bmcs.sealed");
    let sealed = std::fs::read(kept).unwrap();
    assert!(!sealed.windows(BMC_PASSWORD.len()).any(|bytes| bytes == BMC_PASSWORD.as_bytes()));

    CENTRE.into_iter().for_each(|service| site.installation.kill(service));
    site.installation.kill(Service::Rackd);
    let bmc = site.nodes[0].ipmi().unwrap();
    // The sessions of the rackd that is gone would end by themselves, a minute later.
    bmc.forget_sessions();
    let (consoles, log_ins) = (bmc.consoles(), bmc.log_ins());
    site.installation.restart(Service::Rackd).await.unwrap();
    let bmc = site.nodes[0].ipmi().unwrap();
    let again = async {
        while bmc.consoles() == consoles {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(again).await;
    // One session for the commands, by which its power is read, and one for the console.
    assert!(bmc.log_ins() >= log_ins + 2, "{} {log_ins}", bmc.log_ins());
    let log = site.installation.data(Service::Rackd).join("consoles/n0");
    let written = async {
        while !said(&log).contains("without a centre") {
            site.nodes[0].serial_port().say("without a centre\r\n");
            tokio::time::sleep(LOOK).await;
        }
    };
    within(written).await;
    for service in CENTRE {
        site.installation.restart(service).await.unwrap();
    }
    site.shutdown().await;
}

/// Everything that a console's log has on disk.
fn said(log: &std::path::Path) -> String {
    let files = std::fs::read_dir(log).into_iter().flatten().flatten();
    files
        .map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned())
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Disk,
    Diskless,
    Ramdisk,
    Untouched,
}

fn kind(name: &str) -> Kind {
    let index: usize = name.trim_start_matches('n').parse().unwrap();
    [Kind::Disk, Kind::Diskless, Kind::Ramdisk, Kind::Untouched][index / EACH]
}

/// Until so many tasks wait for the agent of their machines.
async fn agents_waited_for(site: &Site, count: usize) {
    let mut rack = RackServiceClient::new(site.scheduler_to_rack());
    loop {
        let request = ListTasksRequest { page_size: 1000, unfinished: true, ..Default::default() };
        let tasks = rack.list_tasks(request).await.unwrap().into_inner().tasks;
        let waits = |step: &farrier_proto::rack::Step| {
            step.name == "wait_agent" && step.state() == StepState::Running
        };
        if tasks.iter().filter(|task| task.steps.iter().any(waits)).count() == count {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Until no task is under way; those that were have done what they were for.
async fn all_ended(site: &Site) {
    let mut rack = RackServiceClient::new(site.scheduler_to_rack());
    loop {
        let request = ListTasksRequest { page_size: 1000, ..Default::default() };
        let tasks = rack.list_tasks(request).await.unwrap().into_inner().tasks;
        if tasks.iter().all(|task| task.state() != TaskState::Running) {
            assert!(tasks.iter().all(|task| task.state() == TaskState::Done), "{tasks:#?}");
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn known(site: &Site, wanted: impl Fn(&KnownMachines) -> bool) -> KnownMachines {
    let mut rack = RackServiceClient::new(site.scheduler_to_rack());
    loop {
        let status = rack.get_rack_status(GetRackStatusRequest {}).await.unwrap().into_inner();
        if let Some(known) = status.known_machines.filter(|known| wanted(known)) {
            return known;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// MAC addresses that the boot servers know.
async fn reserved(site: &Site) -> Vec<String> {
    let mut rack = RackServiceClient::new(site.scheduler_to_rack());
    let request = ListReservationsRequest { page_size: 1000, ..Default::default() };
    let listed = rack.list_reservations(request).await.unwrap().into_inner();
    listed.reservations.into_iter().map(|reservation| reservation.mac_address).collect()
}

/// Between two looks at what has no events.
const LOOK: Duration = Duration::from_millis(100);
