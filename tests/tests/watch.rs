//! What somebody else does to a machine, seen by its rack: with ipmitool, behind Farrier's back.

use std::process::Command;
use std::time::Duration;

use farrier_proto::rack::StepState;
use farrier_proto::scheduler::Instance;
use farrier_proto::types::{DeployMethod, NodeVerb};
use farrier_sim::bmc::{ChassisStatus, Faults};
use farrier_sim::lab::Service;
use farrier_sim::pretend::Mishaps;
use serde_json::Value;

use crate::bench::within;
use crate::pretend_site::{BMC_PASSWORD, Site, ipmitool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_somebody_else_switches_is_in_the_history_and_left_as_it_is() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.installation.farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    site.set_watch(1).await;
    let node = until(&site, |node| node["observation"]["power_state"] == "on").await;
    assert_eq!(node["observation"]["power_differs"], false, "{node}");
    assert_eq!(
        (&node["observation"]["bmc_health"], &node["observation"]["driver"]),
        (&"ok".into(), &"ipmi".into())
    );

    ipmitool(site.nodes[0].bmc_address(), &["chassis", "power", "off"]);
    let node = until(&site, |node| node["observation"]["power_differs"] == true).await;
    assert_eq!((&node["power_state"], &node["observation"]["power_state"]), (&"on".into(), &"off".into()));
    let listed = site.installation.farrier(&["node", "list"]).unwrap();
    assert!(listed.contains("off (left on)"), "{listed}");
    let explained = site.installation.farrier(&["node", "explain", "n0"]).unwrap();
    assert!(explained.contains("Farrier did not do that"), "{explained}");
    // Looked at again, it is told no second time, and nobody switched it back.
    let first = node["observation"]["bmc_time"].clone();
    until(&site, |node| node["observation"]["bmc_time"] != first).await;
    assert_eq!(told(&site), ["power differs: on off"]);
    site.installation.farrier(&["node", "power", "off", "n0", "--wait", "--yes"]).unwrap();
    until(&site, |node| node["observation"]["power_differs"] == false).await;

    // What happens while inventory is away is told when it is back.
    site.installation.kill(Service::Inventory);
    ipmitool(site.nodes[0].bmc_address(), &["chassis", "power", "on"]);
    site.installation.restart(Service::Inventory).await.unwrap();
    until(&site, |node| node["observation"]["power_differs"] == true).await;

    site.nodes[0].set_faults(Faults { silent: true, ..Faults::default() });
    let node = until(&site, |node| node["observation"]["bmc_health"] == "unreachable").await;
    let problem = node["observation"]["bmc_problem"].as_str().unwrap();
    assert!(problem.contains("check that the BMC is powered"), "{problem}");
    site.nodes[0].set_faults(Faults::default());
    until(&site, |node| node["observation"]["bmc_health"] == "ok").await;
    let history =
        ["power differs: on off", "power agrees: off off", "power differs: off on", "bmc lost", "bmc back"];
    assert_eq!(told(&site), history);
    site.shutdown().await;
}

