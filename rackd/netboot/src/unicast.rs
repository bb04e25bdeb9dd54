//! Answers to addresses that somebody names: a client, a relay, or whoever pretends to be one.
//!
//! What goes to an address that does not answer ARP waits three seconds for it, in the room of the socket it was sent by
//! (arp(7), `unres_qlen_bytes`); some two hundred of them are all that a socket has room for. So whoever names addresses that
//! nobody has could keep everybody else from an answer. Three sockets, then, and none of them is waited for: addresses that are
//! known to answer, addresses beyond a router, and all others.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

use crate::{Segment, datagram::Raw, neighbours::Neighbours, socket};

#[derive(Debug)]
pub(crate) struct Unicast {
    near: Raw,
    far: Raw,
    silent: Raw,
}

/// What is known of the way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its hardware address is known: it spoke to us a moment ago, and asked who we are before it did.
    Near,
    /// Behind a router, whose hardware address is known or nobody there is reached.
    Far,
    /// In our subnet, and not heard of.
    Silent,
    /// Ours, or the subnet's own two: nobody asks from there.
    Nobody,
}

impl Way {
    /// `here`: the segment whose subnet the interface is in.
    pub(crate) fn to(ip: Ipv4Addr, here: &Segment, neighbours: &Neighbours, now: Instant) -> Self {
        if is_nobody(ip, here) {
            Self::Nobody
        } else if !here.contains(ip) {
            Self::Far
        } else if neighbours.who(ip, now).is_some() {
            Self::Near
        } else {
            Self::Silent
        }
    }
}

impl Unicast {
    /// From our address in the segment, and this port.
    pub(crate) fn bind(here: &Segment, port: u16) -> io::Result<Self> {
        let raw = || Raw::bind(&here.interface, SocketAddrV4::new(here.server_ip, port));
        let (near, far, silent) = (raw()?, raw()?, raw()?);
        for wide in [&near, &far] {
            socket::widen_send(wide.socket());
        }
        Ok(Self { near, far, silent })
    }

    /// At once or not at all. `WouldBlock`: there is no room for what goes this way.
    pub(crate) fn send(&self, way: Way, payload: &[u8], to: SocketAddrV4) -> io::Result<()> {
        match way {
            Way::Near => self.near.send(payload, to),
            Way::Far => self.far.send(payload, to),
            Way::Silent => self.silent.send(payload, to),
            Way::Nobody => Err(nobody(*to.ip())),
        }
    }
}

pub(crate) fn nobody(ip: Ipv4Addr) -> io::Error {
    let text = format!("expected the address of a machine, saw {ip}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Whether no machine has this address: ours, the subnet's own two, a group's, and those that are for no host.
fn is_nobody(ip: Ipv4Addr, here: &Segment) -> bool {
    match here.contains(ip) {
        true => !here.has_host(ip),
        false => ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_no_way_and_what_is_behind_a_router_is_another() {
        let here = Segment::new("n", "br0", [10, 0, 0, 1].into(), 24);
        for (ip, way) in [
            ([10, 0, 0, 9], Way::Silent),
            ([10, 0, 1, 9], Way::Far),
            ([10, 0, 0, 1], Way::Nobody),
            ([10, 0, 0, 0], Way::Nobody),
            ([10, 0, 0, 255], Way::Nobody),
            ([255; 4], Way::Nobody),
            ([224, 0, 0, 1], Way::Nobody),
            ([127, 0, 0, 1], Way::Nobody),
            ([0; 4], Way::Nobody),
        ] {
            let seen = Way::to(ip.into(), &here, &Neighbours::default(), Instant::now());
            assert_eq!(seen, way, "{ip:?}");
        }
        let narrow = Segment::new("n", "br0", [10, 0, 0, 0].into(), 31);
        let seen = Way::to([10, 0, 0, 1].into(), &narrow, &Neighbours::default(), Instant::now());
        assert_eq!(seen, Way::Silent, "RFC 3021");
    }
}
