//! What the owner of the targets hears.

use std::net::SocketAddr;
use std::time::SystemTime;

/// A session, as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    pub target: String,
    pub initiator: String,
    /// The CHAP name that it proved.
    pub user: Option<String>,
    pub peer: SocketAddr,
    pub since: SystemTime,
}

/// Something the owner may want to tell a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    SessionStarted(SessionInfo),
    SessionEnded(SessionInfo),
    /// What the target's disk is stored on fails. Told of a disk once a minute.
    DiskFailed {
        target: String,
        lun: u16,
        reason: String,
    },
    LoginRefused {
        peer: SocketAddr,
        initiator: Option<String>,
        target: Option<String>,
        /// A wrong secret, or none where one is needed.
        suspicious: bool,
        reason: String,
    },
}
