//! Disks of diskless instances.

use super::{Column, Resource, column, wide};
use crate::names::short;
use farrier_model::size::human;
use farrier_proto::rack::Volume;
use serde_json::{Value, json};

impl Resource for Volume {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("INSTANCE", |v, _| short(&v.instance).to_owned()),
            column("NODE", |v, _| short(&v.node).to_owned()),
            column("SIZE", |v, _| human(v.size_bytes)),
            column("OWN", |v, _| human(v.own_bytes)),
            column("IMAGE", |v, _| {
                let all = human(v.image_bytes);
                if v.image_here_bytes < v.image_bytes {
                    format!("{} of {all}", human(v.image_here_bytes))
                } else {
                    all
                }
            }),
            column("SESSIONS", |v, _| v.session_count.to_string()),
            wide("TROUBLE", |v, _| v.image_trouble.clone()),
            wide("MANIFEST", |v, _| v.manifest_sha256.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["instance", "node", "size_bytes", "own_bytes"];

    fn value(&self) -> Value {
        json!({
            "instance": self.instance,
            "node": self.node,
            "size_bytes": self.size_bytes,
            "own_bytes": self.own_bytes,
            "manifest_sha256": self.manifest_sha256,
            "image_bytes": self.image_bytes,
            "image_here_bytes": self.image_here_bytes,
            "image_trouble": self.image_trouble,
            "session_count": self.session_count,
        })
    }
}
