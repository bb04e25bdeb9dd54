//! A NoCloud seed volume, as cloud-init documents it: a vfat file system labelled `CIDATA`.

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
