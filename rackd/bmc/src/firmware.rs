//! Capability: firmware, and what a BMC does that takes longer than a call.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Lists and updates firmware.
#[async_trait]
pub trait Firmware: Send + Sync {
    /// What has firmware.
    async fn firmware(&self, deadline: Deadline) -> Result<Vec<FirmwarePart>, BmcError>;

    /// Has the BMC fetch an image from a URL and install it, once. Without parts the BMC finds out from the image what it
    /// is for. The task that does it; empty: it has been done, or the BMC tells nothing of it.
    async fn update_firmware(
        &self,
        url: &str,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError>;

    /// How a task of the BMC gets on.
    async fn task(&self, task: &str, deadline: Deadline) -> Result<BmcTask, BmcError>;
}

/// Something that has firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirmwarePart {
    /// The BMC's name for it, which an update is told.
    pub id: String,
    /// What it is.
    pub name: String,
    /// What it has.
    pub version: String,
    /// Whether this BMC can update it; `None`: it does not say.
    pub updateable: Option<bool>,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcTask {
    /// In four words.
    pub state: BmcTaskState,
    /// In the BMC's own words.
    pub message: String,
    /// Of a hundred; `None`: it does not say.
    pub percent: Option<u8>,
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BmcTaskState {
    /// It waits, most often for a start of the machine.
    Waiting,
    /// It works.
    Running,
    /// It has done what it was to do.
    Done,
    /// It has not.
    Failed,
}
