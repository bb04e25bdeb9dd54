//! A hard reset, the boot device and the locator LED by command; what the BMC keeps is read by other people's programs.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::bench::within;
use crate::pretend_site::{BMC_PASSWORD, Site, ipmitool};
use farrier_sim::bmc::PowerAction;
use farrier_sim::pretend::{Event, Mishaps};
use serde_json::Value;

fn json(told: &str) -> Value {
    serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// What a program of the host says.
fn says(program: &str, words: &[&str]) -> String {
    let done = Command::new("timeout").args(["60", program]).args(words).stdin(Stdio::null()).output();
    let done = done.expect("timeout runs");
    assert!(done.status.success(), "{program}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// FreeIPMI tells the LED's state, which ipmitool does not.
fn led(bmc: SocketAddr) -> String {
    let host = bmc.to_string();
    let way = ["-D", "LAN_2_0", "-I", "17", "-h", &host, "-u", "admin", "-p", BMC_PASSWORD];
    let told = says("ipmi-chassis", &[&way[..], &["--get-chassis-status"]].concat());
    let line = told.lines().find(|line| line.to_lowercase().contains("identify state"));
    line.and_then(|line| line.rsplit(": ").next()).unwrap_or(&told).trim().to_lowercase()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_resets_a_machine_and_says_what_it_starts_from_over_ipmi() {
    let mut site = Site::enrolled(1).await;
    let bmc = site.nodes[0].bmc_address();
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    let none = json(&farrier(&["node", "boot-device", "show", "n0", "-o", "json"]).unwrap());
    assert_eq!((&none["device"], &none["driver"]), (&"none".into(), &"ipmi".into()), "{none}");
    let off = farrier(&["node", "power", "reset", "n0", "--yes", "--wait"]).unwrap_err();
    assert!(off.contains("saw it off"), "{off}");
    farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();

    let set = ["node", "boot-device", "set", "n0", "cdrom", "--persistent", "--uefi", "-o", "json"];
    let set = json(&farrier(&set).unwrap());
    assert_eq!(
        set,
        serde_json::json!({ "device": "cdrom", "times": "always", "boot_mode": "uefi", "driver": "ipmi" })
    );
    let flags = ipmitool(bmc, &["chassis", "bootparam", "get", "5"]);
    for words in ["Boot Flag Valid", "all future boots", "BIOS EFI boot", "CD/DVD"] {
        assert!(flags.contains(words), "expected {words:?} in {flags}");
    }
    // Without --uefi and --bios it is the node's own mode, which is BIOS; without --persistent it is once.
    farrier(&["node", "boot-device", "set", "n0", "bios-setup"]).unwrap();
    let flags = ipmitool(bmc, &["chassis", "bootparam", "get", "5"]);
    for words in ["only next boot", "BIOS PC Compatible", "BIOS setup"] {
        assert!(flags.to_lowercase().contains(&words.to_lowercase()), "expected {words:?} in {flags}");
    }
    // What somebody else sets is seen.
    ipmitool(bmc, &["chassis", "bootdev", "pxe"]);
    let seen = json(&farrier(&["node", "boot-device", "show", "n0", "-o", "json"]).unwrap());
    assert_eq!((&seen["device"], &seen["times"]), (&"pxe".into(), &"once".into()), "{seen}");
    farrier(&["node", "boot-device", "set", "n0", "none"]).unwrap();
    assert!(ipmitool(bmc, &["chassis", "bootparam", "get", "5"]).contains("No override"));

    farrier(&["node", "identify", "on", "n0", "--for", "2m"]).unwrap();
    assert_eq!(led(bmc), "timed on");
    farrier(&["node", "identify", "on", "n0"]).unwrap();
    assert_eq!(led(bmc), "indefinite on");
    farrier(&["node", "identify", "off", "n0"]).unwrap();
    assert_eq!(led(bmc), "off");
    assert!(farrier(&["node", "identify", "on", "n0", "--for", "5m"]).unwrap_err().contains("1s to 255s"));

    let starts =
        |site: &Site| site.nodes[0].events().iter().filter(|event| **event == Event::PowerOn).count();
    let before = starts(&site);
    farrier(&["node", "power", "reset", "n0", "--yes", "--wait"]).unwrap();
    assert_eq!(starts(&site), before + 1);
    assert_eq!(json(&farrier(&["node", "get", "n0", "-o", "json"]).unwrap())["power_state"], "on");
    let history = farrier(&["event", "list", "--resource", "n0", "-o", "json"]).unwrap();
    for words in ["cdrom, always, uefi", "bios setup, once", "on for 120 s", "power reset", "locator led"] {
        assert!(history.contains(words), "expected {words:?} in {history}");
    }

    // While an operation has the node, its boot device is that operation's, and a reset waits for nobody.
    site.set_timeouts(&[("agent_seconds", 600)]).await;
    site.nodes[0].set_mishaps(Mishaps { agent_never_calls: true, ..Mishaps::default() });
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    farrier(&["node", "inspect", "n0"]).unwrap();
    within(site.nodes[0].wait_for(|events| events.iter().any(|event| matches!(event, Event::Struck(_)))))
        .await;
    let before = site.nodes[0].events();
    for refused in
        [&["node", "boot-device", "set", "n0", "disk"][..], &["node", "power", "reset", "n0", "--yes"]]
    {
        let refused = farrier(refused).unwrap_err();
        assert!(refused.contains("works on nodes/n0"), "{refused}");
    }
    // The scheduler knows it before the rack has a task.
    let bmc_changes: [&[&str]; 4] = [
        &["node", "reset-bmc", "n0", "--yes"],
        &["node", "virtual-media", "eject", "n0", "--yes"],
        &["node", "bios", "set", "n0", "BootMode=Uefi", "--yes"],
        &["node", "nmi", "n0", "--yes"],
    ];
    for refused in bmc_changes {
        let refused = farrier(refused).unwrap_err();
        assert!(refused.contains("works on nodes/n0 and needs its BMC as it is"), "{refused}");
    }
    farrier(&["node", "identify", "on", "n0"]).unwrap();
    assert_eq!(led(bmc), "indefinite on", "the LED hurts no work");
    assert_eq!(site.nodes[0].events(), before);
    farrier(&["node", "abort", "n0", "--yes"]).unwrap();
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_what_a_machine_starts_from_over_redfish() {
    let site = Site::enrolled(0).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    let (service, chassis) =
        site.create_redfish("red", "redfish", |config| config, &["--boot-mode", "uefi"]).await;
    let address = service.address();
    let url = format!("http://{address}/redfish/v1/Systems/1");
    let system = || json(&says("curl", &["-sS", "-u", &format!("admin:{BMC_PASSWORD}"), &url]));

    farrier(&["node", "manage", "red", "--wait"]).unwrap();
    farrier(&["node", "boot-device", "set", "red", "pxe", "--once"]).unwrap();
    let boot = &system()["Boot"];
    let kept = |key: &str| boot[format!("BootSourceOverride{key}")].as_str().unwrap().to_owned();
    assert_eq!((kept("Target"), kept("Enabled"), kept("Mode")), ("Pxe".into(), "Once".into(), "UEFI".into()));
    farrier(&["node", "boot-device", "set", "red", "disk", "--persistent", "--bios"]).unwrap();
    let shown = json(&farrier(&["node", "boot-device", "show", "red", "-o", "json"]).unwrap());
    assert_eq!(
        shown,
        serde_json::json!({ "device": "disk", "times": "always", "boot_mode": "bios", "driver": "redfish" })
    );
    // The firmware's own mode, whatever an override says; a plain BMC changes it at once.
    farrier(&["node", "boot-device", "set", "red", "none"]).unwrap();
    let mode = ["node", "boot-mode", "set", "red", "bios", "-o", "json"];
    let mode = json(&farrier(&mode).unwrap());
    let told = serde_json::json!({
        "current": "bios", "pending": "", "settable": ["uefi", "bios"], "setting": "Boot/BootSourceOverrideMode",
        "task": "", "driver": "redfish",
    });
    assert_eq!(mode, told);
    assert_eq!(json(&farrier(&["node", "boot-mode", "show", "red", "-o", "json"]).unwrap()), told);
    assert_eq!(system()["Boot"]["BootSourceOverrideMode"], "Legacy");
    let secure = json(&farrier(&["node", "secure-boot", "show", "red", "-o", "json"]).unwrap());
    assert_eq!((&secure["enabled"], &secure["driver"]), (&false.into(), &"redfish".into()), "{secure}");
    farrier(&["node", "secure-boot", "set", "red", "on"]).unwrap();
    let kept =
        json(&says("curl", &["-sS", "-u", &format!("admin:{BMC_PASSWORD}"), &format!("{url}/SecureBoot")]));
    assert_eq!(
        (&kept["SecureBootEnable"], &kept["SecureBootCurrentBoot"]),
        (&true.into(), &"Disabled".into())
    );
    let history = farrier(&["event", "list", "--resource", "red", "-o", "json"]).unwrap();
    assert!(history.contains("set secure boot") && history.contains("set boot mode"), "{history}");
    farrier(&["node", "identify", "on", "red"]).unwrap();
    assert_eq!(system()["LocationIndicatorActive"], true);
    farrier(&["node", "identify", "off", "red"]).unwrap();
    assert_eq!(system()["LocationIndicatorActive"], false);
    let lacks = farrier(&["node", "identify", "on", "red", "--for", "30s"]).unwrap_err();
    assert!(lacks.contains("driver redfish has no locator LED for a time"), "{lacks}");
    farrier(&["node", "power", "on", "red", "--wait"]).unwrap();
    farrier(&["node", "power", "reset", "red", "--yes", "--wait"]).unwrap();
    assert_eq!(chassis.actions(), [PowerAction::On, PowerAction::Reset]);
    service.shutdown().await;

    // Somebody presses the buttons of this one: he is asked to, and there is no LED.
    farrier(&["node", "create", "hand", "--rack", "r", "--bmc-driver", "manual"]).unwrap();
    farrier(&["node", "manage", "hand", "--wait"]).unwrap();
    farrier(&["node", "power", "reset", "hand", "--yes", "--wait"]).unwrap();
    let operations = farrier(&["operation", "list", "-o", "json"]).unwrap();
    assert!(operations.contains("reset nodes/hand by hand now"), "{operations}");
    let none = farrier(&["node", "identify", "on", "hand"]).unwrap_err();
    assert!(none.contains("driver manual has no locator LED"), "{none}");
    site.shutdown().await;
}
