//! The four bytes in front of every datagram (§13.1.3, Table 13-7).

use crate::ParseError;
use crate::reader::Reader;

/// ```text
///  0         1          2          3
/// +---------+----------+----------+----------+
/// | 06h     | reserved | sequence | class    |
/// +---------+----------+----------+----------+
/// ```
pub(crate) const HEADER_LEN: usize = 4;

const VERSION: u8 = 0x06;
/// "No RMCP ACK wanted": IPMI messages never ask for one (§13.1.3).
const SEQUENCE_NO_ACK: u8 = 0xFF;

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ASF messages: presence ping and pong.
    Asf,
    /// IPMI messages, 1.5 or 2.0.
    Ipmi,
}

pub(crate) fn emit(class: Class, out: &mut Vec<u8>) {
    let class = match class {
        Class::Asf => 0x06,
        Class::Ipmi => 0x07,
    };
    out.extend_from_slice(&[VERSION, 0, SEQUENCE_NO_ACK, class]);
}

/// Splits the header off. The reserved byte and the sequence number are not checked: BMCs fill the
/// first with rubbish and the second has a meaning only for ASF ACKs, which we never ask for.
pub(crate) fn parse(datagram: &[u8]) -> Result<(Class, &[u8]), ParseError> {
    let mut reader = Reader::new("RMCP header", datagram);
    reader.expect("version", VERSION, "06h (RMCP 1.0)")?;
    let _reserved = reader.u8()?;
    let _sequence = reader.u8()?;
    let class = match reader.u8()? {
        0x06 => Class::Asf,
        0x07 => Class::Ipmi,
        other => return Err(reader.unexpected("class", "06h (ASF) or 07h (IPMI)", u32::from(other))),
    };
    Ok((class, reader.rest()))
}
