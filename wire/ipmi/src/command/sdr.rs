//! Sensor data records (§33, §43) and sensor readings (§35.14), with the conversion of §36.3.
//!
//! Not `ipmi-rs-core`'s: its parsers index into what a BMC sent, and its conversion leaves out a bit of M and every
//! linearization.

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;
use crate::reader::Reader;

/// Asks for the first record.
pub const FIRST: u16 = 0x0000;
/// As the next id: there is none.
pub const LAST: u16 = 0xFFFF;
/// Bytes before a record's own: id, version, type, length (§43.1).
pub const HEADER: u8 = 5;
/// As a count: all there is.
pub const WHOLE: u8 = 0xFF;

/// Get SDR Repository Info (§33.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetSdrRepositoryInfo;

/// What tells whether the records are the ones that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SdrRepositoryInfo {
    /// Records there are.
    pub records: u16,
    /// When one was last added, in seconds of the BMC's clock.
    pub added: u32,
    /// When one was last erased, in seconds of the BMC's clock.
    pub erased: u32,
}

impl From<GetSdrRepositoryInfo> for Message {
    fn from(_: GetSdrRepositoryInfo) -> Self {
        Self::new_request(NetFn::Storage, 0x20, Vec::new())
    }
}

impl IpmiCommand for GetSdrRepositoryInfo {
    type Output = SdrRepositoryInfo;
    type Error = ResponseError;

    /// Version (1), records (2), free space (2), last addition (4), last erasure (4), what it can (1).
    fn parse_success_response(data: &[u8]) -> Result<SdrRepositoryInfo, ResponseError> {
        let Some(&[_, r0, r1, _, _, a0, a1, a2, a3, e0, e1, e2, e3]) = data.first_chunk() else {
            return Err(too_short(13, data));
        };
        Ok(SdrRepositoryInfo {
            records: u16::from_le_bytes([r0, r1]),
            added: u32::from_le_bytes([a0, a1, a2, a3]),
            erased: u32::from_le_bytes([e0, e1, e2, e3]),
        })
    }
}

/// Reserve SDR Repository (§33.11): the number that partial reads need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReserveSdrRepository;

impl From<ReserveSdrRepository> for Message {
    fn from(_: ReserveSdrRepository) -> Self {
        Self::new_request(NetFn::Storage, 0x22, Vec::new())
    }
}

impl IpmiCommand for ReserveSdrRepository {
    type Output = u16;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<u16, ResponseError> {
        data.first_chunk().map(|id| u16::from_le_bytes(*id)).ok_or(too_short(2, data))
    }
}

/// Get SDR (§33.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetSdr {
    /// 0 where the whole record is asked for.
    pub reservation: u16,
    /// Which.
    pub record: u16,
    /// From which byte of the record.
    pub offset: u8,
    /// How many bytes, or [`WHOLE`].
    pub count: u8,
}

/// Some bytes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdrPart {
    /// Id of the record after it, or [`LAST`].
    pub next: u16,
    /// At most as many as were asked for.
    pub bytes: Vec<u8>,
}

impl From<GetSdr> for Message {
    fn from(ask: GetSdr) -> Self {
        let mut data = ask.reservation.to_le_bytes().to_vec();
        data.extend(ask.record.to_le_bytes());
        data.extend([ask.offset, ask.count]);
        Self::new_request(NetFn::Storage, 0x23, data)
    }
}

impl IpmiCommand for GetSdr {
    type Output = SdrPart;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<SdrPart, ResponseError> {
        let (next, bytes) = data.split_first_chunk::<2>().ok_or(too_short(2, data))?;
        Ok(SdrPart { next: u16::from_le_bytes(*next), bytes: bytes.to_vec() })
    }
}

/// Get Sensor Reading (§35.14), of a sensor of the BMC's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetSensorReading(pub u8);

/// What a sensor says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorReading {
    /// Before the conversion.
    pub raw: u8,
    /// It is measured, and measured by now.
    pub available: bool,
    /// Thresholds that are crossed (Table 35-15), or states of a discrete sensor: bit n is offset n.
    pub states: u16,
}

impl From<GetSensorReading> for Message {
    fn from(GetSensorReading(number): GetSensorReading) -> Self {
        Self::new_request(NetFn::SensorEvent, 0x2D, vec![number])
    }
}

impl IpmiCommand for GetSensorReading {
    type Output = SensorReading;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<SensorReading, ResponseError> {
        let (&[raw, flags], states) = data.split_first_chunk::<2>().ok_or(too_short(2, data))?;
        // Bit 7 of the second byte of states is reserved, and set.
        let low = states.first().copied().unwrap_or(0);
        let high = states.get(1).copied().unwrap_or(0) & 0x7F;
        let available = flags & SCANNING != 0 && flags & UNAVAILABLE == 0;
        Ok(SensorReading { raw, available, states: u16::from_le_bytes([low, high]) })
    }
}

