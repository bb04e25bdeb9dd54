//! Capability: the mode that a machine's firmware starts in, whatever it starts from.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, BootMode, Capability, Deadline};

/// What a BMC says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootModeState {
    /// Now; `None`: the BMC does not say, or both are tried.
    pub current: Option<BootMode>,
    /// After the next start, where that is another.
    pub pending: Option<BootMode>,
    /// Which can be set.
    pub settable: Vec<BootMode>,
    /// What says so, by the BMC's name for it.
    pub setting: String,
    /// The BMC's task or job that will apply what is pending; empty: it needs none.
    pub task: String,
}

impl BootModeState {
    /// The mode of the next start.
    #[must_use]
    pub fn next(&self) -> Option<BootMode> {
        self.pending.or(self.current)
    }
}

/// Reads and sets the mode. A boot override has a mode too, which is for what it starts from alone: see
/// [`crate::BootDevice`].
#[async_trait]
pub trait BootModeSetting: Send + Sync {
    /// Reads it.
    async fn boot_mode(&self, deadline: Deadline) -> Result<BootModeState, BmcError>;

    /// Sets it for all starts from the next on, and reads it back: [`BmcError::NotApplied`] if that is another. Idempotent.
    async fn set_boot_mode(&self, mode: BootMode, deadline: Deadline) -> Result<BootModeState, BmcError>;
}

impl Bmc {
    /// Adds the boot mode.
    #[must_use]
    pub fn with_boot_mode(mut self, boot_mode: Arc<dyn BootModeSetting>) -> Self {
        self.boot_mode = Some((self.driver(), boot_mode));
        self
    }

    /// See [`BootModeSetting::boot_mode`].
    pub async fn boot_mode(&self, deadline: Deadline) -> Result<BootModeState, BmcError> {
        self.either(Capability::BootMode, |bmc| async move {
            bmc.give(&bmc.boot_mode, Capability::BootMode)?.boot_mode(deadline).await
        })
        .await
    }

    /// See [`BootModeSetting::set_boot_mode`].
    pub async fn set_boot_mode(&self, mode: BootMode, deadline: Deadline) -> Result<BootModeState, BmcError> {
        self.either(Capability::BootMode, |bmc| async move {
            bmc.give(&bmc.boot_mode, Capability::BootMode)?.set_boot_mode(mode, deadline).await
        })
        .await
    }
}
