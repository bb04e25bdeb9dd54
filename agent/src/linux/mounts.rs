//! File systems and kernel modules: what an init does before anything else works.
use super::console::say;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::finit_module;
use std::fs::{self, File};
use std::path::Path;

/// Mounts the kernel's file systems. One that fails is told: the machine may still be of use.
pub(super) fn kernel_file_systems() {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, target, flags) in [
        ("proc", "/proc", quiet | MountFlags::NODEV),
        ("sysfs", "/sys", quiet | MountFlags::NODEV),
        ("devtmpfs", "/dev", quiet),
        ("tmpfs", "/run", quiet | MountFlags::NODEV),
        ("tmpfs", "/tmp", quiet | MountFlags::NODEV),
    ] {
        ensure(kind, target, flags);
    }
}

/// The firmware's variables, on machines that have them. After the modules: distributions build
/// efivarfs as one.
pub(super) fn efi_variables() {
    let target = "/sys/firmware/efi/efivars";
    if Path::new(target).exists() {
        ensure("efivarfs", target, MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV);
    }
}

fn ensure(kind: &str, target: &str, flags: MountFlags) {
    if let Err(error) = rustix::fs::mkdir(target, Mode::from_raw_mode(0o755))
        && error != Errno::EXIST
    {
        say(&format!("cannot make {target}: {error}"));
    }
    match mount(kind, target, kind, flags, None) {
        // Mounted already, by the kernel or by an earlier try.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => say(&format!("cannot mount {kind} on {target}: {error}")),
    }
}

/// Loads `dir/NNN-name.ko` in the order of names, which whoever built the ramdisk has sorted so that a
/// module stands after what it needs. A module without its hardware is no error.
pub(super) fn load_modules(dir: &Path) {
    let mut paths: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "ko"));
    paths.sort();
    let mut loaded = 0;
    for path in &paths {
        let result =
            File::open(path).map_err(|e| e.to_string()).and_then(|file| match finit_module(&file, c"", 0) {
                Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
                Err(error) => Err(error.to_string()),
            });
        match result {
            Ok(()) => loaded += 1,
            Err(error) => say(&format!("module {}: {error}", path.display())),
        }
    }
    if !paths.is_empty() {
        say(&format!("{loaded} of {} kernel modules loaded", paths.len()));
    }
}
