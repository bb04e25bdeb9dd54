//! Several networks of one server, each with a mode of its own: a pool for everybody on one interface, reservations alone on
//! another, and a subnet behind dhcrelay. The clients are udhcpc and dhclient.

use farrier_netboot::{Boot, BootEntry, BootTable, Config, EventKind, LeaseKind, MacAddr, Pool, Segment};

use crate::dhcp_clients::{script, told};
use crate::lab::{Cable, HTTP_PORT, MAC, Running, SERVER_IP, entry, segment, text};
use crate::relay::Routed;

const SECOND: &str = "10.78.0.1";

/// `s0` is row-1, where a pool is for everybody; `s1` is row-2, for known machines; behind row-1's router is row-3.
fn segments() -> Vec<Segment> {
    let ours = SERVER_IP.parse().unwrap();
    let (first, last) = ("10.77.0.200".parse().unwrap(), "10.77.0.209".parse().unwrap());
    vec![
        Segment { network: "row-1".into(), pool: Some(Pool { first, last, boot: Boot::None }), ..segment() },
        Segment::new("row-2", "s1", SECOND.parse().unwrap(), 24),
        Segment {
            behind_relay: Some("10.79.0.0".parse().unwrap()),
            gateway: Some("10.79.0.1".parse().unwrap()),
            ..Segment::new("row-3", "", ours, 24)
        },
    ]
}

fn reserved(mac: MacAddr, network: &str, ip: &str) -> BootEntry {
    BootEntry { mac, network: network.into(), ip: ip.parse().unwrap(), ..entry(Boot::LocalDisk) }
}

/// One question of udhcpc on an interface of a cable's client, and whether it was answered.
fn asks(cable: &Cable, interface: &str) -> bool {
    let args = ["-f", "-q", "-n", "-t", "4", "-T", "1", "-i", interface, "-s", &script(cable)];
    cable.client.client(30, "udhcpc", "udhcpc", &args).status.success()
}

#[test]
fn each_client_is_answered_as_its_network_has_it() {
    let (routed, row_2) = (Routed::new(), Cable::new());
    let Routed { near: row_1, far: row_3, .. } = &routed;
    row_2.server.sh(&format!("ip addr flush dev s0; ip link set s0 netns {} name s1", row_1.server.name()));
    row_1.server.sh(&format!("ip addr add {SECOND}/24 dev s1; ip link set s1 up"));
    // Another machine of row-1 than its router.
    row_1.client.sh("ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge; \
         echo 1 > /proc/sys/net/ipv4/conf/m0/arp_ignore; ip link set m0 up");
    row_3.client.sh("ip link set c0 down; ip link set c0 address 52:54:00:77:00:03; ip link set c0 up");
    let mut table = BootTable::new();
    table.set_segments(segments());
    table.publish(reserved("52:54:00:77:00:03".parse().unwrap(), "row-3", "10.79.0.50"));
    let server = Running::start(&row_1.server, Config::new(HTTP_PORT), table);

    // A stranger has an address of row-1's pool, and silence in row-2.
    assert!(asks(row_1, "m0"), "{:#?}", server.netboot.log());
    assert!(told(row_1).contains("ip=10.77.0.20"), "{}", told(row_1));
    assert!(!asks(&row_2, "c0"), "{}", told(&row_2));
    // Known there, it has its address.
    server.netboot.update(|table| table.publish(reserved(MAC, "row-2", "10.78.0.50")));
    let lease = row_2.path("leases");
    std::fs::write(&lease, "").unwrap();
    let output = row_2.client.client(
        20,
        "dhclient",
        "isc-dhcp-client",
        &["-1", "-d", "-4", "-sf", "/bin/true", "-lf", &lease.to_string_lossy(), "-pf", "/dev/null", "c0"],
    );
    assert!(text(&output).contains("bound to 10.78.0.50"), "{} {:#?}", text(&output), server.netboot.log());
    assert!(
        text(&output).contains(&format!("from {SECOND}")),
        "the address of the server there: {}",
        text(&output)
    );
    // And so has one behind row-1's router.
    assert!(asks(row_3, "c0"), "{:#?}", server.netboot.log());
    assert!(told(row_3).contains("ip=10.79.0.50"), "{}", told(row_3));
    let mut leases: Vec<_> = server.netboot.leases().into_iter().map(|l| (l.network, l.kind)).collect();
    leases.sort_by(|one, other| one.0.cmp(&other.0));
    let [(row_1, LeaseKind::Pool(_)), (row_2, LeaseKind::Reserved), (row_3, LeaseKind::Reserved)] =
        &leases[..]
    else {
        panic!("{leases:?}")
    };
    assert_eq!((row_1.as_str(), row_2.as_str(), row_3.as_str()), ("row-1", "row-2", "row-3"));
}

#[test]
fn a_port_that_asks_where_nothing_is_reserved_for_it_is_told_and_answered_there_when_it_is_served() {
    let cable = Cable::new();
    let mut table = BootTable::new();
    table.set_segments(segments());
    table.publish(reserved(MAC, "row-2", "10.78.0.50"));
    cable.server.sh(&format!(
        "ip link add s1 type veth peer name s1-end; ip addr add {SECOND}/24 dev s1; ip link set s1 up"
    ));
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    let netboot = server.netboot.clone();
    // What rackd does about it.
    let follows = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let asked = runtime.block_on(netboot.asked_elsewhere());
        netboot.update(|table| table.publish(reserved(MAC, "row-1", "10.77.0.50")));
        asked
    });
    assert!(asks(&cable, "c0"), "{:#?}", server.netboot.log());
    let asked = follows.join().unwrap();
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), [(MAC, "row-1".to_owned())]);
    assert!(told(&cable).contains("ip=10.77.0.50"), "{}", told(&cable));
    server.wait(5, |kind| *kind == EventKind::WrongNetwork);
}
