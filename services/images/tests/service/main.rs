//! The whole service in this process: real sockets, real mTLS, real files.

mod bench;
mod bytes;
mod catalogue;
mod uploads;
