//! What a machine says it is made of: the inventory of a Field Replaceable Unit.
//!
//! Sections are those of "Platform Management FRU Information Storage Definition v1.0" (FRU §n); the commands that read
//! it are IPMI's (§34). Vendors write these bytes once, in a factory, and often wrongly: an area that cannot be read is
//! told beside the others, it does not hide them. The multi-record area and the internal use area are not read.

mod area;
mod command;
mod text;

pub use area::{Board, Chassis, Product};
pub use command::{FruArea, GetFruArea, ReadFru};

use crate::ParseError;
use crate::reader::Reader;

/// What an inventory holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fru {
    /// The case.
    pub chassis: Option<Chassis>,
    /// The main board.
    pub board: Option<Board>,
    /// What was sold.
    pub product: Option<Product>,
    /// Why an area that is there is missing here.
    pub broken: Vec<ParseError>,
}

impl Fru {
    /// Reads an inventory from its first byte on. Bytes that no area needs may be missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "FRU common header";
        let header: [u8; HEADER_BYTES] = Reader::new(WHAT, bytes).array()?;
        // FRU §8: version, then offsets in eights of the internal, chassis, board, product and multi-record areas.
        let [version, _internal, chassis, board, product, _records, _pad, seen] = header;
        if version & 0x0F != FORMAT {
            return Err(ParseError::Unexpected {
                what: WHAT,
                field: "format version",
                expected: "1",
                seen: u32::from(version),
            });
        }
        check_sum(WHAT, &header, seen)?;
        let mut fru = Self::default();
        fru.chassis = fru.area("FRU chassis area", bytes, chassis, Chassis::parse);
        fru.board = fru.area("FRU board area", bytes, board, Board::parse);
        fru.product = fru.area("FRU product area", bytes, product, Product::parse);
        Ok(fru)
    }

    fn area<T>(
        &mut self,
        what: &'static str,
        bytes: &[u8],
        eights: u8,
        parse: fn(Reader<'_>) -> Result<T, ParseError>,
    ) -> Option<T> {
        // FRU §8: offset zero is an area that is not there.
        if eights == 0 {
            return None;
        }
        match area_body(what, bytes, eights).and_then(parse) {
            Ok(area) => Some(area),
            Err(error) => {
                self.broken.push(error);
                None
            }
        }
    }
}

/// What lies between an area's length and its checksum (FRU §10 to §12 begin and end alike).
fn area_body<'a>(what: &'static str, bytes: &'a [u8], eights: u8) -> Result<Reader<'a>, ParseError> {
    let mut reader = Reader::new(what, bytes);
    reader.take(usize::from(eights) * UNIT)?;
    let at = reader.clone();
    let version = reader.u8()?;
    if version & 0x0F != FORMAT {
        return Err(reader.unexpected("format version", "1", u32::from(version)));
    }
    let length = reader.u8()?;
    if length == 0 {
        return Err(reader.unexpected("area length", "1 or more", 0));
    }
    let mut area = at;
    let whole = area.take(usize::from(length) * UNIT)?;
    let Some((&seen, body)) = whole.split_last() else {
        return Err(reader.unexpected("area length", "1 or more", u32::from(length)));
    };
    check_sum(what, whole, seen)?;
    let mut body = Reader::new(what, body);
    body.take(2)?;
    Ok(body)
}

/// FRU §8, §10 to §12: all bytes with the checksum, which is the last, add up to zero.
fn check_sum(what: &'static str, bytes: &[u8], seen: u8) -> Result<(), ParseError> {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if sum == 0 { Ok(()) } else { Err(ParseError::Checksum { what, expected: seen.wrapping_sub(sum), seen }) }
}

const HEADER_BYTES: usize = 8;
const FORMAT: u8 = 1;
/// Offsets and lengths count eights.
const UNIT: usize = 8;

#[cfg(test)]
mod tests;
