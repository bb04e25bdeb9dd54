//! The BMC's end: any number of consoles, a bounded number of sessions.
//!
//! It answers session set-up and the session commands (§22.13 to §22.19) itself and hands every
//! other command to the caller, who answers with [`Server::respond`].

mod establish;
mod session_commands;
mod sessions;

use std::time::{Duration, Instant};

use crate::asf::Asf;
use crate::datagram::Datagram;
use crate::lan::LanMessage;
use crate::seal;
use crate::v20::{Packet, PayloadType};
use crate::{CipherSuite, Secret, v15, v20};
use sessions::{Active, Sessions};

/// A source of random bytes for session ids, challenges and initialisation vectors.
pub trait Entropy {
    /// Fills the buffer.
    fn fill(&mut self, buffer: &mut [u8]);
}

impl<F: FnMut(&mut [u8])> Entropy for F {
    fn fill(&mut self, buffer: &mut [u8]) {
        self(buffer);
    }
}

/// One account.
#[derive(Debug, Clone)]
pub struct User {
    /// At most 16 bytes; the empty name is the null user.
    pub name: String,
    /// At most 20 bytes.
    pub password: Secret,
    /// Highest privilege level the account may take: 2 user, 3 operator, 4 administrator.
    pub max_privilege: u8,
}

/// What a BMC is configured with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Accounts.
    pub users: Vec<User>,
    /// K\[G\]; `None`: the password takes its place.
    pub kg: Option<Secret>,
    /// GUID\[C\], as Get System GUID gives it.
    pub guid: [u8; 16],
    /// The suites on offer.
    pub suites: Vec<CipherSuite>,
    /// Sessions, half-open ones included.
    pub max_sessions: usize,
    /// A session nobody uses for so long ends (§6.12.15: 60 s ± 3 s).
    pub idle_timeout: Duration,
    /// A handshake not finished for so long gives its slot back.
    pub handshake_timeout: Duration,
}

/// What came of a datagram.
#[derive(Debug)]
pub enum Outcome {
    /// Send this back.
    Reply(Vec<u8>),
    /// A command for the caller: answer with [`Server::respond`].
    Request(Request),
    /// A SOL packet of a session, for the caller: answer with [`Server::seal_sol`].
    Sol(SolArrived),
    /// Nothing to do; why, for the log.
    Ignored(&'static str),
}

/// A command that arrived, with what is needed to judge and answer it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The message.
    pub message: LanMessage,
    /// The session it came through; `None` before a session.
    pub session_id: Option<u32>,
    /// Current privilege level of the session; 0 before a session.
    pub privilege: u8,
    /// Before a session: it came in an RMCP+ wrapper, and so must the answer.
    rmcp_plus: bool,
}

/// A SOL packet that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SolArrived {
    /// The session it came through.
    pub session_id: u32,
    /// For [`crate::sol::Endpoint::handle`].
    pub packet: Vec<u8>,
}

/// The sessions of one BMC.
pub struct Server {
    config: ServerConfig,
    sessions: Sessions,
}

