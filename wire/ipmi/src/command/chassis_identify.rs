//! Chassis Identify (§28.5): the locator LED.

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// How long the LED blinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChassisIdentify {
    /// Off now.
    Off,
    /// For so many seconds (1 to 255), then off.
    Seconds(u8),
    /// Until told otherwise. Optional for BMCs: an old one refuses the second byte.
    Indefinitely,
}

impl ChassisIdentify {
    /// What a request asks for; no data means the default of 15 s.
    #[must_use]
    pub fn from_request(data: &[u8]) -> Option<Self> {
        Some(match data {
            [] => Self::Seconds(15),
            [_, force] if force & 0x01 != 0 => Self::Indefinitely,
            [0] | [0, _] => Self::Off,
            [seconds] | [seconds, _] => Self::Seconds(*seconds),
            _ => return None,
        })
    }
}

impl From<ChassisIdentify> for Message {
    fn from(identify: ChassisIdentify) -> Self {
        let data = match identify {
            ChassisIdentify::Off => vec![0],
            ChassisIdentify::Seconds(seconds) => vec![seconds],
            ChassisIdentify::Indefinitely => vec![0, 0x01],
        };
        Self::new_request(NetFn::Chassis, 0x04, data)
    }
}

impl IpmiCommand for ChassisIdentify {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}
