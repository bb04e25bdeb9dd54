//! What concerns a node's BMC more than the node: its network, its watchdog timer.

use super::{Column, Resource, column};
use farrier_proto::rack::{BmcNetworkInterface, BmcWatchdog};
use serde_json::{Value, json};

impl Resource for BmcNetworkInterface {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |i, _| i.name.clone()),
            column("MAC", |i, _| i.mac_address.clone()),
            column("ADDRESS", |i, _| i.address.clone()),
            column("SUBNET MASK", |i, _| i.subnet_mask.clone()),
            column("GATEWAY", |i, _| i.gateway.clone()),
            column("SOURCE", |i, _| i.source.clone()),
            column("VLAN", |i, _| i.vlan_id.map(|id| id.to_string()).unwrap_or_default()),
        ]
    }

    const FIRST: &'static [&'static str] =
        &["name", "mac_address", "address", "subnet_mask", "gateway", "source", "vlan_id", "ipv6_addresses"];

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "mac_address": self.mac_address,
            "address": self.address,
            "subnet_mask": self.subnet_mask,
            "gateway": self.gateway,
            "source": self.source,
            "vlan_id": self.vlan_id,
            "ipv6_addresses": self.ipv6_addresses,
        })
    }
}

impl Resource for BmcWatchdog {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("RUNNING", |w, _| w.running.to_string()),
            column("USE", |w, _| w.timer_use.clone()),
            column("ACTION", |w, _| w.action.clone()),
            column("LEFT", |w, _| format!("{} ms", w.left_milliseconds)),
            column("EXPIRED", |w, _| w.expired.join(", ")),
        ]
    }

    const FIRST: &'static [&'static str] =
        &["running", "timer_use", "action", "initial_milliseconds", "left_milliseconds", "expired", "driver"];

    fn value(&self) -> Value {
        json!({
            "running": self.running,
            "timer_use": self.timer_use,
            "action": self.action,
            "initial_milliseconds": self.initial_milliseconds,
            "left_milliseconds": self.left_milliseconds,
            "expired": self.expired,
            "driver": self.driver,
        })
    }
}
