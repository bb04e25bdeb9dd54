//! Who has which address, in memory. Reservations make it a view: nothing is decided from it.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{BootTable, MacAddr, Pool, Segment};

/// Leases in the view before ended ones are cleared out; more than a rack has ports.
const TIDY_AT: usize = 4096;

/// An address a machine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The port.
    pub mac: MacAddr,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its network.
    pub network: String,
    /// When the lease ends unless it is renewed.
    pub expires_at: SystemTime,
    /// When we last heard from it about this lease.
    pub last_seen: SystemTime,
}

/// What a packet does to the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// The machine has the address for this many seconds.
    Bound {
        /// Address given.
        ip: Ipv4Addr,
        /// Lease time in seconds.
        seconds: u32,
    },
    /// The machine has given it back, or found it in use.
    Gone,
}

/// Leases by port and network. As many as there are entries in the table and addresses in pools.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<(MacAddr, String), Lease>>);

impl Leases {
    pub(crate) fn apply(&self, mac: MacAddr, network: &str, change: &LeaseChange, now: SystemTime) {
        let mut leases = self.lock();
        match change {
            LeaseChange::Bound { ip, seconds } => {
                let expires_at = now + Duration::from_secs(u64::from(*seconds));
                let lease = Lease { mac, ip: *ip, network: network.to_owned(), expires_at, last_seen: now };
                // Guests with ever new addresses: what has ended makes room, and a pool bounds the rest.
                if leases.len() >= TIDY_AT {
                    leases.retain(|_, lease| lease.expires_at > now);
                }
                leases.insert((mac, network.to_owned()), lease);
            }
            LeaseChange::Gone => {
                leases.remove(&(mac, network.to_owned()));
            }
        }
    }

    /// The address of a pool for a machine that is not in the table: the one it has, else a free one, starting at
    /// a place that depends on the MAC so that a restart gives most machines the same one. Nothing is held until
    /// it is bound. `None` when the pool is used up.
    pub(crate) fn guest_address(
        &self,
        mac: MacAddr,
        segment: &Segment,
        pool: &Pool,
        table: &BootTable,
        now: SystemTime,
    ) -> Option<Ipv4Addr> {
        let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
        let leases = self.lock();
        let in_pool = |ip: Ipv4Addr| (first..=last).contains(&ip.to_bits());
        if let Some(lease) = leases.get(&(mac, segment.network.clone())).filter(|l| in_pool(l.ip)) {
            return Some(lease.ip);
        }
        let taken: HashSet<Ipv4Addr> = leases
            .values()
            .filter(|l| l.expires_at > now && l.network == segment.network)
            .map(|l| l.ip)
            .chain([segment.server_ip])
            .chain(segment.gateway)
            .collect();
        // At most /16 of addresses are looked at, however large the range is.
        let count = last.checked_sub(first)?.min(65_535) + 1;
        let start = mac.0.iter().fold(0u32, |hash, b| hash.wrapping_mul(31).wrapping_add(u32::from(*b)));
        (0..count)
            .map(|n| Ipv4Addr::from_bits(first + start.wrapping_add(n) % count))
            .find(|ip| segment.contains(*ip) && !taken.contains(ip) && table.entry_by_ip(*ip).is_none())
    }

    /// The lease of an address, while it runs.
    pub(crate) fn by_ip(&self, ip: Ipv4Addr, now: SystemTime) -> Option<Lease> {
        self.lock().values().find(|l| l.ip == ip && l.expires_at > now).cloned()
    }

    /// Running leases, by address. Forgets those that have ended.
    pub(crate) fn list(&self, now: SystemTime) -> Vec<Lease> {
        let mut leases = self.lock();
        leases.retain(|_, lease| lease.expires_at > now);
        let mut out: Vec<_> = leases.values().cloned().collect();
        out.sort_by_key(|lease| lease.ip);
        out
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(MacAddr, String), Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
