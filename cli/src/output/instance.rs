//! Instances. User data is write-only and never shown.

use super::table::Tone;
use super::value::{age, cell, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use crate::names::short;
use farrier_proto::rack::ReadyGate;
use farrier_proto::scheduler::{Instance, InstanceState};
use farrier_proto::types::DeployMethod;
use serde_json::{Value, json};

impl Resource for Instance {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |i, _| short(&i.name).to_owned()),
            column("STATE", |i, _| cell(&enum_word!(InstanceState, "INSTANCE_STATE", i.state))),
            column("NODE", |i, _| short(&i.placed_node).to_owned()),
            column("FLAVOR", |i, _| short(&i.flavor).to_owned()),
            column("IMAGE", |i, _| short(&i.image).to_owned()),
            column("ADDRESSES", |i, _| i.addresses.join(",")),
            column("AGE", |i, now| age(&i.create_time, now)),
            wide("HOSTNAME", |i, _| i.hostname.clone()),
            wide("NETWORK", |i, _| i.network.clone()),
            wide("OWNER", |i, _| i.owner.clone()),
            wide("OPERATION", |i, _| short(&i.operation).to_owned()),
            wide("LAST ERROR", |i, _| i.last_error.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "state", "placed_node", "addresses", "last_error"];

    fn tone(&self) -> Tone {
        match InstanceState::try_from(self.state) {
            Ok(InstanceState::Active) => Tone::Good,
            Ok(InstanceState::Failed) => Tone::Bad,
            Ok(InstanceState::Deploying | InstanceState::Deleting) => Tone::Busy,
            _ => Tone::Plain,
        }
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "flavor": self.flavor,
            "image": self.image,
            "hostname": self.hostname,
            "ssh_keys": self.ssh_keys,
            "network": self.network,
            "method": enum_word!(DeployMethod, "DEPLOY_METHOD", self.method),
            "ready": enum_word!(ReadyGate, "READY_GATE", self.ready),
            "ready_seconds": self.ready_seconds,
            "site": self.site,
            "rack": self.rack,
            "node": self.node,
            "owner": self.owner,
            "state": enum_word!(InstanceState, "INSTANCE_STATE", self.state),
            "operation": self.operation,
            "addresses": self.addresses,
            "last_error": self.last_error,
            "placed_node": self.placed_node,
            "etag": self.etag,
            "create_time": time(&self.create_time),
            "update_time": time(&self.update_time),
        })
    }
}
