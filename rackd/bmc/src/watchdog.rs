//! Capability: the BMC's watchdog timer, which does something to a machine that does not answer it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

/// Reads the timer and stops it.
#[async_trait]
pub trait Watchdog: Send + Sync {
    /// As it is.
    async fn watchdog(&self, deadline: Deadline) -> Result<WatchdogState, BmcError>;

    /// Stops it, and reads it back. Idempotent. The machine's software may start it again.
    async fn disarm_watchdog(&self, deadline: Deadline) -> Result<WatchdogState, BmcError>;
}

/// A timer, in the specification's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogState {
    /// It counts down.
    pub running: bool,
    /// Who has set it; empty: nobody.
    pub timer_use: &'static str,
    /// What it does at its end.
    pub action: &'static str,
    /// From which it counts down.
    pub initial: Duration,
    /// What is left of that.
    pub left: Duration,
    /// Uses in which it has run out.
    pub expired: Vec<&'static str>,
}

impl Bmc {
    /// Adds the watchdog timer.
    #[must_use]
    pub fn with_watchdog(mut self, watchdog: Arc<dyn Watchdog>) -> Self {
        self.watchdog = Some((self.driver(), watchdog));
        self
    }

    /// See [`Watchdog::watchdog`].
    pub async fn watchdog(&self, deadline: Deadline) -> Result<WatchdogState, BmcError> {
        self.give(&self.watchdog, Capability::Watchdog)?.watchdog(deadline).await
    }

    /// See [`Watchdog::disarm_watchdog`].
    pub async fn disarm_watchdog(&self, deadline: Deadline) -> Result<WatchdogState, BmcError> {
        self.give(&self.watchdog, Capability::Watchdog)?.disarm_watchdog(deadline).await
    }
}
