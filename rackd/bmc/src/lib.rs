//! Drives baseboard management controllers: one trait per capability, drivers compose them.
//!
//! **What it is.** [`Capability`] lists what a BMC can do, with a trait for each: [`Power`], [`BootDevice`], [`Console`]
//! and so on; [`Bmc`] is a handle made of those a driver offers. The drivers are [`ipmi`] (start at
//! [`ipmi::IpmiHub::bind`]), [`redfish`] (start at [`redfish::RedfishHub::new`]) and [`seamicro`]; [`Auto`] finds out
//! which of the first two. [`Unmanaged`] is for machines
//! without a BMC. [`ssh`] is how a Redfish BMC's console is reached.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use farrier_bmc::ipmi::{BmcAddress, IpmiHub};
//! use farrier_bmc::{BootMode, BootOverride, Deadline, Device, Secret};
//!
//! let hub = IpmiHub::bind().await?;
//! let bmc = hub.bmc(BmcAddress::new("192.0.2.7:623".parse()?, "admin", Secret::new("secret")));
//! let deadline = Deadline::after(Duration::from_secs(30));
//! let network = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
//! bmc.set_boot_device(network, deadline).await?;
//! bmc.power_on(deadline).await?;
//! # Ok(()) }
//! ```
//!
//! **What it must never know.** Nodes, tasks, the centre, the database: it is handed addresses and
//! credentials and answers with typed results. Retrying a whole operation is the task's business;
//! getting one answer through a lossy network is ours.

mod accounts;
mod actor;
mod actors;
mod auto;
mod bios;
mod bmc;
mod bmc_reset;
mod boot_device;
mod boot_mode;
mod boot_order;
mod breaker;
mod by_account;
mod capability;
mod coalesce;
mod console;
mod deadline;
mod draw;
mod either;
mod error;
mod event_log;
mod event_stream;
mod firmware;
mod identify;
mod identity;
mod interrupt;
mod inventory;
pub mod ipmi;
mod look;
mod network;
mod network_settings;
mod not_done;
mod power;
mod profile;
pub mod redfish;
mod restart;
pub mod seamicro;
mod secure_boot;
mod sensors;
pub mod ssh;
mod unmanaged;
mod verdict;
mod virtual_media;
mod vlans;
mod volumes;
mod watchdog;

pub use accounts::{Accounts, Removed};
pub use auto::{Auto, Present, Recognise};
pub use bios::{Bios, BiosSetting, BiosSettings};
pub use bmc::Bmc;
pub use bmc_reset::ResetBmc;
pub use boot_device::{BootDevice, BootMode, BootOverride, Device};
pub use boot_mode::{BootModeSetting, BootModeState};
pub use boot_order::{BootOption, BootOrder, Order};
pub use capability::Capability;
pub use console::{Console, ConsoleEvent, ConsoleInput, ConsoleLine};
pub use deadline::Deadline;
pub use draw::{PowerDraw, ReadPowerDraw};
pub use error::BmcError;
pub use event_log::{BmcEvent, BmcEvents, EventLog};
pub use event_stream::{BmcNotice, EventStream, Events};
pub use farrier_ipmi::completion::CompletionCode;
pub use farrier_ipmi::{CipherSuite, Secret};
pub use farrier_model::StaticAddress;
pub use firmware::{BmcTask, BmcTaskState, Firmware, FirmwareFile, FirmwarePart};
pub use identify::{Identify, Led};
pub use identity::{BmcIdentity, Identity};
pub use interrupt::Interrupt;
pub use inventory::{Inventory, InventoryDisk, InventoryNic, ReadInventory};
pub use look::{Health, Look};
pub use network::{AddressSource, BmcNetwork, NetworkInterface, ReadNetwork};
pub use network_settings::{NetworkSettings, NewAddress, SetNetwork};
pub use not_done::NotDone;
pub use power::{Power, PowerState};
pub use profile::{Profile, ProfileFormat, ProfileShutdown};
pub use restart::Restarted;
pub use secure_boot::{KeyDatabase, KeyReset, SecureBoot, SecureBootKeys, SecureBootState};
pub use sensors::{ReadSensors, SensorHealth, SensorValue, Sensors};
pub use unmanaged::{FAKE, MANUAL, Unmanaged};
pub use virtual_media::{Media, VirtualMedia};
pub use vlans::{NicVlans, Vlans};
pub use volumes::{StoragePool, Volumes};
pub use watchdog::{Watchdog, WatchdogState};
