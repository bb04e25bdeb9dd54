//! Puts a bootable disk together in a sparse file: GPT, GRUB for BIOS and UEFI, an EFI system
//! partition, and optionally an ext4 root file system.
//!
//! ```text
//!  LBA 0      protective MBR, its first 440 bytes GRUB's boot.img
//!  LBA 34     BIOS boot partition: GRUB's core.img for i386-pc      (to LBA 2047)
//!  1 MiB      EFI system partition: /EFI/BOOT/BOOTX64.EFI or BOOTAA64.EFI, kernel and initramfs; where they are to be signed
//!             also /EFI/debian as Debian installs it
//!  …          ext4, label "root" (Debian only)
//! ```

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MediaError, OsArg, SOURCE_DATE_EPOCH, io, read, signed, text, write};
use crate::tool;

/// What goes onto a disk.
pub(super) struct Layout<'a> {
    pub(super) esp_mib: u64,
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a [u8],
    /// Kernel command line.
    pub(super) cmdline: &'a str,
    /// What UEFI starts.
    pub(super) loader: Loader,
    /// Root directory and size in MiB of the root file system.
    pub(super) root: Option<(&'a Path, u64)>,
}

/// The boot programs on the EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loader {
    /// A GRUB made here, with all that it needs and nothing else: quick, and not signed.
    Own,
    /// Debian's, signed.
    Signed {
        shim: PathBuf,
        grub: PathBuf,
        /// How UEFI calls the architecture in file names, in small letters (UEFI 2.10 §3.5.1.1).
        machine: &'static str,
    },
}

impl Loader {
    /// Debian's, as installed on this host.
    pub(super) fn signed() -> Self {
        Self::Signed { shim: signed::SHIM.into(), grub: signed::GRUB_DISK.into(), machine: "x64" }
    }

    /// The files that it is.
    pub(super) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Own => Vec::new(),
            Self::Signed { shim, grub, .. } => vec![shim, grub],
        }
    }
}

/// Writes the disk to `work/disk.raw` and gives its path. `work` is also used for temporary files.
pub(super) fn assemble(work: &Path, layout: &Layout<'_>) -> Result<PathBuf, MediaError> {
    let disk = work.join("disk.raw");
    let root_mib = layout.root.map_or(0, |(_, mib)| mib);
    let size = MIB * (1 + layout.esp_mib + root_mib + 1);
    let file = std::fs::File::create(&disk).map_err(io(&disk, "cannot be made"))?;
    file.set_len(size).map_err(io(&disk, "cannot be sized"))?;
    partition(&disk, layout)?;
    install_grub(work, &disk, layout)?;
    if let Some((dir, mib)) = layout.root {
        make_root(&disk, dir, MIB * (1 + layout.esp_mib), mib)?;
    }
    Ok(disk)
}

fn partition(disk: &Path, layout: &Layout<'_>) -> Result<(), MediaError> {
    let esp_sectors = layout.esp_mib * 2048;
    let mut script = format!(
        "label: gpt\nlabel-id: FA221E20-0000-4000-8000-000000000000\nfirst-lba: 34\n\
         start=34, size=2014, type=21686148-6449-6E6F-744E-656564454649, \
         uuid=FA221E20-0000-4000-8000-000000000001, name=bios\n\
         start=2048, size={esp_sectors}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
         uuid=FA221E20-0000-4000-8000-000000000002, name=esp\n"
    );
    if let Some((_, mib)) = layout.root {
        script.push_str(&format!(
            "start={}, size={}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, \
             uuid=FA221E20-0000-4000-8000-000000000003, name=root\n",
            2048 + esp_sectors,
            mib * 2048
        ));
    }
    tool::run_with_input("sfdisk", ["--quiet", &text(disk)], script.as_bytes())?;
    Ok(())
}

