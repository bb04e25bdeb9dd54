//! A connection of the target: login, then a session, then the end.
//!
//! `receive` takes bytes, `output` gives bytes, `complete` brings back what the medium did not do at once.

mod command;
mod data_in;
mod data_out;
mod session;
mod task_management;
mod text;

use crate::bhs::{Bhs, opcode};
use crate::frame::{self, FrameError, FrameRules, Step};
use crate::host::{Host, LoginRefused, SessionStart, TaskKey};
use crate::link::Link;
use crate::login::Login;
use crate::output::Output;
use crate::params::{Offer, Params};
use crate::scsi::Refusal;

use session::Session;

/// One connection. At one connection a session, also the session.
#[derive(Debug)]
pub struct Connection {
    offer: Offer,
    limits: Limits,
    link: Link,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    Full(Box<Session>),
    Closed,
}

/// What one connection may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes that are held for commands of this session: write data on its way, reads that wait.
    pub(crate) outstanding: usize,
}

/// What came of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes that are done with.
    pub consumed: usize,
    /// Bytes the next PDU needs, as far as that is known.
    pub need: usize,
    /// Stopped before the end: call again when output was sent or work was completed.
    pub blocked: bool,
}

/// Why a connection ends. What is in the output is sent before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    #[error("logged out")]
    LoggedOut,
    #[error("login refused: {}", .0.reason)]
    LoginRefused(Box<LoginRefused>),
    #[error("protocol error: {0}")]
    Protocol(String),
}

impl Connection {
    /// `outstanding`: bytes held at once for commands under way.
    pub fn new(offer: Offer, outstanding: usize) -> Connection {
        // StatSN may begin anywhere (RFC 7143 section 4.2.2.2).
        let link = Link { out: Output::default(), stat_sn: 1, exp_cmd_sn: 0 };
        Connection { offer, limits: Limits { outstanding }, link, phase: Phase::Login(Box::default()) }
    }

    /// Handles every PDU that is whole, until the output is long enough.
    pub fn receive<H: Host>(&mut self, bytes: &[u8], host: &mut H) -> Result<Received, Closed> {
        let mut consumed = 0;
        loop {
            if self.is_blocked() {
                return Ok(Received { consumed, need: 0, blocked: true });
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            match frame::next(rest, &self.rules()) {
                Ok(Step::Need(need)) => return Ok(Received { consumed, need, blocked: false }),
                Ok(Step::Frame(found)) => {
                    let ahs = rest.get(found.ahs.clone()).unwrap_or_default();
                    let data = rest.get(found.data.clone()).unwrap_or_default();
                    self.pdu(&found.bhs, ahs, data, host)?;
                    consumed += found.len;
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// The medium is done with `task`: the result of [`crate::scsi::Unit::finish`].
    pub fn complete<H: Host>(
        &mut self,
        task: TaskKey,
        result: Result<Vec<u8>, Refusal>,
        host: &mut H,
    ) -> Result<(), Closed> {
        let Phase::Full(session) = &mut self.phase else { return Ok(()) };
        session.complete(&mut self.link, task, result, host)
    }

    pub fn output(&mut self) -> &mut Output {
        &mut self.link.out
    }

    /// The session, once the login is through.
    pub fn session(&self) -> Option<&SessionStart> {
        match &self.phase {
            Phase::Full(session) => Some(&session.start),
            _ => None,
        }
    }

    pub fn params(&self) -> Option<&Params> {
        match &self.phase {
            Phase::Full(session) => Some(&session.params),
            _ => None,
        }
    }

    /// Whether work that the medium promised is still to come back.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.phase, Phase::Full(session) if session.in_flight() > 0)
    }

    /// Whether so much waits to be sent that nothing should be made ready before it is.
    pub fn is_full(&self) -> bool {
        self.link.out.pending().len() >= ENOUGH_OUTPUT
    }

    /// Asks whether the initiator is there (RFC 7143 section 11.19). Any PDU of it is an answer.
    pub fn ping(&mut self) {
        if let Phase::Full(session) = &mut self.phase {
            session.ping(&mut self.link);
        }
    }

    /// Tells the initiator that the target drops the connection, and when to come back (section 11.9, event 2).
    pub fn say_drop(&mut self) {
        if let Phase::Full(session) = &mut self.phase {
            session.say_drop(&mut self.link);
        }
    }

    /// The connection is gone: the units forget the nexus.
    pub fn end(&mut self) {
        if let Phase::Full(session) = &mut self.phase {
            session.end();
        }
        self.phase = Phase::Closed;
    }

    fn rules(&self) -> FrameRules {
        match &self.phase {
            // The default during login (RFC 7143 section 13.12), and no digests (section 13.1).
            Phase::Login(_) | Phase::Closed => {
                FrameRules { header_digest: false, data_digest: false, max_data: 8192 }
            }
            Phase::Full(session) => FrameRules {
                header_digest: session.params.header_digest,
                data_digest: session.params.data_digest,
                max_data: self.offer.max_recv_data,
            },
        }
    }

    fn is_blocked(&self) -> bool {
        if self.link.out.pending().len() >= ENOUGH_OUTPUT {
            return true;
        }
        matches!(&self.phase, Phase::Full(session) if session.is_blocked())
    }

    fn pdu<H: Host>(&mut self, bhs: &Bhs, ahs: &[u8], data: &[u8], host: &mut H) -> Result<(), Closed> {
        match &mut self.phase {
            Phase::Closed => Err(Closed::Protocol("after the end".into())),
            Phase::Login(login) => {
                if bhs.opcode() != opcode::LOGIN_REQUEST {
                    return Err(Closed::Protocol(format!("opcode {:#04x} before login", bhs.opcode())));
                }
                self.link.exp_cmd_sn = bhs.cmd_sn();
                let done = login
                    .request(bhs, data, &self.offer, &mut self.link, host)
                    .map_err(|refused| Closed::LoginRefused(Box::new(refused)))?;
                if let Some(established) = done {
                    self.link.out.header_digest = established.params.header_digest;
                    self.link.out.data_digest = established.params.data_digest;
                    self.phase = Phase::Full(Box::new(Session::new(established, self.limits)));
                }
                Ok(())
            }
            Phase::Full(session) => session.pdu(&mut self.link, bhs, ahs, data, host),
        }
    }

    fn broken(&mut self, error: FrameError) -> Closed {
        if let FrameError::DataDigest(bhs) = &error {
            // Reason 02h, then the connection goes: level 0 has no other recovery (RFC 7143 section 7.8).
            session::reject(&mut self.link, bhs, 0x02);
        }
        Closed::Protocol(error.to_string())
    }
}

/// Answers that wait to be sent: more are not made before.
const ENOUGH_OUTPUT: usize = 512 << 10;

#[cfg(test)]
mod tests;
