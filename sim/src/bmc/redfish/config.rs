//! What a simulated Redfish service is set up with.

use std::time::Duration;

use farrier_identity::device::SelfSigned;
use farrier_ipmi::Secret;

/// Start from [`RedfishConfig::new`] and change what the test is about.
#[derive(Debug, Clone)]
pub struct RedfishConfig {
    /// The one account.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// `None`: http.
    pub tls: Option<SelfSigned>,
    /// The machine.
    pub facts: Facts,
    /// Ids of the systems; all are the same machine.
    pub systems: Vec<String>,
    /// Whether there is a session service; else Basic only.
    pub sessions: bool,
    /// Session slots.
    pub max_sessions: usize,
    /// Idle sessions end after this.
    pub idle_timeout: Duration,
    /// Whether a PATCH must say `If-Match`.
    pub needs_etag: bool,
    /// Whether a PATCH of the boot mode is refused, as some vendors do.
    pub refuses_mode: bool,
    /// Whether sensors are told by a collection (DSP0268 of 2020), not by Thermal and Power.
    pub sensor_collection: bool,
    /// Whether reset types are told by an ActionInfo instead of inline.
    pub action_info: bool,
}

/// What it says about its machine.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub manufacturer: String,
    pub model: String,
    pub serial_number: String,
    pub uuid: [u8; 16],
    pub cpus: u32,
    pub memory_bytes: u64,
    /// With colons.
    pub macs: Vec<String>,
}

impl RedfishConfig {
    /// http, one system, sessions.
    #[must_use]
    pub fn new(user: impl Into<String>, password: Secret, facts: Facts) -> Self {
        Self {
            user: user.into(),
            password,
            tls: None,
            facts,
            systems: vec!["1".to_owned()],
            sessions: true,
            max_sessions: 16,
            idle_timeout: Duration::from_secs(60),
            needs_etag: false,
            refuses_mode: false,
            sensor_collection: false,
            action_info: false,
        }
    }
}
