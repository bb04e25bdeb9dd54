//! What a boot CD starts with: GRUB for BIOS, and for UEFI Debian's signed shim and GRUB, which firmware with Secure Boot
//! starts too.
//!
//! The kernel beside them must be Debian's own, which is signed with the key that this shim knows. Firmware finds the loader of
//! its architecture by its name: one file system may have those of several.

use std::path::{Path, PathBuf};

use super::disk::mtools;
use super::{Arm64, MediaError, MediaStore, SOURCE_DATE_EPOCH, io, read, signed, text};
use crate::tool;

/// Two files for `[virtual_media]` of rackd.toml.
#[derive(Debug, Clone)]
pub struct CdLoaders {
    /// GRUB's El Torito program.
    pub bios: PathBuf,
    /// A FAT file system with `EFI/BOOT`.
    pub efi: PathBuf,
}

/// For x86, and for arm64 machines too where their loaders are given.
pub(super) fn build(store: &MediaStore, arm64: Option<&Arm64>) -> Result<CdLoaders, MediaError> {
    let x86 = SIGNED.iter().map(|(file, name)| (Path::new(file), *name));
    let arm64 = arm64.into_iter().flat_map(|files| {
        [(files.shim.as_path(), "BOOTAA64.EFI"), (files.grub_cd.as_path(), "GRUBAA64.EFI")]
    });
    let loaders: Vec<(&Path, &str)> = x86.chain(arm64).collect();
    let mut key = super::Key::new("cd");
    key.add(RECIPE).add_bytes(&read(GRUB_CDBOOT.as_ref())?);
    for (file, _) in &loaders {
        key.add_bytes(&read(file)?);
    }
    let dir = store.cached("cd", &key, |dir| {
        let bios = text(&dir.join(BIOS));
        let args = ["-O", "i386-pc-eltorito", "-p", "/boot/grub", "-o", &bios];
        tool::run("grub-mkimage", args.iter().chain(MODULES))?;
        esp(&dir.join(EFI), &loaders)
    })?;
    Ok(CdLoaders { bios: dir.join(BIOS), efi: dir.join(EFI) })
}

fn esp(path: &Path, loaders: &[(&Path, &str)]) -> Result<(), MediaError> {
    let file = std::fs::File::create(path).map_err(io(path, "cannot be made"))?;
    let bytes = if loaders.len() > SIGNED.len() { 2 * ESP_BYTES } else { ESP_BYTES };
    file.set_len(bytes).map_err(io(path, "cannot be sized"))?;
    let image = text(path);
    let serial = format!("{SOURCE_DATE_EPOCH:08x}");
    tool::run("mkfs.vfat", ["--invariant", "-i", &serial, "-n", "EFIBOOT", &image])?;
    mtools("mmd", &["-i", &image, "::/EFI", "::/EFI/BOOT"])?;
    loaders.iter().try_for_each(|(from, to)| {
        mtools("mcopy", &["-i", &image, &text(from), &format!("::/EFI/BOOT/{to}")])
    })
}

/// Version of the recipe.
const RECIPE: &str = "1";
const BIOS: &str = "cd-bios.img";
const EFI: &str = "cd-efi.img";
/// The loaders of an architecture and some room.
const ESP_BYTES: u64 = 8 << 20;
/// Of Debian's `grub-pc-bin`.
const GRUB_CDBOOT: &str = "/usr/lib/grub/i386-pc/cdboot.img";
const MODULES: &[&str] = &[
    "biosdisk",
    "iso9660",
    "linux",
    "normal",
    "search",
    "search_fs_file",
    "test",
    "echo",
    "sleep",
    "reboot",
];
/// The names that the firmware looks for, and that shim looks for beside itself.
const SIGNED: &[(&str, &str)] =
    &[(signed::SHIM, "BOOTX64.EFI"), (signed::KEY_MANAGER, "MMX64.EFI"), (signed::GRUB_CD, "GRUBX64.EFI")];
