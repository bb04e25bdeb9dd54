//! DHCPv6 (RFC 8415) for firmware that boots by IPv6: addresses and boot file URLs (RFC 5970) for the machines of the
//! table, on segments that have it.
//!
//! There is nothing to keep on disk: a machine's IPv6 address is the segment's prefix with its reserved IPv4 address in the
//! last 32 bits ([`Dhcp6::address`](crate::Dhcp6::address)), so an answer is a function of the table. `request.rs` reads untrusted bytes,
//! `decide.rs` is the whole policy as a pure function, `reply.rs` writes bytes; `server.rs` does I/O, and `foreign.rs`, which looks for
//! servers and routers that are not ours.

mod decide;
mod foreign;
mod reply;
mod request;
mod server;
mod sources;

#[cfg(test)]
mod tests;

pub use decide::{Decision6, decide6};
pub(crate) use foreign::Watcher;
pub use foreign::{describe_advertisement, describe_answer};
pub use request::{Hop, Ia, Request6, Request6Error};
pub(crate) use server::Server;
