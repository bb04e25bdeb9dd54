//! Debian's kernel packages, unpacked but not installed, and the modules inside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::{Key, MediaError, MediaStore, make_dir, read, text};
use crate::tool;

/// Which of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelFlavour {
    /// `linux-image-cloud-amd64`: virtio and NVMe only; to `/init` in 2 s under emulation.
    Cloud,
    /// `linux-image-amd64`: also AHCI, Intel NICs and IPMI; to `/init` in 5–6 s.
    Generic,
    /// `linux-image-cloud-arm64`.
    CloudArm64,
    /// `linux-image-arm64`.
    GenericArm64,
}

impl KernelFlavour {
    /// For file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
            Self::CloudArm64 => "cloud-arm64",
            Self::GenericArm64 => "generic-arm64",
        }
    }

    /// Whose packages it is among.
    fn packages(self, store: &MediaStore) -> Result<Apt, MediaError> {
        match self {
            Self::Cloud | Self::Generic => Apt::open(store),
            Self::CloudArm64 | Self::GenericArm64 => Apt::open_foreign(store, super::arm64::ARCHITECTURE),
        }
    }

    fn meta_package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
            Self::CloudArm64 => "linux-image-cloud-arm64",
            Self::GenericArm64 => "linux-image-arm64",
        }
    }
}

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// As `uname -r` shows it.
    pub release: String,
    pub package_version: String,
    /// The bzImage, or on arm64 the Image; both are EFI programs with Debian's signature.
    pub image: PathBuf,
    /// Holds `lib/modules/<release>`.
    root: PathBuf,
    /// Module file → the files it needs, both relative to [`Kernel::modules_dir`].
    needs: BTreeMap<String, Vec<String>>,
    /// The same names of what is in the image itself.
    built_in: BTreeSet<String>,
}

pub(super) fn fetch(store: &MediaStore, flavour: KernelFlavour) -> Result<Kernel, MediaError> {
    let apt = flavour.packages(store)?;
    let package = apt.dependency(flavour.meta_package(), "linux-image-")?;
    let version = apt.version(&package)?;
    let mut key = Key::new("kernel");
    key.add(&package).add(&version);
    let dir = store.cached(&format!("kernel-{}", flavour.name()), &key, |dir| {
        apt.download(dir, &package)?;
        let archive = only_entry(dir)?;
        let root = dir.join("root");
        make_dir(&root)?;
        tool::run("dpkg", ["-x", &text(&archive), &text(&root)])?;
        std::fs::remove_file(&archive).map_err(super::io(&archive, "cannot be removed"))?;
        let release = only_entry(&root.join("lib/modules"))?;
        let release = release.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tool::run("depmod", ["-b", &text(&root), &release])?;
        Ok(())
    })?;
    open(&dir.join("root"), version)
}

impl Kernel {
    /// The files of `modules` and of everything they need, each after what it needs. Names the
    /// kernel has built in, or was built without, are left out: the list serves all flavours.
    pub fn closure(&self, modules: &[&str]) -> Vec<PathBuf> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for module in modules {
            let name = underscored(module);
            match self.needs.keys().find(|file| module_name(file) == name) {
                Some(file) => self.visit(file, &mut seen, &mut order),
                None => tracing::debug!(module, release = self.release, "not a module here"),
            }
        }
        order.iter().map(|file| self.modules_dir().join(file)).collect()
    }

    /// Whether it has a module, or has it built in.
    pub fn has(&self, module: &str) -> bool {
        let name = underscored(module);
        self.needs.keys().chain(&self.built_in).any(|file| module_name(file) == name)
    }

    /// `lib/modules/<release>` of the unpacked package.
    pub fn modules_dir(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    fn visit(&self, file: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        if !seen.insert(file.to_owned()) {
            return;
        }
        for needed in self.needs.get(file).into_iter().flatten() {
            self.visit(needed, seen, order);
        }
        order.push(file.to_owned());
    }
}

/// `kernel/fs/fat/vfat.ko` → `vfat`, with the underscores that `modprobe` shows.
pub(super) fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    underscored(name.split('.').next().unwrap_or(name))
}

/// `modprobe` takes either.
fn underscored(module: &str) -> String {
    module.replace('-', "_")
}

fn open(root: &Path, package_version: String) -> Result<Kernel, MediaError> {
    let dir = only_entry(&root.join("lib/modules"))?;
    let release = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let list = String::from_utf8_lossy(&read(&dir.join("modules.dep"))?).into_owned();
    let needs = list
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needed)| {
            // depmod lists them from the nearest to the farthest.
            let needed = needed.split_whitespace().rev().map(str::to_owned).collect();
            (file.to_owned(), needed)
        })
        .collect();
    let image = root.join("boot").join(format!("vmlinuz-{release}"));
    let built_in =
        String::from_utf8_lossy(&read(&dir.join("modules.builtin"))?).lines().map(str::to_owned).collect();
    Ok(Kernel { release, package_version, image, root: root.to_owned(), needs, built_in })
}

fn only_entry(dir: &Path) -> Result<PathBuf, MediaError> {
    let mut entries = std::fs::read_dir(dir).map_err(super::io(dir, "cannot be listed"))?.flatten();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err(MediaError::Unexpected(text(dir), "wanted exactly one entry")),
    }
}
