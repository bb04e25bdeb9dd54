//! What a router solicitation is answered with.

use std::{io::Read as _, net::Ipv6Addr, net::SocketAddrV6, time::Duration};

use farrier_netboot::{Boot, Config, Dhcp6, Segment};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Cable, HTTP_PORT, Running, segment, table};

#[test]
fn a_solicitation_is_answered_with_no_router_no_prefix_and_no_dhcpv6() {
    assert_eq!(answer(segment())[4..], [0; 12], "lifetime 0, M and O clear, no options");
}

#[test]
fn where_there_is_dhcpv6_it_says_so_and_which_addresses_are_on_the_link() {
    let server_ip = "2001:db8:77::1".parse().unwrap();
    let told = answer(Segment { dhcp6: Some(Dhcp6::new(server_ip, 64)), ..segment() });
    assert_eq!(told[4..8], [0, 0xc0, 0, 0], "M and O, and still no router");
    assert_eq!(told[16..20], [3, 4, 64, 0x80], "on the link, and no address without DHCPv6");
    let prefix: Ipv6Addr = "2001:db8:77::".parse().unwrap();
    assert_eq!(told[32..], prefix.octets());
}

fn answer(segment: Segment) -> Vec<u8> {
    let cable = Cable::new();
    if segment.dhcp6.is_some() {
        cable.server.sh("ip addr add 2001:db8:77::1/64 dev s0 nodad");
    }
    // The kernel makes link-local addresses a moment after the link is up.
    for (end, interface) in [(&cable.server, "s0"), (&cable.client, "c0")] {
        end.sh(&format!(
            "timeout 20 sh -c 'until ip -6 addr show dev {interface} | grep -q fe80; do :; done'"
        ));
    }
    let _server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment, Boot::None));
    solicited(&cable, "c0")
}

/// What the first router says that is asked by an interface of the client.
pub(crate) fn solicited(cable: &Cable, interface: &str) -> Vec<u8> {
    cable.client.inside(|| {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        socket.bind_device(Some(interface.as_bytes())).unwrap();
        socket.set_multicast_hops_v6(255).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
        let index = rustix::net::netdevice::name_to_index(&socket, interface).unwrap();
        socket.send_to(&[133, 0, 0, 0, 0, 0, 0, 0], &SocketAddrV6::new(routers, 0, 0, index).into()).unwrap();
        let mut buffer = [0; 1500];
        loop {
            let len = (&socket).read(&mut buffer).unwrap();
            if buffer[0] == 134 {
                return buffer[..len].to_vec();
            }
        }
    })
}
