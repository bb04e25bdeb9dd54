//! The machines that inventory knows: one that nobody works on, and that no task left a system on, has an address and goes on
//! to its disk when it asks to boot.
//!
//! Which they are is kept on disk as a snapshot, so that they boot while the centre is away and after a restart of rackd. What
//! tasks left (a system's address, an iSCSI disk, a ramdisk that a task waits for) is in the journal, and goes first. The file
//! is what `rackd --standalone` takes.

use crate::config::SegmentConfig;
use crate::rack::Rack;
use crate::snapshot::{Kept, MachineText, SegmentText, Snapshot};
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity};
use farrier_journal::JournalError;
use farrier_netboot::{Boot, BootEntry, BootTable, MacAddr};
use farrier_proto::inventory::snapshot_service_client::SnapshotServiceClient;
use farrier_proto::inventory::{BootPort, ListBootPortsRequest};
use farrier_runtime::telemetry::chain;
use prost_types::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::Status;
use tonic::transport::Channel;

/// What is served of the snapshot, and how new it is.
#[derive(Default)]
pub(crate) struct KnownMachines {
    state: Mutex<State>,
    again: Notify,
}

#[derive(Default)]
struct State {
    /// As they stand in the boot table: another entry of the same port is a task's, or of discovery.
    served: HashMap<MacAddr, Arc<BootEntry>>,
    about: About,
    /// Machines for which the pool has no address.
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

    /// Whether the port is served as a known machine's in a table, and nothing else of it is.
    pub(crate) fn is_idle(&self, table: &BootTable, mac: MacAddr, network: &str) -> bool {
        self.lock().ours(table, mac).is_some_and(|entry| entry.network == network)
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
    let known = last.machines.iter().map(|m| (m.mac.clone(), m.name.clone())).collect();
    if let Err(error) = serve(rack, &known).await {
        tracing::error!(
            error = chain(&error),
            "known machines are served as before: their addresses are not read"
        );
    }
}

/// Asks inventory now and then, until shutdown. While it is away, what it said last is served.
pub(crate) async fn follow(rack: Arc<Rack>, credentials: Credentials, mut kept: Kept) {
    let Some(inventory) = rack.config.inventory.clone() else { return };
    let expect = Expect::Exactly(Identity::Service("inventory".to_owned()));
    let channel = match channel_with_deadline(&inventory, &credentials, expect, CALL) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(error = chain(&error), "inventory cannot be asked which machines there are");
            return;
        }
    };
    let inventory = SnapshotServiceClient::new(channel);
    let work = async {
        let mut away = false;
        loop {
            match list(inventory.clone()).await {
                Ok(ports) => {
                    kept = take(&rack, kept, ports).await;
                    away = false;
                }
                Err(status) => {
                    // Told once an outage.
                    if !std::mem::replace(&mut away, true) {
                        let machines = rack.known.about().machines;
                        tracing::warn!(%status, machines, "not told which machines there are, serving those of the last time");
                    }
                    // A task may have ended meanwhile, and left its machine to nobody.
                    serve_kept(&rack, &kept).await;
                }
            }
            // At once where a machine asks in another network than before.
            let _ = tokio::time::timeout(EVERY, rack.known.again.notified()).await;
        }
    };
    rack.shutdown.run_until_cancelled(work).await;
}

