//! A block device or an ordinary file as a [`BlockDevice`]: `fallocate` means the same for both.
//!
//! The kernel is not told to read a new partition table (BLKRRPART): that ioctl has no safe wrapper, and
//! the agent addresses partitions by their offset on the whole disk; the installed system reads the
//! table when it boots.
use super::BlockDevice;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Largest piece zeroed in one system call: a call cannot be interrupted, so it must stay short.
const ZERO_PIECE_BYTES: u64 = 1 << 30;
/// Zeros written by hand where the kernel cannot do it.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// An opened disk: `/dev/…` on a real machine, a sparse file on a pretend one.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    size_bytes: u64,
    block_bytes: u32,
    unmaps: bool,
}

impl FileDisk {
    /// Opens `path`, whose size and block size the caller knows from the hardware report.
    pub fn open(path: &Path, size_bytes: u64, block_bytes: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, size_bytes, block_bytes, unmaps: true })
    }

    /// For disks that say they cannot discard: without this a spinning disk would "unmap" by writing
    /// zeros (WRITE SAME), which takes as long as writing the image.
    #[must_use]
    pub fn without_unmap(self) -> Self {
        Self { unmaps: false, ..self }
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.size_bytes) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{len} bytes at {offset} are beyond the disk's {} bytes", self.size_bytes),
        ))
    }

    fn pieces(&self, offset: u64, len: u64, mode: FallocateFlags) -> Result<(), Errno> {
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            let piece = ZERO_PIECE_BYTES.min(end - at);
            match fallocate(&self.file, mode, at, piece) {
                Err(Errno::INTR) => continue,
                other => other?,
            }
            at += piece;
        }
        Ok(())
    }
}

/// The kernel or the disk does not know how.
fn unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::REMOTEIO)
}

impl BlockDevice for FileDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check(offset, data.len() as u64)?;
        self.file.write_all_at(data, offset)
    }

    // On a block device PUNCH_HOLE is "write zeroes, unmapping, without falling back to writing": the
    // kernel refuses it unless the disk promises zeros afterwards (linux block/fops.c, blkdev_fallocate).
    fn unmap(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.check(offset, len)?;
        if !self.unmaps {
            return Ok(false);
        }
        match self.pieces(offset, len, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE) {
            Ok(()) => Ok(true),
            Err(e) if unsupported(e) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    // ZERO_RANGE on a block device falls back to writing zeros inside the kernel; a file system that
    // lacks it gets them written from here.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        match self.pieces(offset, len, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE) {
            Ok(()) => return Ok(()),
            Err(e) if unsupported(e) => {}
            Err(e) => return Err(e.into()),
        }
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let piece = (end - at).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..usize::try_from(piece).unwrap_or(0)).unwrap_or(&[]);
            self.file.write_all_at(zeros, at)?;
            at += piece;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        Ok(fadvise(&self.file, offset, NonZeroU64::new(len), Advice::DontNeed)?)
    }
}
