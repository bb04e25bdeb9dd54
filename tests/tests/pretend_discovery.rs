//! A machine that nobody described is switched on: it boots the ramdisk, is found, accepted, verified, inspected.

use crate::pretend_site::{BMC_PASSWORD, Site};
use farrier_proto::inventory::DeleteNodeRequest;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::types::NodeVerb;
use farrier_sim::bmc::PowerState;
use farrier_sim::lab::Service;
use farrier_sim::pretend::{Event, PretendOptions};
use serde_json::Value;
use std::fs::File;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_machine_is_found_and_becomes_a_node() {
    let mut site = Site::enrolled(1).await;
    let mut nodes = NodeServiceClient::new(site.client.inventory.clone());
    nodes.delete_node(DeleteNodeRequest { name: "nodes/n0".into(), ..Default::default() }).await.unwrap();
    site.set_discovery().await;

    site.nodes[0].switch_on().await;
    let machine = found(&site).await;
    let (mac, bmc) = (site.nodes[0].mac_address(), site.nodes[0].bmc_address().to_string());
    assert_eq!(machine["name"], format!("discovered/{}", mac.replace(':', "-")));
    assert_eq!((&machine["rack"], &machine["boot_mac_address"]), (&"racks/r".into(), &mac.as_str().into()));
    assert_eq!(machine["hardware"]["system"]["serial_number"], "n0");
    switched_off(&site).await;

    // What was seen of it, as it was decided.
    let log = site.installation.farrier(&["rack", "dhcp", "log", "r", "--mac", &mac, "-o", "json"]).unwrap();
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&first["kind"], &first["mac_address"]), (&"unknown MAC".into(), &mac.as_str().into()));

    let password = site.dir.join("bmc-password");
    std::fs::write(&password, BMC_PASSWORD).unwrap();
    let accept =
        ["discovered", "accept", &mac, "--as", "found", "--bmc-driver", "ipmi", "--bmc-address", &bmc];
    let account = ["--bmc-user", "admin", "--bmc-password-file", password.to_str().unwrap(), "-o", "json"];
    let node = site.installation.farrier(&[&accept[..], &account].concat()).unwrap();
    let node: Value = serde_json::from_str(&node).unwrap();
    assert_eq!((&node["name"], &node["rack"]), (&"nodes/found".into(), &"racks/r".into()));
    assert_eq!(listed(&site), [] as [Value; 0]);
    for verb in [NodeVerb::Manage, NodeVerb::Inspect] {
        let operation = site.client.act("found", verb).await.unwrap();
        site.succeeds(operation, "a node that was discovered").await;
    }
    assert_eq!(site.nodes[0].counters().agent_runs, 2, "one of them discovered it, one inspected it");
    site.shutdown().await;
}

