//! GUID partition table (UEFI 2.10 §5.3): header and entries, primary and backup.
use super::Extent;
use crate::machine::BlockDevice;
use std::io;

/// EFI System Partition, as its GUID lies on disk.
pub const ESP_TYPE: [u8; 16] = guid_bytes(0xc12a_7328, 0xf81f, 0x11d2, 0xba4b_00a0_c93e_c93b);

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that exist in revision 1.0.
const HEADER_BYTES: usize = 92;
/// Bytes of an entry that exist in revision 1.0; a larger entry keeps its tail.
const ENTRY_BYTES: usize = 128;
/// Larger tables are legal and unheard of: the array would be more than 128 KiB.
const MAX_ARRAY_BYTES: usize = 1 << 17;
/// Name field: 36 UTF-16 units at byte 56.
const NAME_UNITS: usize = 36;

/// `xxxxxxxx-xxxx-xxxx-` little endian, the rest as it reads (UEFI 2.10 appendix A).
const fn guid_bytes(a: u32, b: u16, c: u16, rest: u64) -> [u8; 16] {
    let (a, b, c, r) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), rest.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]]
}

/// A sound table, with the geometry of the disk it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    block_bytes: u64,
    /// Blocks of the disk.
    blocks: u64,
    disk_guid: [u8; 16],
    first_usable: u64,
    last_usable: u64,
    entry_bytes: usize,
    /// The raw array: attributes and names we do not know survive.
    array: Vec<u8>,
    /// Where the header that was read said the other one is.
    alternate: u64,
}

/// One partition. Blocks are inclusive at both ends, as on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptEntry {
    pub type_guid: [u8; 16],
    pub guid: [u8; 16],
    pub first: u64,
    pub last: u64,
    pub name: String,
}

impl Gpt {
    /// The primary table, or the backup at the end of the disk; `None` when neither is sound.
    pub fn read(disk: &dyn BlockDevice) -> io::Result<Option<Self>> {
        let block = u64::from(disk.block_bytes());
        let blocks = disk.size_bytes() / block.max(1);
        if blocks < 8 {
            return Ok(None);
        }
        for lba in [1, blocks - 1] {
            if let Some(gpt) = Self::read_at(disk, lba, blocks)? {
                return Ok(Some(gpt));
            }
        }
        Ok(None)
    }

    fn read_at(disk: &dyn BlockDevice, lba: u64, blocks: u64) -> io::Result<Option<Self>> {
        let block_bytes = u64::from(disk.block_bytes());
        let mut header = vec![0; disk.block_bytes() as usize];
        disk.read_at(&mut header, lba * block_bytes)?;
        let Some(parsed) = Header::parse(&header, lba, blocks) else { return Ok(None) };
        let mut array = vec![0; parsed.array_bytes];
        let Some(at) = parsed.array_lba.checked_mul(block_bytes) else { return Ok(None) };
        if at.checked_add(array.len() as u64).is_none_or(|end| end > disk.size_bytes()) {
            return Ok(None);
        }
        disk.read_at(&mut array, at)?;
        if crc32fast::hash(&array) != parsed.array_crc {
            return Ok(None);
        }
        Ok(Some(Self {
            block_bytes,
            blocks,
            disk_guid: parsed.disk_guid,
            first_usable: parsed.first_usable,
            last_usable: parsed.last_usable,
            entry_bytes: parsed.entry_bytes,
            array,
            alternate: parsed.alternate,
        }))
    }

    /// An empty table for a disk.
    pub fn new(disk: &dyn BlockDevice, disk_guid: [u8; 16]) -> Self {
        let block_bytes = u64::from(disk.block_bytes().max(512));
        let mut gpt = Self {
            block_bytes,
            blocks: disk.size_bytes() / block_bytes,
            disk_guid,
            first_usable: 0,
            last_usable: 0,
            entry_bytes: ENTRY_BYTES,
            array: vec![0; ENTRY_BYTES * 128],
            alternate: 0,
        };
        gpt.first_usable = 2 + gpt.array_blocks();
        gpt.use_whole_disk();
        gpt
    }

    fn array_blocks(&self) -> u64 {
        (self.array.len() as u64).div_ceil(self.block_bytes)
    }

