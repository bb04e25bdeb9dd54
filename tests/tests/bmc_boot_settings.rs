//! From the command line to a BMC: boot order, keys of Secure Boot, disks, Dell's profiles and lifecycle log.

use crate::pretend_site::Site;
use farrier_sim::bmc::redfish::Personality;
use serde_json::Value;

fn json(told: &str) -> Value {
    serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_changes_how_a_dell_starts_and_moves_its_settings() {
    let site = Site::enrolled(0).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    let (service, _) = site.create_redfish("dell", "auto", |config| config.of(Personality::Idrac), &[]).await;
    farrier(&["node", "manage", "dell", "--wait"]).unwrap();

    let inventory = json(&farrier(&["node", "inventory", "dell", "-o", "json"]).unwrap());
    assert_eq!(
        (&inventory["disks"][0]["model"], &inventory["disks"][1]["size_bytes"]),
        (&"Pretend NVMe".into(), &4_000_787_030_016_i64.into()),
        "{inventory}"
    );
    let before = json(&farrier(&["node", "boot-order", "show", "dell", "-o", "json"]).unwrap());
    assert_eq!((&before[0]["id"], &before[0]["enabled"]), (&"Boot0000".into(), &true.into()), "{before}");
    let set = json(&farrier(&["node", "boot-order", "set", "dell", "Boot0002", "-o", "json"]).unwrap());
    assert_eq!((&set[0]["id"], &set[1]["id"]), (&"Boot0002".into(), &"Boot0000".into()), "{set}");
    farrier(&["node", "power", "on", "dell", "--wait"]).unwrap();
    let after = json(&farrier(&["node", "boot-order", "show", "dell", "-o", "json"]).unwrap());
    assert_eq!(after, set);
    let unknown = farrier(&["node", "boot-order", "set", "dell", "Boot0009"]).unwrap_err();
    assert!(unknown.contains("Boot0001"), "{unknown}");
    let twice = farrier(&["node", "boot-order", "set", "dell", "Boot0001", "Boot0001"]).unwrap_err();
    assert!(twice.contains("each once"), "{twice}");

    let keys = json(&farrier(&["node", "secure-boot", "keys", "dell", "-o", "json"]).unwrap());
    assert_eq!(keys[2], serde_json::json!({ "id": "db", "certificate_count": 3, "signature_count": 0 }));
    let reset = ["node", "secure-boot", "reset-keys", "dell", "delete-all", "--yes", "-o", "json"];
    let none = json(&farrier(&reset).unwrap());
    assert_eq!((&none[0]["id"], &none[0]["certificate_count"]), (&"PK".into(), &0.into()), "{none}");

    let profile = farrier(&["node", "profile", "export", "dell"]).unwrap();
    let changed = profile.replace("\"NumLock\">true<", "\"NumLock\">false<");
    assert!(changed != profile, "{profile}");
    let file = site.dir.join("profile.xml");
    std::fs::write(&file, &changed).unwrap();
    let file = file.to_string_lossy();
    let import =
        ["node", "profile", "import", "dell", "--file", &file, "--target", "BIOS", "--yes", "-o", "json"];
    let begun = json(&farrier(&import).unwrap());
    let task = begun["task"].as_str().unwrap();
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state == "running") && states.len() < 10 {
        let seen = json(&farrier(&["node", "firmware", "task", "dell", task, "-o", "json"]).unwrap());
        states.push(seen["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states.last().map(String::as_str), Some("done"), "{states:?}");
    farrier(&["node", "power", "cycle", "dell", "--wait", "--yes"]).unwrap();
    assert_eq!(farrier(&["node", "profile", "export", "dell"]).unwrap(), changed);

    let log = farrier(&["node", "sel", "dell", "--log", "Lclog", "--last", "1"]).unwrap();
    assert!(log.contains("logged in using admin"), "{log}");
    let no_log = farrier(&["node", "sel", "dell", "--log", "Audit"]).unwrap_err();
    assert!(no_log.contains("Lclog"), "{no_log}");
    let history = farrier(&["event", "list", "--resource", "dell", "-o", "json"]).unwrap();
    for words in [
        "set boot order",
        "set boot order failed",
        "reset secure boot keys",
        "delete all",
        "export profile",
        "import profile",
    ] {
        assert!(history.contains(words), "expected {words:?} in {history}");
    }
    service.shutdown().await;
    site.shutdown().await;
}
