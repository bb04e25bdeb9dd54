//! Machines that nobody described, as their racks found them.

use super::discovered_room::{Room, full};
use super::noun::{Noun, etag};
use super::proposal::{bmc_address, propose};
use super::resource::{event, expect_etag};
use super::same_machine::{Identifiers, Merge, merge};
use super::whose::{Whose, whose};
use super::{App, bmc, check, error};
use farrier_identity::Identity;
use farrier_inventory_store::{Found, NodeExtra, StoreError};
use farrier_model::{Collection, MacAddress};
use farrier_proto::inventory::{
    Bmc, DiscoveredMachine, DiscoveryPlan, Event, ExpectedMachine, Node, Port, ProposedNode,
    ReportMachineRequest, ReportMachineResponse, SightMachineResponse,
};
use farrier_proto::types::{BootMode, Hardware};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, invalid, stale_etag};
use farrier_runtime::filter::Term;
use farrier_runtime::time;
use prost::Message as _;
use prost_types::Timestamp;
use std::net::Ipv4Addr;
use tonic::Status;
use uuid::Uuid;

impl App {
    /// The node whose port has this address, and whether a BMC with it is expected. One that asks in another rack than its own
    /// gets nothing there, and is told.
    pub(crate) async fn sight_machine(
        &self,
        caller: &Caller,
        mac_address: &str,
    ) -> Result<SightMachineResponse, Status> {
        let Some(Identity::Rack(rack)) = caller.identity() else {
            return Err(internal("only racks see machines"));
        };
        let (mac, rack) = (mac("mac_address", mac_address)?, Collection::Racks.name(rack));
        let node = self.owners_of(&[mac]).await?.pop().unwrap_or_default();
        let (_, plan) = self.plan().await?;
        let is_its = |expected: &ExpectedMachine| expected.bmc_mac_address.parse() == Ok(mac);
        let expected_bmc = plan.machines.iter().any(is_its);
        let own = if node.is_empty() { String::new() } else { self.rack_of(&node).await? };
        if own.is_empty() || own == rack {
            return Ok(SightMachineResponse { expected_bmc, node, rack: String::new() });
        }
        let short = node.trim_start_matches("nodes/");
        let detail = format!(
            "its port {mac} asks in {rack}, and the node is in {own}, which alone serves it: cable it there, or where it has moved \
             for good, `farrier node delete {short}`: it is discovered in {rack} then"
        );
        self.tell_once(caller, &node, OTHER_RACK, detail, mac).await?;
        Ok(SightMachineResponse { expected_bmc, node, rack: own })
    }

    /// Empty: the node is gone meanwhile.
    async fn rack_of(&self, node: &str) -> Result<String, Status> {
        match self.store.get::<Node>(node).await {
            Ok(node) => Ok(node.rack),
            Err(StoreError::NotFound { .. }) => Ok(String::new()),
            Err(other) => Err(error::store(other)),
        }
    }

