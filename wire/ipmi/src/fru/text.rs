//! Fields of a length and a type byte (FRU §13).

use std::fmt::Write;

use crate::ParseError;
use crate::reader::Reader;

/// What type code 3 means in an area (FRU §13, §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// One byte a character: ASCII and Latin 1.
    English,
    /// Two bytes a character, the low one first.
    Other,
}

impl Language {
    pub(super) fn of(code: u8) -> Self {
        if matches!(code, 0 | 25) { Self::English } else { Self::Other }
    }
}

/// A field that has a place of its own. If the list ends before it, it is empty and so are those after it: many makers
/// leave the last ones out.
pub(super) fn field(reader: &mut Reader<'_>, language: Language) -> Result<String, ParseError> {
    let mut ahead = reader.clone();
    if ahead.u8()? == END {
        return Ok(String::new());
    }
    let head = reader.u8()?;
    let bytes = reader.take(usize::from(head & 0x3F))?;
    Ok(text(head >> 6, bytes, language))
}

/// The fields after those, up to the end of the list. An area bounds how many there can be: 2,040 bytes.
pub(super) fn custom(mut reader: Reader<'_>, language: Language) -> Result<Vec<String>, ParseError> {
    let mut fields = Vec::new();
    loop {
        let head = reader.u8()?;
        if head == END {
            return Ok(fields);
        }
        let bytes = reader.take(usize::from(head & 0x3F))?;
        let said = text(head >> 6, bytes, language);
        if !said.is_empty() {
            fields.push(said);
        }
    }
}

fn text(kind: u8, bytes: &[u8], language: Language) -> String {
    let said = match (kind, language) {
        (0, _) => bytes.iter().fold(String::new(), |mut hex, byte| {
            // A String takes everything.
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
        (1, _) => bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).map(bcd_plus).collect(),
        (2, _) => bytes.chunks(3).flat_map(six_bits).collect(),
        (_, Language::English) => bytes.iter().copied().map(char::from).collect(),
        (_, Language::Other) => {
            let units = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
            char::decode_utf16(units)
                .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect::<String>()
        }
    };
    // It is shown in terminals: nothing that moves the cursor. Makers fill fields with spaces and zeros.
    let shown: String = said.chars().filter(|char| !char.is_control()).collect();
    shown.trim().to_owned()
}

/// FRU §13.1: digits, space, dash, period; the rest is reserved.
fn bcd_plus(nibble: u8) -> char {
    match nibble {
        0..=9 => char::from(b'0' + nibble),
        0xA => ' ',
        0xB => '-',
        0xC => '.',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// FRU §13.2 and §13.3: four characters in three bytes, the first in the lowest bits, from space on.
fn six_bits(bytes: &[u8]) -> impl Iterator<Item = char> + use<> {
    let packed = bytes.iter().rev().fold(0_u32, |packed, byte| packed << 8 | u32::from(*byte));
    let count = bytes.len() * 8 / 6;
    [0, 6, 12, 18].into_iter().take(count).map(move |shift| char::from(b' ' + (packed >> shift & 0x3F) as u8))
}

/// FRU §13: "no more fields".
const END: u8 = 0xC1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_read() {
        // The specification's own example (FRU §13.3).
        assert_eq!(text(2, &[0x29, 0xDC, 0xA6], Language::English), "IPMI");
        assert_eq!(text(2, &[0x29, 0xDC], Language::English), "IP");
        assert_eq!(text(1, &[0x12, 0xB3, 0xC4], Language::English), "12-3.4");
        assert_eq!(text(0, &[0xDE, 0x01], Language::English), "de01");
        assert_eq!(text(3, b"Gr\xFC\xDFe\0\0 ", Language::English), "Grüße");
        assert_eq!(text(3, &[0x2D, 0x4E, 0x87, 0x65], Language::Other), "中文");
        assert_eq!(text(3, b"\x1B[2Jx", Language::English), "[2Jx");
    }
}
