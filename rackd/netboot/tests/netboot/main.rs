//! The boot servers against programs other people wrote: DHCP, TFTP and HTTP clients, and real firmware in QEMU.
//!
//! Run as root. Each test has its own network namespaces (`lab.rs`), so the real ports are used and tests run in
//! parallel. A program that is missing fails its test and says which Debian package has it.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod dhcp_clients;
mod dhcpv6;
mod firmware;
mod flood;
mod flood6;
mod foreign;
mod foreign6;
mod foreign_floods;
mod frames;
mod full_disk;
mod golden;
mod golden_http;
mod hostile;
mod http_clients;
mod http_hostile;
mod infiniband;
mod kept;
mod lab;
mod lifecycle;
mod load;
mod networkd;
mod networks;
mod pools;
mod proxy;
mod record;
mod relay;
mod relay6;
mod router_advertisement;
mod secure_boot;
mod silent;
mod storm;
mod tftp_clients;
