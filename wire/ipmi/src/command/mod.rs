//! Commands `ipmi-rs-core` 0.6 lacks, as its `IpmiCommand`s, with the value types both ends share.

mod boot_options;
mod chassis_control;
mod chassis_identify;
mod chassis_status;
mod cold_reset;
pub mod dcmi;
pub mod payload;
pub mod sdr;
pub mod sel;
mod session;
mod system_guid;
pub mod user;
pub mod watchdog;

pub use boot_options::{
    BootDeviceSelector, BootFlags, BootFlagsReply, GetBootFlags, SetBootOption, parameter,
};
pub use chassis_control::{ChassisControl, UnknownControl};
pub use chassis_identify::ChassisIdentify;
pub use chassis_status::{ChassisStatus, GetChassisStatus, IdentifyState};
pub use cold_reset::ColdReset;
pub use payload::{ActivatePayload, Activated, DeactivatePayload, GetPayloadInstanceInfo};
pub use session::{CloseSession, SetSessionPrivilegeLevel};
pub use system_guid::{GetSystemGuid, guid_to_uuid};

/// A successful response that is not what the command promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Too short.
    #[error("response data expected at least {expected} bytes, seen {seen}")]
    TooShort {
        /// Bytes the specification promises.
        expected: usize,
        /// Bytes that came.
        seen: usize,
    },
    /// A field has a value it cannot have.
    #[error("{field} expected {expected}, seen {seen:#04x}")]
    Unexpected {
        /// The field.
        field: &'static str,
        /// What would have been right.
        expected: &'static str,
        /// What came.
        seen: u8,
    },
}
