//! The real machine: the one this program is pid 1 of.
//!
//! `start` is the order of things from the kernel's first instruction in user space to
//! [`crate::run`]; the rest of the folder is one duty a file.
pub mod console;
mod machine;
mod mounts;
mod neighbours;
pub mod netlink;
mod network;
mod own_bmc;
mod start;

pub use machine::LinuxMachine;
pub use neighbours::Neighbours;
pub use start::start;
