//! Sans-IO RMCP+ (IPMI v2.0 rev 1.1, chapter 13): packets, session establishment, both ends.
//!
//! **What it is.** Bytes in, bytes out: [`client::Handshake`] turns credentials and datagrams into a
//! [`client::ClientSession`], which seals requests and opens responses; [`server::Server`] is the
//! other end, as a BMC would be. [`sol`] is a serial port in such a session. [`command`] holds the messages
//! `ipmi-rs-core` lacks.
//!
//! **What it must never know.** Sockets, clocks, randomness and tasks: time and random bytes are
//! arguments, so that a whole handshake runs in a test in microseconds. It retransmits nothing and
//! waits for nothing; that policy lives in `rackd/bmc`.
//!
//! **Where to start.** [`datagram::Datagram::parse`] is the front door for untrusted bytes;
//! `tests/pair.rs` runs both ends against each other.
//!
//! Section numbers are those of "IPMI v2.0 specification, document revision 1.1".
//!
//! **Invariant:** no input makes this crate panic; inside a session the MAC is verified before
//! anything else is looked at; cipher suite 0 (no authentication) cannot be expressed.

pub mod asf;
pub mod client;
pub mod command;
pub mod completion;
mod crypto;
pub mod datagram;
mod error;
pub mod fru;
pub mod lan;
pub mod open_session;
pub mod rakp;
mod reader;
pub mod rmcp;
mod seal;
mod secret;
pub mod server;
pub mod sol;
mod status;
mod suite;
pub mod v15;
pub mod v20;
mod window;

pub use error::ParseError;
pub use seal::OpenError;
pub use secret::Secret;
pub use status::RmcpStatus;
pub use suite::CipherSuite;

/// The UDP port of a BMC: the ASF/RMCP primary port (§13.1.2).
pub const RMCP_PORT: u16 = 623;

/// Longest user name in bytes (§13.20, RAKP message 1: "user name length" is at most 16).
pub const MAX_USER_NAME: usize = 16;

/// Longest password and Kg in bytes (§13.31: K\[UID\] and K\[G\] are 160 bits; §22.30).
pub const MAX_KEY: usize = 20;