    /// What a rack found. Written down under the name that the machine has already, if it was seen before.
    pub(crate) async fn report_machine(
        &self,
        caller: &Caller,
        report: ReportMachineRequest,
    ) -> Result<ReportMachineResponse, Status> {
        let ReportMachineRequest { boot_mac_address, hardware, ip_address, given } = report;
        let Some(Identity::Rack(rack)) = caller.identity() else {
            return Err(internal("only racks find machines"));
        };
        let boot = mac("boot_mac_address", &boot_mac_address)?;
        if !ip_address.is_empty() && ip_address.parse::<Ipv4Addr>().is_err() {
            return Err(invalid("ip_address", "expected an IPv4 address or nothing"));
        }
        if given.len() > GIVEN {
            return Err(invalid("given", format!("expected at most {GIVEN}")));
        }
        let hardware = hardware.ok_or_else(|| invalid("hardware", "expected what it is made of"))?;
        check_hardware(&hardware)?;
        let owners = self.owners_of(&macs(boot, &hardware)).await?;
        let (_, plan) = self.plan().await?;
        let mut seen = DiscoveredMachine {
            ip_address,
            name: Collection::Discovered.name(&boot.hexhyp()),
            rack: Collection::Racks.name(rack),
            boot_mac_address: boot.to_string(),
            hardware: Some(hardware),
            boot_count: 1,
            ..DiscoveredMachine::default()
        };
        seen.bmc_address = bmc_address(&plan, &seen, &given);
        let unclear = match self.whose(&seen, &owners).await? {
            Whose::Nobodys => None,
            Whose::Of(node) => {
                // Also where another of its interfaces is a port.
                if self.owners_of(&[boot]).await?.is_empty() {
                    self.tell_new_card(caller, &node, &seen, boot).await?;
                }
                return Ok(ReportMachineResponse { node, has_owner: true, ..Default::default() });
            }
            Whose::Unclear { nodes, why } => {
                for node in &nodes {
                    let detail = format!("{boot} in {}: {why}", seen.rack);
                    self.tell_once(caller, node, CONFLICT, detail, boot).await?;
                }
                Some(why)
            }
        };
        for _ in 0..TRIES {
            match self.write_machine(caller, &plan, seen.clone()).await {
                // Somebody else wrote it meanwhile.
                Err(StoreError::Conflict { .. } | StoreError::Taken { .. } | StoreError::NotFound { .. }) => {
                }
                Err(other) => return Err(error::store(other)),
                Ok(Some(machine)) => {
                    if let Some(why) = unclear {
                        // Whoever accepts it has read this.
                        self.write_refusal(caller, &machine, &why).await.map_err(error::store)?;
                        return Ok(ReportMachineResponse { machine, has_owner: true, ..Default::default() });
                    }
                    let node = self.accept_automatically(caller, &plan, &machine).await;
                    let machine = if node.is_empty() { machine } else { String::new() };
                    return Ok(ReportMachineResponse { machine, node, has_owner: false });
                }
                // The nodes have it in their histories.
                Ok(None) if unclear.is_some() => {
                    return Ok(ReportMachineResponse { has_owner: true, ..Default::default() });
                }
                Ok(None) => return Err(full(&seen.rack)),
            }
        }
        Err(stale_etag(&seen.name, None))
    }

    /// Its name, or none where there is no room for one more.
    async fn write_machine(
        &self,
        caller: &Caller,
        plan: &DiscoveryPlan,
        mut seen: DiscoveredMachine,
    ) -> Result<Option<String>, StoreError> {
        let its = Identifiers::of(&seen);
        let alike = self.store.machines_like(&seen.name, &its.keys(), ALIKE).await?;
        let (bmcs, alike): (Vec<_>, Vec<_>) = alike.into_iter().partition(is_bmc_alone);
        let Merge { first, mut gone } = merge(&alike, &seen, &its);
        // Its BMC was here first.
        let own = |bmc: &&DiscoveredMachine| bmc.rack == seen.rack && its.same_bmc(&Identifiers::of(bmc));
        if let Some(own) = bmcs.iter().find(own) {
            seen.bmc.clone_from(&own.bmc);
            if seen.bmc_address.is_empty() {
                seen.bmc_address.clone_from(&own.bmc_address);
            }
            gone.push(own);
        }
        // What was taken for a BMC boots: it is this machine, by this port.
        gone.extend(bmcs.iter().filter(|bmc| bmc.name == seen.name && !own(bmc)));
        let now = time::now();
        let revision_of = |known: &DiscoveredMachine| known.etag.parse().unwrap_or(0);
        let (mut events, mut makes_room) = (Vec::new(), None);
        let (name, revision, machine) = match first {
            Some(first) => {
                let machine = DiscoveredMachine {
                    name: first.name.clone(),
                    uid: first.uid.clone(),
                    create_time: first.create_time,
                    seen_time: Some(now),
                    boot_count: first.boot_count.saturating_add(1),
                    bmc: seen.bmc.clone().or_else(|| first.bmc.clone()),
                    ..seen
                };
                (first.name.clone(), Some(revision_of(first)), machine)
            }
            None => {
                if gone.is_empty() {
                    match self.room(plan, &seen.rack).await? {
                        Room::None => return Ok(None),
                        room => makes_room = room.goes(caller),
                    }
                }
                let uid = Uuid::now_v7().to_string();
                let machine = DiscoveredMachine { uid, create_time: Some(now), seen_time: Some(now), ..seen };
                (machine.name.clone(), None, machine)
            }
        };
        for other in &gone {
            let detail = if is_bmc_alone(other) || its.same(&Identifiers::of(other)) {
                format!("it is {name}")
            } else {
                format!("another machine has its interface {}", machine.boot_mac_address)
            };
            events.push(Event { detail, ..event(caller, &other.name, "delete") });
        }
        let verb = if revision.is_some() { "update" } else { "create" };
        events.push(Event { detail: describe(&machine), ..event(caller, &name, verb) });
        let gone = gone.iter().map(|other| (other.name.clone(), revision_of(other)));
        let (goes, told) = makes_room.unzip();
        let gone = gone.chain(goes).collect();
        events.extend(told);
        self.store.write_found(Found { machine, keys: its.keys(), revision, gone, events }).await?;
        Ok(Some(name))
    }

