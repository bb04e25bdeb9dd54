//! BMCs that ask for an address in the provisioning network: recognised by what they say there or by the plan, asked
//! without a password what they speak, and reported.

use super::{ATTEMPTS, RETRY, may_pass};
use crate::config::BmcDiscovery;
use crate::rack::Rack;
use farrier_bmc::Deadline;
use farrier_netboot::{BootEvent, EventKind, MacAddr};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{ReportBmcRequest, SightMachineRequest};
use std::collections::HashMap;
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
}

/// Looks at who gets an address, until shutdown.
pub(super) async fn look(rack: Arc<Rack>) {
    let Some(inventory) = rack.discovery.inventory.clone() else { return };
    if rack.config.discovery.bmcs == BmcDiscovery::Off {
        return;
    }
    let mut events = rack.netboot.events();
    let mut looks = JoinSet::new();
    // When each was looked at, and where.
    let mut known: HashMap<MacAddr, (Instant, Ipv4Addr)> = HashMap::new();
    loop {
        let event = tokio::select! {
            () = rack.shutdown.cancelled() => return,
            Some(_) = looks.join_next() => continue,
            event = events.recv() => event,
        };
        let guest = match event {
            Ok(event) => guest(&rack, &event),
            // Who was missed renews its lease.
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return,
        };
        let Some(guest) = guest else { continue };
        let now = Instant::now();
        known.retain(|_, (at, _)| now.saturating_duration_since(*at) < AGAIN);
        let looked_at = known.get(&guest.mac).is_some_and(|(_, ip)| *ip == guest.ip);
        if looked_at || known.len() >= KNOWN || looks.len() >= LOOKS {
            continue;
        }
        known.insert(guest.mac, (now, guest.ip));
        let (rack, inventory) = (Arc::clone(&rack), inventory.clone());
        looks.spawn(async move { look_at(&rack, inventory, guest).await });
    }
}

/// Firmware that boots is a machine.
fn guest(rack: &Rack, event: &BootEvent) -> Option<Guest> {
    match &event.kind {
        EventKind::Guest { network, ip, boots: false, bmc }
            if rack.provisioning().is_some_and(|segment| segment.name == *network) =>
        {
            Some(Guest { mac: event.mac?, ip: *ip, maker: *bmc })
        }
        _ => None,
    }
}

async fn look_at(rack: &Rack, mut inventory: DiscoveredServiceClient<Channel>, guest: Guest) {
    let Guest { mac, ip, maker } = guest;
    let request = SightMachineRequest { mac_address: mac.to_string() };
    let sighted = match inventory.sight_machine(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return tracing::debug!(%mac, %status, "not told whether this address is known"),
    };
    // A node's own system, in the wrong network.
    if !sighted.node.is_empty() {
        return;
    }
    if maker.is_none() && !sighted.expected_bmc && rack.config.discovery.bmcs != BmcDiscovery::All {
        return;
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
        };
        return report(inventory, mac, request).await;
    }
    tracing::info!(%mac, %ip, maker, "a BMC by its own word, which answers neither Redfish nor IPMI");
}

async fn report(mut inventory: DiscoveredServiceClient<Channel>, mac: MacAddr, request: ReportBmcRequest) {
    for attempt in 1..=ATTEMPTS {
        match inventory.report_bmc(request.clone()).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let (driver, ip) = (request.driver, request.ip_address);
                tracing::info!(%mac, ip, driver, machine = answer.machine, node.id = answer.node, "BMC discovered");
                return;
            }
            Err(status) if attempt == ATTEMPTS || !may_pass(&status) => {
                return tracing::warn!(%mac, %status, "a discovered BMC is not written down");
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
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