fn install_grub(work: &Path, disk: &Path, layout: &Layout<'_>) -> Result<(), MediaError> {
    let config = work.join("grub.cfg");
    // Without a device the names are looked up on the EFI system partition, see the prefixes. GRUB
    // runs this at once: there is no menu and no time-out.
    let script = format!("linux /vmlinuz {}\ninitrd /initrd.img\nboot\n", layout.cmdline);
    write(&config, script.as_bytes())?;

    let core = work.join("core.img");
    mkimage("i386-pc", "(,gpt2)/", &config, &core, &["biosdisk", "part_gpt", "fat", "linux", "boot"])?;
    write_boot_sectors(disk, &core)?;

    let efi = work.join("bootx64.efi");
    mkimage("x86_64-efi", "/", &config, &efi, &["part_gpt", "fat", "linux", "boot"])?;
    let initrd = work.join("initrd.img");
    write(&initrd, layout.initrd)?;
    make_esp(disk, layout, &config, &efi, &initrd)?;
    for file in [config, core, efi, initrd] {
        std::fs::remove_file(&file).map_err(io(&file, "cannot be removed"))?;
    }
    Ok(())
}

fn mkimage(
    format: &str,
    prefix: &str,
    config: &Path,
    out: &Path,
    modules: &[&str],
) -> Result<(), MediaError> {
    let (config, out) = (text(config), text(out));
    let args = ["-O", format, "-p", prefix, "-c", &config, "-o", &out];
    tool::run("grub-mkimage", args.iter().chain(modules))?;
    Ok(())
}

/// What `grub-bios-setup` would do: boot.img into the MBR, told where core.img begins; core.img
/// into the BIOS boot partition, its first sector told where the rest is.
fn write_boot_sectors(disk: &Path, core: &Path) -> Result<(), MediaError> {
    let mut boot = read(Path::new(GRUB_BOOT_IMAGE))?;
    let mut core_bytes = read(core)?;
    let too_short = || MediaError::Unexpected(text(core), "GRUB image too short");
    // boot.img, offset 0x5c (GRUB_BOOT_MACHINE_KERNEL_SECTOR): LBA of core.img, 64 bits.
    boot.get_mut(0x5c..0x64).ok_or_else(too_short)?.copy_from_slice(&BIOS_BOOT_LBA.to_le_bytes());
    // core.img's first sector ends with a list of blocks (start: 64 bits, length, segment); the
    // first entry is at 512 − 12 and its length is already set.
    core_bytes.get_mut(500..508).ok_or_else(too_short)?.copy_from_slice(&(BIOS_BOOT_LBA + 1).to_le_bytes());
    if core_bytes.len() > 2014 * 512 {
        return Err(MediaError::Unexpected(text(core), "larger than the BIOS boot partition"));
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).open(disk).map_err(io(disk, "cannot be opened"))?;
    // 440 bytes of code; the partition table follows them.
    let code = boot.get(..440).ok_or_else(too_short)?;
    file.write_all(code)
        .and_then(|()| file.seek(SeekFrom::Start(BIOS_BOOT_LBA * 512)))
        .and_then(|_| file.write_all(&core_bytes))
        .map_err(io(disk, "cannot be written"))
}

fn make_esp(
    disk: &Path,
    layout: &Layout<'_>,
    config: &Path,
    efi: &Path,
    initrd: &Path,
) -> Result<(), MediaError> {
    let kib = (layout.esp_mib * 1024).to_string();
    let disk_text = text(disk);
    tool::run("mkfs.vfat", ["--invariant", "-n", "ESP", "--offset", "2048", &disk_text, &kib].map(OsArg))?;
    let drive = format!("{disk_text}@@1M");
    mtools("mmd", &["-i", &drive, "::/EFI", "::/EFI/BOOT"])?;
    let (efi, initrd, kernel) = (text(efi), text(initrd), text(layout.kernel));
    match &layout.loader {
        Loader::Own => mtools("mcopy", &["-i", &drive, &efi, "::/EFI/BOOT/BOOTX64.EFI"])?,
        Loader::Signed { shim, grub, machine } => {
            // Shim starts the GRUB beside it, which has the place of its configuration built in.
            mtools("mmd", &["-i", &drive, "::/EFI/debian"])?;
            let removable = format!("BOOT/BOOT{}.EFI", machine.to_uppercase());
            for (file, to) in [
                (&**shim, removable),
                (grub, format!("BOOT/grub{machine}.efi")),
                (shim, format!("debian/shim{machine}.efi")),
                (grub, format!("debian/grub{machine}.efi")),
                (config, "debian/grub.cfg".to_owned()),
            ] {
                mtools("mcopy", &["-i", &drive, &text(file), &format!("::/EFI/{to}")])?;
            }
        }
    }
    mtools("mcopy", &["-i", &drive, &kernel, "::/vmlinuz"])?;
    mtools("mcopy", &["-i", &drive, &initrd, "::/initrd.img"])
}

