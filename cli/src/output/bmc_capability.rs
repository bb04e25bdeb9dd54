//! What can be asked of a BMC.

use super::{Column, Resource, column};
use farrier_proto::rack::BmcCapability;
use serde_json::{Value, json};

impl Resource for BmcCapability {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |c, _| c.name.clone()),
            column("DRIVER", |c, _| c.driver.clone()),
            column("REASON", |c, _| c.reason.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "driver", "reason"];

    fn value(&self) -> Value {
        json!({ "name": self.name, "driver": self.driver, "reason": self.reason })
    }
}
