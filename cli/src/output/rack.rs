//! Racks, as inventory has them.

use super::value::{age, labels, labels_cell, time};
use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_proto::inventory::Rack;
use serde_json::{Value, json};

impl Resource for Rack {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |r, _| short(&r.name).to_owned()),
            column("SITE", |r, _| short(&r.site).to_owned()),
            column("ADDRESS", |r, _| r.address.clone()),
            column("DESCRIPTION", |r, _| r.description.clone()),
            wide("LABELS", |r, _| labels_cell(&r.labels)),
            wide("AGE", |r, now| age(&r.create_time, now)),
            wide("UID", |r, _| r.uid.clone()),
            wide("ETAG", |r, _| r.etag.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "site", "address"];

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "description": self.description,
            "site": self.site,
            "address": self.address,
            "labels": labels(&self.labels),
            "etag": self.etag,
            "create_time": time(&self.create_time),
            "update_time": time(&self.update_time),
        })
    }
}