/// From the label on the crate to a password that nobody but inventory knows, whoever is killed on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_password_is_replaced_when_the_machine_is_first_managed() {
    let mut site = Site::enrolled(1).await;
    let mut nodes = NodeServiceClient::new(site.client.inventory.clone());
    nodes.delete_node(DeleteNodeRequest { name: "nodes/n0".into(), ..Default::default() }).await.unwrap();
    site.set_discovery().await;
    let (plan, ordered) = (site.dir.join("plan.yaml"), site.dir.join("ordered.csv"));
    std::fs::write(&plan, "rules:\n- { name: all, node_name: 'm-{serial}', bmc: { driver: ipmi, user: admin }, automatic: true }\n")
        .unwrap();
    let bmc = site.nodes[0].bmc_address();
    let list =
        format!("serial_number,bmc_address,bmc_password,default_password\nn0,{bmc},{BMC_PASSWORD},true\n");
    std::fs::write(&ordered, list).unwrap();
    let apply =
        ["discovered", "plan", "apply", plan.to_str().unwrap(), "--machines", ordered.to_str().unwrap()];
    site.installation.farrier(&apply).unwrap();
    site.nodes[0].switch_on().await;
    let made = async {
        while site.client.node("m-n0").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within(&site, "it becomes a node", made).await;
    let bmc_of = async || site.client.node("m-n0").await.unwrap().bmc.unwrap();
    assert!(bmc_of().await.default_password);
    let explained = site.installation.farrier(&["node", "explain", "m-n0"]).unwrap();
    assert!(explained.contains("a default password, which `manage` replaces"), "{explained}");

    // A policy of the BMC refuses it: nobody is locked out, and the next try makes another.
    let default = site.password();
    site.nodes[0].accounts().refuse_passwords(true);
    let refused = site.installation.farrier(&["node", "manage", "m-n0", "--wait"]).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
    assert_eq!(site.password(), default);
    let bmc = bmc_of().await;
    assert!(bmc.default_password && !bmc.rotation_pending);
    site.nodes[0].accounts().refuse_passwords(false);

    // Between the BMC and whoever should hear of it.
    site.installation
        .restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", "rotate_bmc_credentials:told")])
        .await
        .unwrap();
    let operation = site.client.act("m-n0", NodeVerb::Manage).await.unwrap();
    site.installation.wait_ended(Service::Rackd).await.unwrap();
    assert_ne!(site.password(), default);
    site.installation.restart(Service::Rackd).await.unwrap();
    site.succeeds(operation, "a default password").await;
    let bmc = bmc_of().await;
    assert!(!bmc.default_password && !bmc.rotation_pending && bmc.password_set);
    let replaced = site.password();
    assert_ne!(replaced, default);
    let history = site.installation.farrier(&["event", "list", "--resource", "m-n0", "-o", "json"]).unwrap();
    assert!(history.contains("the default password of its BMC is replaced"), "{history}");
    assert!(!history.contains(BMC_PASSWORD), "{history}");
    // What is known opens it, and a second `manage` has nothing to replace.
    let on = ["node", "power", "on", "m-n0", "--wait"];
    site.installation.farrier(&on).unwrap();
    assert_eq!(site.password(), replaced);
    site.shutdown().await;
}

/// Between a stranger's agent and the report of what it is: nobody else would ever switch it off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_rackd_strands_no_machine_that_is_being_discovered() {
    let mut site = strangers().await;
    let crash = [("FARRIER_CRASH_AT", "discovery:inspected")];
    site.installation.restart_with(Service::Rackd, &crash).await.unwrap();
    site.nodes[0].switch_on().await;
    within(&site, "the agent runs", site.nodes[0].wait_for(|all| all.contains(&Event::AgentStarted))).await;
    site.installation.wait_ended(Service::Rackd).await.unwrap();
    site.installation.restart(Service::Rackd).await.unwrap();
    found(&site).await;
    switched_off(&site).await;
    assert_eq!(site.nodes[0].counters().agent_runs, 1, "it is the same boot");
    // What was kept of it is gone with it.
    let kept = site.installation.data(Service::Rackd).join("discovered");
    let gone = async {
        while std::fs::read_dir(&kept).unwrap().next().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(&site, "nothing is left of it on disk", gone).await;

    // With a disk that has lost it, the machine starts again by itself, asks anew, and is found.
    let forget = |args: &[&str]| {
        site.installation.farrier(&[&["discovered", "forget"], args].concat()).unwrap();
        listed(&site).len()
    };
    assert_eq!(forget(&["--rack", "r", "--older-than", "30d"]), 1, "it was seen just now");
    assert_eq!(forget(&["--rack", "r", "--older-than", "0s", "--yes"]), 0);
    site.installation.restart_with(Service::Rackd, &crash).await.unwrap();
    site.nodes[0].switch_on().await;
    site.installation.wait_ended(Service::Rackd).await.unwrap();
    std::fs::remove_dir_all(&kept).unwrap();
    site.installation.restart(Service::Rackd).await.unwrap();
    within(&site, "it starts again", site.nodes[0].wait_for(|all| all.contains(&Event::Restarted))).await;
    found(&site).await;
    switched_off(&site).await;
    assert_eq!(site.nodes[0].counters().agent_runs, 3);
    site.shutdown().await;
}

