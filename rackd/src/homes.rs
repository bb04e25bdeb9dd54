//! In which of several provisioning networks a machine's port is: where it asked last, of those where it was not answered yet;
//! before it ever did, where it has an address, else in the first of `rackd.toml`.
//!
//! Nobody describes it. A port that asks in another network than the one where it is awaited is answered there when it asks
//! again, some seconds later: once in its life, and after somebody moved it. Where it was awaited it goes on being
//! answered until the next task, or until its address there is needed, so that nobody who pretends to be it leaves it without
//! one. Who pretends to be it while a task's ramdisk is served is given that ramdisk's script, and can take that boot.

use crate::boot::{Place, bootable};
use crate::config::{Role, SegmentConfig};
use crate::discovery;
use crate::rack::Rack;
use crate::tasks;
use farrier_journal::JournalError;
use farrier_netboot::{Boot, BootEntry, MacAddr};
use farrier_proto::rack::Machine;
use farrier_runtime::telemetry::chain;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where each port asked last, by name of the network.
#[derive(Default)]
pub(crate) struct Homes(Mutex<HashMap<MacAddr, String>>);

impl Homes {
    /// As the journal has them.
    pub(crate) fn new(kept: HashMap<String, String>) -> Self {
        Self(Mutex::new(kept.into_iter().filter_map(|(mac, name)| Some((mac.parse().ok()?, name))).collect()))
    }

    fn of(&self, mac: MacAddr) -> Option<String> {
        self.lock().get(&mac).cloned()
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rack {
    /// Where ramdisks boot: at least one, each with a subnet of its own where there are several.
    pub(crate) fn provisioning(&self) -> impl Iterator<Item = &SegmentConfig> {
        self.config.segments.iter().filter(|s| s.role == Role::Provisioning)
    }

    /// Whether a network is one of BMCs.
    pub(crate) fn is_management(&self, name: &str) -> bool {
        self.config.segments.iter().any(|s| s.role == Role::Management && s.name == name)
    }

    /// The provisioning network of this name.
    pub(crate) fn provisioning_named(&self, name: &str) -> Option<&SegmentConfig> {
        self.provisioning().find(|s| s.name == name)
    }

    /// The provisioning network where a port asked, if it ever did where it was not awaited.
    pub(crate) fn asked_in(&self, mac: MacAddr) -> Option<&SegmentConfig> {
        self.homes.of(mac).and_then(|name| self.provisioning_named(&name))
    }

    /// The provisioning network that a port is in.
    pub(crate) fn home(&self, mac: MacAddr) -> Option<&SegmentConfig> {
        let served = || {
            let table = self.netboot.table();
            table.entries_of(mac).iter().find_map(|entry| self.provisioning_named(&entry.network))
        };
        self.asked_in(mac).or_else(served).or_else(|| self.provisioning().next())
    }

    /// The provisioning network that a machine's first port is in.
    pub(crate) fn home_of(&self, machine: &Machine) -> Option<&SegmentConfig> {
        let first = bootable(machine).ok().and_then(|macs| macs.first().copied());
        first.map_or_else(|| self.provisioning().next(), |mac| self.home(mac))
    }

    /// The provisioning network where a machine reaches the rack, whichever of its ports is cabled: where its ramdisk called
    /// from, else where one of its ports asked, else where its first one is.
    pub(crate) fn reached_from(&self, machine: &Machine, agent: Option<IpAddr>) -> Option<&SegmentConfig> {
        let came = agent.and_then(|ip| self.provisioning_at(ip));
        let asked = || bootable(machine).ok()?.into_iter().find_map(|mac| self.asked_in(mac));
        came.or_else(asked).or_else(|| self.home_of(machine))
    }

    /// The provisioning network that an address is in.
    pub(crate) fn provisioning_at(&self, ip: IpAddr) -> Option<&SegmentConfig> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.provisioning().find(|segment| segment.contains(ip)),
            IpAddr::V6(_) => None,
        }
    }
}

