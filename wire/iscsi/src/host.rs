//! What a connection needs from the world.

use std::sync::Arc;

use crate::chap::Chap;
use crate::scsi::{MediaError, MediaOp, MediaReply, TaskAge, Unit};

/// A target: a name and its logical units.
#[derive(Debug)]
pub struct Target {
    /// iSCSI name (RFC 7143 section 4.2.7).
    pub name: String,
    pub alias: String,
    /// In the order of their numbers.
    pub units: Vec<Arc<Unit>>,
}

/// A login that may go on.
#[derive(Debug, Clone)]
pub struct Admission {
    pub target: Arc<Target>,
    /// Of which one has to be proved; none: nothing.
    pub accounts: Vec<Chap>,
}

/// Why a target is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No such target, or none for this initiator: the two are not told apart.
    NotFound,
    /// The target is there and not ready.
    Unavailable,
}

/// What a discovery session may have to prove, since what it is shown depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoveryAccess {
    /// One who proves nothing is let in too, and is shown what needs no secret.
    pub anonymous: bool,
    /// Secrets of which one may be proved; none: there is nothing to prove.
    pub accounts: Vec<Chap>,
}

/// A line of SendTargets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    pub name: String,
    /// `host:port,portal-group`.
    pub addresses: Vec<String>,
}

/// A session that is about to begin.
#[derive(Debug, Clone)]
pub struct SessionStart {
    pub initiator: String,
    pub isid: [u8; 6],
    pub kind: SessionKind,
    /// What it has proved.
    pub proved: Option<Chap>,
}

#[derive(Debug, Clone)]
pub enum SessionKind {
    Discovery,
    Normal(Arc<Target>),
}

/// What a new session is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Target session identifying handle, not zero.
    pub tsih: u16,
    /// Unique in the process.
    pub nexus: u64,
    /// Relative target port identifier of the portal it came by, from 1.
    pub target_port: u16,
}

/// Why a session is not begun: too many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// A login that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRefused {
    pub initiator: Option<String>,
    pub target: Option<String>,
    /// Status class and detail (RFC 7143 section 11.13.5).
    pub status: u16,
    /// A wrong secret, or none: answer late.
    pub suspicious: bool,
    pub reason: String,
}

/// Names work that is not finished at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskKey(pub u64);

/// Memory that a command holds; dropping it gives it back.
pub type Room = Box<dyn std::any::Any + Send + Sync>;

/// Whether something happened at once.
#[derive(Debug)]
pub enum Now<T> {
    Done(T),
    Failed(MediaError),
    /// It would have to wait.
    Later,
}

/// The world of a connection: who may log in, and the media.
pub trait Host {
    /// A login names a target.
    fn admit(&mut self, initiator: &str, target: &str) -> Result<Admission, Denied>;

    /// What a discovery session has to prove.
    fn discovery_access(&mut self, initiator: &str) -> DiscoveryAccess;

    /// The targets that a session is shown: those it may log in to with what it has proved.
    fn discover(&mut self, session: &SessionStart) -> Vec<Discovered>;

    fn random(&mut self, bytes: &mut [u8]);

    /// A login is through. Ends a session of the same initiator port and target (RFC 7143 section 6.3.5).
    fn session(&mut self, start: &SessionStart) -> Result<Grant, Refused>;

    fn login_refused(&mut self, refused: &LoginRefused);

    /// Room for write data that is still to come, beyond what the connection itself may hold, or for the answer of a
    /// large read until it is sent; `None`: there is none now, and the initiator hears TASK SET FULL or BUSY.
    fn room(&mut self, bytes: usize) -> Option<Room> {
        let _ = bytes;
        Some(Box::new(()))
    }

    /// Reads into `place` if that does not wait.
    fn read(&mut self, unit: &Arc<Unit>, offset: u64, place: &mut [u8]) -> Now<()>;

    /// Does `op` at once, or says [`Now::Later`] and does it then. `data` is what the initiator sent for it,
    /// exactly [`MediaOp::data_out`] bytes.
    ///
    /// Just before it touches the medium, [`Unit::is_current`] says whether the task is still there: one that was
    /// aborted, or whose session was replaced, must not happen any more. A sanitize happens all the same.
    ///
    /// Done later, the result goes to [`Unit::finish`], also if the connection is gone, and what that gives
    /// to [`crate::Connection::complete`].
    fn run(
        &mut self,
        task: TaskKey,
        unit: &Arc<Unit>,
        age: TaskAge,
        op: &MediaOp,
        data: &[u8],
    ) -> Now<MediaReply>;
}
