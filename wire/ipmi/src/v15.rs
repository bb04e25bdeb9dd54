//! The IPMI v1.5 session wrapper with authentication type none (§13.6, Figure 13-4): carries the
//! few commands that are allowed before a session (§13.13).

use crate::ParseError;
use crate::reader::Reader;
use crate::rmcp::{self, Class};

/// Authentication type "none" in the low nibble of the first byte.
pub(crate) const AUTH_TYPE_NONE: u8 = 0x00;

/// ```text
/// | auth type 00h | session seq (4, LE) | session id (4, LE) | length (1) | payload |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// An IPMI LAN message.
    pub payload: &'a [u8],
}

/// The datagram around a pre-session IPMI message. Payloads longer than 255 bytes do not fit and
/// are cut, which the receiver notices by the checksum; no pre-session command is near that.
#[must_use]
pub fn wrap(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    let mut out = Vec::with_capacity(rmcp::HEADER_LEN + 10 + payload.len());
    rmcp::emit(Class::Ipmi, &mut out);
    // Session sequence and id are zero outside a session (§13.6).
    out.extend_from_slice(&[AUTH_TYPE_NONE, 0, 0, 0, 0, 0, 0, 0, 0, length]);
    out.extend(payload.iter().take(usize::from(length)));
    out
}

/// `body` starts after the RMCP header. Bytes after the payload are ignored: §13.6 allows a legacy
/// pad byte, and old network chips add more.
pub(crate) fn parse(body: &[u8]) -> Result<Packet<'_>, ParseError> {
    let mut reader = Reader::new("IPMI v1.5 session header", body);
    reader.expect("authentication type", AUTH_TYPE_NONE, "00h (none)")?;
    let _sequence = reader.u32_le()?;
    let session_id = reader.u32_le()?;
    if session_id != 0 {
        return Err(reader.unexpected("session ID", "0 (outside a session)", session_id));
    }
    let length = reader.u8()?;
    Ok(Packet { payload: reader.take(usize::from(length))? })
}
