//! Capability: virtual media, a CD that the BMC reads from elsewhere.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, BootMode, Capability, Deadline};

/// Puts a CD into the drive that a BMC pretends to its machine.
#[async_trait]
pub trait VirtualMedia: Send + Sync {
    /// What is in it.
    async fn media(&self, deadline: Deadline) -> Result<Media, BmcError>;

    /// Puts in what is at a URL that the BMC can reach, in place of what was there, and reads back that it is in.
    /// Idempotent.
    async fn insert_media(&self, url: &str, deadline: Deadline) -> Result<Media, BmcError>;

    /// Takes out what is there. Idempotent.
    async fn eject_media(&self, deadline: Deadline) -> Result<Media, BmcError>;

    /// Makes the machine boot from it the next time it starts, and not after that, by whatever way the BMC has.
    async fn boot_media_once(&self, mode: BootMode, deadline: Deadline) -> Result<(), BmcError>;
}

/// The drive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    /// Whether something is in it.
    pub inserted: bool,
    /// Where the BMC says that it reads it from; may be empty.
    pub image: String,
}

impl Bmc {
    /// Adds virtual media.
    #[must_use]
    pub fn with_virtual_media(mut self, virtual_media: Arc<dyn VirtualMedia>) -> Self {
        self.virtual_media = Some((self.driver(), virtual_media));
        self
    }

    /// See [`VirtualMedia::media`].
    pub async fn media(&self, deadline: Deadline) -> Result<Media, BmcError> {
        self.either(Capability::VirtualMedia, |bmc| async move {
            bmc.give(&bmc.virtual_media, Capability::VirtualMedia)?.media(deadline).await
        })
        .await
    }

    /// See [`VirtualMedia::insert_media`].
    pub async fn insert_media(&self, url: &str, deadline: Deadline) -> Result<Media, BmcError> {
        self.either(Capability::VirtualMedia, |bmc| async move {
            bmc.give(&bmc.virtual_media, Capability::VirtualMedia)?.insert_media(url, deadline).await
        })
        .await
    }

    /// See [`VirtualMedia::eject_media`].
    pub async fn eject_media(&self, deadline: Deadline) -> Result<Media, BmcError> {
        self.either(Capability::VirtualMedia, |bmc| async move {
            bmc.give(&bmc.virtual_media, Capability::VirtualMedia)?.eject_media(deadline).await
        })
        .await
    }

    /// See [`VirtualMedia::boot_media_once`].
    pub async fn boot_media_once(&self, mode: BootMode, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::VirtualMedia, |bmc| async move {
            bmc.give(&bmc.virtual_media, Capability::VirtualMedia)?.boot_media_once(mode, deadline).await
        })
        .await
    }
}
