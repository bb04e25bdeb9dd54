//! Frames of other people's programs, and every way to break one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use farrier_lldp::{FrameError, MAX_ADDRESSES, MAX_TEXT_CHARS, Neighbour};
use proptest::prelude::*;

/// lldpd 1.0.16 on a veth, by tcpdump: `configure system hostname tor-a1`, `configure lldp portidsubtype local Ethernet1/7
/// description "n1, left port"`, `lldpd -S "Example switch, software 1.2" -m 10.66.0.1`; the words of `tcpdump -vv` are below.
const LLDPD: &str = "0180c200000e 96eed3a9a571 88cc \
    0207 04 96eed3a9a571 040c 07 45746865726e6574312f37 0602 0004 0a06 746f722d6131 \
    0c1c 4578616d706c65207377697463682c20736f66747761726520312e32 0e04 009c0080 \
    100c 05 01 0a420001 02 00000002 00 080d 6e312c206c65667420706f7274 \
    fe09 00120f03 0100000000 fe09 00120f01 0080000036 0000";

fn frame(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

/// With further TLVs in front of the end.
fn with(more: &str) -> Vec<u8> {
    frame(&format!("{}{more} 0000", LLDPD.strip_suffix("0000").unwrap()))
}

#[test]
fn what_lldpd_says_is_read_as_tcpdump_reads_it() {
    let expect = Neighbour {
        chassis_id: "96:ee:d3:a9:a5:71".into(),
        port_id: "Ethernet1/7".into(),
        ttl: 4,
        port_description: "n1, left port".into(),
        system_name: "tor-a1".into(),
        system_description: "Example switch, software 1.2".into(),
        management_addresses: vec!["10.66.0.1".parse().unwrap()],
        vlan: None,
    };
    assert_eq!(Neighbour::parse(&frame(LLDPD)), Ok(expect.clone()));
    // The least that Ethernet carries, padded, and a sender that forgot the end.
    let mut padded = frame(LLDPD);
    padded.resize(200, 0);
    assert_eq!(Neighbour::parse(&padded), Ok(expect.clone()));
    let endless = frame(LLDPD.strip_suffix("0000").unwrap());
    assert_eq!(Neighbour::parse(&endless), Ok(expect));
}

/// IEEE 802.1Q annex D: OUI 00-80-C2.
#[test]
fn the_vlan_of_untagged_frames_is_read_and_0_is_none() {
    for (tlv, vlan) in [
        ("fe06 0080c201 0067", Some(103)),
        ("fe06 0080c201 0000", None),
        ("fe06 0080c201 f067", Some(103)),
        ("fe06 0080c202 0067", None),
        ("fe06 00120f01 0067", None),
        ("fe05 0080c201 67", None),
        ("fe07 0080c201 006700", None),
    ] {
        assert_eq!(Neighbour::parse(&with(tlv)).unwrap().vlan, vlan, "{tlv}");
    }
}

/// §8.5.2.2, §8.5.3.2.
#[test]
fn ids_are_what_their_subtype_says_or_else_digits() {
    let ids = |chassis: &str, port: &str| {
        let tlv = |kind: usize, id: &str| {
            let id = id.replace(' ', "");
            format!("{:04x}{id}", (kind << 9) | (id.len() / 2))
        };
        let text = format!("0180c200000e020000000001 88cc{}{}0602 0078 0000", tlv(1, chassis), tlv(2, port));
        let seen = Neighbour::parse(&frame(&text)).unwrap();
        (seen.chassis_id, seen.port_id)
    };
    let check = |chassis, port, expect: (&str, &str)| {
        assert_eq!(ids(chassis, port), (expect.0.to_owned(), expect.1.to_owned()));
    };
    check("04 020000000001", "03 020000000002", ("02:00:00:00:00:01", "02:00:00:00:00:02"));
    check("05 01 0a000001", "04 02 fe800000000000000000000000000001", ("10.0.0.1", "fe80::1"));
    check("06 65746830", "05 65746830", ("eth0", "eth0"));
    // A MAC address of another length, an address family that we do not know, bytes that are no text.
    check("04 0200", "03 74657374", ("0200", "test"));
    check("05 09 0a", "04 ff", ("090a", "ff"));
    check("07 ff00fe", "07 1b5b324a", ("ff00fe", "1b5b324a"));
    check("07 746f7200", "07 20 70 20", ("tor", "p"));
}

#[test]
fn a_frame_is_lldps_and_begins_with_its_three() {
    let check = |text: &str, expect| assert_eq!(Neighbour::parse(&frame(text)), Err(expect), "{text}");
    let head = "0180c200000e 020000000001 88cc";
    check("", FrameError::NotLldp);
    check("0180c200000e 020000000001 0800 0000", FrameError::NotLldp);
    check(head, FrameError::Incomplete);
    check(&format!("{head} 0000"), FrameError::Incomplete);
    check(&format!("{head} 0402 0770 0202 0763 0602 0078 0000"), FrameError::Incomplete);
    check(&format!("{head} 0202 0763 0402 0770 0000"), FrameError::Incomplete);
    check(&format!("{head} 0202 0763 0402 0770 0601 78 0000"), FrameError::Incomplete);
    check(&format!("{head} 0201 07 0402 0770 0602 0078 0000"), FrameError::Incomplete);
    check(&format!("{head} 0207 0763"), FrameError::Cut { expected: 7, seen: 2 });
    check(
        &format!("{head} 0202 0763 0402 0770 0602 0078 0bff 61"),
        FrameError::Cut { expected: 511, seen: 1 },
    );
}

#[test]
fn what_is_kept_is_bounded() {
    let names = format!("0bff {}", "61".repeat(511));
    assert_eq!(Neighbour::parse(&with(&names)).unwrap().system_name.len(), MAX_TEXT_CHARS);
    let address = "100c 05 01 0a420002 02 00000002 00";
    let seen = Neighbour::parse(&with(&address.repeat(40))).unwrap();
    assert_eq!(seen.management_addresses.len(), MAX_ADDRESSES);
    // An address that is longer than its TLV, one that is none, and one of another family.
    for odd in ["1006 7f 01 0a420002", "1001 05", "1000", "1007 06 06 020000000001"] {
        assert_eq!(Neighbour::parse(&with(odd)).unwrap().management_addresses.len(), 1, "{odd}");
    }
    assert_eq!(Neighbour::parse(&with("0a07 1b5b324a0a7461")).unwrap().system_name, "[2J ta");
}

proptest! {
    #[test]
    fn no_byte_and_no_cut_of_a_true_frame_does_harm(at in 0..200usize, byte: u8, cut in 0..200usize) {
        let mut bytes = with("fe06 0080c201 0067");
        let last = bytes.len() - 1;
        bytes[at.min(last)] = byte;
        bytes.truncate(cut);
        if let Ok(seen) = Neighbour::parse(&bytes) {
            for text in [&seen.chassis_id, &seen.port_id, &seen.system_name, &seen.port_description] {
                prop_assert!(text.chars().count() <= MAX_TEXT_CHARS && !text.chars().any(char::is_control));
            }
        }
    }
}
