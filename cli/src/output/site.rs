//! Sites.

use super::value::{age, labels, labels_cell, time};
use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_proto::inventory::Site;
use serde_json::{Value, json};

impl Resource for Site {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |s, _| short(&s.name).to_owned()),
            column("DESCRIPTION", |s, _| s.description.clone()),
            column("LABELS", |s, _| labels_cell(&s.labels)),
            column("AGE", |s, now| age(&s.create_time, now)),
            wide("UID", |s, _| s.uid.clone()),
            wide("ETAG", |s, _| s.etag.clone()),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "description": self.description,
            "labels": labels(&self.labels),
            "etag": self.etag,
            "create_time": time(&self.create_time),
            "update_time": time(&self.update_time),
        })
    }
}