/// Runs one of the mtools, which write SOURCE_DATE_EPOCH into the directory instead of the time.
pub(super) fn mtools(program: &str, args: &[&str]) -> Result<(), MediaError> {
    let mut command = Command::new(program);
    command.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string());
    // The image has no geometry; mtools would refuse it for that.
    command.env("MTOOLS_SKIP_CHECK", "1").args(args);
    tool::output(command, &[])?;
    Ok(())
}

fn make_root(disk: &Path, dir: &Path, offset: u64, mib: u64) -> Result<(), MediaError> {
    let mut command = Command::new("mke2fs");
    command.env("E2FSPROGS_FAKE_TIME", SOURCE_DATE_EPOCH.to_string());
    command.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string());
    command.args(["-q", "-F", "-t", "ext4", "-L", "root", "-m", "0", "-J", "size=4"]);
    command.args(["-U", "fa221e20-0000-4000-8000-000000000004"]);
    let seed = "hash_seed=fa221e20-0000-4000-8000-000000000005";
    command.arg("-E").arg(format!("offset={offset},{seed},lazy_itable_init=1,nodiscard"));
    command.arg("-d").arg(dir).arg(disk).arg(format!("{}k", mib * 1024));
    tool::output(command, &[])?;
    settle_inode_times(disk, offset)
}

/// mke2fs copies each file's ctime, which nobody can set on the host, and its atime, which is that of
/// whoever walked the tree last (relatime): set both in the image. A fresh file system uses its inodes from
/// the first on: root is 2, files begin at 11.
fn settle_inode_times(disk: &Path, offset: u64) -> Result<(), MediaError> {
    let device = format!("{}?offset={offset}", text(disk));
    let statistics = tool::run("debugfs", ["-R", "stats -h", &device])?;
    let number = |field: &str| -> Option<u64> {
        statistics.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
    };
    let (all, free) = number("Inode count:")
        .zip(number("Free inodes:"))
        .ok_or_else(|| MediaError::Unexpected("debugfs".to_owned(), "no inode counts"))?;
    let script: String = std::iter::once(2)
        .chain(11..=all.saturating_sub(free))
        .flat_map(|inode| ["ctime", "atime"].map(|time| (inode, time)))
        .map(|(inode, time)| {
            format!("sif <{inode}> {time} @{SOURCE_DATE_EPOCH}\nsif <{inode}> {time}_extra 0\n")
        })
        .collect();
    let file = disk.with_extension("debugfs");
    write(&file, script.as_bytes())?;
    let mut command = Command::new("debugfs");
    command.env("E2FSPROGS_FAKE_TIME", SOURCE_DATE_EPOCH.to_string());
    command.args(["-w", "-f", &text(&file), &device]);
    tool::output(command, &[])?;
    std::fs::remove_file(&file).map_err(io(&file, "cannot be removed"))
}

const GRUB_BOOT_IMAGE: &str = "/usr/lib/grub/i386-pc/boot.img";
const BIOS_BOOT_LBA: u64 = 34;
const MIB: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_file_system_does_not_show_when_its_files_were_made_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str, from: &Path| {
            let disk = dir.path().join(name);
            std::fs::File::create(&disk).unwrap().set_len(24 * MIB).unwrap();
            make_root(&disk, from, MIB, 20).unwrap();
            std::fs::read(&disk).unwrap()
        };
        let root = |name: &str, read: u32| {
            let root = dir.path().join(name);
            std::fs::create_dir_all(root.join("etc/deep")).unwrap();
            std::fs::write(root.join("etc/deep/file"), "content").unwrap();
            let touch = |time: &str, date: u32| {
                let date = format!("@{date}");
                tool::run("find", [&text(&root), "-exec", "touch", time, "-d", &date, "{}", "+"]).unwrap();
            };
            touch("-m", SOURCE_DATE_EPOCH);
            // After the modification: relatime leaves it alone.
            touch("-a", read);
            root
        };
        let (one, other) = (root("one", 1_750_000_000), root("other", 1_760_000_000));
        assert!(image("a", &one) == image("b", &other), "two builds of the same files differ");
    }
}