/// A round takes a minute; a BMC that tells events is looked at with each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bmc_tells_by_itself_is_seen_between_two_rounds() {
    let mut site = Site::enrolled(0).await;
    let (service, _) = site.create_redfish("n0", "redfish", |config| config, &[]).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.set_watch(60).await;
    within(async {
        while service.listeners().await == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let mut seen = Vec::new();
    for (reset, state) in [("On", "on"), ("ForceOff", "off"), ("On", "on"), ("ForceOff", "off")] {
        let url = format!("http://{}/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", service.address());
        let body = format!(r#"{{"ResetType": "{reset}"}}"#);
        let status = Command::new("curl")
            .args([
                "-sS",
                "--fail",
                "-u",
                &format!("admin:{BMC_PASSWORD}"),
                "-H",
                "Content-Type: application/json",
            ])
            .args(["-d", &body, &url])
            .status();
        assert!(status.expect("curl is not installed: apt-get install curl").success());
        until(&site, |node| node["observation"]["power_state"] == state).await;
        let node = site.client.node("n0").await.unwrap();
        seen.push(node.observation.unwrap().power_time.unwrap().seconds);
    }
    // Rounds look at it twice in 36 s at most.
    let took = seen[3] - seen[0];
    assert!(took < 36, "{took} s: four changes, and not two looks of rounds");
    service.shutdown().await;
    site.shutdown().await;
}

/// What a BMC makes of its machine is told at each change, and so is that it is another machine: nothing is corrected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ill_machine_and_another_machine_are_in_the_history() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.set_watch(1).await;
    let node = until(&site, |node| node["observation"]["machine_health"] == "ok").await;
    let first = node["observation"]["machine"]["uuid"].as_str().unwrap().to_owned();
    assert_eq!(first.len(), 36, "{node}");

    let chassis = ChassisStatus { drive_fault: true, ..ChassisStatus::default() };
    site.nodes[0].set_faults(Faults { chassis, ..Faults::default() });
    let node = until(&site, |node| node["observation"]["machine_health"] == "critical").await;
    assert_eq!(node["observation"]["machine_problem"], "drive fault", "{node}");
    let status = ipmitool(site.nodes[0].bmc_address(), &["chassis", "status"]);
    let seen = status.lines().find(|line| line.starts_with("Drive Fault")).unwrap();
    assert!(seen.ends_with("true"), "ipmitool sees it too: {status}");
    let explained = site.installation.farrier(&["node", "explain", "n0"]).unwrap();
    assert!(explained.contains("its health is critical"), "{explained}");
    site.nodes[0].set_faults(Faults::default());
    until(&site, |node| node["observation"]["machine_health"] == "ok").await;

    // It is away, and what comes back is another board.
    site.nodes[0].set_faults(Faults { silent: true, ..Faults::default() });
    until(&site, |node| node["observation"]["bmc_health"] == "unreachable").await;
    let guid = Some([0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    site.nodes[0].set_faults(Faults { guid, ..Faults::default() });
    let node = until(&site, |node| !node["observation"]["other_machine"].is_null()).await;
    let observation = &node["observation"];
    assert_eq!(observation["other_machine"]["uuid"], "42010203-0405-0607-0809-0a0b0c0d0e0f", "{node}");
    assert_eq!(observation["machine"]["uuid"], first.as_str(), "{node}");
    let explained = site.installation.farrier(&["node", "explain", "n0"]).unwrap();
    assert!(explained.contains("another machine answers at its BMC's address"), "{explained}");
    // And the first again.
    site.nodes[0].set_faults(Faults { silent: true, ..Faults::default() });
    until(&site, |node| node["observation"]["bmc_health"] == "unreachable").await;
    site.nodes[0].set_faults(Faults::default());
    until(&site, |node| node["observation"]["other_machine"].is_null()).await;
    let told: Vec<_> =
        told(&site).into_iter().map(|told| told.split(':').next().unwrap().to_owned()).collect();
    let history = [
        "machine health",
        "machine health",
        "bmc lost",
        "bmc back",
        "another machine",
        "bmc lost",
        "bmc back",
        "same machine",
    ];
    assert_eq!(told, history);
    site.shutdown().await;
}

/// Farrier switches the machine of failed work off: that is no news, and nobody else's doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_farrier_switches_off_after_a_failure_is_its_own_doing() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.set_timeouts(&[("agent_seconds", 3)]).await;
    site.set_watch(1).await;
    site.nodes[0].set_mishaps(Mishaps { agent_never_calls: true, ..Mishaps::default() });
    let failed = site.installation.farrier(&["node", "inspect", "n0", "--wait"]);
    assert!(failed.is_err(), "{failed:?}");
    let node = until(&site, |node| node["state"] == "inspect failed").await;
    assert_eq!(node["power_state"], "off", "{node}");
    // Two looks that began after it.
    for _ in 0..2 {
        let before = until(&site, |_| true).await["observation"]["power_time"].clone();
        let after = until(&site, |node| node["observation"]["power_time"] != before).await;
        assert_eq!(after["observation"]["power_differs"], false, "{after}");
    }
    assert_eq!(told(&site), Vec::<String>::new());
    site.shutdown().await;
}

/// A task that waits for the installed system hides nothing of its machine, and what somebody does to it is told and left so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_system_is_waited_for_is_looked_at_meanwhile() {
    let mut site = Site::start(1).await;
    site.set_watch(1).await;
    site.nodes[0].set_mishaps(Mishaps { system_never_calls: true, ..Mishaps::default() });
    let asked = Instance { ready_seconds: 1800, ..site.instance("web", DeployMethod::Unspecified) };
    let operation = site.client.create_instance(asked).await.unwrap().name;
    until_at(&site, &operation, "wait_system").await;
    let chassis = ChassisStatus { drive_fault: true, ..ChassisStatus::default() };
    site.nodes[0].set_faults(Faults { chassis, ..Faults::default() });
    let node = until(&site, |node| node["observation"]["machine_health"] == "critical").await;
    assert_eq!(node["observation"]["power_state"], "on", "{node}");
    ipmitool(site.nodes[0].bmc_address(), &["chassis", "power", "off"]);
    let node = until(&site, |node| node["observation"]["power_state"] == "off").await;
    assert_eq!(node["observation"]["power_differs"], true, "{node}");
    assert_eq!(node["observation"]["power_differs_operation"], operation.as_str(), "{node}");
    assert!(is_at(&site, &operation, "wait_system").await, "it is still waited for");
    let told = told(&site);
    assert!(told.iter().any(|told| told.starts_with("machine health")), "{told:?}");
    let power: Vec<_> = told.iter().filter(|told| told.starts_with("power")).collect();
    assert_eq!(power, ["power differs: on off"], "{told:?}");
    assert!(!told.iter().any(|told| told.starts_with("bmc")), "{told:?}");
    site.shutdown().await;
}

/// What Farrier does to the machine on its way is no news; what somebody does while its ramdisk is waited for is, each time once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_button_that_is_pressed_while_a_ramdisk_is_waited_for_is_told_and_nothing_else() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    // Left on: the inspection switches it off and on.
    site.installation.farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    site.set_watch(1).await;
    until(&site, |node| node["observation"]["power_state"] == "on").await;
    site.nodes[0].set_mishaps(Mishaps { agent_never_calls: true, ..Mishaps::default() });
    let operation = site.client.act("n0", NodeVerb::Inspect).await.unwrap().name;
    until_at(&site, &operation, "wait_agent").await;
    let seen = async |power: &'static str| {
        ipmitool(site.nodes[0].bmc_address(), &["chassis", "power", power]);
        let node = until(&site, |node| node["observation"]["power_state"] == power).await;
        // Looked at again, it is told no second time.
        let first = node["observation"]["power_time"].clone();
        until(&site, |node| node["observation"]["power_time"] != first).await
    };
    let node = seen("off").await;
    assert_eq!(node["observation"]["power_differs"], true, "{node}");
    let listed = site.installation.farrier(&["node", "list"]).unwrap();
    assert!(listed.contains("off (left on)"), "{listed}");
    let explained = site.installation.farrier(&["node", "explain", "n0"]).unwrap();
    assert!(explained.contains("its work left it on, and Farrier did not do that"), "{explained}");
    let events = site.installation.farrier(&["event", "list", "--resource", "n0", "-o", "json"]).unwrap();
    assert!(events.contains(&format!("while {operation} waits at wait_agent")), "{events}");
    let node = seen("on").await;
    assert_eq!(node["observation"]["power_differs"], false, "{node}");
    assert!(
        is_at(&site, &operation, "wait_agent").await,
        "nobody corrected anything, and it is still waited for"
    );
    assert_eq!(told(&site), ["power differs: on off", "power agrees: off on"]);

    // The work is ended, which switches the machine off: Farrier's own doing.
    site.installation.farrier(&["node", "abort", "n0", "--yes"]).unwrap();
    until(&site, |node| node["observation"]["power_state"] == "off" && node["operation"] == "").await;
    assert_eq!(told(&site), ["power differs: on off", "power agrees: off on"]);
    site.shutdown().await;
}

