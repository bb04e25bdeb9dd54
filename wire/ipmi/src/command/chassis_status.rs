//! Get Chassis Status (§28.2).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// The request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetChassisStatus;

/// The part of the answer we use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChassisStatus {
    /// Current power state, bit 0: power is on.
    pub power_on: bool,
    /// Bit 1: power overload.
    pub power_overload: bool,
    /// Bit 3: fault in the main power subsystem.
    pub power_fault: bool,
    /// Bit 4: power control fault, the last power command did not work.
    pub power_control_fault: bool,
    /// Misc state, bit 2: a drive has a fault.
    pub drive_fault: bool,
    /// Misc state, bit 3: cooling or a fan has a fault.
    pub cooling_fault: bool,
    /// Misc state bits 5:4 (valid if bit 6): the locator LED.
    pub identify: Option<IdentifyState>,
}

/// What the locator LED does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentifyState {
    /// It is off.
    Off,
    /// It blinks for a time.
    Temporary,
    /// It blinks until told otherwise; also what the value that is reserved is taken for.
    Indefinite,
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
            drive_fault: misc & 0x04 != 0,
            cooling_fault: misc & 0x08 != 0,
            identify: (misc & 0x40 != 0).then_some(match misc & 0x30 {
                0x00 => IdentifyState::Off,
                0x10 => IdentifyState::Temporary,
                _ => IdentifyState::Indefinite,
            }),
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
        let identify = match self.identify {
            None => 0,
            Some(IdentifyState::Off) => 0x40,
            Some(IdentifyState::Temporary) => 0x50,
            Some(IdentifyState::Indefinite) => 0x60,
        };
        let misc = identify | (u8::from(self.drive_fault) << 2) | (u8::from(self.cooling_fault) << 3);
        [power, 0, misc]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_reads_back() {
        let base = ChassisStatus { power_on: true, ..ChassisStatus::default() };
        for status in [
            base,
            ChassisStatus { power_overload: true, identify: Some(IdentifyState::Off), ..base },
            ChassisStatus { power_fault: true, identify: Some(IdentifyState::Temporary), ..base },
            ChassisStatus { power_control_fault: true, identify: Some(IdentifyState::Indefinite), ..base },
            ChassisStatus { drive_fault: true, power_on: false, ..base },
            ChassisStatus { cooling_fault: true, ..base },
        ] {
            assert_eq!(GetChassisStatus::parse_success_response(&status.to_bytes()), Ok(status));
        }
        // OpenBMC's fourth byte, the front panel's buttons, is left alone.
        let four = GetChassisStatus::parse_success_response(&[0x21, 0x10, 0x48, 0x00]).unwrap();
        assert!(four.cooling_fault && !four.drive_fault);
        assert!(GetChassisStatus::parse_success_response(&[1, 0]).is_err());
    }
}
