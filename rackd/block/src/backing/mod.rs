//! What the blocks of a logical unit are stored in.

mod file;
mod synced;

pub(crate) use file::{CachedFile, punch};
pub use file::{FileBacking, Mode};
pub(crate) use synced::Synced;

use std::io;
use std::pin::Pin;

use farrier_iscsi::scsi::Extent;

/// Something that stores bytes. Methods may wait for a disk or for other bytes and are called where that is
/// allowed; those that begin with `try` must not, and answer [`io::ErrorKind::WouldBlock`] instead.
///
/// Reads and writes are inside [`Backing::size`] when they come from a session.
pub trait Backing: Send + Sync + std::fmt::Debug + 'static {
    fn size(&self) -> u64;

    fn is_read_only(&self) -> bool;

    /// Whether [`Backing::discard`] gives space back.
    fn can_discard(&self) -> bool;

    /// Bytes in which it is best written and discarded, a power of two.
    fn block(&self) -> u64;

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Writes, or writes nothing and says WouldBlock.
    fn try_write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Everything that was written before survives a power failure.
    fn flush(&self) -> io::Result<()>;

    /// These bytes read as zeros from now on, and their space is given back where that is possible.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// What is allocated, in order, without gaps, from `offset` to at most the end: at most `max` extents.
    fn extents(&self, offset: u64, max: usize) -> io::Result<Vec<Extent>>;

    /// Brings the range near, if that is possible.
    fn prefetch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Something of this range that comes from far and is not here yet; `None`: reading it waits for a disk at most.
    /// More may be missing when it has arrived: ask again.
    fn arrival(&self, _offset: u64, _len: u64) -> Option<Arrival> {
        None
    }
}

/// Over when something has arrived, or cannot. Dropping it stops only the waiting.
pub type Arrival = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// An image that others build on: read, never written. It may still be arriving: then reads wait.
pub trait Image: Send + Sync + std::fmt::Debug + 'static {
    fn size(&self) -> u64;

    /// May wait; called on a thread that may.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Must not wait: [`io::ErrorKind::WouldBlock`] if the bytes are not at hand.
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// As [`Backing::arrival`]: whoever has no thread to spare for a long wait asks before reading. A range may
    /// reach beyond the end.
    fn arrival(&self, _offset: u64, _len: u64) -> Option<Arrival> {
        None
    }
}
