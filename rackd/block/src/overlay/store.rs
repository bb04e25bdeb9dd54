//! What an overlay is kept in: a file, or in tests a disk that loses what was not synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::backing::{CachedFile, punch};

pub(crate) trait Store: Send + Sync + std::fmt::Debug + 'static {
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// What lies behind the end reads as zeros.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// WouldBlock if it is not in memory.
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Everything written before survives a power failure; what was written since may or may not.
    fn sync(&self) -> io::Result<()>;

    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Where there may be other bytes than zeros in this range, in order.
    fn data(&self, offset: u64, end: u64) -> io::Result<Vec<(u64, u64)>>;

    /// Bytes it takes on the disk below.
    fn space(&self) -> io::Result<u64>;
}

#[derive(Debug)]
pub(crate) struct FileStore(CachedFile);

impl FileStore {
    pub(crate) fn new(file: File) -> io::Result<FileStore> {
        Ok(FileStore(CachedFile::new(file)?))
    }
}

impl Store for FileStore {
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.file.set_len(len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.file.read_at(rest, offset + done as u64) {
                Ok(0) => {
                    rest.fill(0);
                    return Ok(());
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.try_read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.file.write_all_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.file.sync_data()
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        punch(&self.0.file, offset, len)
    }

    fn data(&self, offset: u64, end: u64) -> io::Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        let mut at = offset;
        while at < end {
            let start = match rustix::fs::seek(&self.0.file, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            if start >= end {
                break;
            }
            at = rustix::fs::seek(&self.0.file, SeekFrom::Hole(start))?.min(end);
            found.push((start, at));
        }
        Ok(found)
    }

    fn space(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(self.0.file.metadata()?.blocks() * 512)
    }
}
