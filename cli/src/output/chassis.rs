//! VLANs of a node's NICs, and volumes of its chassis.

use super::{Column, Resource, column};
use farrier_proto::rack::{BmcVolumes, NicVlans};
use serde_json::{Value, json};

impl Resource for NicVlans {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NIC", |n, _| n.nic.clone()),
            column("UNTAGGED", |n, _| list(&n.untagged)),
            column("TAGGED", |n, _| list(&n.tagged)),
        ]
    }

    const FIRST: &'static [&'static str] = &["nic", "untagged", "tagged"];

    fn value(&self) -> Value {
        json!({ "nic": self.nic, "untagged": self.untagged, "tagged": self.tagged })
    }
}

impl Resource for BmcVolumes {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("ROOT", |v, _| v.root.clone()),
            column("CREATED", |v, _| v.created.clone()),
            column("POOLS", |v, _| v.pools.len().to_string()),
        ]
    }

    const FIRST: &'static [&'static str] = &["root", "created", "pools", "driver"];

    fn value(&self) -> Value {
        let pool =
            |pool: &farrier_proto::rack::StoragePool| json!({ "id": pool.id, "free_gb": pool.free_gb });
        json!({
            "root": self.root,
            "created": self.created,
            "pools": self.pools.iter().map(pool).collect::<Vec<_>>(),
            "driver": self.driver,
        })
    }
}

fn list(vlans: &[i32]) -> String {
    vlans.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
