//! What a simulated Redfish service is set up with.

use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_identity::device::SelfSigned;
use farrier_ipmi::Secret;

use super::personality::Personality;
use crate::bmc::{Accounts, EventLog};

/// Start from [`RedfishConfig::new`] and change what the test is about.
#[derive(Debug, Clone)]
pub struct RedfishConfig {
    /// Who is let in; give IPMI of the same BMC a clone.
    pub accounts: Accounts,
    /// The event log; give IPMI of the same BMC a clone.
    pub log: EventLog,
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
    /// Which `If-Match` is good enough.
    pub conditions: Conditions,
    /// Whether an account that must change its password first gets a session for it; else its log-in is refused.
    pub restricted_sessions: bool,
    /// Whether a PATCH of the boot mode is refused, as some vendors do.
    pub refuses_mode: bool,
    /// How long the machine is on its way from off to on and back; meanwhile every reset is refused.
    pub power_takes: Duration,
    /// Whether sensors are told by a collection (DSP0268 of 2020), not by Thermal and Power.
    pub sensor_collection: bool,
    /// Whether disks are told by SimpleStorage, as by older ones.
    pub simple_storage: bool,
    /// Whether it tells events to who listens.
    pub events: bool,
    /// How long the virtual drive is told to be as before, once it has been changed.
    pub media_takes: Duration,
    /// Whether an image must come with its protocol, as some vendors ask.
    pub media_needs_protocol: bool,
    /// Whether reset types are told by an ActionInfo instead of inline.
    pub action_info: bool,
    /// Reset types that a system offers; `None`: its personality's. See [`super::ILO_4_RESETS`].
    pub resets: Option<&'static [&'static str]>,
    /// Whose service it pretends to be.
    pub personality: Personality,
    /// Whether the vendor's licence for virtual media is installed.
    pub licensed: bool,
    /// Parts with firmware beside the two that everybody has.
    pub more_parts: usize,
    /// Whether its firmware is from before settings could say when they are applied.
    pub old_firmware: bool,
    /// Where somebody else's SSH server shows the machine's console.
    pub ssh_console: Option<u16>,
    /// Its own address, as its interface tells it; the server fills it in.
    pub address: Option<Ipv4Addr>,
}

const ADMINISTRATOR: u8 = 4;

/// How `If-Match` is compared with a weak tag, `W/"…"`, which is all that the service gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conditions {
    /// It matches itself.
    #[default]
    Weak,
    /// What is between the quotes matches, and only without `W/`.
    Opaque,
    /// None matches (RFC 9110 §13.1.1: a strong comparison).
    Strong,
}

impl Conditions {
    pub(super) fn is_met(self, seen: &str, tag: &str) -> bool {
        match self {
            Self::Weak => seen == tag,
            Self::Opaque => tag.strip_prefix("W/") == Some(seen),
            Self::Strong => false,
        }
    }
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
            accounts: Accounts::new(&user.into(), &password, ADMINISTRATOR),
            log: EventLog::default(),
            tls: None,
            facts,
            systems: vec!["1".to_owned()],
            sessions: true,
            max_sessions: 16,
            idle_timeout: Duration::from_secs(60),
            needs_etag: false,
            conditions: Conditions::default(),
            restricted_sessions: true,
            refuses_mode: false,
            power_takes: Duration::ZERO,
            sensor_collection: false,
            simple_storage: false,
            events: true,
            media_takes: Duration::ZERO,
            media_needs_protocol: false,
            action_info: false,
            resets: None,
            personality: Personality::Plain,
            licensed: true,
            more_parts: 0,
            old_firmware: false,
            ssh_console: None,
            address: None,
        }
    }

    /// Reset types that a system offers.
    pub(super) fn resets(&self) -> &'static [&'static str] {
        self.resets.unwrap_or(self.personality.resets())
    }

    /// The same as another vendor's.
    #[must_use]
    pub fn of(mut self, personality: Personality) -> Self {
        self.personality = personality;
        self.systems = vec![personality.system().to_owned()];
        self
    }
}
