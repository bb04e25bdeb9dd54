//! What a simulated BMC is set up with.

use std::time::Duration;

use super::{Accounts, EventLog};
use farrier_ipmi::server::{ServerConfig, User};
use farrier_ipmi::{CipherSuite, Secret};

/// Start from [`BmcConfig::new`] and change what the test is about.
#[derive(Debug, Clone)]
pub struct BmcConfig {
    /// The first account.
    pub user: String,
    /// Its password, at most 20 bytes.
    pub password: Secret,
    /// BMC key for two-key login.
    pub kg: Option<Secret>,
    /// Highest level of the account: 2 user, 3 operator, 4 administrator.
    pub max_privilege: u8,
    /// Suites offered.
    pub suites: Vec<CipherSuite>,
    /// Session slots.
    pub max_sessions: usize,
    /// Idle sessions end after this (IPMI 2.0 §6.12.15 says 60 s).
    pub idle_timeout: Duration,
    /// Boot flags not used by a Chassis Control for so long are forgotten, unless parameter 3
    /// forbids it (§28.12 says 60 s).
    pub boot_flags_timeout: Duration,
    /// System GUID.
    pub guid: [u8; 16],
    /// IANA number of the manufacturer, 20 bits. The default is nobody's quirky hardware.
    pub manufacturer_id: u32,
    /// Whether parameters 3 and 4 exist; OpenBMC lacks 3.
    pub boot_parameters_3_and_4: bool,
    /// How long it is deaf after a cold reset; real ones take a minute.
    pub restart: Duration,
    /// Bytes of a sensor record that it returns at once; 255: any.
    pub largest_sdr_part: u8,
    /// The event log; give Redfish of the same BMC a clone.
    pub log: EventLog,
    /// What its board calls itself in the FRU: who made it, and what it is.
    pub board: (&'static str, &'static str),
    /// It goes where its address is set to, on the same port, and is heard nowhere else then.
    pub moves: bool,
    /// The serial number in the FRU, as Redfish of the same machine tells it; `None`: the end of the GUID.
    pub serial_number: Option<String>,
}

impl BmcConfig {
    /// An administrator, both suites, 16 sessions, the specification's time-outs.
    #[must_use]
    pub fn new(user: impl Into<String>, password: Secret) -> Self {
        Self {
            user: user.into(),
            password,
            kg: None,
            max_privilege: 4,
            suites: CipherSuite::PREFERENCE.to_vec(),
            max_sessions: 16,
            idle_timeout: Duration::from_secs(60),
            boot_flags_timeout: Duration::from_secs(60),
            guid: rand::random(),
            manufacturer_id: 0xF_FFFF,
            boot_parameters_3_and_4: true,
            restart: Duration::from_millis(300),
            largest_sdr_part: 255,
            log: EventLog::default(),
            board: ("Farrier", "Simulated Server"),
            moves: false,
            serial_number: None,
        }
    }

    /// The accounts that it begins with.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        Accounts::new(&self.user, &self.password, self.max_privilege)
    }

    /// Of the board, and of the machine.
    pub(crate) fn serial_number(&self) -> String {
        let of_guid = || self.guid.iter().skip(10).map(|byte| format!("{byte:02X}")).collect();
        self.serial_number.clone().unwrap_or_else(of_guid)
    }

    pub(crate) fn server(&self, users: Vec<User>) -> ServerConfig {
        ServerConfig {
            users,
            kg: self.kg.clone(),
            guid: self.guid,
            suites: self.suites.clone(),
            max_sessions: self.max_sessions,
            idle_timeout: self.idle_timeout,
            handshake_timeout: Duration::from_secs(30),
        }
    }
}
