//! Answers to machines that have no address yet and did not ask for a broadcast: frames to their hardware address, with the
//! address that they are given (RFC 2131 §4.1). The kernel sends nothing there, since nobody answers ARP for it.

use std::{io, net::SocketAddrV4, os::fd::AsRawFd as _};

use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrLike as _, sendto};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
};

use crate::MacAddr;

/// A packet socket (packet(7)) that only sends, on one Ethernet interface. Wants `CAP_NET_RAW`.
pub(super) struct Frames {
    socket: OwnedFd,
    link: LinkAddr,
    ours: MacAddr,
}

impl Frames {
    pub(super) fn bind(interface: &str) -> io::Result<Self> {
        let addresses = nix::ifaddrs::getifaddrs()?;
        let mut links = addresses.filter(|found| found.interface_name == interface).filter_map(|found| {
            let link = found
                .address
                .filter(|address| address.family() == Some(nix::sys::socket::AddressFamily::Packet))?;
            link.as_link_addr().copied()
        });
        let link = links.find(|link| link.hatype() == ETHERNET);
        let link = link.ok_or_else(|| io::Error::other("expected an Ethernet interface"))?;
        let ours =
            link.addr().map(MacAddr).ok_or_else(|| io::Error::other("expected an address of 6 bytes"))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Of no protocol: it hears nothing.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        Ok(Self { socket, link, ours })
    }

    /// One datagram to a machine. Larger than a frame is an error, and so is a queue that is full.
    pub(super) fn send(
        &self,
        payload: &[u8],
        from: SocketAddrV4,
        (mac, to): (MacAddr, SocketAddrV4),
    ) -> io::Result<()> {
        let frame = frame(payload, (self.ours, from), (mac, to)).ok_or(io::ErrorKind::InvalidInput)?;
        sendto(self.socket.as_raw_fd(), &frame, &self.link, MsgFlags::empty())?;
        Ok(())
    }
}

/// Ethernet, IPv4 (RFC 791 §3.1) and UDP (RFC 768) around a payload. `None`: it is too long for IPv4.
fn frame(
    payload: &[u8],
    (from_mac, from): (MacAddr, SocketAddrV4),
    (to_mac, to): (MacAddr, SocketAddrV4),
) -> Option<Vec<u8>> {
    let udp_len = u16::try_from(payload.len() + 8).ok()?;
    let ip_len = udp_len.checked_add(20)?;
    let mut ip = vec![0x45, 0];
    ip.extend(ip_len.to_be_bytes());
    // No fragments, 64 hops, UDP; the sum comes after it.
    ip.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    ip.extend(from.ip().octets());
    ip.extend(to.ip().octets());
    let [high, low] = checksum(&[&ip]).to_be_bytes();
    ip.splice(10..12, [high, low]);
    let mut udp = Vec::with_capacity(8);
    for word in [from.port(), to.port(), udp_len, 0] {
        udp.extend(word.to_be_bytes());
    }
    let pseudo = [&from.ip().octets()[..], &to.ip().octets(), &[0, UDP], &udp_len.to_be_bytes()].concat();
    // 0 would say that there is none.
    let sum = match checksum(&[&pseudo, &udp, payload]) {
        0 => u16::MAX,
        sum => sum,
    };
    udp.splice(6..8, sum.to_be_bytes());
    Some([&to_mac.0[..], &from_mac.0, &IPV4, &ip, &udp, payload].concat())
}

/// The sum of RFC 1071. Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
const IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_sums_headers_and_data_finds_nothing_left() {
        for payload in [&b"even"[..], b"odd", b""] {
            let from = SocketAddrV4::new([10, 77, 0, 1].into(), 67);
            let to = SocketAddrV4::new([10, 77, 0, 50].into(), 68);
            let frame = frame(payload, (MacAddr([2; 6]), from), (MacAddr([4; 6]), to)).unwrap();
            assert_eq!(frame[..14], [&[4; 6][..], &[2; 6], &[8, 0]].concat());
            assert_eq!(checksum(&[&frame[14..34]]), 0);
            let pseudo = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
            assert_eq!(checksum(&[&pseudo, &frame[34..]]), 0);
            assert_eq!(&frame[42..], payload);
        }
    }

    #[test]
    fn an_interface_that_is_no_ethernet_has_no_frames() {
        assert!(Frames::bind("lo").is_err());
        assert!(Frames::bind("nowhere").is_err());
    }

    #[test]
    fn a_sum_that_carries_is_folded() {
        // RFC 1071 §3, its example.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
