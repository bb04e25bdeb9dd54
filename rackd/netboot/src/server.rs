//! Starts everything, keeps a listener on every segment's interface, stops everything.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BootEvent, BootTable, Config, Dhcp, Dhcp6, EventKind, Lease, LeaseChange, MacAddr, Segment, dhcp, dhcp6,
    event::Events, http, metrics::Shed, ra, socket, tftp,
};
use crate::{
    elsewhere::Elsewhere, malformed::Malformed, neighbours::Neighbours, scripts::Scripts, sending::Sending,
    thread::OwnThread,
};
use farrier_model::Seldom;

/// How often interfaces are looked at: one that was deleted and made again has a new number, and a socket bound
/// to the old one is deaf.
const INTERFACE_POLL: Duration = Duration::from_secs(1);

/// What every part of the server sees.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) table: ArcSwap<BootTable>,
    pub(crate) events: Events,
    pub(crate) tftp: tftp::Transfers,
    pub(crate) sending: Arc<Sending>,
    pub(crate) malformed: Malformed,
    /// Machines that ask by DHCP, are not in the table and were told of lately.
    pub(crate) unknown: dhcp::UnknownMachines,
    /// Of whom something was ignored, by the same measure.
    pub(crate) ignored: dhcp::UnknownMachines,
    /// Machines that ask for a script, are not in the table and were told of lately, by their addresses.
    pub(crate) strangers: ArcSwap<Seldom>,
    pub(crate) foreign: dhcp::Foreign,
    /// Addresses that another server gave.
    pub(crate) heard: dhcp::Heard,
    pub(crate) neighbours: Neighbours,
    /// The same, for how answers leave: whoever asks from made-up addresses takes no look from those who ask for scripts.
    pub(crate) ways: Neighbours,
    pub(crate) scripts: Scripts,
    pub(crate) elsewhere: Elsewhere,
}

