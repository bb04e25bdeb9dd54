//! The session table: half-open handshakes and open sessions, both bounded in number and time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::CipherSuite;
use crate::crypto::{Key20, SessionKeys};
use crate::rakp::Exchange;
use crate::window::Window;

/// An open session.
pub(crate) struct Active {
    pub(crate) keys: SessionKeys,
    pub(crate) console_session_id: u32,
    /// Current level; sessions start at user level (§6.8) and are raised by command.
    pub(crate) privilege: u8,
    pub(crate) max_privilege: u8,
    pub(crate) sequence: u32,
    pub(crate) window: Window,
    pub(crate) last_used: Instant,
    /// RAKP 3 that opened the session and our answer: a retransmitted RAKP 3 gets the same answer.
    pub(crate) rakp3: Vec<u8>,
    pub(crate) rakp4: Vec<u8>,
}

/// Open Session was accepted.
pub(crate) struct Opened {
    pub(crate) suite: CipherSuite,
    pub(crate) console_session_id: u32,
    /// Privilege level of Open Session; 0: as high as possible.
    pub(crate) requested_privilege: u8,
    pub(crate) created: Instant,
    /// After a RAKP 1.
    pub(crate) challenged: Option<Challenged>,
}

/// RAKP 1 was answered.
pub(crate) struct Challenged {
    pub(crate) exchange: Exchange,
    pub(crate) kuid: Key20,
    pub(crate) sik: Zeroizing<Vec<u8>>,
    pub(crate) max_privilege: u8,
    /// RAKP 1 and our answer: a retransmitted RAKP 1 gets the same challenge again, so that a late
    /// copy does not spoil a handshake that has moved on.
    pub(crate) rakp1: Vec<u8>,
    pub(crate) rakp2: Vec<u8>,
}

pub(crate) enum Session {
    Opened(Box<Opened>),
    Active(Box<Active>),
}

/// Sessions by the id we gave them.
#[derive(Default)]
pub(crate) struct Sessions(HashMap<u32, Session>);

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn exists(&self, id: u32) -> bool {
        self.0.contains_key(&id)
    }

    pub(crate) fn insert(&mut self, id: u32, session: Session) {
        self.0.insert(id, session);
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Session> {
        self.0.remove(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Session> {
        self.0.get_mut(&id)
    }

    pub(crate) fn active_mut(&mut self, id: u32) -> Option<&mut Active> {
        match self.0.get_mut(&id) {
            Some(Session::Active(active)) => Some(active),
            _ => None,
        }
    }

    /// The half-open session a repeated Open Session request belongs to.
    pub(crate) fn opened_by(&self, console_session_id: u32) -> Option<u32> {
        self.0.iter().find_map(|(id, session)| match session {
            Session::Opened(opened) if opened.console_session_id == console_session_id => Some(*id),
            _ => None,
        })
    }

    pub(crate) fn expire(&mut self, now: Instant, idle: Duration, handshake: Duration) {
        self.0.retain(|_, session| match session {
            Session::Opened(opened) => now.saturating_duration_since(opened.created) < handshake,
            Session::Active(active) => now.saturating_duration_since(active.last_used) < idle,
        });
    }
}
