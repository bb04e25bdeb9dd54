//! The sockets of the DHCP server: one for each segment.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use dhcproto::v4::MessageType;

use super::batch::Batch;
use super::conflict::{Check, Checks, Prober, Verdict};
use super::decide::name;
use super::outlet::{Answer, Outlet};
use super::pace::Pace;
use super::request::{Client, segment_for};
use super::waiting::{Added, NotWritten, Waiting};
use super::{Request, decide, proxy};
use crate::decode::Packet;
use crate::inbound::{self, Lost};
use crate::lease::{Ask, Lease};
use crate::metrics::Shed;
use crate::{
    Boot, BootEntry, BootTable, ClientKey, Dhcp, EventKind, LeaseChange, Leases, MacAddr, Pool, Segment,
    server::Shared, socket,
};
use farrier_model::Seldom;

/// Packets read in one go: more than the socket has room for. Each has some hundred bytes then.
const BATCH: usize = 8192;
/// Between two looks at the clock.
const CLOCK_EVERY: Duration = Duration::from_secs(15);
const SERVER_PORT: u16 = 67;

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
    /// `None`: the kernel has no such socket for us, and addresses are given without looking for them.
    prober: Option<Prober>,
    outlet: Outlet,
    /// Packets that the kernel had no room for, as it said last.
    lost: Lost,
    /// Strangers whose leases were told not to be written.
    unwritten: Seldom,
}

