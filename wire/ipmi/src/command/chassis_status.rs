//! Get Chassis Status (§28.2).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// The request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetChassisStatus;

/// The part of the answer we use, and the raw bytes of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChassisStatus {
    /// Current power state, bit 0: power is on.
    pub power_on: bool,
    /// Bit 1: power overload.
    pub power_overload: bool,
    /// Bit 3: fault in the main power subsystem.
    pub power_fault: bool,
    /// Bit 4: power control fault, the last power command did not work.
    pub power_control_fault: bool,
    /// Misc state bits 5:4 (valid if bit 6): the LED blinks.
    pub identify_on: Option<bool>,
}

impl From<GetChassisStatus> for Message {
    fn from(_: GetChassisStatus) -> Self {
        Self::new_request(NetFn::Chassis, 0x01, Vec::new())
    }
}

impl IpmiCommand for GetChassisStatus {
    type Output = ChassisStatus;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<ChassisStatus, ResponseError> {
        let [power, _last_event, misc, ..] = data else {
            return Err(ResponseError::TooShort { expected: 3, seen: data.len() });
        };
        Ok(ChassisStatus {
            power_on: power & 0x01 != 0,
            power_overload: power & 0x02 != 0,
            power_fault: power & 0x08 != 0,
            power_control_fault: power & 0x10 != 0,
            identify_on: (misc & 0x40 != 0).then_some(misc & 0x30 != 0),
        })
    }
}

impl ChassisStatus {
    /// The response data, as a BMC sends it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 3] {
        let power = u8::from(self.power_on)
            | (u8::from(self.power_overload) << 1)
            | (u8::from(self.power_fault) << 3)
            | (u8::from(self.power_control_fault) << 4);
        let misc = match self.identify_on {
            None => 0,
            Some(on) => 0x40 | (u8::from(on) << 4),
        };
        [power, 0, misc]
    }
}
