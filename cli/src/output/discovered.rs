//! Machines that are no nodes yet.

use super::node::hardware;
use super::value::{age, time};
use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_model::size::human;
use farrier_proto::inventory::DiscoveredMachine;
use farrier_proto::types::System;
use serde_json::{Value, json};

impl Resource for DiscoveredMachine {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |m, _| short(&m.name).to_owned()),
            column("RACK", |m, _| short(&m.rack).to_owned()),
            column("VENDOR", |m, _| system(m).manufacturer),
            column("MODEL", |m, _| system(m).product),
            column("SERIAL", |m, _| system(m).serial_number),
            column("MEMORY", |m, _| human(m.hardware.as_ref().map_or(0, |h| h.memory_bytes))),
            column("SEEN", |m, now| age(&m.seen_time, now)),
            wide("BOOTED FROM", |m, _| m.boot_mac_address.clone()),
            wide("BOOTS", |m, _| m.boot_count.to_string()),
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
            "boot_count": self.boot_count,
            "create_time": time(&self.create_time),
            "seen_time": time(&self.seen_time),
            "etag": self.etag,
        })
    }
}

fn system(machine: &DiscoveredMachine) -> System {
    machine.hardware.as_ref().and_then(|hardware| hardware.system.clone()).unwrap_or_default()
}
