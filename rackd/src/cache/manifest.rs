//! A manifest that was checked: its sizes and digests fit together, and its name is its content's.

use super::CacheError;
use farrier_model::chunks::{DIGEST_BYTES, EMPTY_CHUNK, chunk_count, manifest_preimage_header};
use farrier_proto::types::ChunkManifest;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// What the chunks of an image are.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) proto: ChunkManifest,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Bytes of a chunk; the last may be short.
    pub(super) chunk: u64,
}

impl Manifest {
    /// Nothing is believed: the bytes come from the network or from a disk.
    pub(super) fn check(image: &str, digest: &str, bytes: &[u8]) -> Result<Self, CacheError> {
        let bad = |why| CacheError::Manifest { image: image.to_owned(), why };
        let proto = ChunkManifest::decode(bytes).map_err(|_| bad("it cannot be decoded"))?;
        let size = u64::try_from(proto.size_bytes).map_err(|_| bad("its size is negative"))?;
        let chunk = u64::try_from(proto.chunk_bytes).unwrap_or(0);
        if chunk == 0 || chunk > MAX_CHUNK {
            return Err(bad("its chunks have no sane size"));
        }
        let digests = u64::try_from(proto.digests.len()).unwrap_or(u64::MAX);
        if digests != chunk_count(size, chunk).saturating_mul(DIGEST_BYTES as u64) {
            return Err(bad("its sizes and digests do not fit together"));
        }
        let seen = hex::encode(
            Sha256::new()
                .chain_update(manifest_preimage_header(size, chunk))
                .chain_update(&proto.digests)
                .finalize(),
        );
        if seen != digest {
            let what = format!("the manifest of {image}");
            return Err(CacheError::Checksum { what, expected: digest.to_owned(), seen });
        }
        Ok(Self { proto, size, chunk })
    }

    pub(super) fn count(&self) -> usize {
        self.proto.digests.len() / DIGEST_BYTES
    }

    pub(super) fn digest(&self, index: usize) -> &[u8] {
        let start = index.saturating_mul(DIGEST_BYTES);
        self.proto.digests.get(start..start.saturating_add(DIGEST_BYTES)).unwrap_or_default()
    }

    /// Whether the chunk holds only zeros, and is stored nowhere.
    pub(super) fn is_empty(&self, index: usize) -> bool {
        self.digest(index) == EMPTY_CHUNK
    }

    /// Bytes of the chunks that are stored.
    pub(super) fn stored(&self) -> u64 {
        (0..self.count()).filter(|index| !self.is_empty(*index)).map(|index| self.len(index) as u64).sum()
    }

    pub(super) fn offset(&self, index: usize) -> u64 {
        u64::try_from(index).unwrap_or(u64::MAX).saturating_mul(self.chunk)
    }

    /// Bytes of this chunk.
    pub(super) fn len(&self, index: usize) -> usize {
        usize::try_from(self.size.saturating_sub(self.offset(index)).min(self.chunk)).unwrap_or(0)
    }

    /// The chunks that a range touches; what is beyond the end is left out.
    pub(super) fn touched(&self, offset: u64, len: u64) -> std::ops::Range<usize> {
        let end = offset.saturating_add(len).min(self.size);
        if offset >= end {
            return 0..0;
        }
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        index(offset / self.chunk)..index(end.div_ceil(self.chunk))
    }

    /// Whether these bytes are the chunk.
    pub(super) fn verify(&self, image: &str, index: usize, bytes: &[u8]) -> Result<(), CacheError> {
        let seen = Sha256::digest(bytes);
        if seen.as_slice() == self.digest(index) {
            return Ok(());
        }
        Err(CacheError::Checksum {
            what: format!("chunk {index} of {image}"),
            expected: hex::encode(self.digest(index)),
            seen: hex::encode(seen),
        })
    }
}

/// The largest chunk we are ready to hold, bytes.
const MAX_CHUNK: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_the_chunks_it_lies_in() {
        let manifest = Manifest { proto: ChunkManifest::default(), size: 10, chunk: 4 };
        assert_eq!(manifest.touched(0, 4), 0..1);
        assert_eq!(manifest.touched(3, 2), 0..2);
        assert_eq!(manifest.touched(8, 100), 2..3);
        assert_eq!(manifest.touched(10, 1), 0..0);
        assert_eq!(manifest.touched(u64::MAX, 1), 0..0);
        assert_eq!((manifest.len(2), manifest.len(3)), (2, 0));
    }

    #[test]
    fn a_manifest_whose_numbers_lie_is_none() {
        for (size_bytes, chunk_bytes, digests) in
            [(-1, 4, 0), (10, 0, 96), (10, 4, 64), (10, 4, 95), (10, -4, 96), (i64::MAX, 1, 32)]
        {
            let proto = ChunkManifest { size_bytes, chunk_bytes, digests: vec![1; digests] };
            let checked = Manifest::check("images/x", "00", &proto.encode_to_vec());
            assert!(
                matches!(checked, Err(CacheError::Manifest { .. })),
                "{size_bytes} {chunk_bytes} {digests}"
            );
        }
    }
}
