//! BMCs that ask for an address in a provisioning network, recognised by what they say there or by the plan; and whoever asks
//! in a management network, which is there for BMCs: asked without a password what they speak, and reported.
//!
//! They are heard when they ask, and their leases say who was missed: before this rackd started, in a storm of events, while the
//! centre was away. A BMC asks twice a day.

use super::{ATTEMPTS, RETRY, is_given, may_pass};
use crate::config::BmcDiscovery;
use crate::rack::Rack;
use farrier_bmc::Deadline;
use farrier_netboot::{BootEvent, EventKind, Lease, MacAddr};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{ReportBmcRequest, SightMachineRequest};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// One that was given an address.
#[derive(Debug, Clone, Copy)]
struct Guest {
    mac: MacAddr,
    ip: Ipv4Addr,
    maker: Option<&'static str>,
    /// It is in a management network.
    managed: bool,
}

/// Looks at who gets an address, until shutdown.
pub(super) async fn look(rack: Arc<Rack>) {
    let Some(inventory) = rack.discovery.inventory.clone() else { return };
    if rack.config.discovery.bmcs == BmcDiscovery::Off {
        return;
    }
    let mut events = rack.netboot.events();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks: JoinSet<Option<Guest>> = JoinSet::new();
    let (mut known, mut queue) = (LookedAt::default(), Queue::default());
    // What they say they are is in no lease.
    let mut later = Queue::default();
    loop {
        tokio::select! {
            () = rack.shutdown.cancelled() => return,
            Some(done) = looks.join_next() => {
                // One that panicked is a bug, told where it happened: it is not begun again at each renewal.
                if let Ok(Some(guest)) = done && known.forget(guest.mac, guest.ip) {
                    later.push(guest);
                }
            }
            _ = sweep.tick() => {
                let leases = given(&rack);
                // Where it is no more another may be by now.
                let is_there = |guest: &Guest| leases.iter().any(|lease| (lease.mac, lease.ip) == (guest.mac, guest.ip));
                std::iter::from_fn(|| later.next()).filter(is_there).for_each(|guest| queue.push(guest));
                missed(&rack, leases, &mut known).for_each(|guest| queue.push(guest));
            }
            event = events.recv() => match event {
                Ok(event) => {
                    if let Some(guest) = guest(&rack, &event) {
                        queue.push(guest);
                    }
                }
                // Whose events they were is not known; their leases are, and swept within a minute.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        while looks.len() < LOOKS
            && let Some(guest) = queue.next()
        {
            if known.begin(&guest, Instant::now()) {
                let (rack, inventory) = (Arc::clone(&rack), inventory.clone());
                looks.spawn(async move { (!look_at(&rack, inventory, guest).await).then_some(guest) });
            }
        }
    }
}

fn given(rack: &Rack) -> Vec<Lease> {
    rack.netboot.leases().into_iter().filter(|lease| is_given(rack, lease)).collect()
}

/// Who has an address and was never looked at there.
fn missed(rack: &Rack, leases: Vec<Lease>, known: &mut LookedAt) -> impl Iterator<Item = Guest> {
    known.keep(&leases, Instant::now());
    let new = leases.into_iter().filter(|lease| !known.is_noted(lease.mac, lease.ip));
    let guest = |lease: Lease| {
        let managed = rack.is_management(&lease.network);
        Guest { mac: lease.mac, ip: lease.ip, maker: None, managed }
    };
    new.map(guest).collect::<Vec<_>>().into_iter()
}

/// Who waits for a look: a row of machines that powers on has more BMCs than are looked at at once. Each once, as it was last.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<MacAddr>,
    guests: HashMap<MacAddr, Guest>,
}

impl Queue {
    /// What it said that it is stays, where nothing is said now.
    fn push(&mut self, guest: Guest) {
        if self.guests.len() >= KNOWN && !self.guests.contains_key(&guest.mac) {
            return;
        }
        let before = self.guests.get(&guest.mac).and_then(|before| before.maker);
        let guest = Guest { maker: guest.maker.or(before), ..guest };
        if self.guests.insert(guest.mac, guest).is_none() {
            self.order.push_back(guest.mac);
        }
    }

    fn next(&mut self) -> Option<Guest> {
        let mac = self.order.pop_front()?;
        self.guests.remove(&mac)
    }
}

/// When each was looked at where: it may have an address in each of two networks, and is looked at once at both.
#[derive(Debug, Default)]
struct LookedAt(HashMap<(MacAddr, Ipv4Addr), Look>);

#[derive(Debug)]
struct Look {
    at: Instant,
    /// It said that it is a BMC.
    said: bool,
}

impl Look {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < AGAIN
    }
}

