//! From the command line to a vendor's BMC: BIOS settings, firmware, virtual media; and machines without a BMC.

use std::sync::Arc;

use crate::pretend_site::Site;
use farrier_sim::bmc::redfish::{Facts, Personality, RedfishConfig, RedfishServer};
use farrier_sim::bmc::{BootDeviceSelector, MemoryChassis, Secret};
use serde_json::Value;
use tokio::net::TcpListener;

fn json(told: &str) -> Value {
    serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_changes_what_a_dell_is_set_to_and_its_firmware() {
    let site = Site::enrolled(0).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = RedfishConfig::new("admin", Secret::new("S3cret"), Facts::default()).of(Personality::Idrac);
    let chassis = Arc::new(MemoryChassis::new());
    let service = RedfishServer::start(listener, config, chassis.clone()).unwrap();
    let (address, password) = (service.address().to_string(), site.dir.join("password"));
    std::fs::write(&password, "S3cret").unwrap();
    let password = password.to_string_lossy();
    let words =
        ["--bmc-driver", "auto", "--bmc-scheme", "http", "--bmc-address", &address, "--bmc-user", "admin"];
    let create = ["node", "create", "dell", "--rack", "r", "--bmc-password-file", &password];
    farrier(&[&create[..], &words].concat()).unwrap();
    let told = farrier(&["node", "capabilities", "dell"]).unwrap();
    assert!(told.contains("BIOS settings") && told.contains("idrac"), "{told}");

    let shown = json(&farrier(&["node", "bios", "show", "dell", "--like", "virtual", "-o", "json"]).unwrap());
    assert_eq!(
        shown,
        serde_json::json!([{ "name": "ProcVirtualization", "value": "Disabled", "pending": null }])
    );
    let set = ["node", "bios", "set", "dell", "ProcVirtualization=Enabled", "NumLock=false", "-o", "json"];
    let set = json(&farrier(&set).unwrap());
    assert_eq!((set.as_array().unwrap().len(), &set[1]["pending"]), (2, &"Enabled".into()), "{set}");
    let unknown = farrier(&["node", "bios", "set", "dell", "Virtualization=Enabled"]).unwrap_err();
    assert!(unknown.contains("perhaps ProcVirtualization"), "{unknown}");
    farrier(&["node", "manage", "dell", "--wait"]).unwrap();
    let iso = "http://192.0.2.1/a.iso?token=s3cret";
    let insert = ["node", "virtual-media", "insert", "dell", "--url", iso, "--boot-once", "-o", "json"];
    let inserted = json(&farrier(&insert).unwrap());
    assert_eq!((&inserted["boots_once"], &inserted["driver"]), (&true.into(), &"idrac".into()), "{inserted}");
    farrier(&["node", "power", "on", "dell", "--wait"]).unwrap();
    assert_eq!(chassis.boots()[0].device, BootDeviceSelector::CDROM);
    let pending = farrier(&["node", "bios", "show", "dell", "--pending", "-o", "json"]).unwrap();
    assert_eq!(pending.trim(), "[]");

    let update = [
        "node",
        "firmware",
        "update",
        "dell",
        "--url",
        "http://192.0.2.1/NIC-1.3.bin",
        "--part",
        "NIC",
        "--yes",
        "-o",
        "json",
    ];
    let begun = json(&farrier(&update).unwrap());
    let task = begun["task"].as_str().unwrap();
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state == "running") && states.len() < 10 {
        let seen = json(&farrier(&["node", "firmware", "task", "dell", task, "-o", "json"]).unwrap());
        states.push(seen["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states.last().map(String::as_str), Some("done"), "{states:?}");
    let parts = farrier(&["node", "firmware", "list", "dell"]).unwrap();
    assert!(parts.contains("1.3"), "{parts}");
    let history = farrier(&["event", "list", "--resource", "dell", "-o", "json"]).unwrap();
    for words in
        ["set bios", "ProcVirtualization, NumLock", "update firmware", "insert virtual media", "a.iso"]
    {
        assert!(history.contains(words), "expected {words:?} in {history}");
    }
    assert!(!history.contains("s3cret"), "{history}");
    service.shutdown().await;
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_a_bmc_is_somebodys_to_switch() {
    let site = Site::enrolled(0).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    for driver in ["manual", "fake"] {
        farrier(&["node", "create", driver, "--rack", "r", "--bmc-driver", driver]).unwrap();
        farrier(&["node", "manage", driver, "--wait"]).unwrap();
        farrier(&["node", "power", "on", driver, "--wait"]).unwrap();
        assert_eq!(json(&farrier(&["node", "get", driver, "-o", "json"]).unwrap())["power_state"], "on");
        let capabilities = farrier(&["node", "capabilities", driver]).unwrap();
        assert!(capabilities.contains(&format!("driver {driver} has no sensors")), "{capabilities}");
    }
    let node = site.client.node("manual").await.unwrap();
    assert!(node.observation.is_none(), "nobody looks at what is not there: {:?}", node.observation);
    let operations = farrier(&["operation", "list", "-o", "json"]).unwrap();
    assert!(operations.contains("switch nodes/manual on by hand now"), "{operations}");
    assert!(!operations.contains("switch nodes/fake"), "{operations}");
    let nmi = farrier(&["node", "nmi", "manual", "--yes"]).unwrap_err();
    assert!(nmi.contains("driver manual has no diagnostic interrupt"), "{nmi}");
    let address =
        ["node", "create", "x", "--rack", "r", "--bmc-driver", "fake", "--bmc-address", "192.0.2.1"];
    assert!(farrier(&address).unwrap_err().contains("reaches no BMC"));
    site.shutdown().await;
}
