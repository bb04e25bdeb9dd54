//! RMCP+ Open Session request and response (§13.17, §13.18).

use crate::reader::Reader;
use crate::suite::Algorithms;
use crate::{CipherSuite, ParseError, RmcpStatus};

/// Asks for a session with one set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSessionRequest {
    /// Comes back in the response.
    pub tag: u8,
    /// Requested maximum privilege level, low nibble; 0 asks for the highest possible.
    pub max_privilege: u8,
    /// The id the console wants to be addressed by.
    pub console_session_id: u32,
    /// What is proposed.
    pub algorithms: Algorithms,
}

/// The BMC's answer; `accepted` only if `status` is "no errors".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSessionResponse {
    /// The request's tag.
    pub tag: u8,
    /// Accepted or why not.
    pub status: RmcpStatus,
    /// The console's id, echoed.
    pub console_session_id: u32,
    /// What follows on success.
    pub accepted: Option<Accepted>,
}

/// The second half of a good response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Maximum privilege level allowed.
    pub max_privilege: u8,
    /// The id the BMC wants to be addressed by.
    pub bmc_session_id: u32,
    /// What the BMC chose; must be what was proposed.
    pub algorithms: Algorithms,
}

impl OpenSessionRequest {
    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(&[self.tag, self.max_privilege & 0x0F, 0, 0]);
        out.extend_from_slice(&self.console_session_id.to_le_bytes());
        emit_algorithms(self.algorithms, &mut out);
        out
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("Open Session request", payload);
        let [tag, privilege, _, _] = reader.array()?;
        let console_session_id = reader.u32_le()?;
        let algorithms = parse_algorithms(&mut reader)?;
        reader.end()?;
        Ok(Self { tag, max_privilege: privilege & 0x0F, console_session_id, algorithms })
    }

    /// The suite proposed, if it is one we speak.
    #[must_use]
    pub fn suite(&self) -> Option<CipherSuite> {
        CipherSuite::from_algorithms(self.algorithms)
    }
}

impl OpenSessionResponse {
    /// The payload; a refusal is 8 bytes, without ids and algorithms (§13.18).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let privilege = self.accepted.map_or(0, |accepted| accepted.max_privilege);
        let mut out = vec![self.tag, self.status.0, privilege, 0];
        out.extend_from_slice(&self.console_session_id.to_le_bytes());
        if let Some(accepted) = self.accepted {
            out.extend_from_slice(&accepted.bmc_session_id.to_le_bytes());
            emit_algorithms(accepted.algorithms, &mut out);
        }
        out
    }

    /// Reads a payload. What follows the console's id in a refusal is not looked at.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("Open Session response", payload);
        let tag = reader.u8()?;
        let status = RmcpStatus(reader.u8()?);
        if status != RmcpStatus::NO_ERRORS {
            // ipmi_sim and some BMCs cut refusals short; the id is missing then.
            let rest = Reader::new("Open Session refusal", reader.rest());
            let console_session_id = refusal_session_id(rest).unwrap_or(0);
            return Ok(Self { tag, status, console_session_id, accepted: None });
        }
        let [max_privilege, _] = reader.array()?;
        let console_session_id = reader.u32_le()?;
        let bmc_session_id = reader.u32_le()?;
        let algorithms = parse_algorithms(&mut reader)?;
        let accepted = Some(Accepted { max_privilege: max_privilege & 0x0F, bmc_session_id, algorithms });
        Ok(Self { tag, status, console_session_id, accepted })
    }
}

/// Two reserved bytes and the session id, as in every refusal of the handshake.
pub(crate) fn refusal_session_id(mut reader: Reader<'_>) -> Result<u32, ParseError> {
    let _reserved = reader.take(2)?;
    reader.u32_le()
}

/// Three payloads of 8 bytes: type, reserved (2), length 08h, algorithm, reserved (3).
fn emit_algorithms(algorithms: Algorithms, out: &mut Vec<u8>) {
    let numbers = [algorithms.authentication, algorithms.integrity, algorithms.confidentiality];
    for (kind, number) in (0_u8..).zip(numbers) {
        out.extend_from_slice(&[kind, 0, 0, 8, number, 0, 0, 0]);
    }
}

fn parse_algorithms(reader: &mut Reader<'_>) -> Result<Algorithms, ParseError> {
    let mut one = |kind: u8, words: &'static str| -> Result<u8, ParseError> {
        let [seen, _, _, length, algorithm, _, _, _] = reader.array()?;
        if seen != kind {
            return Err(reader.unexpected("algorithm payload type", words, u32::from(seen)));
        }
        // Length 0 is the "null field": BMC chooses (§13.17). We neither send nor accept it.
        if length != 8 {
            return Err(reader.unexpected("algorithm payload length", "08h", u32::from(length)));
        }
        Ok(algorithm & 0x3F)
    };
    Ok(Algorithms {
        authentication: one(0, "00h (authentication)")?,
        integrity: one(1, "01h (integrity)")?,
        confidentiality: one(2, "02h (confidentiality)")?,
    })
}
