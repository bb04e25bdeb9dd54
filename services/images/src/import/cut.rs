//! Cutting a disk into chunks: digest each, leave empty ones out, write the rest to a sparse file.

use super::{ImportError, decompress, writing};
use crate::disks::Temp;
use farrier_model::chunks::{CHUNK_BYTES, DIGEST_BYTES, EMPTY_CHUNK};
use farrier_proto::types::ChunkManifest;
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use tokio_util::sync::CancellationToken;

/// A raw disk, synced, not yet under its name.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) raw: Temp,
    pub(crate) manifest: ChunkManifest,
    /// Bytes in chunks that are not empty.
    pub(crate) stored_bytes: u64,
}

/// What the next bytes of a disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes are in the buffer; fewer than it holds only at the end.
    Data(usize),
    /// So many bytes are zero; the buffer was not touched.
    Zeros(usize),
    /// So many bytes are in the buffer: a whole chunk, with this digest.
    Known(usize, [u8; DIGEST_BYTES]),
}

/// A disk, read from front to back.
pub(super) trait Source {
    /// Reads the next `buffer.len()` bytes.
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ImportError>;
}

/// A disk that is a plain stream of bytes.
pub(super) struct Sequential<R>(pub(super) R);

impl Source for Sequential<Box<dyn Read>> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ImportError> {
        decompress::fill(&mut *self.0, buffer).map(Piece::Data)
    }
}

/// Reads the whole disk into `raw`. Sizes are rounded up to a sector: block devices have no half ones.
pub(super) fn cut(
    source: &mut dyn Source,
    raw: Temp,
    max_bytes: u64,
    cancel: &CancellationToken,
) -> Result<Cut, ImportError> {
    let mut chunk = vec![0; CHUNK];
    let (mut size, mut stored_bytes) = (0_u64, 0_u64);
    let mut digests = Vec::new();
    loop {
        if cancel.is_cancelled() {
            return Err(ImportError::Cancelled);
        }
        let piece = source.next(&mut chunk)?;
        let seen = match piece {
            Piece::Data(n) | Piece::Zeros(n) | Piece::Known(n, _) => n,
        };
        if seen == 0 {
            break;
        }
        let length = seen.next_multiple_of(SECTOR).min(CHUNK);
        if let Some(padding) = chunk.get_mut(seen..length) {
            padding.fill(0);
        }
        let data = chunk.get(..length).unwrap_or_default();
        let zero = match piece {
            Piece::Zeros(_) => true,
            Piece::Data(_) => is_zero(data),
            Piece::Known(..) => false,
        };
        if zero {
            digests.extend_from_slice(&EMPTY_CHUNK);
        } else {
            match piece {
                Piece::Known(_, digest) => digests.extend_from_slice(&digest),
                _ => digests.extend_from_slice(&Sha256::digest(data)),
            }
            raw.file().write_all_at(data, size).map_err(writing)?;
            stored_bytes += length as u64;
        }
        size += length as u64;
        if size > max_bytes.next_multiple_of(SECTOR as u64) {
            return Err(ImportError::TooLarge { limit: max_bytes });
        }
        if seen < CHUNK {
            break;
        }
    }
    if size == 0 {
        return Err(ImportError::BadFormat("the disk is empty".to_owned()));
    }
    raw.file().set_len(size).map_err(writing)?;
    raw.file().sync_all().map_err(writing)?;
    let manifest = ChunkManifest {
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        chunk_bytes: i64::try_from(CHUNK_BYTES).unwrap_or(i64::MAX),
        digests,
    };
    Ok(Cut { raw, manifest, stored_bytes })
}

/// Compares page by page: a slice comparison is `memcmp`, far quicker than a loop over bytes.
fn is_zero(data: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    data.chunks(ZEROS.len()).all(|page| ZEROS.get(..page.len()).is_some_and(|zeros| zeros == page))
}

const CHUNK: usize = CHUNK_BYTES as usize;
const SECTOR: usize = 512;
