//! DHCP servers beside ours: dnsmasq on our cable is noticed and named, whoever asks.

use std::{path::Path, process::Stdio};

use farrier_netboot::{Boot, Config, Dhcp, EventKind, Segment};

use crate::lab::{Cable, HTTP_PORT, Killed, Namespace, Running, segment, table, text, tool};

pub(crate) const THEIRS: &str = "10.77.0.9";

/// dnsmasq on a third machine, at the client's end of the cable.
pub(crate) struct Dnsmasq {
    _running: Killed,
    pub(crate) machine: Namespace,
}

pub(crate) fn dnsmasq(cable: &Cable) -> Dnsmasq {
    dnsmasq_that(cable, &[GIVES])
}

fn dnsmasq_that(cable: &Cable, does: &[&str]) -> Dnsmasq {
    let machine = Namespace::new("d");
    cable.client.sh(&format!("ip link add d0 link c0 netns {} type macvlan mode bridge", machine.name()));
    dnsmasq_on(machine, cable.dir.path(), does)
}

/// Gives addresses.
pub(crate) const GIVES: &str = "--dhcp-range=10.77.0.150,10.77.0.159,1h";

/// On a machine that has an interface `d0`.
pub(crate) fn dnsmasq_on(machine: Namespace, dir: &Path, does: &[&str]) -> Dnsmasq {
    machine.sh(&format!("ip addr add {THEIRS}/24 dev d0; ip link set d0 up"));
    let mut dnsmasq = machine.command(&tool("dnsmasq", "dnsmasq-base"));
    dnsmasq.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=d0"]);
    dnsmasq.args(["--bind-interfaces", "--user=root", "--no-ping"]).args(does);
    dnsmasq.arg(format!("--dhcp-leasefile={}", dir.join("dnsmasq").display()));
    dnsmasq.arg(format!("--pid-file={}", dir.join("dnsmasq.pid").display()));
    let dnsmasq = dnsmasq.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Killed(dnsmasq.spawn().unwrap());
    let begun = std::time::Instant::now();
    // It writes its number when it listens.
    while !dir.join("dnsmasq.pid").exists() {
        assert!(begun.elapsed().as_secs() < 30, "dnsmasq does not start");
        std::thread::yield_now();
    }
    Dnsmasq { _running: child, machine }
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

/// It answers firmware alone, and gives no addresses: as Windows Deployment Services do.
#[test]
fn a_proxy_beside_us_is_found_and_where_we_are_the_proxy_a_server_of_addresses_is_not() {
    let cable = Cable::new();
    let proxy = [
        "--dhcp-range=10.77.0.0,proxy",
        "--pxe-service=BC_EFI,other,other.efi",
        "--pxe-service=x86PC,other,other",
    ];
    let _theirs = dnsmasq_that(&cable, &proxy);
    let beside = Segment { dhcp: Dhcp::Proxy, ..segment() };
    for segment in [segment(), beside.clone()] {
        let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment, Boot::None));
        let found = server.wait(90, foreign);
        assert!(found.detail.contains("without an address (proxyDHCP)"), "{found:?}");
    }
    let other = Cable::new();
    let _theirs = dnsmasq_that(&other, &[GIVES]);
    let server = Running::start(&other.server, Config::new(HTTP_PORT), table(beside, Boot::None));
    // dnsmasq has answered us when it has answered who asked later.
    other.client.sh("ip link add m0 link c0 type macvlan mode bridge; ip link set m0 up");
    let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "m0", "-s", "/bin/true"];
    let output = other.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!server.netboot.log().iter().any(|event| foreign(&event.kind)), "{:#?}", server.netboot.log());
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
