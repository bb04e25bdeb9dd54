//! What becomes of discovered machines: kept sealed, since it has the passwords on the labels of new servers.

use super::cabled::UNIT;
use super::node::RACK_UNITS;
use super::pattern::{mac_digits, serial, subnet};
use super::proposal::{Matcher, PLACEHOLDERS, unknown_placeholder};
use super::resource::event;
use super::{App, bmc, check, error};
use farrier_inventory_store::StoreError;
use farrier_model::{Collection, MacAddress, is_label};
use farrier_proto::inventory::{
    CabledPosition, DiscoveredMachine, DiscoveryPlan, DiscoveryRule, Event, ExpectedMachine, Rack,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, invalid, stale_etag};
use farrier_runtime::time;
use prost::Message as _;
use std::collections::{BTreeSet, HashMap, HashSet};
use tonic::Status;

impl App {
    /// With its passwords: never for a caller.
    pub(super) async fn plan(&self) -> Result<(i64, DiscoveryPlan), Status> {
        let (revision, sealed) = self.store.discovery_plan().await.map_err(error::store)?;
        if revision == 0 {
            return Ok((0, DiscoveryPlan::default()));
        }
        let open = self.vault.open(PLAN, &sealed).map_err(internal)?;
        Ok((revision, DiscoveryPlan::decode(open.as_slice()).map_err(internal)?))
    }

    pub(crate) async fn shown_plan(&self) -> Result<DiscoveryPlan, Status> {
        let (revision, plan) = self.plan().await?;
        self.with_unknown_racks(shown(plan, revision)).await
    }

    pub(crate) async fn replace_plan(
        &self,
        caller: &Caller,
        plan: Option<DiscoveryPlan>,
    ) -> Result<DiscoveryPlan, Status> {
        let mut plan = plan.ok_or_else(|| invalid("plan", "expected the whole of it"))?;
        check_plan(&plan)?;
        let (revision, before) = self.plan().await?;
        let etag = etag(revision);
        if !plan.etag.is_empty() && plan.etag != etag {
            return Err(stale_etag(PLAN, Some((&plan.etag, &etag))));
        }
        keep_passwords(&mut plan, &before);
        plan.update_time = Some(time::now());
        plan.etag = String::new();
        plan.unknown_racks.clear();
        let sealed = self.vault.seal(PLAN, &plan.encode_to_vec()).map_err(internal)?;
        let (rules, machines) = (plan.rules.len(), plan.machines.len());
        let detail = format!("{rules} rules, {machines} expected machines");
        let happened = Event { detail, ..event(caller, PLAN, "update") };
        let revision =
            self.store.write_discovery_plan(revision, sealed, happened).await.map_err(error::store)?;
        self.with_unknown_racks(shown(plan, revision)).await
    }

    /// A list may come before its racks do, so this is no error; and nobody would find a misspelt one among what waits.
    async fn with_unknown_racks(&self, mut plan: DiscoveryPlan) -> Result<DiscoveryPlan, Status> {
        let machines = plan.machines.iter().map(|machine| &machine.rack);
        let named = machines.chain(plan.positions.iter().map(|position| &position.rack));
        let named: BTreeSet<_> = named.filter(|rack| !rack.is_empty()).cloned().collect();
        plan.unknown_racks.clear();
        for rack in named {
            match self.store.get::<Rack>(&rack).await {
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => plan.unknown_racks.push(rack),
                Err(other) => return Err(error::store(other)),
            }
        }
        Ok(plan)
    }

    /// Says of each what the plan would make of it.
    pub(crate) async fn add_proposals(&self, machines: &mut [DiscoveredMachine]) -> Result<(), Status> {
        let (_, plan) = self.plan().await?;
        let matcher = Matcher::new(&plan);
        for machine in machines {
            machine.proposal = matcher.propose(machine).map(|mut proposal| {
                proposal.bmc.iter_mut().for_each(hide);
                proposal
            });
        }
        Ok(())
    }
}