    /// The node that a rule made of it; empty: it waits.
    pub(super) async fn accept_automatically(
        &self,
        caller: &Caller,
        plan: &DiscoveryPlan,
        machine: &str,
    ) -> String {
        // Racks see no discovered machines; this one is what it just told. What is judged is what becomes the node: the row may
        // know more than was told now, such as another address of its BMC.
        let row = match self.store.get::<DiscoveredMachine>(machine).await {
            // Nobody has looked at the certificate that its BMC showed.
            Ok(row) => DiscoveredMachine { bmc: None, ..row },
            Err(error) => {
                tracing::warn!(machine, %error, "a discovered machine is not looked at");
                return String::new();
            }
        };
        if !propose(plan, &row).is_some_and(|proposal| proposal.automatic) {
            return String::new();
        }
        let etag = row.etag.clone();
        let accepted = self.make_node(caller, row, &etag, None);
        match accepted.await {
            Ok(node) => node.name,
            // It is written down, and waits for somebody who sees why.
            Err(status) => {
                tracing::warn!(machine, %status, "a discovered machine is not accepted automatically");
                if let Err(error) = self.write_refusal(caller, machine, status.message()).await {
                    tracing::warn!(machine, %error, "why it is not accepted is not written down");
                }
                String::new()
            }
        }
    }