/// Follows ports to where they ask, until shutdown.
pub(crate) async fn follow(rack: Arc<Rack>) {
    let work = async {
        loop {
            for (mac, network) in rack.netboot.asked_elsewhere().await {
                // A tenant's network is where a port is plugged, and no place to boot a ramdisk.
                let Some(segment) = rack.provisioning_named(&network) else { continue };
                if let Err(error) = moved(&rack, mac, segment).await {
                    tracing::error!(%mac, segment = network, error = chain(&error), "a port is not served where it asks");
                }
            }
            // Whoever pretends to be a machine here and there does not keep the journal busy.
            tokio::time::sleep(PAUSE).await;
        }
    };
    rack.shutdown.run_until_cancelled(work).await;
}

pub(crate) async fn moved(
    rack: &Arc<Rack>,
    mac: MacAddr,
    segment: &SegmentConfig,
) -> Result<(), JournalError> {
    let table = rack.netboot.table();
    let Some(entry) = table.entries_of(mac).first() else { return Ok(()) };
    // A BMC, which is of no node here.
    if entry.node.is_empty() {
        return Ok(());
    }
    // Strangers can make up any number of addresses: they are followed in memory alone.
    if discovery::port_of(&entry.node).is_some() {
        discovery::moved(rack, mac, segment).await;
        return Ok(());
    }
    if rack.asked_in(mac).is_none_or(|home| home.name != segment.name) {
        tracing::info!(%mac, node.id = entry.node, segment = segment.name, "a port asks in this network");
        rack.journal.set_home(&mac.to_string(), &segment.name).await?;
        rack.homes.lock().insert(mac, segment.name.clone());
    }
    let tasks = rack.tasks.of_node(&entry.node);
    if let Some(task) = tasks.iter().find(|task| task.serves_ramdisk.load(Ordering::Acquire)) {
        tasks::renew_boot_token(rack, task).await;
        return Ok(());
    }
    let (idle, systems): (Vec<_>, Vec<_>) = table
        .entries_of(mac)
        .iter()
        .filter(|entry| rack.provisioning_named(&entry.network).is_some())
        .partition(|entry| rack.known.is_idle(&table, mac, &entry.network));
    match systems.first() {
        // A system of a rack without tenants' networks.
        Some(here) => {
            let ip = rack.reserve(&here.node, mac, segment).await?;
            publish_beside(rack, here, segment, ip);
        }
        None if !idle.is_empty() => rack.known.look_again(),
        None => {}
    }
    Ok(())
}

/// What is served somewhere is served in this network, too, unless it was taken back meanwhile: it may hold a secret that is
/// no longer good.
fn publish_beside(rack: &Rack, here: &Arc<BootEntry>, segment: &SegmentConfig, ip: Ipv4Addr) {
    let mut entry = BootEntry { ip, network: segment.name.clone(), ..BootEntry::clone(here) };
    if let Boot::San(san) = &mut entry.boot {
        san.portal = SocketAddrV4::new(segment.address, san.portal.port());
    }
    rack.netboot.update(|table| {
        if table.entries_of(here.mac).iter().any(|seen| Arc::ptr_eq(seen, here)) {
            rack.known.give_way(table, ip, here.mac);
            table.publish(entry);
        }
    });
}

/// Where a port is answered: everywhere that it is served already, and at home.
pub(crate) fn places<'a>(rack: &'a Rack, mac: MacAddr, place: &Place<'a>) -> Vec<&'a SegmentConfig> {
    match place {
        Place::In(segment) => vec![segment],
        Place::Home => {
            let table = rack.netboot.table();
            let home = rack.home(mac).map(|home| home.name.as_str());
            let here =
                |s: &&SegmentConfig| home == Some(s.name.as_str()) || table.entry(mac, &s.name).is_some();
            rack.provisioning().filter(here).collect()
        }
    }
}

/// Firmware asks again after four seconds.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