/// As callers see it.
fn shown(mut plan: DiscoveryPlan, revision: i64) -> DiscoveryPlan {
    plan.rules.iter_mut().filter_map(|rule| rule.bmc.as_mut()).for_each(hide);
    for machine in &mut plan.machines {
        machine.bmc_password_set = !std::mem::take(&mut machine.bmc_password).is_empty();
    }
    plan.etag = etag(revision);
    plan
}

fn hide(bmc: &mut farrier_proto::inventory::Bmc) {
    bmc.password_set = !std::mem::take(&mut bmc.password).is_empty();
    bmc.kg_set = !std::mem::take(&mut bmc.kg).is_empty();
}

fn etag(revision: i64) -> String {
    if revision == 0 { String::new() } else { revision.to_string() }
}

fn keep_passwords(plan: &mut DiscoveryPlan, before: &DiscoveryPlan) {
    for rule in &mut plan.rules {
        let old = before.rules.iter().find(|old| old.name == rule.name).and_then(|old| old.bmc.as_ref());
        if let (Some(bmc), Some(old)) = (rule.bmc.as_mut(), old) {
            for (new, old) in [(&mut bmc.password, &old.password), (&mut bmc.kg, &old.kg)] {
                if new.is_empty() {
                    new.clone_from(old);
                }
            }
        }
    }
    // By serial number first, then by the address that it boots from, then by its BMC.
    let number = |machine: &ExpectedMachine| Some(serial(&machine.serial_number)).filter(|s| !s.is_empty());
    let mac = |machine: &ExpectedMachine| machine.mac_address.parse::<MacAddress>().ok();
    let bmc = |machine: &ExpectedMachine| machine.bmc_mac_address.parse::<MacAddress>().ok();
    let had = || before.machines.iter().filter(|machine| !machine.bmc_password.is_empty());
    let by_number: HashMap<_, _> = had().filter_map(|m| Some((number(m)?, &m.bmc_password))).collect();
    let by_mac: HashMap<_, _> = had().filter_map(|m| Some((mac(m)?, &m.bmc_password))).collect();
    let by_bmc: HashMap<_, _> = had().filter_map(|m| Some((bmc(m)?, &m.bmc_password))).collect();
    for machine in plan.machines.iter_mut().filter(|machine| machine.bmc_password.is_empty()) {
        let known = number(machine).and_then(|number| by_number.get(&number));
        let known = known.or_else(|| mac(machine).and_then(|mac| by_mac.get(&mac)));
        let known = known.or_else(|| bmc(machine).and_then(|mac| by_bmc.get(&mac)));
        if let Some(password) = known {
            machine.bmc_password.clone_from(password);
        }
    }
}

fn check_plan(plan: &DiscoveryPlan) -> Result<(), Status> {
    let many = plan.rules.len() > RULES || plan.machines.len() > MACHINES || plan.positions.len() > MACHINES;
    if many || plan.encoded_len() > WHOLE {
        let text = format!(
            "expected at most {RULES} rules, {MACHINES} machines and as many positions, {WHOLE} bytes in all"
        );
        return Err(invalid("plan", text));
    }
    let mut names = HashSet::new();
    for (number, rule) in (0..).zip(&plan.rules) {
        check_rule(&at("rules", number), rule)?;
        if !names.insert(&rule.name) {
            return Err(invalid("plan.rules.name", format!("{} is used twice", rule.name)));
        }
    }
    for (number, position) in (0..).zip(&plan.positions) {
        check_position(&at("positions", number), position)?;
    }
    let mut seen = HashSet::new();
    for (number, machine) in (0..).zip(&plan.machines) {
        check_machine(&at("machines", number), machine)?;
        let bmc = machine.bmc_mac_address.to_lowercase();
        // Blades of one BMC are told apart by what they are.
        let bmc = if machine.serial_number.is_empty() && machine.mac_address.is_empty() {
            bmc
        } else {
            String::new()
        };
        for id in [serial(&machine.serial_number), machine.mac_address.to_lowercase(), bmc] {
            if !id.is_empty() && !seen.insert(id.clone()) {
                return Err(invalid("plan.machines", format!("{id} is expected twice")));
            }
        }
    }
    Ok(())
}