    /// Why it waits, into its row. Of somebody who changed it meanwhile it is not the last word.
    async fn write_refusal(&self, caller: &Caller, name: &str, why: &str) -> Result<(), StoreError> {
        let machine = match self.store.get::<DiscoveredMachine>(name).await {
            Ok(machine) => machine,
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        let revision = machine.etag.parse().ok();
        let why: String = why.chars().take(WHY).collect();
        let happened = Event { detail: why.clone(), ..event(caller, name, "refuse") };
        let keys = Identifiers::of(&machine).keys();
        let machine = DiscoveredMachine { refused: why, ..machine };
        let found = Found { machine, keys, revision, gone: Vec::new(), events: vec![happened] };
        match self.store.write_found(found).await {
            Err(StoreError::Conflict { .. }) => Ok(()),
            other => other,
        }
    }

    /// A node with all of its ports, instead of the machine.
    pub(crate) async fn accept_machine(
        &self,
        caller: &Caller,
        name: &str,
        etag: &str,
        node: Option<Node>,
    ) -> Result<Node, Status> {
        let machine = self.get(caller, name).await?;
        self.make_node(caller, machine, etag, node).await
    }

    async fn make_node(
        &self,
        caller: &Caller,
        machine: DiscoveredMachine,
        etag: &str,
        node: Option<Node>,
    ) -> Result<Node, Status> {
        let name = machine.name.as_str();
        let revision = expect_etag(&machine, etag)?;
        let mut node = node.unwrap_or_default();
        let (_, plan) = self.plan().await?;
        if let Some(proposal) = propose(&plan, &machine) {
            fill(&mut node, proposal);
        }
        fill_seen(&mut node, &machine);
        if node.name.is_empty() {
            return Err(invalid("node.name", "expected a name: the discovery plan proposes none"));
        }
        if node.rack.is_empty() {
            node.rack.clone_from(&machine.rack);
        } else if node.rack != machine.rack {
            let text =
                format!("expected {}, where the machine is, or nothing; saw {}", machine.rack, node.rack);
            return Err(invalid("node.rack", text));
        }
        let now = time::now();
        let mut node = node.born(Uuid::now_v7().to_string(), now)?;
        let system = Some(Identifiers::of(&machine).system());
        let extra = NodeExtra { system, ..node.seal(None, &self.vault)? };
        let hardware = machine.hardware.clone().unwrap_or_default();
        // Its firmware ran the ramdisk only because it was signed.
        node.secure_boot |= hardware.secure_boot && node.boot_mode() != BootMode::Bios;
        let mut ports = Vec::new();
        let mut events = vec![
            Event { detail: format!("as {}", node.name), ..event(caller, name, "accept") },
            Event { detail: format!("from {name}"), ..event(caller, &node.name, "create") },
        ];
        let boot = machine.boot_mac_address.parse().ok();
        // Of one whose BMC alone was seen they are not known.
        for mac in boot.map(|boot| macs(boot, &hardware)).unwrap_or_default() {
            let port = Port {
                node: node.name.clone(),
                mac_address: mac.to_string(),
                pxe_enabled: Some(mac) == boot,
                ..Port::default()
            };
            let port = port.born(Uuid::now_v7().to_string(), now)?;
            events.push(event(caller, &port.name, "create"));
            ports.push(port);
        }
        self.store.accept((name, revision), node, &extra, ports, events).await.map_err(error::store)
    }

    /// The nodes that have one of these interfaces as a port.
    pub(super) async fn owners_of(&self, macs: &[MacAddress]) -> Result<Vec<String>, Status> {
        let mut owners = Vec::new();
        for mac in macs {
            match self.store.get::<Port>(&Collection::Ports.name(&mac.hexhyp())).await {
                Ok(port) if owners.contains(&port.node) => {}
                Ok(port) => owners.push(port.node),
                Err(StoreError::NotFound { .. }) => {}
                Err(other) => return Err(error::store(other)),
            }
        }
        Ok(owners)
    }

    pub(super) async fn whose(&self, seen: &DiscoveredMachine, owners: &[String]) -> Result<Whose, Status> {
        let its = Identifiers::of(seen).keys();
        let nodes = self.store.nodes_like(owners, &its, ALIKE).await.map_err(error::store)?;
        Ok(whose(&nodes, owners, &its))
    }

    /// It is no second machine, but it boots by an interface that nobody serves.
    async fn tell_new_card(
        &self,
        caller: &Caller,
        node: &str,
        seen: &DiscoveredMachine,
        boot: MacAddress,
    ) -> Result<(), Status> {
        let (mac, short) = (&seen.boot_mac_address, node.trim_start_matches("nodes/"));
        let detail = format!(
            "its machine booted in {} from {mac}, which is no port of it, and had to go through the ramdisk first: `farrier port create \
             {mac} --node {short}`, or let its firmware boot from a port that is",
            seen.rack
        );
        self.tell_once(caller, node, NEW_CARD, detail, boot).await
    }

    /// A machine reports at each boot: it is news again when its node, or the port that it booted by, was made or deleted since.
    pub(super) async fn tell_once(
        &self,
        caller: &Caller,
        node: &str,
        action: &str,
        detail: String,
        boot: MacAddress,
    ) -> Result<(), Status> {
        let news = Event { detail, ..event(caller, node, action) };
        let about = [node.to_owned(), Collection::Ports.name(&boot.hexhyp())];
        self.store.record_news(news, &about).await.map_err(error::store)?;
        Ok(())
    }
}

impl Noun for DiscoveredMachine {
    const COLLECTION: Collection = Collection::Discovered;
    const FIELD: &'static str = "machine";
    const FILTER: &'static [&'static str] = &["rack"];
    etag!();

    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status> {
        Ok(Self { uid, create_time: Some(now), seen_time: Some(now), ..self })
    }

    fn check(&self) -> Result<(), Status> {
        Ok(())
    }

    fn term(term: Term) -> Result<Term, Status> {
        Ok(Term { value: Collection::Racks.whole(term.value), ..term })
    }
}

/// What is not said is as proposed.
fn fill(node: &mut Node, proposal: ProposedNode) {
    for (field, proposed) in
        [(&mut node.name, proposal.node), (&mut node.resource_class, proposal.resource_class)]
    {
        if field.is_empty() {
            *field = proposed;
        }
    }
    if node.rack_unit == 0 {
        node.rack_unit = proposal.rack_unit;
    }
    match (&mut node.bmc, proposal.bmc) {
        (None, proposed) => {
            node.bmc = proposed.filter(|bmc| !bmc::has_bmc(bmc) || !bmc.address.is_empty());
        }
        // An address alone is where the proposed BMC is.
        (Some(said), Some(proposed))
            if said == &(Bmc { address: said.address.clone(), ..Bmc::default() }) =>
        {
            *said = Bmc { address: std::mem::take(&mut said.address), ..proposed };
        }
        _ => {}
    }
}

