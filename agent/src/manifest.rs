//! An image as chunks with digests, checked: the only way from the wire's [`ChunkManifest`] to an offset.
use bytes::Bytes;
use farrier_proto::types::ChunkManifest;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Marks a chunk that holds only zeros; no SHA-256 is known to be this value.
    pub const ZEROS: Self = Self([0; 32]);

    /// Digest of these bytes.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Chunks are held in memory, several at once: 64 MiB is what a small ramdisk can bear.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 4096..=64 << 20;

/// A manifest whose numbers agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    size_bytes: u64,
    chunk_bytes: u64,
    digests: Bytes,
}

/// One chunk of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub index: usize,
    /// First byte in the image and on the disk.
    pub offset: u64,
    /// Length in bytes; only the last chunk is short.
    pub len: u64,
    pub digest: Digest,
}

impl Chunk {
    pub fn is_zeros(&self) -> bool {
        self.digest == Digest::ZEROS
    }
}

/// The manifest contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("image size is {0} bytes")]
    Size(i64),
    #[error("chunk size is {0} bytes, not a power of two from 4 KiB to 64 MiB")]
    ChunkSize(i64),
    #[error("{seen} bytes of digests for {chunks} chunks")]
    Digests { seen: usize, chunks: u64 },
}

impl TryFrom<ChunkManifest> for Manifest {
    type Error = ManifestError;

    fn try_from(wire: ChunkManifest) -> Result<Self, ManifestError> {
        let size_bytes = u64::try_from(wire.size_bytes).ok().filter(|n| *n > 0);
        let size_bytes = size_bytes.ok_or(ManifestError::Size(wire.size_bytes))?;
        let chunk_bytes = u64::try_from(wire.chunk_bytes)
            .ok()
            .filter(|n| CHUNK_BYTES.contains(n) && n.is_power_of_two())
            .ok_or(ManifestError::ChunkSize(wire.chunk_bytes))?;
        let chunks = size_bytes.div_ceil(chunk_bytes);
        if chunks.checked_mul(32) != Some(wire.digests.len() as u64) {
            return Err(ManifestError::Digests { seen: wire.digests.len(), chunks });
        }
        Ok(Self { size_bytes, chunk_bytes, digests: wire.digests.into() })
    }
}

impl Manifest {
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of chunks.
    pub fn count(&self) -> usize {
        self.digests.len() / 32
    }

    pub fn chunk(&self, index: usize) -> Option<Chunk> {
        let digest: [u8; 32] = self.digests.chunks_exact(32).nth(index)?.try_into().ok()?;
        let offset = (index as u64).checked_mul(self.chunk_bytes)?;
        let len = self.size_bytes.checked_sub(offset)?.min(self.chunk_bytes);
        Some(Chunk { index, offset, len, digest: Digest(digest) })
    }

    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        (0..self.count()).filter_map(|index| self.chunk(index))
    }

    /// Makes the manifest of an image in memory, for tests and pretend image servers.
    pub fn of(image: &[u8], chunk_bytes: usize) -> ChunkManifest {
        let digests = image
            .chunks(chunk_bytes.max(1))
            .flat_map(|c| if c.iter().all(|b| *b == 0) { [0; 32] } else { Digest::of(c).0 })
            .collect();
        ChunkManifest {
            size_bytes: i64::try_from(image.len()).unwrap_or(i64::MAX),
            chunk_bytes: i64::try_from(chunk_bytes).unwrap_or(i64::MAX),
            digests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn last_chunk_is_short_and_zero_chunks_are_marked() {
        let mut image = vec![7; 4096 * 2 + 10];
        image[4096..8192].fill(0);
        let manifest = Manifest::try_from(Manifest::of(&image, 4096)).unwrap();
        let chunks: Vec<_> = manifest.chunks().map(|c| (c.offset, c.len, c.is_zeros())).collect();
        assert_eq!(chunks, [(0, 4096, false), (4096, 4096, true), (8192, 10, false)]);
    }

    #[test]
    fn contradictions_are_refused() {
        let manifest = |size_bytes, chunk_bytes, digests| ChunkManifest {
            size_bytes,
            chunk_bytes,
            digests: vec![0; digests],
        };
        for bad in [
            manifest(0, 4096, 0),
            manifest(-1, 4096, 32),
            manifest(1, 4097, 32),
            manifest(1, 0, 32),
            manifest(1, 128 << 20, 32),
            manifest(4097, 4096, 32),
            manifest(4096, 4096, 33),
            manifest(i64::MAX, 4096, 32),
        ] {
            assert!(Manifest::try_from(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_covers_the_image_exactly(size in 1i64..1 << 40, shift in 0u32..40, n in 0usize..300) {
            let wire = ChunkManifest { size_bytes: size, chunk_bytes: 1 << shift, digests: vec![1; n * 32] };
            if let Ok(manifest) = Manifest::try_from(wire) {
                let mut at = 0;
                for chunk in manifest.chunks() {
                    prop_assert_eq!(chunk.offset, at);
                    at += chunk.len;
                }
                prop_assert_eq!(at, manifest.size_bytes());
            }
        }
    }
}
