//! Leases of reservations: which machines of the table have asked for their addresses, and for how long.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, SystemTime};

use super::log::Log;
use super::record::{Record, State};
use super::{ClientKey, Lease, LeaseChange, LeaseKind, Step, lock};
use crate::MacAddr;

#[derive(Debug, Default)]
pub(super) struct Reserved {
    leases: Mutex<Leases>,
    /// A file of its own: an older rackd does not know it, and reads the other one as before. `None`: in memory only.
    log: Option<Mutex<Option<Log>>>,
    /// The last write failed: told once, until one succeeds.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Leases {
    by_port: HashMap<Key, Lease>,
    /// Those of which DHCPv6 alone has said anything, also before a restart.
    by_six: HashSet<Key>,
    /// What is not on disk: the last of each port.
    unwritten: HashMap<Key, Record>,
    /// What is on disk ends at another time than what is here.
    shifted: bool,
}

type Key = (MacAddr, String);

impl Reserved {
    /// Beside the file of the pools. One that cannot be read is no reason not to start: nobody's address depends on it.
    pub(super) fn open(pools: &Path, now: SystemTime) -> Self {
        let path = beside(pools);
        let (log, records) = match Log::open(&path) {
            Ok(opened) => opened,
            Err(error) => {
                let path = path.display();
                tracing::error!(
                    %path, %error,
                    "leases of reservations are in memory only, and forgotten at the next start: mend that file, or move it \
                     away, and start rackd again; until then it forgets which machines run"
                );
                return Self::default();
            }
        };
        let mut leases = Leases::default();
        for record in records {
            let key = (record.mac, record.network.clone());
            leases.by_six.remove(&key);
            if record.until <= now {
                leases.by_port.remove(&key);
                continue;
            }
            if record.client == by_six_alone() {
                leases.by_six.insert(key.clone());
            }
            leases.by_port.insert(key, lease(record));
        }
        let leases = Mutex::new(leases);
        Self { leases, log: Some(Mutex::new(Some(log))), told: AtomicBool::new(false) }
    }

    /// What a packet does; whether there is something to be written.
    pub(super) fn change(&self, mac: MacAddr, network: &str, change: &LeaseChange, now: SystemTime) -> bool {
        let key = (mac, network.to_owned());
        let mut leases = lock(&self.leases);
        leases.by_six.remove(&key);
        self.changed(&mut leases, key, change, now)
    }

    /// The same of DHCPv6. A port has one lease, of the one reservation that both its addresses come from: it runs until the later of
    /// both ends, and is given back by IPv4, or by DHCPv6 where that alone began it.
    pub(super) fn change_six(
        &self,
        mac: MacAddr,
        network: &str,
        change: &LeaseChange,
        now: SystemTime,
    ) -> bool {
        let key = (mac, network.to_owned());
        let mut leases = lock(&self.leases);
        let runs = leases.by_port.get(&key).map(|lease| lease.expires_at).filter(|until| *until > now);
        match (change, runs) {
            (LeaseChange::Bound { seconds, .. }, Some(until))
                if until >= now + Duration::from_secs(u64::from(*seconds)) =>
            {
                return false;
            }
            (LeaseChange::Bound { .. }, None) => drop(leases.by_six.insert(key.clone())),
            (LeaseChange::Bound { .. }, Some(_)) => {}
            (_, _) if leases.by_six.remove(&key) => {}
            (_, _) => return false,
        }
        self.changed(&mut leases, key, change, now)
    }

    fn changed(&self, leases: &mut Leases, key: Key, change: &LeaseChange, now: SystemTime) -> bool {
        let record = match change {
            LeaseChange::Bound { ip, seconds } => {
                let until = now + Duration::from_secs(u64::from(*seconds));
                let record = leases.record(&key, *ip, until);
                if leases.by_port.len() >= TIDY_AT {
                    leases.by_port.retain(|_, lease| lease.expires_at > now);
                    let Leases { by_port, by_six, .. } = &mut *leases;
                    by_six.retain(|key| by_port.contains_key(key));
                }
                leases.by_port.insert(key.clone(), lease(record.clone()));
                record
            }
            LeaseChange::Released | LeaseChange::Declined { .. } | LeaseChange::Refused => {
                let Some(ended) = leases.by_port.remove(&key) else { return false };
                leases.record(&key, ended.ip, now)
            }
        };
        if self.log.is_none() {
            return false;
        }
        leases.unwritten.insert(key, record);
        true
    }

