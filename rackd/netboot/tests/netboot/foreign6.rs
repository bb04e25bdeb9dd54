//! On a network whose IPv6 is ours: another DHCPv6 server, and a router that says otherwise. Both are dnsmasq.

use std::{net::IpAddr, process::Stdio};

use farrier_netboot::{Boot, Config, Dhcp6, EventKind, Segment};

use crate::lab::{Cable, HTTP_PORT, Killed, Namespace, Running, segment, table, tool};

#[test]
fn a_dhcpv6_server_and_a_router_that_are_not_ours_are_found_before_any_machine_asks() {
    let cable = Cable::new();
    cable.server.sh("ip addr add 2001:db8:77::1/64 dev s0 nodad");
    let other = Namespace::new("d");
    cable.client.sh(&format!("ip link add d0 link c0 netns {} type macvlan mode bridge", other.name()));
    other.sh("ip addr add 2001:db8:66::9/64 dev d0 nodad; ip link set d0 up");
    for (end, interface) in [(&cable.server, "s0"), (&other, "d0")] {
        end.sh(&format!(
            "timeout 20 sh -c 'until ip -6 addr show dev {interface} scope link | grep fe80 | grep -vq tentative; do :; done'"
        ));
    }
    let theirs: IpAddr = other
        .sh("ip -6 -o addr show dev d0 scope link")
        .split_whitespace()
        .find_map(|word| word.strip_suffix("/64")?.parse().ok())
        .unwrap();
    // Its prefix is another one, which is on the link by its word; M is set, since its addresses come by DHCPv6.
    let mut dnsmasq = other.command(&tool("dnsmasq", "dnsmasq-base"));
    dnsmasq.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=d0",
        "--user=root",
    ]);
    dnsmasq.args([
        "--dhcp-range=2001:db8:66::100,2001:db8:66::1ff,64,1h",
        "--enable-ra",
        "--bind-interfaces",
    ]);
    dnsmasq.args(["--dhcp-option=option6:59,tftp://[2001:db8:66::9]/other.efi"]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", cable.path("leases6").display()));
    dnsmasq.arg(format!("--pid-file={}", cable.path("pid6").display()));
    let dnsmasq = dnsmasq.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _dnsmasq = Killed(dnsmasq.spawn().unwrap());
    let begun = std::time::Instant::now();
    // It writes its number when it listens.
    while !cable.path("pid6").exists() {
        assert!(begun.elapsed().as_secs() < 30, "dnsmasq does not start");
        std::thread::yield_now();
    }

    let dhcp6 = Some(Dhcp6::new("2001:db8:77::1".parse().unwrap(), 64));
    let segment = Segment { dhcp6, ..segment() };
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment, Boot::None));
    // Asked at the start; should it not listen yet, again a minute later. Its router advertises at once, then seldom.
    let network = "provisioning".to_owned();
    let (mut offer, mut router) = (None, None);
    while offer.is_none() || router.is_none() {
        let found = server
            .wait(90, |kind| matches!(kind, EventKind::ForeignServer { .. } | EventKind::RogueRouter { .. }));
        match &found.kind {
            EventKind::ForeignServer { server, network: on } => {
                assert_eq!((*server, on), (theirs, &network));
                offer = Some(found.detail.clone());
            }
            EventKind::RogueRouter { router: ip, network: on } => {
                assert_eq!((IpAddr::from(*ip), on), (theirs, &network));
                router = Some(found.detail.clone());
            }
            other => panic!("{other:?}"),
        }
    }
    let (offer, router) = (offer.unwrap(), router.unwrap());
    assert!(offer.starts_with("offered 2001:db8:66::1"), "{offer}");
    assert!(offer.ends_with("boot file tftp://[2001:db8:66::9]/other.efi"), "{offer}");
    assert_eq!(router, "says that 2001:db8:66::/64 is on the link");
    assert_eq!(server.kinds(), [], "our own question is no machine's");
}
