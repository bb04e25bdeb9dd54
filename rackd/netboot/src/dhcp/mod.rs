//! DHCPv4 (RFC 2131) for machines that boot: parse → decide → render, and one file with the sockets.
//!
//! `request.rs` reads untrusted bytes, `decide.rs` is the whole policy as a pure function, `pxe.rs` picks boot
//! files, `proxy.rs` is for segments where another server gives the addresses, `reply.rs` writes bytes, as many as
//! `fit.rs` allows, `server.rs` does the I/O: `pace.rs` says when it reads, `batch.rs` takes in, `outlet.rs` sends.

mod batch;
mod bmc;
mod conflict;
mod decide;
mod fit;
mod foreign;
mod frames;
mod infiniband;
mod outlet;
mod pace;
mod proxy;
mod pxe;
mod reply;
mod request;
mod server;
mod unknown;
pub(crate) mod waiting;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;

pub use decide::{Decision, decide};
pub use foreign::describe_answer;
pub(crate) use foreign::{Foreign, Watcher};
pub use proxy::decide_service;
pub(crate) use proxy::{BootService, Heard};
pub(crate) use pxe::{BootFile, boot_file};
pub use pxe::{BootFiles, Https, SignedChain};
pub use reply::{Destination, Reply};
pub(crate) use request::all_options;
pub use request::{Client, Request, RequestError};
pub(crate) use server::Server;
pub(crate) use unknown::UnknownMachines;
