//! Serial over LAN (§15): a serial port in packets of at most 255 characters, each acknowledged.
//!
//! [`Packet`] is one packet; [`Endpoint`] is one end of the line: it repeats what was not acknowledged, tells
//! repetitions from news, and keeps characters the other end had no room for. Both ends are the same but for what
//! the bits of the last header byte mean, so a console and a BMC are the same code.
//!
//! The packets travel sealed in a session, after Activate Payload ([`crate::command::ActivatePayload`]).

mod endpoint;
mod packet;

pub use endpoint::{Endpoint, Heard, Policy, Role};
pub use packet::{Acknowledgement, HEADER_LEN, MAX_CHARS, Packet, operation, status};