    /// True when the backup is not in the disk's last block, as after writing a smaller image.
    pub fn is_short(&self) -> bool {
        self.alternate != self.blocks - 1 && self.alternate != 1
    }

    /// Gives the table the whole disk: usable blocks up to the backup at the disk's end.
    pub fn use_whole_disk(&mut self) {
        self.alternate = self.blocks.saturating_sub(1);
        self.last_usable = self.blocks.saturating_sub(2 + self.array_blocks());
    }

    /// Bytes that partitions may take.
    pub fn usable(&self) -> Extent {
        let offset = self.first_usable.saturating_mul(self.block_bytes);
        let end = self.last_usable.saturating_add(1).saturating_mul(self.block_bytes);
        Extent { offset, len: end.saturating_sub(offset) }
    }

    /// Where an entry lies on the disk.
    pub fn extent(&self, entry: &GptEntry) -> Extent {
        let offset = entry.first.saturating_mul(self.block_bytes);
        let end = entry.last.saturating_add(1).saturating_mul(self.block_bytes);
        Extent { offset, len: end.saturating_sub(offset) }
    }

    /// Entries in use with their index; partition numbers are index + 1.
    pub fn used(&self) -> impl Iterator<Item = (usize, GptEntry)> {
        self.array
            .chunks_exact(self.entry_bytes)
            .enumerate()
            .filter_map(|(index, raw)| Some((index, GptEntry::parse(raw)?)))
    }

    /// Frees an entry.
    pub fn remove(&mut self, index: usize) {
        if let Some(raw) = self.array.chunks_exact_mut(self.entry_bytes).nth(index) {
            raw.fill(0);
        }
    }

    /// Puts an entry into the first free slot and says which.
    pub fn add(&mut self, entry: &GptEntry) -> Option<usize> {
        let (index, raw) = self
            .array
            .chunks_exact_mut(self.entry_bytes)
            .enumerate()
            .find(|(_, raw)| raw.iter().take(16).all(|b| *b == 0))?;
        raw.fill(0);
        for (to, from) in raw.iter_mut().zip(entry.emit()) {
            *to = from;
        }
        Some(index)
    }

    /// Entry for these bytes of the disk.
    pub fn entry(&self, type_guid: [u8; 16], guid: [u8; 16], at: Extent, name: &str) -> GptEntry {
        let first = at.offset / self.block_bytes;
        let last = (at.end() / self.block_bytes).saturating_sub(1);
        GptEntry { type_guid, guid, first, last, name: name.to_owned() }
    }

    /// Writes backup, then primary, then the protective MBR's length, so that at every instant at least
    /// one of the two tables is sound.
    pub fn write(&self, disk: &dyn BlockDevice) -> io::Result<()> {
        let last = self.blocks.saturating_sub(1);
        let backup_array = last.saturating_sub(self.array_blocks());
        disk.write_at(&self.array, backup_array * self.block_bytes)?;
        disk.write_at(&self.header(last, 1, backup_array), last * self.block_bytes)?;
        disk.sync()?;
        disk.write_at(&self.array, 2 * self.block_bytes)?;
        disk.write_at(&self.header(1, last, 2), self.block_bytes)?;
        self.write_protective_mbr(disk)?;
        disk.sync()
    }

    /// UEFI 2.10 §5.2.3. The boot code and a hybrid table's other entries stay.
    fn write_protective_mbr(&self, disk: &dyn BlockDevice) -> io::Result<()> {
        let mut block = vec![0; usize::try_from(self.block_bytes).unwrap_or(512)];
        disk.read_at(&mut block, 0)?;
        let length = u32::try_from(self.blocks.saturating_sub(1)).unwrap_or(u32::MAX).to_le_bytes();
        let signed = block.get(510..512) == Some(&[0x55, 0xaa]);
        let Some(entries) = block.get_mut(446..512) else { return Ok(()) };
        let protective = if signed {
            entries.chunks_exact_mut(16).take(4).find(|e| e.get(4) == Some(&0xee))
        } else {
            entries.fill(0);
            entries.chunks_exact_mut(16).next()
        };
        if let Some(entry) = protective {
            // start CHS 0/0/2, type EEh, end CHS "too large", first block 1, length
            let [a, b, c, d] = length;
            let fresh = [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, a, b, c, d];
            // Byte 0 is the active flag, which some BIOSes want set: keep it.
            for (to, from) in entry.iter_mut().zip(fresh).skip(1) {
                *to = from;
            }
        }
        if let Some(signature) = block.get_mut(510..512) {
            signature.copy_from_slice(&[0x55, 0xaa]);
        }
        disk.write_at(&block, 0)
    }

