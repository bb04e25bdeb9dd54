//! A DHCPv6 packet from anybody: read, decide, answer. The answer must be a packet others can read.

use dhcproto::{Decodable, Decoder, v6};
use farrier_netboot::dhcp6::{Hop, Request6, decide6};
use farrier_netboot::{Boot, BootEntry, BootFiles, BootTable, Dhcp6, KernelArgs, MacAddr, Ramdisk, Segment};

/// What is in the envelope for one relay (RFC 8415 section 19.3), which says what that relay said.
fn unwrapped<'a>(bytes: &'a [u8], hop: &Hop) -> &'a [u8] {
    let head = [&[13, hop.hop_count][..], &hop.link.octets(), &hop.peer.octets()].concat();
    let mut options = bytes.strip_prefix(&head[..]).expect("a relay's head");
    let (mut inner, mut interface_id) = (None, None);
    while let [a, b, c, d, rest @ ..] = options {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        match u16::from_be_bytes([*a, *b]) {
            9 => inner = Some(value),
            18 => interface_id = Some(value),
            other => panic!("option {other}, which nobody asked for"),
        }
        options = rest;
    }
    assert_eq!(interface_id, hop.interface_id.as_deref());
    inner.expect("a relayed message")
}

pub fn run(data: &[u8]) {
    let Ok(request) = Request6::parse(data) else { return };
    assert!(request.describe().bytes().all(|b| (0x20..0x7f).contains(&b)));
    let source = [0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 1].into();
    let mac = request.macs(source).first().copied().unwrap_or(MacAddr([2; 6]));
    let six = Dhcp6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 64);
    let segment =
        Segment { dhcp6: Some(six), ..Segment::new("provisioning", "br0", [10, 1, 0, 1].into(), 24) };
    let (kernel, initrd) = ("k".parse().unwrap(), "i".parse().unwrap());
    let boot = Boot::Script(Ramdisk { kernel, initrd, args: KernelArgs::new() }.into());
    for network in ["provisioning", "other"] {
        let (node, hostname, network) = ("node-1".into(), String::new(), network.into());
        let mut table = BootTable::new();
        table.set_segments(vec![segment.clone()]);
        table.publish(BootEntry {
            mac,
            node,
            hostname,
            ip: [10, 1, 0, 50].into(),
            network,
            boot: boot.clone(),
        });
        let decision = decide6(&segment, &six, &table, &BootFiles::new(8080), &request, source);
        assert!(decision.events.iter().all(|(_, detail)| !detail.contains(char::is_control)));
        let Some(reply) = decision.reply else { continue };
        let inner = request.relays.iter().fold(&reply[..], |bytes, hop| unwrapped(bytes, hop));
        let message = v6::Message::decode(&mut Decoder::new(inner)).expect("an answer that others can read");
        assert_eq!((message.xid(), inner.len() < 2048), (request.xid, true));
        // Of relays nothing but what they said comes back.
        assert!(reply.len() < 2048 + data.len(), "{} bytes", reply.len());
    }
    let silent = decide6(&segment, &six, &BootTable::new(), &BootFiles::new(1), &request, source);
    assert!(silent.reply.is_none(), "an unknown machine gets silence");
}
