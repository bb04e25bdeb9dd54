//! What the owner of the targets hears.

use std::net::SocketAddr;
use std::time::SystemTime;

/// A session, as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    pub target: String,
    pub initiator: String,
    pub peer: SocketAddr,
    pub since: SystemTime,
}

/// Something the owner may want to tell a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    SessionStarted(SessionInfo),
    SessionEnded(SessionInfo),
    LoginRefused {
        peer: SocketAddr,
        initiator: Option<String>,
        target: Option<String>,
        /// A wrong secret, or none where one is needed.
        suspicious: bool,
        reason: String,
    },
}
