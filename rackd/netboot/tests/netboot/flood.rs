//! Floods of forged machines, and packets that are large in every way: what is kept of them is bounded, in its tables and in
//! memory, and a known machine is answered meanwhile.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{DhcpOption, Message, MessageType},
};
use farrier_netboot::{Boot, Config, Leases, Pool, Segment};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, MAC, Running, SERVER_IP, noise, segment, table};

/// Between two words of the known machine.
const CHUNK: u32 = 250;
const WARM: u32 = 60;
const FLOOD: u32 = 160;
/// What 40,000 packets may leave in memory; a request of each, kept, would be twice as much.
const GROWN: u64 = 8 << 20;

/// The `n`th packet: by turns who looks for an address, who asks for one, and who wants settings, each another machine.
fn forged(n: u32, noise: &[u8]) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let [a, b, c, d] = n.to_be_bytes();
    let mut message = Message::new_with_id(n, any, any, any, any, &[2, 1, a, b, c, d]);
    let kind = match n % 4 {
        0 | 1 => MessageType::Discover,
        2 => MessageType::Request,
        _ => MessageType::Inform,
    };
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    if n.is_multiple_of(2) {
        options.insert(DhcpOption::ClientIdentifier([&n.to_be_bytes()[..], &[7; 200]].concat()));
    }
    if n.is_multiple_of(3) {
        options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007:UNDI:003016".to_vec()));
    }
    let [.., low] = n.to_be_bytes();
    options.insert(DhcpOption::RequestedIpAddress([10, 77, 0, low].into()));
    let mut bytes = message.to_vec().unwrap();
    if n.is_multiple_of(5) {
        // A bomb: the same options again and again, each as long as it can be (RFC 3396 has them joined), or empty.
        bytes.pop_if(|end| *end == 255);
        for code in [61_u8, 82, 43, 60, 77, 97] {
            let len = noise[(n as usize + usize::from(code)) % noise.len()];
            bytes.extend([code, len]);
            bytes.extend(std::iter::repeat_n(code, len.into()));
        }
        while bytes.len() < 1400 {
            bytes.extend([55, 0]);
        }
    }
    bytes
}

/// Bytes of memory that this process has.
pub(crate) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn made_up_machines_and_bombs_of_options_fill_no_memory() {
    let cable = Cable::addressed();
    let pool = Pool { first: [10, 77, 0, 100].into(), last: [10, 77, 0, 131].into(), boot: Boot::None };
    let mut config = Config::new(HTTP_PORT);
    config.leases = Leases::open(&cable.path("given")).unwrap();
    config.files.insert("f".into(), noise(5000).into());
    let server = Running::start(
        &cable.server,
        config,
        table(Segment { pool: Some(pool), conflict_check: false, ..segment() }, Boot::None),
    );
    let (before, after) = cable.client.inside(|| {
        let (forger, known) =
            (UdpSocket::bind((CLIENT_IP, 0)).unwrap(), UdpSocket::bind((CLIENT_IP, 68)).unwrap());
        known.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let noise = noise(4096);
        let chunk = |chunk: u32| {
            for n in chunk * CHUNK..(chunk + 1) * CHUNK {
                let _ = forger.send_to(&forged(n, &noise), (SERVER_IP, 67));
                if n.is_multiple_of(16) {
                    let options = "x\0y\0".repeat((n % 300) as usize);
                    let request = [&b"\0\x01missing\0octet\0"[..], options.as_bytes()].concat();
                    let _ = forger.send_to(&request, (SERVER_IP, 69));
                }
            }
            assert!(is_answered(&known, chunk), "the known machine waits in vain");
        };
        (0..WARM).for_each(chunk);
        let before = resident();
        (WARM..WARM + FLOOD).for_each(chunk);
        (before, resident())
    });
    has_bounded_tables(&server);
    let leases = server.netboot.leases();
    assert!(leases.len() <= 32 + 1, "{leases:?}");
    assert!(after < before + GROWN, "{} KiB more than before", (after - before) >> 10);
}

/// What is remembered of machines is no more than there is room for, with a pool of 32 addresses and one machine known.
pub(crate) fn has_bounded_tables(server: &Running) {
    for (what, most) in [
        ("traced_ports", 1024 + 1),
        ("traced_events", 1024 * 8),
        ("logged_events", 4096),
        ("unknown_machines", 1024),
        ("pool_addresses", 32),
        ("reservations", 1),
        ("proxy_addresses", 0),
        ("tftp_transfers", 0),
    ] {
        let remembered = server.netboot.remembered();
        assert!(remembered[what] <= most, "{what}: expected at most {most}, saw {remembered:?}");
    }
}

/// A known machine asks for its settings, as often as a firmware asks again.
fn is_answered(known: &UdpSocket, chunk: u32) -> bool {
    let (any, xid) = (Ipv4Addr::UNSPECIFIED, u32::MAX - chunk);
    let mut message = Message::new_with_id(xid, CLIENT_IP.parse().unwrap(), any, any, any, &MAC.0);
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Inform));
    let bytes = message.to_vec().unwrap();
    (0..4).any(|_| {
        known.send_to(&bytes, (SERVER_IP, 67)).unwrap();
        let mut buffer = vec![0; 2048];
        // What was said to others goes by.
        while let Ok(len) = known.recv(&mut buffer) {
            let heard = Message::decode(&mut Decoder::new(&buffer[..len]));
            if heard.is_ok_and(|message| message.xid() == xid) {
                return true;
            }
        }
        false
    })
}
