//! The Debian guest: a real distribution, real cloud-init and sshd, as quick as they go.

use std::path::Path;
use std::process::Command;

use super::apt::Apt;
use super::disk::{Layout, Loader, assemble};
use super::ramdisk::{add_modules, base, compress};
use super::{
    BUSYBOX, GuestImage, Kernel, KernelFlavour, Key, MediaError, MediaStore, SOURCE_DATE_EPOCH, io, make_dir,
    read, text, write,
};
use crate::tool;

pub(super) fn build(store: &MediaStore) -> Result<GuestImage, MediaError> {
    let kernel = store.kernel(KernelFlavour::Cloud)?;
    let busybox = read(BUSYBOX.as_ref())?;
    let mut key = Key::new("debian");
    key.add(RECIPE).add(CUSTOMIZE).add(INIT).add(CMDLINE).add_bytes(&busybox);
    key.add(&kernel.release).add(&kernel.package_version);
    let iscsistart = super::iscsi::fetch(store)?;
    key.add(&iscsistart.key).add(super::iscsi::INIT);
    let apt = Apt::open(store)?;
    for package in PACKAGES {
        key.add(package).add(&apt.version(package)?);
    }
    let dir = store.cached("debian", &key, |work| {
        let root = work.join("root");
        install(work, &root)?;
        install_modules(&root, &kernel)?;
        settle_times(&root)?;

        let mut archive = base();
        add_modules(&mut archive, &kernel, &[BOOT_MODULES, super::iscsi::MODULES].concat())?;
        iscsistart.add_to(&mut archive)?;
        archive.file("bin/busybox", 0o755, &busybox).file("init", 0o755, INIT.as_bytes());
        let initrd = compress(&archive.finish())?;
        let layout = Layout {
            esp_mib: 24,
            kernel: &kernel.image,
            initrd: &initrd,
            cmdline: CMDLINE,
            loader: Loader::Own,
            root: Some((&root, root_mib(&root)?)),
        };
        assemble(work, &layout)?;
        std::fs::remove_dir_all(&root).map_err(io(&root, "cannot be removed"))
    })?;
    let path = dir.join("disk.raw");
    let size = path.metadata().map_err(io(&path, "cannot be read"))?.len();
    Ok(GuestImage { path, size, key: key.short() })
}

fn install(work: &Path, root: &Path) -> Result<(), MediaError> {
    let hook = work.join("customize.sh");
    write(&hook, CUSTOMIZE.as_bytes())?;
    let mut command = Command::new("mmdebstrap");
    command.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string());
    command.args(["--quiet", "--variant=minbase", "--mode=root", "--format=directory"]);
    for left_out in ["man", "doc", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{left_out}/*"));
    }
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.arg(format!("--customize-hook=sh '{}' \"$1\"", hook.display()));
    command.arg("bookworm").arg(root).args(apt_sources());
    tool::output(command, &[])?;
    std::fs::remove_file(&hook).map_err(io(&hook, "cannot be removed"))
}

/// The machine's own sources: whatever mirror it uses is the right one.
fn apt_sources() -> Vec<String> {
    let candidates = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    candidates.into_iter().filter(|path| Path::new(path).exists()).map(str::to_owned).collect()
}

/// The modules go in without the kernel package: the image boots from its EFI system partition,
/// and the package would bring initramfs-tools and 70 MiB of modules nobody loads.
fn install_modules(root: &Path, kernel: &Kernel) -> Result<(), MediaError> {
    let from = kernel.modules_dir();
    let to = root.join("lib/modules").join(&kernel.release);
    let mut files = kernel.closure(ROOT_MODULES);
    files.extend(["modules.builtin", "modules.builtin.modinfo", "modules.order"].map(|f| from.join(f)));
    for file in files {
        let Ok(relative) = file.strip_prefix(&from) else { continue };
        let target = to.join(relative);
        if let Some(parent) = target.parent() {
            make_dir(parent)?;
        }
        std::fs::copy(&file, &target).map_err(io(&file, "cannot be copied"))?;
    }
    tool::run("depmod", ["-b", &text(root), &kernel.release])?;
    Ok(())
}

fn settle_times(root: &Path) -> Result<(), MediaError> {
    let date = format!("@{SOURCE_DATE_EPOCH}");
    tool::run("find", [&text(root), "-exec", "touch", "-h", "-d", &date, "{}", "+"])?;
    Ok(())
}

/// Its content, a sixth for the file system's own needs, and room for what the first boot writes.
fn root_mib(root: &Path) -> Result<u64, MediaError> {
    let used = tool::run("du", ["-sm", "--apparent-size", &text(root)])?;
    let used: u64 = used
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| MediaError::Unexpected("du".to_owned(), "no number"))?;
    Ok((used + used / 6 + 96).next_multiple_of(32))
}

const RECIPE: &str = "3";
const CUSTOMIZE: &str = include_str!("debian/customize.sh");
const INIT: &str = include_str!("debian/init.sh");

const CMDLINE: &str = "console=ttyS0 quiet panic=5 nokaslr no_timer_check mitigations=off audit=0 \
                       apparmor=0 systemd.show_status=0 rd.systemd.show_status=0";

const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "cloud-init",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "open-iscsi",
    "python3",
];

/// What the initramfs needs to reach the root file system.
const BOOT_MODULES: &[&str] =
    &["virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "nvme", "sd_mod", "ext4", "crc32c_generic"];

/// What the running system may load.
const ROOT_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "nvme",
    "sd_mod",
    "sr_mod",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "efivarfs",
    "button",
    "evdev",
    "autofs4",
    "configfs",
    "overlay",
    "squashfs",
    "loop",
    "8021q",
    "bonding",
    "bridge",
    "vxlan",
    "dm_mod",
    "iscsi_tcp",
    "iscsi_ibft",
    "nf_tables",
    "nft_ct",
    "nft_masq",
    "nft_chain_nat",
    "vmw_vsock_virtio_transport",
];
