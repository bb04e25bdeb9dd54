//! A simulated Redfish service (DSP0266) in front of a [`Chassis`](super::Chassis), on http or https with a
//! certificate of its own making; beside IPMI for the same machine, or alone.
//!
//! - `server`: sockets, TLS, faults; one request at a time as small BMCs do it
//! - `service`: who may do what: sessions, Basic, ETags, and the way to a resource
//! - `resources`, `chassis`, `log`: what each path holds, as a pure function of the machine
//! - `changes`: PATCH and actions
//! - `config`, `faults`: what it is, and how it misbehaves

mod changes;
mod chassis;
mod config;
mod faults;
mod log;
mod resources;
mod server;
mod service;
mod sessions;

pub use config::{Facts, RedfishConfig};
pub use faults::RedfishFaults;
pub use server::{RedfishHandle, RedfishServer};
