//! The machines that inventory knows: one that nobody works on, and that no task left a system on, has an address and goes on
//! to its disk when it asks to boot.
//!
//! Which they are is kept on disk as a snapshot, so that they boot while the centre is away and after a restart of rackd. What
//! tasks left (a system's address, an iSCSI disk, a ramdisk that a task waits for) is in the journal, and goes first. The file
//! is of the kind that `rackd --standalone` takes, and says nothing of what is in the journal: accounts and tokens are good for one
//! boot, and a disk may be another machine's by now, so that an older copy would be wrong in the worst way. A machine with such
//! a disk has an address in it, and nothing to boot: no other disk's system in its place. So it is served where the journal is
//! lost, until a task says otherwise, and all keep the addresses that they had.

use crate::config::SegmentConfig;
use crate::rack::Rack;
use crate::snapshot::{BootText, Kept, MachineText, SegmentText, Snapshot};
use crate::tasks::{self, Left};
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity};
use farrier_journal::JournalError;
use farrier_netboot::{Boot, BootEntry, BootTable, MacAddr};
use farrier_proto::inventory::snapshot_service_client::SnapshotServiceClient;
use farrier_proto::inventory::{BootPort, ListBootPortsRequest};
use farrier_runtime::telemetry::chain;
use prost_types::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tonic::Status;
use tonic::transport::Channel;

/// What is served of the snapshot, and how new it is.
#[derive(Default)]
pub(crate) struct KnownMachines {
    state: Mutex<State>,
    /// Nodes by port, as inventory said last. Held while they are served.
    nodes: tokio::sync::Mutex<BTreeMap<String, String>>,
    again: Notify,
}

#[derive(Default)]
struct State {
    /// As they stand in the boot table, where each is and where it was before: another entry of the same port is a task's,
    /// or of discovery.
    served: HashMap<MacAddr, Vec<Arc<BootEntry>>>,
    about: About,
    /// The ports of those whose disk is an iSCSI disk, as it was known last.
    diskless: BTreeSet<String>,
    /// How many of those are given nothing to boot, since the journal has nothing of them.
    stranded: usize,
    /// Machines for which the pool where they are has no address.
    without: usize,
}

/// Which snapshot is served.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct About {
    /// 0: there is none yet.
    pub(crate) generation: u64,
    pub(crate) machines: usize,
    /// When inventory said so last; unset: not since rackd started.
    pub(crate) read: Option<Timestamp>,
}

impl KnownMachines {
    pub(crate) fn about(&self) -> About {
        self.lock().about
    }

    /// Nodes that inventory knew when it was last asked.
    async fn count(&self) -> usize {
        self.nodes.lock().await.values().collect::<HashSet<_>>().len()
    }

    /// Whether what a table has of the port in this network is a known machine's that nobody works on.
    pub(crate) fn is_idle(&self, table: &BootTable, mac: MacAddr, network: &str) -> bool {
        let state = self.lock();
        table.entry(mac, network).is_some_and(|entry| state.is_ours(entry))
    }

    /// A known machine that nobody works on leaves its address to one that somebody does.
    pub(crate) fn give_way(&self, table: &mut BootTable, ip: Ipv4Addr, to: MacAddr) {
        let Some((mac, network)) = table.entry_by_ip(ip).map(|entry| (entry.mac, entry.network.clone()))
        else {
            return;
        };
        if mac != to && self.is_idle(table, mac, &network) {
            table.unpublish(mac, &network);
        }
    }

