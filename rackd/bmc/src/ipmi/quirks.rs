//! Vendor quirks as data.

use farrier_ipmi::command::BootDeviceSelector;

/// Where a vendor's BMC differs from the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// The selector that makes UEFI firmware boot the disk.
    pub uefi_disk: BootDeviceSelector,
}

impl Quirks {
    /// By the specification.
    pub const NONE: Self = Self { uefi_disk: BootDeviceSelector::DISK };

    /// UEFI "disk" must be "remote disk" (24h), as Ironic's driver found.
    pub const SUPERMICRO: Self = Self { uefi_disk: BootDeviceSelector::REMOTE_DISK };

    /// By the manufacturer id of Get Device ID (IANA, 20 bits). Supermicro uses two.
    #[must_use]
    pub fn of(manufacturer_id: u32) -> Self {
        match manufacturer_id & 0xF_FFFF {
            10_876 | 47_488 => Self::SUPERMICRO,
            _ => Self::NONE,
        }
    }
}
