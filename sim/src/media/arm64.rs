//! A way to boot for arm64 machines: Debian's packages, unpacked and not installed, on a host of another architecture.

use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::cpio::Archive;
use super::{Key, MediaError, MediaStore, io, make_dir, read, text};
use crate::tool;

/// Files of the store.
#[derive(Debug, Clone)]
pub struct Arm64 {
    /// Signed by Microsoft.
    pub shim: PathBuf,
    /// For the network, signed by Debian.
    pub grub: PathBuf,
    /// Signed by Debian.
    pub kernel: PathBuf,
    /// It prints [`Arm64::UP`] and the kernel's command line, and switches the machine off.
    pub initrd: PathBuf,
}

impl Arm64 {
    /// What the ramdisk says.
    pub const UP: &'static str = "FARRIER-ARM64-UP";
}

pub(super) fn fetch(store: &MediaStore) -> Result<Arm64, MediaError> {
    let apt = Apt::open_foreign(store, "arm64")?;
    let kernel = apt.dependency("linux-image-cloud-arm64", "linux-image-")?;
    let packages = [kernel.as_str(), "busybox-static", "grub-efi-arm64-signed", "shim-signed"];
    let mut key = Key::new("arm64");
    key.add(INIT);
    for package in packages {
        key.add(package).add(&apt.version(package)?);
    }
    let dir = store.cached("arm64", &key, |dir| {
        let (root, archives) = (dir.join("root"), dir.join("packages"));
        make_dir(&root)?;
        make_dir(&archives)?;
        for package in packages {
            apt.download(&archives, package)?;
        }
        for archive in std::fs::read_dir(&archives).map_err(io(&archives, "cannot be read"))?.flatten() {
            tool::run("dpkg", ["-x", &text(&archive.path()), &text(&root)])?;
        }
        std::fs::remove_dir_all(&archives).map_err(io(&archives, "cannot be removed"))?;
        let initrd = dir.join("initrd");
        std::fs::write(&initrd, ramdisk(&root)?).map_err(io(&initrd, "cannot be written"))
    })?;
    let root = dir.join("root");
    let release = kernel.trim_start_matches("linux-image-");
    Ok(Arm64 {
        shim: root.join("usr/lib/shim/shimaa64.efi.signed"),
        grub: root.join("usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"),
        kernel: root.join(format!("boot/vmlinuz-{release}")),
        initrd: dir.join("initrd"),
    })
}

fn ramdisk(root: &Path) -> Result<Vec<u8>, MediaError> {
    let busybox = read(&root.join("bin/busybox"))?;
    let mut archive = Archive::new();
    archive.dir("bin").dir("dev").dir("proc").char_device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, &busybox).symlink("bin/sh", "busybox");
    archive.file("init", 0o755, INIT.as_bytes());
    Ok(archive.finish())
}

const INIT: &str = "#!/bin/sh
/bin/busybox mount -t proc proc /proc
echo \"FARRIER-ARM64-UP $(/bin/busybox uname -m) $(/bin/busybox cat /proc/cmdline)\"
/bin/busybox poweroff -f
";
