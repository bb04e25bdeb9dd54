//! Somebody else's disk: partition tables, and the FAT of its EFI system partition.

use crate::{head, loader, partitions};
use farrier_agent::machine::BlockDevice;
use farrier_agent::partitions::{Gpt, PartitionTable, last_gap};
use std::io;
use std::sync::{Arc, Mutex};

struct Memory {
    bytes: Mutex<Vec<u8>>,
    block_bytes: u32,
}

impl BlockDevice for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    fn block_bytes(&self) -> u32 {
        self.block_bytes
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from.checked_add(data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.get_mut(from..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
    fn unmap(&self, _: u64, _: u64) -> io::Result<bool> {
        Ok(false)
    }
    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn forget_cached(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

const DISK: usize = 1 << 20;
const ESP: u64 = 64 * 512;

pub fn run(data: &[u8]) {
    let ([mode], data) = head::<1>(data);
    let block_bytes = if mode & 1 == 0 { 512 } else { 4096 };
    let mut bytes = vec![0; DISK];
    let disk = if mode & 2 == 0 {
        // The bytes are the disk: tables that nothing vouches for.
        let len = data.len().min(DISK);
        bytes[..len].copy_from_slice(&data[..len]);
        Memory { bytes: Mutex::new(bytes), block_bytes }
    } else {
        // A sound GPT, and the bytes are the file system in its EFI system partition.
        let disk = Memory { bytes: Mutex::new(bytes), block_bytes: 512 };
        let mut gpt = Gpt::new(&disk, [1; 16]);
        let extent = partitions::Extent { offset: ESP, len: (DISK as u64) - 2 * ESP };
        let entry = gpt.entry(partitions::ESP_TYPE, [2; 16], extent, "esp");
        gpt.add(&entry).expect("an empty table has room");
        gpt.write(&disk).expect("the disk takes a table");
        let len = data.len().min(DISK - 2 * ESP as usize);
        disk.write_at(&data[..len], ESP).unwrap();
        disk
    };
    let size = disk.size_bytes();
    if let Ok(table) = PartitionTable::read(&disk) {
        let taken = table.extents();
        if let PartitionTable::Gpt(mut gpt) = table {
            let _ = gpt.is_short();
            let within = gpt.usable();
            if let Some(at) = last_gap(within, &taken, 64 << 10, 1 << 12) {
                assert!(at >= within.offset && at + (64 << 10) <= within.end());
                assert!(taken.iter().all(|t| t.end() <= at || t.offset >= at + (64 << 10)));
            }
            gpt.use_whole_disk();
            assert!(gpt.usable().end() <= size);
        } else if let PartitionTable::Mbr(mbr) = table {
            let within = mbr.usable(size);
            let _ = last_gap(within, &taken, 64 << 10, 1 << 12);
        }
    }
    let disk: Arc<dyn BlockDevice> = Arc::new(disk);
    for architecture in ["x86_64", "aarch64"] {
        let _ = loader::find(&disk, architecture);
    }
}