impl Shared {
    /// A packet that nobody can read: it is in the boot trace of the machine it came from, where that is known.
    pub(crate) fn malformed(
        &self,
        (protocol, interface): (&'static str, &str),
        from: SocketAddr,
        bytes: &[u8],
        error: &dyn std::error::Error,
        (mac, node): (Option<MacAddr>, Option<String>),
    ) {
        self.malformed.tell(protocol, interface, from, bytes, error);
        if mac.is_some()
            && let Some(detail) = self.malformed.trace(from, bytes, error)
        {
            self.events.emit(mac, node.as_deref(), EventKind::Malformed { protocol }, detail);
        }
    }

    /// The port and node that have an address, for events.
    pub(crate) fn who(&self, ip: IpAddr) -> (Option<MacAddr>, Option<String>) {
        let table = self.table.load();
        let Some(ip) = table.ipv4_of(ip) else { return (None, None) };
        if let Some(entry) = table.entry_by_ip(ip) {
            return (Some(entry.mac), Some(entry.node.clone()));
        }
        if let Some(mac) = self.heard.who(ip) {
            return (Some(mac), table.entries_of(mac).first().map(|entry| entry.node.clone()));
        }
        if let Some(lease) = self.config.leases.by_ip(ip, SystemTime::now()) {
            return (Some(lease.mac), None);
        }
        let table = self.table.load();
        if !table.segments().iter().any(|s| s.addresses_are_foreign() && s.is_on_link() && s.contains(ip)) {
            return (None, None);
        }
        let mac = self.neighbours.who(ip, Instant::now());
        let entry = mac.and_then(|mac| table.entries_of(mac).first());
        entry.map_or((None, None), |entry| (Some(entry.mac), Some(entry.node.clone())))
    }
}

/// The running server. Clones are handles to the same one.
#[derive(Clone)]
pub struct Netboot {
    pub(crate) shared: Arc<Shared>,
    /// One writer of the table at a time, so that no update is lost.
    writer: Arc<Mutex<()>>,
    generation: watch::Sender<u64>,
    status: watch::Receiver<Status>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// How a segment's listener stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStatus {
    /// Interface of the segment.
    pub interface: String,
    /// What is not served on it and why, and what is all the same; `None` when all is well. It is tried again every second.
    pub error: Option<String>,
}

/// What is wrong with a segment in words: of one that is served by one family alone, both, or somebody would look for what is
/// wrong with the other.
fn unserved(failed: &[(Family, io::Error)], families: usize) -> Option<String> {
    let each = failed.iter().map(|(family, cause)| (family, cause.to_string()));
    match (failed, families) {
        ([], _) => None,
        ([(family, cause)], 2..) => Some(format!("{} is served, {family} is not: {cause}", family.other())),
        ([(_, cause)], _) => Some(cause.to_string()),
        _ => Some(each.map(|(family, cause)| format!("{family}: {cause}")).collect::<Vec<_>>().join("; ")),
    }
}

#[derive(Debug, Clone, Default)]
struct Status {
    generation: u64,
    segments: Vec<SegmentStatus>,
}

impl Netboot {
    /// Starts the server with a first table. When it returns, every interface that exists is listened on; those
    /// that fail are in [`Self::segments`] and are tried again.
    pub async fn start(mut config: Config, table: BootTable) -> Self {
        config.boot_files.keep(|name| config.files.contains_key(name));
        let sizes = config.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64));
        config.boot_files.sizes = sizes.collect();
        config.warn_without_boot_files(&table);
        let shared = Arc::new(Shared {
            config,
            table: ArcSwap::from_pointee(table),
            events: Events::new(),
            tftp: tftp::Transfers::default(),
            sending: Arc::default(),
            malformed: Malformed::default(),
            unknown: dhcp::UnknownMachines::default(),
            ignored: dhcp::UnknownMachines::default(),
            strangers: ArcSwap::default(),
            foreign: dhcp::Foreign::default(),
            heard: dhcp::Heard::default(),
            neighbours: Neighbours::default(),
            ways: Neighbours::default(),
            scripts: Scripts::default(),
            elsewhere: Elsewhere::default(),
        });
        let (generation, wanted) = watch::channel(1);
        let (status, status_receiver) = watch::channel(Status::default());
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let supervisor = Supervisor { shared: Arc::clone(&shared), listeners: HashMap::new(), status };
        tasks.spawn(supervisor.run(wanted, shutdown.clone()));
        let this =
            Self { shared, writer: Arc::default(), generation, status: status_receiver, shutdown, tasks };
        this.settled().await;
        this
    }

    /// The table as it is now.
    #[must_use]
    pub fn table(&self) -> Arc<BootTable> {
        self.shared.table.load_full()
    }

    /// Changes the table. The next packet sees the change; listeners of new segments follow, see
    /// [`Self::settled`].
    pub fn update<T>(&self, change: impl FnOnce(&mut BootTable) -> T) -> T {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = BootTable::clone(&self.shared.table.load());
        let out = change(&mut table);
        self.shared.table.store(Arc::new(table));
        self.generation.send_modify(|generation| *generation += 1);
        out
    }

    /// Whether there is a program for firmware of an architecture (RFC 4578 §2.1) that runs everything, as iPXE is.
    #[must_use]
    pub fn has_boot_file(&self, architecture: u16) -> bool {
        self.shared.config.boot_files.file(architecture).is_some()
    }

    /// Serves these segments from now on; when it returns, every interface that exists is listened on, as after [`Self::start`].
    pub async fn open(&self, segments: Vec<Segment>) {
        self.update(|table| table.set_segments(segments));
        self.shared.config.warn_without_boot_files(&self.shared.table.load());
        self.settled().await;
    }

    /// Waits until listeners match the table as it is now: each bound, or failed and in [`Self::segments`].
    pub async fn settled(&self) {
        let wanted = *self.generation.borrow();
        let _ = self.status.clone().wait_for(|status| status.generation >= wanted).await;
    }

    /// How the listeners stand.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentStatus> {
        self.status.borrow().segments.clone()
    }

    /// Events from now on. A receiver that falls behind loses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<BootEvent>> {
        self.shared.events.subscribe()
    }

    /// The last events of a port, oldest first: why it does not boot.
    #[must_use]
    pub fn trace(&self, mac: MacAddr) -> Vec<Arc<BootEvent>> {
        self.shared.events.trace(mac)
    }

    /// The last events of all ports and of none, oldest first. Whoever follows [`Self::events`] subscribes before, and
    /// passes over what has a sequence that was here.
    #[must_use]
    pub fn log(&self) -> Vec<Arc<BootEvent>> {
        self.shared.events.log()
    }

    /// Unknown firmware that asks again is told of again, within the minute: this machine's, or where it is not known whose
    /// events were missed, everybody's. Who asked for a script is known by its address alone: all of them.
    pub fn tell_again(&self, mac: Option<MacAddr>) {
        self.shared.unknown.tell_again(mac);
        self.shared.strangers.store(Arc::default());
    }

    /// The nodes that were given their script since this was last asked, as soon as there is one. None is lost, however
    /// many events there are: one-time secrets are renewed by it. For one caller.
    pub async fn scripts_given(&self) -> BTreeSet<String> {
        self.shared.scripts.given().await
    }

    /// The ports that asked in a network where the table has nothing for them, but in another one, since this was last asked,
    /// as soon as there is one: each with the network where it asked last. None is lost. For one caller.
    pub async fn asked_elsewhere(&self) -> BTreeMap<MacAddr, String> {
        self.shared.elsewhere.asked().await
    }

    /// What a machine did next, at a service that is not ours: by its address, as far as that is known to be one's.
    pub fn tell(&self, from: IpAddr, kind: EventKind, detail: String) {
        self.shared.events.emit_from(from, self.shared.who(from), kind, detail);
    }

    /// What somebody else knows of a port that asked.
    pub fn tell_of(&self, mac: MacAddr, node: &str, kind: EventKind, detail: String) {
        self.shared.events.emit(Some(mac), Some(node), kind, detail);
    }

    /// What happened so far, counted, in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        let counters = &self.shared.events.counters;
        counters.render(&self.shared.malformed.counts(), &self.remembered(), self.leases().len())
    }

    /// How much is kept in memory of what came from the wire, by kind. All of it is bounded, whoever sends what.
    #[must_use]
    pub fn remembered(&self) -> BTreeMap<&'static str, usize> {
        let shared = &self.shared;
        let [ports, traced, logged] = shared.events.sizes();
        let [pools, reservations] = shared.config.leases.sizes();
        BTreeMap::from([
            ("traced_ports", ports),
            ("traced_events", traced),
            ("logged_events", logged),
            ("unknown_machines", shared.unknown.len()),
            ("pool_addresses", pools),
            ("reservations", reservations),
            ("proxy_addresses", shared.heard.len()),
            ("tftp_transfers", shared.tftp.len()),
        ])
    }

    /// What to call with a client's address and what was seen, where its TLS handshake failed: it is in the boot trace of the
    /// machine that has the address.
    pub fn tls_failures(&self) -> impl Fn(IpAddr, &str) + Clone + Send + Sync + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        move |peer, why| {
            let detail = format!(
                "with {peer}: expected a client that trusts the authority of our certificate and finds in it the name it \
                 asked for, saw {why}; enrol the authority in the firmware, or see `https` in the configuration"
            );
            shared.events.emit_from(peer, shared.who(peer), EventKind::TlsFailed, detail);
        }
    }

    /// What to call with the address of a client whose connection was closed, since it has its share of them: each is counted, and
    /// in the boot trace of its machine once a minute.
    pub fn http_crowded(&self) -> impl Fn(IpAddr) + Clone + Send + Sync + 'static + use<> {
        let (shared, told) = (Arc::clone(&self.shared), Arc::new(Seldom::default()));
        move |peer| {
            shared.events.counters.shed(Shed::HttpFull, 1);
            if told.due(peer, Instant::now()) {
                let detail = format!(
                    "{peer}: expected no more connections of one address than its share while half of all are taken; it may ask \
                     again when some have ended"
                );
                shared.events.emit_from(peer, shared.who(peer), EventKind::HttpFull, detail);
            }
        }
    }

    /// The running leases, by address.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.shared.config.leases.list(SystemTime::now())
    }

    /// The machine of a port runs no longer in a network where an address was reserved for it: that is free for others.
    pub fn end_lease(&self, mac: MacAddr, network: &str) {
        // Written with the next one: after a crash it runs until its end, as if nobody had known.
        self.shared.config.leases.reserved(mac, network, &LeaseChange::Released, SystemTime::now());
    }

    /// The routes `/boot/{mac}.ipxe`, `/artifacts/{name}` and `/firmware/{name}`. Serve them, alone or merged with
    /// others, with [`http::serve`], which gives handlers the peer's address.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// Stops listening, waits for every task and closes the leases. HTTP has its own shutdown, see [`http::serve`].
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.config.leases.close();
    }
}

