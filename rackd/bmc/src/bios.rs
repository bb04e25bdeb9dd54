//! Capability: the settings of a machine's firmware.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Reads and changes the settings of BIOS or UEFI.
#[async_trait]
pub trait Bios: Send + Sync {
    /// All settings, with what they will be after the next start.
    async fn bios(&self, deadline: Deadline) -> Result<BiosSettings, BmcError>;

    /// Changes some, all or none of them, from the machine's next start on; what is returned was read back. A value is
    /// text: what the setting has now says whether it is a number or a truth. Idempotent.
    async fn set_bios(
        &self,
        changes: Vec<(String, String)>,
        deadline: Deadline,
    ) -> Result<BiosSettings, BmcError>;
}

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BiosSettings {
    /// By name.
    pub settings: Vec<BiosSetting>,
    /// The BMC's task or job that will apply what is pending; empty: it needs none.
    pub task: String,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BiosSetting {
    /// The BMC's name for it.
    pub name: String,
    /// What it is now.
    pub value: String,
    /// What it will be after the next start, if that is something else.
    pub pending: Option<String>,
}