    /// Somebody knows better where one of them is.
    pub(crate) fn look_again(&self) {
        self.again.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was kept is served at once, before anybody is asked.
pub(crate) async fn open(rack: &Rack, path: &Path) -> Kept {
    let kept = Kept::open(path.to_owned());
    if let Some(last) = kept.last() {
        let (generation, machines) = (last.generation, last.machines.len());
        tracing::info!(generation, machines, "known machines, as they were kept");
        rack.known.lock().about = About { generation, machines, read: None };
    }
    serve_kept(rack, &kept).await;
    kept
}

async fn serve_kept(rack: &Rack, kept: &Kept) {
    let Some(last) = kept.last() else { return };
    // BMCs are in it too, and no machines.
    let boots = || last.machines.iter().filter(|m| rack.provisioning_named(&m.segment).is_some());
    let known = boots().map(|m| (m.mac.clone(), m.name.clone())).collect();
    let diskless = boots().filter(|m| m.boot == BootText::None).map(|m| m.mac.clone());
    rack.known.lock().diskless = diskless.collect();
    restore_addresses(rack, boots()).await;
    *rack.known.nodes.lock().await = known;
    serve_again(rack).await;
}

/// The journal has them already, unless it was lost: a machine that runs is not to get another address than it has.
async fn restore_addresses(rack: &Rack, machines: impl Iterator<Item = &MachineText>) {
    let mut had: BTreeMap<&str, Vec<(String, Ipv4Addr)>> = BTreeMap::new();
    for machine in machines {
        had.entry(&machine.segment).or_default().push((machine.mac.clone(), machine.address));
    }
    for (network, had) in had {
        if let Err(error) = rack.journal.restore(network, &had).await {
            tracing::error!(
                network,
                error = chain(&error),
                "addresses of the kept snapshot are not taken into the journal: machines may get others than they had"
            );
        }
    }
}

async fn serve_again(rack: &Rack) {
    if let Err(error) = serve(rack, &*rack.known.nodes.lock().await).await {
        tracing::error!(
            error = chain(&error),
            "known machines are served as before: their addresses are not read"
        );
    }
}

/// Serves them, until shutdown.
pub(crate) async fn follow(rack: Arc<Rack>, credentials: Credentials, kept: Kept) {
    let work = async {
        tokio::join!(ask(&rack, &credentials, kept), serve_moved(&rack));
    };
    rack.shutdown.run_until_cancelled(work).await;
}

/// At once where a machine asks in another network than before, whatever the centre is doing. `homes` paces it.
async fn serve_moved(rack: &Rack) {
    loop {
        rack.known.again.notified().await;
        serve_again(rack).await;
    }
}

/// Asks inventory now and then. While it is away, what it said last is served.
async fn ask(rack: &Rack, credentials: &Credentials, mut kept: Kept) {
    let Some(inventory) = rack.config.inventory.clone() else { return };
    let expect = Expect::Exactly(Identity::Service("inventory".to_owned()));
    let channel = match channel_with_deadline(&inventory, credentials, expect, CALL) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(error = chain(&error), "inventory cannot be asked which machines there are");
            return;
        }
    };
    let inventory = SnapshotServiceClient::new(channel);
    let (mut away, mut emptied) = (false, Emptied::default());
    loop {
        match list(inventory.clone()).await {
            Ok(ports) if !emptied.is_taken(rack.known.count().await, ports.len(), Instant::now()) => {
                away = false;
                serve_again(rack).await;
            }
            Ok(ports) => {
                kept = take(rack, kept, ports).await;
                away = false;
            }
            Err(status) => {
                // Who is away for an hour has not said anything for an hour.
                emptied = Emptied::default();
                // Told once an outage.
                if !std::mem::replace(&mut away, true) {
                    let machines = rack.known.about().machines;
                    tracing::warn!(%status, machines, "not told which machines there are, serving those of the last time");
                }
                // A task may have ended meanwhile, and left its machine to nobody.
                serve_again(rack).await;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// An inventory that knew machines and now says that there is none was more likely set up anew, or restored from the wrong
/// backup, than all of its machines are gone: what is taken from a rack at once can no longer boot. One machine may well go.
#[derive(Debug, Default)]
struct Emptied {
    since: Option<Instant>,
}

impl Emptied {
    /// Whether what it says is taken: of so many ports that were known, it knows so many.
    fn is_taken(&mut self, known: usize, says: usize, now: Instant) -> bool {
        // Of one that was deleted it is believed.
        if known <= 1 || says > 0 {
            self.since = None;
            return true;
        }
        let Some(since) = self.since else {
            self.since = Some(now);
            tracing::error!(
                known,
                "inventory says that this rack has no machines: expected those of the last time, or some of them, saw none. \
                 They are served as before, for {} minutes; is its database the right one?",
                BELIEVED.as_secs() / 60
            );
            return false;
        };
        let believed = now.saturating_duration_since(since) >= BELIEVED;
        if believed {
            self.since = None;
            tracing::warn!(
                known,
                "inventory said so long that this rack has no machines that it is believed"
            );
        }
        believed
    }
}

/// What inventory says is served, and then kept.
async fn take(rack: &Rack, mut kept: Kept, ports: Vec<BootPort>) -> Kept {
    let id = |node: &str| node.strip_prefix("nodes/").unwrap_or(node).to_owned();
    let known = ports.into_iter().map(|port| (port.mac_address, id(&port.node))).collect();
    let served = {
        let mut nodes = rack.known.nodes.lock().await;
        *nodes = known;
        serve(rack, &nodes).await
    };
    let machines = match served {
        Ok(machines) => machines,
        // What is kept is better than what would be written now.
        Err(error) => {
            tracing::error!(error = chain(&error), "the snapshot stays as it is: addresses are not read");
            return kept;
        }
    };
    let segments = rack.config.segments.iter().map(SegmentText::from).collect();
    let about =
        About { machines: machines.len(), read: Some(farrier_runtime::time::now()), ..About::default() };
    let generation = kept.last().map_or(0, |last| last.generation);
    // BMCs are no machines that boot, and keep their addresses too.
    let bmcs = rack
        .config
        .segments
        .iter()
        .flat_map(|s| s.reservations.iter().map(|(mac, ip)| MachineText::bmc(*mac, &s.name, *ip)));
    let machines = machines.into_iter().chain(bmcs).collect();
    let new = Snapshot { generation, segments, machines, artifacts: BTreeMap::new(), https: None };
    let written = tokio::task::spawn_blocking(move || {
        let written = kept.renew(new);
        (kept, written)
    });
    match written.await {
        Ok((now, written)) => {
            if let Err(error) = written {
                tracing::error!(%error, "the snapshot is not kept: a rackd that restarts while the centre is away has an older one");
            }
            kept = now;
        }
        // A bug, told where it happened.
        Err(_) => kept = Kept::open(rack.config.data.join(FILE)),
    }
    let generation = kept.last().map_or(0, |last| last.generation);
    rack.known.lock().about = About { generation, ..about };
    kept
}

/// Puts those that nobody works on into the boot table, and takes out what is no longer known. Returns all that have an
/// address. Where addresses cannot be read, nothing is changed.
async fn serve(rack: &Rack, known: &BTreeMap<String, String>) -> Result<Vec<MachineText>, JournalError> {
    let mut machines = Vec::new();
    let mut idle: HashMap<MacAddr, BootEntry> = HashMap::new();
    let places = place(rack, known).await?;
    let (mut without, table) = (0, rack.netboot.table());
    let (mut diskless, mut stranded) = (BTreeSet::new(), 0);
    for (mac, node) in known {
        let Ok(port) = mac.parse::<MacAddr>() else { continue };
        let placed = places.get(&port);
        let asked = rack.asked_in(port);
        if placed.is_none_or(|(here, _)| asked.is_some_and(|asked| asked.name != here.name)) {
            without += 1;
        }
        let Some((segment, ip)) = placed else {
            // It boots nothing, and is what it was when it has an address again.
            diskless.extend(rack.known.lock().diskless.get(mac).cloned());
            continue;
        };
        let hostname = if farrier_model::is_label(node) { node.clone() } else { port.hyphenated() };
        let on_disk = MachineText::on_disk(&hostname, mac, &segment.name, *ip);
        let served =
            table.entries_of(port).iter().any(|entry| matches!(entry.boot, Boot::San(_) | Boot::Wait));
        let left = if served { Left::Diskless } else { left_on(rack, mac, node).await? };
        let is_diskless = left != Left::Other;
        if is_diskless {
            diskless.insert(mac.clone());
        }
        machines.push(if is_diskless { on_disk.elsewhere() } else { on_disk });
        // Power, verification and the like leave what it is served as it is.
        let worked_on = rack.tasks.of_node(&format!("nodes/{node}"));
        if !worked_on.iter().any(|task| task.decides_what_is_served()) {
            let (node, network) = (format!("nodes/{node}"), segment.name.clone());
            // Its own disk, if it has one, has somebody else's system, or an older one.
            let boot = if is_diskless { Boot::None } else { Boot::LocalDisk };
            stranded += usize::from(left == Left::Unknown);
            idle.insert(port, BootEntry { mac: port, node, hostname, ip: *ip, network, boot });
        }
    }
    rack.known.lock().diskless = diskless;
    if std::mem::replace(&mut rack.known.lock().stranded, stranded) != stranded && stranded > 0 {
        tracing::error!(
            machines = stranded,
            "diskless machines are given an address and nothing to boot: expected what their last task left in the journal, saw \
             nothing; put the journal back, or delete their instances and create them anew"
        );
    }
    // Told when it changes, and not at each look.
    if std::mem::replace(&mut rack.known.lock().without, without) != without && without > 0 {
        tracing::warn!(
            machines = without,
            "known machines have no address where they are, since a pool is too small: expected one for each, widen it"
        );
    }
    publish(rack, idle);
    Ok(machines)
}

/// Where its system is, of a machine that no iSCSI disk is served to: on its own disk, unless it was diskless when it was known
/// last, and no task has made it another since. Of those few the journal is asked.
async fn left_on(rack: &Rack, mac: &str, node: &str) -> Result<Left, JournalError> {
    let was = rack.known.lock().diskless.contains(mac);
    if was { tasks::left(rack, &format!("nodes/{node}")).await } else { Ok(Left::Other) }
}

/// In which network each has which address.
type Places<'a> = HashMap<MacAddr, (&'a SegmentConfig, Ipv4Addr)>;

/// An address for each: first where it asked, for those that did; then for all others, where they have one, else in the
/// first network that has room. Whoever has one anywhere is told of when it asks elsewhere, and follows.
async fn place<'a>(rack: &'a Rack, known: &BTreeMap<String, String>) -> Result<Places<'a>, JournalError> {
    let mut have: HashMap<&str, HashMap<String, Ipv4Addr>> = HashMap::new();
    for segment in rack.provisioning() {
        have.insert(&segment.name, rack.journal.addresses(&segment.name).await?);
    }
    let mut places = Places::new();
    for asked in [true, false] {
        for mac in known.keys() {
            let Ok(port) = mac.parse::<MacAddr>() else { continue };
            if places.contains_key(&port) {
                continue;
            }
            let had = |segment: &SegmentConfig| {
                let inside = |ip: &Ipv4Addr| (segment.pool.0..=segment.pool.1).contains(ip);
                have.get(segment.name.as_str()).and_then(|have| have.get(mac)).copied().filter(inside)
            };
            let mut where_to: Vec<_> =
                if asked { rack.asked_in(port).into_iter().collect() } else { rack.provisioning().collect() };
            where_to.sort_by_key(|segment| had(segment).is_none());
            for segment in where_to {
                let ip = match had(segment) {
                    Some(ip) => Ok(ip),
                    None => reserve(rack, (segment, port, asked), known, &places).await,
                };
                match ip {
                    Ok(ip) => {
                        // Perhaps it was another one's.
                        if let Some(have) = have.get_mut(segment.name.as_str()) {
                            have.retain(|other, had| *had != ip || other == mac);
                        }
                        places.insert(port, (segment, ip));
                        break;
                    }
                    Err(JournalError::PoolExhausted { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(places)
}

/// None of another known machine that is there, or may be: they would take it from each other for ever. One that never
/// asked anywhere gives way to one that asked here.
async fn reserve(
    rack: &Rack,
    (segment, mac, asked): (&SegmentConfig, MacAddr, bool),
    known: &BTreeMap<String, String>,
    places: &Places<'_>,
) -> Result<Ipv4Addr, JournalError> {
    let (first, last) = segment.pool;
    let table = rack.netboot.table();
    let leases = rack.netboot.leases();
    let leased: HashSet<MacAddr> =
        leases.into_iter().filter(|lease| lease.network == segment.name).map(|lease| lease.mac).collect();
    let at_work = rack.ports_at_work();
    let in_use = |other: &str| {
        let Ok(port) = other.parse::<MacAddr>() else { return known.contains_key(other) };
        let served = table.entry(port, &segment.name).is_some();
        if !known.contains_key(other) || (served && !rack.known.is_idle(&table, port, &segment.name)) {
            return served;
        }
        let is_here = places.get(&port).is_some_and(|(place, _)| place.name == segment.name);
        let may_be_here = rack.asked_in(port).map_or(!asked, |home| home.name == segment.name);
        is_here || may_be_here || leased.contains(&port) || at_work.contains(other)
    };
    let held = rack.leased_to_others(&segment.name, mac);
    rack.journal.address(&segment.name, &mac.to_string(), first, last, in_use, |ip| held.contains(&ip)).await
}

fn publish(rack: &Rack, idle: HashMap<MacAddr, BootEntry>) {
    let table = rack.netboot.table();
    let same = {
        let state = rack.known.lock();
        state.stale(&table, &idle).is_empty() && idle.values().all(|entry| !state.wants(&table, entry))
    };
    // Each change copies the table.
    if same {
        return;
    }
    rack.netboot.update(|table| {
        // Inside, as in `give_way`: the two locks are always taken in this order.
        let mut state = rack.known.lock();
        for (mac, network) in state.stale(table, &idle) {
            table.unpublish(mac, &network);
        }
        for (mac, entry) in idle {
            if state.wants(table, &entry) {
                let network = entry.network.clone();
                let before = table.entry_by_ip(entry.ip).map(|seen| (seen.mac, seen.network.clone()));
                if let Some((mac, network)) = before {
                    table.unpublish(mac, &network);
                }
                table.publish(entry);
                if let Some(published) = table.entry(mac, &network) {
                    state.served.entry(mac).or_default().push(Arc::clone(published));
                }
            }
        }
        state.forget(table);
    });
}

impl State {
    /// Whether an entry of the table is one that was put there for a known machine.
    fn is_ours(&self, entry: &Arc<BootEntry>) -> bool {
        self.served.get(&entry.mac).is_some_and(|ours| ours.iter().any(|one| Arc::ptr_eq(one, entry)))
    }

    /// What is to go: of machines that are no longer known, or have another name. Where one was before it goes on being
    /// served: whoever only pretends to be it elsewhere takes nothing away from it.
    fn stale(&self, table: &BootTable, idle: &HashMap<MacAddr, BootEntry>) -> Vec<(MacAddr, String)> {
        let is_stale = |entry: &&Arc<BootEntry>| {
            let now = idle.get(&entry.mac);
            let same = now.is_some_and(|now| now.node == entry.node && now.hostname == entry.hostname);
            !same && table.entry(entry.mac, &entry.network).is_some_and(|seen| Arc::ptr_eq(seen, entry))
        };
        let stale = self.served.values().flatten().filter(is_stale);
        stale.map(|entry| (entry.mac, entry.network.clone())).collect()
    }

    /// Those that are no longer in the table are not kept.
    fn forget(&mut self, table: &BootTable) {
        self.served.retain(|mac, ours| {
            ours.retain(|entry| table.entries_of(*mac).iter().any(|seen| Arc::ptr_eq(seen, entry)));
            !ours.is_empty()
        });
    }

    /// Whether the entry is to be put into the table. What a task or discovery says of a port stands, in whatever network,
    /// and so does their claim to an address.
    fn wants(&self, table: &BootTable, entry: &BootEntry) -> bool {
        let taken =
            table.entry_by_ip(entry.ip).is_some_and(|seen| seen.mac != entry.mac && !self.is_ours(seen));
        let all_ours = table.entries_of(entry.mac).iter().all(|seen| self.is_ours(seen));
        let there = table.entry(entry.mac, &entry.network);
        !taken && all_ours && there.is_none_or(|old| **old != *entry)
    }
}

/// The ports of this rack's nodes.
async fn list(mut inventory: SnapshotServiceClient<Channel>) -> Result<Vec<BootPort>, Status> {
    let (mut ports, mut page_token) = (Vec::new(), String::new());
    while ports.len() <= MOST {
        let request = ListBootPortsRequest { page_size: PAGE, page_token };
        let page = inventory.list_boot_ports(request).await?.into_inner();
        ports.extend(page.ports);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(ports);
        }
    }
    Err(Status::out_of_range(format!("expected at most {MOST} ports in a rack, saw more")))
}

/// Beside the journal.
pub(crate) const FILE: &str = "snapshot.json";
/// A node that is described or deleted is known so much later.
const EVERY: Duration = Duration::from_secs(15);
/// For so long it has to say that there is none: a person can look. The last machine of a rack that was deleted goes on to its
/// disk meanwhile, as before.
const BELIEVED: Duration = Duration::from_secs(3600);
/// Inventory reads some rows.
const CALL: Duration = Duration::from_secs(30);
const PAGE: i32 = 500;
/// More than any rack has: an inventory that pages for ever is not followed.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests;
