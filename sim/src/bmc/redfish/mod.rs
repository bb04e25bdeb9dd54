//! A simulated Redfish service (DSP0266) in front of a [`Chassis`](super::Chassis), on http or https with a
//! certificate of its own making; beside IPMI for the same machine, or alone.
//!
//! - `server`: sockets, TLS, faults; one request at a time as small BMCs do it
//! - `service`: who may do what: sessions, Basic, ETags, and the way to a resource
//! - `personality`: whose it pretends to be: Dell's, HPE's, or nobody's
//! - `resources`, `accounts`, `bios`, `boot_order`, `chassis`, `events`, `interfaces`, `lifecycle`, `log`, `profile`, `secure_boot`, `storage`, `tasks`, `update`: what each path holds, as a pure function of the machine
//! - `changes`: PATCH and actions; `password_change`: an account that may do nothing else yet
//! - `config`, `faults`: what it is, and how it misbehaves

mod accounts;
mod bios;
mod boot_order;
mod changes;
mod chassis;
mod config;
mod drive;
mod events;
mod faults;
mod interfaces;
mod lifecycle;
mod log;
mod password_change;
mod personality;
mod profile;
mod resources;
mod secure_boot;
mod server;
mod service;
mod sessions;
mod storage;
mod tasks;
mod update;

pub use config::{Conditions, Facts, RedfishConfig};
pub use faults::{Breakage, Broken, FailsFirst, RedfishFaults};
pub use personality::{ILO_4_RESETS, Personality};
pub use server::{RedfishHandle, RedfishServer};
pub use update::Pushed;
