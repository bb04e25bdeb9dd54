//! DHCPv6 and IPv6 boot files, as clients that other people wrote see them.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use farrier_netboot::{
    Boot, BootEntry, Config, Dhcp6, EventKind, KernelArgs, LeaseKind, Leases, Pool, Ramdisk, Segment,
};

use crate::foreign::dnsmasq_on;
use crate::lab::{Cable, HTTP_PORT, MAC, Namespace, Running, SERVER_IP, noise, segment, table, text};
use crate::record::Recording;
use crate::router_advertisement::solicited;

pub(crate) const SERVER6: &str = "2001:db8:77::1";
/// The prefix, and 10.77.0.50.
pub(crate) const CLIENT6: &str = "2001:db8:77::a4d:32";

pub(crate) fn six() -> Segment {
    let server_ip: Ipv6Addr = SERVER6.parse().unwrap();
    Segment { dhcp6: Some(Dhcp6::new(server_ip, 64)), ..segment() }
}

/// With settled IPv6 addresses on both ends.
pub(crate) fn cable() -> Cable {
    let cable = Cable::new();
    cable.server.sh(&format!("ip addr add {SERVER6}/64 dev s0 nodad"));
    for (end, interface) in [(&cable.server, "s0"), (&cable.client, "c0")] {
        has_settled(end, interface);
    }
    cable
}

pub(crate) fn has_settled(end: &Namespace, interface: &str) {
    end.sh(&format!(
        "timeout 20 sh -c 'until ip -6 addr show dev {interface} scope link | grep fe80 | grep -vq tentative; do :; done'"
    ));
}

fn boot() -> Boot {
    let args = KernelArgs::parse("farrier.token=abc").unwrap();
    Boot::Script(
        Ramdisk { kernel: "vmlinuz".parse().unwrap(), initrd: "initrd".parse().unwrap(), args }.into(),
    )
}

/// dhclient's script: it configures the address, as the package's own does, and writes down what it was told.
pub(crate) fn dhclient(cable: &Cable, interface: &str, args: &[&str]) -> std::process::Output {
    let script = cable.path("script6");
    let told = cable.path("told6");
    let body = format!(
        "#!/bin/sh\n{{ echo \"reason=$reason\"; env; }} >> {}\n\
         case $reason in BOUND6|RENEW6|REBIND6) ip -6 addr replace $new_ip6_address/128 dev $interface nodad;;\n\
         RELEASE6|EXPIRE6) ip -6 addr del $old_ip6_address/128 dev $interface;; esac\nexit 0\n",
        told.display()
    );
    std::fs::write(&script, body).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = cable.path("dhclient6.conf");
    let asks = "option dhcp6.bootfile-url code 59 = text;\nrequest dhcp6.bootfile-url;\n";
    std::fs::write(&config, asks).unwrap();
    let path = |name: &str| cable.path(name).display().to_string();
    let (script, config, leases, pid) =
        (script.display().to_string(), config.display().to_string(), path("leases6"), path("pid6"));
    let fixed = ["-6", "-v", "-sf", &script, "-cf", &config, "-lf", &leases, "-pf", &pid];
    cable.client.client(30, "dhclient", "isc-dhcp-client", &[&fixed[..], args, &[interface]].concat())
}

