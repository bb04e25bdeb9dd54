use super::*;
use crate::machine::FileDisk;
use crate::testing::tool;
use proptest::prelude::*;
use std::path::PathBuf;

fn disk(dir: &tempfile::TempDir, size: u64) -> (PathBuf, FileDisk) {
    let path = dir.path().join("disk.raw");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    let disk = FileDisk::open(&path, size, 512).unwrap();
    (path, disk)
}

#[test]
fn reads_what_sgdisk_wrote_and_writes_what_sgdisk_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let (path, disk) = disk(&dir, 32 << 20);
    let file = path.to_str().unwrap();
    tool("sgdisk", "gdisk", &["-n", "1:2048:+4M", "-t", "1:ef00", "-c", "1:EFI", "-n", "3:0:+8M", file]);
    let PartitionTable::Gpt(mut gpt) = PartitionTable::read(&disk).unwrap() else { panic!("no GPT") };
    let used: Vec<_> = gpt.used().collect();
    assert_eq!(used[0].1.type_guid, ESP_TYPE);
    assert_eq!((used[0].0, used[0].1.name.as_str()), (0, "EFI"));
    assert_eq!((used[1].0, gpt.extent(&used[1].1)), (2, Extent { offset: 5 << 20, len: 8 << 20 }));

    let at = Extent { offset: 20 << 20, len: 4 << 20 };
    let entry = gpt.entry([7; 16], [8; 16], at, "ours");
    assert_eq!(gpt.add(&entry), Some(1));
    gpt.remove(2);
    gpt.write(&disk).unwrap();
    assert!(tool("sgdisk", "gdisk", &["-v", file]).contains("No problems found"));
    let listing = tool("sgdisk", "gdisk", &["-i", "2", file]);
    assert!(listing.contains("First sector: 40960") && listing.contains("'ours'"), "{listing}");
}

#[test]
fn a_new_table_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let (path, disk) = disk(&dir, 16 << 20);
    Gpt::new(&disk, [9; 16]).write(&disk).unwrap();
    assert!(tool("sgdisk", "gdisk", &["-v", path.to_str().unwrap()]).contains("No problems found"));
}

#[test]
fn the_backup_serves_when_the_primary_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, disk) = disk(&dir, 16 << 20);
    tool("sgdisk", "gdisk", &["-n", "1:2048:+4M", path.to_str().unwrap()]);
    disk.write_at(&[0xff; 512], 512).unwrap();
    let PartitionTable::Gpt(gpt) = PartitionTable::read(&disk).unwrap() else { panic!("no GPT") };
    assert_eq!(gpt.used().count(), 1);
}

#[test]
fn dos_tables_are_read_and_added_to() {
    let dir = tempfile::tempdir().unwrap();
    let (path, disk) = disk(&dir, 32 << 20);
    let mut block = [0; 512];
    block[510..].copy_from_slice(&[0x55, 0xaa]);
    block[446..462].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    disk.write_at(&block, 0).unwrap();
    let PartitionTable::Mbr(mut mbr) = PartitionTable::read(&disk).unwrap() else { panic!("no MBR") };
    assert_eq!(PartitionTable::Mbr(mbr.clone()).extents(), [Extent { offset: 1 << 20, len: 1 << 20 }]);
    assert_eq!(mbr.add(0x0e, Extent { offset: 28 << 20, len: 4 << 20 }), Some(1));
    mbr.write(&disk).unwrap();
    let listing = tool("sfdisk", "fdisk", &["--dump", path.to_str().unwrap()]);
    assert!(listing.contains("start=       57344, size=        8192, type=e"), "{listing}");
}

proptest! {
    #[test]
    fn gaps_are_free_aligned_inside_and_the_last(
        taken in prop::collection::vec((0u64..1000, 1u64..200), 0..8),
        len in 1u64..300,
    ) {
        let within = Extent { offset: 34, len: 900 };
        let taken: Vec<_> = taken.into_iter().map(|(offset, len)| Extent { offset, len }).collect();
        let free = |start: u64| taken.iter().all(|t| t.end() <= start || t.offset >= start + len);
        let by_hand = (0..1000u64)
            .filter(|s| s % 8 == 0 && *s >= within.offset && s + len <= within.end() && free(*s))
            .max();
        prop_assert_eq!(last_gap(within, &taken, len, 8), by_hand);
    }

    /// A tenant's image may hold anything where a table should be.
    #[test]
    fn no_bytes_make_it_panic(
        head in prop::collection::vec(any::<u8>(), 2048),
        count: u32, size in prop_oneof![Just(128u32), any::<u32>()], lba: u64, first: u64, last: u64,
        sound: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (_, disk) = disk(&dir, 1 << 20);
        let mut head = head;
        if sound {
            // A header whose own CRC is right and whose numbers are not.
            head[512..520].copy_from_slice(b"EFI PART");
            head[524..528].copy_from_slice(&92u32.to_le_bytes());
            head[528..532].fill(0);
            for (at, n) in [(536, 1), (552, first), (560, last), (584, lba)] {
                head[at..at + 8].copy_from_slice(&n.to_le_bytes());
            }
            head[592..596].copy_from_slice(&count.to_le_bytes());
            head[596..600].copy_from_slice(&size.to_le_bytes());
            let crc = crc32fast::hash(&head[512..604]);
            head[528..532].copy_from_slice(&crc.to_le_bytes());
        }
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk.write_at(&head, 0).unwrap();
        let _ = PartitionTable::read(&disk).unwrap().extents();
    }
}
