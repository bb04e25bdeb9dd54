//! ASF presence ping and pong (§13.2.3, §13.2.4): "is there an IPMI LAN controller?", no session.

use crate::ParseError;
use crate::reader::Reader;
use crate::rmcp::{self, Class};

/// The ASF enterprise number, big endian on the wire.
const IANA_ASF: u32 = 4542;
const TYPE_PING: u8 = 0x80;
const TYPE_PONG: u8 = 0x40;

/// The two ASF messages a BMC knows. `tag` comes back in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asf {
    /// "Who is there?"
    Ping {
        /// Echoed by the pong.
        tag: u8,
    },
    /// "A BMC."
    Pong {
        /// The tag of the ping.
        tag: u8,
        /// Supported entities bit 7: speaks IPMI.
        ipmi: bool,
    },
}

impl Asf {
    /// The whole datagram.
    #[must_use]
    pub fn to_datagram(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(28);
        rmcp::emit(Class::Asf, &mut out);
        out.extend_from_slice(&IANA_ASF.to_be_bytes());
        match self {
            Self::Ping { tag } => out.extend_from_slice(&[TYPE_PING, tag, 0, 0]),
            Self::Pong { tag, ipmi } => {
                out.extend_from_slice(&[TYPE_PONG, tag, 0, 16]);
                out.extend_from_slice(&IANA_ASF.to_be_bytes());
                // OEM-defined; then supported entities: bit 7 IPMI, bits 3:0 = 1 "ASF version 1.0".
                out.extend_from_slice(&[0, 0, 0, 0, if ipmi { 0x81 } else { 0x01 }, 0]);
                out.extend_from_slice(&[0; 6]);
            }
        }
        out
    }

    /// `body` starts after the RMCP header.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("ASF message", body);
        let iana = reader.u32_be()?;
        if iana != IANA_ASF {
            return Err(reader.unexpected("IANA enterprise number", "4542 (ASF)", iana));
        }
        let message_type = reader.u8()?;
        let tag = reader.u8()?;
        let _reserved = reader.u8()?;
        let length = reader.u8()?;
        let mut data = Reader::new("ASF data", reader.take(usize::from(length))?);
        match message_type {
            TYPE_PING => Ok(Self::Ping { tag }),
            TYPE_PONG => {
                let _iana_and_oem = data.take(8)?;
                Ok(Self::Pong { tag, ipmi: data.u8()? & 0x80 != 0 })
            }
            other => Err(data.unexpected("message type", "80h (ping) or 40h (pong)", u32::from(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Asf;
    use crate::datagram::Datagram;

    /// §13.2.3: IANA 4542 big endian, type, tag, reserved, length.
    #[test]
    fn ping_has_the_bytes_of_the_specification() {
        assert_eq!(
            Asf::Ping { tag: 9 }.to_datagram(),
            [0x06, 0x00, 0xFF, 0x06, 0x00, 0x00, 0x11, 0xBE, 0x80, 9, 0, 0]
        );
    }

    #[test]
    fn ping_and_pong_round_trip() {
        for message in [Asf::Ping { tag: 3 }, Asf::Pong { tag: 4, ipmi: true }] {
            let Ok(Datagram::Asf(seen)) = Datagram::parse(&message.to_datagram()) else { panic!() };
            assert_eq!(seen, message);
        }
    }
}
