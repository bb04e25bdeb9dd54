//! One resource of the tree is broken, each in turn: what does not depend on it is answered all the same.

use std::collections::BTreeSet;

use base64::Engine as _;
use farrier_sim::bmc::redfish::{Breakage, Broken};
use serde_json::Value;
use tokio::net::TcpStream;

use super::*;

const BREAKAGES: [Breakage; 4] =
    [Breakage::Status(404), Breakage::Status(500), Breakage::NotJson, Breakage::WrongTypes];

/// What can be read, and the resources below `/redfish/v1` that it cannot be read without; `*`: and all below.
const READS: &[(&str, &[&str])] = &[
    ("power", SYSTEM),
    ("boot device", SYSTEM),
    ("identity", SYSTEM),
    ("inventory", SYSTEM),
    ("LED", SYSTEM),
    ("sensors", &["", "/Systems", "/Systems/1", "/Chassis/1"]),
    (
        "power draw",
        &["", "/Systems", "/Systems/1", "/Chassis/1", "/Chassis/1/Power", "/Chassis/1/EnvironmentMetrics"],
    ),
    ("event log", &["", "/Systems", "/Systems/1", "/Systems/1/LogServices*"]),
    ("BMC network", &["", "/Systems", "/Systems/1", "/Managers/1", "/Managers/1/EthernetInterfaces*"]),
    ("BIOS settings", &["", "/Systems", "/Systems/1", "/Systems/1/Bios"]),
    ("accounts", &["", "/AccountService", "/AccountService/Accounts", "/AccountService/Accounts/2"]),
    ("firmware", &["", "/UpdateService", "/UpdateService/FirmwareInventory"]),
    ("virtual media", &["", "/Systems", "/Systems/1", "/Managers/1", "/Managers/1/VirtualMedia*"]),
    ("Secure Boot", &["", "/Systems", "/Systems/1", "/Systems/1/SecureBoot"]),
];
const SYSTEM: &[&str] = &["", "/Systems", "/Systems/1"];

async fn read(bmc: &Bmc, what: &str) -> Result<(), BmcError> {
    match what {
        "power" => bmc.power_status(soon()).await.map(drop),
        "boot device" => bmc.boot_device(soon()).await.map(drop),
        "identity" => bmc.identity(soon()).await.map(drop),
        "inventory" => bmc.inventory(soon()).await.map(drop),
        "LED" => bmc.identify(Led::Off, soon()).await,
        "sensors" => bmc.sensors(soon()).await.map(drop),
        "power draw" => bmc.power_draw(soon()).await.map(drop),
        "event log" => bmc.event_log(9, soon()).await.map(drop),
        "BMC network" => bmc.network(soon()).await.map(drop),
        "BIOS settings" => bmc.bios(soon()).await.map(drop),
        "accounts" => bmc.has_account(USER, soon()).await.map(|has| assert!(has)),
        "firmware" => bmc.firmware(soon()).await.map(drop),
        "virtual media" => bmc.media(soon()).await.map(drop),
        "Secure Boot" => bmc.secure_boot(soon()).await.map(drop),
        other => panic!("{other}"),
    }
}

fn needs(resources: &[&str], path: &str) -> bool {
    let path = path.strip_prefix("/redfish/v1").unwrap();
    resources.iter().any(|one| match one.strip_suffix('*') {
        Some(above) => path.starts_with(above),
        None => *one == path,
    })
}

/// A resource, by another client than ours.
async fn fetch(lab: &Lab, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(lab.service.address()).await.unwrap();
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: bmc\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).unwrap())
}

/// All resources that there are, by their links.
async fn tree(lab: &Lab) -> BTreeSet<String> {
    fn links(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(properties) => {
                let id = properties.get("@odata.id").and_then(Value::as_str);
                found.extend(id.map(|id| id.trim_end_matches('/').to_owned()));
                properties.values().for_each(|value| links(value, found));
            }
            Value::Array(all) => all.iter().for_each(|value| links(value, found)),
            _ => {}
        }
    }
    let (mut seen, mut next) = (BTreeSet::new(), vec!["/redfish/v1".to_owned()]);
    while let Some(path) = next.pop() {
        // Whoever is logged in is no part of the machine.
        if path.contains('#') || path.contains("/SessionService/") || seen.contains(&path) {
            continue;
        }
        if let Some(resource) = fetch(lab, &path).await {
            links(&resource, &mut next);
            seen.insert(path);
        }
    }
    seen
}

async fn what_does_not_depend_on_a_broken_resource_is_answered(change: fn(&mut RedfishConfig)) {
    // What is asked for again and again is this test's own doing.
    let hasty = Tuning { busy_delay: Duration::from_millis(1), tries: 2, ..quick() };
    let lab = Lab::start_with(hasty, change).await;
    lab.accounts.add("other", &Secret::new("their-password"));
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    for (what, _) in READS {
        read(&bmc, what).await.unwrap_or_else(|error| panic!("{what}, whole: {error}"));
    }
    let tree = tree(&lab).await;
    assert!(tree.len() > 25, "{tree:?}");
    let mut failed = Vec::new();
    for path in &tree {
        for how in BREAKAGES {
            lab.faults(|faults| faults.broken = Some(Broken { path: path.clone(), how }));
            for (what, _) in READS.iter().filter(|(_, resources)| !needs(resources, path)) {
                if let Err(error) = read(&bmc, what).await {
                    failed.push(format!("{what} without {path} ({how:?}): {error}"));
                }
            }
            // It is no answer that leaves everything out: the other lists are told, and what is missing is.
            if ["/redfish/v1/Chassis/1/Thermal", "/redfish/v1/Chassis/1/Power"].contains(&path.as_str()) {
                let seen = bmc.sensors(soon()).await.unwrap();
                assert!(!seen.sensors.is_empty(), "{path} {how:?}");
                assert!(how == Breakage::WrongTypes || !seen.warnings.is_empty(), "{path} {how:?}");
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    lab.stop().await;
}

#[tokio::test]
async fn what_does_not_depend_on_a_broken_resource_is_answered_by_the_older_model() {
    what_does_not_depend_on_a_broken_resource_is_answered(|_| ()).await;
}

#[tokio::test]
async fn what_does_not_depend_on_a_broken_resource_is_answered_by_the_newer_model() {
    what_does_not_depend_on_a_broken_resource_is_answered(|config| config.sensor_collection = true).await;
}
