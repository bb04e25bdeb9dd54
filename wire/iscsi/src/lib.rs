//! iSCSI (RFC 7143, RFC 7144) and SCSI block devices (SPC-4, SBC-3), without I/O: bytes in, bytes out. The
//! target's side, and in [`initiator`] as much of the other as reading an image needs. Sockets, files, clocks, randomness and who may log in are behind [`Host`].
//!
//! Start at [`Connection::receive`]: login (`login`), then commands (`connection`), then what a SCSI command
//! means ([`scsi::Unit::plan`]). Error recovery level 0, one connection a session.

mod be;
mod bhs;
mod chap;
mod connection;
mod frame;
mod host;
pub mod initiator;
mod link;
mod login;
mod output;
mod params;
pub mod scsi;
mod text;

pub use bhs::{BHS_LEN, Bhs, RESERVED_TAG, opcode};
pub use chap::{Algorithm, Challenge, Chap, ChapError, Credentials, Secret};
pub use connection::{Closed, Connection, Received};
pub use frame::{Frame, FrameError, FrameRules, Step, next as next_frame};
pub use host::{
    Admission, Denied, Discovered, DiscoveryAccess, Grant, Host, LoginRefused, Now, Refused, Room,
    SessionKind, SessionStart, Target, TaskKey,
};
pub use login::is_iscsi_name;
pub use output::Output;
pub use params::{NegotiationError, Offer, Params, negotiate};
pub use text::{MAX_PAIRS, MAX_TEXT, Pairs, TextError};