    /// Table 5.5 of UEFI 2.10 §5.3.2, filled to a block.
    fn header(&self, my_lba: u64, alternate: u64, array_lba: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(usize::try_from(self.block_bytes).unwrap_or(512));
        let entries = u32::try_from(self.array.len() / self.entry_bytes.max(1)).unwrap_or(0);
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&0x0001_0000_u32.to_le_bytes());
        out.extend_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        out.extend_from_slice(&[0; 8]); // header CRC, reserved
        for lba in [my_lba, alternate, self.first_usable, self.last_usable] {
            out.extend_from_slice(&lba.to_le_bytes());
        }
        out.extend_from_slice(&self.disk_guid);
        out.extend_from_slice(&array_lba.to_le_bytes());
        out.extend_from_slice(&entries.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.entry_bytes).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&self.array).to_le_bytes());
        let crc = crc32fast::hash(&out).to_le_bytes();
        if let Some(field) = out.get_mut(16..20) {
            field.copy_from_slice(&crc);
        }
        out.resize(usize::try_from(self.block_bytes).unwrap_or(512), 0);
        out
    }
}

impl GptEntry {
    fn parse(raw: &[u8]) -> Option<Self> {
        let type_guid: [u8; 16] = raw.get(..16)?.try_into().ok()?;
        if type_guid == [0; 16] {
            return None;
        }
        let units: Vec<u16> = raw
            .get(56..56 + NAME_UNITS * 2)?
            .chunks_exact(2)
            .filter_map(|b| b.try_into().ok().map(u16::from_le_bytes))
            .take_while(|unit| *unit != 0)
            .collect();
        let entry = Self {
            type_guid,
            guid: raw.get(16..32)?.try_into().ok()?,
            first: u64_at(raw, 32)?,
            last: u64_at(raw, 40)?,
            name: String::from_utf16_lossy(&units),
        };
        (entry.first <= entry.last).then_some(entry)
    }

    fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_BYTES);
        out.extend_from_slice(&self.type_guid);
        out.extend_from_slice(&self.guid);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend(self.name.encode_utf16().take(NAME_UNITS).flat_map(u16::to_le_bytes));
        out.resize(ENTRY_BYTES, 0);
        out
    }
}

struct Header {
    alternate: u64,
    first_usable: u64,
    last_usable: u64,
    disk_guid: [u8; 16],
    array_lba: u64,
    array_bytes: usize,
    entry_bytes: usize,
    array_crc: u32,
}

impl Header {
    /// Checks of UEFI 2.10 §5.3.2: signature, CRC, MyLBA; then that the numbers fit the disk.
    fn parse(block: &[u8], lba: u64, blocks: u64) -> Option<Self> {
        let header_bytes = usize::try_from(u32_at(block, 12)?).ok()?;
        if block.get(..8)? != SIGNATURE || header_bytes < HEADER_BYTES {
            return None;
        }
        let mut header = block.get(..header_bytes)?.to_vec();
        header.get_mut(16..20)?.fill(0);
        if crc32fast::hash(&header) != u32_at(block, 16)? || u64_at(block, 24)? != lba {
            return None;
        }
        let entry_bytes = usize::try_from(u32_at(block, 84)?).ok()?;
        let array_bytes = usize::try_from(u32_at(block, 80)?).ok()?.checked_mul(entry_bytes)?;
        let parsed = Self {
            alternate: u64_at(block, 32)?,
            first_usable: u64_at(block, 40)?,
            last_usable: u64_at(block, 48)?,
            disk_guid: block.get(56..72)?.try_into().ok()?,
            array_lba: u64_at(block, 72)?,
            array_bytes,
            entry_bytes,
            array_crc: u32_at(block, 88)?,
        };
        let sane = entry_bytes >= ENTRY_BYTES
            && entry_bytes.is_power_of_two()
            && (ENTRY_BYTES..=MAX_ARRAY_BYTES).contains(&array_bytes)
            && parsed.first_usable <= parsed.last_usable
            && parsed.last_usable < blocks;
        sane.then_some(parsed)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
