//! OVMF by IPv6 alone: router advertisement, DHCPv6 (options 59 and 60), TFTP over IPv6; then its iPXE the same way.

use farrier_netboot::Dhcp6;

use super::*;

const SERVER6: &str = "2001:db8:77::1";

fn over_ipv6(rack: &Rack) -> Running {
    rack.namespace.sh(&format!("ip addr add {SERVER6}/64 dev br0 nodad"));
    let segment = Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24);
    let dhcp6 = Some(Dhcp6::new(SERVER6.parse().unwrap(), 64));
    rack.serve_on(Segment { dhcp: Dhcp::Off, dhcp6, ..segment }, script())
}

#[test]
fn a_uefi_machine_goes_from_pxe_by_ipv6_to_its_kernel() {
    let rack = Rack::new();
    let mut server = over_ipv6(&rack);
    let recording = Recording::begin("ovmf-pxe6", &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.uefi(&["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]);
    let size = std::fs::metadata("/usr/lib/ipxe/snponly.efi").unwrap().len();
    server.wait(PATIENCE, |kind| matches!(kind, EventKind::TftpDone { bytes, .. } if *bytes == size));
    eprintln!("uefi pxe by ipv6: snponly.efi after {:?}", started.elapsed());
    expect_boot(&mut server, "uefi pxe by ipv6", started);
    recording.end(&server);
    let trace = server.netboot.trace(MAC);
    let details: Vec<_> = trace.iter().map(|event| event.detail.as_str()).collect();
    let file = format!("boot file tftp://[{SERVER6}]/snponly.efi [");
    assert!(details.iter().any(|detail| detail.contains(&file)), "{details:#?}");
    for word in ["SOLICIT", "ADVERTISE", "REQUEST", "REPLY"] {
        assert!(trace.iter().any(|event| event.kind == EventKind::Dhcp6(word)), "{word}: {details:#?}");
    }
}
