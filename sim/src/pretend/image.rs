//! A disk image that pretend firmware starts: a partition table, and data to tell images apart by.

use std::io;
use std::path::Path;

use farrier_agent::machine::{BlockDevice as _, FileDisk};
use farrier_agent::partitions::{Extent, Gpt};

/// Linux file system data (0FC63DAF-8483-4772-8E79-3D69D8477DE4), as it lies on disk.
const LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
/// First byte of the one partition; before it lies the table, behind it what an installation leaves alone.
pub const DATA_OFFSET: u64 = 1 << 20;
/// Between the partition's end and the image's: the table's backup, which a larger disk moves.
pub const TAIL_BYTES: u64 = 1 << 20;

/// Writes a raw image of `bytes` with one partition full of noise that depends on `seed`. Blocking.
///
/// # Errors
/// The file cannot be written, or `bytes` leaves no room for a partition.
pub fn write_image(path: &Path, bytes: u64, seed: u64) -> io::Result<()> {
    let too_small = || io::Error::new(io::ErrorKind::InvalidInput, "no room for a partition");
    let file = std::fs::File::create(path)?;
    file.set_len(bytes)?;
    drop(file);
    let disk = FileDisk::open(path, bytes, 512)?;
    let len = bytes.checked_sub(DATA_OFFSET + TAIL_BYTES).filter(|len| *len > 0).ok_or_else(too_small)?;
    let mut guid = [0; 16];
    for (byte, value) in guid.iter_mut().zip(seed.to_le_bytes()) {
        *byte = value;
    }
    let mut gpt = Gpt::new(&disk, guid);
    let entry = gpt.entry(LINUX, guid, Extent { offset: DATA_OFFSET, len }, "pretend-root");
    gpt.add(&entry).ok_or_else(too_small)?;
    gpt.write(&disk)?;
    let mut noise = seed | 1;
    let mut at = DATA_OFFSET;
    while at < DATA_OFFSET + len {
        let mut block = vec![0; usize::try_from((DATA_OFFSET + len - at).min(1 << 20)).unwrap_or(0)];
        for word in block.chunks_mut(8) {
            // xorshift64: no zeros, no repetition, the same everywhere.
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            for (byte, value) in word.iter_mut().zip(noise.to_le_bytes()) {
                *byte = value;
            }
        }
        disk.write_at(&block, at)?;
        at += block.len() as u64;
    }
    disk.sync()
}
