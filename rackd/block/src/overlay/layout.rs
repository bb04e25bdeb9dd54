//! The overlay file.
//!
//! ```text
//! 0          header, slot 0        the valid one with the higher sequence counts
//! 4 KiB      header, slot 1
//! 8 KiB      log, half 0           records of even epochs
//! 512 KiB    log, half 1           records of odd epochs
//! 1 MiB      map                   four bytes a block, little endian: 0 of the image below,
//!                                  1 zeros, n+2 block n of the data area
//! data_start data area             blocks
//! ```
//!
//! The map on disk is written only after the data it points to is on disk. Until then a change is a record
//! in the log, written right after the data. A record counts only while the machine has not been restarted
//! since: then the page cache has both in the order they were written. So a killed process loses nothing,
//! and a power failure nothing that was flushed.

use std::io;

pub(crate) const HEADER: usize = 4096;
pub(crate) const LOG: u64 = 8192;
pub(crate) const LOG_HALF: u64 = 512 * 1024 - 8192;
pub(crate) const MAP: u64 = 1 << 20;
pub(crate) const RECORD: usize = 20;
/// Entries of a page of the map: 4 KiB.
pub(crate) const PAGE: usize = 1024;

/// Records one half holds.
pub(crate) const RECORDS: u32 = (LOG_HALF / RECORD as u64) as u32;

pub(crate) const BASE: u32 = 0;
pub(crate) const ZERO: u32 = 1;
/// Entry of block 0 of the data area.
pub(crate) const FIRST: u32 = 2;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) block_size: u32,
    /// Bytes of the disk.
    pub(crate) size: u64,
    /// Blocks the map has room for.
    pub(crate) capacity: u64,
    pub(crate) sequence: u64,
    /// Records of this epoch and of the next are not in the map.
    pub(crate) epoch: u32,
    /// Which start of the machine the log belongs to.
    pub(crate) boot: [u8; 16],
    pub(crate) base_size: u64,
    pub(crate) base_id: String,
}

/// A change of the map: `count` blocks from `block` on. Entries of the data area count up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) block: u32,
    pub(crate) count: u32,
    pub(crate) entry: u32,
    pub(crate) epoch: u32,
}

impl Header {
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.block_size.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        for field in [self.size, self.capacity, self.sequence, self.base_size] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&u32::try_from(self.base_id.len()).unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(self.base_id.as_bytes());
        bytes.resize(HEADER - 4, 0);
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        let (body, sum) = bytes.get(..HEADER)?.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) || !body.starts_with(MAGIC) {
            return None;
        }
        let u32_at =
            |at: usize| -> Option<u32> { Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?)) };
        let u64_at =
            |at: usize| -> Option<u64> { Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?)) };
        let id_len = u32_at(64)? as usize;
        let header = Header {
            block_size: u32_at(8)?,
            epoch: u32_at(12)?,
            size: u64_at(16)?,
            capacity: u64_at(24)?,
            sequence: u64_at(32)?,
            base_size: u64_at(40)?,
            boot: body.get(48..64)?.try_into().ok()?,
            base_id: std::str::from_utf8(body.get(68..68usize.checked_add(id_len)?)?).ok()?.to_owned(),
        };
        header.is_sane().then_some(header)
    }

    fn is_sane(&self) -> bool {
        let block = u64::from(self.block_size);
        self.block_size.is_power_of_two()
            && (512..=1 << 20).contains(&self.block_size)
            && self.capacity <= u64::from(u32::MAX - FIRST)
            && self.size.div_ceil(block) <= self.capacity
    }

    /// The newer of the two slots.
    pub(crate) fn choose(first: &[u8], second: &[u8]) -> Option<Header> {
        let slots = [Header::parse(first), Header::parse(second)];
        slots.into_iter().flatten().max_by_key(|header| header.sequence)
    }

    pub(crate) fn slot(&self) -> u64 {
        (self.sequence % 2) * HEADER as u64
    }

    pub(crate) fn data_start(&self) -> u64 {
        (MAP + self.capacity * 4).next_multiple_of(1 << 20)
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.block_size))
    }
}

impl Record {
    pub(crate) fn emit(&self, bytes: &mut Vec<u8>) {
        let from = bytes.len();
        for field in [self.block, self.count, self.entry, self.epoch] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let sum = crc32c::crc32c(bytes.get(from..).unwrap_or_default());
        bytes.extend_from_slice(&sum.to_le_bytes());
    }

    /// A record of this epoch, or the end of the log.
    pub(crate) fn parse(bytes: &[u8], epoch: u32) -> Option<Record> {
        let (body, sum) = bytes.get(..RECORD)?.split_last_chunk::<4>()?;
        let field =
            |at: usize| -> Option<u32> { Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?)) };
        let record = Record { block: field(0)?, count: field(4)?, entry: field(8)?, epoch: field(12)? };
        (record.epoch == epoch && crc32c::crc32c(body) == u32::from_le_bytes(*sum)).then_some(record)
    }

    pub(crate) fn offset(epoch: u32, position: u32) -> u64 {
        let half = u64::from(epoch % 2) * LOG_HALF;
        LOG + half + u64::from(position) * RECORD as u64
    }
}

/// The identity of this start of the machine.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let value = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(value.to_be_bytes())
}

const MAGIC: &[u8; 8] = b"FARROVL1";
