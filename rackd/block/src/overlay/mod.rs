//! A copy-on-write disk over an image: blocks that were written are in a file of its own, all others are
//! read from the image. `layout` says how the file survives a crash, `disk` is the disk.

mod commit;
mod disk;
mod extents;
mod layout;
mod map;
mod open;
mod picture;
mod store;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farrier_iscsi::scsi::Extent;

use crate::backing::{Arrival, Backing, Image};

use disk::Disk;
use layout::{FIRST, Header};
use store::FileStore;

/// An overlay in a file.
#[derive(Debug)]
pub struct Overlay {
    disk: Disk<FileStore>,
    path: PathBuf,
    /// It is about to be removed: nothing of it has to reach the disk.
    abandoned: AtomicBool,
}

/// How an overlay is made.
#[derive(Debug, Clone)]
pub struct OverlayOptions {
    /// Bytes of the disk; `None`: as the image.
    pub size: Option<u64>,
    /// Bytes that are copied when one of them is written: small keeps writes quick, large keeps the map small.
    pub block_size: u32,
}

impl Default for OverlayOptions {
    fn default() -> OverlayOptions {
        OverlayOptions { size: None, block_size: 4096 }
    }
}

/// What an overlay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of it that are its own.
    pub allocated: u64,
    /// Bytes of it that were discarded.
    pub zeroed: u64,
    /// Bytes of its file on the disk below.
    pub file_bytes: u64,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayInfo {
    pub base_id: String,
    pub base_size: u64,
    pub size: u64,
    pub block_size: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the overlay file is damaged: {0}")]
    Damaged(&'static str),
    #[error("the overlay was made over image {expected}, not over {given}")]
    OtherBase { expected: String, given: String },
    #[error("the image below has {given} bytes, it had {expected}: it must not change")]
    OtherBaseSize { expected: u64, given: u64 },
    #[error("{size} is no size for this overlay: expected a multiple of 512, at most {most}")]
    BadSize { size: u64, most: u64 },
    #[error("blocks of {0} bytes: expected a power of two from 4096 to 1048576")]
    BadBlock(u32),
    #[error("the name of the image below has {0} bytes, at most 1024 fit")]
    LongName(usize),
    #[error("it is in use: expected nobody else to have it open; stop what serves it first")]
    InUse,
    #[error("another snapshot of it is being made: wait for its end")]
    Busy,
}

impl Overlay {
    /// Makes a new one. No byte of the image is read or copied.
    pub fn create(
        path: &Path,
        options: &OverlayOptions,
        base: Arc<dyn Image>,
        base_id: &str,
    ) -> Result<Arc<Overlay>, OverlayError> {
        let header = new_header(options, base.size(), base_id)?;
        let file = locked(OpenOptions::new().read(true).write(true).create_new(true).open(path)?)?;
        let disk = Disk::create(FileStore::new(file)?, header, base)?;
        sync_directory(path)?;
        Ok(Arc::new(Overlay { disk, path: path.to_owned(), abandoned: AtomicBool::new(false) }))
    }

    /// Opens one, and makes good what a crash left.
    pub fn open(path: &Path, base: Arc<dyn Image>, base_id: &str) -> Result<Arc<Overlay>, OverlayError> {
        let file = locked(OpenOptions::new().read(true).write(true).open(path)?)?;
        let disk = Disk::open(FileStore::new(file)?, base, base_id, layout::boot_id()?)?;
        Ok(Arc::new(Overlay { disk, path: path.to_owned(), abandoned: AtomicBool::new(false) }))
    }

    /// What a file says, without the image below.
    pub fn peek(path: &Path) -> Result<OverlayInfo, OverlayError> {
        let header = open::read_header(&FileStore::new(File::open(path)?)?)?;
        Ok(OverlayInfo {
            base_id: header.base_id,
            base_size: header.base_size,
            size: header.size,
            block_size: header.block_size,
        })
    }

    /// Removes the file. Whoever has it open still has it.
    pub fn delete(path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        sync_directory(path)
    }

    /// It is not flushed when it is dropped: its file is about to be removed.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn usage(&self) -> io::Result<Usage> {
        self.disk.usage()
    }

    /// Grows or shrinks it. Sessions hear of it through [`crate::Targets::resized`].
    pub fn resize(&self, size: u64) -> Result<(), OverlayError> {
        self.disk.resize(size)
    }

    /// A new overlay of the same image with the blocks this one has now: work as for the changed blocks.
    /// Writes go on meanwhile and are not in it.
    pub fn snapshot(&self, path: &Path) -> Result<(), OverlayError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let copied = self.disk.snapshot(FileStore::new(file)?);
        if copied.is_err() {
            // Half a snapshot is none.
            let _ = std::fs::remove_file(path);
        }
        copied?;
        Ok(sync_directory(path)?)
    }

    /// Pieces of the disk, by their numbers, that may differ from the image below.
    pub fn changed(&self, piece: u64) -> Vec<u64> {
        self.disk.changed(piece)
    }

    /// The whole disk as raw bytes, as it is now.
    pub fn export(&self, to: &mut dyn Write) -> Result<(), OverlayError> {
        self.disk.export(to)
    }

    /// Puts another image below; the content of the disk stays. End its sessions before.
    pub fn rebase(&self, base: Arc<dyn Image>, base_id: &str) -> Result<(), OverlayError> {
        if base_id.len() > MAX_NAME {
            return Err(OverlayError::LongName(base_id.len()));
        }
        self.disk.rebase(&base, base_id)
    }
}

