//! Completion codes (§5.2, Table 5-2) and what they mean for a command.

use std::fmt;

use ipmi_rs_core::connection::NetFn;

/// The first data byte of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompletionCode(pub u8);

/// Command completed normally.
pub const OK: u8 = 0x00;
/// Of Get SEL Info and Reserve SEL: the log is being erased (tables 31-2 and 31-4).
pub const ERASE_IN_PROGRESS: u8 = 0x81;
/// Node busy.
pub const NODE_BUSY: u8 = 0xC0;
/// Invalid command.
pub const INVALID_COMMAND: u8 = 0xC1;
/// Timeout while processing the command.
pub const PROCESSING_TIMEOUT: u8 = 0xC3;
/// Out of space.
pub const OUT_OF_SPACE: u8 = 0xC4;
/// Request data length invalid.
pub const LENGTH_INVALID: u8 = 0xC7;
/// Parameter out of range.
pub const OUT_OF_RANGE: u8 = 0xC9;
/// Invalid data field in request.
pub const INVALID_FIELD: u8 = 0xCC;
/// Cannot return number of requested data bytes.
pub const CANNOT_RETURN_SO_MANY: u8 = 0xCA;
/// Requested sensor, data, or record not present.
pub const NOT_PRESENT: u8 = 0xCB;
/// The reservation is not the one that was given out last.
pub const RESERVATION_INVALID: u8 = 0xC5;
/// BMC initialisation in progress.
pub const BMC_INITIALIZING: u8 = 0xD2;
/// Insufficient privilege level.
pub const INSUFFICIENT_PRIVILEGE: u8 = 0xD4;
/// Command, or request parameter(s), not supported in present state.
pub const NOT_IN_PRESENT_STATE: u8 = 0xD5;
/// Unspecified error.
pub const UNSPECIFIED: u8 = 0xFF;
/// Get/Set System Boot Options: parameter not supported (§28.12, §28.13).
pub const PARAMETER_NOT_SUPPORTED: u8 = 0x80;

impl CompletionCode {
    /// Whether the same request may succeed a little later: the BMC is busy, not unwilling.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self.0, NODE_BUSY | PROCESSING_TIMEOUT | OUT_OF_SPACE | BMC_INITIALIZING)
    }

    /// The specification's words; 80h to BEh depend on the command.
    #[must_use]
    pub fn meaning(self, netfn: u8, cmd: u8) -> &'static str {
        match self.0 {
            OK => "completed normally",
            NODE_BUSY => "node busy",
            INVALID_COMMAND => "invalid command",
            0xC2 => "command invalid for given LUN",
            PROCESSING_TIMEOUT => "timeout while processing command",
            OUT_OF_SPACE => "out of space",
            RESERVATION_INVALID => "reservation canceled or invalid reservation ID",
            0xC6 => "request data truncated",
            LENGTH_INVALID => "request data length invalid",
            0xC8 => "request data field length limit exceeded",
            OUT_OF_RANGE => "parameter out of range",
            CANNOT_RETURN_SO_MANY => "cannot return number of requested data bytes",
            NOT_PRESENT => "requested sensor, data, or record not present",
            INVALID_FIELD => "invalid data field in request",
            0xCD => "command illegal for specified sensor or record type",
            0xCE => "command response could not be provided",
            0xCF => "cannot execute duplicated request",
            0xD0 => "SDR repository in update mode",
            0xD1 => "device in firmware update mode",
            BMC_INITIALIZING => "BMC initialization in progress",
            0xD3 => "destination unavailable",
            INSUFFICIENT_PRIVILEGE => "insufficient privilege level",
            NOT_IN_PRESENT_STATE => in_present_state(NetFn::from(netfn), cmd),
            0xD6 => "command sub-function disabled or unavailable",
            UNSPECIFIED => "unspecified error",
            0x80..=0xBE => command_specific(NetFn::from(netfn), cmd, self.0),
            _ => "OEM or reserved completion code",
        }
    }
}

impl fmt::Display for CompletionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}h", self.0)
    }
}

/// What D5h comes down to: of a machine that is off, most of Chassis Control asks too much.
fn in_present_state(netfn: NetFn, cmd: u8) -> &'static str {
    match (netfn, cmd) {
        (NetFn::Chassis, 0x02) => {
            "not possible in the machine's present state; it may be off: look at its power, and switch it on first"
        }
        _ => "command not supported in present state",
    }
}

