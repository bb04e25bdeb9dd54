//! Machines that are no nodes yet.

use super::node::hardware;
use super::value::{age, time};
use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_model::size::human;
use farrier_proto::inventory::{Bmc, DiscoveredMachine, DiscoveryPlan, ProposedNode};
use farrier_proto::types::{OwnBmc, System};
use serde_json::{Value, json};

impl Resource for DiscoveredMachine {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |m, _| short(&m.name).to_owned()),
            column("RACK", |m, _| short(&m.rack).to_owned()),
            column("VENDOR", |m, _| match (system(m).manufacturer, &m.bmc) {
                (vendor, Some(bmc)) if vendor.is_empty() => bmc.maker.clone(),
                (vendor, _) => vendor,
            }),
            column("MODEL", |m, _| system(m).product),
            column("SERIAL", |m, _| system(m).serial_number),
            column("MEMORY", |m, _| human(m.hardware.as_ref().map_or(0, |h| h.memory_bytes))),
            column("NODE", |m, _| short(&proposed(m).node).to_owned()),
            column("SEEN", |m, now| age(&m.seen_time, now)),
            wide("BOOTED FROM", |m, _| m.boot_mac_address.clone()),
            wide("UNIT", |m, _| match proposed(m).rack_unit {
                0 => String::new(),
                unit => unit.to_string(),
            }),
            wide("BOOTS", |m, _| m.boot_count.to_string()),
            wide("WAITS FOR", |m, _| match m.refused.as_str() {
                "" => proposed(m).missing,
                refused => refused.to_owned(),
            }),
            wide("SWITCH PORT", |m, _| switch_port(m)),
            wide("BMC", |m, _| match m.bmc_address.as_str() {
                "" => own_bmc(m).map(|bmc| bmc.ip_address.clone()).unwrap_or_default(),
                address => address.to_owned(),
            }),
            wide("BMC MAC", |m, _| own_bmc(m).map(|bmc| bmc.mac_address.clone()).unwrap_or_default()),
            wide("SYSTEM UUID", |m, _| system(m).uuid),
            wide("ETAG", |m, _| m.etag.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "rack", "boot_mac_address", "hardware"];

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "rack": self.rack,
            "boot_mac_address": self.boot_mac_address,
            "hardware": self.hardware.as_ref().map(hardware),
            "ip_address": self.ip_address,
            "bmc_address": self.bmc_address,
            "bmc": self.bmc.as_ref().map(|seen| json!({
                "driver": seen.driver,
                "certificate_sha256": seen.certificate_sha256,
                "maker": seen.maker,
                "seen_time": time(&seen.seen_time),
            })),
            "proposal": self.proposal.as_ref().map(|p| json!({
                "node": p.node,
                "rule": p.rule,
                "expected": p.expected,
                "rack_unit": p.rack_unit,
                "cabled_to": p.cabled_to,
                "resource_class": p.resource_class,
                "bmc": p.bmc.as_ref().map(bmc),
                "automatic": p.automatic,
                "missing": p.missing,
            })),
            "refused": self.refused,
            "boot_count": self.boot_count,
            "create_time": time(&self.create_time),
            "seen_time": time(&self.seen_time),
            "etag": self.etag,
        })
    }
}

impl Resource for DiscoveryPlan {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("RULES", |p, _| p.rules.len().to_string()),
            column("MACHINES", |p, _| p.machines.len().to_string()),
            column("UNKNOWN RACKS", |p, _| {
                p.unknown_racks.iter().map(|rack| short(rack)).collect::<Vec<_>>().join(" ")
            }),
        ]
    }

    const FIRST: &'static [&'static str] = &["unknown_racks", "rules", "machines"];

    fn value(&self) -> Value {
        json!({
            "rules": self.rules.iter().map(|r| json!({
                "name": r.name,
                "vendor": r.vendor,
                "model": r.model,
                "serial_number": r.serial_number,
                "mac_prefix": r.mac_prefix,
                "subnet": r.subnet,
                "node_name": r.node_name,
                "resource_class": r.resource_class,
                "bmc": r.bmc.as_ref().map(bmc),
                "bmc_subnet": r.bmc_subnet,
                "automatic": r.automatic,
            })).collect::<Vec<_>>(),
            "machines": self.machines.iter().map(|m| json!({
                "serial_number": m.serial_number,
                "mac_address": m.mac_address,
                "bmc_mac_address": m.bmc_mac_address,
                "bmc_address": m.bmc_address,
                "bmc_user": m.bmc_user,
                "bmc_password_set": m.bmc_password_set,
                "default_password": m.default_password,
                "rack": m.rack,
                "rack_unit": m.rack_unit,
                "node": m.node,
            })).collect::<Vec<_>>(),
            "positions": self.positions.iter().map(|p| json!({
                "switch": p.switch_name,
                "port": p.port,
                "rack": p.rack,
                "rack_unit": p.rack_unit,
            })).collect::<Vec<_>>(),
            "unknown_racks": self.unknown_racks,
            "update_time": time(&self.update_time),
            "etag": self.etag,
        })
    }
}

/// What matters of it here; a node shows all.
fn bmc(bmc: &Bmc) -> Value {
    json!({
        "driver": bmc.driver,
        "address": bmc.address,
        "user": bmc.user,
        "password_set": bmc.password_set,
        "default_password": bmc.default_password,
        "scheme": bmc.scheme,
        "ca_pem": bmc.ca_pem,
    })
}

fn own_bmc(machine: &DiscoveredMachine) -> Option<&OwnBmc> {
    machine.hardware.as_ref()?.own_bmc.as_ref()
}

/// Where the cable of the interface goes that it booted from: where it stands, in a rack that is cabled by a plan.
fn switch_port(machine: &DiscoveredMachine) -> String {
    let nics = machine.hardware.iter().flat_map(|hardware| &hardware.nics);
    let booted = nics.filter(|nic| nic.mac_address.eq_ignore_ascii_case(&machine.boot_mac_address));
    let neighbour = booted.filter_map(|nic| nic.neighbour.as_ref()).next();
    neighbour.map_or_else(String::new, |seen| match seen.system_name.as_str() {
        "" => format!("{} {}", seen.chassis_id, seen.port_id),
        name => format!("{name} {}", seen.port_id),
    })
}

fn proposed(machine: &DiscoveredMachine) -> ProposedNode {
    machine.proposal.clone().unwrap_or_default()
}

fn system(machine: &DiscoveredMachine) -> System {
    machine.hardware.as_ref().and_then(|hardware| hardware.system.clone()).unwrap_or_default()
}
