//! Activate Payload (§24.1), Deactivate Payload (§24.2) and Get Payload Instance Info (§24.5), for SOL.

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// Payload type "SOL" (Table 13-16).
pub const SOL: u8 = 0x01;
/// The first instance of a payload: BMCs have one serial port to give.
pub const INSTANCE: u8 = 0x01;
/// Activate Payload, command specific: active in another session.
pub const ALREADY_ACTIVE: u8 = 0x80;
/// Activate and Deactivate Payload, command specific: SOL is disabled.
pub const DISABLED: u8 = 0x81;
/// Deactivate Payload, command specific: is not active.
pub const ALREADY_INACTIVE: u8 = 0x80;

/// Encrypted and authenticated, whatever the BMC's own wish (auxiliary data, Table 24-2).
const PROTECTED: u8 = 0xC0;
/// Table 24-2, bits 3:2 = 10b: serial and modem alerts are deferred while SOL is active.
const DEFER_ALERTS: u8 = 0x08;

/// Starts SOL in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivatePayload;

/// What a BMC says of the SOL it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activated {
    /// Largest payload to the BMC in bytes, SOL header included.
    pub inbound_size: u16,
    /// Largest payload to the console in bytes, SOL header included.
    pub outbound_size: u16,
    /// UDP port for the SOL packets: the session's own, on every BMC we know.
    pub port: u16,
}

impl Activated {
    /// The response data: auxiliary data, sizes, port, no VLAN.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let ([in0, in1], [out0, out1]) = (self.inbound_size.to_le_bytes(), self.outbound_size.to_le_bytes());
        let [port0, port1] = self.port.to_le_bytes();
        [0, 0, 0, 0, in0, in1, out0, out1, port0, port1, 0xFF, 0xFF]
    }
}

impl From<ActivatePayload> for Message {
    fn from(_: ActivatePayload) -> Self {
        Self::new_request(NetFn::App, 0x48, vec![SOL, INSTANCE, PROTECTED | DEFER_ALERTS, 0, 0, 0])
    }
}

impl IpmiCommand for ActivatePayload {
    type Output = Activated;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<Activated, ResponseError> {
        // Some BMCs leave the VLAN at the end out.
        let [_, _, _, _, in0, in1, out0, out1, port0, port1, ..] = data else {
            return Err(ResponseError::TooShort { expected: 10, seen: data.len() });
        };
        Ok(Activated {
            inbound_size: u16::from_le_bytes([*in0, *in1]),
            outbound_size: u16::from_le_bytes([*out0, *out1]),
            port: u16::from_le_bytes([*port0, *port1]),
        })
    }
}

/// Ends SOL, in whatever session it is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeactivatePayload;

impl From<DeactivatePayload> for Message {
    fn from(_: DeactivatePayload) -> Self {
        Self::new_request(NetFn::App, 0x49, vec![SOL, INSTANCE, 0, 0, 0, 0])
    }
}

impl IpmiCommand for DeactivatePayload {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

/// Asks in which session SOL is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetPayloadInstanceInfo;

impl From<GetPayloadInstanceInfo> for Message {
    fn from(_: GetPayloadInstanceInfo) -> Self {
        Self::new_request(NetFn::App, 0x4B, vec![SOL, INSTANCE])
    }
}

impl IpmiCommand for GetPayloadInstanceInfo {
    /// The id that the BMC gave that session; 0: in none.
    type Output = u32;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<u32, ResponseError> {
        let id = data.first_chunk().ok_or(ResponseError::TooShort { expected: 4, seen: data.len() })?;
        Ok(u32::from_le_bytes(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bmc_says_is_read_back() {
        let activated = Activated { inbound_size: 0x102, outbound_size: 259, port: 623 };
        assert_eq!(ActivatePayload::parse_success_response(&activated.to_bytes()), Ok(activated));
        assert_eq!(ActivatePayload::parse_success_response(&activated.to_bytes()[..10]), Ok(activated));
        assert!(ActivatePayload::parse_success_response(&[0; 9]).is_err());
    }

    #[test]
    fn the_session_that_has_the_console_is_read() {
        let info = [4, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(GetPayloadInstanceInfo::parse_success_response(&info), Ok(0x0102_0304));
        assert!(GetPayloadInstanceInfo::parse_success_response(&[0; 3]).is_err());
    }
}