/// The one task that opens and closes listeners.
struct Supervisor {
    shared: Arc<Shared>,
    /// By interface.
    listeners: HashMap<(String, Family), Listener>,
    status: watch::Sender<Status>,
}

/// What is listened to for itself: where an address of IPv6 is missing, or somebody else's, IPv4 boots as ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn all_of(segment: &Segment) -> impl Iterator<Item = Self> {
        [Self::V4].into_iter().chain(segment.dhcp6.map(|_| Self::V6))
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

struct Listener {
    segment: Arc<Segment>,
    roles: Roles,
    index: u32,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// Tasks that were started; each runs until `shutdown`.
    started: usize,
}

/// What is listened for on an interface, also for segments behind relays that bring their packets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Roles {
    /// Addresses, or boot files beside somebody else's.
    dhcp: bool,
    /// Another server of what is ours is news: of all of it, or of boot files.
    mode: Dhcp,
    /// Port 4011.
    boot_service: bool,
    /// DHCPv6, and boot files over IPv6.
    dhcp6: Option<Dhcp6>,
    /// Boot files by TFTP, and routers for IPv6.
    boots: bool,
    /// Of these, routers.
    advertises: bool,
}

impl Roles {
    fn of(segment: &Segment, table: &BootTable) -> Self {
        let far = |s: &&Arc<Segment>| s.behind_relay.is_some() && s.server_ip == segment.server_ip;
        let of = || std::iter::once(segment).chain(table.segments().iter().filter(far).map(AsRef::as_ref));
        Self {
            dhcp: of().any(|s| s.dhcp != Dhcp::Off),
            mode: segment.dhcp,
            boot_service: of().any(|s| s.dhcp == Dhcp::Proxy),
            dhcp6: segment.dhcp6,
            boots: of().any(|s| s.boots),
            advertises: segment.router_advertisements,
        }
    }
}

