//! Ports.

use super::value::{age, time};
use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_proto::inventory::Port;
use serde_json::{Value, json};

impl Resource for Port {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("MAC", |p, _| p.mac_address.clone()),
            column("NODE", |p, _| short(&p.node).to_owned()),
            column("PXE", |p, _| if p.pxe_enabled { "yes" } else { "no" }.to_owned()),
            column("SWITCH", |p, _| p.switch_name.clone()),
            column("SWITCH PORT", |p, _| p.switch_port.clone()),
            wide("NAME", |p, _| p.name.clone()),
            wide("AGE", |p, now| age(&p.create_time, now)),
            wide("UID", |p, _| p.uid.clone()),
            wide("ETAG", |p, _| p.etag.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "mac_address", "node"];

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "node": self.node,
            "mac_address": self.mac_address,
            "pxe_enabled": self.pxe_enabled,
            "switch_name": self.switch_name,
            "switch_port": self.switch_port,
            "etag": self.etag,
            "create_time": time(&self.create_time),
        })
    }
}
