//! Who has which address.
//!
//! Two kinds. An address of a pool belongs to whom it was given: that is written to disk before the machine is told
//! ([`Leases::commit`]), many at a time, and read again at the next start. An address that is reserved in the table belongs to its
//! machine whatever happens; that it was given says which machines run, and so whose reservation is not to be given away. It goes
//! to a file of its own, after the machine is told: nobody waits for that, and a crash loses the last moment of it.

mod book;
mod client;
mod log;
mod record;
mod reserved;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::task::JoinHandle;

use crate::{BootTable, MacAddr, Pool, Segment};
use book::Book;
use log::Log;
use reserved::Reserved;

pub(crate) use book::Ask;
pub use client::ClientKey;
pub(crate) use record::{Record, State};

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
    /// Which kind it is.
    pub kind: LeaseKind,
}

/// Why an address is not free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseKind {
    /// It is reserved for this port, which has asked for it.
    Reserved,
    /// Given from a pool.
    Pool(ClientKey),
    /// A machine that did not get it from us uses it: nobody is given it for a lease's time.
    Declined,
}

/// What a packet does to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// The machine has the address for this many seconds.
    Bound {
        /// Address given.
        ip: Ipv4Addr,
        /// Lease time in seconds.
        seconds: u32,
    },
    /// The machine has given it back.
    Released,
    /// The machine found it in use by another.
    Declined {
        /// The address.
        ip: Ipv4Addr,
        /// For how long it is left alone.
        seconds: u32,
    },
    /// It was told that it may not have what it asked for.
    Refused,
}

/// How the clock was set.
#[derive(Debug, Clone, Copy)]
enum Step {
    Forward(Duration),
    Back(Duration),
}

impl Step {
    /// What a time by the clock before is by the clock now.
    fn of(self, time: SystemTime) -> SystemTime {
        match self {
            Self::Forward(step) => time.checked_add(step).unwrap_or(time),
            Self::Back(step) => time.checked_sub(step).unwrap_or(time),
        }
    }
}

/// All leases. Clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub struct Leases(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reserved: Reserved,
    /// Pools by network.
    pools: Mutex<HashMap<String, Book>>,
    /// The clocks when they were last looked at.
    clocks: Mutex<Option<(SystemTime, Instant)>>,
    /// What is on disk ends at another time than what is here.
    shifted: AtomicBool,
    /// Seconds of the longest lease that was given.
    longest: AtomicU64,
    /// Empty when it was closed.
    log: Option<Mutex<Option<Log>>>,
    /// Where that is.
    path: PathBuf,
}

