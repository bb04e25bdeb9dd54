//! Everything one rackd has, shared by its servers and tasks.

use crate::bmc::{Bmcs, Changes, Moves};
use crate::boot_cd::BootCds;
use crate::cache::ImageCache;
use crate::config::{Config, Role, SegmentConfig};
use crate::consoles::Consoles;
use crate::discovery::Discovery;
use crate::homes::Homes;
use crate::known::KnownMachines;
use crate::ramdisks::Ramdisks;
use crate::signed::Signer;
use crate::snapshots::Snapshots;
use crate::tasks::{Tasks, Timeouts};
use crate::volumes::Volumes;
use crate::watch::Beside;
use farrier_identity::agent::PinnedCa;
use farrier_identity::ca::Authority;
use farrier_journal::Journal;
use farrier_netboot::Netboot;
use farrier_proto::rack::Machine;
use farrier_runtime::vault::Vault;
use farrier_switch::Switch;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) struct Rack {
    pub(crate) config: Config,
    pub(crate) journal: Journal,
    pub(crate) vault: Arc<Vault>,
    pub(crate) netboot: Netboot,
    pub(crate) known: KnownMachines,
    pub(crate) homes: Homes,
    pub(crate) bmc: Arc<Bmcs>,
    pub(crate) moves: Moves,
    pub(crate) changes: Changes,
    pub(crate) boot_cds: BootCds,
    pub(crate) consoles: Consoles,
    pub(crate) discovery: Discovery,
    pub(crate) switch: Arc<dyn Switch>,
    pub(crate) cache: ImageCache,
    pub(crate) volumes: Volumes,
    pub(crate) snapshots: Snapshots,
    pub(crate) signer: Signer,
    /// Authority of ramdisks: rackd's own, trusted by nobody else, so that booting needs no centre.
    pub(crate) agent_ca: Authority,
    pub(crate) http_port: u16,
    pub(crate) agent_port: u16,
    pub(crate) ramdisks: Ramdisks,
    pub(crate) tasks: Tasks,
    pub(crate) beside: Beside,
    pub(crate) timeouts: Timeouts,
    pub(crate) started: prost_types::Timestamp,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

impl Rack {
    pub(crate) fn agent_pin(&self) -> PinnedCa {
        PinnedCa::of(self.agent_ca.cert_der())
    }

    /// Where a finished machine lives: the one asked for, else the first tenant segment, else where it is.
    pub(crate) fn tenant(&self, asked: &str, machine: &Machine) -> Option<&SegmentConfig> {
        if !asked.is_empty() {
            // Never where ramdisks boot: whoever is there could answer them.
            return self.tenants().find(|s| s.name == asked);
        }
        self.tenants().next().or_else(|| self.home_of(machine))
    }

    /// Networks that an instance may ask for.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &SegmentConfig> {
        self.config.segments.iter().filter(|s| s.role == Role::Tenant)
    }

    /// Why an instance cannot have this network, if it cannot.
    pub(crate) fn refuse_network(&self, asked: &str) -> Option<String> {
        // Without a word it is where it is.
        if asked.is_empty() || self.tenants().any(|s| s.name == asked) {
            return None;
        }
        let known: Vec<_> = self.tenants().map(|s| s.name.as_str()).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { known.join(", ") };
        Some(format!("expected a tenant network of this rack ({known}), saw {asked:?}"))
    }
}
