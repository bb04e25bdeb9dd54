//! DHCP over InfiniBand (RFC 4390). A link-layer address has 20 bytes there and fits into no header: `hlen` is 0, `chaddr` is
//! empty, and the client identifier says who asks.
//!
//! A port is known by the 48 bits that its maker made its GUID of, which are printed on it as its MAC address and which
//! firmware uses where six bytes are wanted: `7c:fe:90:29:26:52` of `7cfe:9003:0029:2652`.

use crate::MacAddr;

/// Of the port that a client identifier (option 61) names. One that has no GUID in it names its client all the same: by an
/// address that nobody's card has, made of the identifier.
pub(super) fn port(client_id: &[u8]) -> Option<MacAddr> {
    if client_id.len() < 2 {
        return None;
    }
    Some(guid(client_id).map_or_else(|| made_up(client_id), mac))
}

/// The port's GUID: the last eight bytes of its link-layer address.
fn guid(client_id: &[u8]) -> Option<[u8; 8]> {
    let link_address = match client_id {
        // The address with the hardware type before it (RFC 2132 §9.14), as iPXE and systemd-networkd write it.
        [INFINIBAND, address @ ..] if matches!(address.len(), 8 | 20) => address,
        // Node-specific (RFC 4361 §6.1): an interface number, then a DUID (RFC 8415 §11).
        [NODE_SPECIFIC, _, _, _, _, duid @ ..] => match duid {
            // With a time, and without.
            [0, 1, 0, INFINIBAND, _, _, _, _, address @ ..] | [0, 3, 0, INFINIBAND, address @ ..]
                if matches!(address.len(), 8 | 20) =>
            {
                address
            }
            // Mellanox's own (its enterprise number is 0x2c9), as its boot ROMs and their documentation have it.
            [0, 2, 0, 0, 2, 0xc9, 0, guid @ ..] if guid.len() == 8 => guid,
            _ => return None,
        },
        _ => return None,
    };
    link_address.last_chunk().copied()
}

/// Two bytes in the middle are the maker's filling (EUI-64).
fn mac([a, b, c, _, _, d, e, f]: [u8; 8]) -> MacAddr {
    MacAddr([a, b, c, d, e, f])
}

/// Locally administered, and the same every time.
fn made_up(client_id: &[u8]) -> MacAddr {
    let [a, b, c, d] = crc32c::crc32c(client_id).to_be_bytes();
    let [.., e] = crc32c::crc32c(&[client_id, &[a, b, c, d]].concat()).to_be_bytes();
    MacAddr([0x02, a, b, c, d, e])
}

const INFINIBAND: u8 = 32;
const NODE_SPECIFIC: u8 = 255;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::dhcp::{BootFiles, Destination, Request, decide};
    use crate::{Boot, BootEntry, BootTable, ClientKey, Segment};

    const GUID: [u8; 8] = [0x7c, 0xfe, 0x90, 0x03, 0x00, 0x29, 0x26, 0x52];
    const MAC: MacAddr = MacAddr([0x7c, 0xfe, 0x90, 0x29, 0x26, 0x52]);

    #[test]
    fn whatever_a_ports_programs_call_themselves_it_is_the_same_port() {
        let long = [&[0x80, 0, 0, 0x48, 0xfe, 0x80, 0, 0, 0, 0, 0, 0][..], &GUID].concat();
        for (what, id) in [
            ("FlexBoot", [&[255, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0xc9, 0][..], &GUID].concat()),
            ("networkd", [&[32][..], &GUID].concat()),
            ("iPXE", [&[32][..], &long].concat()),
            ("DUID-LL", [&[255, 1, 2, 3, 4, 0, 3, 0, 32][..], &long].concat()),
            ("DUID-LLT", [&[255, 1, 2, 3, 4, 0, 1, 0, 32, 9, 9, 9, 9][..], &GUID].concat()),
        ] {
            assert_eq!(port(&id), Some(MAC), "{what}");
        }
    }

    #[test]
    fn who_says_no_guid_is_somebody_by_its_identifier() {
        let uuid = |n: u8| [&[255, 0, 0, 0, 1, 0, 4][..], &[n; 16]].concat();
        let (one, other) = (port(&uuid(1)).unwrap(), port(&uuid(2)).unwrap());
        assert_ne!(one, other);
        assert_eq!(Some(one), port(&uuid(1)));
        assert_eq!(one.0[0], 2, "nobody's card has it");
        assert_eq!((port(&[]), port(&[255])), (None, None));
    }

    /// DHCPDISCOVER as RFC 4390 §2.1 has it: `hlen` 0, `chaddr` empty, the broadcast flag.
    fn discover(client_id: &[u8]) -> Vec<u8> {
        let mut packet = vec![1, 32, 0, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
        packet.resize(236, 0);
        packet.extend([99, 130, 83, 99, 53, 1, 1, 61, u8::try_from(client_id.len()).unwrap()]);
        packet.extend(client_id);
        packet.push(255);
        packet
    }

    #[test]
    fn a_known_port_is_answered_without_a_hardware_address_by_broadcast() {
        let id = [&[255, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0xc9, 0][..], &GUID].concat();
        let request = Request::parse(&discover(&id)).unwrap();
        assert_eq!((request.mac, request.infiniband), (MAC, true));
        assert_eq!(ClientKey::of(&request), ClientKey::Mac(MAC), "its programs have one address");
        let segment = Segment::new("lab", "ib0", Ipv4Addr::new(10, 77, 0, 1), 24);
        let (ip, network) = (Ipv4Addr::new(10, 77, 0, 50), "lab".to_owned());
        let mut table = BootTable::new();
        let (node, hostname) = ("n".to_owned(), String::new());
        table.publish(BootEntry { mac: MAC, node, hostname, ip, network, boot: Boot::None });
        // Also one that forgets the flag: there is no address to send a frame to.
        for flags in [0x80, 0] {
            let mut packet = discover(&id);
            packet[10] = flags;
            let request = Request::parse(&packet).unwrap();
            let reply = decide(&segment, &table, &BootFiles::new(80), &request, None).reply.unwrap();
            assert_eq!(reply.to, Destination::Broadcast);
            let bytes = reply.bytes().unwrap();
            assert_eq!((&bytes[..3], &bytes[4..8]), (&[2, 32, 0][..], &[1, 2, 3, 4][..]));
            assert_eq!((&bytes[16..20], &bytes[28..44]), (&[10, 77, 0, 50][..], &[0; 16][..]));
            // RFC 6842: by it the client knows that it is meant.
            assert!(bytes.windows(id.len() + 2).any(|window| window[0] == 61 && window[2..] == id));
        }
    }

    #[test]
    fn who_says_nothing_of_itself_is_not_read() {
        let packet = discover(&GUID);
        let without = [&packet[..243], &[255]].concat();
        assert!(Request::parse(&packet).is_ok());
        assert!(Request::parse(&without).is_err());
        let mut ethernet = packet;
        ethernet[1] = 1;
        assert!(Request::parse(&ethernet).is_err());
    }
}
