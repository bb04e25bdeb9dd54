//! The service in this process, over real mTLS, on SQLite.

mod access;
mod contract;
mod dispatch;
mod fixture;
mod join;
