//! The one-time token of a new rackd.

use super::value::time;
use super::{Column, Resource, column};
use farrier_proto::inventory::JoinToken;
use serde_json::{Value, json};

impl Resource for JoinToken {
    fn columns() -> Vec<Column<Self>> {
        vec![column("TOKEN", |t, _| t.token.clone())]
    }

    const FIRST: &'static [&'static str] = &["token"];

    fn value(&self) -> Value {
        json!({ "token": self.token, "expire_time": time(&self.expire_time) })
    }
}
