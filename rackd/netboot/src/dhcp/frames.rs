//! Answers to machines that have no address yet and did not ask for a broadcast: frames to their hardware address, with the
//! address that they are given (RFC 2131 §4.1). The kernel sends nothing there, since nobody answers ARP for it.

use std::{io, net::SocketAddrV4, os::fd::AsRawFd as _};

use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrLike as _, sendto};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
};

use crate::{MacAddr, datagram};

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

/// Ethernet around a datagram. `None`: it is too long for IPv4.
fn frame(
    payload: &[u8],
    (from_mac, from): (MacAddr, SocketAddrV4),
    (to_mac, to): (MacAddr, SocketAddrV4),
) -> Option<Vec<u8>> {
    Some([&to_mac.0[..], &from_mac.0, &IPV4, &datagram::packet(payload, from, to)?].concat())
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
const IPV4: [u8; 2] = [0x08, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_datagram_to_a_hardware_address() {
        let from = SocketAddrV4::new([10, 77, 0, 1].into(), 67);
        let to = SocketAddrV4::new([10, 77, 0, 50].into(), 68);
        let frame = frame(b"odd", (MacAddr([2; 6]), from), (MacAddr([4; 6]), to)).unwrap();
        assert_eq!(frame[..14], [&[4; 6][..], &[2; 6], &[8, 0]].concat());
        assert_eq!(frame[14..], datagram::packet(b"odd", from, to).unwrap());
    }

    #[test]
    fn an_interface_that_is_no_ethernet_has_no_frames() {
        assert!(Frames::bind("lo").is_err());
        assert!(Frames::bind("nowhere").is_err());
    }
}
