//! Capability: disks that the chassis lends its servers.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Disks of a chassis that volumes are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePool {
    /// The chassis's name for it.
    pub id: String,
    /// In GB, as the chassis counts; `None`: it does not say.
    pub free_gb: Option<u64>,
}

/// Makes volumes, and gives a server its first disk.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// The pools of the chassis.
    async fn storage_pools(&self, deadline: Deadline) -> Result<Vec<StoragePool>, BmcError>;

    /// Makes a volume of so many GB; its id. Idempotent: one of this name in this pool is taken as it is.
    async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        size_gb: u64,
        deadline: Deadline,
    ) -> Result<String, BmcError>;

    /// The volume that the server has as its first disk, if any.
    async fn root_volume(&self, deadline: Deadline) -> Result<Option<String>, BmcError>;

    /// Gives the server this volume as its first disk, in place of another; `None` takes it away. Read back. Idempotent.
    async fn set_root_volume(&self, volume: Option<&str>, deadline: Deadline) -> Result<(), BmcError>;
}
