//! Addresses of pools, which must outlive the server: udhcpc and dhclient.

use farrier_netboot::{Boot, BootEntry, Config, EventKind, LeaseKind, Leases, MacAddr, Pool, Segment};

use crate::dhcp_clients::{dhclient, dhclient_on, told, udhcpc};
use crate::lab::{Cable, HTTP_PORT, MAC, Running, entry, segment, table, text};

fn pool(first: &str, last: &str) -> Segment {
    let pool = Pool { first: first.parse().unwrap(), last: last.parse().unwrap(), boot: Boot::None };
    Segment { pool: Some(pool), ..segment() }
}

/// Given without looking for them.
fn unchecked(segment: Segment) -> Segment {
    Segment { conflict_check: false, ..segment }
}

fn serve(cable: &Cable, segment: Segment) -> Running {
    serve_with(cable, segment, |_| {})
}

fn serve_with(cable: &Cable, segment: Segment, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(HTTP_PORT);
    config.leases = Leases::open(&cable.path("given")).unwrap();
    change(&mut config);
    let mut table = table(segment, Boot::None);
    table.unpublish_mac(MAC);
    Running::start(&cable.server, config, table)
}

#[test]
fn a_lease_is_on_disk_before_udhcpc_is_told_and_outlives_the_server() {
    let cable = Cable::new();
    let server = serve(&cable, pool("10.77.0.200", "10.77.0.209"));
    let output = udhcpc(&cable, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let leases = server.netboot.leases();
    assert_eq!(leases.len(), 1);
    let ip = leases[0].ip;
    assert!(told(&cable).contains(&format!("ip={ip}")));
    // What is on disk at this moment, as after a power cut: the running server is not asked.
    std::fs::copy(cable.path("given"), cable.path("copy")).unwrap();
    drop(server);
    let mut config = Config::new(HTTP_PORT);
    config.leases = Leases::open(&cable.path("copy")).unwrap();
    let mut table = table(pool("10.77.0.200", "10.77.0.209"), Boot::None);
    table.unpublish_mac(MAC);
    let server = Running::start(&cable.server, config, table);
    assert_eq!(server.netboot.leases()[0].ip, ip);
    // It asks for another one and keeps its own.
    let output = udhcpc(&cable, &["-r", "10.77.0.205"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(told(&cable).lines().filter(|line| *line == format!("ip={ip}")).count(), 2);
}

#[test]
fn a_bmc_is_recognised_by_what_udhcpc_is_told_to_say() {
    for (args, expect) in [
        (["-V", "iDRAC"], Some("Dell iDRAC")),
        (["-x", "hostname:ILO2M293100R6"], Some("HPE iLO")),
        (["-x", "hostname:web-1"], None),
    ] {
        let cable = Cable::new();
        let mut server = serve(&cable, pool("10.77.0.200", "10.77.0.209"));
        assert!(udhcpc(&cable, &args).status.success());
        let guest = server.wait(5, |kind| matches!(kind, EventKind::Guest { .. }));
        let EventKind::Guest { network, ip, boots, bmc } = &guest.kind else { unreachable!() };
        let lease = &server.netboot.leases()[0];
        assert_eq!((ip, network.as_str(), *boots, *bmc), (&lease.ip, lease.network.as_str(), false, expect));
        assert_eq!(guest.mac, Some(MAC));
    }
}

#[test]
fn dhclient_with_an_identifier_of_its_own_is_another_client() {
    let cable = Cable::new();
    let server = serve(&cable, pool("10.77.0.200", "10.77.0.209"));
    assert!(udhcpc(&cable, &[]).status.success());
    std::fs::write(
        cable.path("conf"),
        "timeout 10; retry 1; initial-interval 1; send dhcp-client-identifier \"installer\";",
    )
    .unwrap();
    let output = dhclient(&cable, 6, "-1");
    assert!(text(&output).contains("bound to 10.77.0.20"), "{}", text(&output));
    let kinds: Vec<_> = server.netboot.leases().into_iter().map(|lease| (lease.mac, lease.kind)).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(kinds.iter().all(|(mac, kind)| *mac == MAC && matches!(kind, LeaseKind::Pool(_))), "{kinds:?}");
}

#[test]
fn an_address_that_udhcpc_finds_in_use_is_left_alone() {
    let cable = Cable::new();
    // Somebody has taken the pool's first address by hand, and answers ARP for it.
    cable.server.sh("ip addr add 10.77.0.200/24 dev s0");
    let mut server = serve(&cable, unchecked(pool("10.77.0.200", "10.77.0.201")));
    let output = udhcpc(&cable, &["-a", "-A", "1", "-r", "10.77.0.200"]);
    assert!(output.status.success(), "{}", text(&output));
    server.wait(5, |kind| *kind == EventKind::Decline);
    assert!(told(&cable).contains("ip=10.77.0.201"), "{}", told(&cable));
    let leases: Vec<_> = server.netboot.leases();
    assert_eq!((leases.len(), leases[0].kind.clone()), (2, LeaseKind::Declined));
    drop(server);
    // Nor does a restart give it to anybody.
    let server = serve(&cable, pool("10.77.0.200", "10.77.0.201"));
    assert_eq!(server.netboot.leases()[0].kind, LeaseKind::Declined);
}

/// The kernel at the other end of the cable has an address, and answers ARP for it; `m0` there is another machine.
fn taken(cable: &Cable, ip: &str) {
    cable.client.sh(&format!("ip addr add {ip}/32 dev lo"));
    cable.client.sh("ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge; \
         echo 1 > /proc/sys/net/ipv4/conf/m0/arp_ignore; ip link set m0 up");
}

#[test]
fn dhclient_is_not_given_back_an_address_that_somebody_took_meanwhile() {
    let cable = Cable::new();
    taken(&cable, "10.77.0.200");
    // Of another server, which knew nothing of it either.
    std::fs::write(
        cable.path("leases"),
        "lease {\n interface \"m0\";\n fixed-address 10.77.0.200;\n option subnet-mask 255.255.255.0;\n \
         option dhcp-lease-time 4000000000;\n option dhcp-server-identifier 10.77.0.1;\n renew 2 2037/12/01 00:00:00;\n \
         rebind 3 2037/12/02 00:00:00;\n expire 4 2037/12/03 00:00:00;\n}\n",
    )
    .unwrap();
    let mut server = serve(&cable, pool("10.77.0.200", "10.77.0.201"));
    let output = dhclient_on(&cable, "m0", 20, "-1");
    let said = text(&output);
    assert!(said.contains("bound to 10.77.0.201"), "{said}");
    let asked = said.find("DHCPREQUEST").unwrap();
    assert!(said.find("DHCPDISCOVER").is_none_or(|found| asked < found), "it asked for what it had: {said}");
    let found = server.wait(5, |kind| *kind == EventKind::AddressInUse);
    assert!(found.detail.contains("uses 10.77.0.200"), "{found:?}");
}

#[test]
fn a_reserved_address_that_somebody_took_is_told_with_its_node() {
    let cable = Cable::new();
    taken(&cable, "10.77.0.50");
    let mac: MacAddr = "52:54:00:77:00:02".parse().unwrap();
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    table.publish(BootEntry { mac, ..entry(Boot::None) });
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "m0", "-s", "/bin/true"];
    let output = cable.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "there is no other one to give: {}", text(&output));
    let found = server.wait(5, |kind| *kind == EventKind::AddressInUse);
    assert_eq!((found.node.as_deref(), found.mac), (Some("node-1"), Some(mac)));
    assert!(found.detail.contains(&format!("{MAC} uses 10.77.0.50")), "{found:?}");
}

#[test]
fn an_address_that_was_leased_before_it_was_reserved_is_given_to_one_machine() {
    let cable = Cable::new();
    let mut server = serve(&cable, unchecked(pool("10.77.0.200", "10.77.0.200")));
    assert!(udhcpc(&cable, &[]).status.success());
    let mac: MacAddr = "52:54:00:77:00:02".parse().unwrap();
    let reserved = BootEntry { mac, ip: "10.77.0.200".parse().unwrap(), ..entry(Boot::None) };
    server.netboot.update(|table| table.publish(reserved));
    cable
        .client
        .sh(&format!("ip link add m0 link c0 address {mac} type macvlan mode bridge; ip link set m0 up"));
    let args = ["-f", "-q", "-n", "-t", "3", "-T", "1", "-i", "m0", "-s", "/bin/true"];
    let output = cable.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(!output.status.success(), "{}", text(&output));
    let told = server.wait(5, |kind| *kind == EventKind::AddressInUse);
    assert_eq!((told.node.as_deref(), told.mac), (Some("node-1"), Some(mac)));
    assert!(told.detail.contains(&format!("was given to {MAC} before")), "{told:?}");
    let holders: Vec<_> = server.netboot.leases().into_iter().map(|lease| lease.mac).collect();
    assert_eq!(holders, [MAC]);
}

/// Its system may run from a disk that it reaches by that address.
#[test]
fn a_machine_whose_reservation_is_gone_keeps_its_address_until_it_asks_for_another() {
    let cable = Cable::new();
    let mut server = serve(&cable, unchecked(pool("10.77.0.200", "10.77.0.201")));
    server.netboot.update(|table| table.publish(entry(Boot::None)));
    let bound = dhclient_on(&cable, "c0", 6, "-1");
    assert!(text(&bound).contains("bound to 10.77.0.50"), "{}", text(&bound));
    server.netboot.update(|table| table.unpublish_mac(MAC));
    // It takes up its lease again, as after a restart, until the time limit ends it.
    let again = text(&dhclient_on(&cable, "c0", 6, "-1"));
    assert!(again.contains("DHCPREQUEST for 10.77.0.50") && !again.contains("NAK"), "{again}");
    assert!(!again.contains("10.77.0.200"), "{again}");
    let left = server.wait(5, |kind| *kind == EventKind::Ignored { message: "DHCPREQUEST" });
    assert!(left.detail.contains("10.77.0.50 was reserved for it and is not now"), "{left:?}");
    assert!(!server.kinds().contains(&EventKind::Nak));
    assert!(udhcpc(&cable, &[]).status.success());
    assert!(told(&cable).contains("ip=10.77.0.200"), "a stranger like others: {}", told(&cable));
}

/// As a line that is taken out of a list of BMCs: what was reserved was one of the pool.
#[test]
fn a_reservation_of_the_pool_that_is_gone_is_renewed_out_of_the_pool_and_given_to_nobody_else() {
    let cable = Cable::new();
    let mut server = serve(&cable, unchecked(pool("10.77.0.50", "10.77.0.51")));
    server.netboot.update(|table| table.publish(entry(Boot::None)));
    let bound = dhclient_on(&cable, "c0", 6, "-1");
    assert!(text(&bound).contains("bound to 10.77.0.50"), "{}", text(&bound));
    server.netboot.update(|table| table.unpublish_mac(MAC));
    cable
        .client
        .sh("ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge; ip link set m0 up");
    let args = ["-f", "-q", "-n", "-t", "3", "-T", "1", "-i", "m0", "-r", "10.77.0.50", "-s", "/bin/true"];
    assert!(cable.client.client(20, "udhcpc", "udhcpc", &args).status.success());
    let other = server.netboot.leases().into_iter().find(|lease| lease.mac != MAC).unwrap();
    assert_eq!(other.ip.to_string(), "10.77.0.51", "somebody runs with the other one");
    let again = text(&dhclient_on(&cable, "c0", 6, "-1"));
    assert!(again.contains("bound to 10.77.0.50") && !again.contains("NAK"), "{again}");
    let its: Vec<_> = server.netboot.leases().into_iter().filter(|lease| lease.mac == MAC).collect();
    assert!(matches!(its[..], [ref one] if matches!(one.kind, LeaseKind::Pool(_))), "{its:?}");
    server.wait(5, |kind| *kind == EventKind::Ack);
}

#[test]
fn an_address_that_somebody_answers_for_is_not_offered() {
    for deaf_to_echo in [false, true] {
        let cable = Cable::new();
        // The kernel at the other end has it, and answers ARP for it on every interface.
        cable.client.sh("ip addr add 10.77.0.200/32 dev lo");
        if deaf_to_echo {
            cable.client.sh("echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all");
        }
        // Whose MAC address that is, is not who asks: the machine itself would be no conflict.
        cable.client.sh("ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge; \
             echo 1 > /proc/sys/net/ipv4/conf/m0/arp_ignore; ip link set m0 up");
        let mut server = serve(&cable, pool("10.77.0.200", "10.77.0.201"));
        let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "m0", "-r", "10.77.0.200", "-s"];
        let script = crate::dhcp_clients::script(&cable);
        let output = cable.client.client(20, "udhcpc", "udhcpc", &[&args[..], &[&script]].concat());
        assert!(output.status.success(), "{}", text(&output));
        let found = server.wait(5, |kind| *kind == EventKind::AddressInUse);
        assert!(found.detail.contains("uses 10.77.0.200"), "{found:?}");
        assert!(told(&cable).contains("ip=10.77.0.201"), "{}", told(&cable));
        assert!(!told(&cable).contains("ip=10.77.0.200"), "{}", told(&cable));
        let kinds: Vec<_> = server.netboot.leases().into_iter().map(|lease| lease.kind).collect();
        assert!(matches!(kinds[..], [LeaseKind::Declined, LeaseKind::Pool(_)]), "{kinds:?}");
    }
}

