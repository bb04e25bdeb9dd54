//! The virtual rack: QEMU machines, BMC simulators on the wire, pretend nodes by the thousand.

pub mod bmc;
