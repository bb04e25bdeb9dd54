//! Sessions: few, short, each with a token that nobody can guess.

use std::time::{Duration, Instant};

/// A session that is open.
struct Session {
    id: u32,
    token: String,
    user: String,
    last_used: Instant,
}

/// All of them.
pub(super) struct Sessions {
    open: Vec<Session>,
    last_id: u32,
    most: usize,
    idle_timeout: Duration,
}

impl Sessions {
    pub(super) fn new(most: usize, idle_timeout: Duration) -> Self {
        Self { open: Vec::new(), last_id: 0, most, idle_timeout }
    }

    /// Id and token; `None`: all slots are taken.
    pub(super) fn open(&mut self, user: &str, now: Instant) -> Option<(u32, String)> {
        self.expire(now);
        if self.open.len() >= self.most {
            return None;
        }
        self.last_id += 1;
        let token = hex::encode(rand::random::<[u8; 16]>());
        let user = user.to_owned();
        self.open.push(Session { id: self.last_id, token: token.clone(), user, last_used: now });
        Some((self.last_id, token))
    }

    /// Whether the token is good; a good one lives on.
    pub(super) fn admits(&mut self, token: &str, now: Instant) -> bool {
        self.expire(now);
        let found = self.open.iter_mut().find(|session| session.token == token);
        found.map(|session| session.last_used = now).is_some()
    }

    /// Ids, and whose they are.
    pub(super) fn all(&mut self, now: Instant) -> Vec<(u32, String)> {
        self.expire(now);
        self.open.iter().map(|session| (session.id, session.user.clone())).collect()
    }

    /// Whether there was one.
    pub(super) fn close(&mut self, id: u32) -> bool {
        let before = self.open.len();
        self.open.retain(|session| session.id != id);
        self.open.len() < before
    }

    /// How many were opened so far.
    pub(super) fn opened(&self) -> u32 {
        self.last_id
    }

    pub(super) fn forget_all(&mut self) {
        self.open.clear();
    }

    fn expire(&mut self, now: Instant) {
        let limit = self.idle_timeout;
        self.open.retain(|session| now.duration_since(session.last_used) < limit);
    }
}