/// Where in the plan an error is. Of a machine its number and nothing that stands there: columns may have moved, and one of
/// them has passwords.
fn at(list: &str, number: usize) -> String {
    format!("plan.{list}[{number}]")
}

fn check_rule(at: &str, rule: &DiscoveryRule) -> Result<(), Status> {
    let field = |name: &str| format!("{at}.{name}");
    if !is_label(&rule.name) {
        let text = format!("expected 1 to 63 of a-z, 0-9 and '-', saw {:?}", rule.name);
        return Err(invalid(&field("name"), text));
    }
    let field = |name: &str| format!("{at}.{name} (rule {})", rule.name);
    for (name, text) in [
        ("vendor", &rule.vendor),
        ("model", &rule.model),
        ("serial_number", &rule.serial_number),
        ("node_name", &rule.node_name),
    ] {
        check::text(&field(name), text)?;
    }
    if let Some(unknown) = unknown_placeholder(&rule.node_name) {
        let known = PLACEHOLDERS.join(", ");
        return Err(invalid(&field("node_name"), format!("expected any of {known}, saw {unknown:?}")));
    }
    check::word(&field("resource_class"), &rule.resource_class)?;
    if mac_digits(&rule.mac_prefix).is_none() {
        let text =
            format!("expected the beginning of a MAC address, such as 52:54:00, saw {:?}", rule.mac_prefix);
        return Err(invalid(&field("mac_prefix"), text));
    }
    if !rule.subnet.is_empty() && subnet(&rule.subnet).is_none() {
        return Err(invalid(&field("subnet"), "expected a network such as 10.90.0.0/24"));
    }
    if !rule.bmc_subnet.is_empty() && subnet(&rule.bmc_subnet).is_none() {
        return Err(invalid(&field("bmc_subnet"), "expected a network such as 10.0.9.0/24"));
    }
    let Some(bmc) = &rule.bmc else { return Ok(()) };
    let mut whole = bmc.clone();
    if whole.address.is_empty() && bmc::has_bmc(bmc) {
        whole.address = "bmc".to_owned();
    }
    bmc::check(&format!("{at}.bmc"), &whole)
}

fn check_position(at: &str, position: &CabledPosition) -> Result<(), Status> {
    let field = |name: &str| format!("{at}.{name}");
    for (name, text) in [("switch_name", &position.switch_name), ("port", &position.port)] {
        check::text(&field(name), text)?;
        if text.trim().is_empty() {
            return Err(invalid(&field(name), "expected what the switch tells (LLDP), saw nothing"));
        }
    }
    if !position.rack.is_empty() {
        check::name(&field("rack"), Collection::Racks, &position.rack)?;
    }
    let has_unit = match position.port.to_lowercase().matches(UNIT).count() {
        0 => (1..=RACK_UNITS).contains(&position.rack_unit),
        count => count == 1 && position.rack_unit == 0,
    };
    if !has_unit {
        let text = format!(
            "expected one {UNIT} in the port or a rack unit of 1 to {RACK_UNITS}, saw {:?} and {}",
            position.port, position.rack_unit
        );
        return Err(invalid(&field("rack_unit"), text));
    }
    Ok(())
}

