//! The service in this process, over real mTLS, on SQLite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod contract;
mod discovered;
mod dispatch;
mod fixture;
mod join;
mod report;
mod shared_account;
mod snapshot;
mod watch;
