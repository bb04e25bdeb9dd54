//! DHCPv6 servers that are not ours on a segment whose IPv6 is, and routers whose advertisements lead machines away from it.
//!
//! A server is asked for once a minute by a SOLICIT of our own, which takes nothing of what it is offered; its question does not
//! come back to us. A router may well stand beside us, as long as it says what we say: that addresses come by DHCPv6 (RFC 4861
//! §4.2, M), and that no prefix but ours is on the link (§4.6.2).

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use farrier_model::Seldom;

use super::request::Options;
use crate::{Dhcp6, EventKind, MacAddr, Segment, server::Shared, socket};

/// Looks for both on one segment.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    six: Dhcp6,
    index: u32,
    /// Where servers answer clients.
    servers: UdpSocket,
    /// Raw ICMPv6, driven through tokio's datagram type as in [`crate::ra`].
    routers: UdpSocket,
    probe: Probe,
    /// Routers that were told of lately; servers are told of with those of IPv4.
    told: Seldom,
}

/// The client that we play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probe {
    mac: MacAddr,
    xid: [u8; 3],
}

impl Watcher {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>, six: Dhcp6) -> io::Result<Self> {
        let index = socket::index_of(&segment.interface)?;
        let servers = socket::udp_on(&segment.interface, Ipv6Addr::UNSPECIFIED.into(), CLIENT_PORT)?;
        let routers = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        routers.set_nonblocking(true)?;
        routers.bind_device(Some(segment.interface.as_bytes()))?;
        for socket in [socket2::SockRef::from(&servers), socket2::SockRef::from(&routers)] {
            // Our own server is not the one that is looked for.
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(index)?;
        }
        let [first, b, c, d, e, f]: [u8; 6] = rand::random();
        // Locally administered, of one station (IEEE 802 §8.2): no machine's.
        let probe = Probe { mac: MacAddr([first & 0xfc | 2, b, c, d, e, f]), xid: rand::random() };
        let routers = UdpSocket::from_std(routers.into())?;
        Ok(Self { shared, segment, six, index, servers, routers, probe, told: Seldom::default() })
    }

    /// Asks and listens until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut ask = tokio::time::interval(EVERY);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut said, mut advertised) = (vec![0; 2048], vec![0; 2048]);
        loop {
            let failed = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ask.tick() => {
                    let to = SocketAddrV6::new(ALL_SERVERS_AND_RELAYS, SERVER_PORT, 0, self.index);
                    self.servers.send_to(&question(self.probe), to).await.err()
                }
                received = self.servers.recv_from(&mut said) => received.map(|(len, from)| {
                    self.answer(said.get(..len).unwrap_or_default(), from);
                }).err(),
                received = self.routers.recv_from(&mut advertised) => received.map(|(len, from)| {
                    self.advertisement(advertised.get(..len).unwrap_or_default(), from);
                }).err(),
            };
            if let Some(error) = failed {
                // Before the link-local address is settled there is nothing to send from.
                tracing::debug!(interface = self.segment.interface, %error, "other DHCPv6 servers not looked for");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn answer(&self, bytes: &[u8], from: SocketAddr) {
        let Some(answer) = Answer::parse(bytes, self.probe.xid) else { return };
        let ours = |s: &Arc<Segment>| s.dhcp6.is_some_and(|six| six.duid() == answer.server);
        if self.shared.table.load().segments().iter().any(ours) {
            return;
        }
        self.shared.foreign.tell_of(&self.shared, &self.segment, from.ip(), &answer.describe());
    }

    fn advertisement(&self, bytes: &[u8], from: SocketAddr) {
        // RFC 4861 §6.1.2: routers speak from their link-local addresses.
        let (SocketAddr::V6(from), Some(wrong)) = (from, wrong_in_advertisement(bytes, &self.six)) else {
            return;
        };
        if !from.ip().is_unicast_link_local() {
            return;
        }
        let router = *from.ip();
        if self.told.due(router.into(), Instant::now()) {
            let kind = EventKind::RogueRouter { router, network: self.segment.network.clone() };
            self.shared.events.emit(None, None, kind, wrong);
        }
    }
}