fn check_machine(at: &str, machine: &ExpectedMachine) -> Result<(), Status> {
    let field = |name: &str| format!("{at}.{name}");
    let mac = |name: &str, text: &str| match text.parse::<MacAddress>() {
        Err(error) if !text.is_empty() => Err(invalid(&field(name), error)),
        _ => Ok(()),
    };
    let ids = [&machine.serial_number, &machine.mac_address, &machine.bmc_mac_address];
    if ids.into_iter().all(String::is_empty) {
        return Err(invalid(at, "expected a serial number or a MAC address of each, its BMC's too"));
    }
    check::text(&field("serial_number"), &machine.serial_number)?;
    mac("mac_address", &machine.mac_address)?;
    mac("bmc_mac_address", &machine.bmc_mac_address)?;
    if !machine.bmc_address.is_empty() {
        check::host_port(&field("bmc_address"), &machine.bmc_address)?;
    }
    if machine.bmc_user.len() > LOGIN || machine.bmc_password.len() > LOGIN {
        return Err(invalid(at, format!("expected a user and a password of at most {LOGIN} bytes")));
    }
    if !machine.rack.is_empty() {
        check::name(&field("rack"), Collection::Racks, &machine.rack)?;
    }
    if !machine.node.is_empty() {
        check::name(&field("node"), Collection::Nodes, &machine.node)?;
    }
    if !(0..=100).contains(&machine.rack_unit) {
        return Err(invalid(&field("rack_unit"), "expected 0 (unknown) to 100"));
    }
    Ok(())
}

/// Also what it is sealed for.
pub(crate) const PLAN: &str = "discoveryPlan";
const RULES: usize = 256;
const MACHINES: usize = 4096;
const WHOLE: usize = 2 << 20;
const LOGIN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::Bmc;

    fn rule(name: &str) -> DiscoveryRule {
        DiscoveryRule { name: name.into(), node_name: "{rack}-{serial}".into(), ..DiscoveryRule::default() }
    }

    #[test]
    fn what_is_refused_is_named_by_its_place_and_no_password_with_it() {
        let expected = || ExpectedMachine {
            serial_number: "A1".into(),
            bmc_password: "p48".into(),
            ..Default::default()
        };
        let position =
            || CabledPosition { switch_name: "leaf".into(), port: "e{unit}".into(), ..Default::default() };
        let good = DiscoveryPlan {
            rules: vec![rule("dell"), rule("hpe")],
            machines: vec![expected(), ExpectedMachine { serial_number: "A2".into(), ..expected() }],
            positions: vec![position()],
            ..DiscoveryPlan::default()
        };
        assert!(check_plan(&good).is_ok());
        type Harm = fn(&mut DiscoveryPlan);
        let harms: [(Harm, &str); 6] = [
            (
                |plan| plan.rules[1].subnet = "10.0.0.0".into(),
                "plan.rules[1].subnet (rule hpe): expected a network",
            ),
            (
                |plan| plan.rules[1].node_name = "{rack}-{serail}".into(),
                "plan.rules[1].node_name (rule hpe): expected any of {serial}, {vendor}, {model}, {mac}, {rack}, {unit}, \
                 saw \"{serail}\"",
            ),
            (
                |plan| plan.rules[0].bmc = Some(Bmc { driver: "impi".into(), ..Bmc::default() }),
                "plan.rules[0].bmc.driver: expected one of",
            ),
            (|plan| plan.rules[1].name = "dell".into(), "plan.rules.name: dell is used twice"),
            (|plan| plan.machines[1].rack = "r1".into(), "plan.machines[1].rack: "),
            (|plan| plan.positions[0].rack_unit = 7, "plan.positions[0].rack_unit: expected one {unit}"),
        ];
        for (harm, why) in harms {
            let mut plan = good.clone();
            harm(&mut plan);
            let error = check_plan(&plan).unwrap_err();
            assert!(error.message().starts_with(why) && !error.message().contains("p48"), "{error}");
        }
    }

    #[test]
    fn a_brace_that_is_not_closed_is_no_placeholder() {
        for (template, unknown) in [
            ("n-{unit}-{serial}", None),
            ("plain", None),
            ("n-{unit", Some("{unit")),
            ("{rack}{x}", Some("{x}")),
            ("{{rack}}", Some("{{rack}")),
        ] {
            assert_eq!(unknown_placeholder(template), unknown);
        }
    }
}
