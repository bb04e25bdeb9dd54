//! A flood of machines that are not there by DHCPv6, and messages that are large in every way: what is kept of them is bounded, in
//! its tables and in memory, and a known machine is answered meanwhile.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use farrier_netboot::{Boot, Config};

use crate::dhcpv6::{cable, six};
use crate::flood::{has_bounded_tables, resident};
use crate::lab::{HTTP_PORT, MAC, Namespace, Running, noise, table};

/// Between two words of the known machine.
const CHUNK: u32 = 250;
const WARM: u32 = 60;
const FLOOD: u32 = 160;
/// What 40,000 messages may leave in memory; each of them, kept, would be four times as much.
const GROWN: u64 = 8 << 20;
/// Addresses that are sent from: each stands for a relay, too.
const SENDERS: u32 = 40;
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// What a machine asks, by a DUID of its port (RFC 8415 section 11.4), for one address.
fn solicit(mac: [u8; 6], xid: u32, more: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = xid.to_be_bytes();
    let duid = [&[0, 3, 0, 1][..], &mac].concat();
    let ia = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    [&[1, a, b, c][..], &option(1, &duid), &option(3, &ia), more].concat()
}

/// In an envelope, as a relay on that link brings it, with the port that it saw (RFC 6939).
fn relayed(inner: &[u8], hops: u8, link: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let port = [&[0, 1][..], &mac].concat();
    let head = [&[12, hops][..], &link.octets(), &[0xfe, 0x80], &[0; 14]].concat();
    [head, option(9, inner), option(79, &port), option(18, &[hops; 40])].concat()
}

/// The `n`th message, each of another machine: of the link, through one relay of ours, of a stranger's link, or through more than
/// there may be; and of every five one is a bomb.
fn forged(n: u32, noise: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = n.to_be_bytes();
    let mac = [2, 1, a, b, c, d];
    let mut more = Vec::new();
    if n.is_multiple_of(5) {
        // Associations with many addresses each, classes as long as they can be, and options with nothing in them.
        let address = option(5, &[&[0x20, 1, 0xd, 0xb8, 0, 0x77, a, b, c, d][..], &[0; 14]].concat());
        for id in 0..9_u8 {
            more.extend(option(
                3,
                &[&[0, 0, 1, id, 0, 0, 0, 0, 0, 0, 0, 0][..], &address.repeat(3)].concat(),
            ));
        }
        let len = usize::from(noise[n as usize % noise.len()]);
        more.extend([15_u16, 16, 17].map(|code| option(code, &noise[..len])).concat());
        more.extend(option(0xffff, &[]).repeat(20));
        more.truncate(1000);
    }
    let inner = solicit(mac, n, &more);
    let ours: Ipv6Addr = "2001:db8:77::99".parse().unwrap();
    let strange = Ipv6Addr::new(0x2001, 0xdb8, 0x5555, 0, 0, 0, 0, u16::from_be_bytes([c, d]));
    match n % 4 {
        0 => inner,
        1 => relayed(&inner, 0, ours, mac),
        2 => relayed(&inner, 0, strange, mac),
        _ => (0..10).fold(solicit(mac, n, &[]), |inside, hops| relayed(&inside, hops, strange, mac)),
    }
}

#[test]
fn made_up_machines_and_bombs_of_options_by_ipv6_fill_no_memory() {
    let cable = cable();
    let add: Vec<_> =
        (0..SENDERS).map(|n| format!("ip addr add 2001:db8:77::1:{n:x}/64 dev c0 nodad")).collect();
    cable.client.sh(&add.join("; "));
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table(six(), Boot::None));
    let (before, after) = cable.client.inside(|| {
        let index = interface(&cable.client);
        let senders: Vec<_> = (0..SENDERS)
            .map(|n| {
                UdpSocket::bind((format!("2001:db8:77::1:{n:x}").parse::<Ipv6Addr>().unwrap(), 0)).unwrap()
            })
            .collect();
        let known = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 546)).unwrap();
        known.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (noise, to) = (noise(4096), SocketAddrV6::new(SERVERS, 547, 0, index));
        let chunk = |chunk: u32| {
            for n in chunk * CHUNK..(chunk + 1) * CHUNK {
                let sender = &senders[(n % SENDERS) as usize];
                let _ = sender.send_to(&forged(n, &noise), to);
            }
            assert!(is_answered(&known, chunk, to), "the known machine waits in vain");
        };
        (0..WARM).for_each(chunk);
        let before = resident();
        (WARM..WARM + FLOOD).for_each(chunk);
        (before, resident())
    });
    has_bounded_tables(&server);
    assert!(after < before + GROWN, "{} KiB more than before", (after - before) >> 10);
}

fn interface(client: &Namespace) -> u32 {
    let link = client.sh("cat /sys/class/net/c0/ifindex");
    link.trim().parse().unwrap()
}

/// The known machine asks for its address, as often as a firmware asks again.
fn is_answered(known: &UdpSocket, chunk: u32, to: SocketAddrV6) -> bool {
    let xid = 0x00ff_ffff - chunk;
    let bytes = solicit(MAC.0, xid, &[]);
    (0..4).any(|_| {
        known.send_to(&bytes, to).unwrap();
        let mut buffer = vec![0; 2048];
        // What was said to others goes by.
        while let Ok(len) = known.recv(&mut buffer) {
            if buffer[..len].starts_with(&[&[2][..], &xid.to_be_bytes()[1..]].concat()) {
                return true;
            }
        }
        false
    })
}