impl Supervisor {
    async fn run(mut self, mut wanted: watch::Receiver<u64>, shutdown: CancellationToken) {
        loop {
            let generation = *wanted.borrow_and_update();
            self.reconcile(generation).await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = wanted.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(INTERFACE_POLL) => {}
            }
        }
        for (_, listener) in self.listeners.drain() {
            listener.stop().await;
        }
    }

    /// Makes the listeners what the table says. Harmless to repeat.
    async fn reconcile(&mut self, generation: u64) {
        let table = self.shared.table.load_full();
        let stale: Vec<_> = self
            .listeners
            .iter()
            .filter(|(_, listener)| !table.served().any(|s| listener.still_serves(s, Roles::of(s, &table))))
            .map(|(key, _)| key.clone())
            .collect();
        for key in stale {
            if let Some(listener) = self.listeners.remove(&key) {
                listener.stop().await;
                if key.1 == Family::V4 {
                    self.shared.events.emit(None, None, EventKind::SegmentDown, key.0);
                }
            }
        }
        let mut segments = Vec::new();
        for segment in table.served() {
            let (mut failed, mut families) = (Vec::new(), 0);
            for family in Family::all_of(segment) {
                families += 1;
                let key = (segment.interface.clone(), family);
                if self.listeners.contains_key(&key) {
                    continue;
                }
                match Listener::start(&self.shared, segment, Roles::of(segment, &table), family) {
                    Ok(listener) => {
                        self.listeners.insert(key, listener);
                        if family == Family::V4 {
                            let detail = format!("{} {}", segment.interface, segment.server_ip);
                            self.shared.events.emit(None, None, EventKind::SegmentUp, detail);
                        }
                    }
                    Err(cause) => failed.push((family, cause)),
                }
            }
            let error = unserved(&failed, families);
            segments.push(SegmentStatus { interface: segment.interface.clone(), error });
        }
        self.status.send_modify(|status| {
            if status.segments != segments {
                for segment in segments.iter().filter(|s| s.error.is_some()) {
                    let detail =
                        format!("{}: {}", segment.interface, segment.error.as_deref().unwrap_or_default());
                    self.shared.events.emit(None, None, EventKind::SegmentDown, detail);
                }
            }
            *status = Status { generation, segments };
        });
    }
}

impl Listener {
    fn start(shared: &Arc<Shared>, segment: &Arc<Segment>, roles: Roles, family: Family) -> io::Result<Self> {
        let index = socket::index_of(&segment.interface)?;
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        match family {
            Family::V4 => start_v4(shared, segment, roles, &shutdown, &tasks)?,
            Family::V6 => start_v6(shared, segment, &shutdown, &tasks)?,
        }
        tasks.close();
        let started = tasks.len();
        Ok(Self { segment: Arc::clone(segment), roles, index, shutdown, tasks, started })
    }

    /// Whether this listener's sockets are right for `segment`. Other settings are read from the table.
    fn still_serves(&self, segment: &Segment, roles: Roles) -> bool {
        self.segment.interface == segment.interface
            && self.segment.server_ip == segment.server_ip
            && self.roles == roles
            // One that ended by itself, as no task here should, is begun again.
            && self.tasks.len() == self.started
            && socket::index_of(&segment.interface).is_ok_and(|index| index == self.index)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }
}

