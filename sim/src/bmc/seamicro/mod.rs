//! A simulated SeaMicro SM15000: the REST API v2.0 of a chassis, on http, in front of several machines.
//!
//! No chassis and no reference of its maker was there. What is asked for, what is sent along and what of an answer is read is
//! python-seamicroclient 0.4.0's and its functional tests'; `macAddr` of a NIC is what MAAS reads. Names and values that
//! neither looks at are left out.
//!
//! - `server`: the socket, faults
//! - `service`: who is let in, and what a path is
//! - `servers`, `storage`: what the chassis has

mod server;
mod servers;
mod service;
mod storage;

pub use server::{SeaMicroFaults, SeaMicroHandle, SeaMicroServer};
pub use service::SeaMicroConfig;
