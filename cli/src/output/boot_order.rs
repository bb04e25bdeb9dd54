//! What a machine can start from, keys of Secure Boot, and profiles.

use super::{Column, Resource, column, wide};
use farrier_proto::rack::{BmcBootOption, BmcProfileImport, SecureBootDatabase};
use serde_json::{Value, json};

impl Resource for BmcBootOption {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("ID", |o, _| o.id.clone()),
            column("NAME", |o, _| o.name.clone()),
            column("ENABLED", |o, _| o.enabled.map_or_else(String::new, |yes| yes.to_string())),
            wide("DEVICE PATH", |o, _| o.device_path.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["id", "name", "enabled", "device_path"];

    fn value(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "enabled": self.enabled, "device_path": self.device_path })
    }
}

impl Resource for SecureBootDatabase {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("ID", |d, _| d.id.clone()),
            column("CERTIFICATES", |d, _| count(d.certificate_count)),
            column("SIGNATURES", |d, _| count(d.signature_count)),
        ]
    }

    const FIRST: &'static [&'static str] = &["id", "certificate_count", "signature_count"];

    fn value(&self) -> Value {
        json!({
            "id": self.id,
            "certificate_count": self.certificate_count,
            "signature_count": self.signature_count,
        })
    }
}

impl Resource for BmcProfileImport {
    fn columns() -> Vec<Column<Self>> {
        vec![column("TASK", |i, _| i.task.clone()), column("DRIVER", |i, _| i.driver.clone())]
    }

    const FIRST: &'static [&'static str] = &["task", "driver"];

    fn value(&self) -> Value {
        json!({ "task": self.task, "driver": self.driver })
    }
}

fn count(number: Option<i64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}
