//! The socket of the DHCPv6 server: one for each segment that has it.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::decide::word;
use super::sources::Sources;
use super::{Request6, decide6};
use crate::decode::Packet;
use crate::dhcp::waiting::Waiting;
use crate::{BootTable, EventKind, Segment, metrics::Shed, server::Shared, socket};
use farrier_model::Seldom;

pub(crate) struct Server {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    socket: UdpSocket,
    /// Relays that were told to be none of ours.
    relays: Seldom,
    /// Leases, which nobody waits for.
    waiting: Waiting,
    sources: Sources,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv6Addr::UNSPECIFIED.into(), SERVER_PORT)?;
        socket::widen(&socket);
        socket::widen_send(&socket);
        let index = socket::index_of(&segment.interface)?;
        for group in [ALL_SERVERS_AND_RELAYS, ALL_SERVERS] {
            socket.join_multicast_v6(&group, index)?;
        }
        let waiting = Waiting::new(shared.config.leases.clone());
        Ok(Self { shared, segment, socket, relays: Seldom::default(), waiting, sources: Sources::default() })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.waiting.written_beside() => continue,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, SocketAddr::V6(from))) => {
                    self.packet(buffer.get(..len).unwrap_or_default(), from);
                }
                Ok((_, SocketAddr::V4(_))) => {}
                Err(error) => {
                    tracing::debug!(interface = self.segment.interface, %error, "dhcpv6 receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// A packet that nobody decides about.
    fn ignored(&self, table: &BootTable, request: &Request6, bytes: &[u8], from: Ipv6Addr, why: &str) {
        let macs = request.macs(from);
        let known = macs.iter().find(|mac| !table.entries_of(**mac).is_empty());
        let Some(mac) = known.or(macs.first()).copied() else { return };
        let node = table.entries_of(mac).first().map(|entry| entry.node.as_str());
        if node.is_some() || self.shared.ignored.first_in_a_while((mac, false), Instant::now()) {
            let (kind, packet) = (EventKind::Ignored { message: word(request.kind) }, Packet::dhcp6(bytes));
            let detail = format!("DHCPv6: {why}: {}", request.describe());
            self.shared.events.emit_packet((Some(mac), node), kind, detail, Some(&packet));
        }
    }

    fn packet(&mut self, bytes: &[u8], from: SocketAddrV6) {
        let request = match Request6::parse(bytes) {
            Ok(request) => request,
            Err(error) => {
                let who = super::request::sender(bytes, *from.ip(), &self.shared.table.load());
                self.shared.malformed(("dhcpv6", &self.segment.interface), from.into(), bytes, &error, who);
                return;
            }
        };
        let table = self.shared.table.load_full();
        let Some(segment) = segment_for(&table, &self.segment, &request) else {
            return self.unknown_relay(&table, &request, bytes, *from.ip());
        };
        let Some(six) = segment.dhcp6 else {
            let why = format!("segment {} has no DHCPv6", segment.network);
            return self.ignored(&table, &request, bytes, *from.ip(), &why);
        };
        let files = &self.shared.config.boot_files;
        let decision = decide6(&segment, &six, &table, files, &request, *from.ip());
        let entry = decision.mac.and_then(|mac| table.entry(mac, &segment.network));
        if let Some(mac) = decision.moved {
            self.shared.elsewhere.note(mac, &segment.network);
        }
        // What it is answered is told when that has left.
        let (told, asked): (Vec<_>, Vec<_>) =
            decision.events.into_iter().partition(|(kind, _)| kind.is_answer());
        let whose = (decision.mac, entry.map(|entry| entry.node.as_str()));
        let packet = Packet::dhcp6(bytes);
        for (kind, detail) in asked {
            let rare = match kind {
                EventKind::UnknownMac { boots, .. } => Some(boots),
                EventKind::WrongNetwork => Some(false),
                EventKind::Ignored { .. } if entry.is_none() => Some(false),
                _ => None,
            };
            let who = decision.mac.zip(rare);
            let is_ignored = matches!(kind, EventKind::Ignored { .. });
            let unknown = if is_ignored { &self.shared.ignored } else { &self.shared.unknown };
            if who.is_none_or(|who| unknown.first_in_a_while(who, Instant::now()))
                // Without an address there is nobody to pin it on.
                && decision.mac.is_some()
            {
                self.shared.events.emit_packet(whose, kind, detail, Some(&packet));
            }
        }
        let Some(reply) = decision.reply else { return };
        // A relay is one neighbour, whoever asks through it.
        let mac = decision.mac.filter(|_| request.relays.is_empty());
        // Nor is the address that its MAC makes ever one too many: whoever asks in its name does not silence it.
        let mac = mac.filter(|mac| !request.port_macs(*from.ip()).contains(mac));
        if mac.is_some_and(|mac| !self.sources.admits(mac, *from.ip(), Instant::now())) {
            self.shared.events.counters.shed(Shed::ManySources, 1);
            let why =
                "asked from more addresses in a minute than one machine has: is somebody asking in its name?";
            return self.ignored(&table, &request, bytes, *from.ip(), why);
        }
        // RFC 8415 §7.2: clients hear 546, relays 547; from where a packet was sent says nothing.
        let port = if request.relays.is_empty() { CLIENT_PORT } else { SERVER_PORT };
        let to = SocketAddrV6::new(*from.ip(), port, 0, from.scope_id());
        // At once or not at all: one that would wait for a neighbour keeps nobody else from an answer.
        let sent = socket::send_now(&self.socket, &reply, to.into());
        if let Err(error) = &sent {
            self.shared.events.counters.unsent("dhcpv6", error);
        }
        let leases = &self.shared.config.leases;
        if let (Some(entry), Some(change), Ok(_)) = (entry, &decision.lease, &sent)
            && leases.reserved_by_six(entry.mac, &segment.network, change, SystemTime::now())
        {
            self.waiting.write_beside();
            self.waiting.begin();
        }
        let answer = Packet::dhcp6(&reply);
        for (kind, detail) in told {
            let (kind, detail) = match &sent {
                Ok(()) => (kind, detail),
                // A link-local address that is not settled yet is no source.
                Err(error) => {
                    let expected = "expected it to leave at once; it asks again, and where it is not answered then either, \
                                    look at the link and at our addresses on it";
                    (EventKind::AnswerNotSent, format!("{kind} {detail}, to {to}: {error}: {expected}"))
                }
            };
            self.shared.events.emit_packet(whose, kind, detail, Some(&answer));
        }
    }

    /// Silence is all that a relay of another link gets; without a word nobody would know that it asks here.
    fn unknown_relay(&self, table: &BootTable, request: &Request6, bytes: &[u8], from: Ipv6Addr) {
        if self.relays.due(from.into(), Instant::now()) {
            let link = request.link().unwrap_or(Ipv6Addr::UNSPECIFIED);
            let detail = format!(
                "{}: expected a link of one of the segments with `address6` here, saw {link}; name its subnet with \
                 `behind_relay6`, or let the relay ask another server",
                request.describe()
            );
            let macs = request.macs(from);
            let known = macs.iter().find_map(|mac| table.entries_of(*mac).first());
            let mac = known.map(|entry| entry.mac).or_else(|| macs.first().copied());
            let (kind, packet) = (EventKind::UnknownRelay { relay: from.into() }, Packet::dhcp6(bytes));
            let who = (mac, known.map(|entry| entry.node.as_str()));
            self.shared.events.emit_packet(who, kind, detail, Some(&packet));
        }
    }
}

/// The segment a packet is about: that of the link that a relay names (RFC 8415 §13.1), else the one of the socket. `None`: a
/// link that is none of ours.
fn segment_for(table: &BootTable, here: &Arc<Segment>, request: &Request6) -> Option<Arc<Segment>> {
    if let Some(link) = request.link() {
        let mut segments = table.segments().iter();
        return segments.find(|segment| segment.dhcp6.is_some_and(|six| six.contains(link))).cloned();
    }
    // The table's version, so that changed settings hold at once.
    let current = table.segments().iter().find(|s| s.interface == here.interface);
    Some(Arc::clone(current.unwrap_or(here)))
}

/// RFC 8415 §7.1.
const ALL_SERVERS_AND_RELAYS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dhcp6;

    /// A SOLICIT without options, in a relay's envelope for each link, the outermost first.
    fn relayed(links: &[Ipv6Addr]) -> Request6 {
        let mut bytes = vec![1, 0, 0, 1];
        for (hops, link) in links.iter().rev().enumerate() {
            let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            let head = [12, u8::try_from(hops).unwrap()];
            bytes = [&head[..], &link.octets(), &[0; 16], &[0, 9], &len, &bytes].concat();
        }
        Request6::parse(&bytes).unwrap()
    }

    #[test]
    fn the_link_is_the_one_that_the_nearest_relay_knows_and_no_other() {
        let segment = |network: &str, interface: &str, six: &str| Segment {
            dhcp6: Some(Dhcp6::new(six.parse().unwrap(), 64)),
            ..Segment::new(network, interface, [10, 0, 0, 1].into(), 24)
        };
        let mut table = BootTable::new();
        let mut routed = segment("routed", "", "2001:db8:1::1");
        routed.dhcp6.as_mut().unwrap().behind_relay = Some("2001:db8:4::".parse().unwrap());
        table.set_segments(vec![
            segment("near", "br0", "2001:db8:1::1"),
            segment("far", "br1", "2001:db8:2::1"),
            routed,
        ]);
        let here = table.segments().first().unwrap();
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        for (links, expected) in [
            (vec![], Some("near")),
            (vec![ip("2001:db8:2::9")], Some("far")),
            // A switch on the way has no address (RFC 6221), or one that says nothing.
            (vec![ip("2001:db8:2::9"), ip("::")], Some("far")),
            (vec![ip("2001:db8:2::9"), ip("fe80::1")], Some("far")),
            (vec![ip("2001:db8:2::9"), ip("2001:db8:1::9")], Some("near")),
            (vec![ip("::")], Some("near")),
            (vec![ip("2001:db8:4::9")], Some("routed")),
            (vec![ip("2001:db8:3::9")], None),
            (vec![ip("2001:db8:1::9"), ip("2001:db8:3::9")], None),
        ] {
            let segment = segment_for(&table, here, &relayed(&links));
            assert_eq!(segment.as_ref().map(|s| s.network.as_str()), expected, "{links:?}");
        }
    }
}