impl Backing for Overlay {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn can_discard(&self) -> bool {
        true
    }

    fn block(&self) -> u64 {
        self.disk.block
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read(buffer, offset)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.try_read(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write(data, offset)
    }

    fn try_write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.try_write(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.discard(offset, len)
    }

    fn extents(&self, offset: u64, max: usize) -> io::Result<Vec<Extent>> {
        Ok(self.disk.extents(offset, max))
    }

    fn prefetch(&self, offset: u64, len: u64) -> io::Result<()> {
        // Reading is what brings it near, also from an image that is still arriving.
        let size = self.disk.size();
        let end = offset.saturating_add(len.min(PREFETCH)).min(size);
        let mut buffer = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
        self.disk.read(&mut buffer, offset)
    }

    fn arrival(&self, offset: u64, len: u64) -> Option<Arrival> {
        self.disk.arrival(offset, len)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Not needed for safety: what is not flushed may be lost. It saves the next start the replay.
        if self.abandoned.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.disk.flush() {
            tracing::warn!(path = %self.path.display(), %error, "overlay not flushed at its end");
        }
    }
}

/// Two that write to one overlay destroy it: whoever has it open keeps all others out, of this process too.
fn locked(file: File) -> Result<File, OverlayError> {
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OverlayError::InUse),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn new_header(options: &OverlayOptions, base_size: u64, base_id: &str) -> Result<Header, OverlayError> {
    let block_size = options.block_size;
    if !block_size.is_power_of_two() || !(4096..=1 << 20).contains(&block_size) {
        return Err(OverlayError::BadBlock(block_size));
    }
    if base_id.len() > MAX_NAME {
        return Err(OverlayError::LongName(base_id.len()));
    }
    let size = options.size.unwrap_or(base_size);
    let block = u64::from(block_size);
    // Room to grow: the map is a hole until it is used.
    let capacity = (size.saturating_mul(GROWTH).max(ROOM) / block).min(u64::from(u32::MAX - FIRST));
    if size == 0 || !size.is_multiple_of(512) || size.div_ceil(block) > capacity {
        return Err(OverlayError::BadSize { size, most: capacity.saturating_mul(block) });
    }
    Ok(Header {
        block_size,
        size,
        capacity,
        sequence: 0,
        epoch: 0,
        boot: layout::boot_id()?,
        base_size,
        base_id: base_id.to_owned(),
    })
}

/// A file that is new or gone survives a power failure when its directory does.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// How far an overlay can grow: sixteenfold, and to 256 GiB anyway.
const GROWTH: u64 = 16;
const ROOM: u64 = 256 << 30;
const MAX_NAME: usize = 1024;
/// Bytes of one hint that are taken seriously.
const PREFETCH: u64 = 1 << 20;