impl LookedAt {
    /// Whether it is to be looked at now, which is noted then.
    fn begin(&mut self, guest: &Guest, now: Instant) -> bool {
        let (place, said) = ((guest.mac, guest.ip), guest.maker.is_some());
        // One that was looked at by its lease alone may have more to say.
        let as_now = |look: &&Look| look.is_recent(now) && (look.said || !said);
        if self.0.get(&place).filter(as_now).is_some() {
            return false;
        }
        if self.0.len() >= KNOWN && !self.0.contains_key(&place) {
            self.0.retain(|_, look| look.is_recent(now));
            if self.0.len() >= KNOWN {
                return false;
            }
        }
        self.0.insert(place, Look { at: now, said });
        true
    }

    /// The look did not come to its end: whether it was known.
    fn forget(&mut self, mac: MacAddr, ip: Ipv4Addr) -> bool {
        self.0.remove(&(mac, ip)).is_some()
    }

    /// Those whose leases ended long ago are looked at when they come again.
    fn keep(&mut self, leases: &[Lease], now: Instant) {
        let here: HashSet<_> = leases.iter().map(|lease| (lease.mac, lease.ip)).collect();
        self.0.retain(|place, look| here.contains(place) || look.is_recent(now));
    }

    fn is_noted(&self, mac: MacAddr, ip: Ipv4Addr) -> bool {
        self.0.contains_key(&(mac, ip))
    }
}

/// Firmware that boots is a machine.
fn guest(rack: &Rack, event: &BootEvent) -> Option<Guest> {
    match &event.kind {
        EventKind::Guest { network, ip, boots: false, bmc } => {
            let managed = rack.is_management(network);
            let asked = managed || rack.provisioning_named(network).is_some();
            asked.then_some(Guest { mac: event.mac?, ip: *ip, maker: *bmc, managed })
        }
        _ => None,
    }
}

/// Whether it came to its end: `false`, when the centre was away.
async fn look_at(rack: &Rack, mut inventory: DiscoveredServiceClient<Channel>, guest: Guest) -> bool {
    let Guest { mac, ip, maker, managed } = guest;
    let request = SightMachineRequest { mac_address: mac.to_string() };
    let sighted = match inventory.sight_machine(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            tracing::debug!(%mac, %status, "not told whether this address is known");
            if rack.discovery.told_bmcs.due(Instant::now()) {
                tracing::warn!(%mac, %status, "not told whether addresses are known: their BMCs are looked at later");
            }
            return !may_pass(&status);
        }
    };
    // A node's own system, in the wrong network.
    if !sighted.node.is_empty() {
        return true;
    }
    let all = managed || rack.config.discovery.bmcs == BmcDiscovery::All;
    if maker.is_none() && !sighted.expected_bmc && !all {
        return true;
    }
    for pause in PAUSES {
        tokio::time::sleep(Duration::from_secs(*pause)).await;
        let Some(seen) = rack.bmc.probe(ip.into(), Deadline::after(PROBE)).await else { continue };
        let request = ReportBmcRequest {
            mac_address: mac.to_string(),
            ip_address: ip.to_string(),
            driver: seen.driver.to_owned(),
            certificate_sha256: seen.certificate_sha256,
            maker: maker.unwrap_or_default().to_owned(),
            names: crate::bmc::names_at(ip.into()),
        };
        return report(inventory, mac, request).await;
    }
    tracing::info!(%mac, %ip, maker, "a BMC by its own word, which answers neither Redfish nor IPMI");
    true
}

