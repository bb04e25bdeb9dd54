//! Where a machine stands by the switch port that it is cabled to: pure.

use farrier_proto::inventory::{CabledPosition, DiscoveredMachine};
use farrier_proto::types::Nic;

use super::node::RACK_UNITS;
use super::pattern::{glob, same_mac, serial};

/// Where a machine stands by one of its cables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Empty: wherever it was seen.
    pub(super) rack: String,
    pub(super) unit: i32,
    /// Switch and port.
    pub(super) cable: String,
}

/// By the interface that it booted from, or else by the first other one whose cable the plan knows.
pub(super) fn place(positions: &[CabledPosition], machine: &DiscoveredMachine) -> Option<Place> {
    let nics = || machine.hardware.iter().flat_map(|hardware| &hardware.nics);
    let booted = |nic: &&Nic| same_mac(&nic.mac_address, &machine.boot_mac_address);
    let cables = nics().filter(booted).chain(nics().filter(|nic| !booted(nic)));
    cables.filter_map(|nic| nic.neighbour.as_ref()).find_map(|seen| {
        positions.iter().find_map(|position| {
            let switch = glob(&serial(&position.switch_name), &serial(&seen.system_name));
            let unit = unit(position, &seen.port_id).filter(|_| switch && !seen.system_name.is_empty())?;
            let cable = format!("{} {}", seen.system_name, seen.port_id);
            Some(Place { rack: position.rack.clone(), unit, cable })
        })
    })
}

/// The rack unit that a port stands for; `None`: it is another port.
fn unit(position: &CabledPosition, port: &str) -> Option<i32> {
    let (pattern, port) = (serial(&position.port), serial(port));
    let Some((before, after)) = pattern.split_once(UNIT) else {
        return (pattern == port).then_some(position.rack_unit);
    };
    let digits = port.strip_prefix(before)?.strip_suffix(after)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|unit| plain && (1..=RACK_UNITS).contains(unit))
}

/// Where the rack unit stands in the name of a port.
pub(super) const UNIT: &str = "{unit}";
