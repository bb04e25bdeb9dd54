//! From the command line to a vendor's BMC: BIOS settings, firmware, virtual media; and machines without a BMC.

use std::process::Command;

use crate::pretend_site::Site;
use farrier_sim::bmc::BootDeviceSelector;
use farrier_sim::bmc::redfish::Personality;
use farrier_sim::lab::Service;
use serde_json::Value;

fn json(told: &str) -> Value {
    serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_changes_what_a_dell_is_set_to_and_its_firmware() {
    let site = Site::enrolled(0).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    let (service, chassis) =
        site.create_redfish("dell", "auto", |config| config.of(Personality::Idrac), &[]).await;
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

    let nic = "http://192.0.2.1/NIC-1.3.bin?token=s3cret";
    let update = [
        "node", "firmware", "update", "dell", "--url", nic, "--part", "NIC", "--wait", "--yes", "-o", "json",
    ];
    let done = json(&farrier(&update).unwrap());
    assert_eq!((&done["type"], &done["phase"]), (&"update firmware".into(), &"done".into()), "{done}");
    assert!(done.to_string().contains("NIC 1.2 → 1.3"), "{done}");
    assert_eq!(site.client.node("dell").await.unwrap().operation, "", "it let go of the node");
    let other = "http://192.0.2.1/other.bin";
    let update = ["node", "firmware", "update", "dell", "--url", other, "--wait", "--yes"];
    let failed = farrier(&update).unwrap_err();
    assert!(failed.contains("the image is not for this machine"), "{failed}");
    // A file of the catalogue, which the rack sends from its cache: as large as it was, not as the catalogue made it.
    let firmware: Vec<u8> = (0..150_001_u32).map(|n| (n * 11 % 253) as u8).collect();
    let file = site.dir.join("nic.bin");
    std::fs::write(&file, &firmware).unwrap();
    let sum = Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap().split(' ').next().unwrap().to_owned();
    farrier(&[
        "image",
        "import",
        "nic",
        "--file",
        &file.to_string_lossy(),
        "--sha256",
        &sum,
        "--format",
        "raw",
        "--compression",
        "none",
    ])
    .unwrap();
    let push = ["node", "firmware", "update", "dell", "--image", "nic", "--file-name", "BMC-9.9.bin"];
    farrier(&[&push[..], &["--wait", "--yes"]].concat()).unwrap();
    let pushed = service.pushed().await;
    assert_eq!((pushed.len(), pushed[0].name.as_str()), (1, "BMC-9.9.bin"));
    assert!(pushed[0].bytes == firmware, "byte by byte");
    let parts = farrier(&["node", "firmware", "list", "dell"]).unwrap();
    assert!(parts.contains("1.3") && parts.contains("9.9"), "{parts}");
    let history = farrier(&["event", "list", "--resource", "dell", "-o", "json"]).unwrap();
    for words in [
        "set bios",
        "set bios failed",
        "ProcVirtualization, NumLock",
        "update firmware from http://192.0.2.1/NIC-1.3.bin",
        "insert virtual media",
        "a.iso",
    ] {
        assert!(history.contains(words), "expected {words:?} in {history}");
    }
    assert!(!history.contains("s3cret"), "{history}");
    let operations = farrier(&["operation", "list", "-o", "json"]).unwrap();
    assert!(!operations.contains("s3cret"), "{operations}");
    service.shutdown().await;
    site.shutdown().await;
}

/// An update is asked for once: a rackd that died between the question and its answer asks for none again, and one that knows
/// the BMC's task follows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_asked_for_once_whenever_rackd_is_killed() {
    let mut site = Site::enrolled(0).await;
    let (service, _) = site.create_redfish("n0", "redfish", |config| config, &[]).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    let versions = ["1.3", "1.4"];
    for (point, version) in ["update_firmware:told", "update_firmware:after"].into_iter().zip(versions) {
        site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let url = format!("http://192.0.2.1/NIC-{version}.bin");
        let update = ["node", "firmware", "update", "n0", "--url", &url, "--yes", "-o", "json"];
        let begun = json(&site.installation.farrier(&update).unwrap());
        site.installation.wait_ended(Service::Rackd).await.unwrap();
        site.installation.restart(Service::Rackd).await.unwrap();
        let operation = begun["name"].as_str().unwrap().trim_start_matches("operations/").to_owned();
        let watched = site.installation.farrier(&["operation", "watch", &operation]);
        let parts = site.installation.farrier(&["node", "firmware", "list", "n0"]).unwrap();
        if point.ends_with("told") {
            let failed = format!("{:#}", watched.unwrap_err());
            assert!(failed.contains("which may have begun"), "{failed}");
            assert!(parts.contains("1.2") && !parts.contains(version), "{parts}");
        } else {
            watched.unwrap();
            assert!(parts.contains(version), "{parts}");
        }
        assert_eq!(site.client.node("n0").await.unwrap().operation, "", "{point}");
    }
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
