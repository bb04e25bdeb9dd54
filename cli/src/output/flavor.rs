//! Flavors.

use super::value::{age, labels, labels_cell, time};
use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_model::size::human;
use farrier_proto::inventory::Flavor;
use serde_json::{Value, json};

impl Resource for Flavor {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |f, _| short(&f.name).to_owned()),
            column("ARCH", |f, _| f.architecture.clone()),
            column("CPUS", |f, _| f.cpu_count.to_string()),
            column("MEMORY", |f, _| human(f.memory_bytes)),
            column("DISK", |f, _| human(f.disk_bytes)),
            column("CLASS", |f, _| f.resource_class.clone()),
            column("DESCRIPTION", |f, _| f.description.clone()),
            wide("TRAITS", |f, _| f.traits.join(",")),
            wide("LABELS", |f, _| labels_cell(&f.labels)),
            wide("AGE", |f, now| age(&f.create_time, now)),
            wide("UID", |f, _| f.uid.clone()),
        ]
    }

    const FIRST: &'static [&'static str] =
        &["name", "description", "architecture", "cpu_count", "memory_bytes", "disk_bytes"];

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "description": self.description,
            "architecture": self.architecture,
            "cpu_count": self.cpu_count,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "resource_class": self.resource_class,
            "traits": self.traits,
            "labels": labels(&self.labels),
            "etag": self.etag,
            "create_time": time(&self.create_time),
        })
    }
}
