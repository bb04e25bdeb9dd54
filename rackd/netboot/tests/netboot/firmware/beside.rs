//! Firmware where dnsmasq gives the addresses, and knows of no boot file: those come from our proxyDHCP.

use super::*;
use crate::foreign::Dnsmasq;

fn beside_dnsmasq(rack: &Rack) -> (Dnsmasq, Running) {
    let other = Namespace::new("d");
    rack.namespace.sh(&format!(
        "ip link add v0 type veth peer name d0 netns {}; ip link set v0 master br0; ip link set v0 up",
        other.name()
    ));
    let theirs = dnsmasq_on(other, rack.dir.path(), &[GIVES]);
    let segment = Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24);
    (theirs, rack.serve_on(Segment { dhcp: Dhcp::Proxy, ..segment }, script()))
}

/// The script goes to an address of dnsmasq's.
fn expect_boot_beside(mut server: Running, what: &str, started: Instant) -> Running {
    let given = server.wait(PATIENCE, |kind| *kind == EventKind::HttpScript);
    assert!(given.detail.contains("to 10.77.0.15"), "{given:?}");
    let kernel = EventKind::HttpArtifact { name: "vmlinuz".into(), bytes: 20_000 };
    server.wait(PATIENCE, |kind| *kind == kernel);
    eprintln!("{what}, beside dnsmasq: kernel after {:?}", started.elapsed());
    let trace = server.netboot.trace(MAC);
    let offers = trace.iter().filter(|event| event.kind == EventKind::Offer);
    assert!(
        offers.clone().count() > 0 && offers.clone().all(|event| event.detail.starts_with("proxy, ")),
        "{trace:#?}"
    );
    server
}

#[test]
fn a_bios_machine_has_its_boot_file_from_us_and_its_address_from_dnsmasq() {
    let rack = Rack::new();
    let (_theirs, server) = beside_dnsmasq(&rack);
    let recording = Recording::begin("seabios-proxy", &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.bios(&[]);
    recording.end(&expect_boot_beside(server, "bios", started));
}

#[test]
fn a_uefi_machine_has_its_boot_file_from_us_and_its_address_from_dnsmasq() {
    let rack = Rack::new();
    let (_theirs, mut server) = beside_dnsmasq(&rack);
    let recording = Recording::begin("ovmf-proxy", &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.uefi(&["-fw_cfg", NO_PXE6]);
    let size = std::fs::metadata("/usr/lib/ipxe/snponly.efi").unwrap().len();
    server.wait(PATIENCE, |kind| matches!(kind, EventKind::TftpDone { bytes, .. } if *bytes == size));
    recording.end(&expect_boot_beside(server, "uefi", started));
}
