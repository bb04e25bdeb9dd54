//! The four primary entries of a DOS partition table. Logical partitions are left to the system inside.
use super::Extent;
use crate::machine::BlockDevice;
use std::io;

/// Types that hold logical partitions or stand for a GPT.
const PROTECTIVE: u8 = 0xee;

/// A DOS table in a disk's first block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    block_bytes: u64,
    block: Vec<u8>,
}

/// One primary partition; numbers are in logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MbrEntry {
    pub kind: u8,
    pub first: u32,
    pub count: u32,
}

impl Mbr {
    /// `None` without the signature, or when what carries it is a file system's boot sector or the
    /// protective table of a GPT that is not sound.
    pub fn read(disk: &dyn BlockDevice) -> io::Result<Option<Self>> {
        let mut block = vec![0; disk.block_bytes() as usize];
        if disk.size_bytes() < block.len() as u64 {
            return Ok(None);
        }
        disk.read_at(&mut block, 0)?;
        let mbr = Self { block_bytes: u64::from(disk.block_bytes()), block };
        let signed = mbr.block.get(510..512) == Some(&[0x55, 0xaa]);
        let flags_legal = mbr.raw().all(|e| matches!(e.first(), Some(0 | 0x80)));
        let protective = mbr.used().any(|(_, e)| e.kind == PROTECTIVE);
        Ok((signed && flags_legal && !protective).then_some(mbr))
    }

    fn raw(&self) -> impl Iterator<Item = &[u8]> {
        self.block.get(446..510).unwrap_or(&[]).chunks_exact(16)
    }

    /// Entries in use with their index.
    pub fn used(&self) -> impl Iterator<Item = (usize, MbrEntry)> {
        self.raw().enumerate().filter_map(|(index, raw)| {
            let entry = MbrEntry {
                kind: *raw.get(4)?,
                first: u32::from_le_bytes(raw.get(8..12)?.try_into().ok()?),
                count: u32::from_le_bytes(raw.get(12..16)?.try_into().ok()?),
            };
            (entry.kind != 0 && entry.count != 0).then_some((index, entry))
        })
    }

    /// Where an entry lies on the disk.
    pub fn extent(&self, entry: &MbrEntry) -> Extent {
        Extent {
            offset: u64::from(entry.first) * self.block_bytes,
            len: u64::from(entry.count) * self.block_bytes,
        }
    }

    /// Bytes that partitions may take: from 1 MiB, as far as 32 bits of blocks reach.
    pub fn usable(&self, disk_bytes: u64) -> Extent {
        let end = disk_bytes.min(u64::from(u32::MAX) * self.block_bytes);
        Extent { offset: 1 << 20, len: end.saturating_sub(1 << 20) }
    }

    /// Frees an entry.
    pub fn remove(&mut self, index: usize) {
        if let Some(raw) = self.raw_mut(index) {
            raw.fill(0);
        }
    }

    /// Puts a partition into the first free slot and says which; `None` when all four are taken.
    pub fn add(&mut self, kind: u8, at: Extent) -> Option<usize> {
        let used: Vec<usize> = self.used().map(|(index, _)| index).collect();
        let index = (0..4).find(|index| !used.contains(index))?;
        let first = u32::try_from(at.offset / self.block_bytes).ok()?;
        let count = u32::try_from(at.len / self.block_bytes).ok()?;
        let raw = self.raw_mut(index)?;
        // CHS fields say "too large": every reader of today uses the block numbers.
        let head = [0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff];
        let fields = head.into_iter().chain(first.to_le_bytes()).chain(count.to_le_bytes());
        for (to, from) in raw.iter_mut().zip(fields) {
            *to = from;
        }
        Some(index)
    }

    fn raw_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.block.get_mut(446..510)?.chunks_exact_mut(16).nth(index)
    }

    /// Writes the block back.
    pub fn write(&self, disk: &dyn BlockDevice) -> io::Result<()> {
        disk.write_at(&self.block, 0)?;
        disk.sync()
    }
}
