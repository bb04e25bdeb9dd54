//! Lines of a console's log.

use super::value::{rfc3339, time};
use super::{Column, Resource, column};
use farrier_proto::rack::ConsoleLogLine;
use serde_json::{Value, json};

impl Resource for ConsoleLogLine {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("TIME", |l, _| l.time.as_ref().and_then(rfc3339).unwrap_or_default()),
            column("TEXT", |l, _| l.text.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["time", "text"];

    fn value(&self) -> Value {
        json!({ "time": time(&self.time), "text": self.text })
    }
}