/// Its firmware asks by an interface that is no port of its node. What it runs is somebody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_machine_that_asks_by_another_interface_goes_on_to_its_disk() {
    let mut site = Site::start(1).await;
    let mac = site.nodes[0].mac_address();
    let mut disk = File::options().write(true).open(site.nodes[0].disk_path()).unwrap();
    std::io::copy(&mut File::open(&site.image).unwrap(), &mut disk).unwrap();
    site.installation.farrier(&["port", "delete", &mac, "--yes"]).unwrap();
    site.set_discovery().await;
    let farrier = |args: &[&str]| site.installation.farrier(args).unwrap();
    let forgotten = async {
        while farrier(&["rack", "dhcp", "reservations", "r"]).contains(&mac) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within(&site, "its port is known no more", forgotten).await;

    let runs = site.nodes[0].counters().agent_runs;
    farrier(&["node", "boot-device", "set", "n0", "pxe"]);
    farrier(&["node", "power", "on", "n0", "--wait"]);
    within(&site, "its system runs", site.nodes[0].wait_for(|all| all.contains(&Event::DiskBoot))).await;
    let events = site.nodes[0].events();
    let on = events.iter().rposition(|event| *event == Event::PowerOn).unwrap();
    assert_eq!(
        events[on..][..5],
        [Event::PowerOn, Event::NetworkBoot, Event::AgentStarted, Event::Restarted, Event::DiskBoot]
    );
    assert_eq!(site.nodes[0].counters().agent_runs, runs + 1);
    assert_eq!(site.nodes[0].power().await, PowerState::On);
    // A pretend machine's serial number is none: that it is the node's is likely, and not proven.
    let machine = found(&site).await;
    assert!(machine["refused"].as_str().unwrap().contains("nodes/n0"), "{machine}");
    let history = farrier(&["event", "list", "--resource", "n0", "-o", "json"]);
    assert!(history.contains("identifiers conflict") && history.contains(&mac), "{history}");
    // Once more it goes on at once.
    farrier(&["node", "power", "off", "n0", "--wait", "--yes"]);
    farrier(&["node", "boot-device", "set", "n0", "pxe"]);
    farrier(&["node", "power", "on", "n0", "--wait"]);
    let twice = |all: &[Event]| all.iter().filter(|event| **event == Event::DiskBoot).count() == 2;
    within(&site, "its system runs again", site.nodes[0].wait_for(twice)).await;
    assert_eq!(site.nodes[0].counters().agent_runs, runs + 1);
    site.shutdown().await;
}

/// One machine, which nobody described, and which waits a second for a rackd that does not know it.
async fn strangers() -> Site {
    let hasty = |options: &mut PretendOptions| options.limits.unknown_patience = Duration::from_secs(1);
    let mut site = Site::enrolled_with(1, hasty).await;
    let mut nodes = NodeServiceClient::new(site.client.inventory.clone());
    nodes.delete_node(DeleteNodeRequest { name: "nodes/n0".into(), ..Default::default() }).await.unwrap();
    site.set_discovery().await;
    site
}

async fn switched_off(site: &Site) {
    let off = async {
        while site.nodes[0].power().await != PowerState::Off {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(site, "it switches itself off", off).await;
    assert_eq!(site.nodes[0].events().last(), Some(&Event::SwitchedOff));
}

/// The one machine that was discovered.
async fn found(site: &Site) -> Value {
    let search = async {
        loop {
            if let Some(machine) = listed(site).pop() {
                return machine;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within(site, "a machine is discovered", search).await
}

fn listed(site: &Site) -> Vec<Value> {
    let listed = site.installation.farrier(&["discovered", "list", "--rack", "r", "-o", "json"]).unwrap();
    serde_json::from_str(&listed).unwrap()
}

async fn within<T>(site: &Site, what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}\n{}", site.tails()))
}

const PATIENCE: Duration = Duration::from_secs(180);