fn command_specific(netfn: NetFn, cmd: u8, code: u8) -> &'static str {
    match (netfn, cmd, code) {
        (NetFn::Chassis, 0x08 | 0x09, PARAMETER_NOT_SUPPORTED) => "boot option parameter not supported",
        (NetFn::Chassis, 0x08, 0x81) => "set in progress by another party",
        (NetFn::Chassis, 0x08, 0x82) => "boot option parameter is read-only",
        (NetFn::App, 0x3B, 0x80) => "requested privilege level not available for this user",
        (NetFn::App, 0x3B, 0x81) => "requested privilege level exceeds channel or user limit",
        (NetFn::App, 0x3B, 0x82) => "cannot disable user level authentication",
        (NetFn::App, 0x3C, 0x87) => "invalid session ID",
        (NetFn::App, 0x47, 0x80) => "the password is another one",
        (NetFn::App, 0x47, 0x81) => "the password is of another length",
        (NetFn::App, 0x48, 0x80) => "payload already active in another session",
        (NetFn::App, 0x48 | 0x49, 0x81) => "payload type is disabled",
        (NetFn::App, 0x48, 0x82) => "payload activation limit reached",
        (NetFn::App, 0x48, 0x83) => "cannot activate payload with encryption",
        (NetFn::App, 0x48, 0x84) => "cannot activate payload without encryption",
        (NetFn::App, 0x49, 0x80) => "payload is not active",
        (NetFn::Storage, 0x11, 0x81) => "the FRU device is busy",
        (NetFn::Storage, 0x40..=0x49, 0x81) => "the event log is being erased",
        _ => "command-specific completion code",
    }
}

/// The name of a command we send, for errors and logs.
#[must_use]
pub fn command_name(netfn: u8, cmd: u8) -> &'static str {
    match (NetFn::from(netfn), cmd) {
        (NetFn::Chassis, 0x01) => "Get Chassis Status",
        (NetFn::Chassis, 0x02) => "Chassis Control",
        (NetFn::Chassis, 0x04) => "Chassis Identify",
        (NetFn::Chassis, 0x08) => "Set System Boot Options",
        (NetFn::Chassis, 0x09) => "Get System Boot Options",
        (NetFn::App, 0x01) => "Get Device ID",
        (NetFn::App, 0x02) => "Cold Reset",
        (NetFn::App, 0x24) => "Set Watchdog Timer",
        (NetFn::App, 0x25) => "Get Watchdog Timer",
        (NetFn::App, 0x37) => "Get System GUID",
        (NetFn::App, 0x38) => "Get Channel Authentication Capabilities",
        (NetFn::App, 0x3B) => "Set Session Privilege Level",
        (NetFn::App, 0x3C) => "Close Session",
        (NetFn::App, 0x43) => "Set User Access",
        (NetFn::App, 0x44) => "Get User Access",
        (NetFn::App, 0x45) => "Set User Name",
        (NetFn::App, 0x46) => "Get User Name",
        (NetFn::App, 0x47) => "Set User Password",
        (NetFn::App, 0x48) => "Activate Payload (SOL)",
        (NetFn::App, 0x49) => "Deactivate Payload (SOL)",
        (NetFn::App, 0x4B) => "Get Payload Instance Info (SOL)",
        (NetFn::App, 0x4C) => "Set User Payload Access",
        (NetFn::App, 0x54) => "Get Channel Cipher Suites",
        (NetFn::SensorEvent, 0x2D) => "Get Sensor Reading",
        (NetFn::Storage, 0x10) => "Get FRU Inventory Area Info",
        (NetFn::Storage, 0x11) => "Read FRU Data",
        (NetFn::Storage, 0x20) => "Get SDR Repository Info",
        (NetFn::Storage, 0x22) => "Reserve SDR Repository",
        (NetFn::Storage, 0x23) => "Get SDR",
        (NetFn::Storage, 0x40) => "Get SEL Info",
        (NetFn::Storage, 0x42) => "Reserve SEL",
        (NetFn::Storage, 0x43) => "Get SEL Entry",
        (NetFn::Storage, 0x47) => "Clear SEL",
        (NetFn::Transport, 0x02) => "Get LAN Configuration Parameters",
        (NetFn::Reserved(0x2C), 0x02) => "Get Power Reading (DCMI)",
        _ => "IPMI command",
    }
}
