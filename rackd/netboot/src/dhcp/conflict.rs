//! Whether an address of a pool is used by somebody already, looked for before it is offered the first time
//! (RFC 2131 §2.2, §4.3.1).
//!
//! Two witnesses: an answer to an ICMP echo request, and the kernel's neighbour table, since whoever has an address
//! answers ARP for it even where a firewall drops the echo. Behind a relay there is the first alone, by the route there. A machine waits half a second for that, once; then it has
//! the address and is not asked again. In a storm most are not looked for: an address in use is rarer than a firmware
//! that gives up.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::Request;
use crate::{MacAddr, neighbours, socket};

/// Addresses that are looked for, and who waits for them. Without I/O.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// In the order of their ends: all take as long.
    under_way: VecDeque<Check>,
    /// Nobody answered for it, and who it is for was told so a moment ago.
    free: HashMap<Ipv4Addr, Instant>,
}

#[derive(Debug)]
pub(super) struct Check {
    pub(super) ip: Ipv4Addr,
    /// To be answered when it is over.
    pub(super) request: Request,
    /// The neighbour table had it before anybody asked: that may be long ago, and says nothing.
    pub(super) old_neighbour: bool,
    due: Instant,
}

/// What to do with who wants the address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer now.
    Free,
    /// Ask on the wire, then [`Checks::begin`].
    Ask,
    /// It waits already.
    Wait,
}

impl Checks {
    pub(super) fn judge(&mut self, ip: Ipv4Addr, request: &Request, now: Instant) -> Verdict {
        if self.free.get(&ip).is_some_and(|until| *until > now) {
            return Verdict::Free;
        }
        if let Some(check) = self.under_way.iter_mut().find(|check| check.ip == ip) {
            // It asks again: the last question is the one that it waits on.
            check.request = request.clone();
            return Verdict::Wait;
        }
        if self.under_way.len() < MOST { Verdict::Ask } else { Verdict::Free }
    }

    pub(super) fn begin(&mut self, ip: Ipv4Addr, request: Request, old_neighbour: bool, now: Instant) {
        self.under_way.push_back(Check { ip, request, old_neighbour, due: now + WAIT });
    }

    /// Somebody answers for an address.
    pub(super) fn answered(&mut self, ip: Ipv4Addr) -> Option<Check> {
        let at = self.under_way.iter().position(|check| check.ip == ip)?;
        self.under_way.remove(at)
    }

    /// The check that is over by now, with no answer to its echo.
    pub(super) fn over(&mut self, now: Instant) -> Option<Check> {
        self.under_way.pop_front_if(|check| check.due <= now)
    }

    pub(super) fn is_free(&mut self, ip: Ipv4Addr, now: Instant) {
        self.free.retain(|_, until| *until > now);
        self.free.insert(ip, now + FREE);
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        self.under_way.front().map(|check| check.due)
    }
}

/// The wire.
pub(super) struct Prober {
    interface: String,
    /// Raw ICMP, driven through tokio's datagram type.
    socket: UdpSocket,
    id: [u8; 2],
    /// Who answered ARP, and when that was read.
    neighbours: (Option<Instant>, HashMap<Ipv4Addr, MacAddr>),
}

impl Prober {
    pub(super) fn bind(interface: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket::widen_send(&socket);
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self {
            interface: interface.to_owned(),
            socket,
            id: rand::random(),
            neighbours: Default::default(),
        })
    }

    /// Asks for an address; its kernel is asked by ARP on the way.
    pub(super) fn ask(&self, ip: Ipv4Addr) {
        let to = SocketAddrV4::new(ip, 0).into();
        // Nobody waits for room: what is not asked for is as good as an address that nobody has.
        if let Err(error) = socket::send_now(&self.socket, &echo_request(self.id), to) {
            tracing::debug!(interface = self.interface, %ip, %error, "address not looked for");
        }
    }

    /// The next address that answers.
    pub(super) async fn answer(&self) -> Ipv4Addr {
        let mut buffer = [0; 128];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(len) => {
                    let answer = buffer.get(..len).and_then(|packet| echo_reply(packet, self.id));
                    if let Some(ip) = answer {
                        return ip;
                    }
                }
                Err(error) => {
                    tracing::debug!(interface = self.interface, %error, "echo reply not received");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Who answered ARP, as the kernel remembered it a moment ago: many addresses are looked for at a time, and its table is
    /// a text of a thousand lines then.
    pub(super) fn neighbours(&mut self, now: Instant) -> &HashMap<Ipv4Addr, MacAddr> {
        match self.neighbours.0 {
            Some(read) if now.saturating_duration_since(read) < FRESH => &self.neighbours.1,
            _ => self.neighbours_now(),
        }
    }

    /// The same, as the kernel remembers it now.
    pub(super) fn neighbours_now(&mut self) -> &HashMap<Ipv4Addr, MacAddr> {
        self.neighbours = (Some(Instant::now()), neighbours::read(&self.interface));
        &self.neighbours.1
    }
}

/// ICMP echo request (RFC 792) without data.
fn echo_request(id: [u8; 2]) -> [u8; 8] {
    let [a, b] = id;
    // RFC 1071: the ones' complement of the ones' complement sum of type 8 and the identifier; all else is zero.
    let sum = 0x0800_u32 + u32::from(u16::from_be_bytes(id));
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, c, d] = (!folded).to_be_bytes();
    [8, 0, c, d, a, b, 0, 0]
}