#[test]
fn dhclient_gets_its_reservation_and_gives_it_back() {
    let cable = cable();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(six(), boot()));
    let recording = Recording::begin("dhclient6", &cable.server, "s0");
    // It goes to the background when it is bound, and `-r` ends it.
    let bound = dhclient(&cable, "c0", &["-1", "-D", "LL"]);
    assert!(bound.status.success(), "{}", text(&bound));
    server.wait(30, |kind| *kind == EventKind::Dhcp6("REPLY"));
    let told = std::fs::read_to_string(cable.path("told6")).unwrap_or_default();
    for expect in ["reason=BOUND6", &format!("new_ip6_address={CLIENT6}"), "new_max_life=3600"] {
        assert!(told.lines().any(|line| line == expect), "{expect}: {told}");
    }
    let leases = server.netboot.leases();
    assert_eq!((leases.len(), leases[0].mac, leases[0].kind.clone()), (1, MAC, LeaseKind::Reserved));
    let table = server.netboot.table();
    assert_eq!(table.ipv6_of(table.entries_of(MAC)[0].as_ref()), Some(CLIENT6.parse().unwrap()));
    let released = dhclient(&cable, "c0", &["-r"]);
    assert!(released.status.success(), "{}", text(&released));
    server.wait(10, |kind| *kind == EventKind::Dhcp6("RELEASE"));
    server.wait(10, |kind| *kind == EventKind::Dhcp6("REPLY"));
    assert!(server.netboot.leases().is_empty(), "{:?}", server.netboot.leases());
    recording.end(&server);
    let kinds = server.kinds();
    for kind in ["SOLICIT", "ADVERTISE", "REQUEST", "REPLY"] {
        assert!(kinds.contains(&EventKind::Dhcp6(kind)), "{kind}: {kinds:?}");
    }
}

/// DHCPv6 is ours and the router somebody else's: dnsmasq says that addresses come by DHCPv6, and gives none.
#[test]
fn beside_a_router_dhclient_has_its_address_from_us_and_its_way_out_from_the_router() {
    let cable = cable();
    let router = Namespace::new("d");
    // Interfaces of one parent hear each other, and not the parent: the machine is on one, too.
    cable.client.sh(&format!(
        "ip link add d0 link c0 netns {} type macvlan mode bridge; \
         ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge",
        router.name()
    ));
    router.sh("ip addr add 2001:db8:77::fe/64 dev d0 nodad; ip link set d0 up");
    has_settled(&router, "d0");
    let says = ["--dhcp-range=2001:db8:77::,static,64,1h", "--enable-ra", "--dhcp-ignore=tag:!known"];
    let router = dnsmasq_on(router, cable.dir.path(), &says);
    let theirs = router.machine.sh("ip -6 -o addr show dev d0 scope link");
    let theirs = theirs.split_whitespace().find(|word| word.starts_with("fe80:")).unwrap();
    let theirs = theirs.trim_end_matches("/64");

    let mut table = table(Segment { router_advertisements: false, ..six() }, boot());
    let mac = "52:54:00:77:00:02".parse().unwrap();
    let entry = BootEntry { mac, ..table.entries_of(MAC)[0].as_ref().clone() };
    table.unpublish_mac(MAC);
    table.publish(entry);
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    cable.client.sh("ip link set m0 up");
    has_settled(&cable.client, "m0");
    let said = solicited(&cable, "m0");
    assert_eq!(said[5] & 0xc0, 0xc0, "a well-behaved router: M and O");
    let bound = dhclient(&cable, "m0", &["-1", "-D", "LL"]);
    assert!(bound.status.success(), "{}", text(&bound));
    let told = std::fs::read_to_string(cable.path("told6")).unwrap();
    assert!(told.lines().any(|line| line == format!("new_ip6_address={CLIENT6}")), "{told}");
    let way = cable.client.sh("ip -6 route show default dev m0");
    assert!(way.contains(&format!("via {theirs} ")) && way.lines().count() == 1, "{way}");
    assert_eq!(advertised(&cable), 0, "asked by the machine's kernel and by us, and not answered");
    let log = server.netboot.log();
    let wrong =
        |kind: &EventKind| matches!(kind, EventKind::RogueRouter { .. } | EventKind::ForeignServer { .. });
    assert!(!log.iter().any(|event| wrong(&event.kind)), "{log:#?}");

    // With the switch on it is answered by us, too.
    server.netboot.update(|table| table.set_segments(vec![six()]));
    let settled = async { server.netboot.settled().await };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(settled);
    let begun = Instant::now();
    while advertised(&cable) == 0 {
        assert!(begun.elapsed().as_secs() < 30, "no router advertisement of ours");
        solicited(&cable, "m0");
    }
}