/// Told once, and over when somebody gives an address back.
#[test]
fn a_pool_that_is_used_up_is_told_and_its_next_client_gets_silence() {
    let cable = Cable::new();
    let mut server = serve(&cable, unchecked(pool("10.77.0.200", "10.77.0.200")));
    assert!(udhcpc(&cable, &[]).status.success());
    cable
        .client
        .sh("ip link add m0 link c0 address 52:54:00:77:00:02 type macvlan mode bridge; ip link set m0 up");
    let args = ["-f", "-q", "-n", "-t", "3", "-T", "1", "-i", "m0", "-s", "/bin/true"];
    let output = cable.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(!output.status.success(), "{}", text(&output));
    let used_up = EventKind::PoolExhausted { network: "provisioning".into() };
    let told = server.wait(5, |kind| *kind == used_up);
    assert_eq!(told.mac, Some("52:54:00:77:00:02".parse().unwrap()));
    let all = server.netboot.log();
    assert_eq!(all.iter().filter(|event| event.kind == used_up).count(), 1, "it asked three times: {all:#?}");
    assert_eq!(server.netboot.leases().len(), 1);
    // The log tells of the pool once a minute, and of each machine its own trace.
    let third: MacAddr = "52:54:00:77:00:03".parse().unwrap();
    cable
        .client
        .sh(&format!("ip link add m1 link c0 address {third} type macvlan mode bridge; ip link set m1 up"));
    let args = ["-f", "-q", "-n", "-t", "1", "-T", "1", "-i", "m1", "-s", "/bin/true"];
    assert!(!cable.client.client(20, "udhcpc", "udhcpc", &args).status.success());
    let trace = server.netboot.trace(third);
    let why = "expected a free address among 10.77.0.200 to 10.77.0.200, saw none";
    assert!(trace.iter().any(|event| event.detail.starts_with(why)), "{trace:#?}");
}
