//! A NoCloud seed volume, as cloud-init documents it: a vfat file system labelled `CIDATA`.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::{MediaError, OsArg, disk::mtools, io, text, write};
use crate::tool;

/// Writes a seed volume of 1 MiB to `path`: a bare file system, without a partition table.
///
/// `files` are (name, content); cloud-init wants `meta-data` and `user-data`, and reads
/// `network-config` and `vendor-data` when they are there.
pub fn seed_volume(path: &Path, files: &[(&str, &str)]) -> Result<(), MediaError> {
    let image = std::fs::File::create(path).map_err(io(path, "cannot be made"))?;
    image.set_len(1024 * 1024).map_err(io(path, "cannot be sized"))?;
    let path_text = text(path);
    tool::run("mkfs.vfat", ["--invariant", "-n", "CIDATA", &path_text].map(OsArg))?;
    let dir = tempfile::tempdir().map_err(io(path, "no temporary directory"))?;
    for (name, content) in files {
        let file = dir.path().join(name);
        write(&file, content.as_bytes())?;
        mtools("mcopy", &["-i", &path_text, &text(&file), &format!("::/{name}")])?;
    }
    Ok(())
}

/// Appends a partition with such a volume to a disk image with a GPT.
pub fn append_seed(disk: &Path, files: &[(&str, &str)]) -> Result<(), MediaError> {
    let dir = tempfile::tempdir().map_err(io(disk, "no temporary directory"))?;
    let volume = dir.path().join("seed");
    seed_volume(&volume, files)?;
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk)
        .map_err(io(disk, "cannot be opened"))?;
    let size = file.metadata().map_err(io(disk, "cannot be read"))?.len();
    // Room for the volume, and for the backup table that moves behind it.
    file.set_len(size + 2 * MIB).map_err(io(disk, "cannot be sized"))?;
    tool::run("sfdisk", ["--quiet", "--relocate", "gpt-bak-std", &text(disk)])?;
    // The old backup table lies in the image's last MiB: the partition begins behind it.
    let start = size.next_multiple_of(MIB) / SECTOR;
    let script = format!("start={start}, size={}, name=cidata\n", MIB / SECTOR);
    tool::run_with_input("sfdisk", ["--quiet", "--append", &text(disk)], script.as_bytes())?;
    let bytes = super::read(&volume)?;
    file.seek(SeekFrom::Start(start * SECTOR))
        .and_then(|_| file.write_all(&bytes))
        .map_err(io(disk, "cannot be written"))
}

const MIB: u64 = 1024 * 1024;
const SECTOR: u64 = 512;
