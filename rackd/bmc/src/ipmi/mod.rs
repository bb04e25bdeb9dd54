//! Driver `ipmi`: RMCP+ over one shared socket per address family, an actor per BMC.
//!
//! ```text
//!  Bmc handle ──mailbox──► actor ── Link ──► shared UDP socket ──► BMC
//!                            ▲                     │
//!                            └──── inbox ◄── demultiplexed by peer address
//! ```
//! - `hub`: sockets, the table of inboxes, the actors' lives
//! - `link`: one call: session, pacing, retries, re-opening
//! - `open`: finding the cipher suite and opening a session
//! - `pins`: the BMCs with which nobody falls back to the weaker suite
//! - `exchange`: one request, sent until answered
//! - `sol`: the serial console, in a session of its own
//! - `driver`: the capabilities in terms of commands
//! - `tuning`, `quirks`: policy as data
//!
//! The actor and its circuit breaker are `crate::actor` and `crate::breaker`: every driver's.

mod accounts;
mod address;
mod draw;
mod driver;
mod event_log;
mod events;
mod exchange;
mod hub;
mod inventory;
mod lan;
mod link;
mod network;
mod open;
mod pins;
mod quirks;
mod reason;
mod sensors;
mod sol;
mod tuning;
mod watchdog;
mod wire;

pub use address::{BmcAddress, Cipher};
pub use farrier_ipmi::RMCP_PORT;
pub use hub::IpmiHub;
pub use pins::Pins;
pub use quirks::Quirks;
pub use tuning::Tuning;
