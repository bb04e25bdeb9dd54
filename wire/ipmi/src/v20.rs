//! The IPMI v2.0 (RMCP+) session header (§13.6, Table 13-8), before any MAC is verified.

use crate::ParseError;
use crate::reader::Reader;
use crate::rmcp::{self, Class};

/// Authentication type / format "RMCP+".
pub(crate) const AUTH_TYPE_RMCP_PLUS: u8 = 0x06;
const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;

/// Payload types (§13.27.3, Table 13-16). Types we do not speak are refused when parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PayloadType {
    /// An IPMI LAN message.
    Ipmi = 0x00,
    /// Serial over LAN.
    Sol = 0x01,
    /// Open Session request.
    OpenSessionRequest = 0x10,
    /// Open Session response.
    OpenSessionResponse = 0x11,
    /// RAKP message 1.
    Rakp1 = 0x12,
    /// RAKP message 2.
    Rakp2 = 0x13,
    /// RAKP message 3.
    Rakp3 = 0x14,
    /// RAKP message 4.
    Rakp4 = 0x15,
}

impl PayloadType {
    fn from_code(code: u8) -> Option<Self> {
        [
            Self::Ipmi,
            Self::Sol,
            Self::OpenSessionRequest,
            Self::OpenSessionResponse,
            Self::Rakp1,
            Self::Rakp2,
            Self::Rakp3,
            Self::Rakp4,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == code)
    }
}

/// ```text
/// | 06h | E A payload type | session id (4, LE) | session seq (4, LE) | length (2, LE) | payload |
/// | integrity pad FFh… | pad length | next header 07h | MAC |   (only in authenticated packets)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the payload is.
    pub payload_type: PayloadType,
    /// The payload is encrypted.
    pub encrypted: bool,
    /// A MAC follows the payload.
    pub authenticated: bool,
    /// The id the *receiver* of this packet chose; 0 outside a session.
    pub session_id: u32,
    /// Session sequence number; 0 outside a session.
    pub sequence: u32,
    /// The payload as it came.
    pub payload: &'a [u8],
    /// All bytes from the authentication type to the end: what the MAC covers, and the MAC.
    pub(crate) authenticated_part: &'a [u8],
    /// The bytes after the payload.
    pub(crate) trailer: &'a [u8],
}

/// Writes RMCP header, session header and payload; the caller appends the trailer.
pub(crate) fn emit_header(
    payload_type: PayloadType,
    protected: bool,
    session_id: u32,
    sequence: u32,
    payload: &[u8],
) -> Vec<u8> {
    // IPMI payloads are at most a few hundred bytes; a longer one is cut and fails its checksum.
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let flags = if protected { ENCRYPTED | AUTHENTICATED } else { 0 };
    let mut out = Vec::with_capacity(rmcp::HEADER_LEN + 12 + payload.len() + 24);
    rmcp::emit(Class::Ipmi, &mut out);
    out.extend_from_slice(&[AUTH_TYPE_RMCP_PLUS, flags | payload_type as u8]);
    out.extend_from_slice(&session_id.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend(payload.iter().take(usize::from(length)));
    out
}

/// A datagram of session establishment: no session, no protection (§13.6: both are 0).
pub(crate) fn wrap_outside_session(payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    emit_header(payload_type, false, 0, 0, payload)
}

/// `body` starts after the RMCP header.
pub(crate) fn parse(body: &[u8]) -> Result<Packet<'_>, ParseError> {
    let mut reader = Reader::new("RMCP+ session header", body);
    reader.expect("authentication type", AUTH_TYPE_RMCP_PLUS, "06h (RMCP+)")?;
    let kind = reader.u8()?;
    let Some(payload_type) = PayloadType::from_code(kind & 0x3F) else {
        let expected = "00h (IPMI), 01h (SOL) or 10h to 15h (session set-up)";
        return Err(reader.unexpected("payload type", expected, u32::from(kind & 0x3F)));
    };
    let session_id = reader.u32_le()?;
    let sequence = reader.u32_le()?;
    let length = reader.u16_le()?;
    let payload = reader.take(usize::from(length))?;
    Ok(Packet {
        payload_type,
        encrypted: kind & ENCRYPTED != 0,
        authenticated: kind & AUTHENTICATED != 0,
        session_id,
        sequence,
        payload,
        authenticated_part: body,
        trailer: reader.rest(),
    })
}
