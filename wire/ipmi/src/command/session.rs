//! Set Session Privilege Level (§22.18) and Close Session (§22.19).

use ipmi_rs_core::app::auth::PrivilegeLevel;
use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// Raises the session to a level. Every session starts at user level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SetSessionPrivilegeLevel(pub PrivilegeLevel);

impl From<SetSessionPrivilegeLevel> for Message {
    fn from(command: SetSessionPrivilegeLevel) -> Self {
        Self::new_request(NetFn::App, 0x3B, vec![command.0.into()])
    }
}

impl IpmiCommand for SetSessionPrivilegeLevel {
    /// The new level.
    type Output = u8;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<u8, ResponseError> {
        data.first().map(|level| level & 0x0F).ok_or(ResponseError::TooShort { expected: 1, seen: 0 })
    }
}

/// Gives the session's slot back. BMCs have few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseSession {
    /// The id the BMC gave.
    pub bmc_session_id: u32,
}

impl From<CloseSession> for Message {
    fn from(command: CloseSession) -> Self {
        Self::new_request(NetFn::App, 0x3C, command.bmc_session_id.to_le_bytes().to_vec())
    }
}

impl IpmiCommand for CloseSession {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}
