//! Nodes, their BMC (never its password) and what inspection found.

use super::table::Tone;
use super::value::{age, cell, labels, labels_cell, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use crate::names::short;
use farrier_proto::inventory::{
    Bmc, BmcHealth, MachineHealth, MachineIdentity, Node, Observation, PowerPolicy,
};
use farrier_proto::types::{
    BootInterface, BootMode, Hardware, Neighbour, PowerState, ProvisionState, RootDeviceHints,
};
use serde_json::{Value, json};

impl Resource for Node {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |n, _| short(&n.name).to_owned()),
            column("RACK", |n, _| short(&n.rack).to_owned()),
            column("STATE", |n, _| state(n)),
            column("SINCE", |n, now| age(&n.state_time, now)),
            column("POWER", |n, _| power(n)),
            column("MAINT", |n, _| if n.maintenance { "yes".to_owned() } else { String::new() }),
            column("INSTANCE", |n, _| short(&n.instance).to_owned()),
            wide("UNIT", |n, _| if n.rack_unit == 0 { String::new() } else { n.rack_unit.to_string() }),
            wide("ARCH", |n, _| n.architecture.clone()),
            wide("CLASS", |n, _| n.resource_class.clone()),
            wide("BMC", |n, _| {
                n.bmc.as_ref().map(|b| format!("{}:{}", b.driver, b.address)).unwrap_or_default()
            }),
            wide("SEEN", |n, now| {
                n.observation.as_ref().map(|o| age(&o.power_time, now)).unwrap_or_default()
            }),
            wide("HEALTH", |n, _| {
                n.observation.as_ref().map(|o| cell(&machine_health(o))).unwrap_or_default()
            }),
            wide("BMC HEALTH", |n, _| n.observation.as_ref().map(|o| cell(&health(o))).unwrap_or_default()),
            wide("OWNER", |n, _| n.owner.clone()),
            wide("LABELS", |n, _| labels_cell(&n.labels)),
            wide("OPERATION", |n, _| short(&n.operation).to_owned()),
            wide("LAST ERROR", |n, _| n.last_error.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &[
        "name",
        "rack",
        "state",
        "state_time",
        "power_state",
        "observation",
        "maintenance",
        "maintenance_reason",
        "instance",
        "operation",
        "last_error",
    ];

    fn tone(&self) -> Tone {
        let state = state(self);
        if state.ends_with(" failed")
            || self.observation.as_ref().is_some_and(|seen| is_in_trouble(seen.bmc_health()))
        {
            Tone::Bad
        } else if state.ends_with("ing") || self.maintenance {
            Tone::Busy
        } else if matches!(state.as_str(), "active" | "available") {
            Tone::Good
        } else {
            Tone::Plain
        }
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "rack": self.rack,
            "rack_unit": self.rack_unit,
            "description": self.description,
            "bmc": self.bmc.as_ref().map(bmc),
            "boot_mode": enum_word!(BootMode, "BOOT_MODE", self.boot_mode),
            "boot_interface": enum_word!(BootInterface, "BOOT_INTERFACE", self.boot_interface),
            "secure_boot": self.secure_boot,
            "power_policy": enum_word!(PowerPolicy, "POWER_POLICY", self.power_policy),
            "architecture": self.architecture,
            "resource_class": self.resource_class,
            "traits": self.traits,
            "labels": labels(&self.labels),
            "owner": self.owner,
            "root_device": self.root_device.as_ref().map(root_device),
            "maintenance": self.maintenance,
            "maintenance_reason": self.maintenance_reason,
            "state": enum_word!(ProvisionState, "PROVISION_STATE", self.state),
            "state_time": time(&self.state_time),
            "power_state": enum_word!(PowerState, "POWER_STATE", self.power_state),
            "observation": self.observation.as_ref().map(observation),
            "hardware": self.hardware.as_ref().map(hardware),
            "inspect_time": time(&self.inspect_time),
            "instance": self.instance,
            "operation": self.operation,
            "last_error": self.last_error,
            "fence": self.fence,
            "etag": self.etag,
            "create_time": time(&self.create_time),
            "update_time": time(&self.update_time),
        })
    }
}

/// The provision state in words.
pub(super) fn state(node: &Node) -> String {
    cell(&enum_word!(ProvisionState, "PROVISION_STATE", node.state))
}

/// As it is seen, and as Farrier left it where that is something else; with a mark where nobody can tell now.
fn power(node: &Node) -> String {
    let mut left = cell(&enum_word!(PowerState, "POWER_STATE", node.power_state));
    let Some(seen) = &node.observation else { return left };
    // While its work goes on what the node itself says is of before; of work that is over nothing is known until the next look.
    let (by_work, at_rest) = (&seen.power_differs_operation, seen.power_differs_operation.is_empty());
    if !at_rest && *by_work == node.operation {
        left = cell(&enum_word!(PowerState, "POWER_STATE", seen.power_left));
    }
    let power = if seen.power_differs && (at_rest || *by_work == node.operation) {
        format!("{} (left {left})", cell(&enum_word!(PowerState, "POWER_STATE", seen.power_state)))
    } else {
        left
    };
    match seen.bmc_health() {
        health if !is_in_trouble(health) => power,
        _ => format!("{power}, BMC {}", cell(&health(seen))).trim_start_matches(", ").to_owned(),
    }
}

fn is_in_trouble(health: BmcHealth) -> bool {
    matches!(health, BmcHealth::Unreachable | BmcHealth::Failing)
}

fn health(seen: &Observation) -> Value {
    enum_word!(BmcHealth, "BMC_HEALTH", seen.bmc_health)
}

