//! The addresses of one network's pool: who has which, and who gets which. Pure; time is passed in.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::record::{Record, State};
use super::{ClientKey, Step};
use crate::{MacAddr, Pool};

/// Who asks for an address of a pool.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) client: ClientKey,
    pub(crate) mac: MacAddr,
    /// The address it would like (option 50, or `ciaddr`).
    pub(crate) wish: Option<Ipv4Addr>,
}

/// As large as the pool, at most: there is one record an address.
#[derive(Debug, Default)]
pub(super) struct Book {
    records: HashMap<Ipv4Addr, Record>,
    clients: HashMap<ClientKey, Ipv4Addr>,
    /// Nothing was free a moment ago. Keeps a storm of strangers from a search through the whole pool each.
    full_until: Option<SystemTime>,
}

impl Book {
    /// The address for a client (RFC 2131 §4.3.1): the one it has, or had; else the one it asks for; else any free
    /// one, starting at a place that depends on the client, so that a book that was lost gives most of them the same
    /// one again. `usable` says which addresses of the pool may be given at all. `None`: the pool is used up.
    pub(super) fn address(
        &mut self,
        ask: &Ask,
        pool: &Pool,
        usable: impl Fn(Ipv4Addr) -> bool,
        now: SystemTime,
    ) -> Option<Ipv4Addr> {
        let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
        let within = |ip: Ipv4Addr| (first..=last).contains(&ip.to_bits()) && usable(ip);
        if let Some(ip) = self.clients.get(&ask.client).copied().filter(|ip| within(*ip)) {
            return Some(ip);
        }
        let free = |ip: Ipv4Addr| within(ip) && self.records.get(&ip).is_none_or(|r| r.until <= now);
        if let Some(ip) = ask.wish.filter(|ip| free(*ip)) {
            return Some(ip);
        }
        if self.full_until.is_some_and(|until| until > now) {
            return None;
        }
        let count = last.checked_sub(first)?.min(MOST - 1) + 1;
        // A checksum spreads well: machines bought together have addresses that differ in their last bytes only.
        let start = crc32c::crc32c(&ask.mac.0);
        let ip =
            (0..count).map(|n| Ipv4Addr::from_bits(first + (start % count + n) % count)).find(|ip| free(*ip));
        if ip.is_none() {
            self.full_until = Some(now + FULL);
        }
        ip
    }

    /// Whether a client was given this address before: nobody else has it from us since.
    pub(super) fn was_given(&self, client: &ClientKey, ip: Ipv4Addr) -> bool {
        self.records.get(&ip).is_some_and(|r| r.client == *client && r.state == State::Bound)
    }

    /// The address a client has, or is offered.
    pub(super) fn held(&self, client: &ClientKey, now: SystemTime) -> Option<Ipv4Addr> {
        let ip = self.clients.get(client)?;
        self.records.get(ip).filter(|record| record.until > now).map(|record| record.ip)
    }

    /// Keeps an address for a client until it asks for it. What it already has stays as it is.
    pub(super) fn offer(&mut self, network: &str, ask: &Ask, ip: Ipv4Addr, now: SystemTime) {
        let mine = self.records.get(&ip).filter(|record| record.client == ask.client && record.until > now);
        if mine.is_none() {
            self.put(Record {
                network: network.to_owned(),
                ip,
                client: ask.client.clone(),
                mac: ask.mac,
                state: State::Offered,
                until: now + OFFERED,
            });
        }
    }

    /// Writes a record down, for its address and for its client.
    pub(super) fn put(&mut self, record: Record) {
        // A record of the last moment only makes room.
        self.full_until = None;
        if record.state == State::Declined {
            self.forget(&record.client, record.ip);
        } else if let Some(old) = self.clients.insert(record.client.clone(), record.ip)
            && old != record.ip
        {
            self.records.remove(&old);
        }
        let ip = record.ip;
        let client = record.client.clone();
        if let Some(before) = self.records.insert(ip, record)
            && before.client != client
        {
            self.forget(&before.client, ip);
        }
    }

    /// The client no longer goes with this address, if it did.
    fn forget(&mut self, client: &ClientKey, ip: Ipv4Addr) {
        if self.clients.get(client) == Some(&ip) {
            self.clients.remove(client);
        }
    }

    /// What ran when the clock was set, and was to end within `ends`, ends when it would have.
    pub(super) fn shift(&mut self, ends: Range<SystemTime>, step: Step) {
        for record in self.records.values_mut() {
            if record.until > ends.start && record.until <= ends.end {
                record.until = step.of(record.until);
            }
        }
    }

    /// What was only offered is free again.
    pub(super) fn withdraw(&mut self, client: &ClientKey) {
        if let Some(ip) = self.clients.get(client)
            && self.records.get(ip).is_some_and(|record| record.state == State::Offered)
        {
            self.records.remove(ip);
            self.clients.remove(client);
        }
    }

    pub(super) fn get(&self, ip: Ipv4Addr) -> Option<&Record> {
        self.records.get(&ip)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }
}

/// Addresses of one pool, at most: a /16.
const MOST: u32 = 65_536;
/// How long an offer stands; clients give up on an offer after some ten seconds.
const OFFERED: Duration = Duration::from_secs(30);
/// How long a pool that was used up is not searched again.
const FULL: Duration = Duration::from_secs(1);
