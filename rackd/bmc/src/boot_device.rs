//! Capability: what the firmware boots next.

use std::fmt;

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

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the firmware's own order"),
            Self::Network => f.write_str("network"),
            Self::Disk => f.write_str("disk"),
            Self::Cdrom => f.write_str("CD"),
            Self::BiosSetup => f.write_str("firmware set-up"),
            Self::Other(selector) => write!(f, "another device (selector {selector:X}h)"),
        }
    }
}

impl fmt::Display for BootMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        })
    }
}

impl fmt::Display for BootOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, persistent, mode } = self;
        if *device == Device::None {
            return device.fmt(f);
        }
        write!(f, "{device} {}, {mode}", if *persistent { "always" } else { "once" })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_said_in_words() {
        let said = |device, persistent, mode| BootOverride { device, persistent, mode }.to_string();
        assert_eq!(said(Device::Network, false, BootMode::Uefi), "network once, UEFI");
        assert_eq!(said(Device::BiosSetup, true, BootMode::Bios), "firmware set-up always, BIOS");
        assert_eq!(
            said(Device::Other(0x2C), false, BootMode::Bios),
            "another device (selector 2Ch) once, BIOS"
        );
        assert_eq!(said(Device::None, true, BootMode::Uefi), "the firmware's own order");
    }
}
