//! Sockets tied to one interface.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsFd,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A UDP socket that hears only `interface` (`SO_BINDTODEVICE`, which wants `CAP_NET_RAW`), so that one server can
/// have the same port on each of several bridges and never answers on the wrong one. Without `SO_REUSEADDR`: with
/// it, two servers on one port both succeed and one of them is deaf.
pub(crate) fn udp_on(interface: &str, ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    match ip {
        IpAddr::V4(_) => socket.set_broadcast(true)?,
        // IPv4 has sockets of its own.
        IpAddr::V6(_) => socket.set_only_v6(true)?,
    }
    socket.bind_device(Some(interface.as_bytes()))?;
    may_be_cut(&socket, ip)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// What is larger than a link on the way is cut there, or by us, and put together again by who it is for. Linux would forbid
/// that and find out how large the smallest link is (ip(7), `IP_MTU_DISCOVER`): by losing the first datagram, an error at the
/// next one, and where a firewall drops the router's word of it, by losing them all.
fn may_be_cut(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    use rustix::net::sockopt;
    match ip {
        IpAddr::V4(_) => sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DONT)?,
        IpAddr::V6(_) => sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DONT)?,
    }
    Ok(())
}

/// Sends at once or not at all. `WouldBlock`: the socket has no room, since what it sent before waits for somebody's ARP, or the
/// link is slower than we are.
pub(crate) fn send_now(socket: &impl AsFd, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    rustix::net::sendto(socket, bytes, rustix::net::SendFlags::DONTWAIT, &to)?;
    Ok(())
}

/// Room for a row of machines that power on at once: some five thousand packets.
pub(crate) fn widen(socket: &UdpSocket) {
    const ROOM: usize = 4 << 20;
    // Beyond the system's limit only with CAP_NET_ADMIN; without it what the limit allows.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, ROOM).is_err() {
        let _ = socket2::SockRef::from(socket).set_recv_buffer_size(ROOM);
    }
}

/// As much for what goes out: nobody waits until there is room.
pub(crate) fn widen_send(socket: &impl AsFd) {
    const ROOM: usize = 4 << 20;
    if rustix::net::sockopt::set_socket_send_buffer_size_force(socket, ROOM).is_err() {
        let _ = socket2::SockRef::from(socket).set_send_buffer_size(ROOM);
    }
}

/// Which of the interface's addresses the kernel sends from to a machine of the segment.
pub(crate) fn source_of(segment: &crate::Segment) -> Option<Ipv4Addr> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.bind_device(Some(segment.interface.as_bytes())).ok()?;
    let subnet = segment.server_ip.to_bits() & segment.netmask().to_bits();
    // Nothing is sent: a route is looked up. One of two neighbours is not ourselves.
    let machine =
        [1, 2].map(|n| Ipv4Addr::from_bits(subnet | n)).into_iter().find(|ip| *ip != segment.server_ip)?;
    socket.connect(&SocketAddr::V4(SocketAddrV4::new(machine, 67)).into()).ok()?;
    match socket.local_addr().ok()?.as_socket()? {
        SocketAddr::V4(source) => Some(*source.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// The interface's number, which changes when it is deleted and made again.
pub(crate) fn index_of(interface: &str) -> io::Result<u32> {
    let any = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    Ok(rustix::net::netdevice::name_to_index(&any, interface)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_answers_leave_from_is_known_beforehand() {
        let on_loopback = |server| source_of(&crate::Segment::new("n", "lo", server, 8));
        let first = Ipv4Addr::LOCALHOST;
        assert_eq!(on_loopback(first), Some(first));
        let second = Ipv4Addr::new(127, 0, 0, 9);
        assert_ne!(on_loopback(second), Some(second));
        assert_eq!(source_of(&crate::Segment::new("n", "nowhere", first, 8)), None);
    }
}
