//! The mini guest: the least that counts as an operating system for a deploy.

use std::path::PathBuf;

use super::disk::{Layout, Loader, assemble};
use super::ramdisk::{add_modules, base, compress};
use super::{BUSYBOX, GuestImage, KernelFlavour, Key, MediaError, MediaStore, io, read};

pub(super) fn build(store: &MediaStore) -> Result<GuestImage, MediaError> {
    build_with(store, "mini", &Machine::x86(Loader::Own))
}

pub(super) fn build_signed(store: &MediaStore) -> Result<GuestImage, MediaError> {
    build_with(store, "mini-signed", &Machine::x86(Loader::signed()))
}

/// No iSCSI disks there: no iPXE of a distribution's boots them.
pub(super) fn build_arm64(store: &MediaStore) -> Result<GuestImage, MediaError> {
    let files = super::arm64::fetch(store)?;
    let machine = Machine {
        kernel: KernelFlavour::CloudArm64,
        busybox: files.busybox,
        console: "ttyAMA0",
        iscsi: false,
        loader: Loader::Signed { shim: files.shim, grub: files.grub_disk, machine: "aa64" },
    };
    build_with(store, "mini-arm64", &machine)
}

/// What differs from machine to machine.
struct Machine {
    kernel: KernelFlavour,
    busybox: PathBuf,
    console: &'static str,
    /// Whether it can live on an iSCSI disk.
    iscsi: bool,
    loader: Loader,
}

impl Machine {
    fn x86(loader: Loader) -> Self {
        Self { kernel: KernelFlavour::Cloud, busybox: BUSYBOX.into(), console: "ttyS0", iscsi: true, loader }
    }
}

fn build_with(store: &MediaStore, name: &str, machine: &Machine) -> Result<GuestImage, MediaError> {
    let kernel = store.kernel(machine.kernel)?;
    let busybox = read(&machine.busybox)?;
    let cmdline = format!("console={} {CMDLINE}", machine.console);
    let mut key = Key::new(name);
    key.add(RECIPE).add(INIT).add(UDHCPC).add(&cmdline).add_bytes(&busybox);
    key.add(&kernel.release).add(&kernel.package_version);
    let iscsistart = machine.iscsi.then(|| super::iscsi::fetch(store)).transpose()?;
    if let Some(iscsistart) = &iscsistart {
        key.add(&iscsistart.key).add(super::iscsi::INIT);
    }
    for file in machine.loader.files() {
        key.add_bytes(&read(file)?);
    }
    let dir = store.cached(name, &key, |work| {
        let mut archive = base();
        add_modules(&mut archive, &kernel, &[MODULES, super::iscsi::MODULES].concat())?;
        if let Some(iscsistart) = &iscsistart {
            iscsistart.add_to(&mut archive)?;
        }
        archive.dir("root").dir("etc/acpi").dir("etc/acpi/PWRF");
        archive.file("bin/busybox", 0o755, &busybox);
        archive.file("etc/udhcpc.script", 0o755, UDHCPC.as_bytes());
        archive.file("etc/acpi/PWRF/00000080", 0o755, POWER_BUTTON.as_bytes());
        archive.file("init", 0o755, INIT.as_bytes());
        let initrd = compress(&archive.finish())?;
        let layout = Layout {
            esp_mib: 46,
            kernel: &kernel.image,
            initrd: &initrd,
            cmdline: &cmdline,
            loader: machine.loader.clone(),
            root: None,
        };
        assemble(work, &layout).map(|_| ())
    })?;
    let path = dir.join("disk.raw");
    let size = path.metadata().map_err(io(&path, "cannot be read"))?.len();
    Ok(GuestImage { path, size, key: key.short() })
}

/// Version of the recipe, for changes that the texts below do not show.
const RECIPE: &str = "1";

const INIT: &str = include_str!("mini/init.sh");
const UDHCPC: &str = include_str!("mini/udhcpc.sh");
const POWER_BUTTON: &str = "#!/bin/sh\necho FARRIER-MINI-POWER-BUTTON > /dev/console\npoweroff -f\n";

/// `quiet`: a slow serial port is most of a chatty kernel's boot. The rest spares probing.
const CMDLINE: &str = "quiet panic=5 nokaslr no_timer_check mitigations=off audit=0";

const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "sd_mod",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "vfat",
    "button",
    "evdev",
];
