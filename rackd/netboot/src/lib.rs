//! The rack's boot servers: DHCPv4, DHCPv6, TFTP, HTTP, and the router advertisement that iPXE waits for.
//!
//! *What it is.* Everything between "power on" and a running kernel. A machine asks by DHCP and gets the address
//! reserved for its port; PXE firmware, BIOS or UEFI, is sent iPXE by TFTP (or HTTP); iPXE is sent a script by
//! HTTP, and fetches kernel and initrd. Firmware that runs signed programs only is sent shim and GRUB instead, and all of
//! it by TFTP, since GRUB as distributions sign it has no HTTP. Each step is a [`BootEvent`], so that "why does it not boot?" has an answer.
//!
//! *What it must never know.* gRPC, nodes and their life cycle, BMCs. Its only input is the [`BootTable`]; whoever
//! drives it publishes an entry before a machine is powered on and takes it back afterwards. Nothing that answers a
//! machine waits for anything but this process.
//!
//! *Where to start.* [`table`](BootTable) for the input, `server.rs` ([`Netboot`]) for the running whole,
//! `dhcp/decide.rs` for the policy: a pure function from packet to answer.
//!
//! **Invariant:** no bytes from the wire panic it, name a path, or reach a script or a log unchecked.

mod args;
mod cd;
mod config;
mod datagram;
mod decode;
pub mod dhcp;
pub mod dhcp6;
mod elsewhere;
mod event;
mod given;
mod grub;
pub mod http;
mod inbound;
mod lease;
mod mac;
mod malformed;
mod metrics;
mod neighbours;
mod ra;
mod ramdisk;
mod san;
mod script;
mod scripts;
mod sending;
mod server;
mod socket;
mod table;
mod tftp;
mod thread;
mod unicast;

pub use args::{KernelArgs, KernelArgsError};
pub use cd::{cd_file, cd_script};
pub use config::{Config, LoadError};
pub use decode::{PacketOf, dhcp_in_words, dhcp6_in_words};
pub use dhcp::{BootFiles, Https, SignedChain};
pub use event::{BootEvent, EventKind};
pub use lease::{ClientKey, Lease, LeaseChange, LeaseKind, Leases};
pub use mac::{MacAddr, ParseMacError};
pub use ramdisk::{Ramdisk, Ramdisks};
pub use san::{ChapWord, IscsiName, San, SanError};
pub use server::{Netboot, SegmentStatus};
pub use table::{
    Artifact, ArtifactName, ArtifactNameError, Boot, BootEntry, BootTable, Dhcp, Dhcp6, Joined, Piece, Pool,
    Segment,
};