/// Who is told what, if anybody is.
enum Guest {
    Entry(Box<BootEntry>),
    /// No pool, or nothing left in it, or no word of ours.
    Nothing,
    /// It is answered when its address was looked for.
    Later,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv4Addr::UNSPECIFIED.into(), SERVER_PORT)?;
        socket::widen(&socket);
        socket::widen_send(&socket);
        if let Err(error) = inbound::count_lost(&socket) {
            tracing::warn!(interface = segment.interface, %error, "packets that the kernel drops are not counted");
        }
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
            Ok(prober) => Some(prober),
            Err(error) => {
                tracing::warn!(interface = segment.interface, %error, "addresses of pools are not looked for before they are given");
                None
            }
        };
        let outlet = Outlet::bind(&segment);
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
            outlet,
            lost: Lost::default(),
            unwritten: Seldom::default(),
        })
    }

    /// Answers until `shutdown`. Offers go out at once; while the disk takes the leases of one batch, the next one
    /// gathers.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        let mut clock = tokio::time::interval(CLOCK_EVERY);
        let mut pace = Pace::new(Instant::now());
        loop {
            let ready = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Also while nobody asks: a lease that ran out by a wrong clock is somebody else's after a restart.
                _ = clock.tick() => {
                    self.leases().mind_the_clock(SystemTime::now(), Instant::now());
                    if self.leases().shifted() {
                        self.waiting.write_anew();
                    }
                    self.tell_of_a_disk_that_hangs();
                    continue;
                }
                written = self.waiting.committed() => {
                    match written {
                        Ok(answers) => answers.into_iter().for_each(|answer| self.send(answer)),
                        Err(lost) => self.not_written(lost),
                    }
                    continue;
                }
                () = until(self.checks.due_at()) => {
                    while let Some(check) = self.checks.over(Instant::now()) {
                        self.looked_for(check, false);
                    }
                    self.waiting.begin();
                    continue;
                }
                ready = self.socket.readable() => ready,
                // Last: whoever floods us with echo replies keeps nobody from an answer.
                ip = answer(self.prober.as_ref(), self.checks.due_at().is_some()) => {
                    if let Some(check) = self.checks.answered(ip) {
                        self.looked_for(check, true);
                    }
                    self.waiting.begin();
                    continue;
                }
            };
            let gathered = ready.and_then(|()| self.gather(&mut buffer));
            match gathered {
                Ok((batch, packets)) => {
                    self.left_out(batch.said_again());
                    for request in batch.requests() {
                        self.request(&request);
                    }
                    self.waiting.begin();
                    pace.rest(packets, Instant::now()).into_iter().for_each(rest);
                }
                Err(error) => {
                    // The interface going down.
                    tracing::debug!(interface = self.segment.interface, %error, "dhcp receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// All that has come, before anybody is answered and the disk is asked to do anything.
    fn gather(&mut self, buffer: &mut [u8]) -> io::Result<(Batch, usize)> {
        let (mut batch, mut packets) = (Batch::default(), 0);
        for read in 0..BATCH {
            let received = match inbound::receive(&self.socket, buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if read == 0 => return Err(error),
                Err(_) => break,
            };
            self.shared.events.counters.shed(Shed::Kernel, self.lost.more(&received));
            let bytes = buffer.get(..received.len).unwrap_or_default();
            batch.take(self.packet(bytes, received.from));
            packets += 1;
        }
        Ok((batch, packets))
    }

    /// What was said twice, and is answered once: all of it is counted, and each machine's told of once a minute, since there is
    /// most of it when there is least time for it.
    fn left_out(&self, again: &[Request]) {
        self.shared.events.counters.shed(Shed::SaidAgain, u64::try_from(again.len()).unwrap_or(u64::MAX));
        let table = self.shared.table.load();
        for request in again {
            // The other word of this address: what is ignored for another reason is news beside it.
            if self.shared.ignored.first_in_a_while((request.mac, true), Instant::now()) {
                let kind = EventKind::Ignored { message: name(request.kind) };
                let why = "said again before there was time to answer: the last one is answered";
                let node = table.entries_of(request.mac).first().map(|entry| entry.node.as_str());
                let node = node.filter(|node| !node.is_empty());
                self.told(request, node, kind, format!("{why}: {}", request.describe()));
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

    fn request(&mut self, request: &Request) {
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
        if let Some(entry) = table.entry(request.mac, &segment.network)
            && self.is_anothers(&table, entry, request)
        {
            return;
        }
        let guest = match self.guest(&segment, &table, request) {
            Guest::Entry(entry) => Some(*entry),
            Guest::Nothing => None,
            Guest::Later => return,
        };
        let mut decision = decide(&segment, &table, &self.shared.config.boot_files, request, guest.as_ref());
        let known = table.entry(request.mac, &segment.network).map(AsRef::as_ref);
        let wants_one = matches!(request.kind, MessageType::Discover | MessageType::Request);
        if known.is_none() && wants_one && !table.entries_of(request.mac).is_empty() {
            self.shared.elsewhere.note(request.mac, &segment.network);
        }
        let node = known.map(|e| e.node.as_str()).filter(|n| !n.is_empty());
        // What it is answered is told when that has left.
        let told = decision.events.extract_if(.., |(kind, _)| decision.reply.is_some() && kind.is_answer());
        let told: Vec<_> = told.collect();
        self.tell(request, node, std::mem::take(&mut decision.events));
        if let (Some(entry), MessageType::Discover, true) =
            (known, request.kind, decision.reply.is_some() && request.giaddr.is_unspecified())
            && segment.dhcp == Dhcp::Ours
            && segment.conflict_check
        {
            self.look_beside(entry, request);
        }
        let record = decision.lease.as_ref().and_then(|change| {
            if guest.is_some() {
                // What was reserved for it before it has left for this.
                let (mac, now) = (request.mac, SystemTime::now());
                let bound = matches!(change, LeaseChange::Bound { .. });
                if bound && self.leases().reserved(mac, &segment.network, &LeaseChange::Released, now) {
                    self.waiting.write_beside();
                }
                return self.leases().pooled(&ask(request), &segment.network, change, SystemTime::now());
            }
            if self.leases().reserved(request.mac, &segment.network, change, SystemTime::now()) {
                self.waiting.write_beside();
            }
            None
        });
        let node = node.map(str::to_owned);
        let answer = decision.reply.map(|reply| Answer { reply, mac: request.mac, node, told });
        let added = match record {
            Some(record) => self.waiting.add(record, answer),
            None => Added::Now(answer),
        };
        match added {
            Added::Now(Some(answer)) => self.send(answer),
            Added::Now(None) | Added::Waits => {}
            Added::Full(answer) => {
                let error = io::Error::other("more leases wait for the disk than there is room for");
                self.not_written(NotWritten { error, answers: answer.into_iter().collect() });
            }
        }
    }

    fn send(&self, answer: Answer) {
        self.outlet.send(&self.shared, &self.socket, answer);
    }

    /// Nobody is told of a lease that a crash could undo; why they are not is told here.
    fn not_written(&self, lost: NotWritten) {
        let why = format!(
            "expected the lease on disk before its machine is told, saw {}; no machine gets an address of a pool until {} \
             can be written: make room on that disk, or mend it",
            lost.error,
            self.leases().path().display()
        );
        let everybody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        if self.unwritten.due(everybody, Instant::now()) {
            tracing::error!(interface = self.segment.interface, machines = lost.answers.len(), %why, "leases are not written");
        }
        for answer in lost.answers {
            answer.failed(&self.shared, EventKind::LeaseNotWritten, &why);
        }
    }

    /// One that hangs says nothing by itself.
    fn tell_of_a_disk_that_hangs(&self) {
        if let Some(since) = self.waiting.hangs(Instant::now()) {
            let detail = format!(
                "expected {} to be written within seconds, saw nothing for {} s; no machine gets an address of a pool \
                 until that disk answers",
                self.leases().path().display(),
                since.as_secs()
            );
            self.shared.events.emit(None, None, EventKind::LeaseNotWritten, detail);
        }
    }

    /// What a machine that is not in the table gets, when the segment has a pool for such.
    fn guest(&mut self, segment: &Segment, table: &BootTable, request: &Request) -> Guest {
        // Firmware takes no address where nobody boots. Nor where there is nothing to boot yet: an offer without a boot file ends
        // the try of UEFI's, while after silence it asks again, and what was found out of it meanwhile is there for it.
        let has_one = |pool: &&Pool| {
            segment.dhcp == Dhcp::Ours
                && (request.client == Client::Other || segment.boots && pool.boot != Boot::None)
        };
        let pool = segment.pool.as_ref().filter(has_one);
        let Some(pool) = pool else { return Guest::Nothing };
        if !table.entries_of(request.mac).is_empty() {
            return Guest::Nothing;
        }
        let (ask, now) = (ask(request), SystemTime::now());
        if request.kind == MessageType::Request
            && request.server_id.is_none()
            && let Some(its) = self.leases().of_port(request.mac, &segment.network, now)
            && request.requested_ip.unwrap_or(request.ciaddr) == its.ip
            // Of the pool it may have it as anybody.
            && !(pool.first..=pool.last).contains(&its.ip)
        {
            self.runs_on(&its, request);
            return Guest::Nothing;
        }
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
                if segment.conflict_check && !looked_for && !self.may_offer(ip, request) {
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
        Guest::Entry(Box::new(BootEntry {
            mac,
            node: String::new(),
            hostname: String::new(),
            ip,
            network,
            boot,
        }))
    }

    /// A machine that renews, or takes up again, an address that was reserved for it and is no more: silence leaves it the address
    /// until its lease ends, and its system with it (RFC 2131 §4.4.5); a refusal or an address of the pool would not.
    fn runs_on(&self, its: &Lease, request: &Request) {
        if self.shared.ignored.first_in_a_while((request.mac, false), Instant::now()) {
            let left = its.expires_at.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
            let why = format!(
                "{} was reserved for it and is not now: it may keep that for {left} s, and is a stranger then",
                its.ip
            );
            let kind = EventKind::Ignored { message: name(request.kind) };
            self.told(request, None, kind, format!("{why}: {}", request.describe()));
        }
    }

    /// Whether an address may be offered at once; else it is looked for first. Behind a relay there is no ARP: an echo over its
    /// router is all that tells. Who says that it has the address (RFC 2131 §4.3.2, RENEWING) would answer itself, and be kept
    /// from it.
    fn may_offer(&mut self, ip: Ipv4Addr, request: &Request) -> bool {
        let Some(prober) = self.prober.as_mut().filter(|_| request.ciaddr != ip) else { return true };
        let now = Instant::now();
        match self.checks.judge(ip, request, now) {
            Verdict::Free => true,
            Verdict::Wait => false,
            Verdict::Ask => {
                let old_neighbour = prober.neighbours(now).contains_key(&ip);
                prober.ask(ip);
                self.checks.begin(ip, request.clone(), old_neighbour, now);
                false
            }
        }
    }

    /// Whether a reserved address is one that a pool gave to another machine before, which may run with it: no two have one
    /// address. The other is given another when it renews; one that has taken an address reserved for it since has left.
    fn is_anothers(&mut self, table: &BootTable, entry: &BootEntry, request: &Request) -> bool {
        if !matches!(request.kind, MessageType::Discover | MessageType::Request) {
            return false;
        }
        let now = SystemTime::now();
        let lease = self.leases().of_pool(entry.ip, now).filter(|lease| lease.mac != request.mac);
        let Some(lease) = lease else { return false };
        let moved = table.entry(lease.mac, &entry.network).filter(|its| its.ip != entry.ip);
        if moved.is_some_and(|its| self.leases().by_ip(its.ip, now).is_some_and(|has| has.mac == lease.mac)) {
            return false;
        }
        let node = Some(entry.node.as_str()).filter(|node| !node.is_empty());
        let kind =
            if request.kind == MessageType::Discover { EventKind::Discover } else { EventKind::Request };
        self.told(request, node, kind, request.describe());
        if self.in_use.due(entry.ip.into(), Instant::now()) {
            let left = lease.expires_at.duration_since(now).unwrap_or_default().as_secs();
            let detail = format!(
                "{} is reserved for it, and was given to {} before: expected that one to leave it, saw a lease for {left} s \
                 more; have that machine renew its lease or end it, or reserve another address",
                entry.ip, lease.mac
            );
            self.told(request, node, EventKind::AddressInUse, detail);
        }
        true
    }

    /// A reserved address is looked for while it is offered: its machine cannot be given another one, but who has it by
    /// hand can be named.
    fn look_beside(&mut self, entry: &BootEntry, request: &Request) {
        let has =
            self.leases().by_ip(entry.ip, SystemTime::now()).is_some_and(|lease| lease.mac == entry.mac);
        let Some(prober) = self.prober.as_mut() else { return };
        let now = Instant::now();
        if has || self.checks.judge(entry.ip, request, now) != Verdict::Ask {
            return;
        }
        let old_neighbour = prober.neighbours(now).contains_key(&entry.ip);
        prober.ask(entry.ip);
        self.checks.begin(entry.ip, request.clone(), old_neighbour, now);
    }

    /// An address was looked for; who waits for it is answered, with this one or another.
    fn looked_for(&mut self, check: Check, echoed: bool) {
        let Check { ip, request, old_neighbour, .. } = check;
        let neighbours = self.prober.as_mut().map(|prober| match echoed {
            // It answered ARP this moment.
            true => prober.neighbours_now(),
            false => prober.neighbours(Instant::now()),
        });
        let neighbours = neighbours.cloned().unwrap_or_default();
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
            self.request(&request);
        }
    }

    /// Silence is all that a relay of another network gets; without a word nobody would know that it asks here.
    fn unknown_relay(&self, table: &BootTable, request: &Request) {
        if self.relays.due(request.giaddr.into(), Instant::now()) {
            let kind = EventKind::UnknownRelay { relay: request.giaddr.into() };
            let at = request.link.unwrap_or(request.giaddr);
            let detail = format!(
                "{}: expected an address of one of the segments here, saw {at}; name its subnet with `behind_relay`, or \
                 let the relay say where the machine is (link selection, RFC 3527)",
                request.describe()
            );
            let node = table.entries_of(request.mac).first().map(|entry| entry.node.clone());
            self.told(request, node.as_deref(), kind, detail);
        }
    }

    fn pool_exhausted(&self, segment: &Segment, pool: &Pool, request: &Request) {
        // Every machine's trace says it, the log of the rack once a minute.
        if self.shared.ignored.first_in_a_while((request.mac, false), Instant::now()) {
            let why = format!("expected a free address among {} to {}, saw none", pool.first, pool.last);
            let kind = EventKind::Ignored { message: name(request.kind) };
            self.told(request, None, kind, format!("{why}: {}", request.describe()));
        }
        if self.exhausted.due(pool.first.into(), Instant::now()) {
            let detail = format!("all addresses of the pool of {} are in use", segment.network);
            let kind = EventKind::PoolExhausted { network: segment.network.clone() };
            self.told(request, None, kind, detail);
        }
    }

    fn told(&self, request: &Request, node: Option<&str>, kind: EventKind, detail: String) {
        let packet = Packet::dhcp(Arc::clone(&request.packet));
        self.shared.events.emit_packet((Some(request.mac), node), kind, detail, Some(&packet));
    }

    fn tell(&self, request: &Request, node: Option<&str>, events: Vec<(EventKind, String)>) {
        let packet = Packet::dhcp(Arc::clone(&request.packet));
        for (kind, detail) in events {
            // Firmware that asks after a system did is news: it wants to boot.
            let rare = match &kind {
                EventKind::UnknownMac { boots, .. } => Some(*boots),
                EventKind::WrongNetwork => Some(false),
                EventKind::BootsOnManagement { .. } => Some(true),
                EventKind::Ignored { .. } if node.is_none() => Some(false),
                _ => None,
            };
            let is_ignored = matches!(kind, EventKind::Ignored { .. });
            let unknown = if is_ignored { &self.shared.ignored } else { &self.shared.unknown };
            if rare.is_none_or(|boots| unknown.first_in_a_while((request.mac, boots), Instant::now())) {
                let who = (Some(request.mac), node);
                self.shared.events.emit_packet(who, kind, detail, Some(&packet));
            }
        }
    }

    fn leases(&self) -> &Leases {
        &self.shared.config.leases
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

/// This thread is the server's own, and is to be woken by nothing: a timer of the runtime would leave the socket wake it.
#[expect(
    clippy::disallowed_methods,
    reason = "blocks nothing but this server, for a millisecond, to be woken less often"
)]
fn rest(time: Duration) {
    std::thread::sleep(time);
}
