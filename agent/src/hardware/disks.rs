//! Block devices that can hold an operating system.
use super::{attribute, by_path, bytes, names, number, printable};
use farrier_proto::types::Disk;
use std::path::Path;

/// sysfs counts in 512-byte sectors whatever the disk's block size is
/// (Linux Documentation/ABI/stable/sysfs-block, "size").
const SECTOR_BYTES: i64 = 512;

/// Kernel names that are no disks: memory, media drives, and layers over disks.
const NOT_DISKS: [&str; 10] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock", "drbd"];

/// Every writable disk with something in it, in the kernel's order of names.
pub fn disks(root: &Path) -> Vec<Disk> {
    disk_names(root).into_iter().filter_map(|name| disk(root, &name)).collect()
}

/// Names below `/sys/block` that may be disks.
pub fn disk_names(root: &Path) -> Vec<String> {
    let not_disk = |name: &String| {
        let hardware_partition =
            name.starts_with("mmcblk") && (name.contains("boot") || name.ends_with("rpmb"));
        NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) || hardware_partition
    };
    names(&root.join("sys/block")).into_iter().filter(|n| !not_disk(n)).collect()
}

fn disk(root: &Path, name: &str) -> Option<Disk> {
    let dir = root.join("sys/block").join(name);
    let size_bytes = number(&dir.join("size"))?.checked_mul(SECTOR_BYTES)?;
    let read_only = number(&dir.join("ro")) == Some(1);
    // A path of a multipath NVMe namespace: the namespace itself is listed too.
    let hidden = number(&dir.join("hidden")) == Some(1);
    if size_bytes <= 0 || read_only || hidden {
        return None;
    }
    Some(Disk {
        // The kernel writes "!" for "/" (cciss!c0d0).
        name: format!("/dev/{}", name.replace('!', "/")),
        size_bytes,
        serial_number: serial(&dir),
        wwn: wwn(&dir),
        model: attribute(&dir.join("device/model")),
        rotational: number(&dir.join("queue/rotational")) == Some(1),
        logical_block_bytes: number(&dir.join("queue/logical_block_size"))
            .and_then(|n| i32::try_from(n).ok())
            .filter(|n| *n >= 512)
            .unwrap_or(512),
        by_path: std::fs::canonicalize(&dir)
            .ok()
            .and_then(|path| by_path::by_path(root, &path))
            .unwrap_or_default(),
    })
}

/// virtio has `serial`, NVMe `device/serial`, SCSI and SATA the unit serial number page (SPC-5 §7.7.18).
fn serial(dir: &Path) -> String {
    for file in ["serial", "device/serial"] {
        let serial = attribute(&dir.join(file));
        if !serial.is_empty() {
            return serial;
        }
    }
    printable(vpd_80(&bytes(&dir.join("device/vpd_pg80"))))
}

/// Page 80h: a 4-byte header whose last two bytes are the length, then the serial number.
fn vpd_80(page: &[u8]) -> &[u8] {
    match page {
        [_, 0x80, hi, lo, serial @ ..] => {
            serial.get(..usize::from(u16::from_be_bytes([*hi, *lo]))).unwrap_or(serial)
        }
        _ => &[],
    }
}

/// `naa.…` and `eui.…` are world wide names; `t10.…`, `nvme.…` and `uuid.…` are made of other facts.
fn wwn(dir: &Path) -> String {
    ["wwid", "device/wwid"]
        .iter()
        .map(|file| attribute(&dir.join(file)).to_ascii_lowercase())
        .find_map(|id| {
            let hex = id.strip_prefix("naa.").or_else(|| id.strip_prefix("eui."))?;
            hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| hex.to_owned())
        })
        .unwrap_or_default()
}
