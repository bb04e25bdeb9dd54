//! How a disk is cut into chunks, and what names the whole: the arithmetic that the images service, rackd
//! and the agent must agree on.

/// Bytes in a chunk of a disk: large enough that a digest each costs nothing, small enough to fetch again.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// Bytes in a chunk's digest (SHA-256).
pub const DIGEST_BYTES: usize = 32;

/// Stands in a manifest for the digest of a chunk that holds only zeros, and is stored nowhere.
pub const EMPTY_CHUNK: [u8; DIGEST_BYTES] = [0; DIGEST_BYTES];

/// How many chunks a disk has; the last may be short.
pub fn chunk_count(size_bytes: u64, chunk_bytes: u64) -> u64 {
    if chunk_bytes == 0 { 0 } else { size_bytes.div_ceil(chunk_bytes) }
}

/// What is hashed before the digests to name a manifest: the name of a disk is
/// SHA-256(`size_bytes` u64 LE ‖ `chunk_bytes` u64 LE ‖ digests).
pub fn manifest_preimage_header(size_bytes: u64, chunk_bytes: u64) -> [u8; 16] {
    let mut header = [0; 16];
    let (size, chunk) = header.split_at_mut(8);
    size.copy_from_slice(&size_bytes.to_le_bytes());
    chunk.copy_from_slice(&chunk_bytes.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_may_be_short() {
        let counts = [(0, 0), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2)];
        for (size, expected) in counts {
            assert_eq!(chunk_count(size, CHUNK_BYTES), expected, "{size}");
        }
        assert_eq!(chunk_count(5, 0), 0);
    }

    #[test]
    fn the_header_never_changes() {
        assert_eq!(manifest_preimage_header(0x0102, 3), [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }
}
