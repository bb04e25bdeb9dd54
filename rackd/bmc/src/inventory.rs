//! Capability: the hardware as the BMC knows it, without booting anything.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// What a BMC says about its machine. Whatever it does not say is empty or zero, and named in `warnings`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Of the machine.
    pub manufacturer: String,
    /// Of the machine.
    pub model: String,
    /// Of the machine.
    pub serial_number: String,
    /// As SMBIOS has it, in text.
    pub uuid: String,
    /// Model of the processors.
    pub cpu_model: String,
    /// Sockets that are filled.
    pub cpu_count: u64,
    /// Hardware threads over all sockets; 0: the BMC does not say.
    pub thread_count: u64,
    /// Main memory.
    pub memory_bytes: u64,
    /// Network interfaces of the machine, not of the BMC.
    pub nics: Vec<InventoryNic>,
    /// Disks of the machine, in the BMC's order.
    pub disks: Vec<InventoryDisk>,
    /// Name and version of everything that has firmware.
    pub firmware: Vec<(String, String)>,
    /// What is missing or unreadable. It never stops an inventory.
    pub warnings: Vec<String>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryNic {
    /// The BMC's name for it.
    pub name: String,
    /// Lower case, with colons.
    pub mac_address: String,
    /// Whether there is a link; `None`: the BMC does not say.
    pub link_up: Option<bool>,
}

/// A disk. What the BMC does not say is empty or zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryDisk {
    /// The BMC's name for it.
    pub name: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial_number: String,
    /// How much it holds.
    pub size_bytes: u64,
    /// In Redfish's words: `HDD`, `SSD`, `SMR`.
    pub media: String,
    /// In Redfish's words: `SATA`, `SAS`, `NVMe` and so on.
    pub protocol: String,
    /// In Redfish's words: `OK`, `Warning`, `Critical`.
    pub health: String,
}

/// Reads the inventory.
#[async_trait]
pub trait ReadInventory: Send + Sync {
    /// Everything the BMC knows.
    async fn inventory(&self, deadline: Deadline) -> Result<Inventory, BmcError>;
}
