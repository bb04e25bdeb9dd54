//! Debian's `iscsistart` for the initramfs of guests that live on an iSCSI disk: it reads the iBFT that iPXE left
//! behind and hands the session to the kernel.

use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::cpio::Archive;
use super::{Key, MediaError, MediaStore, make_dir, read};

/// The program and the libraries it is linked with.
pub(super) struct Iscsistart {
    root: PathBuf,
    /// Hash of the packages' versions.
    pub(super) key: String,
}

/// Modules that carry an iSCSI disk; the list serves all kernels.
pub(super) const MODULES: &[&str] = &["iscsi_tcp", "iscsi_ibft", "sd_mod", "crc32c_generic"];

/// To be sourced by an initramfs's `/init` when `/sys/firmware/ibft` is there.
pub(super) const INIT: &str = include_str!("iscsi/init.sh");

pub(super) fn fetch(store: &MediaStore) -> Result<Iscsistart, MediaError> {
    let apt = Apt::open(store)?;
    let mut key = Key::new("iscsistart");
    for package in PACKAGES {
        key.add(package).add(&apt.version(package)?);
    }
    let dir = store.cached("iscsistart", &key, |dir| {
        let root = dir.join("root");
        make_dir(&root)?;
        PACKAGES.iter().try_for_each(|package| apt.unpack(package, &root))
    })?;
    Ok(Iscsistart { root: dir.join("root"), key: key.short() })
}

impl Iscsistart {
    /// Adds the program as `/sbin/iscsistart`, its libraries where the loader looks, and `/etc/ibft.sh`.
    pub(super) fn add_to(&self, archive: &mut Archive) -> Result<(), MediaError> {
        for dir in ["sbin", "lib", LIBRARIES_DIR, "lib64", "run/lock", "run/lock/iscsi"] {
            archive.dir(dir);
        }
        archive.file("sbin/iscsistart", 0o755, &read(&self.root.join("sbin/iscsistart"))?);
        archive.file("lib64/ld-linux-x86-64.so.2", 0o755, &read(&self.library("ld-linux-x86-64.so.2")?)?);
        for name in LIBRARIES {
            archive.file(&format!("{LIBRARIES_DIR}/{name}"), 0o644, &read(&self.library(name)?)?);
        }
        archive.file("etc/ibft.sh", 0o755, INIT.as_bytes());
        Ok(())
    }

    fn library(&self, name: &str) -> Result<PathBuf, MediaError> {
        let places = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "lib64"];
        let found = places.iter().map(|place| self.root.join(place).join(name)).find(|path| is_file(path));
        found.ok_or_else(|| MediaError::Unexpected(name.to_owned(), "in none of the packages"))
    }
}

/// Links to absolute paths would lead out of the root: libraries link to their neighbours.
fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

const LIBRARIES_DIR: &str = "lib/x86_64-linux-gnu";

/// What `ldd` names for iscsistart, and the packages they are in.
const LIBRARIES: &[&str] = &[
    "libopeniscsiusr.so.0.2.0",
    "libcrypto.so.3",
    "libkmod.so.2",
    "libzstd.so.1",
    "liblzma.so.5",
    "libc.so.6",
];
const PACKAGES: &[&str] =
    &["open-iscsi", "libopeniscsiusr", "libssl3", "libkmod2", "libzstd1", "liblzma5", "libc6"];