/// A sensor, from its full (§43.1) or compact (§43.2) record.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// Address of who has it (§43.1 byte 6); the BMC is 20h.
    pub owner: u8,
    /// Its LUN there.
    pub lun: u8,
    /// Its number there.
    pub number: u8,
    /// Table 42-3.
    pub kind: u8,
    /// Table 42-1; 01h: it has thresholds.
    pub event_type: u8,
    /// The board's name for it.
    pub name: String,
    /// How a reading becomes a number; `None`: it has only states.
    pub scale: Option<Scale>,
}

/// From a reading to a number (§36.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    format: Format,
    linearization: u8,
    m: i16,
    b: i16,
    b_exponent: i8,
    result_exponent: i8,
    percent: bool,
    /// Table 43-15.
    unit: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Unsigned,
    OnesComplement,
    TwosComplement,
}

impl Sensor {
    /// The sensors of a whole record: none where it is of another kind, or too short; several where they share it (§43.2).
    #[must_use]
    pub fn parse(record: &[u8]) -> Vec<Self> {
        let Some((first, share)) = Self::first(record) else { return Vec::new() };
        let trimmed = |name: &str| name.trim_end().to_owned();
        if share.count < 2 {
            return vec![Self { name: trimmed(&first.name), ..first }];
        }
        // A number that does not fit is nobody's.
        let numbers = (first.number..=u8::MAX).zip(0..share.count);
        numbers
            .map(|(number, nth)| Self { number, name: share.name(&first.name, nth), ..first.clone() })
            .collect()
    }

    fn first(record: &[u8]) -> Option<(Self, Share)> {
        let kind = *record.get(3)?;
        let (scale, name, share) = match kind {
            FULL => (Scale::parse(record), record.get(47..)?, Share::default()),
            COMPACT => (None, record.get(31..)?, Share::of(record.get(23..25)?)),
            _ => return None,
        };
        let sensor = Self {
            owner: *record.get(5)?,
            lun: record.get(6)? & 0x03,
            number: *record.get(7)?,
            kind: *record.get(12)?,
            event_type: *record.get(13)?,
            name: type_length(name),
            scale,
        };
        Some((sensor, share))
    }

    /// Whether its states are crossed thresholds.
    #[must_use]
    pub fn has_thresholds(&self) -> bool {
        self.event_type == THRESHOLD
    }
}

/// How several sensors share a record (§43.2 bytes 24 and 25): numbers that follow each other, and names that are told apart by
/// what is added.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    count: u8,
    alpha: bool,
    offset: u8,
}

impl Share {
    fn of(bytes: &[u8]) -> Self {
        let &[sharing, modifier] = bytes else { return Self::default() };
        Self { count: sharing & 0x0F, alpha: sharing >> 4 & 0x03 == 1, offset: modifier & 0x7F }
    }

    /// Of the nth, the first being 0: "Temp " with offset 5 is Temp 5, Temp 6; by letters with offset 26 Temp AA, Temp AB.
    fn name(self, common: &str, nth: u8) -> String {
        let number = u16::from(self.offset) + u16::from(nth);
        match self.alpha {
            true => format!("{common}{}", letters(number)),
            false => format!("{common}{number}"),
        }
    }
}

/// A, B, … Z, AA, AB.
fn letters(number: u16) -> String {
    let letter = |digit: u16| char::from(b'A' + u8::try_from(digit % 26).unwrap_or(0));
    let rest = number / 26;
    let before = if rest == 0 { String::new() } else { letters(rest - 1) };
    format!("{before}{}", letter(number))
}

impl Scale {
    fn parse(record: &[u8]) -> Option<Self> {
        let mut fields = Reader::new("sensor record", record.get(20..30)?);
        let [units, base, _modifier, linearization] = fields.array().ok()?;
        let [m, m_high, b, b_high, _accuracy, exponents] = fields.array().ok()?;
        let format = match units >> 6 {
            0 => Format::Unsigned,
            1 => Format::OnesComplement,
            2 => Format::TwosComplement,
            // It has no analog reading.
            _ => return None,
        };
        Some(Self {
            format,
            linearization: linearization & 0x7F,
            m: signed10(m, m_high),
            b: signed10(b, b_high),
            b_exponent: signed4(exponents & 0x0F),
            result_exponent: signed4(exponents >> 4),
            percent: units & 1 != 0,
            unit: base,
        })
    }

