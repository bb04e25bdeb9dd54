//! A way to boot for arm64 machines: Debian's packages, unpacked and not installed, on a host of another architecture.

use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::cpio::Archive;
use super::kernel::{self, KernelFlavour};
use super::{Key, MediaError, MediaStore, io, make_dir, read};

/// Files of the store.
#[derive(Debug, Clone)]
pub struct Arm64 {
    /// Signed by Microsoft.
    pub shim: PathBuf,
    /// For the network, signed by Debian.
    pub grub: PathBuf,
    /// The same for a disk.
    pub grub_disk: PathBuf,
    /// The same for a CD.
    pub(super) grub_cd: PathBuf,
    /// Signed by Debian.
    pub kernel: PathBuf,
    /// It prints [`Arm64::UP`] and the kernel's command line, and switches the machine off.
    pub initrd: PathBuf,
    /// Static.
    pub(super) busybox: PathBuf,
}

impl Arm64 {
    /// What the ramdisk says.
    pub const UP: &'static str = "FARRIER-ARM64-UP";
}

/// Debian's name of it.
pub(super) const ARCHITECTURE: &str = "arm64";

pub(super) fn fetch(store: &MediaStore) -> Result<Arm64, MediaError> {
    let kernel = kernel::fetch(store, KernelFlavour::CloudArm64)?;
    let apt = Apt::open_foreign(store, ARCHITECTURE)?;
    let mut key = Key::new("arm64");
    key.add(INIT);
    for package in PACKAGES {
        key.add(package).add(&apt.version(package)?);
    }
    let dir = store.cached("arm64", &key, |dir| {
        let root = dir.join("root");
        make_dir(&root)?;
        PACKAGES.iter().try_for_each(|package| apt.unpack(package, &root))?;
        let initrd = dir.join("initrd");
        std::fs::write(&initrd, ramdisk(&root)?).map_err(io(&initrd, "cannot be written"))
    })?;
    let root = dir.join("root");
    let signed = root.join("usr/lib/grub/arm64-efi-signed");
    Ok(Arm64 {
        shim: root.join("usr/lib/shim/shimaa64.efi.signed"),
        grub: signed.join("grubnetaa64.efi.signed"),
        grub_disk: signed.join("grubaa64.efi.signed"),
        grub_cd: signed.join("gcdaa64.efi.signed"),
        kernel: kernel.image,
        initrd: dir.join("initrd"),
        busybox: root.join(BUSYBOX),
    })
}

fn ramdisk(root: &Path) -> Result<Vec<u8>, MediaError> {
    let busybox = read(&root.join(BUSYBOX))?;
    let mut archive = Archive::new();
    archive.dir("bin").dir("dev").dir("proc").char_device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, &busybox).symlink("bin/sh", "busybox");
    archive.file("init", 0o755, INIT.as_bytes());
    Ok(archive.finish())
}

const PACKAGES: [&str; 3] = ["busybox-static", "grub-efi-arm64-signed", "shim-signed"];
const BUSYBOX: &str = "bin/busybox";
const INIT: &str = "#!/bin/sh
/bin/busybox mount -t proc proc /proc
echo \"FARRIER-ARM64-UP $(/bin/busybox uname -m) $(/bin/busybox cat /proc/cmdline)\"
/bin/busybox poweroff -f
";
