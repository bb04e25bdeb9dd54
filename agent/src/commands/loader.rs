//! Finds the boot loader on a disk's EFI system partition, by reading its FAT.
use crate::machine::BlockDevice;
use crate::partitions::{ESP_TYPE, Extent, Gpt, PartitionTable};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// Where the firmware finds the loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loader {
    /// Partition number, from 1.
    pub(super) partition: u32,
    pub(super) partition_guid: [u8; 16],
    /// In logical blocks.
    pub(super) first_block: u64,
    pub(super) block_count: u64,
    /// With backslashes, from the volume's root.
    pub(super) path: String,
}

/// What kept the loader from being found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoaderError {
    #[error("no GPT on the disk")]
    NoGpt,
    #[error("no EFI system partition in the GPT")]
    NoSystemPartition,
    #[error("an EFI system partition that cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("no boot loader below \\EFI on the EFI system partition")]
    NoLoader,
}

/// Names a loader may have, best first: a distribution's signed shim, its GRUB, systemd-boot.
fn candidates(architecture: &str) -> [String; 3] {
    let suffix = if architecture == "aarch64" { "aa64" } else { "x64" };
    ["shim", "grub", "systemd-boot"].map(|name| format!("{name}{suffix}.efi"))
}

/// The removable media path (UEFI 2.10 §3.5.1.1).
fn fallback(architecture: &str) -> &'static str {
    if architecture == "aarch64" { "BOOTAA64.EFI" } else { "BOOTX64.EFI" }
}

pub(super) fn find(device: &Arc<dyn BlockDevice>, architecture: &str) -> Result<Loader, LoaderError> {
    let table = PartitionTable::read(&**device).map_err(LoaderError::Unreadable)?;
    let PartitionTable::Gpt(gpt) = table else { return Err(LoaderError::NoGpt) };
    let mut last = LoaderError::NoSystemPartition;
    for (index, entry) in gpt.used().filter(|(_, e)| e.type_guid == ESP_TYPE) {
        match path_on(device, &gpt, gpt.extent(&entry), architecture) {
            Ok(path) => {
                return Ok(Loader {
                    partition: u32::try_from(index + 1).unwrap_or(0),
                    partition_guid: entry.guid,
                    first_block: entry.first,
                    block_count: entry.last - entry.first + 1,
                    path,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn path_on(
    device: &Arc<dyn BlockDevice>,
    gpt: &Gpt,
    extent: Extent,
    architecture: &str,
) -> Result<String, LoaderError> {
    if extent.end() > gpt.usable().end() {
        return Err(LoaderError::Unreadable(io::Error::other("it ends beyond the usable blocks")));
    }
    let window = Window { device: device.clone(), extent, at: 0, budget: READ_BUDGET_BYTES };
    let volume = fatfs::FileSystem::new(window, fatfs::FsOptions::new()).map_err(LoaderError::Unreadable)?;
    let efi = match volume.root_dir().open_dir("EFI") {
        Ok(dir) => dir,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(LoaderError::NoLoader),
        Err(e) => return Err(LoaderError::Unreadable(e)),
    };
    let list = |dir: &fatfs::Dir<'_, Window>| -> Result<Vec<String>, LoaderError> {
        // A directory on somebody else's disk may be a loop: no real one has 1,000 names.
        dir.iter().take(1000).map(|e| Ok(e.map_err(LoaderError::Unreadable)?.file_name())).collect()
    };
    let mut vendors = list(&efi)?;
    vendors.retain(|v| !v.starts_with('.') && !v.eq_ignore_ascii_case("BOOT"));
    vendors.sort();
    for wanted in candidates(architecture) {
        for vendor in &vendors {
            // A file beside the vendors' folders is no folder.
            let Ok(dir) = efi.open_dir(vendor) else { continue };
            if let Some(file) = list(&dir)?.into_iter().find(|f| f.eq_ignore_ascii_case(&wanted)) {
                return Ok(format!("\\EFI\\{vendor}\\{file}"));
            }
        }
    }
    let fallback = fallback(architecture);
    let found = match efi.open_dir("BOOT") {
        Ok(dir) => list(&dir)?.iter().any(|f| f.eq_ignore_ascii_case(fallback)),
        Err(_) => false,
    };
    if found { Ok(format!("\\EFI\\BOOT\\{fallback}")) } else { Err(LoaderError::NoLoader) }
}

/// A chain of clusters on somebody else's disk may be a ring, which fatfs would walk for ever.
const READ_BUDGET_BYTES: u64 = 64 << 20;

/// A partition as a read-only stream, for fatfs.
struct Window {
    device: Arc<dyn BlockDevice>,
    extent: Extent,
    at: u64,
    budget: u64,
}

impl Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.extent.len.saturating_sub(self.at);
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.budget = self
            .budget
            .checked_sub(len as u64)
            .ok_or_else(|| io::Error::other("its directories do not end within 64 MiB"))?;
        if let Some(buf) = buf.get_mut(..len) {
            self.device.read_at(buf, self.extent.offset + self.at)?;
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.extent.len.checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
