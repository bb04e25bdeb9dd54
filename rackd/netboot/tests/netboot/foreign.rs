//! DHCP servers beside ours: dnsmasq on our cable is noticed and named, whoever asks.

use std::process::Stdio;

use farrier_netboot::{Boot, Config, EventKind};

use crate::lab::{Cable, HTTP_PORT, Killed, Namespace, Running, segment, table, text, tool};

pub(crate) const THEIRS: &str = "10.77.0.9";

/// dnsmasq on a third machine, at the client's end of the cable.
pub(crate) struct Dnsmasq {
    _running: Killed,
    _machine: Namespace,
}

pub(crate) fn dnsmasq(cable: &Cable) -> Dnsmasq {
    let machine = Namespace::new("d");
    cable.client.sh(&format!("ip link add d0 link c0 netns {} type macvlan mode bridge", machine.name()));
    machine.sh(&format!("ip addr add {THEIRS}/24 dev d0; ip link set d0 up"));
    let mut dnsmasq = machine.command(&tool("dnsmasq", "dnsmasq-base"));
    dnsmasq.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=d0"]);
    dnsmasq.args([
        "--bind-interfaces",
        "--dhcp-range=10.77.0.150,10.77.0.159,1h",
        "--user=root",
        "--no-ping",
    ]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", cable.path("dnsmasq").display()));
    dnsmasq.arg(format!("--pid-file={}", cable.path("dnsmasq.pid").display()));
    let dnsmasq = dnsmasq.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Killed(dnsmasq.spawn().unwrap());
    let begun = std::time::Instant::now();
    // It writes its number when it listens.
    while !cable.path("dnsmasq.pid").exists() {
        assert!(begun.elapsed().as_secs() < 30, "dnsmasq does not start");
        std::thread::yield_now();
    }
    Dnsmasq { _running: child, _machine: machine }
}

fn foreign(kind: &EventKind) -> bool {
    *kind == EventKind::ForeignServer { server: THEIRS.parse().unwrap(), network: "provisioning".into() }
}

#[test]
fn dnsmasq_beside_us_is_found_before_any_machine_asks() {
    let cable = Cable::new();
    let _theirs = dnsmasq(&cable);
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    // Asked at the start; should that packet be lost, again a minute later.
    let found = server.wait(90, foreign);
    assert!(found.detail.starts_with("offered 10.77.0.15"), "{found:?}");
    assert_eq!(server.kinds(), [], "our own question is no machine's");
}

#[test]
fn a_machine_that_chose_dnsmasq_names_it() {
    let cable = Cable::new();
    let _theirs = dnsmasq(&cable);
    let mut config = Config::new(HTTP_PORT);
    config.foreign_servers = false;
    let mut empty = table(segment(), Boot::None);
    empty.unpublish_mac(crate::lab::MAC);
    let mut server = Running::start(&cable.server, config, empty);
    // As dnsmasq is: interfaces of one parent hear each other, and not the parent.
    cable.client.sh("ip link add m0 link c0 type macvlan mode bridge; ip link set m0 up");
    let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "m0", "-s", "/bin/true"];
    let output = cable.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{}", text(&output));
    let found = server.wait(10, foreign);
    assert!(found.detail.contains("chose it"), "{found:?}");
}
