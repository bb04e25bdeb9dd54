//! Events: the audit log.

use super::value::{rfc3339, time};
use super::{Column, Resource, column, wide};
use farrier_proto::inventory::Event;
use serde_json::{Value, json};

impl Resource for Event {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("TIME", |e, _| e.time.as_ref().and_then(rfc3339).unwrap_or_default()),
            column("RESOURCE", |e, _| e.resource.clone()),
            column("ACTION", |e, _| e.action.clone()),
            column("CHANGE", change),
            column("ACTOR", |e, _| e.actor.strip_prefix("spiffe://farrier/").unwrap_or(&e.actor).to_owned()),
            column("DETAIL", |e, _| e.detail.clone()),
            wide("OPERATION", |e, _| e.operation.clone()),
            wide("SEQUENCE", |e, _| e.sequence.to_string()),
        ]
    }

    const FIRST: &'static [&'static str] = &["sequence", "time", "resource", "action"];

    fn value(&self) -> Value {
        json!({
            "sequence": self.sequence,
            "time": time(&self.time),
            "actor": self.actor,
            "resource": self.resource,
            "action": self.action,
            "before": self.before,
            "after": self.after,
            "operation": self.operation,
            "detail": self.detail,
        })
    }
}

fn change(event: &Event, _: std::time::SystemTime) -> String {
    if event.before.is_empty() && event.after.is_empty() {
        return String::new();
    }
    format!("{} -> {}", event.before, event.after).trim().to_owned()
}
