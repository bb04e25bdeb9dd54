//! Ways in which a Redfish service misbehaves, set while it runs.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bmc::Resets;

/// The default is a healthy service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedfishFaults {
    /// Answers are sent so much later.
    pub delay: Duration,
    /// On every nth request the connection is closed instead of anything else.
    pub drop_every: Option<NonZeroU32>,
    /// Every nth request is answered 503 instead of anything else.
    pub busy_every: Option<NonZeroU32>,
    /// Every request but the service root's is answered with this status.
    pub status: Option<u16>,
    /// Every request is answered 200 with something that is no JSON.
    pub garbage: bool,
    /// Every request is answered 404, the service root's too: the web server is up before Redfish.
    pub absent: bool,
    /// Every request is redirected there.
    pub redirect: Option<String>,
    /// Connections are taken and never answered.
    pub silent: bool,
    /// Requests are obeyed and the connection closed without an answer.
    pub mute: bool,
    /// Says yes to a boot device and does not store it.
    pub forgets_boot: bool,
    /// Stores a boot device for once, and in the mode that it had.
    pub keeps_mode: bool,
    /// The list of firmware has no last page.
    pub endless: bool,
    /// Jobs for BIOS settings fail when the machine starts, as after a failed POST; the settings still wait.
    pub fails_bios_jobs: bool,
    /// Says yes to a reset and does not do it.
    pub forgets_power: bool,
    /// Refuses every log-in in words that repeat the password, as the registries' messages do.
    pub quotes_password: bool,
    /// Its system's power is null, as in the first minutes after the BMC's own start.
    pub hides_power: bool,
    /// Requests are obeyed at once and answered so much later.
    pub late: Duration,
    /// It starts again while it is being used: sessions forgotten, connections closed.
    pub resets: Option<Resets>,
    /// One resource is broken.
    pub broken: Option<Broken>,
    /// The first requests of a kind are not obeyed.
    pub fails_first: Option<FailsFirst>,
    /// What is asked of a path without a slash at its end is redirected, with this status, to the path with one, as by iLO 4 and
    /// older Supermicro boards.
    pub wants_slash: Option<u16>,
}

/// Requests that fail, until so many have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailsFirst {
    /// All of them are in the method, the path or the body.
    pub words: &'static [&'static str],
    /// The status of the answer.
    pub status: u16,
    /// How many, since the faults were set.
    pub times: u32,
}

impl FailsFirst {
    /// Of which requests it is, by method, path and body.
    pub(super) fn is_of(&self, method: &str, path: &str, body: &[u8]) -> bool {
        let request = format!("{method} {path} {}", String::from_utf8_lossy(body));
        self.words.iter().all(|word| request.contains(word))
    }
}

/// A resource that cannot be read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Without a slash at its end.
    pub path: String,
    pub how: Breakage,
}

/// What a GET of a broken resource comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// This status.
    Status(u16),
    /// 200, and no JSON.
    NotJson,
    /// 200, and every property of it of another type.
    WrongTypes,
}

/// See [`Breakage::WrongTypes`].
pub(super) fn mistype(resource: &mut Value) {
    let properties = resource.as_object_mut().into_iter().flatten();
    for (_, value) in properties.filter(|(name, _)| !name.starts_with("@odata.")) {
        *value = match value {
            Value::String(_) => json!(7),
            Value::Array(_) => json!({ "0": "one" }),
            Value::Object(_) => json!(["one", 2]),
            Value::Number(_) | Value::Bool(_) | Value::Null => json!("seven"),
        };
    }
}
