//! Partition tables: read with suspicion (an image is somebody else's bytes), written with care.
mod gpt;
mod mbr;

pub use gpt::{ESP_TYPE, Gpt, GptEntry};
pub use mbr::{Mbr, MbrEntry};

use crate::machine::BlockDevice;
use std::io;

/// What a disk's first blocks say of it.
#[derive(Debug, Clone)]
pub enum PartitionTable {
    Gpt(Gpt),
    Mbr(Mbr),
    None,
}

/// Where a partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub len: u64,
}

impl Extent {
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

impl PartitionTable {
    /// Reads the table of `disk`: GPT when one of its two headers is sound, else MBR.
    pub fn read(disk: &dyn BlockDevice) -> io::Result<Self> {
        if let Some(gpt) = Gpt::read(disk)? {
            return Ok(Self::Gpt(gpt));
        }
        Ok(Mbr::read(disk)?.map_or(Self::None, Self::Mbr))
    }

    /// Partitions in use, in table order.
    pub fn extents(&self) -> Vec<Extent> {
        match self {
            Self::Gpt(gpt) => gpt.used().map(|(_, e)| gpt.extent(&e)).collect(),
            Self::Mbr(mbr) => mbr.used().map(|(_, e)| mbr.extent(&e)).collect(),
            Self::None => Vec::new(),
        }
    }
}

/// The highest gap of `len` bytes, aligned to `align`, inside `within` and clear of `taken`.
pub fn last_gap(within: Extent, taken: &[Extent], len: u64, align: u64) -> Option<u64> {
    let align = align.max(1);
    let mut taken: Vec<Extent> = taken.to_vec();
    taken.sort_by_key(|e| std::cmp::Reverse(e.end()));
    let mut end = within.end();
    loop {
        let start = end.checked_sub(len)? / align * align;
        if start < within.offset {
            return None;
        }
        // The highest partition that overlaps [start, start + len) pushes us below itself.
        match taken.iter().find(|t| t.offset < start + len && t.end() > start) {
            None => return Some(start),
            Some(blocker) => end = blocker.offset,
        }
    }
}

#[cfg(test)]
mod tests;
