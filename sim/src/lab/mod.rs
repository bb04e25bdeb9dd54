//! A whole Farrier installation for tests and the demo: real processes, a real authority, the public API.
//!
//! [`Installation`] runs `farrier-inventory`, `farrier-scheduler`, `farrier-images` and `rackd` in a
//! [`Place`] (a rack's network namespace, or a loopback address of its own); [`Client`] does through the
//! API what an operator would do. It must never reach into a service: whatever a test wants to know, it
//! asks over gRPC or reads from a log.

mod bench;
mod client;
mod config;
mod demo;
mod guest;
mod health;
mod installation;
mod operation;
mod place;
mod process;
mod programs;
mod ramdisk;
mod upload;

pub use bench::{BenchArgs, run as bench};
pub use client::{Client, NewNode};
pub use config::{RackConfig, Segment};
pub use demo::{DemoArgs, run as demo};
pub use installation::{Endpoints, Installation, Service};
pub use operation::{OperationFailed, seconds};
pub use place::{Place, run_on};
pub use process::tail;
pub use programs::Programs;
pub use ramdisk::{RamdiskArgs, ramdisk};
pub use upload::{ImageFile, compress};
