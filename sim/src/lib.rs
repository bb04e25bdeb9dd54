//! The virtual rack: QEMU machines, BMC simulators on the wire, pretend nodes by the thousand.
//!
//! Test equipment. It must never know how Farrier decides anything: it gives the services servers,
//! networks and boot media that behave as real ones do, and nothing more. Start at [`rack`], which
//! puts [`net`] and [`machine`] together; [`media`] builds what the machines boot;
//! [`lab`] runs a whole Farrier beside it.
//!
//! Linux only, and as root: it makes network namespaces and taps.

pub mod bmc;
pub mod cleanup;
pub mod lab;
pub mod link;
pub mod machine;
pub mod media;
pub mod net;
pub mod pretend;
pub mod qmp;
pub mod rack;
pub mod tool;
pub mod virtual_server;