    /// `L[(M·x + B·10^K1)·10^K2]`; `None`: no number comes out.
    #[must_use]
    pub fn value(&self, raw: u8) -> Option<f64> {
        let x = match self.format {
            Format::Unsigned => f64::from(raw),
            Format::TwosComplement => f64::from(raw.cast_signed()),
            // Minus is the complement of plus.
            Format::OnesComplement if raw & 0x80 != 0 => -f64::from(!raw),
            Format::OnesComplement => f64::from(raw),
        };
        let b = f64::from(self.b) * 10_f64.powi(self.b_exponent.into());
        let linear = (f64::from(self.m) * x + b) * 10_f64.powi(self.result_exponent.into());
        // Table 43-1, byte 24.
        let value = match self.linearization {
            0 => linear,
            1 => linear.ln(),
            2 => linear.log10(),
            3 => linear.log2(),
            4 => linear.exp(),
            5 => 10_f64.powf(linear),
            6 => linear.exp2(),
            7 => linear.recip(),
            8 => linear.powi(2),
            9 => linear.powi(3),
            10 => linear.sqrt(),
            11 => linear.cbrt(),
            // The factors of each reading would have to be asked for (§35.5).
            _ => return None,
        };
        value.is_finite().then_some(value)
    }

    /// The unit's symbol, or nothing for what has none here.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.percent {
            return "%";
        }
        UNITS.iter().find(|(code, _)| *code == self.unit).map_or("", |(_, symbol)| symbol)
    }
}

