//! The scheduler in this process between a real inventory, a real images service and a rack that a test
//! plays, over real mTLS, on SQLite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod closing;
mod diskless;
mod fixture;
mod instances;
mod power;
mod rack;
mod requests;
mod secrets;
