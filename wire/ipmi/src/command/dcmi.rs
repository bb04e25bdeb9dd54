//! Get Power Reading of DCMI (Data Center Manageability Interface 1.5, §6.6.1), a group extension of IPMI (§5.1).

use ipmi_rs_core::connection::{IpmiCommand, Message};

use super::ResponseError;

/// The network function of group extensions, and DCMI's identification in their first byte.
pub const NETFN: u8 = 0x2C;
/// See [`NETFN`].
pub const GROUP: u8 = 0xDC;
/// Get Power Reading.
pub const GET_POWER_READING: u8 = 0x02;
/// In the request: statistics of the system's power, in the standard mode.
pub const SYSTEM_POWER: u8 = 0x01;
/// In the answer: measuring now.
pub const ACTIVE: u8 = 0x40;
/// Bytes of the answer.
pub const READING_BYTES: usize = 18;

/// The request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetPowerReading;

/// Watts, since the BMC began to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerReading {
    /// Now.
    pub current: u16,
    /// The least in the period.
    pub minimum: u16,
    /// The most in the period.
    pub maximum: u16,
    /// Over the period.
    pub average: u16,
    /// Milliseconds.
    pub period: u32,
    /// Whether it measures; where not, the numbers mean nothing.
    pub active: bool,
}

impl PowerReading {
    /// The answer's data, at a time in Unix seconds.
    #[must_use]
    pub fn to_bytes(self, time: u32) -> Vec<u8> {
        let mut data = vec![GROUP];
        for watts in [self.current, self.minimum, self.maximum, self.average] {
            data.extend(watts.to_le_bytes());
        }
        data.extend(time.to_le_bytes());
        data.extend(self.period.to_le_bytes());
        data.push(if self.active { ACTIVE } else { 0 });
        data
    }
}

impl From<GetPowerReading> for Message {
    fn from(_: GetPowerReading) -> Self {
        Self::new_raw(NETFN, GET_POWER_READING, vec![GROUP, SYSTEM_POWER, 0, 0])
    }
}

impl IpmiCommand for GetPowerReading {
    type Output = PowerReading;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<PowerReading, ResponseError> {
        let short = ResponseError::TooShort { expected: READING_BYTES, seen: data.len() };
        let [group, c0, c1, l0, l1, m0, m1, a0, a1, _, _, _, _, p0, p1, p2, p3, state] =
            *data.first_chunk::<READING_BYTES>().ok_or(short)?;
        if group != GROUP {
            return Err(ResponseError::Unexpected { field: "group", expected: "DCh (DCMI)", seen: group });
        }
        Ok(PowerReading {
            current: u16::from_le_bytes([c0, c1]),
            minimum: u16::from_le_bytes([l0, l1]),
            maximum: u16::from_le_bytes([m0, m1]),
            average: u16::from_le_bytes([a0, a1]),
            period: u32::from_le_bytes([p0, p1, p2, p3]),
            active: state & ACTIVE != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_read_as_it_was_written_and_nothing_else_is() {
        let reading = PowerReading {
            current: 300,
            minimum: 60,
            maximum: 700,
            average: 290,
            period: 3_600_000,
            active: true,
        };
        let bytes = reading.to_bytes(1_700_000_000);
        assert_eq!(GetPowerReading::parse_success_response(&bytes), Ok(reading));
        for end in 0..READING_BYTES {
            assert!(GetPowerReading::parse_success_response(&bytes[..end]).is_err());
        }
        let mut other = bytes;
        other[0] = 0x00;
        let error = GetPowerReading::parse_success_response(&other).unwrap_err();
        assert_eq!(error.to_string(), "group expected DCh (DCMI), seen 0x00");
    }
}
