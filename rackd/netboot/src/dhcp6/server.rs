//! The socket of the DHCPv6 server: one for each segment that has it.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{Request6, decide6};
use crate::{BootTable, EventKind, Segment, dhcp::UnknownMachines, server::Shared, socket};

pub(crate) struct Server {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    socket: UdpSocket,
    unknown: UnknownMachines,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv6Addr::UNSPECIFIED.into(), SERVER_PORT)?;
        socket::widen(&socket);
        let index = socket::index_of(&segment.interface)?;
        for group in [ALL_SERVERS_AND_RELAYS, ALL_SERVERS] {
            socket.join_multicast_v6(&group, index)?;
        }
        Ok(Self { shared, segment, socket, unknown: UnknownMachines::default() })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, SocketAddr::V6(from))) => {
                    self.packet(buffer.get(..len).unwrap_or_default(), from).await;
                }
                Ok((_, SocketAddr::V4(_))) => {}
                Err(error) => {
                    tracing::debug!(interface = self.segment.interface, %error, "dhcpv6 receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn packet(&mut self, bytes: &[u8], from: SocketAddrV6) {
        let request = match Request6::parse(bytes) {
            Ok(request) => request,
            Err(error) => {
                self.shared.malformed(
                    ("dhcpv6", &self.segment.interface),
                    from.into(),
                    bytes,
                    &error,
                    (None, None),
                );
                return;
            }
        };
        let table = self.shared.table.load_full();
        let segment = segment_for(&table, &self.segment, &request);
        let Some(six) = segment.dhcp6 else { return };
        let files = &self.shared.config.boot_files;
        let decision = decide6(&segment, &six, &table, files, &request, *from.ip());
        let entry = decision.mac.and_then(|mac| table.entry(mac, &segment.network));
        for (kind, detail) in decision.events {
            let rare = match kind {
                EventKind::UnknownMac { boots, .. } => Some(boots),
                EventKind::WrongNetwork => Some(false),
                _ => None,
            };
            let who = decision.mac.zip(rare);
            if who.is_none_or(|who| self.unknown.first_in_a_while(who, Instant::now()))
                // Without an address there is nobody to pin it on.
                && decision.mac.is_some()
            {
                self.shared.events.emit(decision.mac, entry.map(|e| e.node.as_str()), kind, detail);
            }
        }
        let Some(reply) = decision.reply else { return };
        // RFC 8415 §7.2: clients hear 546, relays 547; from where a packet was sent says nothing.
        let port = if request.relays.is_empty() { CLIENT_PORT } else { SERVER_PORT };
        let to = SocketAddrV6::new(*from.ip(), port, 0, from.scope_id());
        if let Err(error) = self.socket.send_to(&reply, to).await {
            // A link-local address that is not settled yet is no source; the client asks again.
            tracing::warn!(interface = self.segment.interface, %to, %error, "dhcpv6 answer not sent");
        }
    }
}

/// The segment a packet is about: that of the relay nearest to the client, if it says one, else the one of the socket.
fn segment_for(table: &BootTable, here: &Arc<Segment>, request: &Request6) -> Arc<Segment> {
    let link = request.relays.last().map(|hop| hop.link);
    let far = table
        .segments()
        .iter()
        .find(|segment| segment.dhcp6.is_some_and(|six| link.is_some_and(|link| six.contains(link))));
    // The table's version, so that changed settings hold at once.
    let current = far.or_else(|| table.segments().iter().find(|s| s.interface == here.interface));
    Arc::clone(current.unwrap_or(here))
}

/// RFC 8415 §7.1.
const ALL_SERVERS_AND_RELAYS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
