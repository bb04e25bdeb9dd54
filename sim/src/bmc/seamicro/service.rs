//! Who is let in, and what a path is.

use std::collections::BTreeMap;
use std::sync::Arc;

use farrier_ipmi::Secret;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::servers::Servers;
use super::storage::Storage;
use crate::bmc::Chassis;

/// What a simulated chassis is set up with.
#[derive(Clone)]
pub struct SeaMicroConfig {
    /// Who is let in.
    pub user: String,
    /// With which password.
    pub password: Secret,
    /// Machines by the id of their server (`0/0`), each with the MACs of its NICs.
    pub servers: Vec<(String, Arc<dyn Chassis>, Vec<String>)>,
    /// Pools by id (`0/ironic-p6-6`), with what is free in each, in GB.
    pub pools: BTreeMap<String, u64>,
}

/// The chassis.
pub(super) struct Service {
    user: String,
    password: Secret,
    pub(super) servers: Servers,
    storage: Storage,
}

/// Status and body of an answer.
pub(super) type Reply = (StatusCode, Value);

impl Service {
    pub(super) fn new(config: SeaMicroConfig) -> Self {
        Self {
            user: config.user,
            password: config.password,
            servers: Servers::new(config.servers),
            storage: Storage::new(config.pools),
        }
    }

    pub(super) async fn answer(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &Value,
        forgets: bool,
    ) -> Reply {
        let query = parse(query);
        let said = |name: &str| match *method {
            Method::GET | Method::DELETE => query.get(name).cloned(),
            _ => body.get(name).and_then(Value::as_str).map(str::to_owned),
        };
        let known = said("password").is_some_and(|said| said.as_bytes() == self.password.expose());
        if said("username").as_ref() != Some(&self.user) || !known {
            return refusal(StatusCode::UNAUTHORIZED, "username or password is wrong");
        }
        let Some(path) = path.strip_prefix("/v2.0/") else { return missing(path) };
        let parts: Vec<_> = path.split('/').collect();
        let changes = !matches!(*method, Method::GET);
        if changes && forgets {
            return done();
        }
        match (method, parts.as_slice()) {
            (&Method::GET, ["servers"]) => (StatusCode::OK, self.servers.all(&self.storage).await),
            // Both are asked for.
            (_, ["servers" | "server", card, on_card, rest @ ..]) => {
                let server = format!("{card}/{on_card}");
                self.servers.answer(method, &server, rest, &query, body, &mut self.storage).await
            }
            (_, ["storage", rest @ ..]) => self.storage.answer(method, rest, body),
            (&Method::GET, ["chassis" | "interfaces"]) => (StatusCode::OK, json!({})),
            (&Method::PUT, ["chassis", "system", "writeMem"]) => done(),
            _ => missing(path),
        }
    }
}

pub(super) fn done() -> Reply {
    (StatusCode::OK, json!({}))
}

pub(super) fn missing(path: &str) -> Reply {
    refusal(StatusCode::NOT_FOUND, &format!("there is no {path}"))
}

/// The client reads the second property, which has the words.
pub(super) fn refusal(status: StatusCode, words: &str) -> Reply {
    let error = json!({ "message": words, "details": words });
    (status, json!({ "code": status.as_u16(), "error": error }))
}

/// A query's words (RFC 3986 §2.1, and a `+` is a space).
fn parse(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}
