//! Capability: UEFI Secure Boot, as the BMC has the firmware set.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

/// What a BMC says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureBootState {
    /// At the next start.
    pub enabled: bool,
    /// At the start that the machine runs from now; `None`: the BMC does not say.
    pub current: Option<bool>,
    /// What keys the firmware takes, in UEFI's words such as `UserMode`; empty: the BMC does not say.
    pub mode: String,
}

/// Which keys a firmware has for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecureBootKeys {
    /// In the BMC's order.
    pub databases: Vec<KeyDatabase>,
    /// As of [`SecureBootState`].
    pub mode: String,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// One database of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyDatabase {
    /// In UEFI's words: `PK`, `KEK`, `db`, `dbx`, and what the machine was delivered with.
    pub id: String,
    /// `None`: the BMC does not say.
    pub certificates: Option<u64>,
    /// Of programs; `None`: the BMC does not say.
    pub signatures: Option<u64>,
}

/// What becomes of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyReset {
    /// Those that the machine was delivered with.
    Default,
    /// None at all.
    DeleteAll,
}

/// Reads and sets Secure Boot.
#[async_trait]
pub trait SecureBoot: Send + Sync {
    /// Reads it.
    async fn secure_boot(&self, deadline: Deadline) -> Result<SecureBootState, BmcError>;

    /// Sets it for the next start on, reads it back and returns what was read: [`BmcError::NotApplied`] if it is not as it
    /// was asked for. Keys are left alone. Idempotent.
    async fn set_secure_boot(&self, enabled: bool, deadline: Deadline) -> Result<SecureBootState, BmcError>;

    /// Counts the keys.
    async fn secure_boot_keys(&self, deadline: Deadline) -> Result<SecureBootKeys, BmcError>;

    /// Replaces all keys. What is returned was read back, and may show it after the machine's next start only. Idempotent.
    async fn reset_secure_boot_keys(
        &self,
        to: KeyReset,
        deadline: Deadline,
    ) -> Result<SecureBootKeys, BmcError>;
}

impl Bmc {
    /// Adds Secure Boot.
    #[must_use]
    pub fn with_secure_boot(mut self, secure_boot: Arc<dyn SecureBoot>) -> Self {
        self.secure_boot = Some((self.driver(), secure_boot));
        self
    }

    /// See [`SecureBoot::secure_boot`].
    pub async fn secure_boot(&self, deadline: Deadline) -> Result<SecureBootState, BmcError> {
        self.either(Capability::SecureBoot, |bmc| async move {
            bmc.give(&bmc.secure_boot, Capability::SecureBoot)?.secure_boot(deadline).await
        })
        .await
    }

    /// See [`SecureBoot::set_secure_boot`].
    pub async fn set_secure_boot(
        &self,
        enabled: bool,
        deadline: Deadline,
    ) -> Result<SecureBootState, BmcError> {
        self.either(Capability::SecureBoot, |bmc| async move {
            bmc.give(&bmc.secure_boot, Capability::SecureBoot)?.set_secure_boot(enabled, deadline).await
        })
        .await
    }

    /// See [`SecureBoot::secure_boot_keys`].
    pub async fn secure_boot_keys(&self, deadline: Deadline) -> Result<SecureBootKeys, BmcError> {
        self.either(Capability::SecureBoot, |bmc| async move {
            bmc.give(&bmc.secure_boot, Capability::SecureBoot)?.secure_boot_keys(deadline).await
        })
        .await
    }

    /// See [`SecureBoot::reset_secure_boot_keys`].
    pub async fn reset_secure_boot_keys(
        &self,
        to: KeyReset,
        deadline: Deadline,
    ) -> Result<SecureBootKeys, BmcError> {
        self.either(Capability::SecureBoot, |bmc| async move {
            bmc.give(&bmc.secure_boot, Capability::SecureBoot)?.reset_secure_boot_keys(to, deadline).await
        })
        .await
    }
}
