//! One SOL packet (§15.9, Table 15-2).

use crate::ParseError;
use crate::reader::Reader;

/// Bytes before the characters.
pub const HEADER_LEN: usize = 4;
/// Characters in one packet: their count, when accepted, is one byte.
pub const MAX_CHARS: usize = 255;

/// Bits of the last header byte, console to BMC.
pub mod operation {
    /// The packet named by the acknowledgement was not taken whole.
    pub const NACK: u8 = 0x40;
    /// Generate a BREAK on the serial port.
    pub const BREAK: u8 = 0x10;
    /// Throw away what was received from the serial port and not sent yet.
    pub const FLUSH_OUTBOUND: u8 = 0x01;
}

/// Bits of the last header byte, BMC to console.
pub mod status {
    /// The packet named by the acknowledgement was not taken whole.
    pub const NACK: u8 = 0x40;
    /// The serial port takes nothing now: the system is off or in reset.
    pub const UNAVAILABLE: u8 = 0x20;
    /// SOL is deactivated or about to be.
    pub const DEACTIVATED: u8 = 0x10;
    /// Characters from the serial port were lost.
    pub const OVERRUN: u8 = 0x08;
    /// A BREAK was seen on the serial port.
    pub const BREAK: u8 = 0x04;
}

/// What became of a packet of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The packet's sequence number, 1 to 15.
    pub sequence: u8,
    /// How many of its characters were taken, from the first on.
    pub accepted: u8,
}

/// ```text
///  0000 sequence | 0000 ack sequence | accepted count | operation or status | characters …
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// 1 to 15; 0: nothing to acknowledge in it, no characters.
    pub sequence: u8,
    /// `None`: says nothing of the other end's packets.
    pub ack: Option<Acknowledgement>,
    /// Bits of [`operation`] or [`status`].
    pub bits: u8,
    /// At most [`MAX_CHARS`].
    pub chars: Vec<u8>,
}

impl Packet {
    /// The payload. More than [`MAX_CHARS`] characters are cut: the other end could not acknowledge them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.chars.len());
        let (ack, accepted) = self.ack.map_or((0, 0), |ack| (ack.sequence & 0x0F, ack.accepted));
        out.extend_from_slice(&[self.sequence & 0x0F, ack, accepted, self.bits]);
        out.extend(self.chars.iter().take(MAX_CHARS));
        out
    }

    /// Reads a payload. Reserved bits are ignored, as §1.7 asks.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("SOL packet", payload);
        let [sequence, ack, accepted, bits] = reader.array()?;
        let ack = match ack & 0x0F {
            0 => None,
            sequence => Some(Acknowledgement { sequence, accepted }),
        };
        let sequence = sequence & 0x0F;
        let chars = reader.rest();
        // BMCs pad packets without a number; characters in one could not be acknowledged.
        let chars = if sequence == 0 { &[] } else { chars };
        let chars = chars.get(..MAX_CHARS).unwrap_or(chars).to_vec();
        Ok(Self { sequence, ack, bits, chars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let data = Packet { sequence: 5, ack: None, bits: 0, chars: b"ls\r".to_vec() };
        assert_eq!(data.to_bytes(), [5, 0, 0, 0, b'l', b's', b'\r']);
        let ack = Acknowledgement { sequence: 15, accepted: 200 };
        let nack = Packet { sequence: 0, ack: Some(ack), bits: status::NACK, chars: Vec::new() };
        assert_eq!(nack.to_bytes(), [0, 15, 200, 0x40]);
        for packet in [data, nack] {
            assert_eq!(Packet::parse(&packet.to_bytes()).as_ref(), Ok(&packet));
        }
        // Reserved bits, and a count without a packet it counts.
        let odd = Packet::parse(&[0xF3, 0xF0, 9, 0, b'x']).unwrap();
        assert_eq!(odd, Packet { sequence: 3, ack: None, bits: 0, chars: b"x".to_vec() });
        assert_eq!(Packet::parse(&[0, 0, 0, 0, 0xAA]).unwrap().chars, b"");
        assert!(Packet::parse(&[1, 2, 3]).is_err());
    }
}
