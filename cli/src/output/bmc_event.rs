//! Records of a BMC's event log.

use super::value::{cell, rfc3339, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use farrier_proto::rack::{BmcEvent, BmcEventDirection};
use serde_json::{Value, json};

impl Resource for BmcEvent {
    fn columns() -> Vec<Column<Self>> {
        vec![
            wide("ID", |e, _| e.id.clone()),
            column("TIME", |e, _| e.time.as_ref().and_then(rfc3339).unwrap_or_default()),
            column("SENSOR", |e, _| e.sensor.clone()),
            column("DIRECTION", |e, _| cell(&direction(e))),
            column("MESSAGE", |e, _| e.message.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["id", "time", "sensor", "direction", "message"];

    fn value(&self) -> Value {
        json!({
            "id": self.id,
            "time": time(&self.time),
            "sensor": self.sensor,
            "direction": direction(self),
            "message": self.message,
        })
    }
}

/// Nothing where it is neither.
fn direction(event: &BmcEvent) -> Value {
    enum_word!(BmcEventDirection, "BMC_EVENT_DIRECTION", event.direction)
}