impl Leases {
    /// Those of a file, which is made if there is none; `Leases::default()` keeps them in memory only.
    ///
    /// # Errors
    /// The file cannot be read or written, is another process's, or is no file of leases.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (log, records) = Log::open(path)?;
        let mut pools: HashMap<String, Book> = HashMap::new();
        for record in records {
            pools.entry(record.network.clone()).or_default().put(record);
        }
        let (pools, log, path) = (Mutex::new(pools), Some(Mutex::new(Some(log))), path.to_owned());
        let reserved = Reserved::open(&path, SystemTime::now());
        let inner = Inner { reserved, pools, log, path, ..Inner::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// Leases run as long as they were given for, whatever is done to the clock: where it is set forward or back, as on a
    /// host that came up with a wrong one, what runs ends that much later or sooner, also on disk. What ends later than any
    /// lease that was given since this started was given before, by another clock, and is left alone.
    pub(crate) fn mind_the_clock(&self, wall: SystemTime, now: Instant) {
        let before = lock(&self.0.clocks).replace((wall, now));
        let Some((was, at)) = before else { return };
        let expected = was + now.saturating_duration_since(at);
        let step = match wall.duration_since(expected) {
            Ok(step) if step >= STEP => Step::Forward(step),
            Err(back) if back.duration() >= STEP => Step::Back(back.duration()),
            _ => return,
        };
        tracing::warn!(?step, "the clock was set: leases end so much later or sooner");
        let longest = Duration::from_secs(self.0.longest.load(Ordering::Relaxed));
        for book in lock(&self.0.pools).values_mut() {
            book.shift(was..was + longest, step);
        }
        self.0.shifted.store(true, Ordering::Relaxed);
        self.0.reserved.shift(was..was + longest, step);
    }

    /// Whether what is on disk is to be written, since the clock was set.
    pub(crate) fn shifted(&self) -> bool {
        self.durable() && self.0.shifted.load(Ordering::Relaxed)
    }

    /// What a packet of a machine with a reservation does; whether there is something to be written, which nobody waits for.
    pub(crate) fn reserved(
        &self,
        mac: MacAddr,
        network: &str,
        change: &LeaseChange,
        now: SystemTime,
    ) -> bool {
        self.note_length(change);
        self.0.reserved.change(mac, network, change, now)
    }

    /// The same of a packet of DHCPv6.
    pub(crate) fn reserved_by_six(
        &self,
        mac: MacAddr,
        network: &str,
        change: &LeaseChange,
        now: SystemTime,
    ) -> bool {
        self.note_length(change);
        self.0.reserved.change_six(mac, network, change, now)
    }

    /// How long a lease lasts that was given, for when the clock is set.
    fn note_length(&self, change: &LeaseChange) {
        if let LeaseChange::Bound { seconds, .. } = change {
            self.0.longest.fetch_max((*seconds).into(), Ordering::Relaxed);
        }
    }

    /// What a packet of a machine with an address of a pool does; the record is to be committed before anybody is told.
    pub(crate) fn pooled(
        &self,
        ask: &Ask,
        network: &str,
        change: &LeaseChange,
        now: SystemTime,
    ) -> Option<Record> {
        let mut pools = lock(&self.0.pools);
        let book = pools.get_mut(network)?;
        let after = |seconds: &u32| now + Duration::from_secs(u64::from(*seconds));
        if let LeaseChange::Bound { seconds, .. } | LeaseChange::Declined { seconds, .. } = change {
            self.0.longest.fetch_max((*seconds).into(), Ordering::Relaxed);
        }
        let (ip, state, until) = match change {
            LeaseChange::Bound { ip, seconds } => (*ip, State::Bound, after(seconds)),
            LeaseChange::Released => (book.held(&ask.client, now)?, State::Bound, now),
            LeaseChange::Declined { ip, seconds } => (*ip, State::Declined, after(seconds)),
            LeaseChange::Refused => return None,
        };
        let client = ask.client.clone();
        let record = Record { network: network.to_owned(), ip, client, mac: ask.mac, state, until };
        book.put(record.clone());
        Some(record)
    }

    /// An address of a pool for who asks, kept for it for a moment. `None` when the pool is used up.
    pub(crate) fn offer(
        &self,
        ask: &Ask,
        segment: &Segment,
        pool: &Pool,
        table: &BootTable,
        now: SystemTime,
    ) -> Option<Ipv4Addr> {
        // Of others that run with what was reserved for them, also where it is no more.
        let held = self.0.reserved.of_others(ask.mac, &segment.network, now);
        let mut pools = lock(&self.0.pools);
        if !pools.contains_key(&segment.network) {
            pools.insert(segment.network.clone(), Book::default());
        }
        let book = pools.get_mut(&segment.network)?;
        let ip = book.address(ask, pool, |ip| usable(ip, segment, table) && !held.contains(&ip), now)?;
        book.offer(&segment.network, ask, ip, now);
        Some(ip)
    }

    /// Whether a client was given this address of a pool before: nobody else has it from us since.
    pub(crate) fn was_given(&self, client: &ClientKey, network: &str, ip: Ipv4Addr) -> bool {
        lock(&self.0.pools).get(network).is_some_and(|book| book.was_given(client, ip))
    }

    /// The address of a pool that a client has or is offered.
    pub(crate) fn held(&self, client: &ClientKey, network: &str, now: SystemTime) -> Option<Ipv4Addr> {
        lock(&self.0.pools).get(network)?.held(client, now)
    }

    /// It took another server's offer: ours is free again.
    pub(crate) fn withdraw(&self, client: &ClientKey, network: &str) {
        if let Some(book) = lock(&self.0.pools).get_mut(network) {
            book.withdraw(client);
        }
    }

    /// The file; empty where there is none.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether there is a file.
    pub(crate) fn durable(&self) -> bool {
        self.0.log.is_some()
    }

    /// The file is somebody else's to open; nothing is given from a pool any more.
    pub(crate) fn close(&self) {
        self.0.reserved.write();
        if self.shifted()
            && let Err(error) = self.0.write(&[])
        {
            tracing::warn!(%error, "leases on disk end when the clock that was wrong says so");
        }
        if let Some(log) = &self.0.log {
            lock(log).take();
        }
        self.0.reserved.close();
    }

    /// Writes records to disk; over when they are there.
    pub(crate) fn commit(&self, records: Vec<Record>) -> JoinHandle<io::Result<()>> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let written = inner.write(&records);
            // After those that somebody waits for.
            inner.reserved.write();
            written
        })
    }

    /// The lease of an address, while it runs.
    pub(crate) fn by_ip(&self, ip: Ipv4Addr, now: SystemTime) -> Option<Lease> {
        self.of_pool(ip, now).or_else(|| self.0.reserved.by_ip(ip, now))
    }

    /// The running lease of an address that is, or was, reserved for a port.
    pub(crate) fn of_port(&self, mac: MacAddr, network: &str, now: SystemTime) -> Option<Lease> {
        self.0.reserved.of_port(mac, network, now)
    }

    /// The running lease of an address that was given from a pool.
    pub(crate) fn of_pool(&self, ip: Ipv4Addr, now: SystemTime) -> Option<Lease> {
        lock(&self.0.pools).values().find_map(|book| {
            book.get(ip).filter(|r| r.until > now && r.state == State::Bound).and_then(lease)
        })
    }

    /// Addresses of pools of which anything is known, and reservations that were asked for.
    pub(crate) fn sizes(&self) -> [usize; 2] {
        [lock(&self.0.pools).values().map(Book::len).sum(), self.0.reserved.len()]
    }

    /// Running leases, by network and address.
    #[must_use]
    pub fn list(&self, now: SystemTime) -> Vec<Lease> {
        let mut out = self.0.reserved.running(now);
        let pools = lock(&self.0.pools);
        out.extend(pools.values().flat_map(Book::records).filter(|r| r.until > now).filter_map(lease));
        drop(pools);
        out.sort_by(|a, b| (&a.network, a.ip).cmp(&(&b.network, b.ip)));
        out
    }
}

