//! What concerns a BMC more than its machine, by command, and as ipmitool sees the same.

use crate::pretend_site::{BMC_PASSWORD, Site};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;

fn ipmitool(site: &Site, words: &[&str]) -> String {
    ipmitool_at(site.nodes[0].bmc_address(), words)
}

fn ipmitool_at(address: SocketAddr, words: &[&str]) -> String {
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
    move_it(&site);
    site.shutdown().await;
}

/// By a command the BMC goes to another address, and its node with it: ipmitool sees it there, and there alone; and what would cut
/// it off is refused before it hears of it.
fn move_it(site: &Site) {
    let farrier = |args: &[&str]| site.installation.farrier(args);
    let here = site.nodes[0].bmc_address();
    let there = SocketAddr::from(([127, 77, here.port().to_be_bytes()[0], 7], here.port()));
    let to = |address: &str, gateway: &str| {
        let args = ["node", "set-bmc-network", "n0", "--address", address, "--gateway", gateway, "--yes"];
        farrier(&args)
    };
    let network = format!("{}/16", there.ip());
    let (gateway, elsewhere) = ("127.77.0.1", "127.78.0.1");
    let refused = to(&network, elsewhere).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("expected another host of the same network"), "{refused}");
    let taken = SocketAddr::from((there.ip(), here.port())).to_string();
    farrier(&["node", "create", "other", "--rack", "r", "--bmc-driver", "ipmi", "--bmc-address", &taken])
        .unwrap();
    let refused = to(&network, gateway).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("nodes/other"), "{refused}");
    farrier(&["node", "delete", "other", "--yes"]).unwrap();
    assert_eq!(told(&ipmitool(site, &["lan", "print", "1"]), "IP Address  "), here.ip().to_string());

    let seen = to(&network, gateway).unwrap();
    assert!(seen.contains(&there.ip().to_string()) && seen.contains(gateway), "{seen}");
    let theirs = ipmitool_at(there, &["lan", "print", "1"]);
    for (name, value) in [
        ("IP Address  ", there.ip().to_string()),
        ("IP Address Source", "Static Address".to_owned()),
        ("Subnet Mask", "255.255.0.0".to_owned()),
        ("Default Gateway IP", gateway.to_owned()),
        ("Set in Progress", "Set Complete".to_owned()),
    ] {
        assert_eq!(told(&theirs, name), value, "{theirs}");
    }
    let node = farrier(&["node", "get", "n0", "-o", "json"]).unwrap();
    assert!(node.contains(&format!("\"{there}\"")), "{node}");
    farrier(&["node", "power-draw", "n0"]).unwrap();
    let history = farrier(&["event", "list", "--resource", "n0"]).unwrap();
    assert!(history.contains("set bmc network") && history.contains("move bmc"), "{history}");
}
