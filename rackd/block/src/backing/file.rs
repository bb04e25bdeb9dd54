//! A file, raw and sparse where its file system allows it: holes are what was discarded.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farrier_iscsi::scsi::Extent;
use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Backing, Image, Synced};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    ReadOnly,
    ReadWrite,
}

/// A raw disk in a file.
#[derive(Debug)]
pub struct FileBacking {
    file: File,
    path: PathBuf,
    size: u64,
    mode: Mode,
    cached: CachedReads,
    synced: Synced,
}

/// How bytes that are in memory are read without waiting for those that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CachedReads {
    /// `RWF_NOWAIT`.
    NoWait,
    /// The file system is memory: a read never waits.
    Memory,
    /// The file system cannot tell.
    Unknown,
}

impl FileBacking {
    pub fn open(path: &Path, mode: Mode) -> io::Result<Arc<FileBacking>> {
        let file = OpenOptions::new().read(true).write(mode == Mode::ReadWrite).open(path)?;
        let size = file.metadata()?.len();
        let cached = cached_reads(&file)?;
        Ok(Arc::new(FileBacking {
            file,
            path: path.to_owned(),
            size,
            mode,
            cached,
            synced: Synced::default(),
        }))
    }

    /// The same, and nobody writes to it who asks like this as long as it is open; with [`Mode::ReadWrite`] nobody reads it
    /// either. Refused with [`io::ErrorKind::ResourceBusy`].
    pub fn open_locked(path: &Path, mode: Mode) -> io::Result<Arc<FileBacking>> {
        let opened = FileBacking::open(path, mode)?;
        let lock = match mode {
            Mode::ReadOnly => FlockOperation::NonBlockingLockShared,
            Mode::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&opened.file, lock) {
            Ok(()) => Ok(opened),
            Err(Errno::WOULDBLOCK) => Err(io::Error::new(io::ErrorKind::ResourceBusy, IN_USE)),
            Err(error) => Err(error.into()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Backing for FileBacking {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.mode == Mode::ReadOnly
    }

    fn can_discard(&self) -> bool {
        self.mode == Mode::ReadWrite
    }

    fn block(&self) -> u64 {
        4096
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        try_read(&self.file, self.cached, buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    /// The page cache takes it; the kernel makes a writer wait only when memory is short.
    fn try_write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.synced.sync(|| self.file.sync_data())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        punch(&self.file, offset, len)
    }

    fn extents(&self, offset: u64, max: usize) -> io::Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut at = offset;
        while at < self.size && extents.len() < max {
            let (end, allocated) = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) if data > at => (data.min(self.size), false),
                Ok(_) => (rustix::fs::seek(&self.file, SeekFrom::Hole(at))?.min(self.size), true),
                // No data behind this place.
                Err(Errno::NXIO) => (self.size, false),
                Err(error) => return Err(error.into()),
            };
            if end <= at {
                break;
            }
            extents.push(Extent { offset: at, len: end - at, allocated });
            at = end;
        }
        Ok(extents)
    }

    fn prefetch(&self, offset: u64, len: u64) -> io::Result<()> {
        advise_needed(&self.file, offset, len)
    }
}

impl Image for FileBacking {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        try_read(&self.file, self.cached, buffer, offset)
    }
}

/// A file and how it is read without waiting, for an overlay's own file.
#[derive(Debug)]
pub(crate) struct CachedFile {
    pub(crate) file: File,
    cached: CachedReads,
}

impl CachedFile {
    pub(crate) fn new(file: File) -> io::Result<CachedFile> {
        let cached = cached_reads(&file)?;
        Ok(CachedFile { file, cached })
    }

    pub(crate) fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        try_read(&self.file, self.cached, buffer, offset)
    }
}

/// Makes a hole. Where the file system has none, zeros are written.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, offset, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, offset, len),
        Err(error) => Err(error.into()),
    }
}

fn advise_needed(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match std::num::NonZeroU64::new(len) {
        Some(len) => Ok(rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::WillNeed)?),
        None => Ok(()),
    }
}

fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let zeros = [0u8; 64 * 1024];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..part).unwrap_or_default(), offset + at)?;
        at += part as u64;
    }
    Ok(())
}

fn cached_reads(file: &File) -> io::Result<CachedReads> {
    let mut probe = [0u8; 1];
    let mut slices = [io::IoSliceMut::new(&mut probe)];
    match rustix::io::preadv2(file, &mut slices, 0, ReadWriteFlags::NOWAIT) {
        Ok(_) | Err(Errno::AGAIN) => Ok(CachedReads::NoWait),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            let kind = rustix::fs::fstatfs(file)?.f_type;
            Ok(if kind == TMPFS { CachedReads::Memory } else { CachedReads::Unknown })
        }
        Err(error) => Err(error.into()),
    }
}

fn try_read(file: &File, cached: CachedReads, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    match cached {
        CachedReads::Memory => return file.read_exact_at(buffer, offset),
        CachedReads::Unknown => return Err(io::ErrorKind::WouldBlock.into()),
        CachedReads::NoWait => {}
    }
    let mut done = 0;
    while done < buffer.len() {
        let Some(rest) = buffer.get_mut(done..) else { break };
        let mut slices = [io::IoSliceMut::new(rest)];
        match rustix::io::preadv2(file, &mut slices, offset + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `statfs` type of tmpfs.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

const IN_USE: &str = "it is in use: expected nobody else to write to it, or to read what is to be written; stop what has it open first";
