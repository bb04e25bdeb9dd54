//! How much power a machine draws.

use super::{Column, Resource, column};
use farrier_proto::rack::BmcPowerDraw;
use serde_json::{Value, json};

impl Resource for BmcPowerDraw {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NOW", |d, _| watts(d.now)),
            column("AVERAGE", |d, _| watts(d.average)),
            column("LEAST", |d, _| watts(d.least)),
            column("MOST", |d, _| watts(d.most)),
        ]
    }

    const FIRST: &'static [&'static str] =
        &["now_watts", "average_watts", "least_watts", "most_watts", "period_seconds", "driver"];

    fn value(&self) -> Value {
        json!({
            "now_watts": self.now,
            "average_watts": self.average,
            "least_watts": self.least,
            "most_watts": self.most,
            "period_seconds": self.period_seconds,
            "driver": self.driver,
        })
    }
}

fn watts(watts: Option<f64>) -> String {
    watts.map(|watts| format!("{watts} W")).unwrap_or_default()
}
