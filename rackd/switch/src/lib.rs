//! Plugs a server's port into a network. One trait, small drivers.
//!
//! It must never know what a network is for. Start with [`Switch`].

mod bridge;
mod none;

pub use bridge::Bridges;
pub use none::Static;

use async_trait::async_trait;

/// A switch port, as a node's port names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SwitchPort {
    pub switch: String,
    pub port: String,
}

/// Why a port is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("no such segment {segment}: this rack has {known}")]
    UnknownSegment { segment: String, known: String },
    #[error("expected an interface {name} on this machine, saw none: check the node's switch port")]
    UnknownPort { name: String },
    #[error("port {port}: expected in {expected} after the change, saw {seen}")]
    NotApplied { port: String, expected: String, seen: String },
    #[error("the switch refused: {0}")]
    Refused(String),
}

impl SwitchError {
    /// Whether waiting may help: interfaces come and go with their machines.
    pub fn is_transient(&self) -> bool {
        matches!(self, SwitchError::UnknownPort { .. } | SwitchError::Refused(_))
    }
}

/// Plugs ports into segments. Every call is idempotent and reads back what it did.
#[async_trait]
pub trait Switch: Send + Sync {
    fn driver(&self) -> &'static str;
    /// Makes `port` a member of `segment` and of no other.
    async fn plug(&self, port: &SwitchPort, segment: &str) -> Result<(), SwitchError>;
}