impl Server {
    /// A BMC with no sessions.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self { config, sessions: Sessions::default() }
    }

    /// Other accounts from now on. Sessions that are open stay.
    pub fn set_users(&mut self, users: Vec<User>) {
        self.config.users = users;
    }

    /// Sessions that exist now, half-open ones included.
    pub fn session_count(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.sessions.len()
    }

    /// Forgets every session, as a BMC does when it restarts.
    pub fn forget_sessions(&mut self) {
        self.sessions = Sessions::default();
    }

    /// Takes a datagram from anyone.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8], entropy: &mut dyn Entropy) -> Outcome {
        self.expire(now);
        match Datagram::parse(datagram) {
            Ok(Datagram::Asf(Asf::Ping { tag })) => {
                Outcome::Reply(Asf::Pong { tag, ipmi: true }.to_datagram())
            }
            Ok(Datagram::Asf(Asf::Pong { .. })) => Outcome::Ignored("presence pong to a BMC"),
            Ok(Datagram::V15(packet)) => self.pre_session(packet.payload, false),
            // ipmitool asks for the cipher suites so (§13.6 allows it with session id 0).
            Ok(Datagram::V20(packet))
                if packet.session_id == 0 && packet.payload_type == PayloadType::Ipmi =>
            {
                self.pre_session(packet.payload, true)
            }
            Ok(Datagram::V20(packet)) if packet.session_id == 0 => {
                self.outside_session(now, &packet, entropy)
            }
            Ok(Datagram::V20(packet)) => self.in_session(now, &packet, entropy),
            Err(_) => Outcome::Ignored("malformed datagram"),
        }
    }

    /// The datagram that answers a request; `None` if its session has ended meanwhile.
    pub fn respond(
        &mut self,
        request: &Request,
        completion_code: u8,
        data: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Option<Vec<u8>> {
        let response = request.message.respond(completion_code, data);
        match request.session_id {
            None => Some(wrap(&response, request.rmcp_plus)),
            Some(id) => Some(seal_response(self.sessions.active_mut(id)?, &response, entropy)),
        }
    }

    /// The datagram for a SOL packet; `None` if the session has ended.
    pub fn seal_sol(&mut self, session_id: u32, packet: &[u8], entropy: &mut dyn Entropy) -> Option<Vec<u8>> {
        let active = self.sessions.active_mut(session_id)?;
        Some(seal_payload(active, PayloadType::Sol, packet, entropy))
    }

    /// Whether the session is open.
    pub fn has_session(&mut self, now: Instant, session_id: u32) -> bool {
        self.expire(now);
        self.sessions.active_mut(session_id).is_some()
    }

    fn expire(&mut self, now: Instant) {
        self.sessions.expire(now, self.config.idle_timeout, self.config.handshake_timeout);
    }

    fn pre_session(&mut self, payload: &[u8], rmcp_plus: bool) -> Outcome {
        let Ok(message) = LanMessage::parse(payload) else {
            return Outcome::Ignored("malformed IPMI message before a session");
        };
        if !message.is_request() {
            return Outcome::Ignored("response sent to a BMC");
        }
        let request = Request { message, session_id: None, privilege: 0, rmcp_plus };
        match session_commands::pre_session(&self.config, &request.message) {
            Some((code, data)) => Outcome::Reply(wrap(&request.message.respond(code, &data), rmcp_plus)),
            None => Outcome::Request(request),
        }
    }

    fn in_session(&mut self, now: Instant, packet: &Packet<'_>, entropy: &mut dyn Entropy) -> Outcome {
        let Some(active) = self.sessions.active_mut(packet.session_id) else {
            return Outcome::Ignored("no such session");
        };
        let Ok(payload) = seal::open(&active.keys, packet.session_id, packet) else {
            return Outcome::Ignored("packet does not open with the session's keys");
        };
        if !active.window.accept(packet.sequence) {
            return Outcome::Ignored("session sequence number seen before");
        }
        match packet.payload_type {
            PayloadType::Ipmi => {}
            PayloadType::Sol => {
                active.last_used = now;
                return Outcome::Sol(SolArrived { session_id: packet.session_id, packet: payload.to_vec() });
            }
            _ => return Outcome::Ignored("payload type of session set-up inside a session"),
        }
        let Ok(message) = LanMessage::parse(&payload) else {
            return Outcome::Ignored("malformed IPMI message in a session");
        };
        if !message.is_request() {
            return Outcome::Ignored("response sent to a BMC");
        }
        active.last_used = now;
        match session_commands::in_session(&self.config, active, packet.session_id, &message) {
            session_commands::Answer::NotOurs => Outcome::Request(Request {
                session_id: Some(packet.session_id),
                privilege: active.privilege,
                message,
                rmcp_plus: true,
            }),
            session_commands::Answer::Now(code, data) => {
                Outcome::Reply(seal_response(active, &message.respond(code, &data), entropy))
            }
            session_commands::Answer::Close(id) => {
                let code = if self.sessions.exists(id) { 0 } else { session_commands::NO_SUCH_SESSION };
                let reply = self
                    .sessions
                    .active_mut(packet.session_id)
                    .map(|active| seal_response(active, &message.respond(code, &[]), entropy));
                self.sessions.remove(id);
                reply.map_or(Outcome::Ignored("no such session"), Outcome::Reply)
            }
        }
    }
}

/// An answer before a session, in the wrapper of its request.
fn wrap(response: &LanMessage, rmcp_plus: bool) -> Vec<u8> {
    let payload = response.to_bytes();
    if rmcp_plus { v20::wrap_outside_session(PayloadType::Ipmi, &payload) } else { v15::wrap(&payload) }
}

fn seal_response(active: &mut Active, response: &LanMessage, entropy: &mut dyn Entropy) -> Vec<u8> {
    seal_payload(active, PayloadType::Ipmi, &response.to_bytes(), entropy)
}

fn seal_payload(
    active: &mut Active,
    payload_type: PayloadType,
    payload: &[u8],
    entropy: &mut dyn Entropy,
) -> Vec<u8> {
    let mut iv = [0; 16];
    entropy.fill(&mut iv);
    active.sequence = active.sequence.saturating_add(1);
    seal::seal(&active.keys, payload_type, active.console_session_id, active.sequence, payload, &iv)
}
