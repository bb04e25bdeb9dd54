//! The sockets of the DHCP server: one for each segment.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use dhcproto::v4::MessageType;

use super::conflict::{Check, Checks, Prober, Verdict};
use super::frames::Frames;
use super::request::Client;
use super::{Decision, Destination, Reply, Request, decide, proxy, waiting::Waiting};
use crate::lease::Ask;
use crate::{
    BootEntry, BootTable, ClientKey, Dhcp, EventKind, LeaseChange, Leases, MacAddr, Pool, Segment,
    server::Shared, socket,
};
use farrier_model::Seldom;

/// How often the same unknown machine makes an event.
/// Between two of what nobody could do anything about. Firmware asks again after 4, 8 and 16 seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const TIMES: u8 = 4;
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// Unknown machines remembered; more than a rack has, and when it is a storm nobody misses an event.
const UNKNOWN_MAX: usize = 1024;
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Packets read in one go: what has gathered while we were busy.
const BATCH: usize = 256;
/// Between two looks at the clock.
const CLOCK_EVERY: Duration = Duration::from_secs(15);
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The DHCP server of one segment.
pub(crate) struct Server {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    socket: UdpSocket,
    /// Pools, by their first addresses, that were told to be used up.
    exhausted: Seldom,
    /// Addresses that were told to be somebody else's.
    in_use: Seldom,
    /// Relays that were told to be none of ours.
    relays: Seldom,
    waiting: Waiting,
    checks: Checks,
    /// `None`: addresses of pools are given without looking for them.
    prober: Option<Prober>,
    /// `None`: whoever has no address yet is answered by broadcast.
    frames: Option<Frames>,
}

/// What has gathered at the socket. A machine that says the same again, since nobody answered, is answered once: under overload
/// what is left out is what was said twice.
#[derive(Default)]
struct Batch {
    requests: Vec<Option<Request>>,
    last: HashMap<(MacAddr, Ipv4Addr, u32, u8), usize>,
}

impl Batch {
    fn take(&mut self, request: Option<Request>) {
        let Some(request) = request else { return };
        // Behind two relays a machine is heard twice, and each relay waits for its answer.
        let key = (request.mac, request.giaddr, request.xid, u8::from(request.kind));
        let before = self.last.insert(key, self.requests.len());
        if let Some(before) = before.and_then(|at| self.requests.get_mut(at)) {
            *before = None;
        }
        self.requests.push(Some(request));
    }
}