/// Router advertisements that left by the server's interface, as its kernel counts them (ICMPv6 type 134).
fn advertised(cable: &Cable) -> u32 {
    let counters = cable.server.sh("cat /proc/net/dev_snmp6/s0");
    let sent = counters.lines().find_map(|line| line.strip_prefix("Icmp6OutType134"));
    sent.map_or(0, |sent| sent.trim().parse().unwrap())
}

/// Its address may be anybody's then: a stranger has it, whose pool that is.
#[test]
fn what_dhclient_gives_back_to_a_server_that_was_started_again_is_free() {
    let cable = cable();
    let pool = Pool { first: [10, 77, 0, 50].into(), last: [10, 77, 0, 50].into(), boot: Boot::None };
    let start = || {
        let mut config = Config::new(HTTP_PORT);
        config.leases = Leases::open(&cable.path("given")).unwrap();
        let segment = Segment { pool: Some(pool.clone()), conflict_check: false, ..six() };
        Running::start(&cable.server, config, table(segment, Boot::None))
    };
    let server = start();
    let bound = dhclient(&cable, "c0", &["-1", "-D", "LL"]);
    assert!(bound.status.success(), "{}", text(&bound));
    assert_eq!(server.netboot.leases().len(), 1);
    drop(server);
    let mut server = start();
    let leases = server.netboot.leases();
    assert_eq!((leases.len(), leases[0].mac), (1, MAC), "{leases:?}");
    let released = dhclient(&cable, "c0", &["-r"]);
    assert!(released.status.success(), "{}", text(&released));
    server.wait(10, |kind| *kind == EventKind::Dhcp6("RELEASE"));
    server.wait(10, |kind| *kind == EventKind::Dhcp6("REPLY"));
    assert_eq!(server.netboot.leases(), []);
    drop(server);
    let server = start();
    assert_eq!(server.netboot.leases(), [], "and is not there again");
    server.netboot.update(|table| table.unpublish_mac(MAC));
    cable
        .client
        .sh("ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge; ip link set m0 up");
    let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "m0", "-s", "/bin/true"];
    let output = cable.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{}", text(&output));
    let leases = server.netboot.leases();
    assert!(matches!(leases[..], [ref one] if one.ip.to_string() == "10.77.0.50"), "{leases:?}");
}

#[test]
fn what_gets_no_answer_leaves_a_word_of_why() {
    let cable = cable();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(six(), boot()));
    cable.client.sh("ip addr add 2001:db8:99::9/64 dev c0 nodad");
    let say = |from: &str, packet: &[u8]| {
        cable.client.inside(|| {
            let socket = UdpSocket::bind((from.parse::<Ipv6Addr>().unwrap(), 0)).unwrap();
            let index = rustix::net::netdevice::name_to_index(&socket, "c0").unwrap();
            let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
            socket.send_to(packet, SocketAddrV6::new(servers, 547, 0, index)).unwrap();
        });
    };
    // Of the port by its link-local address: one octet of a message.
    say("::", &[1]);
    let malformed = server.wait(10, |kind| *kind == EventKind::Malformed { protocol: "dhcpv6" });
    assert_eq!(malformed.node.as_deref(), Some("node-1"), "{malformed:?}");
    let client_id = [&[0, 1, 0, 10, 0, 3, 0, 1][..], &MAC.0].concat();
    let ia = [0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let solicit = [&[1, 0, 0, 9][..], &client_id, &ia].concat();
    assert_eq!(solicit.len(), 34);
    say("::", &[&solicit[..], &[0, 2, 0, 3, 9, 9, 9]].concat());
    let ignored = server.wait(10, |kind| *kind == EventKind::Ignored { message: "SOLICIT" });
    assert!(ignored.detail.starts_with("DHCPv6: expected no server identifier"), "{ignored:?}");
    // A relay of a link that nobody serves here.
    let link: Ipv6Addr = "2001:db8:55::1".parse().unwrap();
    let relayed = [&[12, 0][..], &link.octets(), &[0xfe, 0x80], &[0; 14], &[0, 9, 0, 34], &solicit].concat();
    say("::", &relayed);
    let unknown = server.wait(10, |kind| matches!(kind, EventKind::UnknownRelay { .. }));
    assert!(unknown.detail.contains(&format!("saw {link}")), "{unknown:?}");
    assert_eq!(unknown.mac, Some(MAC));
    // From an address that there is no way to: it was not told what it was to be told.
    say("2001:db8:99::9", &solicit);
    let unsent = server.wait(10, |kind| *kind == EventKind::AnswerNotSent);
    assert!(unsent.detail.starts_with("DHCPv6 ADVERTISE"), "{unsent:?}");
    assert!(!server.kinds().contains(&EventKind::Dhcp6("ADVERTISE")), "{:?}", server.kinds());
}

