//! Why a node is where it is.

use super::{Column, Resource, column};
use farrier_proto::inventory::Explanation;
use serde_json::{Value, json};

impl Resource for Explanation {
    fn columns() -> Vec<Column<Self>> {
        vec![column("SUMMARY", |e, _| e.summary.clone())]
    }

    const FIRST: &'static [&'static str] = &["summary", "expected", "observed", "actions", "verbs"];

    fn value(&self) -> Value {
        json!({
            "summary": self.summary,
            "expected": self.expected,
            "observed": self.observed,
            "actions": self.actions,
            "verbs": self.verbs,
            "node": self.node.as_ref().map(Resource::value),
        })
    }
}
