//! Pools and volumes.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::service::{Reply, done, missing, refusal};

/// All of them.
pub(super) struct Storage {
    /// GB that are free.
    pools: BTreeMap<String, u64>,
    /// Sizes in GB.
    volumes: BTreeMap<String, u64>,
}

impl Storage {
    pub(super) fn new(pools: BTreeMap<String, u64>) -> Self {
        Self { pools, volumes: BTreeMap::new() }
    }

    pub(super) fn has(&self, volume: &str) -> bool {
        self.volumes.contains_key(volume)
    }

    pub(super) fn answer(&mut self, method: &Method, path: &[&str], body: &Value) -> Reply {
        match (method, path) {
            (&Method::GET, ["pools"]) => {
                let pools = self.pools.iter().map(|(id, free)| (id.clone(), json!({ "freeSize": free })));
                (StatusCode::OK, Value::Object(pools.collect()))
            }
            (&Method::GET, ["pools", card, pool]) => match self.pools.get(&format!("{card}/{pool}")) {
                Some(free) => (StatusCode::OK, json!({ "freeSize": free })),
                None => missing("pool"),
            },
            (&Method::GET, ["volumes"]) => {
                let volumes =
                    self.volumes.iter().map(|(id, size)| (id.clone(), json!({ "actualSize": size })));
                (StatusCode::OK, Value::Object(volumes.collect()))
            }
            // One that is not there has no size.
            (&Method::GET, ["volumes", id @ ..]) => {
                let size = self.volumes.get(&id.join("/")).copied().unwrap_or_default();
                (StatusCode::OK, json!({ "actualSize": size }))
            }
            (&Method::PUT, ["volumes", card, pool, name]) => {
                let size = body.get("volume-size").and_then(Value::as_str).and_then(|size| size.parse().ok());
                let (pool, Some(size)) = (format!("{card}/{pool}"), size) else {
                    return refusal(StatusCode::BAD_REQUEST, "expected volume-size");
                };
                if body.get("action").and_then(Value::as_str) != Some("create") {
                    return refusal(StatusCode::BAD_REQUEST, "there is no such action");
                }
                self.create(&pool, format!("{pool}/{name}"), size)
            }
            // So it is: `volume` here, `volumes` everywhere else.
            (&Method::DELETE, ["volume", card, pool, name]) => {
                let id = format!("{card}/{pool}/{name}");
                let Some(size) = self.volumes.remove(&id) else { return missing(&id) };
                if let Some(free) = self.pools.get_mut(&format!("{card}/{pool}")) {
                    *free += size;
                }
                done()
            }
            _ => missing("such storage"),
        }
    }

    fn create(&mut self, pool: &str, id: String, size: u64) -> Reply {
        let Some(free) = self.pools.get_mut(pool) else { return missing(pool) };
        let Some(left) = free.checked_sub(size) else {
            return refusal(StatusCode::CONFLICT, "the pool has not that much");
        };
        if self.volumes.contains_key(&id) {
            return refusal(StatusCode::CONFLICT, "there is such a volume already");
        }
        *free = left;
        let made = json!(format!("volumes/{id}"));
        self.volumes.insert(id, size);
        (StatusCode::OK, made)
    }
}
