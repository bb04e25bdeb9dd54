//! In which of several provisioning networks a machine's port is: where it asked last; before it ever asked, in the first of
//! `rackd.toml`.
//!
//! Nobody describes it. A port that asks in another network than the one where it is awaited is answered there when it asks
//! again, some seconds later: once in its life, and after somebody moved it. Where it was awaited it goes on being
//! answered until the next task, so that nobody who pretends to be it takes a boot away from it.

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
use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    /// The provisioning network of this name.
    pub(crate) fn provisioning_named(&self, name: &str) -> Option<&SegmentConfig> {
        self.provisioning().find(|s| s.name == name)
    }

    /// The provisioning network that a port is in.
    pub(crate) fn home(&self, mac: MacAddr) -> Option<&SegmentConfig> {
        let known = self.homes.of(mac).and_then(|name| self.provisioning_named(&name));
        known.or_else(|| self.provisioning().next())
    }

    /// The provisioning network that a machine's first port is in.
    pub(crate) fn home_of(&self, machine: &Machine) -> Option<&SegmentConfig> {
        let first = bootable(machine).ok().and_then(|macs| macs.first().copied());
        first.map_or_else(|| self.provisioning().next(), |mac| self.home(mac))
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
    while let Some(asked) = rack.shutdown.run_until_cancelled(rack.netboot.asked_elsewhere()).await {
        for (mac, network) in asked {
            // A tenant's network is where a port is plugged, and no place to boot a ramdisk.
            let Some(segment) = rack.provisioning_named(&network) else { continue };
            if let Err(error) = moved(&rack, mac, segment).await {
                tracing::error!(%mac, segment = network, error = chain(&error), "a port is not served where it asks");
            }
        }
    }
}

async fn moved(rack: &Arc<Rack>, mac: MacAddr, segment: &SegmentConfig) -> Result<(), JournalError> {
    let table = rack.netboot.table();
    let Some(entry) = table.entries_of(mac).first() else { return Ok(()) };
    // Strangers can make up any number of addresses: they are followed in memory alone.
    if discovery::port_of(&entry.node).is_some() {
        discovery::moved(rack, mac, segment).await;
        return Ok(());
    }
    if rack.home(mac).is_none_or(|home| home.name != segment.name) {
        tracing::info!(%mac, node.id = entry.node, segment = segment.name, "a port asks in this network");
        rack.journal.set_home(&mac.to_string(), &segment.name).await?;
        rack.homes.lock().insert(mac, segment.name.clone());
    }
    let tasks = rack.tasks.of_node(&entry.node);
    if let Some(task) = tasks.iter().find(|task| task.serves_ramdisk.load(Ordering::Acquire)) {
        tasks::renew_boot_token(rack, task).await;
        return Ok(());
    }
    let at_home = |entry: &&Arc<BootEntry>| rack.provisioning_named(&entry.network).is_some();
    let Some(here) = table.entries_of(mac).iter().find(at_home) else { return Ok(()) };
    if rack.known.is_idle(&table, mac, &here.network) {
        rack.known.look_again();
        return Ok(());
    }
    // A system of a rack without tenants' networks.
    let ip = rack.reserve(&here.node, mac, segment).await?;
    let mut entry = BootEntry { ip, network: segment.name.clone(), ..BootEntry::clone(here) };
    if let Boot::San(san) = &mut entry.boot {
        san.portal = SocketAddrV4::new(segment.address, san.portal.port());
    }
    rack.netboot.update(|table| {
        rack.known.give_way(table, ip, mac);
        table.publish(entry);
    });
    Ok(())
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
