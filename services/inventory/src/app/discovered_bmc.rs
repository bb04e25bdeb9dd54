//! BMCs that asked their racks for an address.

use super::discovered::{ALIKE, TRIES, is_bmc_alone, mac, macs};
use super::discovered_room::{Room, full};
use super::pattern::same_mac;
use super::proposal::Matcher;
use super::resource::event;
use super::same_machine::Identifiers;
use super::whose::Whose;
use super::{App, check, error};
use farrier_identity::Identity;
use farrier_inventory_store::{Found, Query, StoreError};
use farrier_model::{Collection, MacAddress};
use farrier_proto::inventory::{
    DiscoveredBmc, DiscoveredMachine, DiscoveryPlan, Event, ExpectedMachine, Node, ReportBmcRequest,
    ReportBmcResponse,
};
use farrier_proto::types::{Hardware, OwnBmc};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, invalid, stale_etag};
use farrier_runtime::time;
use std::net::{IpAddr, Ipv4Addr};
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
        if let Some(node) = self.node_with_bmc(caller, &rack, mac, ip, &report.names).await? {
            return Ok(ReportBmcResponse { node, ..ReportBmcResponse::default() });
        }
        let seen = seen(mac, ip, rack, report);
        let (_, plan) = self.plan().await?;
        for _ in 0..TRIES {
            match self.write_bmc(caller, &plan, seen.clone()).await {
                // Somebody else wrote it meanwhile.
                Err(StoreError::Conflict { .. } | StoreError::Taken { .. } | StoreError::NotFound { .. }) => {
                }
                Err(other) => return Err(error::store(other)),
                // As it was: what waits for a person, or for the next boot, waits on.
                Ok(Some((machine, false))) => return Ok(ReportBmcResponse { machine, ..Default::default() }),
                Ok(Some((machine, true))) => {
                    let node = self.accept_whole(caller, &plan, &machine, &seen.rack).await?;
                    let machine = if node.is_empty() { machine } else { String::new() };
                    return Ok(ReportBmcResponse { machine, node });
                }
                Ok(None) => return Err(full(&seen.rack)),
            }
        }
        Err(stale_etag(&seen.name, None))
    }

    /// The node that a rule made of it; empty: it waits. A machine of this rack that was here before its BMC may have lacked just that.
    /// Of one that may be a node's nobody decides.
    async fn accept_whole(
        &self,
        caller: &Caller,
        plan: &DiscoveryPlan,
        machine: &str,
        rack: &str,
    ) -> Result<String, Status> {
        let row = match self.store.get::<DiscoveredMachine>(machine).await {
            Ok(row) => row,
            Err(StoreError::NotFound { .. }) => return Ok(String::new()),
            Err(other) => return Err(error::store(other)),
        };
        let Some(boot) = row.boot_mac_address.parse().ok().filter(|_| row.rack == rack) else {
            return Ok(String::new());
        };
        let hardware = row.hardware.clone().unwrap_or_default();
        let owners = self.owners_of(&macs(boot, &hardware)).await?;
        match self.whose(&row, &owners).await? {
            Whose::Nobodys => Ok(self.accept_automatically(caller, plan, machine).await),
            Whose::Of(_) | Whose::Unclear { .. } => Ok(String::new()),
        }
    }

    /// The machine of this rack that is expected with this BMC, and does not itself say which is its own.
    async fn planned(
        &self,
        plan: &DiscoveryPlan,
        seen: &DiscoveredMachine,
    ) -> Result<Option<DiscoveredMachine>, StoreError> {
        let own = |machine: &DiscoveredMachine| {
            let own = machine.hardware.as_ref().and_then(|hardware| hardware.own_bmc.as_ref());
            own.map(|own| own.mac_address.clone()).unwrap_or_default()
        };
        let mac = own(seen);
        let is_its = |one: &&ExpectedMachine| !mac.is_empty() && same_mac(&one.bmc_mac_address, &mac);
        let Some(planned) = plan.machines.iter().find(is_its) else {
            return Ok(None);
        };
        let matcher = Matcher::new(plan);
        let its = |row: &DiscoveredMachine| {
            let expected = matcher.expected(row).is_some_and(|expected| std::ptr::eq(expected, planned));
            expected && !is_bmc_alone(row) && own(row).is_empty()
        };
        let mut passed = 0;
        loop {
            let page = self.store.longest_unseen(Some(&seen.rack), passed, ROWS).await?;
            let read = page.len() as u64;
            passed += read;
            match page.into_iter().find(its) {
                None if read == ROWS => {}
                found => return Ok(found),
            }
        }
    }

    /// Into the row of the machine that says it is its own, or is expected with it, or one by itself. Its name, and whether that is news; none where there is
    /// no room.
    async fn write_bmc(
        &self,
        caller: &Caller,
        plan: &DiscoveryPlan,
        seen: DiscoveredMachine,
    ) -> Result<Option<(String, bool)>, StoreError> {
        let its = Identifiers::of(&seen);
        let alike = self.store.machines_like(&seen.name, &its.keys(), ALIKE).await?;
        let here =
            || alike.iter().filter(|known| known.rack == seen.rack && its.same_bmc(&Identifiers::of(known)));
        // It was carried to another rack.
        let moved = || alike.iter().find(|known| is_bmc_alone(known) && known.name == seen.name);
        let known = here().find(|known| !is_bmc_alone(known)).or_else(|| here().next()).or_else(moved);
        let planned = match known {
            Some(known) if !is_bmc_alone(known) => None,
            _ => self.planned(plan, &seen).await?,
        };
        let alone = known.filter(|_| planned.is_some());
        let known = planned.as_ref().or(known);
        // A machine that boots by this port has its row already, and is more than a BMC.
        if known.is_none()
            && let Some(machine) = alike.iter().find(|known| known.name == seen.name)
        {
            return Ok(Some((machine.name.clone(), false)));
        }
        let (now, mut makes_room) = (time::now(), None);
        let (revision, verb, machine) = match known {
            Some(known) => {
                let (mut bmc, bmc_address, rack) = (seen.bmc, seen.bmc_address, seen.rack);
                // A rack that has started since knows a BMC by its lease, and not what it said of itself.
                if let (Some(bmc), Some(before)) = (&mut bmc, &known.bmc)
                    && bmc.maker.is_empty()
                {
                    bmc.maker.clone_from(&before.maker);
                }
                let alone = is_bmc_alone(known);
                let hardware = if alone { seen.hardware } else { known.hardware.clone() };
                let seen_time = if alone { Some(now) } else { known.seen_time };
                let machine =
                    DiscoveredMachine { rack, bmc, bmc_address, hardware, seen_time, ..known.clone() };
                (Some(known.etag.parse().unwrap_or(0)), "update", machine)
            }
            None => {
                match self.room(plan, &seen.rack).await? {
                    Room::None => return Ok(None),
                    room => makes_room = room.goes(caller),
                }
                let uid = Uuid::now_v7().to_string();
                let machine = DiscoveredMachine { uid, create_time: Some(now), seen_time: Some(now), ..seen };
                (None, "create", machine)
            }
        };
        let name = machine.name.clone();
        let driver = machine.bmc.as_ref().map(|bmc| bmc.driver.as_str()).unwrap_or_default();
        let detail = format!("its BMC answers {driver} at {}", machine.bmc_address);
        let is_news = known.is_none_or(|known| !is_as_before(known, &machine));
        let mut events = match is_news {
            false => Vec::new(),
            true => vec![Event { detail, ..event(caller, &name, verb) }],
        };
        let keys = Identifiers::of(&machine).keys();
        let (goes, told) = makes_room.unzip();
        events.extend(told);
        let alone = alone.map(|row| (row.name.clone(), row.etag.parse().unwrap_or(0)));
        let gone = goes.into_iter().chain(alone).collect();
        self.store.write_found(Found { machine, keys, revision, gone, events }).await?;
        Ok(Some((name, is_news)))
    }

    /// The node of the rack whose BMC this is: by the MAC address that its machine or a rack has seen, else by the address that the
    /// node has, or a name of it. One whose BMC is elsewhere is told.
    async fn node_with_bmc(
        &self,
        caller: &Caller,
        rack: &str,
        mac: MacAddress,
        ip: Ipv4Addr,
        names: &[String],
    ) -> Result<Option<String>, Status> {
        let its = self.nodes_of(rack, Some(("bmc_mac".to_owned(), mac.to_string()))).await?;
        for node in &its {
            if let Some(detail) = elsewhere(node, mac, ip) {
                self.tell_once(caller, &node.name, ELSEWHERE, detail, mac).await?;
            }
        }
        if let Some(node) = its.into_iter().next() {
            return Ok(Some(node.name));
        }
        let at = |node: &Node| {
            let said = node.bmc.as_ref().map(|bmc| host(&bmc.address)).unwrap_or_default();
            said == ip.to_string() || names.iter().any(|name| name.eq_ignore_ascii_case(said))
        };
        Ok(self.nodes_of(rack, None).await?.into_iter().find(at).map(|node| node.name))
    }

    async fn nodes_of(&self, rack: &str, also: Option<(String, String)>) -> Result<Vec<Node>, Status> {
        let terms = [Some(("rack".to_owned(), rack.to_owned())), also].into_iter().flatten().collect();
        let query = Query { terms, project: None, after: None, limit: NODES };
        self.store.list(&query).await.map_err(error::store)
    }
}