/// SOLICIT (RFC 8415 §16.2, §18.2.1) for an address and a boot file, as firmware for UEFI x64 asks.
///
/// ```text
/// | 1 SOLICIT | xid, 3 | options: code, 2 | length, 2 | value |
/// ```
fn question(probe: Probe) -> Vec<u8> {
    let [a, b, c] = probe.xid;
    let mut out = vec![SOLICIT, a, b, c];
    let mut option = |code: u16, value: &[u8]| {
        out.extend(code.to_be_bytes());
        // None of them is longer than a dozen octets.
        out.extend([0, u8::try_from(value.len()).unwrap_or(0)]);
        out.extend(value);
    };
    // RFC 8415 §11.4: a DUID of the link-layer address, of Ethernet.
    option(CLIENT_ID, &[&[0, 3, 0, 1][..], &probe.mac.0].concat());
    // IAID, and no wish for T1 and T2.
    option(IA_NA, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    option(ELAPSED_TIME, &[0, 0]);
    option(ORO, &BOOTFILE_URL.to_be_bytes());
    option(ARCHITECTURE, &[0, 7]);
    out
}

/// What an answer of another DHCPv6 server offers, in printable words; `None`: it is none.
#[must_use]
pub fn describe_answer(bytes: &[u8]) -> Option<String> {
    let [_, a, b, c, ..] = bytes else { return None };
    Some(Answer::parse(bytes, [*a, *b, *c])?.describe())
}

/// What a router's advertisement says that ours does not; `None`: nothing, or it is none.
#[must_use]
pub fn describe_advertisement(bytes: &[u8], six: &Dhcp6) -> Option<String> {
    wrong_in_advertisement(bytes, six)
}

/// What a server said to our question.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Its DUID.
    server: Vec<u8>,
    address: Option<Ipv6Addr>,
    /// Option 59, untrusted: what of it is not printable is a question mark.
    boot_file: Option<String>,
}

impl Answer {
    /// `None`: no answer to a question of ours.
    fn parse(bytes: &[u8], xid: [u8; 3]) -> Option<Self> {
        let [ADVERTISE | REPLY, a, b, c, options @ ..] = bytes else { return None };
        if [*a, *b, *c] != xid {
            return None;
        }
        let (mut server, mut address, mut boot_file) = (None, None, None);
        for (code, value) in Options(options) {
            match code {
                SERVER_ID => server = Some(value.to_vec()),
                IA_NA => {
                    let inner = value.get(12..).unwrap_or_default();
                    let given = Options(inner).find(|(code, _)| *code == IA_ADDR);
                    let ip = given.and_then(|(_, value)| value.first_chunk::<16>().copied());
                    address = address.or(ip.map(Ipv6Addr::from));
                }
                BOOTFILE_URL => {
                    // It ends on somebody's terminal: there are letters that turn a line round.
                    let plain = |byte: &u8| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '?' };
                    boot_file = Some(value.iter().take(LONGEST).map(plain).collect());
                }
                _ => {}
            }
        }
        Some(Self { server: server?, address, boot_file })
    }

    fn describe(&self) -> String {
        let address = self.address.map_or("no address".to_owned(), |ip| ip.to_string());
        match &self.boot_file {
            Some(url) => format!("offered {address}, boot file {url}"),
            None => format!("offered {address}"),
        }
    }
}

/// What an advertisement says that ours does not; `None`: nothing, or it is none.
///
/// ```text
/// | type 134 | code 0 | checksum, 2 | hop limit | M O | lifetime, 2 | reachable, 4 | retrans, 4 | options |
/// | option: type | length in units of 8 octets | value |
/// ```
fn wrong_in_advertisement(bytes: &[u8], six: &Dhcp6) -> Option<String> {
    let [134, 0, _, _, _, flags, _, _, _, _, _, _, _, _, _, _, options @ ..] = bytes else { return None };
    if flags & MANAGED == 0 {
        return Some("says that addresses do not come by DHCPv6 (M is clear)".to_owned());
    }
    let mut rest = options;
    while let [kind, units, ..] = rest {
        let (option, after) = rest.split_at_checked(usize::from(*units).max(1) * 8)?;
        if let (
            PREFIX_INFORMATION,
            [_, _, length, .., p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, pa, pb, pc, pd, pe, pf],
        ) = (*kind, option)
        {
            let prefix = Ipv6Addr::from([
                *p0, *p1, *p2, *p3, *p4, *p5, *p6, *p7, *p8, *p9, *pa, *pb, *pc, *pd, *pe, *pf,
            ]);
            if !six.contains(prefix) {
                return Some(format!("says that {prefix}/{length} is on the link"));
            }
        }
        rest = after;
    }
    None
}