#[test]
fn files_and_the_script_go_over_ipv6_and_the_script_to_its_machine_alone() {
    let cable = cable();
    let mut config = Config::new(HTTP_PORT);
    let bytes = noise(70_001);
    config.files.insert("snponly.efi".into(), bytes.clone().into());
    let mut server = Running::start(&cable.server, config, table(six(), boot()));
    cable
        .client
        .sh(&format!("ip addr add {CLIENT6}/64 dev c0 nodad; ip addr add 2001:db8:77::9/64 dev c0 nodad"));
    let curl = |from: &str, url: &str| {
        cable.client.client(20, "curl", "curl", &["-sSf", "-g", "--interface", from, url])
    };
    for scheme in [&format!("tftp://[{SERVER6}]"), &format!("http://[{SERVER6}]:{HTTP_PORT}/firmware")] {
        let output = curl(CLIENT6, &format!("{scheme}/snponly.efi"));
        assert!(output.status.success() && output.stdout == bytes, "{scheme}: {}", output.stdout.len());
    }
    let done = server.wait(5, |kind| matches!(kind, EventKind::TftpDone { .. }));
    assert_eq!(done.node.as_deref(), Some("node-1"), "it is known by its IPv6 address");
    let url = format!("http://[{SERVER6}]:{HTTP_PORT}/boot/{}.ipxe", MAC.hyphenated());
    let script = text(&curl(CLIENT6, &url));
    assert!(
        script.contains(&format!("kernel --name kernel http://[{SERVER6}]:{HTTP_PORT}/artifacts/vmlinuz ")),
        "{script}"
    );
    assert!(!curl("2001:db8:77::9", &url).status.success());
}

#[test]
fn where_ipv6_cannot_be_served_ipv4_is_and_ipv6_follows() {
    // The server's end has no IPv6 address yet.
    let cable = Cable::addressed();
    let mut config = Config::new(HTTP_PORT);
    let bytes = noise(3000);
    config.files.insert("snponly.efi".into(), bytes.clone().into());
    let server = Running::begin(&cable.server, config, table(six(), boot()));
    let error = || server.netboot.segments().into_iter().find_map(|segment| segment.error);
    let told = error().unwrap_or_default();
    assert!(told.starts_with("IPv4 is served, IPv6 is not: "), "{told}");
    let curl = |url: &str| cable.client.client(20, "curl", "curl", &["-sSf", "-g", url]);
    let over_v4 = curl(&format!("tftp://{SERVER_IP}/snponly.efi"));
    assert!(over_v4.status.success() && over_v4.stdout == bytes, "{}", text(&over_v4));
    cable.server.sh(&format!("ip addr add {SERVER6}/64 dev s0 nodad"));
    cable.client.sh(&format!("ip addr add {CLIENT6}/64 dev c0 nodad"));
    // It is looked for again and again.
    let url = format!("tftp://[{SERVER6}]/snponly.efi");
    cable
        .client
        .sh(&format!("timeout 30 sh -c 'until curl -sf -g --max-time 5 -o /dev/null \"{url}\"; do :; done'"));
    assert_eq!(error(), None);
}
