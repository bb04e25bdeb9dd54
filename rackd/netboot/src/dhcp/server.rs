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

use dhcproto::v4::MessageType;

use super::{Decision, Destination, Reply, Request, decide, waiting::Waiting};
use crate::lease::Ask;
use crate::{BootEntry, BootTable, ClientKey, EventKind, Leases, MacAddr, Segment, server::Shared, socket};

/// How often the same unknown machine makes an event.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// Unknown machines remembered; more than a rack has, and when it is a storm nobody misses an event.
const UNKNOWN_MAX: usize = 1024;
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Packets read in one go.
const BATCH: usize = 64;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The DHCP server of one segment.
pub(crate) struct Server {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    socket: UdpSocket,
    unknown: UnknownMachines,
    /// When it was last told that the pool is used up.
    exhausted: Option<Instant>,
    waiting: Waiting,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv4Addr::UNSPECIFIED, SERVER_PORT)?;
        socket::widen(&socket);
        let waiting = Waiting::new(shared.config.leases.clone());
        Ok(Self { shared, segment, socket, unknown: UnknownMachines::default(), exhausted: None, waiting })
    }

    /// Answers until `shutdown`. Offers go out at once; while the disk takes the leases of one batch, the next one
    /// gathers.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                replies = self.waiting.committed() => {
                    for reply in replies {
                        self.send(&reply).await;
                    }
                    continue;
                }
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, from)) => {
                    self.packet(buffer.get(..len).unwrap_or_default(), from).await;
                    // What else has come, before the disk is asked to do anything.
                    for _ in 1..BATCH {
                        let Ok((len, from)) = self.socket.try_recv_from(&mut buffer) else { break };
                        self.packet(buffer.get(..len).unwrap_or_default(), from).await;
                    }
                    self.waiting.begin();
                }
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
        let guest = self.guest(&segment, &table, &request);
        let decision = decide(&segment, &table, &self.shared.config.boot_files, &request, guest.as_ref());
        let known = table.entry(request.mac, &segment.network).map(AsRef::as_ref);
        self.tell(&request, known, &decision);
        let record = decision.lease.as_ref().and_then(|change| {
            if guest.is_some() {
                return self.leases().pooled(&ask(&request), &segment.network, change, SystemTime::now());
            }
            self.leases().reserved(request.mac, &segment.network, change, SystemTime::now());
            None
        });
        let now = match record {
            Some(record) => self.waiting.add(&request, record, decision.reply),
            None => decision.reply,
        };
        if let Some(reply) = now {
            self.send(&reply).await;
        }
    }

    /// What a machine that is not in the table gets, when the segment has a pool for such.
    fn guest(&mut self, segment: &Segment, table: &BootTable, request: &Request) -> Option<BootEntry> {
        let pool = segment.pool.as_ref()?;
        if !table.entries_of(request.mac).is_empty() {
            return None;
        }
        let (ask, now) = (ask(request), SystemTime::now());
        let ip = match request.kind {
            MessageType::Request if request.server_id.is_some_and(|server| server != segment.server_ip) => {
                self.leases().withdraw(&ask.client, &segment.network);
                Ipv4Addr::UNSPECIFIED
            }
            MessageType::Discover | MessageType::Request => {
                let ip = self.leases().offer(&ask, segment, pool, table, now);
                if ip.is_none() {
                    self.pool_exhausted(segment, request);
                }
                ip?
            }
            // It has an address that it did not ask us for; it wants the settings.
            MessageType::Inform => request.ciaddr,
            _ => self.leases().held(&ask.client, &segment.network, now)?,
        };
        let (mac, network, boot) = (request.mac, segment.network.clone(), pool.boot.clone());
        Some(BootEntry { mac, node: String::new(), hostname: String::new(), ip, network, boot })
    }

    fn pool_exhausted(&mut self, segment: &Segment, request: &Request) {
        let now = Instant::now();
        if self.exhausted.is_none_or(|at| now.duration_since(at) >= UNKNOWN_EVERY) {
            self.exhausted = Some(now);
            let detail = format!("all addresses of the pool of {} are in use", segment.network);
            self.shared.events.emit(Some(request.mac), None, EventKind::PoolExhausted, detail);
        }
    }

    fn tell(&mut self, request: &Request, entry: Option<&BootEntry>, decision: &Decision) {
        let node = entry.map(|e| e.node.as_str()).filter(|n| !n.is_empty());
        for (kind, detail) in &decision.events {
            let rare = matches!(kind, EventKind::UnknownMac | EventKind::WrongNetwork);
            if !rare || self.unknown.first_in_a_while(request.mac, Instant::now()) {
                self.shared.events.emit(Some(request.mac), node, kind.clone(), detail.clone());
            }
        }
    }

    fn leases(&self) -> &Leases {
        &self.shared.config.leases
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

fn ask(request: &Request) -> Ask {
    let wish = request.requested_ip.or(Some(request.ciaddr).filter(|ip| !ip.is_unspecified()));
    Ask { client: ClientKey::of(request), mac: request.mac, wish }
}

/// The segment a packet is about: the relay's if it came through one, else the one of the socket.
fn segment_for(table: &BootTable, here: &Arc<Segment>, request: &Request) -> Option<Arc<Segment>> {
    if !request.giaddr.is_unspecified() {
        return table.segment_of(request.giaddr).cloned();
    }
    // A machine behind a relay renews and releases by itself, over the router (RFC 2131 §4.3.2, RENEWING): the
    // subnet of its address says where it is. A broadcast never comes from there.
    if !request.ciaddr.is_unspecified()
        && let Some(far) = table.segment_of(request.ciaddr).filter(|s| s.behind_relay.is_some())
    {
        return Some(Arc::clone(far));
    }
    // The table's version, so that changed settings hold at once.
    let current = table.segments().iter().find(|s| s.interface == here.interface);
    Some(Arc::clone(current.unwrap_or(here)))
}

/// Who was told of lately, so that a machine in a boot loop, or a storm, is one event.
#[derive(Debug, Default)]
struct UnknownMachines {
    told: HashMap<MacAddr, Instant>,
    /// When those of long ago were last taken out: not at every packet of a storm.
    tidied: Option<Instant>,
}

impl UnknownMachines {
    fn first_in_a_while(&mut self, mac: MacAddr, now: Instant) -> bool {
        let recent = |at: &Instant| now.duration_since(*at) < UNKNOWN_EVERY;
        if self.told.get(&mac).is_some_and(recent) {
            return false;
        }
        if self.told.len() >= UNKNOWN_MAX {
            if self.tidied.is_some_and(|at| now.duration_since(at) < TIDY_EVERY) {
                return false;
            }
            self.tidied = Some(now);
            self.told.retain(|_, at| recent(at));
            if self.told.len() >= UNKNOWN_MAX {
                return false;
            }
        }
        self.told.insert(mac, now);
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
