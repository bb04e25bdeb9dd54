//! The sockets of the DHCP server: one for each segment.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{Decision, Destination, Reply, Request, decide};
use crate::{BootEntry, BootTable, EventKind, MacAddr, Segment, server::Shared, socket};

/// How often the same unknown machine makes an event.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// Unknown machines remembered; more than a rack has, and when it is a storm nobody misses an event.
const UNKNOWN_MAX: usize = 1024;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The DHCP server of one segment.
pub(crate) struct Server {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    socket: UdpSocket,
    unknown: UnknownMachines,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv4Addr::UNSPECIFIED, SERVER_PORT)?;
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
                Ok((len, from)) => self.packet(buffer.get(..len).unwrap_or_default(), from).await,
                Err(error) => {
                    // An unreachable client's ICMP, or the interface going down.
                    tracing::debug!(interface = self.segment.interface, %error, "dhcp receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn packet(&mut self, bytes: &[u8], from: SocketAddr) {
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(error) => {
                self.shared.malformed.tell("dhcp", &self.segment.interface, from, bytes, &error);
                return;
            }
        };
        let table = self.shared.table.load_full();
        let Some(segment) = segment_for(&table, &self.segment, &request) else {
            tracing::debug!(giaddr = %request.giaddr, mac = %request.mac, "dhcp relay of no segment of ours");
            return;
        };
        let guest = self.guest(&segment, &table, request.mac);
        let decision = decide(&segment, &table, &self.shared.config.boot_files, &request, guest.as_ref());
        let entry = table.entry(request.mac, &segment.network).map(AsRef::as_ref).or(guest.as_ref());
        self.record(&segment, &request, entry, &decision);
        if let Some(reply) = decision.reply {
            self.send(&reply).await;
        }
    }

    /// What an unknown machine gets, when the segment has a pool for them.
    fn guest(&self, segment: &Segment, table: &BootTable, mac: MacAddr) -> Option<BootEntry> {
        let pool = segment.pool.as_ref()?;
        if !table.entries_of(mac).is_empty() {
            return None;
        }
        let ip = self.shared.leases.guest_address(mac, segment, pool, table, SystemTime::now())?;
        let (network, boot) = (segment.network.clone(), pool.boot.clone());
        Some(BootEntry { mac, node: String::new(), hostname: String::new(), ip, network, boot })
    }

    fn record(
        &mut self,
        segment: &Segment,
        request: &Request,
        entry: Option<&BootEntry>,
        decision: &Decision,
    ) {
        let node = entry.map(|e| e.node.as_str()).filter(|n| !n.is_empty());
        for (kind, detail) in &decision.events {
            let rare = matches!(kind, EventKind::UnknownMac | EventKind::WrongNetwork);
            if !rare || self.unknown.first_in_a_while(request.mac, Instant::now()) {
                self.shared.events.emit(Some(request.mac), node, kind.clone(), detail.clone());
            }
        }
        if let Some(change) = &decision.lease {
            self.shared.leases.apply(request.mac, &segment.network, change, SystemTime::now());
        }
    }

    async fn send(&self, reply: &Reply) {
        let to = match reply.to {
            Destination::Relay(ip) => SocketAddrV4::new(ip, SERVER_PORT),
            Destination::Client(ip) => SocketAddrV4::new(ip, CLIENT_PORT),
            Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
        };
        let Some(bytes) = reply.bytes() else {
            tracing::error!("bug: dhcp answer cannot be encoded");
            return;
        };
        if let Err(error) = self.socket.send_to(&bytes, to).await {
            tracing::warn!(interface = self.segment.interface, %to, %error, "dhcp answer not sent");
        }
    }
}

/// The segment a packet is about: the relay's if it came through one, else the one of the socket.
fn segment_for(table: &BootTable, here: &Arc<Segment>, request: &Request) -> Option<Arc<Segment>> {
    if request.giaddr.is_unspecified() {
        // The table's version, so that changed settings hold at once.
        let current = table.segments().iter().find(|s| s.interface == here.interface);
        return Some(Arc::clone(current.unwrap_or(here)));
    }
    table.served().find(|s| s.contains(request.giaddr)).cloned()
}

/// Who was told of lately, so that a machine in a boot loop, or a storm, is one event.
#[derive(Debug, Default)]
struct UnknownMachines(HashMap<MacAddr, Instant>);

impl UnknownMachines {
    fn first_in_a_while(&mut self, mac: MacAddr, now: Instant) -> bool {
        if self.0.get(&mac).is_some_and(|at| now.duration_since(*at) < UNKNOWN_EVERY) {
            return false;
        }
        if self.0.len() >= UNKNOWN_MAX {
            self.0.retain(|_, at| now.duration_since(*at) < UNKNOWN_EVERY);
        }
        if self.0.len() >= UNKNOWN_MAX {
            return false;
        }
        self.0.insert(mac, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_machine_is_told_of_once_a_minute_and_a_storm_is_cut() {
        let mut unknown = UnknownMachines::default();
        let now = Instant::now();
        let mac = |n: u16| {
            let [a, b] = n.to_be_bytes();
            MacAddr([2, 0, 0, 0, a, b])
        };
        assert!(unknown.first_in_a_while(mac(0), now));
        assert!(!unknown.first_in_a_while(mac(0), now + Duration::from_secs(59)));
        assert!(unknown.first_in_a_while(mac(0), now + Duration::from_secs(60)));
        let told = (0..5000).filter(|n| unknown.first_in_a_while(mac(*n), now)).count();
        assert!(told <= UNKNOWN_MAX, "{told}");
        assert!(unknown.first_in_a_while(mac(9), now + Duration::from_secs(120)));
    }
}
