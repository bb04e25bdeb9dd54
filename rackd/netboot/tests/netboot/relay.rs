//! Machines behind a router with ISC's dhcrelay: option 82 goes both ways, renewals come without it.

use std::process::Stdio;

use farrier_netboot::{Boot, BootEntry, Config, EventKind, LeaseKind, Pool, Segment};

use crate::dhcp_clients::{script, told};
use crate::foreign::{Dnsmasq, THEIRS, dnsmasq_on};
use crate::lab::{
    Cable, HTTP_PORT, Killed, MAC, Namespace, Running, SERVER_IP, entry, segment, table, text, tool,
};
use crate::record::Recording;

const FAR_IP: &str = "10.79.0.50";
const ROUTER: &str = "10.77.0.2";

/// The server's cable leads to a router, behind which the client is.
pub(crate) struct Routed {
    pub(crate) near: Cable,
    pub(crate) far: Cable,
    _relay: Killed,
    /// Another server that the relay asks too.
    _theirs: Option<Dnsmasq>,
}

impl Routed {
    pub(crate) fn new() -> Self {
        Self::relaying(&["-iu", "c0"], &[])
    }

    /// dnsmasq is on a network of its own at the router, and `does` what it does.
    pub(crate) fn beside(does: &[&str]) -> Self {
        Self::relaying(&["-iu", "c0", "-iu", "r1"], does)
    }

    /// `up`: what the interfaces towards servers are to dhcrelay.
    fn relaying(up: &[&str], theirs: &[&str]) -> Self {
        // Of the second cable only the client's end: its other end moves into the router.
        let (near, far) = (Cable::new(), Cable::new());
        let router: &Namespace = &near.client;
        far.server.sh(&format!("ip addr flush dev s0; ip link set s0 netns {} name down0", router.name()));
        router.sh(&format!(
            "ip addr add {ROUTER}/24 dev c0; ip addr add 10.79.0.1/24 dev down0; ip link set down0 up; \
             echo 1 > /proc/sys/net/ipv4/ip_forward"
        ));
        near.server.sh(&format!("ip route add 10.79.0.0/24 via {ROUTER}"));
        let dnsmasq = (!theirs.is_empty()).then(|| {
            let machine = Namespace::new("d");
            router.sh(&format!(
                "ip link add r1 type veth peer name d0 netns {}; ip addr add 10.77.0.3/32 dev r1; ip link set r1 up; \
                 ip route add {THEIRS}/32 dev r1",
                machine.name()
            ));
            let dnsmasq = dnsmasq_on(machine, near.dir.path(), theirs);
            dnsmasq.machine.sh("ip route add 10.79.0.0/24 via 10.77.0.3");
            dnsmasq
        });
        let mut relay = router.command(&tool("dhcrelay", "isc-dhcp-relay"));
        // -a adds option 82 and takes it out again; -D drops answers in which it is not what it sent.
        relay.args(["-4", "-d", "-a", "-D"]).args(up).args(["-id", "down0", "-pf"]).arg(near.path("pid"));
        relay.arg(SERVER_IP).args(dnsmasq.as_ref().map(|_| THEIRS));
        let relay = relay.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let relay = Killed(relay.spawn().unwrap());
        Self { near, far, _relay: relay, _theirs: dnsmasq }
    }
}

/// The network behind the router.
pub(crate) fn far() -> Segment {
    Segment {
        behind_relay: Some("10.79.0.0".parse().unwrap()),
        gateway: Some("10.79.0.1".parse().unwrap()),
        ..Segment::new("far", "", SERVER_IP.parse().unwrap(), 24)
    }
}

