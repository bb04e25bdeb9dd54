//! Addresses that a rack's DHCP server gave, or keeps for a port.

use super::value::{cell, rfc3339, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use crate::names::short;
use farrier_proto::rack::{Lease, LeaseKind, Reservation, ReservedBoot};
use serde_json::{Value, json};

impl Resource for Lease {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NETWORK", |l, _| l.network.clone()),
            column("ADDRESS", |l, _| l.ip_address.clone()),
            column("MAC", |l, _| l.mac_address.clone()),
            column("KIND", |l, _| cell(&enum_word!(LeaseKind, "LEASE_KIND", l.kind))),
            column("NODE", |l, _| short(&l.node).to_owned()),
            column("ENDS", |l, _| l.expire_time.as_ref().and_then(rfc3339).unwrap_or_default()),
            wide("IPV6", |l, _| l.ipv6_address.clone()),
            wide("CLIENT ID", |l, _| l.client_id.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["network", "ip_address", "mac_address", "kind", "node"];

    fn value(&self) -> Value {
        json!({
            "network": self.network,
            "ip_address": self.ip_address,
            "mac_address": self.mac_address,
            "kind": enum_word!(LeaseKind, "LEASE_KIND", self.kind),
            "node": self.node,
            "ipv6_address": self.ipv6_address,
            "client_id": self.client_id,
            "expire_time": time(&self.expire_time),
        })
    }
}

impl Resource for Reservation {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NETWORK", |r, _| r.network.clone()),
            column("ADDRESS", |r, _| r.ip_address.clone()),
            column("MAC", |r, _| r.mac_address.clone()),
            column("NODE", |r, _| short(&r.node).to_owned()),
            column("BOOT", |r, _| cell(&enum_word!(ReservedBoot, "RESERVED_BOOT", r.boot))),
            wide("IPV6", |r, _| r.ipv6_address.clone()),
            wide("HOSTNAME", |r, _| r.hostname.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["network", "ip_address", "mac_address", "node", "boot"];

    fn value(&self) -> Value {
        json!({
            "network": self.network,
            "ip_address": self.ip_address,
            "mac_address": self.mac_address,
            "node": self.node,
            "hostname": self.hostname,
            "ipv6_address": self.ipv6_address,
            "boot": enum_word!(ReservedBoot, "RESERVED_BOOT", self.boot),
        })
    }
}
