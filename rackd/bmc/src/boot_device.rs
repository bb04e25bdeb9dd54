//! Capability: what the firmware boots next.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Where to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// No override: the firmware's own order.
    None,
    /// PXE or HTTP boot.
    Network,
    /// The default disk.
    Disk,
    /// CD or DVD, virtual media included.
    Cdrom,
    /// Firmware set-up.
    BiosSetup,
    /// Something else, read from a BMC: its IPMI selector. Cannot be set.
    Other(u8),
}

/// Firmware mode of the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BootMode {
    /// Legacy.
    Bios,
    /// UEFI.
    Uefi,
}

/// An override of the firmware's boot order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootOverride {
    /// From where.
    pub device: Device,
    /// For every boot from now on, not only for the next.
    pub persistent: bool,
    /// In which mode.
    pub mode: BootMode,
}

/// Sets and reads the boot override.
#[async_trait]
pub trait BootDevice: Send + Sync {
    /// Sets it, reads it back and returns what was read: [`BmcError::NotApplied`] if it is another
    /// device. Persistence and mode may differ, since several BMCs obey those bits without storing
    /// them; whoever depends on them compares. Idempotent.
    async fn set_boot_device(
        &self,
        wanted: BootOverride,
        deadline: Deadline,
    ) -> Result<BootOverride, BmcError>;

    /// Reads it. An override that is used up or was never set is [`Device::None`].
    async fn boot_device(&self, deadline: Deadline) -> Result<BootOverride, BmcError>;
}
