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
    /// The bzImage, or on arm64 the Image.
    pub kernel: PathBuf,
    /// zstd-compressed cpio archive.
    pub initrd: PathBuf,
}

/// Builds the ramdisk with the static executable `agent` as `/init`, and `further` drivers, into `dir`.
pub(super) fn build(
    agent: &Path,
    kernel: &Kernel,
    further: &[String],
    dir: &Path,
) -> Result<Ramdisk, MediaError> {
    if let Some(unknown) = further.iter().find(|module| !kernel.has(module)) {
        let what = "is no module of this kernel; their names are those that `modprobe` takes";
        return Err(MediaError::Unexpected(unknown.clone(), what));
    }
    let modules: Vec<&str> = MODULES.iter().copied().chain(further.iter().map(String::as_str)).collect();
    let mut archive = base();
    add_modules(&mut archive, kernel, &modules)?;
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
    let mut archive = base();
    add_modules(&mut archive, kernel, MODULES)?;
    archive.file("bin/busybox", 0o755, busybox).file("init", 0o755, init.as_bytes());
    finish(archive, kernel, dir)
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
pub(super) const RECIPE: &str = "2";

/// What every ramdisk tries. Buses first, then disks, network, file systems. The cloud kernel lacks the hardware ones. What wants a firmware file that is
/// not free (bnx2x, qede) is not among them: nobody may put that into what we build but who has it.
pub(super) const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "nvme",
    "vmd",
    "ahci",
    "sd_mod",
    // Controllers of servers: Broadcom (Dell PERC and HBAs), Microchip (HPE Smart Array, Adaptec), Intel's SAS.
    "megaraid_sas",
    "mpt3sas",
    "smartpqi",
    "hpsa",
    "aacraid",
    "isci",
    // Intel from 1 to 100 Gbit/s, Broadcom, Mellanox, Emulex, Chelsio, Cisco, Solarflare, Aquantia, Realtek.
    "e1000e",
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "tg3",
    "bnxt_en",
    "mlx4_en",
    "mlx5_core",
    "be2net",
    "cxgb4",
    "enic",
    "sfc",
    "atlantic",
    "r8169",
    // Other people's virtual machines.
    "vmxnet3",
    "vmw_pvscsi",
    "hv_netvsc",
    "hv_storvsc",
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
