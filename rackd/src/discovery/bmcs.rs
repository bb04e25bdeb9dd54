//! BMCs that ask for an address in a provisioning network, recognised by what they say there or by the plan; and whoever asks
//! in a management network, which is there for BMCs: asked without a password what they speak, and reported.

use super::{ATTEMPTS, RETRY, may_pass};
use crate::config::BmcDiscovery;
use crate::rack::Rack;
use farrier_bmc::Deadline;
use farrier_netboot::{BootEvent, EventKind, MacAddr};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{ReportBmcRequest, SightMachineRequest};
use std::collections::{HashMap, VecDeque};
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
    let (mut looks, mut known, mut queue) = (JoinSet::new(), LookedAt::default(), Queue::default());
    loop {
        tokio::select! {
            () = rack.shutdown.cancelled() => return,
            Some(done) = looks.join_next() => {
                // One that panicked is a bug, told where it happened: it is not begun again at each renewal.
                if let Ok(Some(Guest { mac, ip, .. })) = done {
                    known.forget(mac, ip);
                }
            }
            event = events.recv() => match event {
                Ok(event) => {
                    if let Some(guest) = guest(&rack, &event) {
                        queue.push(guest);
                    }
                }
                // Who was missed renews its lease.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        while looks.len() < LOOKS
            && let Some(guest) = queue.next()
        {
            if known.begin(guest.mac, guest.ip, Instant::now()) {
                let (rack, inventory) = (Arc::clone(&rack), inventory.clone());
                looks.spawn(async move { (!look_at(&rack, inventory, guest).await).then_some(guest) });
            }
        }
    }
}

/// Who waits for a look: a row of machines that powers on has more BMCs than are looked at at once. Each once, as it was last.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<MacAddr>,
    guests: HashMap<MacAddr, Guest>,
}

impl Queue {
    fn push(&mut self, guest: Guest) {
        if self.guests.len() >= KNOWN && !self.guests.contains_key(&guest.mac) {
            return;
        }
        if self.guests.insert(guest.mac, guest).is_none() {
            self.order.push_back(guest.mac);
        }
    }

    fn next(&mut self) -> Option<Guest> {
        let mac = self.order.pop_front()?;
        self.guests.remove(&mac)
    }
}

/// When each was looked at, and where.
#[derive(Debug, Default)]
struct LookedAt(HashMap<MacAddr, (Instant, Ipv4Addr)>);

impl LookedAt {
    /// Whether it is to be looked at now, which is noted then.
    fn begin(&mut self, mac: MacAddr, ip: Ipv4Addr, now: Instant) -> bool {
        self.0.retain(|_, (at, _)| now.saturating_duration_since(*at) < AGAIN);
        if self.is_noted(mac, ip) || self.0.len() >= KNOWN {
            return false;
        }
        self.0.insert(mac, (now, ip));
        true
    }

    /// The look did not come to its end: it is looked at when it asks again. Where it has another address by now, another
    /// look has begun.
    fn forget(&mut self, mac: MacAddr, ip: Ipv4Addr) {
        if self.is_noted(mac, ip) {
            self.0.remove(&mac);
        }
    }

    fn is_noted(&self, mac: MacAddr, ip: Ipv4Addr) -> bool {
        self.0.get(&mac).is_some_and(|(_, at)| *at == ip)
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
/// Addresses remembered, and looked at at once: strangers can make up more.
const KNOWN: usize = 4096;
const LOOKS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const MOVED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 8);

    #[test]
    fn who_renews_is_looked_at_once_an_hour_and_sooner_when_the_look_came_to_nothing() {
        let (mut known, now) = (LookedAt::default(), Instant::now());
        assert!(known.begin(MAC, IP, now));
        assert!(!known.begin(MAC, IP, now + AGAIN / 2), "it renews its lease");
        assert!(known.begin(MAC, IP, now + AGAIN));
        known.forget(MAC, IP);
        assert!(known.begin(MAC, IP, now + AGAIN), "the centre was away");
    }

    #[test]
    fn a_look_at_its_old_address_ends_no_look_at_the_new_one() {
        let (mut known, now) = (LookedAt::default(), Instant::now());
        assert!(known.begin(MAC, IP, now) && known.begin(MAC, MOVED, now));
        known.forget(MAC, IP);
        assert!(!known.begin(MAC, MOVED, now));
    }

    #[test]
    fn a_row_of_bmcs_waits_its_turn_each_where_it_is_now_and_a_flood_is_bounded() {
        let guest = |n: usize, ip| {
            let [.., a, b] = n.to_be_bytes();
            Guest { mac: MacAddr([2, 0, 0, 1, a, b]), ip, maker: None, managed: false }
        };
        let mut queue = Queue::default();
        for (n, ip) in [(1, IP), (2, IP), (1, MOVED)] {
            queue.push(guest(n, ip));
        }
        let turns: Vec<_> =
            std::iter::from_fn(|| queue.next()).map(|guest| (guest.mac.0[5], guest.ip)).collect();
        assert_eq!(turns, [(1, MOVED), (2, IP)]);
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
        assert!((0..KNOWN).all(|index| known.begin(stranger(index), IP, now)));
        assert!(!known.begin(MAC, IP, now));
        assert!(known.begin(MAC, IP, now + AGAIN));
    }
}
