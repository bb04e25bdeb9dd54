//! What the fuzz targets do with an input, and what several of them need. The programs in `fuzz_targets` give it to libFuzzer;
//! `tests/replay.rs` needs no fuzzer.

// The tests of what is taken in by path are at home there.
#![cfg(not(test))]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::all,
    reason = "private modules of others are taken in by path"
)]

pub mod targets;

// Private modules of our programs, so that what runs is the code that ships. They name what is beside them from their
// crate's root: this is it.
#[path = "../../rackd/netboot/src/args.rs"]
mod args;
#[path = "../../services/images/src/disks.rs"]
mod disks;
#[path = "../../rackd/netboot/src/grub.rs"]
mod grub;
#[path = "../../services/images/src/import/mod.rs"]
mod import;
#[path = "../../agent/src/commands/loader.rs"]
mod loader;
#[path = "../../rackd/netboot/src/mac.rs"]
mod mac;
#[path = "../../rackd/netboot/src/ramdisk.rs"]
mod ramdisk;
#[path = "../../rackd/netboot/src/san.rs"]
mod san;
#[path = "../../rackd/netboot/src/script.rs"]
mod script;
#[path = "../../rackd/netboot/src/table.rs"]
mod table;

use args::KernelArgs;
use mac::MacAddr;
use ramdisk::{Ramdisk, Ramdisks};
use san::San;
use table::{ArtifactName, Boot};

mod machine {
    pub use farrier_agent::machine::BlockDevice;
}
mod partitions {
    pub use farrier_agent::partitions::{ESP_TYPE, Extent, Gpt, PartitionTable};
}

/// The input as messages: a byte of length, then so many bytes, again and again. Short ones are what
/// fuzzers are good at; the last may be cut.
pub fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first()?;
        let (message, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        Some(message)
    })
}

/// The input's first `N` bytes, zero where it is shorter, and the rest.
pub fn head<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let mut out = [0; N];
    let (first, rest) = data.split_at(N.min(data.len()));
    out[..first.len()].copy_from_slice(first);
    (out, rest)
}
