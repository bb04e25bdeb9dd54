//! The boot servers against programs other people wrote: DHCP, TFTP and HTTP clients, and real firmware in QEMU.
//!
//! Run as root. Each test has its own network namespaces (`lab.rs`), so the real ports are used and tests run in
//! parallel. A program that is missing fails its test and says which Debian package has it.

mod dhcp_clients;
mod firmware;
mod hostile;
mod http_clients;
mod lab;
mod lifecycle;
mod tftp_clients;