    /// Writes what is not on disk. What the disk does not take is kept for the next time.
    pub(super) fn write(&self) {
        let Some(log) = &self.log else { return };
        let mut log = lock(log);
        let Some(log) = log.as_mut() else { return };
        let (unwritten, shifted, known) = {
            let mut leases = lock(&self.leases);
            let shifted = std::mem::take(&mut leases.shifted);
            (std::mem::take(&mut leases.unwritten), shifted, leases.by_port.len())
        };
        if unwritten.is_empty() && !shifted {
            return;
        }
        match self.try_write(log, &unwritten, shifted || log.wants_rewrite(known)) {
            Ok(()) => self.told.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        path = %log.path().display(), %error,
                        "leases of reservations are not written, and tried again with the next one: make room on that disk, or \
                         mend it; a start before that does not know which machines run"
                    );
                }
                let mut leases = lock(&self.leases);
                leases.shifted |= shifted;
                for (key, record) in unwritten {
                    leases.unwritten.entry(key).or_insert(record);
                }
            }
        }
    }

    fn try_write(&self, log: &mut Log, unwritten: &HashMap<Key, Record>, anew: bool) -> io::Result<()> {
        let written = anew.then(|| {
            let leases = lock(&self.leases);
            let all = leases.by_port.iter();
            let all = all.map(|(key, lease)| leases.record(key, lease.ip, lease.expires_at));
            let all: Vec<_> = all.collect();
            drop(leases);
            log.rewrite(&all)
        });
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => log.append(&unwritten.values().cloned().collect::<Vec<_>>()),
        }
    }

    pub(super) fn close(&self) {
        if let Some(log) = &self.log {
            lock(log).take();
        }
    }

    /// Those that end then.
    pub(super) fn shift(&self, then: Range<SystemTime>, step: Step) {
        let mut leases = lock(&self.leases);
        leases.shifted = true;
        for lease in leases
            .by_port
            .values_mut()
            .filter(|lease| lease.expires_at > then.start && lease.expires_at <= then.end)
        {
            lease.expires_at = step.of(lease.expires_at);
        }
    }

    pub(super) fn of_port(&self, mac: MacAddr, network: &str, now: SystemTime) -> Option<Lease> {
        let leases = lock(&self.leases);
        leases.by_port.get(&(mac, network.to_owned())).filter(|lease| lease.expires_at > now).cloned()
    }

    /// Addresses that other ports than this one run with in a network.
    pub(super) fn of_others(&self, mac: MacAddr, network: &str, now: SystemTime) -> HashSet<Ipv4Addr> {
        let leases = lock(&self.leases);
        let others = leases.by_port.values().filter(|lease| lease.mac != mac && lease.network == network);
        others.filter(|lease| lease.expires_at > now).map(|lease| lease.ip).collect()
    }

    pub(super) fn by_ip(&self, ip: Ipv4Addr, now: SystemTime) -> Option<Lease> {
        let leases = lock(&self.leases);
        leases.by_port.values().find(|lease| lease.ip == ip && lease.expires_at > now).cloned()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.leases).by_port.len()
    }

    /// Those that run.
    pub(super) fn running(&self, now: SystemTime) -> Vec<Lease> {
        let mut leases = lock(&self.leases);
        leases.by_port.retain(|_, lease| lease.expires_at > now);
        leases.by_port.values().cloned().collect()
    }
}

fn lease(record: Record) -> Lease {
    let Record { mac, ip, network, until, .. } = record;
    Lease { mac, ip, network, expires_at: until, kind: LeaseKind::Reserved }
}

impl Leases {
    /// As it is on disk.
    fn record(&self, key: &Key, ip: Ipv4Addr, until: SystemTime) -> Record {
        let (mac, network) = key.clone();
        let client = if self.by_six.contains(key) { by_six_alone() } else { ClientKey::Mac(mac) };
        Record { network, ip, client, mac, state: State::Bound, until }
    }
}

/// On disk, in the place of a client that a reservation's lease does not have: DHCPv6 alone has said anything of it. An older
/// rackd does not look there, and has the lease as before.
fn by_six_alone() -> ClientKey {
    ClientKey::Id(Box::from(&b"dhcpv6"[..]))
}

/// `leases-reserved` beside `leases`.
fn beside(pools: &Path) -> PathBuf {
    let mut name = pools.file_name().map_or_else(OsString::new, OsString::from);
    name.push("-reserved");
    pools.with_file_name(name)
}

/// Ports before ended leases are cleared out; more than a rack has.
const TIDY_AT: usize = 4096;
