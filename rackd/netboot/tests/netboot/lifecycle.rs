//! Interfaces that come and go, several segments, clean shutdown.

use farrier_netboot::{Boot, BootEntry, Config, EventKind, MacAddr, Segment};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, MAC, Running, SERVER_IP, entry, segment, table, text};

fn udhcpc(cable: &Cable, interface: &str) -> bool {
    let args = ["-f", "-q", "-n", "-t", "3", "-T", "1", "-i", interface, "-s", "/bin/true"];
    cable.client.client(20, "udhcpc", "udhcpc", &args).status.success()
}

#[test]
fn each_bridge_serves_its_own_network() {
    let cable = Cable::new();
    let tenant_mac = MacAddr([0x52, 0x54, 0, 0x77, 0, 2]);
    cable.server.sh(&format!(
        "ip link add s1 type veth peer name c1; ip addr add 10.78.0.1/24 dev s1; ip link set s1 up; \
         ip link set c1 address {tenant_mac}; ip link set c1 netns {}; ",
        cable.client.name()
    ));
    cable.client.sh("ip link set c1 up");
    let mut table = table(segment(), Boot::None);
    table.set_segments(vec![segment(), Segment::new("tenant", "s1", "10.78.0.1".parse().unwrap(), 24)]);
    table.publish(BootEntry {
        mac: tenant_mac,
        node: "node-2".into(),
        ip: "10.78.0.9".parse().unwrap(),
        network: "tenant".into(),
        ..entry(Boot::None)
    });
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    assert!(udhcpc(&cable, "c0") && udhcpc(&cable, "c1"));
    let leases = server.netboot.leases();
    let ips: Vec<_> = leases.iter().map(|lease| (lease.network.as_str(), lease.ip.to_string())).collect();
    assert_eq!(ips, [("provisioning", CLIENT_IP.into()), ("tenant", "10.78.0.9".into())]);
    // The provisioning port on the tenant's bridge: an event, no address.
    cable.client.sh(&format!(
        "ip link set c0 down; ip link set c1 down; ip link set c1 address {MAC}; ip link set c1 up"
    ));
    assert!(!udhcpc(&cable, "c1"));
    assert_eq!(server.kinds().last(), Some(&EventKind::WrongNetwork));
}

#[test]
fn an_interface_that_comes_back_is_served_again() {
    let cable = Cable::new();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    assert!(udhcpc(&cable, "c0"));
    cable.server.sh("ip link del s0");
    server.wait(5, |kind| *kind == EventKind::SegmentDown);
    cable.server.sh(&format!(
        "ip link add s0 type veth peer name c0 address {MAC} netns {}; ip addr add {SERVER_IP}/24 dev s0; \
         ip link set s0 up",
        cable.client.name()
    ));
    cable.client.sh("ip link set c0 up");
    server.wait(5, |kind| *kind == EventKind::SegmentUp);
    assert!(udhcpc(&cable, "c0"));
}

#[test]
fn a_segment_added_later_is_served_and_one_removed_is_not() {
    let cable = Cable::new();
    let mut table = table(segment(), Boot::None);
    table.set_segments(vec![]);
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    assert!(!udhcpc(&cable, "c0"));
    server.netboot.update(|table| table.set_segments(vec![segment()]));
    server.wait(5, |kind| *kind == EventKind::SegmentUp);
    assert!(udhcpc(&cable, "c0"));
    server.netboot.update(|table| table.set_segments(vec![]));
    server.wait(5, |kind| *kind == EventKind::SegmentDown);
    assert!(!udhcpc(&cable, "c0"));
}

#[test]
fn another_server_on_the_port_is_reported_and_waited_out() {
    let cable = Cable::new();
    let blocker = cable.server.inside(|| std::net::UdpSocket::bind("0.0.0.0:67").unwrap());
    let mut empty = table(segment(), Boot::None);
    empty.set_segments(vec![]);
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), empty);
    server.netboot.update(|table| table.set_segments(vec![segment()]));
    let event = server.wait(5, |kind| *kind == EventKind::SegmentDown);
    assert!(event.detail.contains("in use"), "{}", event.detail);
    assert!(server.netboot.segments()[0].error.is_some());
    drop(blocker);
    server.wait(5, |kind| *kind == EventKind::SegmentUp);
    assert!(udhcpc(&cable, "c0"));
}

#[test]
fn shutdown_gives_every_port_back() {
    let cable = Cable::addressed();
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    let ports = || cable.server.client(5, "ss", "iproute2", &["-Hlnptu"]);
    assert!(text(&ports()).contains(":67"), "{}", text(&ports()));
    drop(server); // joins every task
    assert_eq!(ports().stdout, b"");
}
