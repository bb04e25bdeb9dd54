//! An open session, console end: seals requests, opens responses.

use ipmi_rs_core::connection::Message;

use crate::CipherSuite;
use crate::crypto::SessionKeys;
use crate::datagram::Datagram;
use crate::lan::LanMessage;
use crate::seal::{self, OpenError};
use crate::v20::PayloadType;
use crate::window::Window;

/// What a packet of the session holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// An IPMI message.
    Message(LanMessage),
    /// A SOL packet, for [`crate::sol::Endpoint::handle`].
    Sol(Vec<u8>),
}

/// Keys, ids and counters of one session.
#[derive(Debug)]
pub struct ClientSession {
    keys: SessionKeys,
    console_session_id: u32,
    bmc_session_id: u32,
    /// The last session sequence number sent; the first packet carries 1 (§13.7).
    sequence: u32,
    rq_seq: u8,
    window: Window,
}

impl ClientSession {
    pub(crate) fn new(keys: SessionKeys, console_session_id: u32, bmc_session_id: u32) -> Self {
        Self { keys, console_session_id, bmc_session_id, sequence: 0, rq_seq: 0, window: Window::default() }
    }

    /// The suite in use.
    #[must_use]
    pub fn suite(&self) -> CipherSuite {
        self.keys.suite
    }

    /// The id the BMC gave this session; Close Session wants it.
    #[must_use]
    pub fn bmc_session_id(&self) -> u32 {
        self.bmc_session_id
    }

    /// Whether the sequence numbers are nearly used up: open another session.
    #[must_use]
    pub fn is_worn_out(&self) -> bool {
        self.sequence > u32::MAX - 1024
    }

    /// A request with the next rqSeq. Seal it once for each try.
    pub fn request(&mut self, message: &Message) -> LanMessage {
        self.rq_seq = self.rq_seq.wrapping_add(1) & 0x3F;
        LanMessage::request(message, self.rq_seq)
    }

    /// The datagram for one try: same rqSeq, fresh session sequence number, so that the BMC's
    /// replay window lets a retransmission through (§6.12.14) and its answer still matches.
    /// `iv` is 16 fresh random bytes.
    pub fn seal(&mut self, request: &LanMessage, iv: &[u8; 16]) -> Vec<u8> {
        self.seal_payload(PayloadType::Ipmi, &request.to_bytes(), iv)
    }

    /// The datagram for a SOL packet. `iv` is 16 fresh random bytes.
    pub fn seal_sol(&mut self, packet: &[u8], iv: &[u8; 16]) -> Vec<u8> {
        self.seal_payload(PayloadType::Sol, packet, iv)
    }

    fn seal_payload(&mut self, payload_type: PayloadType, payload: &[u8], iv: &[u8; 16]) -> Vec<u8> {
        self.sequence = self.sequence.saturating_add(1);
        seal::seal(&self.keys, payload_type, self.bmc_session_id, self.sequence, payload, iv)
    }

    /// A message of this session out of a datagram. Whether it answers the request at hand is for
    /// [`LanMessage::answers`] to say.
    pub fn open(&mut self, datagram: &[u8]) -> Result<LanMessage, OpenError> {
        match self.open_any(datagram)? {
            Incoming::Message(message) => Ok(message),
            Incoming::Sol(_) => Err(OpenError::Malformed("SOL packet where no SOL was asked for")),
        }
    }

    /// As [`ClientSession::open`], of a session that also carries SOL.
    pub fn open_any(&mut self, datagram: &[u8]) -> Result<Incoming, OpenError> {
        let Ok(Datagram::V20(packet)) = Datagram::parse(datagram) else {
            return Err(OpenError::Unprotected);
        };
        let payload = seal::open(&self.keys, self.console_session_id, &packet)?;
        if !self.window.accept(packet.sequence) {
            return Err(OpenError::Replayed(packet.sequence));
        }
        match packet.payload_type {
            PayloadType::Ipmi => LanMessage::parse(&payload)
                .map(Incoming::Message)
                .map_err(|_| OpenError::Malformed("IPMI LAN message")),
            PayloadType::Sol => Ok(Incoming::Sol(payload.to_vec())),
            _ => Err(OpenError::Malformed("payload type of session set-up inside a session")),
        }
    }
}