/// Whose echo reply an IPv4 packet is, if it is one to us.
fn echo_reply(packet: &[u8], id: [u8; 2]) -> Option<Ipv4Addr> {
    let words = usize::from(packet.first()? & 0xf);
    let source = packet.get(12..)?.first_chunk::<4>()?;
    match packet.get(words * 4..)? {
        [0, 0, _, _, a, b, ..] if [*a, *b] == id => Some(Ipv4Addr::from(*source)),
        _ => None,
    }
}

/// How long an answer may take. A firmware asks again after one second at the earliest.
const WAIT: Duration = Duration::from_millis(500);
/// Looked for at a time. Each takes a place in the kernel's neighbour table, which has a thousand.
const MOST: usize = 64;
/// Much less than [`WAIT`]: who answers at all has done so by then.
const FRESH: Duration = Duration::from_millis(50);
/// As long as an offer stands.
const FREE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::tests::discover;

    #[test]
    fn an_address_is_looked_for_once_and_its_last_question_is_answered() {
        let (mut checks, now) = (Checks::default(), Instant::now());
        let ip = Ipv4Addr::new(10, 0, 0, 9);
        let (first, second) = (discover(1), discover(2));
        assert_eq!(checks.judge(ip, &first, now), Verdict::Ask);
        checks.begin(ip, first, false, now);
        assert_eq!(checks.judge(ip, &second, now), Verdict::Wait);
        assert!(checks.over(now).is_none());
        assert_eq!(checks.due_at(), Some(now + WAIT));
        let check = checks.over(now + WAIT).unwrap();
        assert_eq!((check.ip, check.request.xid), (ip, 2));
        checks.is_free(ip, now);
        assert_eq!(checks.judge(ip, &check.request, now), Verdict::Free);
        assert_eq!(checks.judge(ip, &check.request, now + FREE), Verdict::Ask);
        checks.begin(ip, check.request, false, now);
        assert!(checks.answered(Ipv4Addr::new(10, 0, 0, 8)).is_none());
        assert_eq!(checks.answered(ip).map(|check| check.ip), Some(ip));
        assert!(checks.due_at().is_none());
    }

    #[test]
    fn a_storm_is_not_looked_for() {
        let (mut checks, now) = (Checks::default(), Instant::now());
        let ip = |n: usize| Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).unwrap());
        for n in 0..MOST {
            assert_eq!(checks.judge(ip(n), &discover(1), now), Verdict::Ask);
            checks.begin(ip(n), discover(1), false, now);
        }
        assert_eq!(checks.judge(ip(MOST), &discover(1), now), Verdict::Free);
    }

    #[test]
    fn echo_requests_add_up_and_replies_are_told_apart() {
        for id in [[0, 0], [0xff, 0xff], [0xf8, 0x01], [0x12, 0x34]] {
            let request = echo_request(id);
            let sum: u32 = request.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{id:?}");
        }
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[10, 0, 0, 9]);
        packet.extend([0, 0, 1, 2, 7, 8, 0, 0]);
        assert_eq!(echo_reply(&packet, [7, 8]), Some([10, 0, 0, 9].into()));
        assert_eq!(echo_reply(&packet, [7, 9]), None);
        packet[20] = 8;
        assert_eq!(echo_reply(&packet, [7, 8]), None, "a request, ours on its way out");
        for len in 0..packet.len() {
            let _ = echo_reply(&packet[..len], [7, 8]);
        }
    }
}
