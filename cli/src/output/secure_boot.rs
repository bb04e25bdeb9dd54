//! UEFI Secure Boot of a machine.

use super::{Column, Resource, column};
use farrier_proto::rack::BmcSecureBoot;
use serde_json::{Value, json};

impl Resource for BmcSecureBoot {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("ENABLED", |s, _| s.enabled.to_string()),
            column("CURRENT", |s, _| s.current.map_or_else(String::new, |on| on.to_string())),
            column("MODE", |s, _| s.mode.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["enabled", "current", "mode", "driver"];

    fn value(&self) -> Value {
        json!({ "enabled": self.enabled, "current": self.current, "mode": self.mode, "driver": self.driver })
    }
}