/// Where a node's BMC is not where the node says. One that goes by a name may be anywhere.
fn elsewhere(node: &Node, mac: MacAddress, ip: Ipv4Addr) -> Option<String> {
    let bmc = node.bmc.as_ref()?;
    let said: IpAddr = host(&bmc.address).parse().ok()?;
    let short = node.name.trim_start_matches("nodes/");
    (said != ip).then(|| {
        format!(
            "its BMC, {mac}, has asked for an address and is at {ip}, the node says {}: \
             `farrier node update {short} --bmc-address {ip}`, or `farrier node inspect {short}` where that BMC is another \
             machine's now",
            bmc.address
        )
    })
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

/// Each rack that starts looks at all of its BMCs.
fn is_as_before(known: &DiscoveredMachine, machine: &DiscoveredMachine) -> bool {
    let of = |machine: &DiscoveredMachine| {
        let bmc = machine.bmc.clone().map(|bmc| DiscoveredBmc { seen_time: None, ..bmc });
        (machine.rack.clone(), machine.bmc_address.clone(), bmc)
    };
    of(known) == of(machine)
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
    if report.names.len() > NAMES {
        return Err(invalid("names", format!("expected at most {NAMES}")));
    }
    report.names.iter().try_for_each(|name| check::text("names", name))?;
    check::text("maker", &report.maker)
}

/// Of `host` or `host:port`.
fn host(address: &str) -> &str {
    address.split_once(':').map_or(address, |(host, _)| host)
}

/// Rows that are read at a time.
const ROWS: u64 = 64;
/// What racks find out.
const DRIVERS: &[&str] = &["redfish", "ilo", "idrac", "ipmi"];
/// Nodes of one rack.
const NODES: u64 = 4096;
/// Of a node: its BMC has another address than it says.
const ELSEWHERE: &str = "bmc elsewhere";
/// By which one address is known.
const NAMES: usize = 16;
