//! Driver `redfish`: DMTF DSP0266 (sections are those of version 1.8) over one HTTP connection a BMC, an actor per BMC.
//!
//! ```text
//!  Bmc handle ──mailbox──► actor ── Link ── Http ──(Dial: TCP, or TLS by the program)──► BMC
//! ```
//! - `hub`: the table of actors and their lives
//! - `driver`: the capabilities in terms of resources
//! - `vendor`: how vendors differ, as data; `recognise`: whose this is
//! - `worked`: which BMCs have worked, so that what one says while it restarts is not believed
//! - `places`: where on this BMC the system, its manager and the rest are
//! - `link`: one request: authentication, ETags, repetition, redirects; `session`: logging in and out; `logins`: what all servers
//!   of a chassis know of their account;
//!   `console_login`: the same of consoles; `refusal`: what a no says
//! - `connections`: all BMCs' together, and which of them stay open; `http`: one exchange on one, bounded in time and size; `persist`: until an answer is worth having
//! - `document`: what came, of which anything may be missing or of another type
//! - `collection`: a collection's members over its pages; `jobs`: Dell's queue
//! - `accounts`, `bios`, `boot_mode`, `boot_order`, `console`, `disks`, `events`, `event_log`, `event_stream`, `firmware`, `media`, `media_boot`, `network`, `profile`, `push`, `secure_boot`,
//!   `secure_boot_keys`, `sensors`, `task`: capabilities with a file of their own
//! - `power`, `boot`, `inventory`, `entry`, `readings`, `sse`: what documents mean; pure
//! - `tuning`: policy as data
//!
//! Our own small client rather than a generated one: BMCs in the field leave out what schemas require, and each
//! capability needs a dozen properties. What is read from where is said in the last of these.

mod account_ways;
mod accounts;
mod address;
mod bios;
mod boot;
mod boot_mode;
mod boot_order;
mod collection;
pub(crate) mod connections;
mod console;
mod console_login;
mod dial;
mod disks;
pub(crate) mod document;
mod driver;
mod entry;
mod event_log;
mod event_stream;
mod events;
mod firmware;
mod health;
pub(crate) mod http;
mod hub;
pub(crate) mod inventory;
mod jobs;
mod link;
pub(crate) mod logins;
mod media;
mod media_boot;
mod network;
mod network_settings;
pub(crate) mod persist;
mod places;
mod power;
mod profile;
mod profile_values;
mod push;
mod readings;
mod recognise;
mod refusal;
#[cfg(test)]
mod scripted;
mod secure_boot;
mod secure_boot_keys;
mod sensors;
mod session;
mod sse;
mod task;
mod tuning;
mod vendor;
mod worked;

pub use address::{HTTP_PORT, HTTPS_PORT, RedfishAddress, Trust};
pub use dial::{Dial, DialError, PlainDial, Stream};
pub use hub::RedfishHub;
pub use tuning::Tuning;
pub use vendor::DRIVERS;