impl Inner {
    fn write(&self, records: &[Record]) -> io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut log = lock(log);
        let Some(log) = log.as_mut() else { return Err(io::Error::other("rackd is ending")) };
        let known = lock(&self.pools).values().map(Book::len).sum();
        let shifted = self.shifted.swap(false, Ordering::Relaxed);
        if !shifted && !log.wants_rewrite(known) {
            return log.append(records);
        }
        // What is to be written is in memory already.
        let all: Vec<Record> = {
            let pools = lock(&self.pools);
            let records = pools.values().flat_map(Book::records);
            records.filter(|r| r.state != State::Offered).cloned().collect()
        };
        let Err(error) = log.rewrite(&all) else { return Ok(()) };
        if shifted {
            self.shifted.store(true, Ordering::Relaxed);
        }
        // There is no room for a second file: what is new may fit behind what is there.
        match records {
            [] => Err(error),
            records => log.append(records),
        }
    }
}

fn lease(record: &Record) -> Option<Lease> {
    let kind = match record.state {
        State::Offered => return None,
        State::Bound => LeaseKind::Pool(record.client.clone()),
        State::Declined => LeaseKind::Declined,
    };
    let (mac, ip, network) = (record.mac, record.ip, record.network.clone());
    Some(Lease { mac, ip, network, expires_at: record.until, kind })
}

/// Whether an address of a pool may be given to anybody: not ours, not the gateway's, not the subnet's own two, and
/// reserved for nobody.
fn usable(ip: Ipv4Addr, segment: &Segment, table: &BootTable) -> bool {
    segment.has_host(ip) && segment.gateway != Some(ip) && table.entry_by_ip(ip).is_none()
}

/// A poisoned lock still guards whole records: every change is one insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that is set by less is one that is kept right.
const STEP: Duration = Duration::from_secs(60);
