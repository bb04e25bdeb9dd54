//! A stream of consecutive chunks from the centre, put together from its pieces.

use super::CacheError;
use super::manifest::Manifest;
use super::origin::{Origin, Pieces};
use futures::StreamExt as _;
use std::time::Duration;

pub(super) struct Run {
    pieces: Pieces,
    /// Chunks that are still to come, the next one first; empty ones do not.
    next: usize,
    end: usize,
    buffer: Vec<u8>,
    idle: Duration,
}

/// A chunk as it came: not verified.
pub(super) struct Chunk {
    pub(super) index: usize,
    pub(super) bytes: Vec<u8>,
}

impl Run {
    /// `idle`: so long without a byte is a broken link.
    pub(super) async fn open(
        origin: &dyn Origin,
        image: &str,
        digest: &str,
        chunks: std::ops::Range<usize>,
        idle: Duration,
    ) -> Result<Self, CacheError> {
        let asked = origin.chunks(digest, chunks.start, chunks.len());
        let pieces = tokio::time::timeout(idle, asked)
            .await
            .map_err(|_| CacheError::silent(image, idle.as_secs()))?
            .map_err(|status| CacheError::of(image, status))?;
        Ok(Self { pieces, next: chunks.start, end: chunks.end, buffer: Vec::new(), idle })
    }

    /// The chunk that [`Run::chunk`] gives next.
    pub(super) fn upcoming(&self, manifest: &Manifest) -> Option<usize> {
        (self.next..self.end).find(|index| !manifest.is_empty(*index))
    }

    /// The next chunk; `None`: there are no more.
    ///
    /// CANCEL-SAFETY: what has come of a chunk is kept for the next call.
    pub(super) async fn chunk(
        &mut self,
        image: &str,
        manifest: &Manifest,
    ) -> Result<Option<Chunk>, CacheError> {
        let Some(index) = self.upcoming(manifest) else { return Ok(None) };
        let len = manifest.len(index);
        while self.buffer.len() < len {
            let piece = tokio::time::timeout(self.idle, self.pieces.next())
                .await
                .map_err(|_| CacheError::silent(image, self.idle.as_secs()))?
                .ok_or_else(|| CacheError::ended_early(image))?
                .map_err(|status| CacheError::of(image, status))?;
            let fits = usize::try_from(piece.chunk) == Ok(index)
                && usize::try_from(piece.offset) == Ok(self.buffer.len())
                && piece.data.len() <= len - self.buffer.len()
                && !piece.data.is_empty();
            if !fits {
                let why = "its chunks came out of order";
                return Err(CacheError::Manifest { image: image.to_owned(), why });
            }
            self.buffer.extend_from_slice(&piece.data);
        }
        self.next = index.saturating_add(1);
        Ok(Some(Chunk { index, bytes: std::mem::take(&mut self.buffer) }))
    }
}