/// Who is told what, if anybody is.
enum Guest {
    Entry(BootEntry),
    /// No pool, or nothing left in it, or no word of ours.
    Nothing,
    /// It is answered when its address was looked for.
    Later,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv4Addr::UNSPECIFIED.into(), SERVER_PORT)?;
        socket::widen(&socket);
        let waiting = Waiting::new(shared.config.leases.clone());
        if let Some(source) = socket::source_of(&segment).filter(|source| *source != segment.server_ip) {
            tracing::warn!(
                interface = segment.interface,
                server = %segment.server_ip,
                %source,
                "answers of DHCP leave from another address than they name as the server's: strict clients and relays \
                 drop them; make the segment's address the first one of its interface"
            );
        }
        let prober = match Prober::bind(&segment.interface) {
            _ if !shared.config.conflict_check => None,
            Ok(prober) => Some(prober),
            Err(error) => {
                tracing::warn!(interface = segment.interface, %error, "addresses of pools are not looked for before they are given");
                None
            }
        };
        let frames = Frames::bind(&segment.interface).inspect_err(|error| {
            tracing::warn!(interface = segment.interface, %error, "machines without an address are answered by broadcast");
        });
        Ok(Self {
            shared,
            segment,
            socket,
            exhausted: Seldom::default(),
            in_use: Seldom::default(),
            relays: Seldom::default(),
            waiting,
            checks: Checks::default(),
            prober,
            frames: frames.ok(),
        })
    }

    /// Answers until `shutdown`. Offers go out at once; while the disk takes the leases of one batch, the next one
    /// gathers.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        let mut clock = tokio::time::interval(CLOCK_EVERY);
        loop {
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Also while nobody asks: a lease that ran out by a wrong clock is somebody else's after a restart.
                _ = clock.tick() => {
                    self.leases().mind_the_clock(SystemTime::now(), Instant::now());
                    if self.leases().shifted() {
                        self.waiting.write_anew();
                    }
                    continue;
                }
                replies = self.waiting.committed() => {
                    for reply in replies {
                        self.send(&reply).await;
                    }
                    continue;
                }
                ip = answer(self.prober.as_ref(), self.checks.due_at().is_some()) => {
                    if let Some(check) = self.checks.answered(ip) {
                        self.looked_for(check, true).await;
                    }
                    self.waiting.begin();
                    continue;
                }
                () = until(self.checks.due_at()) => {
                    while let Some(check) = self.checks.over(Instant::now()) {
                        self.looked_for(check, false).await;
                    }
                    self.waiting.begin();
                    continue;
                }
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, from)) => {
                    let mut batch = Batch::default();
                    batch.take(self.packet(buffer.get(..len).unwrap_or_default(), from));
                    // What else has come, before the disk is asked to do anything.
                    for _ in 1..BATCH {
                        let Ok((len, from)) = self.socket.try_recv_from(&mut buffer) else { break };
                        batch.take(self.packet(buffer.get(..len).unwrap_or_default(), from));
                    }
                    for request in batch.requests.into_iter().flatten() {
                        self.request(&request).await;
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

    fn packet(&self, bytes: &[u8], from: SocketAddr) -> Option<Request> {
        match Request::parse(bytes) {
            Ok(request) => Some(request).filter(|request| !self.shared.foreign.asked_by_us(request.mac)),
            Err(error) => {
                let who = super::request::sender(bytes, &self.shared.table.load());
                self.shared.malformed(("dhcp", &self.segment.interface), from, bytes, &error, who);
                None
            }
        }
    }

    async fn request(&mut self, request: &Request) {
        self.leases().mind_the_clock(SystemTime::now(), Instant::now());
        let table = self.shared.table.load_full();
        let Some(segment) = segment_for(&table, &self.segment, request) else {
            self.unknown_relay(&table, request);
            return;
        };
        if segment.dhcp == Dhcp::Proxy
            && let Some(ip) = proxy::address(&segment, request)
            && table.entry(request.mac, &segment.network).is_some()
        {
            self.shared.heard.note(&table, request.mac, ip);
        }
        // Elsewhere another server is no news.
        let ours = request.server_for(&segment);
        if let Some(server) = request.server_id.filter(|id| segment.dhcp == Dhcp::Ours && *id != ours) {
            let how = format!("{} chose it: {}", request.mac, request.describe());
            self.shared.foreign.tell(&self.shared, &segment, server, &how);
        }
        let guest = match self.guest(&segment, &table, request).await {
            Guest::Entry(entry) => Some(entry),
            Guest::Nothing => None,
            Guest::Later => return,
        };
        let decision = decide(&segment, &table, &self.shared.config.boot_files, request, guest.as_ref());
        let known = table.entry(request.mac, &segment.network).map(AsRef::as_ref);
        let wants_one = matches!(request.kind, MessageType::Discover | MessageType::Request);
        if known.is_none() && wants_one && !table.entries_of(request.mac).is_empty() {
            self.shared.elsewhere.note(request.mac, &segment.network);
        }
        self.tell(request, known, &decision);
        if let (Some(entry), MessageType::Discover, true) =
            (known, request.kind, decision.reply.is_some() && request.giaddr.is_unspecified())
            && segment.dhcp == Dhcp::Ours
        {
            self.look_beside(entry, request).await;
        }
        let record = decision.lease.as_ref().and_then(|change| {
            if guest.is_some() {
                return self.leases().pooled(&ask(request), &segment.network, change, SystemTime::now());
            }
            self.leases().reserved(request.mac, &segment.network, change, SystemTime::now());
            None
        });
        let now = match record {
            Some(record) => self.waiting.add(record, decision.reply),
            None => decision.reply,
        };
        if let Some(reply) = now {
            self.send(&reply).await;
        }
    }

    /// What a machine that is not in the table gets, when the segment has a pool for such.
    async fn guest(&mut self, segment: &Segment, table: &BootTable, request: &Request) -> Guest {
        // Firmware takes no address where nobody boots.
        let has_one = segment.dhcp == Dhcp::Ours && (segment.boots || request.client == Client::Other);
        let pool = segment.pool.as_ref().filter(|_| has_one);
        let Some(pool) = pool else { return Guest::Nothing };
        if !table.entries_of(request.mac).is_empty() {
            return Guest::Nothing;
        }
        let (ask, now) = (ask(request), SystemTime::now());
        let ip = match request.kind {
            MessageType::Request if request.server_id.is_some_and(|id| id != request.server_for(segment)) => {
                self.leases().withdraw(&ask.client, &segment.network);
                Some(Ipv4Addr::UNSPECIFIED)
            }
            MessageType::Discover | MessageType::Request => {
                let before = self.leases().held(&ask.client, &segment.network, now);
                let Some(ip) = self.leases().offer(&ask, segment, pool, table, now) else {
                    self.pool_exhausted(segment, pool, request);
                    return Guest::Nothing;
                };
                // What was offered was looked for before; INIT-REBOOT asks for what was not.
                let looked_for = self.leases().was_given(&ask.client, &segment.network, ip)
                    || (request.kind == MessageType::Request && before == Some(ip));
                if !looked_for && !self.may_offer(ip, request).await {
                    return Guest::Later;
                }
                Some(ip)
            }
            // It has an address that it did not ask us for; it wants the settings.
            MessageType::Inform => Some(request.ciaddr),
            _ => self.leases().held(&ask.client, &segment.network, now),
        };
        let Some(ip) = ip else { return Guest::Nothing };
        let (mac, network, boot) = (request.mac, segment.network.clone(), pool.boot.clone());
        Guest::Entry(BootEntry { mac, node: String::new(), hostname: String::new(), ip, network, boot })
    }

    /// Whether an address may be offered at once; else it is looked for first. Behind a relay there is no ARP.
    async fn may_offer(&mut self, ip: Ipv4Addr, request: &Request) -> bool {
        let Some(prober) = self.prober.as_ref().filter(|_| request.giaddr.is_unspecified()) else {
            return true;
        };
        let now = Instant::now();
        match self.checks.judge(ip, request, now) {
            Verdict::Free => true,
            Verdict::Wait => false,
            Verdict::Ask => {
                let old_neighbour = prober.neighbours().contains_key(&ip);
                prober.ask(ip).await;
                self.checks.begin(ip, request.clone(), old_neighbour, now);
                false
            }
        }
    }

    /// A reserved address is looked for while it is offered: its machine cannot be given another one, but who has it by
    /// hand can be named.
    async fn look_beside(&mut self, entry: &BootEntry, request: &Request) {
        let Some(prober) = self.prober.as_ref() else { return };
        let now = Instant::now();
        let has =
            self.leases().by_ip(entry.ip, SystemTime::now()).is_some_and(|lease| lease.mac == entry.mac);
        if has || self.checks.judge(entry.ip, request, now) != Verdict::Ask {
            return;
        }
        let old_neighbour = prober.neighbours().contains_key(&entry.ip);
        prober.ask(entry.ip).await;
        self.checks.begin(entry.ip, request.clone(), old_neighbour, now);
    }

    /// An address was looked for; who waits for it is answered, with this one or another.
    async fn looked_for(&mut self, check: Check, echoed: bool) {
        let Check { ip, request, old_neighbour, .. } = check;
        let neighbours = self.prober.as_ref().map(Prober::neighbours).unwrap_or_default();
        let who = neighbours.get(&ip).filter(|_| echoed || !old_neighbour);
        let gateway = self.segment.gateway.and_then(|gateway| neighbours.get(&gateway));
        // A router that answers ARP for everybody (proxy ARP) proves nothing, nor does the machine itself.
        let nobody = who == Some(&request.mac) || (!echoed && (who.is_none() || who == gateway));
        let (table, now) = (self.shared.table.load_full(), SystemTime::now());
        let entry = table.entry_by_ip(ip).filter(|entry| entry.mac == request.mac);
        if nobody {
            self.checks.is_free(ip, Instant::now());
        } else {
            let Some(segment) = segment_for(&table, &self.segment, &request) else { return };
            let who = who.map_or_else(|| "somebody".to_owned(), MacAddr::to_string);
            if let Some(entry) = entry {
                let detail =
                    format!("{who} uses {ip} on {}, which is reserved for {}", segment.network, entry.mac);
                if self.in_use.due(IpAddr::V4(ip), Instant::now()) {
                    let (mac, node) = (Some(entry.mac), Some(entry.node.as_str()));
                    self.shared.events.emit(mac, node, EventKind::AddressInUse, detail);
                }
                return;
            }
            let detail = format!("{who} uses {ip} on {}: not given to {}", segment.network, request.mac);
            // One that answers for every address is told of once a minute for each.
            if self.in_use.due(IpAddr::V4(ip), Instant::now()) {
                self.shared.events.emit(Some(request.mac), None, EventKind::AddressInUse, detail);
            }
            let change = LeaseChange::Declined { ip, seconds: segment.lease_seconds.max(60) };
            if let Some(record) = self.leases().pooled(&ask(&request), &segment.network, &change, now) {
                // Nobody waits for this record.
                let _ = self.waiting.add(record, None);
            }
        }
        // One with a reservation was answered already.
        if entry.is_none() {
            self.request(&request).await;
        }
    }

    /// Silence is all that a relay of another network gets; without a word nobody would know that it asks here.
    fn unknown_relay(&self, table: &BootTable, request: &Request) {
        if self.relays.due(request.giaddr.into(), Instant::now()) {
            let kind = EventKind::UnknownRelay { relay: request.giaddr };
            let at = request.link.unwrap_or(request.giaddr);
            let detail = format!(
                "{}: expected an address of one of the segments here, saw {at}; name its subnet with `behind_relay`, or \
                 let the relay say where the machine is (link selection, RFC 3527)",
                request.describe()
            );
            let node = table.entries_of(request.mac).first().map(|entry| entry.node.clone());
            self.shared.events.emit(Some(request.mac), node.as_deref(), kind, detail);
        }
    }

    fn pool_exhausted(&self, segment: &Segment, pool: &Pool, request: &Request) {
        if self.exhausted.due(pool.first.into(), Instant::now()) {
            let detail = format!("all addresses of the pool of {} are in use", segment.network);
            let kind = EventKind::PoolExhausted { network: segment.network.clone() };
            self.shared.events.emit(Some(request.mac), None, kind, detail);
        }
    }

    fn tell(&self, request: &Request, entry: Option<&BootEntry>, decision: &Decision) {
        let node = entry.map(|e| e.node.as_str()).filter(|n| !n.is_empty());
        for (kind, detail) in &decision.events {
            // Firmware that asks after a system did is news: it wants to boot.
            let rare = match kind {
                EventKind::UnknownMac { boots, .. } => Some(*boots),
                EventKind::WrongNetwork => Some(false),
                EventKind::BootsOnManagement { .. } => Some(true),
                _ => None,
            };
            let unknown = &self.shared.unknown;
            if rare.is_none_or(|boots| unknown.first_in_a_while((request.mac, boots), Instant::now())) {
                self.shared.events.emit(Some(request.mac), node, kind.clone(), detail.clone());
            }
        }
    }

    fn leases(&self) -> &Leases {
        &self.shared.config.leases
    }

    /// Whether it is under way; else everybody is sent it.
    fn send_frame(&self, bytes: &[u8], mac: MacAddr, ip: Ipv4Addr) -> bool {
        let Some(frames) = &self.frames else { return false };
        let from = SocketAddrV4::new(self.segment.server_ip, SERVER_PORT);
        let sent = frames.send(bytes, from, (mac, SocketAddrV4::new(ip, CLIENT_PORT)));
        if let Err(error) = &sent {
            tracing::debug!(interface = self.segment.interface, %mac, %error, "no frame sent, but a broadcast");
        }
        sent.is_ok()
    }

    async fn send(&self, reply: &Reply) {
        let Some(bytes) = reply.bytes() else {
            tracing::error!("bug: dhcp answer cannot be encoded");
            return;
        };
        let to = match reply.to {
            Destination::Relay(ip) => SocketAddrV4::new(ip, SERVER_PORT),
            Destination::Client(ip) => SocketAddrV4::new(ip, CLIENT_PORT),
            Destination::Frame(mac, ip) if self.send_frame(&bytes, mac, ip) => return,
            Destination::Frame(..) | Destination::Broadcast => {
                SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
            }
        };
        if let Err(error) = self.socket.send_to(&bytes, to).await {
            tracing::warn!(interface = self.segment.interface, %to, %error, "dhcp answer not sent");
        }
    }
}

/// The next address that answers, while one is looked for.
async fn answer(prober: Option<&Prober>, wanted: bool) -> Ipv4Addr {
    match prober.filter(|_| wanted) {
        Some(prober) => prober.answer().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn ask(request: &Request) -> Ask {
    let wish = request.requested_ip.or(Some(request.ciaddr).filter(|ip| !ip.is_unspecified()));
    Ask { client: ClientKey::of(request), mac: request.mac, wish }
}

/// The segment a packet is about: the relay's if it came through one, else the one of the socket.
pub(super) fn segment_for(table: &BootTable, here: &Arc<Segment>, request: &Request) -> Option<Arc<Segment>> {
    if !request.giaddr.is_unspecified() {
        // Fabrics whose routers have no address in the subnet relay from a loopback, and say where the machine is.
        return table.segment_of(request.link.unwrap_or(request.giaddr)).cloned();
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
pub(crate) struct UnknownMachines(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    told: HashMap<(MacAddr, bool), Lately>,
    /// When those of long ago were last taken out: not at every packet of a storm.
    tidied: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Lately {
    at: Instant,
    /// Nobody could do anything about it.
    again: bool,
    /// How often it was told since then: firmware asks four times in a minute.
    times: u8,
}

impl UnknownMachines {
    /// Of one address, firmware that boots and all else apart.
    pub(crate) fn first_in_a_while(&self, mac: (MacAddr, bool), now: Instant) -> bool {
        self.lock().first_in_a_while(mac, now)
    }

    /// Firmware that asks again, some seconds later, is told of again: one machine's, or everybody's. It keeps its place among
    /// those of the minute: a storm of addresses stays as small as it was.
    pub(crate) fn tell_again(&self, mac: Option<MacAddr>) {
        let mut told = self.lock();
        let firmware =
            told.told.iter_mut().filter(|((other, boots), _)| *boots && mac.is_none_or(|mac| mac == *other));
        firmware.for_each(|(_, lately)| lately.again = true);
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn first_in_a_while(&mut self, mac: (MacAddr, bool), now: Instant) -> bool {
        let recent = |lately: &Lately| now.duration_since(lately.at) < UNKNOWN_EVERY;
        if let Some(lately) = self.told.get_mut(&mac).filter(|lately| recent(lately)) {
            let after = AGAIN_AFTER * u32::from(lately.times);
            let due = lately.again && lately.times < TIMES && now.duration_since(lately.at) >= after;
            if due {
                (lately.again, lately.times) = (false, lately.times + 1);
            }
            return due;
        }
        if self.told.len() >= UNKNOWN_MAX {
            if self.tidied.is_some_and(|at| now.duration_since(at) < TIDY_EVERY) {
                return false;
            }
            self.tidied = Some(now);
            self.told.retain(|_, lately| recent(lately));
            if self.told.len() >= UNKNOWN_MAX {
                return false;
            }
        }
        self.told.insert(mac, Lately { at: now, again: false, times: 1 });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_machine_is_told_of_once_a_minute_and_a_storm_is_cut() {
        let unknown = UnknownMachines::default();
        let now = Instant::now();
        let mac = |n: u16| {
            let [a, b] = n.to_be_bytes();
            (MacAddr([2, 0, 0, 0, a, b]), false)
        };
        assert!(unknown.first_in_a_while(mac(0), now));
        assert!(unknown.first_in_a_while((mac(0).0, true), now), "its firmware is another word");
        assert!(!unknown.first_in_a_while(mac(0), now + Duration::from_secs(59)));
        assert!(unknown.first_in_a_while(mac(0), now + Duration::from_secs(60)));
        let mut then = now;
        for whose in [Some(mac(0).0), None] {
            unknown.tell_again(whose);
            assert!(!unknown.first_in_a_while((mac(0).0, true), then), "not at once");
            then += AGAIN_AFTER;
            assert!(unknown.first_in_a_while((mac(0).0, true), then), "nobody could do anything about it");
            assert!(!unknown.first_in_a_while((mac(0).0, true), then + AGAIN_AFTER));
        }
        // A storm of addresses that nobody can do anything about is as small as any.
        let storm = (0..30).flat_map(|second| (0..2000).map(move |n| (second, (mac(n).0, true))));
        let told = storm.filter(|(second, who)| {
            let told = unknown.first_in_a_while(*who, now + Duration::from_secs(*second));
            unknown.tell_again(Some(who.0));
            told
        });
        let told = told.count();
        assert!(told <= UNKNOWN_MAX * usize::from(TIMES), "{told}");
        assert!(unknown.first_in_a_while(mac(9), now + Duration::from_secs(120)));
    }

    #[test]
    fn what_gathered_is_answered_once_and_in_its_order() {
        let request = |n: u8, xid, relay: u8| Request {
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            giaddr: Ipv4Addr::new(10, 0, 0, relay),
            ..super::super::tests::discover(xid)
        };
        let mut batch = Batch::default();
        for said in [request(1, 7, 0), request(2, 7, 0), request(1, 7, 0), request(1, 7, 1), request(1, 8, 0)]
        {
            batch.take(Some(said));
        }
        batch.take(None);
        let left: Vec<_> =
            batch.requests.into_iter().flatten().map(|r| (r.mac.0[5], r.xid, r.giaddr.octets()[3])).collect();
        assert_eq!(left, [(2, 7, 0), (1, 7, 0), (1, 7, 1), (1, 8, 0)]);
    }
}