/// Whether inventory took it, or never will.
async fn report(
    mut inventory: DiscoveredServiceClient<Channel>,
    mac: MacAddr,
    request: ReportBmcRequest,
) -> bool {
    for attempt in 1..=ATTEMPTS {
        match inventory.report_bmc(request.clone()).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let (driver, ip) = (request.driver, request.ip_address);
                tracing::info!(%mac, ip, driver, machine = answer.machine, node.id = answer.node, "BMC discovered");
                return true;
            }
            Err(status) if attempt == ATTEMPTS || !may_pass(&status) => {
                tracing::warn!(%mac, %status, "a discovered BMC is not written down");
                return !may_pass(&status);
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    false
}

/// Seconds before each question: a BMC that has just started asks for its address before its services run.
const PAUSES: &[u64] = &[0, 2, 5, 15, 30, 60, 120];
/// Two TLS handshakes of a slow BMC, or some datagrams.
const PROBE: Duration = Duration::from_secs(20);
/// Who renews its lease is looked at again after this.
const AGAIN: Duration = Duration::from_secs(3600);
/// Between two looks at who has a lease.
const SWEEP: Duration = Duration::from_secs(60);
/// Addresses remembered, and looked at at once: strangers can make up more.
const KNOWN: usize = 4096;
const LOOKS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const MOVED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 8);
    const AT: Guest = Guest { mac: MAC, ip: IP, maker: None, managed: false };
    const ELSEWHERE: Guest = Guest { ip: MOVED, ..AT };

    #[test]
    fn who_renews_is_looked_at_once_an_hour_and_sooner_when_the_look_came_to_nothing() {
        let (mut known, now) = (LookedAt::default(), Instant::now());
        assert!(known.begin(&AT, now));
        assert!(!known.begin(&AT, now + AGAIN / 2), "it renews its lease");
        assert!(known.begin(&AT, now + AGAIN));
        assert!(known.forget(MAC, IP));
        assert!(known.begin(&AT, now + AGAIN), "the centre was away");
        let named = Guest { maker: Some("OpenBMC"), ..AT };
        assert!(known.begin(&named, now + AGAIN), "its lease did not say that");
        assert!(!known.begin(&named, now + AGAIN) && !known.begin(&AT, now + AGAIN));
    }

    #[test]
    fn one_at_two_addresses_is_looked_at_once_at_each_and_a_look_at_one_ends_none_at_the_other() {
        let (mut known, now) = (LookedAt::default(), Instant::now());
        assert!(known.begin(&AT, now) && known.begin(&ELSEWHERE, now));
        assert!(!known.begin(&AT, now) && !known.begin(&ELSEWHERE, now), "it has both");
        assert!(known.forget(MAC, IP) && !known.forget(MAC, IP));
        assert!(!known.begin(&ELSEWHERE, now) && known.begin(&AT, now));
    }

    #[tokio::test]
    async fn who_was_missed_is_known_by_its_lease_and_looked_at_once_as_long_as_it_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let rack = fixture::rack(dir.path(), &[9]).await;
        let (mut known, now) = (LookedAt::default(), Instant::now());
        assert_eq!(missed(&rack, given(&rack), &mut known).count(), 0);
        let lease = Lease {
            mac: MAC,
            ip: IP,
            network: "row-1".to_owned(),
            expires_at: std::time::SystemTime::now(),
            kind: farrier_netboot::LeaseKind::Reserved,
        };
        assert!(!is_given(&rack, &lease), "a machine of the rack");
        assert!(known.begin(&AT, now));
        known.keep(std::slice::from_ref(&lease), now + AGAIN * 9);
        assert!(known.is_noted(MAC, IP) && !known.is_noted(MAC, MOVED));
        known.keep(&[], now + AGAIN / 2);
        assert!(known.is_noted(MAC, IP));
        known.keep(&[], now + AGAIN);
        assert!(!known.is_noted(MAC, IP), "its lease has ended");
    }

    #[test]
    fn a_row_of_bmcs_waits_its_turn_each_where_it_is_now_and_a_flood_is_bounded() {
        let guest = |n: usize, ip| {
            let [.., a, b] = n.to_be_bytes();
            Guest { mac: MacAddr([2, 0, 0, 1, a, b]), ip, ..AT }
        };
        let mut queue = Queue::default();
        for (n, ip) in [(1, IP), (2, IP), (1, MOVED)] {
            queue.push(guest(n, ip));
        }
        queue.push(Guest { maker: Some("OpenBMC"), ..guest(3, IP) });
        queue.push(guest(3, IP));
        let turns: Vec<_> = std::iter::from_fn(|| queue.next())
            .map(|guest| (guest.mac.0[5], guest.ip, guest.maker))
            .collect();
        assert_eq!(turns, [(1, MOVED, None), (2, IP, None), (3, IP, Some("OpenBMC"))]);
        (0..KNOWN * 2).for_each(|n| queue.push(guest(n, IP)));
        assert_eq!((queue.order.len(), queue.guests.len()), (KNOWN, KNOWN));
    }

    #[test]
    fn strangers_that_make_up_addresses_fill_no_memory() {
        let (mut known, now) = (LookedAt::default(), Instant::now());
        let stranger = |index: usize| {
            let [.., a, b] = index.to_be_bytes();
            MacAddr([2, 0, 0, 1, a, b])
        };
        assert!((0..KNOWN).all(|index| known.begin(&Guest { mac: stranger(index), ..AT }, now)));
        assert!(!known.begin(&AT, now));
        assert!(known.begin(&AT, now + AGAIN));
    }
}
