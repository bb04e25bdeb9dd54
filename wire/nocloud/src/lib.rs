//! A NoCloud volume as bytes: the small FAT file system in which cloud-init finds who its machine is
//! (cloudinit/sources/DataSourceNoCloud.py: a file system labelled CIDATA with `meta-data` and `user-data`).
//!
//! Knows nothing of disks and partitions: the agent puts it into a partition, rackd serves it as a logical unit.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Write as _};

/// FAT label, padded to 11 bytes.
pub const LABEL: &[u8; 11] = b"CIDATA     ";
/// Volumes are whole multiples of this, in bytes.
pub const ALIGN: u64 = 1 << 20;

/// A file at the root of the volume.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    pub name: &'a str,
    pub content: &'a [u8],
}

/// Why there is no volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error(
        "expected at most 16 different file names of letters, digits, dot, dash and underscore, seen {0:?}; next: correct the files of the config drive"
    )]
    Name(String),
    #[error(
        "expected config drive files that fit into 64 MiB, seen {0} bytes; next: put less into the user data"
    )]
    TooLarge(u64),
    #[error("building a FAT volume: {0}")]
    Fat(#[from] io::Error),
}

/// The volume: 4 MiB or more, sectors of `block_bytes`. `id` is its serial number.
pub fn volume(files: &[File<'_>], block_bytes: u32, id: u32) -> Result<Vec<u8>, VolumeError> {
    check_names(files)?;
    // A cluster of slack a file, and an eighth for tables.
    let content: u64 = files.iter().map(|f| f.content.len() as u64 + 65_536).sum();
    let len = (content + content / 8).max(MIN_BYTES).div_ceil(ALIGN) * ALIGN;
    if len > MAX_BYTES {
        return Err(VolumeError::TooLarge(content));
    }
    let too_large = |_| io::Error::other("volume does not fit into memory");
    let mut bytes = vec![0; usize::try_from(len).map_err(too_large)?];
    let options = fatfs::FormatVolumeOptions::new()
        .bytes_per_sector(u16::try_from(block_bytes).unwrap_or(512))
        .volume_id(id)
        .volume_label(*LABEL);
    fatfs::format_volume(Cursor::new(bytes.as_mut_slice()), options)?;
    let volume = fatfs::FileSystem::new(Cursor::new(bytes.as_mut_slice()), fatfs::FsOptions::new())?;
    for file in files {
        let mut out = volume.root_dir().create_file(file.name)?;
        out.truncate()?;
        out.write_all(file.content)?;
        out.flush()?;
    }
    volume.unmount()?;
    Ok(bytes)
}

/// Names come from rackd, which checked them; a FAT directory would still take surprising ones.
fn check_names(files: &[File<'_>]) -> Result<(), VolumeError> {
    let legal = |name: &str| {
        (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let mut seen = BTreeSet::new();
    for file in files {
        if !legal(file.name) || !seen.insert(file.name.to_ascii_lowercase()) || seen.len() > MAX_FILES {
            return Err(VolumeError::Name(file.name.chars().take(80).collect()));
        }
    }
    Ok(())
}

/// Smallest volume: 4 MiB hold any usual user data (cloud providers cap it at 16 to 64 KiB).
const MIN_BYTES: u64 = 4 << 20;
/// Ironic's bound of a config drive.
const MAX_BYTES: u64 = 64 << 20;
const MAX_FILES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn tool(program: &str, args: &[&str]) -> String {
        let path = "/usr/sbin:/usr/bin:/sbin:/bin";
        let done = Command::new(program).args(args).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1").output();
        let done = done.unwrap_or_else(|e| panic!("{program}: {e}; install dosfstools and mtools"));
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    #[test]
    fn other_programs_read_the_volume() {
        let files = [
            File { name: "meta-data", content: b"instance-id: i-1\n" },
            File { name: "user-data", content: &[b'x'; 200_000] },
        ];
        for sector in [512, 4096] {
            let bytes = volume(&files, sector, 0xfa22_1e55).unwrap();
            assert_eq!(bytes.len() as u64 % ALIGN, 0);
            let out = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(out.path(), &bytes).unwrap();
            let path = out.path().to_str().unwrap();
            tool("fsck.vfat", &["-n", path]);
            assert!(tool("blkid", &["-p", path]).contains("LABEL=\"CIDATA\""));
            assert_eq!(tool("mtype", &["-i", path, "::meta-data"]), "instance-id: i-1\n");
        }
    }

    #[test]
    fn names_and_sizes_are_bounded() {
        for bad in ["", ".x", "a/b", "a b", "Ä"] {
            let files = [File { name: bad, content: b"" }];
            assert!(matches!(volume(&files, 512, 1), Err(VolumeError::Name(_))), "{bad:?}");
        }
        let twice = [File { name: "a", content: b"" }, File { name: "A", content: b"" }];
        assert!(matches!(volume(&twice, 512, 1), Err(VolumeError::Name(_))));
        let large = vec![0; 70 << 20];
        let files = [File { name: "user-data", content: &large }];
        assert!(matches!(volume(&files, 512, 1), Err(VolumeError::TooLarge(_))));
    }
}