/// What the rack saw of its BMC, where nobody says something else. The certificate has been shown to whoever accepts it.
fn fill_seen(node: &mut Node, machine: &DiscoveredMachine) {
    let Some(seen) = &machine.bmc else { return };
    let bmc = node.bmc.get_or_insert_default();
    if bmc.driver.is_empty() {
        bmc.driver.clone_from(&seen.driver);
    }
    if bmc::has_bmc(bmc) && bmc.address.is_empty() {
        bmc.address.clone_from(&machine.bmc_address);
    }
    let proven = !bmc.certificate_sha256.is_empty() || !bmc.ca_pem.is_empty() || bmc.scheme == "http";
    if bmc.address == machine.bmc_address && bmc.driver != "ipmi" && bmc::has_bmc(bmc) && !proven {
        bmc.certificate_sha256.clone_from(&seen.certificate_sha256);
    }
}

/// A row of a BMC whose machine has not booted here.
pub(super) fn is_bmc_alone(machine: &DiscoveredMachine) -> bool {
    machine.boot_mac_address.is_empty()
}

/// Its interfaces, each once, the one it booted from first. What is no Ethernet address is passed over.
pub(super) fn macs(boot: MacAddress, hardware: &Hardware) -> Vec<MacAddress> {
    let mut macs = vec![boot];
    for mac in hardware.nics.iter().filter_map(|nic| nic.mac_address.parse().ok()) {
        if !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    macs
}

/// A stranger's machine says what it likes.
fn check_hardware(hardware: &Hardware) -> Result<(), Status> {
    // All of it in the end: rows are read by the page.
    if hardware.encoded_len() > WHOLE {
        return Err(invalid("hardware", format!("expected at most {WHOLE} bytes of it")));
    }
    if hardware.nics.len() > PARTS || hardware.disks.len() > PARTS {
        return Err(invalid("hardware", format!("expected at most {PARTS} interfaces and {PARTS} disks")));
    }
    let system =
        hardware.system.iter().flat_map(|s| [&s.manufacturer, &s.product, &s.serial_number, &s.uuid]);
    let cpu = hardware.cpu.iter().flat_map(|c| [&c.architecture, &c.model]);
    let disks = hardware.disks.iter().flat_map(|d| [&d.name, &d.serial_number, &d.wwn, &d.model, &d.by_path]);
    let nics = hardware.nics.iter().flat_map(|n| [&n.name, &n.mac_address, &n.driver]);
    let neighbours = || hardware.nics.iter().filter_map(|nic| nic.neighbour.as_ref());
    if neighbours().any(|n| n.management_addresses.len() > ADDRESSES) {
        return Err(invalid("hardware", format!("expected at most {ADDRESSES} addresses of a neighbour")));
    }
    let neighbours = neighbours().flat_map(|n| {
        let said = [&n.chassis_id, &n.port_id, &n.port_description, &n.system_name, &n.system_description];
        said.into_iter().chain(&n.management_addresses)
    });
    let bmc = hardware.own_bmc.iter();
    let bmc = bmc.flat_map(|b| [&b.mac_address, &b.ip_address, &b.redfish_host_interface]);
    system
        .chain(cpu)
        .chain(disks)
        .chain(nics)
        .chain(neighbours)
        .chain(bmc)
        .chain([&hardware.kernel_release])
        .try_for_each(|text| check::text("hardware", text))
}

fn describe(machine: &DiscoveredMachine) -> String {
    let system = machine.hardware.as_ref().and_then(|h| h.system.clone()).unwrap_or_default();
    let words = [system.manufacturer, system.product, system.serial_number];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    format!("in {}, booted from {}: {}", machine.rack, machine.boot_mac_address, words.join(" "))
}

pub(super) fn mac(field: &str, text: &str) -> Result<MacAddress, Status> {
    text.parse().map_err(|e| invalid(field, e))
}

/// Of a node: its machine booted by an interface that is none of its ports.
const NEW_CARD: &str = "new interface";
/// Of a node: its machine asks in a rack that is not its own.
const OTHER_RACK: &str = "asks in another rack";
/// Of a node: a machine says in part that it is this one, in part that it is not.
const CONFLICT: &str = "identifiers conflict";
/// Interfaces, or disks, of one machine.
const PARTS: usize = 256;
/// At which one switch is managed.
const ADDRESSES: usize = 16;
/// All that one machine says, in bytes: one with a hundred disks says a tenth of it.
const WHOLE: usize = 64 << 10;
/// Addresses of others that a rack tells beside a machine.
const GIVEN: usize = 1024;
/// Rows that one report may be about; they are one machine, seen by parts.
pub(super) const ALIKE: u64 = 64;
/// Characters kept of why it was not accepted.
const WHY: usize = 1024;
/// Tries of a write that meets another one.
pub(super) const TRIES: usize = 16;