const EVERY: Duration = Duration::from_secs(60);
/// Characters of a URL that somebody else made.
const LONGEST: usize = 200;
/// RFC 8415 §7.1, §7.2, §7.3, §21.
const ALL_SERVERS_AND_RELAYS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDR: u16 = 5;
const ORO: u16 = 6;
const ELAPSED_TIME: u16 = 8;
/// RFC 5970 §3.1, §3.3.
const BOOTFILE_URL: u16 = 59;
const ARCHITECTURE: u16 = 61;
/// RFC 4861 §4.2, §4.6.2.
const MANAGED: u8 = 0x80;
const PREFIX_INFORMATION: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp6::Request6;

    const PROBE: Probe = Probe { mac: MacAddr([2, 0, 0, 0, 0, 9]), xid: [1, 2, 3] };

    #[test]
    fn our_question_is_a_solicit_that_a_server_reads() {
        let request = Request6::parse(&question(PROBE)).unwrap();
        assert_eq!((u8::from(request.kind), request.xid), (SOLICIT, PROBE.xid));
        assert_eq!((request.architecture, request.ias.len()), (Some(7), 1));
        assert_eq!(request.macs(Ipv6Addr::UNSPECIFIED), [PROBE.mac]);
        assert_eq!(Answer::parse(&question(PROBE), PROBE.xid), None, "a question is no answer");
    }

    #[test]
    fn answers_say_who_and_what_and_only_to_us() {
        let ip: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let address = [&[0, 5, 0, 24][..], &ip.octets(), &[0; 8]].concat();
        let ia = [&[0, 3, 0, 40, 0, 0, 0, 1][..], &[0; 8], &address].concat();
        let bytes =
            [&[2, 1, 2, 3, 0, 2, 0, 2, 0, 9][..], &ia, &[0, 59, 0, 7], "a:\n/\u{202e}".as_bytes()].concat();
        let answer = Answer::parse(&bytes, PROBE.xid).unwrap();
        assert_eq!(answer.server, [0, 9]);
        assert_eq!(answer.describe(), "offered 2001:db8::9, boot file a:?/???");
        assert_eq!(describe_answer(&bytes), Some(answer.describe()));
        assert_eq!(Answer::parse(&bytes, [9, 9, 9]), None);
        for len in 0..bytes.len() {
            // Cut anywhere, it is read as far as it goes.
            let _ = Answer::parse(&bytes[..len], PROBE.xid);
        }
        assert_eq!(Answer::parse(&[7, 1, 2, 3], PROBE.xid), None, "without its name it is nobody's");
    }

    #[test]
    fn a_router_beside_us_says_what_we_say_or_is_told_of() {
        let six = Dhcp6::new("2001:db8:77::1".parse().unwrap(), 64);
        let with = |flags: u8, prefix: Option<&str>| {
            let mut bytes = vec![134, 0, 0, 0, 64, flags, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
            // The router's own link-layer address first.
            bytes.extend([1, 1, 2, 0, 0, 0, 0, 1]);
            if let Some(prefix) = prefix {
                bytes.extend([3, 4, 64, 0xc0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0]);
                bytes.extend(prefix.parse::<Ipv6Addr>().unwrap().octets());
            }
            wrong_in_advertisement(&bytes, &six)
        };
        assert_eq!(with(MANAGED, None), None);
        assert_eq!(with(MANAGED, Some("2001:db8:77::")), None);
        let wrong = with(MANAGED, Some("2001:db8:66::")).unwrap();
        assert_eq!(wrong, "says that 2001:db8:66::/64 is on the link");
        assert!(with(0, Some("2001:db8:77::")).unwrap().contains("M is clear"));
        assert_eq!(wrong_in_advertisement(&[133, 0, 0, 0], &six), None);
        // A length that leads beyond the packet, and one of nothing.
        let short = [&[134, 0, 0, 0, 64, MANAGED][..], &[0; 10], &[3, 9, 0]].concat();
        assert_eq!(wrong_in_advertisement(&short, &six), None);
        let nothing = [&[134, 0, 0, 0, 64, MANAGED][..], &[0; 10], &[3, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(wrong_in_advertisement(&nothing, &six), None);
    }
}
