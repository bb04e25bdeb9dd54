//! A sans-IO TFTP server: bytes in, bytes out, time passed in.
//!
//! *What it is.* The protocol half of a read-only TFTP server: RFC 1350 in octet mode, option negotiation
//! (RFC 2347), `blksize` (RFC 2348), `timeout` and `tsize` (RFC 2349) and `windowsize` (RFC 7440). One
//! [`Transfer`] is one client reading one file.
//!
//! *What it must never know.* Sockets, clocks, files. The caller receives datagrams, tells the transfer the
//! time, and reads the bytes that [`Transmit::Data`] asks for. A file name from the wire is data: this crate
//! never turns it into a path.
//!
//! *Where to start.* [`Packet::parse`] for a datagram, [`ReadRequest`] for what a client asks,
//! [`Transfer::accept`] for the state machine.
//!
//! No input makes this crate panic; `tests.rs` tries.

mod options;
mod pace;
mod packet;
mod transfer;

#[cfg(test)]
mod tests;

pub use options::{Limits, Negotiated};
pub use packet::{
    ErrorCode, MAX_REQUEST_BYTES, Packet, ParseError, ReadRequest, data_header, error, meaning, oack,
};
pub use transfer::{Outcome, Resent, Transfer, Transmit};