/// Whether an operation is in the middle of a step. It has not ended.
async fn is_at(site: &Site, operation: &str, step: &str) -> bool {
    let operation = site.client.operation(operation).await.unwrap();
    assert!(!operation.done, "{operation:?}");
    operation.steps.iter().any(|one| one.name == step && one.state() == StepState::Running)
}

async fn until_at(site: &Site, operation: &str, step: &str) {
    within(async {
        while !is_at(site, operation, step).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

/// Where the policy says so, power is put back as Farrier left it, and never against Farrier's own work or in maintenance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_is_kept_is_put_back_and_maintenance_is_left_alone() {
    let mut site = Site::enrolled(2).await;
    let farrier = |words: &[&str]| site.installation.farrier(words).unwrap();
    farrier(&["node", "update", "n0", "--power-policy", "keep"]);
    for name in ["n0", "n1"] {
        farrier(&["node", "manage", name, "--wait"]);
        farrier(&["node", "power", "on", name, "--wait"]);
    }
    site.set_watch(1).await;
    let farrier = |words: &[&str]| site.installation.farrier(words).unwrap();
    // It is known to differ, and has no try behind it, when it is taken into maintenance and its power is to be kept.
    until_of(&site, "n1", |node| node["observation"]["power_state"] == "on").await;
    ipmitool(site.nodes[1].bmc_address(), &["chassis", "power", "off"]);
    until_of(&site, "n1", |node| node["observation"]["power_differs"] == true).await;
    farrier(&["node", "maintenance", "on", "n1"]);
    farrier(&["node", "update", "n1", "--power-policy", "keep"]);

    until(&site, |node| node["observation"]["power_state"] == "on").await;
    ipmitool(site.nodes[0].bmc_address(), &["chassis", "power", "off"]);
    until(&site, |node| node["observation"]["power_state"] == "off").await;
    until(&site, |node| node["observation"]["power_state"] == "on").await;
    let listed = farrier(&["event", "list", "--resource", "n0", "-o", "json"]);
    for words in ["Farrier puts it back", "keep power", "try 1 of 3 within a day: expected on, saw off"] {
        assert!(listed.contains(words), "expected {words:?} in {listed}");
    }
    // One look works through both.
    assert_eq!((tries(&site, "n0"), tries(&site, "n1")), (1, 0), "{}", site.tails());
    assert_eq!(site.nodes[1].power().await, farrier_sim::bmc::PowerState::Off);
    let node = until_of(&site, "n1", |_| true).await;
    assert_eq!(node["observation"]["power_differs"], true, "{node}");

    // What Farrier itself does is what is kept then.
    farrier(&["node", "power", "off", "n0", "--wait", "--yes"]);
    let node = until(&site, |node| node["observation"]["power_state"] == "off").await;
    assert_eq!(node["observation"]["power_differs"], false, "{node}");

    // Nothing but maintenance kept the other one as it was.
    farrier(&["node", "maintenance", "off", "n1"]);
    until_of(&site, "n1", |node| node["observation"]["power_state"] == "on").await;
    assert_eq!((tries(&site, "n0"), tries(&site, "n1")), (1, 1), "{}", site.tails());
    assert_eq!(site.nodes[0].power().await, farrier_sim::bmc::PowerState::Off);
    site.shutdown().await;
}

/// How often the scheduler itself switched it.
fn tries(site: &Site, name: &str) -> usize {
    let listed = site.installation.farrier(&["operation", "list", "-o", "json"]).unwrap();
    let operations: Value = serde_json::from_str(&listed).unwrap();
    let node = format!("nodes/{name}");
    let ours = |operation: &&Value| {
        operation["actor"] == "spiffe://farrier/service/scheduler" && operation["node"] == node.as_str()
    };
    operations.as_array().unwrap().iter().filter(ours).count()
}

/// The node, when it is as it should be.
async fn until(site: &Site, wanted: impl Fn(&Value) -> bool) -> Value {
    until_of(site, "n0", wanted).await
}

/// Another node, likewise.
async fn until_of(site: &Site, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let shown = site.installation.farrier(&["node", "get", name, "-o", "json"]);
            let shown = shown.unwrap_or_else(|error| panic!("{error:#}\n{}", site.tails()));
            let node: Value = serde_json::from_str(&shown).unwrap();
            if wanted(&node) {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

/// What the rack's observations led to, with power before and after.
fn told(site: &Site) -> Vec<String> {
    let listed = site.installation.farrier(&["event", "list", "--resource", "n0", "-o", "json"]).unwrap();
    let events: Value = serde_json::from_str(&listed).unwrap();
    let mut seen: Vec<(i64, String)> = Vec::new();
    for event in events.as_array().unwrap() {
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let (action, before, after) = (word("action"), word("before"), word("after"));
        if word("actor") == "spiffe://farrier/rack/r" {
            let power = if after.is_empty() { String::new() } else { format!(": {before} {after}") };
            seen.push((event["sequence"].as_i64().unwrap(), action + &power));
        }
    }
    seen.sort_unstable();
    seen.into_iter().map(|(_, told)| told).collect()
}
