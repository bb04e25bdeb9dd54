//! BMCs that asked their racks for an address.

use super::discovered::{ALIKE, MOST, TRIES, full, is_bmc_alone, mac};
use super::resource::event;
use super::same_machine::Identifiers;
use super::{App, check, error};
use farrier_identity::Identity;
use farrier_inventory_store::{Found, Query, StoreError};
use farrier_model::{Collection, MacAddress};
use farrier_proto::inventory::{
    DiscoveredBmc, DiscoveredMachine, Event, Node, ReportBmcRequest, ReportBmcResponse,
};
use farrier_proto::types::{Hardware, OwnBmc};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, invalid, stale_etag};
use farrier_runtime::time;
use std::net::Ipv4Addr;
use tonic::Status;
use uuid::Uuid;

impl App {
    /// What a rack found at an address that it gave.
    pub(crate) async fn report_bmc(
        &self,
        caller: &Caller,
        report: ReportBmcRequest,
    ) -> Result<ReportBmcResponse, Status> {
        let Some(Identity::Rack(rack)) = caller.identity() else {
            return Err(internal("only racks find BMCs"));
        };
        let rack = Collection::Racks.name(rack);
        let mac = mac("mac_address", &report.mac_address)?;
        let ip: Ipv4Addr =
            report.ip_address.parse().map_err(|_| invalid("ip_address", "expected an IPv4 address"))?;
        check_report(&report)?;
        let node = self.node_with_bmc(&rack, ip).await?;
        if !node.is_empty() {
            return Ok(ReportBmcResponse { node, ..ReportBmcResponse::default() });
        }
        let seen = seen(mac, ip, rack, report);
        for _ in 0..TRIES {
            match self.write_bmc(caller, seen.clone()).await {
                // Somebody else wrote it meanwhile.
                Err(StoreError::Conflict { .. } | StoreError::Taken { .. } | StoreError::NotFound { .. }) => {
                }
                Err(other) => return Err(error::store(other)),
                Ok(Some(machine)) => {
                    return Ok(ReportBmcResponse { machine, ..ReportBmcResponse::default() });
                }
                Ok(None) => return Err(full()),
            }
        }
        Err(stale_etag(&seen.name, None))
    }

    /// Into the row of the machine that says it is its own, or one by itself. Its name, or none where there is no room.
    async fn write_bmc(
        &self,
        caller: &Caller,
        seen: DiscoveredMachine,
    ) -> Result<Option<String>, StoreError> {
        let its = Identifiers::of(&seen);
        let alike = self.store.machines_like(&seen.name, &its.keys(), ALIKE).await?;
        let here =
            || alike.iter().filter(|known| known.rack == seen.rack && its.same_bmc(&Identifiers::of(known)));
        // It was carried to another rack.
        let moved = || alike.iter().find(|known| is_bmc_alone(known) && known.name == seen.name);
        let known = here().find(|known| !is_bmc_alone(known)).or_else(|| here().next()).or_else(moved);
        // A machine that boots by this port has its row already, and is more than a BMC.
        if known.is_none()
            && let Some(machine) = alike.iter().find(|known| known.name == seen.name)
        {
            return Ok(Some(machine.name.clone()));
        }
        let now = time::now();
        let (revision, verb, machine) = match known {
            Some(known) => {
                let (bmc, bmc_address, rack) = (seen.bmc, seen.bmc_address, seen.rack);
                let alone = is_bmc_alone(known);
                let hardware = if alone { seen.hardware } else { known.hardware.clone() };
                let seen_time = if alone { Some(now) } else { known.seen_time };
                let machine =
                    DiscoveredMachine { rack, bmc, bmc_address, hardware, seen_time, ..known.clone() };
                (Some(known.etag.parse().unwrap_or(0)), "update", machine)
            }
            None => {
                if self.store.count_machines().await? >= MOST {
                    return Ok(None);
                }
                let uid = Uuid::now_v7().to_string();
                let machine = DiscoveredMachine { uid, create_time: Some(now), seen_time: Some(now), ..seen };
                (None, "create", machine)
            }
        };
        let name = machine.name.clone();
        let driver = machine.bmc.as_ref().map(|bmc| bmc.driver.as_str()).unwrap_or_default();
        let detail = format!("its BMC answers {driver} at {}", machine.bmc_address);
        let events = vec![Event { detail, ..event(caller, &name, verb) }];
        let keys = Identifiers::of(&machine).keys();
        self.store.write_found(Found { machine, keys, revision, gone: Vec::new(), events }).await?;
        Ok(Some(name))
    }

    /// The node of the rack whose BMC has this address; empty: nobody's.
    async fn node_with_bmc(&self, rack: &str, ip: Ipv4Addr) -> Result<String, Status> {
        let terms = vec![("rack".to_owned(), rack.to_owned())];
        let query = Query { terms, project: None, after: None, limit: NODES };
        let nodes: Vec<Node> = self.store.list(&query).await.map_err(error::store)?;
        let at = |node: &&Node| node.bmc.as_ref().is_some_and(|bmc| host(&bmc.address) == ip.to_string());
        Ok(nodes.iter().find(at).map(|node| node.name.clone()).unwrap_or_default())
    }
}

fn seen(mac: MacAddress, ip: Ipv4Addr, rack: String, report: ReportBmcRequest) -> DiscoveredMachine {
    let ReportBmcRequest { driver, certificate_sha256, maker, .. } = report;
    let seen_time = Some(time::now());
    let own = OwnBmc { mac_address: mac.to_string(), ip_address: ip.to_string(), ..OwnBmc::default() };
    DiscoveredMachine {
        name: Collection::Discovered.name(&mac.hexhyp()),
        rack,
        hardware: Some(Hardware { own_bmc: Some(own), ..Hardware::default() }),
        bmc_address: ip.to_string(),
        bmc: Some(DiscoveredBmc { driver, certificate_sha256, maker, seen_time }),
        ..DiscoveredMachine::default()
    }
}

fn check_report(report: &ReportBmcRequest) -> Result<(), Status> {
    if !DRIVERS.contains(&report.driver.as_str()) {
        return Err(invalid("driver", format!("expected one of {}", DRIVERS.join(", "))));
    }
    let sha256 = &report.certificate_sha256;
    let hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !sha256.is_empty() && !hex {
        return Err(invalid("certificate_sha256", "expected 64 hexadecimal digits, or nothing"));
    }
    check::text("maker", &report.maker)
}

/// Of `host` or `host:port`.
fn host(address: &str) -> &str {
    address.split_once(':').map_or(address, |(host, _)| host)
}

/// What racks find out.
const DRIVERS: &[&str] = &["redfish", "ilo", "idrac", "ipmi"];
/// Nodes of one rack.
const NODES: u64 = 4096;
