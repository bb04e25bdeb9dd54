//! udhcpc and dhclient.

use std::os::unix::fs::PermissionsExt as _;

use farrier_netboot::{Boot, Config, EventKind, Pool, Ramdisk};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, MAC, Running, entry, segment, table, text};
use crate::record::Recording;

/// A script as DHCP clients call it: writes what it is told to a file.
pub(crate) fn script(cable: &Cable) -> String {
    let path = cable.path("script");
    std::fs::write(
        &path,
        format!("#!/bin/sh\n{{ echo \"event=$1\"; env; }} >> {}\n", cable.path("told").display()),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

pub(crate) fn told(cable: &Cable) -> String {
    std::fs::read_to_string(cable.path("told")).unwrap_or_default()
}

pub(crate) fn udhcpc(cable: &Cable, more: &[&str]) -> std::process::Output {
    let script = script(cable);
    let args = [&["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "c0", "-s", &script], more].concat();
    cable.client.client(20, "udhcpc", "udhcpc", &args)
}

#[test]
fn udhcpc_gets_its_reservation_and_every_setting() {
    let cable = Cable::new();
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::LocalDisk));
    let recording = Recording::begin("udhcpc", &cable.server, "s0");
    let output = udhcpc(&cable, &[]);
    recording.end(&server);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&cable);
    for expect in [
        "event=bound",
        "ip=10.77.0.50",
        "subnet=255.255.255.0",
        "router=10.77.0.254",
        "dns=10.77.0.2",
        "domain=rack.example",
        "hostname=host-1",
        "lease=3600",
        "serverid=10.77.0.1",
    ] {
        assert!(told.lines().any(|line| line == expect), "{expect} not in {told}");
    }
    use EventKind::{Ack, Discover, Offer, Request};
    assert_eq!(server.kinds(), [Discover, Offer, Request, Ack]);
    let leases = server.netboot.leases();
    assert_eq!((leases.len(), leases[0].mac, leases[0].ip.to_string()), (1, MAC, CLIENT_IP.into()));
}

/// It says that it takes 576 octets (option 57), and reads options where option 52 says that they are.
#[test]
fn udhcpc_is_told_every_name_in_no_more_octets_than_it_takes() {
    let cable = Cable::new();
    let label = "d".repeat(63);
    let (domain, hostname) = (format!("{label}.{label}.{label}.rack"), "h".repeat(63));
    let dns: Vec<std::net::Ipv4Addr> = (2..10).map(|n| [10, 77, 0, n].into()).collect();
    let segment = farrier_netboot::Segment { domain: Some(domain.clone()), dns, ..segment() };
    let mut table = table(segment, Boot::LocalDisk);
    table.publish(farrier_netboot::BootEntry { hostname: hostname.clone(), ..entry(Boot::LocalDisk) });
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    let output = udhcpc(&cable, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&cable);
    for expect in [
        "ip=10.77.0.50",
        "router=10.77.0.254",
        "dns=10.77.0.2 10.77.0.3 10.77.0.4 10.77.0.5 10.77.0.6 10.77.0.7 10.77.0.8 10.77.0.9",
        &format!("domain={domain}"),
        &format!("hostname={hostname}"),
        "lease=3600",
    ] {
        assert!(told.lines().any(|line| line == expect), "{expect} not in {told}");
    }
    let ack = server.wait(5, |kind| *kind == EventKind::Ack);
    assert!(ack.detail.contains("without options 58 59"), "{}", ack.detail);
}

#[test]
fn udhcpc_is_named_the_boot_file_that_is_there_and_no_other() {
    let cable = Cable::new();
    let dir = cable.path("boot-files");
    let mut config = Config::new(HTTP_PORT);
    let missing = config.load_files(&dir).unwrap_err();
    assert!(missing.to_string().contains("boot-files"), "{missing}");
    std::fs::create_dir(&dir).unwrap();
    config.load_files(&dir).unwrap();
    std::fs::write(dir.join("snponly.efi"), "uefi").unwrap();
    config.load_files(&dir).unwrap();
    let boot = Boot::Script(
        Ramdisk {
            kernel: "k".parse().unwrap(),
            initrd: "i".parse().unwrap(),
            args: farrier_netboot::KernelArgs::new(),
        }
        .into(),
    );
    let server = Running::start(&cable.server, config, table(segment(), boot));
    let named = |class: &str, architecture: &str| {
        let _ = std::fs::remove_file(cable.path("told"));
        let output = udhcpc(&cable, &["-V", class, "-x", architecture, "-O", "bootfile"]);
        assert!(output.status.success(), "{}", text(&output));
        let told = told(&cable);
        told.lines().find_map(|line| line.strip_prefix("boot_file=").map(str::to_owned))
    };
    assert_eq!(named("PXEClient:Arch:00007", "0x5d:0007").as_deref(), Some("snponly.efi"));
    assert_eq!(named("PXEClient:Arch:00000", "0x5d:0000"), None);
    let unknown = EventKind::UnknownArchitecture { architecture: 0 };
    assert!(server.kinds().contains(&unknown), "{:?}", server.kinds());
}

#[test]
fn udhcpc_of_an_unknown_machine_gets_silence_and_one_event() {
    let cable = Cable::new();
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    let output = udhcpc(&cable, &["-t", "3"]);
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(
        server.kinds(),
        [EventKind::UnknownMac { network: "provisioning".into(), boots: false }],
        "three discovers, one event"
    );
}

#[test]
fn udhcpc_of_an_unknown_machine_gets_an_address_where_there_is_a_pool() {
    let cable = Cable::new();
    let mut segment = segment();
    let address = "10.77.0.200".parse().unwrap();
    segment.pool = Some(Pool { first: address, last: address, boot: Boot::None });
    let mut table = table(segment, Boot::None);
    table.unpublish_mac(MAC);
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    let output = udhcpc(&cable, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(told(&cable).contains("ip=10.77.0.200"));
    assert_eq!(server.netboot.leases()[0].ip, address);
}

#[test]
fn udhcpc_is_refused_an_address_of_another_time() {
    let cable = Cable::new();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    // It asks for 10.77.0.99 and takes what it is offered instead.
    let output = udhcpc(&cable, &["-r", "10.77.0.99"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(told(&cable).contains("ip=10.77.0.50"));
    server.wait(5, |kind| *kind == EventKind::Ack);
}

pub(crate) fn dhclient(cable: &Cable, seconds: u32, what: &str) -> std::process::Output {
    dhclient_on(cable, "c0", seconds, what)
}

pub(crate) fn dhclient_on(cable: &Cable, interface: &str, seconds: u32, what: &str) -> std::process::Output {
    let path = |name: &str| cable.path(name).display().to_string();
    if !cable.path("conf").exists() {
        std::fs::write(cable.path("conf"), "timeout 10; retry 1; initial-interval 1;").unwrap();
    }
    let args = ["-4", "-d", what, "-v", "-cf", &path("conf"), "-lf", &path("leases"), "-pf", &path("pid")];
    let script = script(cable);
    cable.client.client(
        seconds,
        "dhclient",
        "isc-dhcp-client",
        &[&args[..], &["-sf", &script, interface]].concat(),
    )
}

#[test]
fn dhclient_binds_and_is_refused_after_its_reservation_changed() {
    let cable = Cable::new();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    // -d keeps it running once bound, so the time limit ends it; the lease file stays.
    let recording = Recording::begin("dhclient", &cable.server, "s0");
    let first = dhclient(&cable, 6, "-1");
    recording.end(&server);
    assert!(text(&first).contains("bound to 10.77.0.50"), "{}", text(&first));
    assert!(told(&cable).contains("new_domain_name=rack.example"));
    let mut moved = entry(Boot::None);
    moved.ip = "10.77.0.51".parse().unwrap();
    server.netboot.update(|table| table.publish(moved));
    // INIT-REBOOT with the old address: NAK, then a new one.
    let second = dhclient(&cable, 10, "-1");
    assert!(text(&second).contains("DHCPNAK from 10.77.0.1"), "{}", text(&second));
    assert!(text(&second).contains("bound to 10.77.0.51"), "{}", text(&second));
    server.wait(1, |kind| *kind == EventKind::Nak);
}

// Not udhcpc: busybox 1.35 with -q -R enters the released state and sends nothing.
#[test]
fn dhclient_releases_its_lease() {
    let cable = Cable::addressed();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    let bound = dhclient(&cable, 4, "-1");
    assert!(text(&bound).contains("bound to 10.77.0.50"), "{}", text(&bound));
    assert_eq!(server.netboot.leases().len(), 1);
    let released = dhclient(&cable, 10, "-r");
    server.wait(10, |kind| *kind == EventKind::Release);
    assert_eq!(server.netboot.leases(), [], "{}", text(&released));
}

/// RFC 2131 §4.4.3: it has its address by hand, and asks for the rest.
#[test]
fn dhcpcd_that_has_its_address_by_hand_is_told_the_settings_and_given_no_lease() {
    let cable = Cable::addressed();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::LocalDisk));
    let (script, inform) = (script(&cable), format!("{CLIENT_IP}/24"));
    // -T: its script is called with all that it was told, and it ends and leaves no file.
    let args = ["-4", "-d", "-B", "-T", "-A", "--inform", &inform, "-c", &script, "-f", "/dev/null"];
    let recording = Recording::begin("dhcpcd-inform", &cable.server, "s0");
    let wants = ["-o", "domain_name", "-o", "domain_name_servers", "-o", "host_name", "c0"];
    let output = cable.client.client(30, "dhcpcd", "dhcpcd-base", &[&args[..], &wants[..]].concat());
    assert!(output.status.success(), "{} {:#?}", text(&output), server.netboot.log());
    recording.end(&server);
    assert!(text(&output).contains("sending INFORM"), "{}", text(&output));
    let told = told(&cable);
    for expect in [
        "reason=TEST",
        "new_dhcp_message_type=5",
        "new_dhcp_server_identifier=10.77.0.1",
        "new_subnet_mask=255.255.255.0",
        "new_routers=10.77.0.254",
        "new_domain_name=rack.example",
        "new_domain_name_servers=10.77.0.2",
        "new_host_name=host-1",
    ] {
        assert!(told.lines().any(|line| line == expect), "{expect} not in {told}");
    }
    // RFC 2131 §4.3.5: neither an address nor how long it is good.
    assert!(!told.contains("lease_time") && !told.contains("renewal_time"), "{told}");
    let inform = server.wait(5, |kind| *kind == EventKind::Inform);
    assert!(inform.detail.contains(&format!("has {CLIENT_IP}")), "{inform:?}");
    assert_eq!(server.netboot.leases(), []);
}
