//! End to end, in this process: real services on real sockets, pretend machines on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bench;
mod pretend_faults;
mod pretend_rack;
