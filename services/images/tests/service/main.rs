//! The whole service in this process: real sockets, real mTLS, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bench;
mod bytes;
mod catalogue;
mod holds;
mod reservations;
mod uploads;
