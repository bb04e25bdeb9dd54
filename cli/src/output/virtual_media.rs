//! A machine's virtual CD drive.

use super::{Column, Resource, column};
use farrier_proto::rack::BmcVirtualMedia;
use serde_json::{Value, json};

impl Resource for BmcVirtualMedia {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("INSERTED", |m, _| m.inserted.to_string()),
            column("IMAGE", |m, _| m.image_url.clone()),
            // Of a drive that is looked at nobody says it.
            column("BOOTS ONCE", |m, _| if m.boots_once { "true" } else { "-" }.to_owned()),
        ]
    }

    const FIRST: &'static [&'static str] = &["inserted", "image_url", "boots_once", "driver"];

    fn value(&self) -> Value {
        json!({
            "inserted": self.inserted,
            "image_url": self.image_url,
            "boots_once": self.boots_once,
            "driver": self.driver,
        })
    }
}
