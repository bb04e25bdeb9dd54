//! Get System GUID (§22.14).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// The request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetSystemGuid;

impl From<GetSystemGuid> for Message {
    fn from(_: GetSystemGuid) -> Self {
        Self::new_request(NetFn::App, 0x37, Vec::new())
    }
}

impl IpmiCommand for GetSystemGuid {
    /// The 16 bytes as they came: node first, time_low last (§20.8).
    type Output = [u8; 16];
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<[u8; 16], ResponseError> {
        data.first_chunk().copied().ok_or(ResponseError::TooShort { expected: 16, seen: data.len() })
    }
}

/// The bytes in the order of RFC 4122, by the rule of §20.8 (least significant byte first, node
/// field first: the whole is reversed). Many BMCs send the SMBIOS order instead, so this is for
/// showing to people; compare GUIDs of one BMC, not a GUID with an SMBIOS UUID.
#[must_use]
pub fn guid_to_uuid(guid: [u8; 16]) -> [u8; 16] {
    let mut uuid = guid;
    uuid.reverse();
    uuid
}
