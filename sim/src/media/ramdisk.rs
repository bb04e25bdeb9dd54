//! The ramdisk: a stock kernel, and an initramfs that holds the agent and the drivers it loads.
//!
//! The contract with the agent, which is `/init`: the files `/modules/NNN-name.ko`, not compressed,
//! loaded in the order of their names by `finit_module`, bring up disks and network cards of every
//! machine; nothing else is in the initramfs, so a driver without hardware must not be fatal.

use std::path::{Path, PathBuf};

use super::cpio::Archive;
use super::kernel::{Kernel, module_name};
use super::{MediaError, io, read, write};

/// A kernel and its initramfs.
#[derive(Debug, Clone)]
pub struct Ramdisk {
    /// The bzImage.
    pub kernel: PathBuf,
    /// zstd-compressed cpio archive.
    pub initrd: PathBuf,
}

/// Builds the ramdisk with the static executable `agent` as `/init` into `out_dir`.
pub fn build_ramdisk(agent: &Path, kernel: &Kernel, out_dir: &Path) -> Result<Ramdisk, MediaError> {
    super::make_dir(out_dir)?;
    build(agent, kernel, out_dir)
}

pub(super) fn build(agent: &Path, kernel: &Kernel, dir: &Path) -> Result<Ramdisk, MediaError> {
    let mut archive = with_drivers(kernel)?;
    archive.file("init", 0o755, &read(agent)?);
    finish(archive, kernel, dir)
}

/// Busybox instead of the agent, for comparisons.
pub(super) fn build_script(
    init: &str,
    busybox: &[u8],
    kernel: &Kernel,
    dir: &Path,
) -> Result<Ramdisk, MediaError> {
    let mut archive = with_drivers(kernel)?;
    archive.file("bin/busybox", 0o755, busybox).file("init", 0o755, init.as_bytes());
    finish(archive, kernel, dir)
}

fn with_drivers(kernel: &Kernel) -> Result<Archive, MediaError> {
    let mut archive = base();
    add_modules(&mut archive, kernel, MODULES)?;
    Ok(archive)
}

fn finish(archive: Archive, kernel: &Kernel, dir: &Path) -> Result<Ramdisk, MediaError> {
    std::fs::copy(&kernel.image, dir.join("vmlinuz")).map_err(io(&kernel.image, "cannot be copied"))?;
    write(&dir.join("initrd"), &compress(&archive.finish())?)?;
    open(dir)
}

pub(super) fn open(dir: &Path) -> Result<Ramdisk, MediaError> {
    Ok(Ramdisk { kernel: dir.join("vmlinuz"), initrd: dir.join("initrd") })
}

/// The directories and device nodes every initramfs starts with.
pub(super) fn base() -> Archive {
    let mut archive = Archive::new();
    for dir in ["dev", "proc", "sys", "tmp", "run", "etc", "bin", "mnt", "modules"] {
        archive.dir(dir);
    }
    // The kernel opens /dev/console for /init before anything could mount devtmpfs.
    archive.char_device("dev/console", 5, 1).char_device("dev/null", 1, 3);
    archive
}

/// Adds `modules` and what they need as `/modules/NNN-name.ko`, in load order.
pub(super) fn add_modules(
    archive: &mut Archive,
    kernel: &Kernel,
    modules: &[&str],
) -> Result<(), MediaError> {
    for (number, file) in kernel.closure(modules).iter().enumerate() {
        let name = module_name(&super::text(file));
        archive.file(&format!("modules/{number:03}-{name}.ko"), 0o644, &read(file)?);
    }
    Ok(())
}

/// zstd at a level that takes a second: kernels unpack it faster than gzip and xz, and it is
/// smaller than lz4, which counts on the way through TFTP.
pub(super) fn compress(archive: &[u8]) -> Result<Vec<u8>, MediaError> {
    zstd::bulk::compress(archive, 12).map_err(io(Path::new("initrd"), "cannot be compressed"))
}

/// Version of the recipe: part of the cache key.
pub(super) const RECIPE: &str = "1";

/// Buses first, then disks, network, file systems. The cloud kernel lacks the hardware ones.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "nvme",
    "ahci",
    "sd_mod",
    "e1000e",
    "igb",
    "ixgbe",
    "efivarfs",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "vfat",
    "crc32c_generic",
    "iscsi_tcp",
    "iscsi_ibft",
    "ipmi_si",
    "ipmi_devintf",
    "button",
];
