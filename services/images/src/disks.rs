//! The data directory: raw disks by content, and temporary files.
//!
//! ```text
//! lock                          held while a process uses the directory
//! tmp/                          uploads and conversions under way; emptied at start
//! disks/<manifest sha256>.raw       the disk, sparse
//! disks/<manifest sha256>.manifest  its `ChunkManifest`; a disk is there when this file is
//! ```
//!
//! **Invariant:** what is in `disks/` under a name has the content of that name, whatever was killed when:
//! files come there whole, by rename, the manifest last.

use farrier_model::chunks::manifest_preimage_header;
use farrier_proto::types::ChunkManifest;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of a disk: SHA-256 over the manifest's size, chunk size (both 64 bits, little endian) and digests.
pub fn manifest_digest(manifest: &ChunkManifest) -> String {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let header = manifest_preimage_header(number(manifest.size_bytes), number(manifest.chunk_bytes));
    hex::encode(Sha256::new().chain_update(header).chain_update(&manifest.digests).finalize())
}

/// Whether this is a SHA-256 in lower case hex: the only strings that become file names here.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The directory of disks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Disks {
    root: Arc<PathBuf>,
    _lock: Arc<File>,
}

/// A file that is removed when dropped, unless it was published.
#[derive(Debug)]
pub(crate) struct Temp {
    path: PathBuf,
    file: File,
}

impl Disks {
    /// Opens the directory, makes it if missing, and sweeps what a crash left in `tmp`.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let lock = File::create(root.join("lock"))?;
        if lock.try_lock().is_err() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{} is used by another process", root.display()),
            ));
        }
        for dir in [DISKS, TMP] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        for entry in std::fs::read_dir(root.join(TMP))? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(Self { root: Arc::new(root), _lock: Arc::new(lock) })
    }

    /// Removes disks that no image refers to: a crash between the disk and its image leaves one. Disks beside
    /// a catalogue without images stay: more likely than so many crashes is the wrong database.
    pub(crate) fn sweep(&self, keep: &HashSet<String>) -> io::Result<()> {
        if keep.is_empty() {
            return Ok(());
        }
        for entry in std::fs::read_dir(self.root.join(DISKS))? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            if is_digest(stem) && !keep.contains(stem) {
                tracing::info!(path = %path.display(), "removing a disk without an image");
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A new, empty temporary file.
    pub(crate) fn temp(&self) -> io::Result<Temp> {
        let path = self.root.join(TMP).join(uuid::Uuid::new_v4().to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Temp { path, file })
    }

    /// Whether the disk is here. A string that is no digest names none.
    pub(crate) fn has(&self, digest: &str) -> bool {
        is_digest(digest) && self.path(digest, MANIFEST).exists()
    }

    /// Puts a disk, already synced, under its name. One that is there already has the same content and stays.
    pub(crate) fn publish(&self, raw: Temp, manifest: &ChunkManifest) -> io::Result<()> {
        let digest = manifest_digest(manifest);
        if self.has(&digest) {
            return Ok(());
        }
        let mut temp = self.temp()?;
        temp.file.write_all(&manifest.encode_to_vec())?;
        temp.file.sync_all()?;
        std::fs::rename(&raw.path, self.path(&digest, RAW))?;
        std::fs::rename(&temp.path, self.path(&digest, MANIFEST))?;
        self.sync()
    }

    /// Removes a disk. Readers that have it open read on.
    pub(crate) fn remove(&self, digest: &str) -> io::Result<()> {
        if !is_digest(digest) {
            return Ok(());
        }
        for suffix in [MANIFEST, RAW] {
            match std::fs::remove_file(self.path(digest, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.sync()
    }

    /// The manifest of a disk, if the disk is here.
    pub(crate) fn manifest(&self, digest: &str) -> io::Result<Option<ChunkManifest>> {
        if !is_digest(digest) {
            return Ok(None);
        }
        match std::fs::read(self.path(digest, MANIFEST)) {
            Ok(bytes) => Ok(Some(ChunkManifest::decode(bytes.as_slice()).map_err(io::Error::other)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The raw disk, to read.
    pub(crate) fn raw(&self, digest: &str) -> io::Result<File> {
        if !is_digest(digest) {
            return Err(io::ErrorKind::NotFound.into());
        }
        File::open(self.path(digest, RAW))
    }

    fn path(&self, digest: &str, suffix: &str) -> PathBuf {
        self.root.join(DISKS).join(format!("{digest}.{suffix}"))
    }

    /// Makes renames and removals last.
    fn sync(&self) -> io::Result<()> {
        File::open(self.root.join(DISKS))?.sync_all()
    }
}

impl Temp {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // Published files are elsewhere by now; what else fails here, the sweep at start repeats.
        let _ = std::fs::remove_file(&self.path);
    }
}

const DISKS: &str = "disks";
const TMP: &str = "tmp";
const RAW: &str = "raw";
const MANIFEST: &str = "manifest";

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(disks: &Disks, content: &[u8]) -> (Temp, ChunkManifest) {
        let mut raw = disks.temp().unwrap();
        raw.file.write_all(content).unwrap();
        let digests = Sha256::digest(content).to_vec();
        (raw, ChunkManifest { size_bytes: content.len() as i64, chunk_bytes: 4 << 20, digests })
    }

    #[test]
    fn a_digest_never_changes() {
        let manifest = ChunkManifest { size_bytes: 512, chunk_bytes: 4 << 20, digests: vec![7; 32] };
        assert_eq!(
            manifest_digest(&manifest),
            "99c963a760f94744100a9de25d2618e23d3aa6942fe1787814df8b71a8f48f41"
        );
    }

    #[test]
    fn only_digests_become_paths() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().into()).unwrap();
        std::fs::write(dir.path().join("secret.manifest"), b"").unwrap();
        for bad in ["../secret", "", &"A".repeat(64), &format!("{}/", "a".repeat(63))] {
            assert!(!disks.has(bad) && disks.manifest(bad).unwrap().is_none() && disks.raw(bad).is_err());
            disks.remove(bad).unwrap();
        }
        assert!(dir.path().join("secret.manifest").exists());
    }

    #[test]
    fn a_start_sweeps_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path().into()).unwrap();
        std::mem::forget(disks.temp().unwrap());
        let mut names = Vec::new();
        for content in [b"a", b"b"] {
            let (raw, manifest) = disk(&disks, content);
            disks.publish(raw, &manifest).unwrap();
            names.push(manifest_digest(&manifest));
        }
        drop(disks);
        let disks = Disks::open(dir.path().into()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join(TMP)).unwrap().count(), 0);
        disks.sweep(&HashSet::new()).unwrap();
        assert!(disks.has(&names[0]) && disks.has(&names[1]));
        disks.sweep(&HashSet::from([names[0].clone()])).unwrap();
        assert!(disks.has(&names[0]) && !disks.has(&names[1]));
        assert!(disks.raw(&names[1]).is_err());
    }

    #[test]
    fn one_process_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Disks::open(dir.path().into()).unwrap();
        assert!(Disks::open(dir.path().into()).is_err());
        drop(first);
        Disks::open(dir.path().into()).unwrap();
    }
}
