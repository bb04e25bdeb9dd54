//! What a BMC can be asked for, by name: what people and programs are told of a node.

use std::fmt;

/// One capability; each is a trait of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// [`crate::Power`]
    Power,
    /// [`crate::Interrupt`]
    Interrupt,
    /// [`crate::BootDevice`]
    BootDevice,
    /// [`crate::BootModeSetting`]
    BootMode,
    /// [`crate::BootOrder`]
    BootOrder,
    /// [`crate::Identity`]
    Identity,
    /// [`crate::ReadInventory`]
    Inventory,
    /// [`crate::ReadSensors`]
    Sensors,
    /// [`crate::ReadPowerDraw`]
    PowerDraw,
    /// [`crate::EventLog`]
    EventLog,
    /// [`crate::Events`]
    Events,
    /// [`crate::Console`]
    Console,
    /// [`crate::Identify`]
    Identify,
    /// [`crate::ResetBmc`]
    ResetBmc,
    /// [`crate::ReadNetwork`]
    Network,
    /// [`crate::SetNetwork`]
    SetNetwork,
    /// [`crate::Watchdog`]
    Watchdog,
    /// [`crate::Accounts`]
    Accounts,
    /// [`crate::VirtualMedia`]
    VirtualMedia,
    /// [`crate::Bios`]
    Bios,
    /// [`crate::SecureBoot`]
    SecureBoot,
    /// [`crate::Firmware`]
    Firmware,
    /// [`crate::Profile`]
    Profile,
    /// [`crate::Vlans`]
    Vlans,
    /// [`crate::Volumes`]
    Volumes,
}

impl Capability {
    /// All of them, in the order in which they are shown.
    pub const ALL: &'static [Self] = &[
        Self::Power,
        Self::Interrupt,
        Self::BootDevice,
        Self::BootMode,
        Self::BootOrder,
        Self::Identity,
        Self::Inventory,
        Self::Sensors,
        Self::PowerDraw,
        Self::EventLog,
        Self::Events,
        Self::Console,
        Self::Identify,
        Self::ResetBmc,
        Self::Network,
        Self::SetNetwork,
        Self::Watchdog,
        Self::Accounts,
        Self::VirtualMedia,
        Self::Bios,
        Self::SecureBoot,
        Self::Firmware,
        Self::Profile,
        Self::Vlans,
        Self::Volumes,
    ];

    /// In words, also part of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Interrupt => "diagnostic interrupt",
            Self::BootDevice => "boot device",
            Self::BootMode => "boot mode",
            Self::BootOrder => "boot order",
            Self::Identity => "identity",
            Self::Inventory => "inventory",
            Self::Sensors => "sensors",
            Self::PowerDraw => "power draw",
            Self::EventLog => "event log",
            Self::Events => "events",
            Self::Console => "serial console",
            Self::Identify => "locator LED",
            Self::ResetBmc => "BMC reset",
            Self::Network => "BMC network",
            Self::SetNetwork => "BMC network settings",
            Self::Watchdog => "watchdog timer",
            Self::Accounts => "accounts",
            Self::VirtualMedia => "virtual media",
            Self::Bios => "BIOS settings",
            Self::SecureBoot => "Secure Boot",
            Self::Firmware => "firmware update",
            Self::Profile => "settings profile",
            Self::Vlans => "VLANs",
            Self::Volumes => "volumes",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
