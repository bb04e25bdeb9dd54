//! Capability: all that a machine and its BMC are set to, as one text that the vendor's other machines take too.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

/// How a profile is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileFormat {
    /// XML.
    Xml,
    /// JSON.
    Json,
}

/// What the machine may be told so that a profile can be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileShutdown {
    /// Nothing: what needs a start waits for one.
    None,
    /// Its system is asked to shut down.
    Graceful,
    /// It is switched off.
    Forced,
}

/// Writes and takes profiles.
#[async_trait]
pub trait Profile: Send + Sync {
    /// What the machine is set to, once that is written. `target`: what of it, in the vendor's words.
    async fn export_profile(
        &self,
        format: ProfileFormat,
        target: &str,
        deadline: Deadline,
    ) -> Result<String, BmcError>;

    /// Has the BMC take a profile over, once: the task that does it.
    async fn import_profile(
        &self,
        profile: String,
        target: &str,
        shutdown: ProfileShutdown,
        deadline: Deadline,
    ) -> Result<String, BmcError>;
}

impl Bmc {
    /// Adds profiles.
    #[must_use]
    pub fn with_profile(mut self, profile: Arc<dyn Profile>) -> Self {
        self.profile = Some((self.driver(), profile));
        self
    }

    /// See [`Profile::export_profile`].
    pub async fn export_profile(
        &self,
        format: ProfileFormat,
        target: &str,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        self.either(Capability::Profile, |bmc| async move {
            bmc.give(&bmc.profile, Capability::Profile)?.export_profile(format, target, deadline).await
        })
        .await
    }

    /// See [`Profile::import_profile`].
    pub async fn import_profile(
        &self,
        profile: String,
        target: &str,
        shutdown: ProfileShutdown,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        self.either(Capability::Profile, |bmc| {
            let profile = profile.clone();
            async move {
                bmc.give(&bmc.profile, Capability::Profile)?
                    .import_profile(profile, target, shutdown, deadline)
                    .await
            }
        })
        .await
    }
}
