//! UDP datagrams over IPv4 that we write down ourselves, headers and all, from an address and port where another socket
//! hears.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
};

use socket2::{Domain, Protocol, Socket, Type};

/// A raw socket (raw(7)) that only sends, on one interface. Wants `CAP_NET_RAW`.
///
/// A second UDP socket on the port of a first one would take from it what comes in.
#[derive(Debug)]
pub(crate) struct Raw {
    socket: Socket,
    from: SocketAddrV4,
}

impl Raw {
    pub(crate) fn bind(interface: &str, from: SocketAddrV4) -> io::Result<Self> {
        // Of this protocol it hears nothing, and writes its own headers.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        Ok(Self { socket, from })
    }

    /// At once or not at all. `WouldBlock`: there is no room.
    pub(crate) fn send(&self, payload: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let mut packet = packet(payload, self.from, to).ok_or(io::ErrorKind::InvalidInput)?;
        // On the way it may meet a smaller link: it may be cut there. The kernel numbers it, and sums anew.
        if let Some(flags) = packet.get_mut(FLAGS) {
            *flags = 0;
        }
        self.socket.send_to(&packet, &SocketAddr::V4(to).into())?;
        Ok(())
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// IPv4 (RFC 791 §3.1) and UDP (RFC 768) around a payload. `None`: it is too long for IPv4.
pub(crate) fn packet(payload: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> Option<Vec<u8>> {
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
    Some([&ip[..], &udp, payload].concat())
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

const UDP: u8 = 17;
/// `IPPROTO_RAW`
const IPPROTO_RAW: i32 = 255;
/// Where an IPv4 header has the flags of fragments.
const FLAGS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_sums_headers_and_data_finds_nothing_left() {
        for payload in [&b"even"[..], b"odd", b""] {
            let from = SocketAddrV4::new([10, 77, 0, 1].into(), 67);
            let to = SocketAddrV4::new([10, 77, 0, 50].into(), 68);
            let packet = packet(payload, from, to).unwrap();
            assert_eq!(checksum(&[&packet[..20]]), 0);
            let pseudo = [&packet[12..20], &[0, 17], &packet[24..26]].concat();
            assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
            assert_eq!(&packet[28..], payload);
        }
        let any = SocketAddrV4::new([0; 4].into(), 0);
        assert_eq!(packet(&vec![0; 65_508], any, any), None);
    }

    #[test]
    fn a_sum_that_carries_is_folded() {
        // RFC 1071 §3, its example.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
