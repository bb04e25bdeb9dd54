//! Sensors of a machine.

use super::value::cell;
use super::{Column, Resource, column};
use crate::enum_word;
use farrier_proto::rack::{BmcSensor, BmcSensorHealth};
use serde_json::{Value, json};

impl Resource for BmcSensor {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |s, _| s.name.clone()),
            column("KIND", |s, _| s.kind.clone()),
            column("VALUE", |s, _| s.value.map(|value| shown(value, &s.unit)).unwrap_or_default()),
            column("HEALTH", |s, _| cell(&health(s))),
            column("STATES", |s, _| s.states.join(", ")),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "kind", "value", "unit", "health", "states"];

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "kind": self.kind,
            "value": self.value,
            "unit": self.unit,
            "health": health(self),
            "states": self.states,
        })
    }
}

/// Three digits after the point are more than a sensor knows.
fn shown(value: f64, unit: &str) -> String {
    let number = format!("{value:.3}");
    format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.')).trim_end().to_owned()
}

fn health(sensor: &BmcSensor) -> Value {
    enum_word!(BmcSensorHealth, "BMC_SENSOR_HEALTH", sensor.health)
}