/// All that has to be there is bound before any of it runs.
fn start_v4(
    shared: &Arc<Shared>,
    segment: &Arc<Segment>,
    roles: Roles,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) -> io::Result<()> {
    let bind = || {
        let thread = OwnThread::new()?;
        let server = thread.bind(|| dhcp::Server::bind(Arc::clone(shared), Arc::clone(segment)))?;
        Ok::<_, io::Error>((thread, server))
    };
    let dhcp = roles.dhcp.then(bind).transpose()?;
    let bind = || dhcp::BootService::bind(Arc::clone(shared), Arc::clone(segment));
    let boot_service = roles.boot_service.then(bind).transpose()?;
    let bind = || tftp::Server::bind(Arc::clone(shared), Arc::clone(segment), segment.server_ip.into());
    let tftp = roles.boots.then(bind).transpose()?;
    // First: nothing else runs yet when there is no thread to be had.
    if let Some((thread, dhcp)) = dhcp {
        thread.run("dhcp", tasks, dhcp.run(shutdown.clone()))?;
    }
    // Where addresses are somebody else's, so are routers. What is said of DHCPv6 is said by who serves that.
    if roles.mode == Dhcp::Ours && roles.boots && segment.dhcp6.is_none() {
        advertise(segment, shutdown, tasks);
    }
    if shared.config.foreign_servers && roles.mode != Dhcp::Off {
        match dhcp::Watcher::bind(Arc::clone(shared), Arc::clone(segment)) {
            Ok(watcher) => drop(tasks.spawn(watcher.run(shutdown.clone()))),
            // This host's own DHCP client may have the port.
            Err(error) => {
                tracing::warn!(interface = segment.interface, %error, "other DHCP servers are not looked for");
            }
        }
    }
    if let Some(boot_service) = boot_service {
        tasks.spawn(boot_service.run(shutdown.clone()));
    }
    if let Some(tftp) = tftp {
        tasks.spawn(tftp.run(shutdown.clone()));
    }
    Ok(())
}

fn advertise(segment: &Arc<Segment>, shutdown: &CancellationToken, tasks: &TaskTracker) {
    if !segment.router_advertisements {
        return;
    }
    match ra::Advertiser::bind(Arc::clone(segment)) {
        Ok(advertiser) => drop(tasks.spawn(advertiser.run(shutdown.clone()))),
        // A host without IPv6 boots machines too, only slower.
        Err(error) => {
            tracing::warn!(interface = segment.interface, %error, "router solicitations go unanswered");
        }
    }
}

/// The same for DHCPv6, routers and TFTP over IPv6.
fn start_v6(
    shared: &Arc<Shared>,
    segment: &Arc<Segment>,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) -> io::Result<()> {
    let Some(six) = segment.dhcp6 else { return Ok(()) };
    let tftp = tftp::Server::bind(Arc::clone(shared), Arc::clone(segment), six.server_ip.into())?;
    let dhcp6 = dhcp6::Server::bind(Arc::clone(shared), Arc::clone(segment))?;
    advertise(segment, shutdown, tasks);
    if shared.config.foreign_servers {
        match dhcp6::Watcher::bind(Arc::clone(shared), Arc::clone(segment), six) {
            Ok(watcher) => drop(tasks.spawn(watcher.run(shutdown.clone()))),
            // This host's own DHCPv6 client may have the port.
            Err(error) => {
                tracing::warn!(interface = segment.interface, %error, "other DHCPv6 servers are not looked for");
            }
        }
    }
    tasks.spawn(dhcp6.run(shutdown.clone()));
    tasks.spawn(tftp.run(shutdown.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_whose_task_ended_by_itself_is_begun_again() {
        let segment = Arc::new(Segment::new("n", "lo", std::net::Ipv4Addr::LOCALHOST, 8));
        let roles = Roles::of(&segment, &BootTable::new());
        let (end, shutdown, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(shutdown.clone().cancelled_owned());
        tasks.spawn(end.clone().cancelled_owned());
        let (index, started) = (socket::index_of("lo").unwrap(), tasks.len());
        let listener = Listener { segment: Arc::clone(&segment), roles, index, shutdown, tasks, started };
        assert!(listener.still_serves(&segment, roles));
        end.cancel();
        while listener.tasks.len() == 2 {
            tokio::task::yield_now().await;
        }
        assert!(!listener.still_serves(&segment, roles));
        listener.tasks.close();
        listener.stop().await;
    }
}
