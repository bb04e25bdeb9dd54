//! What concerns a BMC more than its machine, by command, and as ipmitool sees the same.

use crate::pretend_site::{BMC_PASSWORD, Site};
use serde_json::Value;
use std::process::Command;

fn ipmitool(site: &Site, words: &[&str]) -> String {
    let address = site.nodes[0].bmc_address();
    let done = Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", "17", "-U", "admin", "-P", BMC_PASSWORD])
        .args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(words)
        .output()
        .expect("ipmitool is installed: apt-get install ipmitool");
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// What stands behind `name` and a colon.
fn told<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name:?} in\n{text}"));
    line.split_once(':').map(|(_, value)| value.trim()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmcs_network_and_watchdog_are_shown_as_ipmitool_sees_them_and_the_watchdog_is_stopped() {
    let site = Site::enrolled(1).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).unwrap();
    let json = |args: &[&str]| -> Value {
        serde_json::from_str(&farrier(&[args, &["-o", "json"]].concat())).unwrap()
    };
    farrier(&["node", "manage", "n0", "--wait"]);
    let theirs = ipmitool(&site, &["lan", "print", "1"]);
    let ours = &json(&["node", "bmc-network", "n0"])[0];
    assert_eq!(ours["address"], told(&theirs, "IP Address  "), "{theirs}");
    assert_eq!(ours["subnet_mask"], told(&theirs, "Subnet Mask"), "{theirs}");
    let mac = theirs.lines().find(|line| line.starts_with("MAC Address")).unwrap();
    assert!(mac.contains(ours["mac_address"].as_str().unwrap()), "{mac} {ours}");
    assert_eq!((&ours["source"], &ours["vlan_id"]), (&"static".into(), &Value::Null));
    assert_eq!(told(&theirs, "802.1q VLAN ID"), "Disabled");

    let idle = json(&["node", "watchdog", "show", "n0"]);
    assert_eq!((&idle["running"], &idle["driver"]), (&false.into(), &"ipmi".into()));
    // An operating system sets it: an hour, then a hard reset; and starts it.
    ipmitool(&site, &["raw", "0x06", "0x24", "0x04", "0x01", "0", "0", "0xa0", "0x8c"]);
    ipmitool(&site, &["raw", "0x06", "0x22"]);
    let set = json(&["node", "watchdog", "show", "n0"]);
    assert_eq!(
        (&set["running"], &set["timer_use"], &set["action"]),
        (&true.into(), &"SMS/OS".into(), &"hard reset".into())
    );
    assert_eq!(set["initial_milliseconds"], 3_600_000);
    let left = set["left_milliseconds"].as_i64().unwrap();
    assert!((1..=3_600_000).contains(&left), "{left}");
    let seen = ipmitool(&site, &["mc", "watchdog", "get"]);
    assert!(seen.contains("Started/Running") && seen.contains("Hard Reset"), "{seen}");
    for _ in 0..2 {
        let off = json(&["node", "watchdog", "disarm", "n0"]);
        assert_eq!((&off["running"], &off["action"]), (&false.into(), &"none".into()));
    }
    let seen = ipmitool(&site, &["mc", "watchdog", "get"]);
    assert!(seen.contains("Stopped") && seen.contains("SMS/OS"), "{seen}");
    let history = farrier(&["event", "list", "--resource", "n0"]);
    assert!(history.contains("disarm watchdog"), "{history}");
    site.shutdown().await;
}
