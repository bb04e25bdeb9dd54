//! Capability: power.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{BmcError, Deadline, Look};

/// What the BMC says about main power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// On.
    On,
    /// Off.
    Off,
}

impl PowerState {
    /// "on" or "off".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Switches a machine. All methods are cancel-safe in that the next call works; whether a
/// cancelled command reached the BMC is not known.
#[async_trait]
pub trait Power: Send + Sync {
    /// Reads the state.
    async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError>;

    /// Reads the state, and the machine's health where the same answer has it: it costs no more.
    async fn look(&self, deadline: Deadline) -> Result<Look, BmcError> {
        self.power_status(deadline).await.map(Look::power_only)
    }

    /// As [`Power::look`], by who does not come again soon: no connection is left open for it.
    async fn glance(&self, deadline: Deadline) -> Result<Look, BmcError> {
        self.look(deadline).await
    }

    /// Asks for power. Idempotent. The BMC may need seconds until the state reads back.
    async fn power_on(&self, deadline: Deadline) -> Result<(), BmcError>;

    /// Takes power away at once. Idempotent.
    async fn power_off(&self, deadline: Deadline) -> Result<(), BmcError>;

    /// Asks the operating system to shut down, once; returns when the BMC has asked. What the BMC does may be to press the power
    /// button, and a second press while the system shuts down makes some abort it: see [`BmcError::may_have_happened`].
    async fn power_soft(&self, deadline: Deadline) -> Result<(), BmcError>;

    /// How long machines of this product are known to take for [`Power::power_soft`]; zero: no longer than others.
    async fn soft_off_takes(&self, _: Deadline) -> Result<Duration, BmcError> {
        Ok(Duration::ZERO)
    }

    /// Off, then on, by the BMC: one that has no such command says so, and [`Bmc::power_cycle`](crate::Bmc::power_cycle) does
    /// both in its place. Not idempotent, so it is sent once: a lost answer is
    /// [`BmcError::AnswerLost`] with the state read afterwards. Prefer off, read back, on.
    async fn power_cycle(&self, deadline: Deadline) -> Result<(), BmcError>;

    /// Hard reset; off and on by the BMC where it has no other. Not idempotent: see [`Power::power_cycle`].
    async fn power_reset(&self, deadline: Deadline) -> Result<(), BmcError>;
}
