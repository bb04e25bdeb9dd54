//! What the machine is made of, read from `/sys` and `/proc` below a root folder.
//!
//! No dmidecode, no lshw, no shell: the kernel has parsed the firmware tables already. Everything here
//! is a function from a folder to a message, so that a copied tree of any machine is a test.
mod by_path;
mod cpu;
mod disks;
mod nics;
mod smbios;

pub use disks::{disk_names, disks};
pub use nics::{nic_by_mac, nic_names, nics};
pub use smbios::HostInterface;

use crate::machine::GLOBAL_GUID;
use farrier_proto::types::{BootMode, Hardware, System};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Attribute files hold a line or a page; a larger one is not what we think it is.
const MAX_ATTRIBUTE_BYTES: u64 = 1 << 20;
/// Longest text reported for one attribute; SMBIOS strings are shorter.
const MAX_TEXT_CHARS: usize = 256;

/// Reads the whole report. Facts that cannot be read stay empty: a machine without SMBIOS is a machine.
pub fn inspect(root: &Path) -> Hardware {
    Hardware {
        system: Some(system(root)),
        cpu: Some(cpu::cpu(root, std::env::consts::ARCH)),
        memory_bytes: memory_bytes(&text(&root.join("proc/meminfo"))),
        disks: disks(root),
        nics: nics(root),
        boot_mode: boot_mode(root).into(),
        secure_boot: secure_boot(root),
        kernel_release: attribute(&root.join("proc/sys/kernel/osrelease")),
        own_bmc: None,
    }
}

/// SMBIOS type 1, as the kernel exports it.
fn system(root: &Path) -> System {
    let dmi = root.join("sys/class/dmi/id");
    System {
        manufacturer: attribute(&dmi.join("sys_vendor")),
        product: attribute(&dmi.join("product_name")),
        serial_number: attribute(&dmi.join("product_serial")),
        uuid: attribute(&dmi.join("product_uuid")).to_ascii_lowercase(),
    }
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn memory_bytes(meminfo: &str) -> i64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<i64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .unwrap_or(0)
}

fn boot_mode(root: &Path) -> BootMode {
    if root.join("sys/firmware/efi").exists() { BootMode::Uefi } else { BootMode::Bios }
}

/// Variable `SecureBoot` (UEFI 2.10 §3.3): one byte after the four of attributes.
fn secure_boot(root: &Path) -> bool {
    let path = root.join(format!("sys/firmware/efi/efivars/SecureBoot-{GLOBAL_GUID}"));
    bytes(&path).get(4) == Some(&1)
}

/// The bytes of a small file; empty when it cannot be read.
fn bytes(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is not worth keeping: attributes are read whole or not at all.
        if file.take(MAX_ATTRIBUTE_BYTES).read_to_end(&mut out).is_err() {
            out.clear();
        }
    }
    out
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&bytes(path)).into_owned()
}

/// One attribute as a person may read it: trimmed, printable, bounded.
fn attribute(path: &Path) -> String {
    printable(&bytes(path))
}

/// Firmware pads strings with blanks, NULs and worse.
fn printable(raw: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(raw)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TEXT_CHARS)
        .collect();
    text.trim().to_owned()
}

fn number(path: &Path) -> Option<i64> {
    attribute(path).parse().ok()
}

/// Names in a folder, sorted; empty when there is no such folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