/// A type/length byte and the text after it (§43.15). Text is read as far as it goes.
fn type_length(bytes: &[u8]) -> String {
    let Some((code, text)) = bytes.split_first() else { return String::new() };
    let text = text.get(..usize::from(code & 0x1F)).unwrap_or(text);
    let text = match code >> 6 {
        2 => six_bit(text),
        1 => text.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).map(bcd_plus).collect(),
        // 8-bit ASCII and Latin 1, and the same from BMCs that say "Unicode".
        _ => text.iter().map(|byte| char::from(*byte)).collect(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Packed 6-bit ASCII (§43.15): four characters in three bytes, from 20h on.
fn six_bit(bytes: &[u8]) -> String {
    let (mut out, mut bits, mut have) = (String::new(), 0_u32, 0_u32);
    for byte in bytes {
        bits |= u32::from(*byte) << have;
        have += 8;
        while have >= 6 {
            out.extend(char::from_u32(0x20 + (bits & 0x3F)));
            bits >>= 6;
            have -= 6;
        }
    }
    out
}

fn bcd_plus(digit: u8) -> char {
    match digit {
        0..=9 => char::from(b'0' + digit),
        10 => ' ',
        11 => '-',
        12 => '.',
        13 => ':',
        14 => ',',
        _ => '_',
    }
}

/// Ten bits, two of them at the top of another byte.
fn signed10(low: u8, high: u8) -> i16 {
    let ten = i16::from(high >> 6) << 8 | i16::from(low);
    if ten & 0x200 != 0 { ten - 0x400 } else { ten }
}

fn signed4(four: u8) -> i8 {
    let four = (four & 0x0F).cast_signed();
    if four & 0x08 != 0 { four - 0x10 } else { four }
}

fn too_short(expected: usize, data: &[u8]) -> ResponseError {
    ResponseError::TooShort { expected, seen: data.len() }
}

const FULL: u8 = 0x01;
const COMPACT: u8 = 0x02;
const THRESHOLD: u8 = 0x01;
const SCANNING: u8 = 0x40;
const UNAVAILABLE: u8 = 0x20;
/// Table 43-15, what machines have.
const UNITS: &[(u8, &str)] = &[
    (1, "°C"),
    (2, "°F"),
    (3, "K"),
    (4, "V"),
    (5, "A"),
    (6, "W"),
    (7, "J"),
    (8, "C"),
    (9, "VA"),
    (17, "CFM"),
    (18, "rpm"),
    (19, "Hz"),
    (20, "µs"),
    (21, "ms"),
    (22, "s"),
    (23, "min"),
    (24, "h"),
    (25, "d"),
    (38, "bit"),
    (70, "B"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A full record around the factors of `scale` (bytes 21 to 30 of Table 43-1).
    fn full(name: &str, scale: [u8; 10]) -> Vec<u8> {
        let mut record = vec![1, 0, 0x51, 1, 0, 0x20, 0, 0x30, 3, 1, 0x7F, 0x68, 0x01, 0x01];
        record.extend([0; 6]);
        record.extend(scale);
        record.extend([0; 17]);
        record.push(0xC0 | u8::try_from(name.len()).unwrap());
        record.extend(name.as_bytes());
        record
    }

    fn one(name: &str, scale: [u8; 10]) -> Sensor {
        let mut sensors = Sensor::parse(&full(name, scale));
        assert_eq!(sensors.len(), 1);
        sensors.remove(0)
    }

    /// A compact record of sensor `number` on, with bytes 24 and 25 of Table 43-2.
    fn compact(name: &str, number: u8, sharing: [u8; 2]) -> Vec<u8> {
        let mut record = vec![1, 0, 0x51, 2, 0, 0x20, 0, number, 0x20, 1, 0x67, 0x40, 0x0C, 0x6F];
        record.extend([0; 9]);
        record.extend(sharing);
        record.extend([0; 6]);
        record.push(0xC0 | u8::try_from(name.len()).unwrap());
        record.extend(name.as_bytes());
        record
    }

    #[test]
    fn sensors_that_share_a_record_are_as_many_as_it_says_and_named_apart() {
        let seen = |name: &str, number, sharing| -> Vec<(u8, String)> {
            let all = Sensor::parse(&compact(name, number, sharing));
            all.into_iter().map(|sensor| (sensor.number, sensor.name)).collect()
        };
        let named = |number, name: &str| (number, name.to_owned());
        for alone in [[0, 0], [1, 5], [0x11, 26]] {
            assert_eq!(seen("PS1 Status ", 0x40, alone), [named(0x40, "PS1 Status")], "{alone:?}");
        }
        // The example of §43.2, byte 25.
        assert_eq!(
            seen("Temp ", 10, [0x03, 5]),
            [named(10, "Temp 5"), named(11, "Temp 6"), named(12, "Temp 7")]
        );
        assert_eq!(
            seen("Temp ", 10, [0x13, 26]),
            [named(10, "Temp AA"), named(11, "Temp AB"), named(12, "Temp AC")]
        );
        // Bit 7 is of the entities.
        assert_eq!(seen("DIMM", 0x50, [0x12, 0x80]), [named(0x50, "DIMMA"), named(0x51, "DIMMB")]);
        assert_eq!(seen("X", 254, [0x0F, 1]), [named(254, "X1"), named(255, "X2")]);
        assert_eq!((letters(25), letters(51), letters(141)), ("Z".into(), "AZ".into(), "EL".into()));
    }

    #[test]
    fn readings_become_numbers_as_the_formula_says() {
        // Degrees, as they are: M 1, B 0, no exponents.
        let sensor = one("CPU Temp", [0x80, 1, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!((sensor.name.as_str(), sensor.number, sensor.has_thresholds()), ("CPU Temp", 0x30, true));
        let scale = sensor.scale.unwrap();
        assert_eq!((scale.value(45), scale.value(0xF6), scale.unit()), (Some(45.0), Some(-10.0), "°C"));
        // 12 V: M 63, K2 -3.
        let volts = one("12V", [0, 4, 0, 0, 63, 0, 0, 0, 0, 0xD0]).scale.unwrap();
        assert!((volts.value(191).unwrap() - 12.033).abs() < 1e-9);
        // M of ten bits (300), negative B (-5) with K1 1.
        let wide = [0, 6, 0, 0, 0x2C, 0x40, 0xFB, 0xC0, 0, 0x01];
        let watts = one("W", wide).scale.unwrap();
        assert_eq!((watts.value(2), watts.unit()), (Some(550.0), "W"));
        // 1/x: a tachometer; of nothing there is no reciprocal.
        let fan = one("F", [0, 18, 0, 7, 1, 0, 0, 0, 0, 0]).scale.unwrap();
        assert_eq!((fan.value(4), fan.value(0)), (Some(0.25), None));
        // Ones' complement, and per cent.
        let ones = one("%", [0x41, 0, 0, 0, 1, 0, 0, 0, 0, 0]).scale.unwrap();
        assert_eq!((ones.value(0xFE), ones.unit()), (Some(-1.0), "%"));
    }

    #[test]
    fn names_are_read_in_all_their_packings() {
        // §43.15's example: "IPMI" in three bytes.
        assert_eq!(type_length(&[0x83, 0x29, 0xDC, 0xA6]), "IPMI");
        assert_eq!(type_length(&[0x42, 0x12, 0xB4]), "12-4");
        assert_eq!(type_length(&[0xC5, b'F', b'A', b'N']), "FAN");
        assert_eq!(type_length(&[]), "");
    }

    #[test]
    fn what_a_sensor_says_and_whether_it_is_so() {
        let read = |data: &[u8]| GetSensorReading::parse_success_response(data);
        let good = SensorReading { raw: 45, available: true, states: 0x08 };
        assert_eq!(read(&[45, 0xC0, 0xC8 & 0x3F, 0x80]).unwrap(), good);
        assert!(!read(&[0, 0xE0]).unwrap().available && !read(&[0, 0x80]).unwrap().available);
        assert!(read(&[1]).is_err());
    }

    proptest! {
        #[test]
        fn no_record_panics(record in proptest::collection::vec(any::<u8>(), 0..80), raw: u8) {
            for sensor in Sensor::parse(&record) {
                let _ = sensor.scale.and_then(|scale| scale.value(raw)).is_none_or(f64::is_finite);
            }
        }
    }
}
