//! Reading a disk chunk by chunk.

use super::{AppError, Images};
use farrier_model::chunks::{DIGEST_BYTES, EMPTY_CHUNK};
use farrier_proto::images::ReadChunksResponse;
use farrier_proto::types::ChunkManifest;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// A position in a disk. The file stays open, so a deletion meanwhile does not disturb it.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    file: Arc<File>,
    manifest: ChunkManifest,
    chunk: u64,
    /// The first chunk that is not wanted.
    end: u64,
    /// In the chunk.
    offset: u64,
}

impl Images {
    /// A reader of some chunks of a disk; there may be fewer.
    pub(crate) async fn reader(
        &self,
        manifest_sha256: &str,
        chunks: Range<u64>,
    ) -> Result<ChunkReader, AppError> {
        let (disks, digest) = (self.disks.clone(), manifest_sha256.to_owned());
        let opened = spawn_blocking(move || match disks.manifest(&digest)? {
            Some(manifest) => Ok(Some((manifest, disks.raw(&digest)?))),
            None => io::Result::Ok(None),
        });
        let (manifest, file) = opened
            .await
            .map_err(|_| AppError::Lost)?
            .map_err(|source| AppError::Disk { doing: "cannot open a disk", source })?
            .ok_or_else(|| AppError::NotFound(format!("manifest {manifest_sha256:.64}")))?;
        Ok(ChunkReader { file: Arc::new(file), manifest, chunk: chunks.start, end: chunks.end, offset: 0 })
    }
}

impl ChunkReader {
    /// The next piece; `None` at the end. A thread is busy only while it reads, however slow the caller.
    pub(crate) async fn next(&mut self) -> Result<Option<ReadChunksResponse>, AppError> {
        let Some((chunk, offset, length)) = self.advance() else { return Ok(None) };
        let at = chunk.saturating_mul(number(self.manifest.chunk_bytes)).saturating_add(offset);
        let file = self.file.clone();
        let read = spawn_blocking(move || {
            let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut data, at).map(|()| data)
        });
        let data = read
            .await
            .map_err(|_| AppError::Lost)?
            .map_err(|source| AppError::Disk { doing: "cannot read a disk", source })?;
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(Some(ReadChunksResponse { chunk: signed(chunk), offset: signed(offset), data }))
    }

    /// Chunk, offset and length of the next piece, empty chunks left out; moves past it.
    fn advance(&mut self) -> Option<(u64, u64, u64)> {
        let (size, chunk_bytes) = (number(self.manifest.size_bytes), number(self.manifest.chunk_bytes));
        while self.chunk < self.end {
            let start = usize::try_from(self.chunk).ok()?.checked_mul(DIGEST_BYTES)?;
            let digest = self.manifest.digests.get(start..)?.get(..DIGEST_BYTES)?;
            let chunk_length = size.checked_sub(self.chunk.checked_mul(chunk_bytes)?)?.min(chunk_bytes);
            let left = chunk_length.saturating_sub(self.offset);
            if digest == EMPTY_CHUNK || left == 0 {
                self.chunk += 1;
                self.offset = 0;
                continue;
            }
            let piece = (self.chunk, self.offset, left.min(PIECE_BYTES));
            self.offset += piece.2;
            return Some(piece);
        }
        None
    }
}

fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Largest piece in one message, as the contract has it.
const PIECE_BYTES: u64 = 1 << 20;
