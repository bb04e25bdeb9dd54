//! A DHCP packet from anybody: read, decide, answer. The answer must be a packet others can read.

use dhcproto::{Decodable, Decoder, v4};
use farrier_netboot::dhcp::{Request, decide, decide_service};
use farrier_netboot::{Boot, BootEntry, BootFiles, BootTable, Dhcp, KernelArgs, Ramdisk, Segment};

pub fn run(data: &[u8]) {
    let Ok(request) = Request::parse(data) else { return };
    assert!(request.describe().bytes().all(|b| (0x20..0x7f).contains(&b)));
    let mut segment = Segment::new("provisioning", "br0", [10, 1, 0, 1].into(), 24);
    segment.gateway = Some([10, 1, 0, 254].into());
    segment.dns = vec![[10, 1, 0, 2].into(); 9];
    segment.domain = Some("rack.example".into());
    let script = Boot::Script(
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "i".parse().unwrap(), args: KernelArgs::new() }
            .into(),
    );
    let entry = |network: &str, boot: &Boot| BootEntry {
        mac: request.mac,
        node: "node-1".into(),
        hostname: "h".repeat(63),
        ip: [10, 1, 0, 50].into(),
        network: network.into(),
        boot: boot.clone(),
    };
    let files = BootFiles::new(8080);
    for (network, boot) in [
        ("provisioning", &script),
        ("provisioning", &Boot::LocalDisk),
        ("provisioning", &Boot::None),
        ("other", &script),
    ] {
        let mut table = BootTable::new();
        table.set_segments(vec![segment.clone(), Segment::new("other", "br1", [10, 2, 0, 1].into(), 24)]);
        table.publish(entry(network, boot));
        answer(&request, &decide(&segment, &table, &files, &request, None));
    }
    // Beside somebody else's server: the boot file on both ports, and no address; and nothing where nothing is ours.
    let beside = |dhcp| Segment { dhcp, ..segment.clone() };
    let mut table = BootTable::new();
    table.set_segments(vec![beside(Dhcp::Proxy)]);
    table.publish(entry("provisioning", &script));
    for decision in [
        decide(&beside(Dhcp::Proxy), &table, &files, &request, None),
        decide_service(&beside(Dhcp::Proxy), &table, &files, &request),
    ] {
        answer(&request, &decision);
        let bytes = decision.reply.as_ref().and_then(|reply| reply.bytes());
        let yiaddr = bytes.map(|bytes| bytes[16..20].to_vec());
        assert!(yiaddr.is_none_or(|ip| ip == [0; 4]), "a proxy gives no address");
    }
    assert!(decide(&beside(Dhcp::Off), &table, &files, &request, None).reply.is_none());
    let guest = entry("provisioning", &script);
    let empty = BootTable::new();
    answer(&request, &decide(&segment, &empty, &files, &request, Some(&guest)));
    let silent = decide(&segment, &empty, &files, &request, None);
    assert!(silent.reply.is_none(), "an unknown machine without a pool gets silence (RFC 2131 §4.3.2)");
}

fn answer(request: &Request, decision: &farrier_netboot::dhcp::Decision) {
    for (_, detail) in &decision.events {
        assert!(!detail.contains(char::is_control));
    }
    let Some(reply) = &decision.reply else { return };
    let Some(bytes) = reply.bytes() else { panic!("an answer that cannot be written") };
    let message = v4::Message::decode(&mut Decoder::new(&bytes)).expect("an answer that others can read");
    assert_eq!(message.xid(), request.xid);
    assert_eq!(message.chaddr(), &request.mac.0);
    assert_eq!(message.opcode(), v4::Opcode::BootReply);
}