/// As a fabric does whose leaves relay from a loopback: the relay's address is of another network than the machine.
#[test]
fn udhcpc_behind_a_relay_with_link_selection_gets_an_address_of_its_link() {
    let routed = Routed::relaying(&["-U", "c0"], &[]);
    let behind = far();
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    table.set_segments(vec![segment(), behind]);
    let far = BootEntry { network: "far".into(), ip: FAR_IP.parse().unwrap(), ..entry(Boot::LocalDisk) };
    table.publish(far);
    let server = Running::start(&routed.near.server, Config::new(HTTP_PORT), table);
    let args = ["-f", "-q", "-n", "-t", "10", "-T", "1", "-i", "c0", "-s", &script(&routed.far)];
    let output = routed.far.client.client(30, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{} {:#?}", text(&output), server.netboot.log());
    assert!(told(&routed.far).contains(&format!("ip={FAR_IP}")));
    let asked = server.netboot.trace(MAC);
    let through = format!("through relay {ROUTER} for link 10.79.0.1");
    assert!(asked.iter().any(|e| e.detail.contains(&through)), "{asked:#?}");
}

#[test]
fn udhcpc_behind_dhcrelay_gets_its_subnets_address_and_renews_it_over_the_router() {
    let routed = Routed::new();
    let behind = far();
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    table.set_segments(vec![segment(), behind]);
    table.publish(BootEntry {
        mac: MAC,
        node: "node-1".into(),
        hostname: "host-1".into(),
        ip: FAR_IP.parse().unwrap(),
        network: "far".into(),
        boot: Boot::LocalDisk,
    });
    let recording = Recording::begin("udhcpc-relay", &routed.near.server, "s0");
    let mut server = Running::start(&routed.near.server, Config::new(HTTP_PORT), table);
    // The script sets no address: this is what it would do.
    routed.far.client.sh(&format!("ip addr add {FAR_IP}/24 dev c0; ip route add default via 10.79.0.1"));
    let udhcpc = udhcpc(&routed.far);
    server.wait(20, |kind| *kind == EventKind::Ack);
    let asked = server.netboot.trace(MAC);
    assert!(asked.iter().any(|e| e.detail.contains("through relay 10.79.0.1")), "{asked:#?}");
    renew(&routed.far);
    let renewal = server.wait(20, |kind| *kind == EventKind::Request);
    assert!(renewal.detail.contains(&format!("has {FAR_IP}")), "{renewal:?}");
    assert!(!renewal.detail.contains("relay"), "{renewal:?}");
    server.wait(20, |kind| *kind == EventKind::Ack);
    recording.end(&server);
    drop(udhcpc);
    let told = told(&routed.far);
    assert!(told.contains(&format!("ip={FAR_IP}")) && told.contains("router=10.79.0.1"), "{told}");
    assert_eq!(server.netboot.leases()[0].network, "far");
}

/// RFC 2131 §4.4.1: an echo goes over the router, to where no ARP does.
#[test]
fn an_address_behind_a_relay_that_somebody_answers_for_is_not_offered() {
    let routed = Routed::new();
    let (taken, free) = ("10.79.0.100", "10.79.0.101");
    let pool = Pool { first: taken.parse().unwrap(), last: free.parse().unwrap(), boot: Boot::None };
    let behind = Segment { pool: Some(pool), ..far() };
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    table.set_segments(vec![segment(), behind]);
    let server = Running::start(&routed.near.server, Config::new(HTTP_PORT), table);
    // Somebody has it by hand, and the machine wants it.
    routed.near.client.sh(&format!("ip addr add {taken}/24 dev down0"));
    let script = script(&routed.far);
    let args = ["-f", "-q", "-n", "-t", "10", "-T", "2", "-i", "c0", "-r", taken, "-s", &script];
    let output = routed.far.client.client(60, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{} {:#?}", text(&output), server.netboot.log());
    assert!(told(&routed.far).contains(&format!("ip={free}")), "{}", told(&routed.far));
    let trace = server.netboot.trace(MAC);
    let seen = trace.iter().find(|event| event.kind == EventKind::AddressInUse);
    assert!(seen.is_some_and(|event| event.detail.contains(&format!("uses {taken} on far"))), "{trace:#?}");
    // What the relay said is in it, by name.
    let through = "relay-agent-information (82) circuit-id (1) \"down0\"";
    assert!(trace.iter().any(|event| event.detail.contains(through)), "{trace:#?}");
}

/// It stays, for [`renew`].
fn udhcpc(far: &Cable) -> Killed {
    let mut udhcpc = far.client.command(&tool("udhcpc", "udhcpc"));
    udhcpc.args(["-f", "-t", "10", "-T", "1", "-i", "c0", "-s", &script(far)]);
    udhcpc.arg("-p").arg(far.path("udhcpc.pid"));
    Killed(udhcpc.stdin(Stdio::null()).spawn().unwrap())
}

/// RENEWING: unicast to the server, from the address, with no relay in between.
fn renew(far: &Cable) {
    // Bound when its script has run: a signal before that means something else.
    let begun = std::time::Instant::now();
    while !told(far).contains("ip=") {
        assert!(begun.elapsed().as_secs() < 30, "udhcpc got an answer and has no address");
        std::thread::yield_now();
    }
    let pid = std::fs::read_to_string(far.path("udhcpc.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
}

/// It answers a ping for its own address, behind a router that answers no ARP for it: that is no conflict.
#[test]
fn udhcpc_behind_dhcrelay_keeps_its_address_of_a_pool_at_a_server_that_knows_nothing_of_it() {
    let routed = Routed::new();
    let start = || {
        let mut table = table(segment(), Boot::None);
        table.unpublish_mac(MAC);
        let (first, last) = (FAR_IP.parse().unwrap(), "10.79.0.51".parse().unwrap());
        table.set_segments(vec![
            segment(),
            Segment { pool: Some(Pool { first, last, boot: Boot::None }), ..far() },
        ]);
        Running::start(&routed.near.server, Config::new(HTTP_PORT), table)
    };
    let mut server = start();
    let _udhcpc = udhcpc(&routed.far);
    let given = server.wait(20, |kind| matches!(kind, EventKind::Guest { .. }));
    let EventKind::Guest { ip, .. } = given.kind else { unreachable!() };
    routed.far.client.sh(&format!("ip addr add {ip}/24 dev c0; ip route add default via 10.79.0.1"));
    drop(server);
    // Its leases were in memory: they are gone.
    let mut server = start();
    assert_eq!(server.netboot.leases().len(), 0);
    renew(&routed.far);
    let renewal = server.wait(20, |kind| *kind == EventKind::Request);
    assert!(renewal.detail.contains(&format!("has {ip}")), "{renewal:?}");
    server.wait(20, |kind| *kind == EventKind::Ack);
    let lease = server.netboot.leases().pop().unwrap();
    assert_eq!((lease.ip, lease.network.as_str(), lease.kind == LeaseKind::Declined), (ip, "far", false));
    let log = server.netboot.log();
    assert!(!log.iter().any(|event| event.kind == EventKind::AddressInUse), "{log:#?}");
}

#[test]
fn a_relay_of_a_subnet_that_is_not_ours_gets_no_answer() {
    let routed = Routed::new();
    let server = Running::start(&routed.near.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    let args = ["-f", "-q", "-n", "-t", "2", "-T", "1", "-i", "c0", "-s", "/bin/true"];
    let output = routed.far.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(!output.status.success(), "{}", text(&output));
    let relay = "10.79.0.1".parse().unwrap();
    assert_eq!(server.kinds(), [EventKind::UnknownRelay { relay }], "told once, whom it asks through");
}
