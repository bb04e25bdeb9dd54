//! A disk that is told as what differs from another one: a rack that makes an image of a running machine's disk sends
//! what that machine has written, not the image below it again.
//!
//! ```text
//! 8 bytes   size of the disk, little endian
//! then for each chunk that differs, in order:
//! 8 bytes   its number, little endian
//! chunk     its bytes: CHUNK_BYTES, less at the end of the disk
//! ```
//!
//! Chunks that are not named are the other disk's; zeros where it has none.

use super::cut::{Piece, Source};
use super::decompress::fill;
use super::{ImportError, reading};
use farrier_model::chunks::{CHUNK_BYTES, DIGEST_BYTES, EMPTY_CHUNK};
use farrier_proto::types::ChunkManifest;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;

/// The disk that others are told from.
pub(super) struct Base {
    pub(super) file: File,
    pub(super) manifest: ChunkManifest,
}

pub(super) struct Changes<'a> {
    told: &'a mut dyn Read,
    base: Base,
    size: u64,
    /// The chunk that is read next.
    chunk: u64,
    /// The next one that is told.
    next: Option<u64>,
}

impl<'a> Changes<'a> {
    /// Reads the beginning.
    pub(super) fn open(told: &'a mut dyn Read, base: Base, max_bytes: u64) -> Result<Self, ImportError> {
        let size = number(told)?.ok_or_else(|| bad("no size"))?;
        if size > max_bytes {
            return Err(ImportError::TooLarge { limit: max_bytes });
        }
        let next = number(told)?;
        let changes = Self { told, base, size, chunk: 0, next };
        changes.check(next)?;
        Ok(changes)
    }

    /// One that is told must be of the disk, and not be told before.
    fn check(&self, next: Option<u64>) -> Result<(), ImportError> {
        match next {
            Some(next) if next < self.chunk || next >= self.size.div_ceil(CHUNK_BYTES) => {
                Err(bad("chunks out of order, or beyond the end of the disk"))
            }
            _ => Ok(()),
        }
    }

    /// The other disk's bytes at this place.
    fn of_base(&self, place: &mut [u8], start: u64) -> Result<Piece, ImportError> {
        let size = u64::try_from(self.base.manifest.size_bytes).unwrap_or(0);
        let there = usize::try_from(size.saturating_sub(start)).unwrap_or(usize::MAX).min(place.len());
        let at = usize::try_from(self.chunk).ok().and_then(|chunk| chunk.checked_mul(DIGEST_BYTES));
        let digest = at.and_then(|at| self.base.manifest.digests.get(at..)?.first_chunk::<DIGEST_BYTES>());
        let Some(digest) = digest.filter(|digest| **digest != EMPTY_CHUNK && there > 0) else {
            return Ok(Piece::Zeros(place.len()));
        };
        let whole = there == place.len()
            && (there as u64 == CHUNK_BYTES || start.saturating_add(there as u64) == size);
        let (from_base, behind) = place.split_at_mut(there);
        self.base.file.read_exact_at(from_base, start).map_err(reading)?;
        behind.fill(0);
        let digest = *digest;
        Ok(if whole { Piece::Known(there, digest) } else { Piece::Data(place.len()) })
    }
}

impl Source for Changes<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ImportError> {
        let start = self.chunk.saturating_mul(CHUNK_BYTES);
        let len = self.size.saturating_sub(start).min(CHUNK_BYTES);
        let len = usize::try_from(len).unwrap_or(0).min(buffer.len());
        let place = buffer.get_mut(..len).unwrap_or_default();
        if place.is_empty() {
            return Ok(Piece::Data(0));
        }
        if self.next != Some(self.chunk) {
            let piece = self.of_base(place, start)?;
            self.chunk += 1;
            return Ok(piece);
        }
        if fill(self.told, place)? < len {
            return Err(bad("a chunk ends early"));
        }
        self.chunk += 1;
        self.next = number(self.told)?;
        self.check(self.next)?;
        Ok(Piece::Data(len))
    }
}

/// `None`: the end.
fn number(told: &mut dyn Read) -> Result<Option<u64>, ImportError> {
    let mut bytes = [0; 8];
    match fill(told, &mut bytes)? {
        0 => Ok(None),
        8 => Ok(Some(u64::from_le_bytes(bytes))),
        _ => Err(bad("a number ends early")),
    }
}

fn bad(what: &str) -> ImportError {
    ImportError::BadFormat(format!("what differs is not well told: {what}"))
}