/// What inventory says is served, and then kept.
async fn take(rack: &Rack, mut kept: Kept, ports: Vec<BootPort>) -> Kept {
    let id = |node: &str| node.strip_prefix("nodes/").unwrap_or(node).to_owned();
    let known = ports.into_iter().map(|port| (port.mac_address, id(&port.node))).collect();
    let machines = match serve(rack, &known).await {
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
    let new = Snapshot { generation, segments, machines, artifacts: BTreeMap::new() };
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
    let mut have = HashMap::new();
    for segment in rack.provisioning() {
        have.insert(segment.name.as_str(), rack.journal.addresses(&segment.name).await?);
    }
    let mut without = 0;
    for (mac, node) in known {
        let Ok(port) = mac.parse::<MacAddr>() else { continue };
        let Some(segment) = rack.home(port) else { continue };
        let inside = |ip: &Ipv4Addr| (segment.pool.0..=segment.pool.1).contains(ip);
        let ip = match have.get(segment.name.as_str()).and_then(|have| have.get(mac)).copied().filter(inside)
        {
            Some(ip) => Ok(ip),
            None => reserve(rack, segment, port, known).await,
        };
        let ip = match ip {
            Ok(ip) => ip,
            Err(JournalError::PoolExhausted { .. }) => {
                without += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        let hostname = if farrier_model::is_label(node) { node.clone() } else { port.hyphenated() };
        machines.push(MachineText::on_disk(&hostname, mac, &segment.name, ip));
        // Power, verification and the like leave what it is served as it is.
        let worked_on = rack.tasks.of_node(&format!("nodes/{node}"));
        if !worked_on.iter().any(|task| task.decides_what_is_served()) {
            let (node, network) = (format!("nodes/{node}"), segment.name.clone());
            idle.insert(port, BootEntry { mac: port, node, hostname, ip, network, boot: Boot::LocalDisk });
        }
    }
    // Told when it changes, and not at each look.
    if std::mem::replace(&mut rack.known.lock().without, without) != without && without > 0 {
        tracing::warn!(
            machines = without,
            "known machines have no address, since a pool is too small: expected one for each, widen it"
        );
    }
    publish(rack, idle);
    Ok(machines)
}

/// None of another known machine: they would take it from each other for ever.
async fn reserve(
    rack: &Rack,
    segment: &SegmentConfig,
    mac: MacAddr,
    known: &BTreeMap<String, String>,
) -> Result<Ipv4Addr, JournalError> {
    let (first, last) = segment.pool;
    let in_use = |other: &str| {
        let table = rack.netboot.table();
        known.contains_key(other)
            || other.parse::<MacAddr>().is_ok_and(|other| table.entry(other, &segment.name).is_some())
    };
    rack.journal.address(&segment.name, &mac.to_string(), first, last, in_use).await
}

fn publish(rack: &Rack, idle: HashMap<MacAddr, BootEntry>) {
    let table = rack.netboot.table();
    let same = {
        let state = rack.known.lock();
        let gone =
            state.served.keys().any(|mac| !idle.contains_key(mac) && state.ours(&table, *mac).is_some());
        !gone && idle.values().all(|entry| !state.wants(&table, entry))
    };
    // Each change copies the table.
    if same {
        return;
    }
    rack.netboot.update(|table| {
        // Inside, as in `give_way`: the two locks are always taken in this order.
        let mut state = rack.known.lock();
        let gone: Vec<MacAddr> = state.served.keys().filter(|mac| !idle.contains_key(mac)).copied().collect();
        for mac in gone {
            state.take_out(table, mac);
        }
        for (mac, entry) in idle {
            if state.wants(table, &entry) {
                let network = entry.network.clone();
                // Perhaps of another network.
                state.take_out(table, mac);
                table.publish(entry);
                if let Some(published) = table.entry(mac, &network) {
                    state.served.insert(mac, Arc::clone(published));
                }
            }
        }
    });
}

impl State {
    /// The port's entry, where it is still the one that was put there.
    fn ours<'a>(&self, table: &'a BootTable, mac: MacAddr) -> Option<&'a Arc<BootEntry>> {
        let entry = self.served.get(&mac)?;
        table.entry(mac, &entry.network).filter(|seen| Arc::ptr_eq(seen, entry))
    }

    /// The port's entry goes, where it is still the one that was put there.
    fn take_out(&mut self, table: &mut BootTable, mac: MacAddr) {
        if let Some(network) = self.ours(table, mac).map(|entry| entry.network.clone()) {
            table.unpublish(mac, &network);
        }
        self.served.remove(&mac);
    }

    /// Whether the entry is to be put into the table. What a task or discovery says of a port stands, in whatever network,
    /// and so does their claim to an address.
    fn wants(&self, table: &BootTable, entry: &BootEntry) -> bool {
        let taken = table.entry_by_ip(entry.ip).is_some_and(|seen| seen.mac != entry.mac);
        match self.ours(table, entry.mac) {
            Some(old) => **old != *entry && !taken,
            None => table.entries_of(entry.mac).is_empty() && !taken,
        }
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
/// Inventory reads some rows.
const CALL: Duration = Duration::from_secs(30);
const PAGE: i32 = 500;
/// More than any rack has: an inventory that pages for ever is not followed.
const MOST: usize = 100_000;
