//! The Debian packages the lab needs: one list for the tests, the README and CI.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{ToolError, output, run};

/// Name, a file that proves that it is there, and the programs it brings that the lab runs.
pub type Package = (&'static str, &'static str, &'static [&'static str]);

/// What the virtual rack and the demo need.
pub const DEBIAN_PACKAGES: &[Package] = &[
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64", &["qemu-system-x86_64"]),
    ("ipxe-qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom", &[]),
    ("ipxe", "/usr/lib/ipxe/snponly.efi", &[]),
    ("seabios", "/usr/share/seabios/bios-256k.bin", &[]),
    ("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", &[]),
    ("shim-signed", crate::media::signed::SHIM, &[]),
    ("grub-efi-amd64-signed", crate::media::signed::GRUB_NETWORK, &[]),
    ("iproute2", "/sbin/ip", &["ip"]),
    ("util-linux", "/usr/bin/nsenter", &["nsenter"]),
    ("mmdebstrap", "/usr/bin/mmdebstrap", &["mmdebstrap"]),
    ("dpkg", "/usr/bin/dpkg", &["dpkg"]),
    ("apt", "/usr/bin/apt-get", &["apt-get", "apt-cache"]),
    ("kmod", "/sbin/depmod", &["depmod"]),
    ("fdisk", "/sbin/sfdisk", &["sfdisk"]),
    ("dosfstools", "/sbin/mkfs.vfat", &["mkfs.vfat"]),
    ("mtools", "/usr/bin/mcopy", &["mcopy", "mmd"]),
    ("e2fsprogs", "/sbin/mke2fs", &["mke2fs", "debugfs"]),
    ("grub-common", "/usr/bin/grub-mkimage", &["grub-mkimage"]),
    ("grub-pc-bin", "/usr/lib/grub/i386-pc/boot.img", &[]),
    ("grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/moddep.lst", &[]),
    ("shim-helpers-amd64-signed", crate::media::signed::KEY_MANAGER, &[]),
    ("busybox-static", "/bin/busybox", &["busybox"]),
    ("dnsmasq-base", "/usr/sbin/dnsmasq", &["dnsmasq"]),
    ("openssh-client", "/usr/bin/ssh-keygen", &["ssh", "ssh-keygen"]),
];

/// The packages of [`DEBIAN_PACKAGES`] whose proof is not on this machine.
pub fn missing_packages() -> Vec<&'static str> {
    missing(DEBIAN_PACKAGES)
}

fn missing(packages: &[Package]) -> Vec<&'static str> {
    packages
        .iter()
        .filter(|(_, proof, _)| !Path::new(proof).exists())
        .map(|(package, _, _)| *package)
        .collect()
}

/// Installs what [`missing_packages`] names with apt-get, after `say`ing which; needs root.
/// Gives the list of what was installed.
pub fn install_missing(say: impl Fn(&str)) -> Result<Vec<&'static str>, ToolError> {
    install(DEBIAN_PACKAGES, say)
}

/// As [`install_missing`], for another list: what only one benchmark needs.
pub fn install(packages: &[Package], say: impl Fn(&str)) -> Result<Vec<&'static str>, ToolError> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(missing);
    }
    say(&format!("installing Debian packages: {}", missing.join(" ")));
    update_lists()?;
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another one at it, on a fresh machine the one that updates by itself, is waited for.
        .args(["-q", "-o", "DPkg::Lock::Timeout=600", "install", "--yes", "--no-install-recommends"])
        .args(&missing);
    output(install, &[])?;
    Ok(missing)
}

/// The package lists have a lock of their own, for which apt does not wait.
#[expect(
    clippy::disallowed_methods,
    reason = "blocking as the installation is, and nothing tells when the lock is free"
)]
fn update_lists() -> Result<(), ToolError> {
    let give_up = Instant::now() + OTHERS;
    loop {
        match run("apt-get", ["-q", "update"]) {
            Err(ToolError::Failed { stderr, .. })
                if stderr.contains("Could not get lock") && Instant::now() < give_up =>
            {
                std::thread::sleep(AGAIN);
            }
            updated => return updated.map(|_| ()),
        }
    }
}

/// How long another apt may take, as apt itself is told below.
const OTHERS: Duration = Duration::from_secs(600);
const AGAIN: Duration = Duration::from_secs(2);

pub(super) fn package_of(program: &str) -> Option<&'static str> {
    DEBIAN_PACKAGES
        .iter()
        .find(|(_, _, programs)| programs.contains(&program))
        .map(|(package, _, _)| *package)
}
