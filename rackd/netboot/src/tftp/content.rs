//! What a transfer reads from: memory, or a file of any size, a piece at a time.

use std::{
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;

use crate::Artifact;

/// Read at once from a file. A transfer keeps that much in memory: with all places taken it is 128 MiB.
pub(super) const AHEAD: usize = 64 << 10;

pub(super) enum Content {
    Bytes(Bytes),
    /// Of one machine alone, with a secret.
    Script(Bytes),
    File(Piece),
}

/// A file and what was read of it last.
pub(super) struct Piece {
    file: Arc<std::fs::File>,
    size: u64,
    /// Where `bytes` begins.
    offset: u64,
    bytes: Vec<u8>,
}

impl Content {
    pub(super) async fn open(artifact: Artifact) -> io::Result<Self> {
        let path = match artifact {
            Artifact::Bytes(bytes) => return Ok(Self::Bytes(bytes)),
            Artifact::File(path) => path,
            // CDs are what HTTP is for.
            Artifact::Joined(_) => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let file = tokio::fs::File::open(path).await?;
        let meta = file.metadata().await?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = Arc::new(file.into_std().await);
        Ok(Self::File(Piece { file, size: meta.len(), offset: 0, bytes: Vec::new() }))
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) | Self::Script(bytes) => bytes.len() as u64,
            Self::File(piece) => piece.size,
        }
    }

    pub(super) fn is_script(&self) -> bool {
        matches!(self, Self::Script(_))
    }

    /// `len` bytes at `offset`; fewer than that is an error, since the client was told the size.
    pub(super) async fn at(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let (bytes, begin): (&[u8], u64) = match self {
            Self::Bytes(bytes) | Self::Script(bytes) => (bytes, 0),
            Self::File(piece) => {
                if !piece.has(offset, len) {
                    piece.read(offset, len).await?;
                }
                (&piece.bytes, piece.offset)
            }
        };
        let start = offset.checked_sub(begin).and_then(|start| usize::try_from(start).ok());
        let wanted = start.and_then(|start| bytes.get(start..start.checked_add(len)?));
        wanted.ok_or_else(|| io::Error::other("the file became shorter while it was sent"))
    }
}

impl Piece {
    fn has(&self, offset: u64, len: usize) -> bool {
        let end = self.offset + self.bytes.len() as u64;
        offset >= self.offset && offset.saturating_add(len as u64) <= end
    }

    /// As many times `len` as there is room for.
    async fn read(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let ahead = (AHEAD / len.max(1)).max(1).saturating_mul(len);
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(ahead);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(left.min(ahead), 0);
        if !is_read_at_once(&self.file, &mut bytes, offset) {
            let file = Arc::clone(&self.file);
            // Off the threads that serve: the disk may be slow.
            let read =
                tokio::task::spawn_blocking(move || file.read_exact_at(&mut bytes, offset).map(|()| bytes));
            bytes = read.await.map_err(io::Error::other)??;
        }
        (self.bytes, self.offset) = (bytes, offset);
        Ok(())
    }
}

/// Whether all of it was in memory: a file that machines boot from is, but for the first of them.
fn is_read_at_once(file: &std::fs::File, bytes: &mut [u8], offset: u64) -> bool {
    let len = bytes.len();
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT);
    read == Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_reads_as_its_bytes_do_wherever_one_looks() {
        let bytes: Vec<u8> = (0..AHEAD * 2 + 777).map(|n| (n * 31 / 7) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let mut content = Content::open(Artifact::File(file.path().to_owned())).await.unwrap();
        assert_eq!(content.size(), bytes.len() as u64);
        let last = bytes.len();
        for (start, end) in
            [(0, 1024), (1024, 2048), (AHEAD - 5, AHEAD + 5), (7, 9), (last - 3, last), (last, last)]
        {
            let seen = content.at(start as u64, end - start).await.unwrap();
            assert!(*seen == bytes[start..end], "{start}..{end}");
        }
        assert!(content.at(last as u64 - 3, 4).await.is_err());
        std::fs::write(file.path(), b"short").unwrap();
        assert!(content.at(0, 1024).await.is_err());
    }
}