/// What the node's rack sees.
fn observation(seen: &Observation) -> Value {
    json!({
        "power_state": enum_word!(PowerState, "POWER_STATE", seen.power_state),
        "power_time": time(&seen.power_time),
        "power_differs": seen.power_differs,
        "power_differs_operation": seen.power_differs_operation,
        "power_left": enum_word!(PowerState, "POWER_STATE", seen.power_left),
        "bmc_health": health(seen),
        "bmc_time": time(&seen.bmc_time),
        "bmc_problem": seen.bmc_problem,
        "bmc_changes": seen.bmc_changes,
        "bmc_changes_since": time(&seen.bmc_changes_since),
        "bmc_change_time": time(&seen.bmc_change_time),
        "bmc_flapping": seen.bmc_flapping,
        "driver": seen.driver,
        "passed_over": seen.passed_over,
        "machine_health": machine_health(seen),
        "machine_problem": seen.machine_problem,
        "machine": seen.machine.as_ref().map(machine),
        "other_machine": seen.other_machine.as_ref().map(machine),
    })
}

fn machine_health(seen: &Observation) -> Value {
    enum_word!(MachineHealth, "MACHINE_HEALTH", seen.machine_health)
}

fn machine(machine: &MachineIdentity) -> Value {
    json!({
        "uuid": machine.uuid,
        "serial_number": machine.serial_number,
        "driver": machine.driver,
        "address": machine.address,
    })
}

fn bmc(bmc: &Bmc) -> Value {
    // The password is left out even where a server of another mind would send it.
    json!({
        "driver": bmc.driver,
        "address": bmc.address,
        "user": bmc.user,
        "password_set": bmc.password_set,
        "kg_set": bmc.kg_set,
        "default_password": bmc.default_password,
        "rotation_pending": bmc.rotation_pending,
        "rotation_time": time(&bmc.rotation_time),
        "next_user": bmc.next_user,
        "cipher_suite": bmc.cipher_suite,
        "scheme": bmc.scheme,
        "certificate_sha256": bmc.certificate_sha256,
        "ssh_host_key_sha256": bmc.ssh_host_key_sha256,
        "ca_pem": bmc.ca_pem,
        "system": bmc.system,
    })
}

fn root_device(hints: &RootDeviceHints) -> Value {
    json!({
        "name": hints.name,
        "serial_number": hints.serial_number,
        "wwn": hints.wwn,
        "model": hints.model,
        "min_size_bytes": hints.min_size_bytes,
        "rotational": hints.rotational,
        "by_path": hints.by_path,
    })
}

/// What a machine is made of.
pub(super) fn hardware(found: &Hardware) -> Value {
    let disks = found.disks.iter().map(|disk| {
        json!({
            "name": disk.name,
            "size_bytes": disk.size_bytes,
            "serial_number": disk.serial_number,
            "wwn": disk.wwn,
            "model": disk.model,
            "rotational": disk.rotational,
            "logical_block_bytes": disk.logical_block_bytes,
            "by_path": disk.by_path,
        })
    });
    let nics = found.nics.iter().map(|nic| {
        json!({
            "name": nic.name,
            "mac_address": nic.mac_address,
            "link_up": nic.link_up,
            "speed_mbps": nic.speed_mbps,
            "driver": nic.driver,
            "neighbour": nic.neighbour.as_ref().map(neighbour),
        })
    });
    json!({
        "system": found.system.as_ref().map(|system| json!({
            "manufacturer": system.manufacturer,
            "product": system.product,
            "serial_number": system.serial_number,
            "uuid": system.uuid,
        })),
        "cpu": found.cpu.as_ref().map(|cpu| json!({
            "architecture": cpu.architecture,
            "model": cpu.model,
            "socket_count": cpu.socket_count,
            "core_count": cpu.core_count,
            "thread_count": cpu.thread_count,
        })),
        "memory_bytes": found.memory_bytes,
        "disks": disks.collect::<Vec<_>>(),
        "nics": nics.collect::<Vec<_>>(),
        "boot_mode": enum_word!(BootMode, "BOOT_MODE", found.boot_mode),
        "secure_boot": found.secure_boot,
        "kernel_release": found.kernel_release,
        "own_bmc": found.own_bmc.as_ref().map(|bmc| json!({
            "mac_address": bmc.mac_address,
            "ip_address": bmc.ip_address,
            "vlan": bmc.vlan,
            "redfish_host_interface": bmc.redfish_host_interface,
        })),
    })
}

/// Of a network interface: the switch and the port that its cable comes from.
fn neighbour(seen: &Neighbour) -> Value {
    json!({
        "chassis_id": seen.chassis_id,
        "port_id": seen.port_id,
        "port_description": seen.port_description,
        "system_name": seen.system_name,
        "system_description": seen.system_description,
        "management_addresses": seen.management_addresses,
        "vlan": seen.vlan,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_bmc_is_in_trouble_is_marked_where_its_power_stands() {
        let mut node = Node::default();
        node.set_power_state(PowerState::On);
        assert_eq!((power(&node).as_str(), node.tone()), ("on", Tone::Plain));
        for (health, shown) in [
            (BmcHealth::Unspecified, "on"),
            (BmcHealth::Ok, "on"),
            (BmcHealth::Unreachable, "on, BMC unreachable"),
            (BmcHealth::Failing, "on, BMC failing"),
        ] {
            node.observation = Some(Observation { bmc_health: health.into(), ..Observation::default() });
            assert_eq!((power(&node).as_str(), node.tone() == Tone::Bad), (shown, is_in_trouble(health)));
        }
        node.set_power_state(PowerState::Unspecified);
        assert_eq!(power(&node), "BMC failing");
    }
}
