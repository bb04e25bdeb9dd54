//! Capability: firmware, and what a BMC does that takes longer than a call.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

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

    /// Sends the BMC a file to install, once; otherwise as [`Firmware::update_firmware`]. The deadline is for the whole file.
    async fn push_firmware(
        &self,
        file: FirmwareFile,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError>;

    /// How a task of the BMC gets on.
    async fn task(&self, task: &str, deadline: Deadline) -> Result<BmcTask, BmcError>;
}

/// A file with firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareFile {
    /// Where it is.
    pub path: PathBuf,
    /// So many bytes of it, from the first.
    pub size: u64,
    /// What the BMC is told that it is called: some go by it.
    pub name: String,
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
    /// The update service itself tells it, of whichever update it did last: an end may be that of the one before.
    pub of_service: bool,
}

impl BmcTask {
    /// Of which nothing else is known.
    pub(crate) fn in_state(state: BmcTaskState) -> Self {
        Self { state, message: String::new(), percent: None, of_service: false }
    }
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

impl Bmc {
    /// Adds firmware.
    #[must_use]
    pub fn with_firmware(mut self, firmware: Arc<dyn Firmware>) -> Self {
        self.firmware = Some((self.driver(), firmware));
        self
    }

    /// See [`Firmware::firmware`].
    pub async fn firmware(&self, deadline: Deadline) -> Result<Vec<FirmwarePart>, BmcError> {
        self.either(Capability::Firmware, |bmc| async move {
            bmc.give(&bmc.firmware, Capability::Firmware)?.firmware(deadline).await
        })
        .await
    }

    /// See [`Firmware::update_firmware`].
    pub async fn update_firmware(
        &self,
        url: &str,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        self.either(Capability::Firmware, |bmc| {
            let parts = parts.clone();
            async move {
                bmc.give(&bmc.firmware, Capability::Firmware)?.update_firmware(url, parts, deadline).await
            }
        })
        .await
    }

    /// See [`Firmware::push_firmware`].
    pub async fn push_firmware(
        &self,
        file: FirmwareFile,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        self.either(Capability::Firmware, |bmc| {
            let (file, parts) = (file.clone(), parts.clone());
            async move {
                bmc.give(&bmc.firmware, Capability::Firmware)?.push_firmware(file, parts, deadline).await
            }
        })
        .await
    }

    /// See [`Firmware::task`].
    pub async fn task(&self, task: &str, deadline: Deadline) -> Result<BmcTask, BmcError> {
        self.either(Capability::Firmware, |bmc| async move {
            bmc.give(&bmc.firmware, Capability::Firmware)?.task(task, deadline).await
        })
        .await
    }
}
