//! The System Event Log (§31): reading a record, whatever it is, and what it says in words.
//!
//! Get SEL Info, Reserve SEL and Clear SEL are `ipmi-rs-core`'s. Its Get SEL Entry refuses records of a type it does not
//! know, and with them all that come after: here a record is its 16 bytes first.

use std::fmt;

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};
use ipmi_rs_core::storage::sdr::SensorType;
use ipmi_rs_core::storage::sel::Entry;

use super::ResponseError;

/// Bytes of a record (Table 32-1).
pub const RECORD_BYTES: usize = 16;
/// Asks for the oldest record, whatever its id.
pub const FIRST: u16 = 0x0000;
/// As the next id: there is none.
pub const LAST: u16 = 0xFFFF;

/// Get SEL Entry (§31.5), all of it. No reservation is needed for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetSelRecord(pub u16);

/// A record, and where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelReply {
    /// Id of the record after it, or [`LAST`].
    pub next: u16,
    /// As it came.
    pub record: [u8; RECORD_BYTES],
}

impl From<GetSelRecord> for Message {
    fn from(GetSelRecord(id): GetSelRecord) -> Self {
        let [low, high] = id.to_le_bytes();
        Self::new_request(NetFn::Storage, 0x43, vec![0, 0, low, high, 0, 0xFF])
    }
}

impl IpmiCommand for GetSelRecord {
    type Output = SelReply;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<SelReply, ResponseError> {
        let short = ResponseError::TooShort { expected: 2 + RECORD_BYTES, seen: data.len() };
        let (next, rest) = data.split_first_chunk::<2>().ok_or(short.clone())?;
        let record = rest.first_chunk().copied().ok_or(short)?;
        Ok(SelReply { next: u16::from_le_bytes(*next), record })
    }
}

/// A record in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelRecord {
    /// The BMC's number for it.
    pub id: u16,
    /// The BMC's clock.
    pub time: SelTime,
    /// What it is about, such as `Power Unit 01h`.
    pub sensor: String,
    /// What happened.
    pub event: String,
    /// Whether it began or ended; `None`: neither.
    pub asserted: Option<bool>,
}

/// When a record was made (§37).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelTime {
    /// Unix seconds, as far as the BMC's clock was right.
    Unix(u32),
    /// Seconds since the BMC started: its clock was not set.
    SinceStart(u32),
    /// Not known.
    Unspecified,
}

impl SelRecord {
    /// Says what a record means. What nobody knows is told in hexadecimal digits.
    #[must_use]
    pub fn read(record: &[u8; RECORD_BYTES]) -> Self {
        let [id0, id1, kind, rest @ ..] = record;
        let id = u16::from_le_bytes([*id0, *id1]);
        let stamp = rest.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
        let Ok(entry) = Entry::parse(record) else {
            let sensor = format!("record type {kind:02X}h");
            return Self { id, time: SelTime::Unspecified, sensor, event: hex(rest), asserted: None };
        };
        match &entry {
            Entry::System { sensor_type, sensor_number, .. } => {
                let [.., direction, data1, data2, data3] = record;
                let words = Words(&entry).to_string();
                let words = if words.trim().is_empty() {
                    format!("event type {:02X}h, offset {}", direction & 0x7F, data1 & 0x0F)
                } else {
                    words
                };
                Self {
                    id,
                    time: SelTime::of(stamp),
                    sensor: format!("{} {sensor_number:02X}h", SensorType::from(*sensor_type)),
                    event: format!("{words} (data {})", hex(&[*data1, *data2, *data3])),
                    asserted: Some(direction & 0x80 == 0),
                }
            }
            Entry::OemTimestamped { manufacturer_id, data, .. } => Self {
                id,
                time: SelTime::of(stamp),
                sensor: format!("OEM {kind:02X}h of manufacturer {manufacturer_id}"),
                event: hex(data),
                asserted: None,
            },
            Entry::OemNotTimestamped { data, .. } => Self {
                id,
                time: SelTime::Unspecified,
                sensor: format!("OEM {kind:02X}h"),
                event: hex(data),
                asserted: None,
            },
        }
    }
}

impl SelTime {
    fn of(stamp: u32) -> Self {
        match stamp {
            u32::MAX => Self::Unspecified,
            0..=0x2000_0000 => Self::SinceStart(stamp),
            _ => Self::Unix(stamp),
        }
    }
}

/// `ipmi-rs-core`'s words for an event (Tables 42-2 and 42-3).
struct Words<'a>(&'a Entry);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.event_description(f)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_is_asked_for_whole_and_read_with_the_next_ones_id() {
        let message: Message = GetSelRecord(0x0102).into();
        assert_eq!((message.netfn_raw(), message.cmd()), (0x0A, 0x43));
        assert_eq!(message.data(), [0, 0, 0x02, 0x01, 0, 0xFF]);
        let mut answer = vec![0xFF, 0xFF];
        answer.extend(1..=16);
        let reply = GetSelRecord::parse_success_response(&answer).unwrap();
        assert_eq!((reply.next, reply.record[15]), (LAST, 16));
        assert!(GetSelRecord::parse_success_response(&answer[..17]).is_err());
    }

    #[test]
    fn power_a_temperature_and_oem_records_have_words() {
        // Table 42-3: Power Unit (09h), offset 0, power off; generic sensor-specific event type 6Fh.
        let off = [1, 0, 2, 0x00, 0x00, 0x00, 0x65, 0x20, 0, 4, 0x09, 0x01, 0x6F, 0x00, 0xFF, 0xFF];
        let read = SelRecord::read(&off);
        assert_eq!((read.id, read.time, read.asserted), (1, SelTime::Unix(0x6500_0000), Some(true)));
        assert!(read.sensor.ends_with("01h") && read.sensor.to_lowercase().contains("power"), "{read:?}");
        assert!(read.event.to_lowercase().contains("off"), "{read:?}");
        // Temperature (01h), threshold (01h), offset 9: upper critical going high, deasserted; the clock was not set.
        let hot = [2, 0, 2, 0x10, 0x00, 0x00, 0x00, 0x20, 0, 4, 0x01, 0x30, 0x81, 0x59, 0x5F, 0x5A];
        let read = SelRecord::read(&hot);
        assert_eq!((read.time, read.asserted), (SelTime::SinceStart(16), Some(false)));
        assert!(read.event.to_lowercase().contains("upper critical"), "{read:?}");
        let oem = [3, 0, 0xC0, 0x00, 0x00, 0x00, 0x65, 0x57, 0x01, 0x00, 1, 2, 3, 4, 5, 6];
        let read = SelRecord::read(&oem);
        assert_eq!(read.sensor, "OEM C0h of manufacturer 343");
        assert_eq!(read.event, "01 02 03 04 05 06");
        let strange = SelRecord::read(&[4, 0, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!((strange.sensor.as_str(), strange.time), ("record type 03h", SelTime::Unspecified));
    }

    proptest! {
        #[test]
        fn no_record_is_without_words_and_none_panics(record: [u8; RECORD_BYTES]) {
            let read = SelRecord::read(&record);
            prop_assert!(!read.sensor.is_empty() && !read.event.is_empty());
        }
    }
}
