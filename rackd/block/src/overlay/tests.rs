//! A disk that loses what was not synced, killed at every write.

mod simulated;

use std::io;
use std::sync::Arc;

use proptest::prelude::*;

use super::disk::Disk;
use super::layout::{FIRST, Header, RECORDS};
use super::{Overlay, OverlayOptions};
use crate::backing::{Backing as _, Image};
use simulated::{Crash, SimulatedStore};

/// Sectors are told apart by a number that fills them.
#[derive(Debug)]
struct Below(Vec<u8>);

impl Image for Below {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).expect("small");
        buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
        Ok(())
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }
}

fn below() -> Arc<Below> {
    // Shorter than the disk, and not a whole number of blocks.
    let sectors = SECTORS * 3 / 4 + 3;
    Arc::new(Below((0..sectors).flat_map(|number| filled(0x8000_0000 + number as u32)).collect()))
}

fn filled(tag: u32) -> Vec<u8> {
    tag.to_le_bytes().repeat(SECTOR / 4)
}

fn header() -> Header {
    Header {
        block_size: 4096,
        size: (SECTORS * SECTOR) as u64,
        capacity: 4096,
        sequence: 0,
        epoch: 0,
        boot: BOOT,
        base_size: below().size(),
        base_id: "golden".into(),
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write { at: usize, count: usize },
    Discard { at: usize, count: usize },
    Flush,
    Snapshot,
    Rebase,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// The process dies: what it wrote is in the page cache.
    Kill,
    /// The power goes: any part of what was not synced is lost.
    PowerCut { seed: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let range = (0..SECTORS, 1..40usize);
    prop_oneof![
        6 => range.clone().prop_map(|(at, count)| Op::Write { at, count: count.min(SECTORS - at) }),
        2 => range.prop_map(|(at, count)| Op::Discard { at, count: count.min(SECTORS - at) }),
        2 => Just(Op::Flush),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Rebase),
    ]
}

fn life() -> impl Strategy<Value = (Vec<Op>, Crash, End)> {
    let end = prop_oneof![Just(End::Kill), any::<u64>().prop_map(|seed| End::PowerCut { seed })];
    let crash = prop_oneof![
        (0..32usize).prop_map(Crash::AfterWrites),
        (0..24usize, 1..6usize).prop_map(|(after, failures)| Crash::Passing { after, failures }),
    ];
    (proptest::collection::vec(op(), 1..12), crash, end)
}

/// What each sector may hold after a crash: the last value is what it holds before one.
struct Model {
    sectors: Vec<Vec<u32>>,
    tag: u32,
}

impl Model {
    fn new() -> Model {
        let image = below();
        let sectors = (0..SECTORS).map(|number| {
            vec![
                image
                    .0
                    .get(number * SECTOR..number * SECTOR + 4)
                    .map_or(0, |b| u32::from_le_bytes(b.try_into().expect("4"))),
            ]
        });
        Model { sectors: sectors.collect(), tag: 0 }
    }

    fn set(&mut self, at: usize, count: usize, tag: u32) {
        self.sectors[at..at + count].iter_mut().for_each(|sector| sector.push(tag));
    }

    /// The operation did not end: its sectors hold the old or the new.
    fn flushed(&mut self) {
        for sector in &mut self.sectors {
            *sector = vec![*sector.last().expect("never empty")];
        }
    }
}

fn contents(disk: &Disk<SimulatedStore>) -> Vec<u32> {
    let mut bytes = vec![0; SECTORS * SECTOR];
    disk.read(&mut bytes, 0).expect("reads");
    bytes
        .chunks(SECTOR)
        .map(|sector| {
            let tag = u32::from_le_bytes(sector[..4].try_into().expect("4"));
            assert_eq!(sector, filled(tag), "a torn sector");
            tag
        })
        .collect()
}

fn perform(disk: &Disk<SimulatedStore>, op: &Op, model: &mut Model) -> Result<(), ()> {
    match op {
        Op::Write { at, count } => {
            model.tag += 1;
            let data = filled(model.tag).repeat(*count);
            model.set(*at, *count, model.tag);
            disk.write(&data, (at * SECTOR) as u64).map_err(drop)
        }
        Op::Discard { at, count } => {
            model.set(*at, *count, 0);
            disk.discard((at * SECTOR) as u64, (count * SECTOR) as u64).map_err(drop)
        }
        Op::Flush => {
            disk.flush().map_err(drop)?;
            model.flushed();
            Ok(())
        }
        Op::Snapshot => {
            // Of another file, that does not crash.
            let copy = SimulatedStore::default();
            disk.snapshot(copy.clone()).map_err(drop)?;
            let opened = Disk::open(copy, below(), "golden", BOOT).expect("a snapshot opens");
            assert_eq!(contents(&opened), contents(disk), "the snapshot is the disk");
            Ok(())
        }
        Op::Rebase => {
            let same: Arc<dyn Image> = below();
            disk.rebase(&same, "golden").map_err(drop)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_else_appears(lives in proptest::collection::vec(life(), 1..4)) {
        let image = below();
        let store = SimulatedStore::default();
        let mut disk = Disk::create(store.clone(), header(), image.clone()).expect("made");
        let mut boot = BOOT;
        let mut model = Model::new();
        for (ops, crash, end) in lives {
            store.crash_after(crash);
            let mut interrupted = false;
            for op in &ops {
                let before: Vec<u32> = model.sectors.iter().map(|sector| *sector.last().expect("one")).collect();
                if perform(&disk, op, &mut model).is_err() {
                    // The process goes on: what it touched holds the old or the new, and stays that from now on.
                    if matches!(crash, Crash::Passing { .. }) {
                        for ((sector, old), now) in model.sectors.iter_mut().zip(before).zip(contents(&disk)) {
                            prop_assert!(now == old || now == *sector.last().expect("one"));
                            sector.push(now);
                        }
                        continue;
                    }
                    interrupted = true;
                    // Neither the old nor the new is promised for what it touched.
                    if matches!(end, End::Kill) {
                        for (sector, old) in model.sectors.iter_mut().zip(before) {
                            let new = *sector.last().expect("one");
                            *sector = if new == old { vec![old] } else { vec![old, new] };
                        }
                    }
                    break;
                }
                let now: Vec<u32> = model.sectors.iter().map(|sector| *sector.last().expect("one")).collect();
                prop_assert_eq!(contents(&disk), now);
            }
            if matches!(end, End::Kill) && !interrupted {
                model.flushed();
            }
            std::mem::forget(disk);
            match end {
                End::Kill => store.killed(),
                End::PowerCut { seed } => {
                    store.power_cut(seed);
                    boot[0] = boot[0].wrapping_add(1);
                }
            }
            disk = Disk::open(store.clone(), image.clone(), "golden", boot).expect("opens after a crash");
            let found = contents(&disk);
            for (number, (tag, allowed)) in found.iter().zip(&mut model.sectors).enumerate() {
                prop_assert!(allowed.contains(tag), "sector {} holds {:x}, allowed {:x?} after {:?}", number, tag, allowed, end);
                *allowed = vec![*tag];
            }
            // Opening made it durable.
            store.check_no_shared_blocks(&disk);
        }
    }
}

/// Found by the test above: half of the records of a write that failed stood in the log whole, and made it happen after all
/// when the process was killed.
#[test]
fn a_write_that_failed_does_not_happen_when_the_process_is_killed() {
    let store = SimulatedStore::default();
    let mut disk = Disk::create(store.clone(), header(), below()).expect("made");
    let mut model = Model::new();
    let write = |at, count| Op::Write { at, count };
    for (ops, crash) in [
        // What leaves the free blocks in no order, so that the next write has two records.
        (
            vec![write(0, 1), write(0, 1), write(0, 17), write(0, 1), write(184, 1), write(0, 1)],
            Crash::Passing { after: 0, failures: 3 },
        ),
        (vec![Op::Rebase, write(8, 17)], Crash::Passing { after: 4, failures: 1 }),
    ] {
        store.crash_after(crash);
        let failed = ops.iter().filter(|op| perform(&disk, op, &mut model).is_err()).count();
        assert_ne!(failed, 0, "nothing went wrong");
        let before = contents(&disk);
        std::mem::forget(disk);
        store.killed();
        disk = Disk::open(store.clone(), below(), "golden", BOOT).expect("opens after a crash");
        assert_eq!(contents(&disk), before);
    }
}

/// The kernel tells of a lost write once. Whoever flushes after that must not be told that all is well.
#[test]
fn a_sync_that_failed_is_not_forgotten() {
    let store = SimulatedStore::default();
    let disk = Disk::create(store.clone(), header(), below()).expect("made");
    disk.write(&filled(1), 0).expect("written");
    store.crash_after(Crash::AfterWrites(0));
    assert!(disk.flush().is_err());
    store.killed();
    disk.write(&filled(2), 0).expect("written");
    assert!(disk.flush().is_err(), "what was lost then is lost now");
}

#[test]
fn the_log_never_overflows_and_space_is_used_again() {
    let store = SimulatedStore::default();
    let disk = Disk::create(store, header(), below()).expect("made");
    for round in 0..u32::from(u16::try_from(RECORDS).expect("few")) / 8 {
        let block = u64::from(round) * 7 % (SECTORS as u64 / 8);
        disk.write(&filled(round + 1).repeat(8), block * 4096).expect("written");
        disk.discard(block * 4096, 4096).expect("discarded");
    }
    disk.flush().expect("flushed");
    let highest = disk.read_state().map.entries().map(|(_, entry)| entry).max().unwrap_or(0);
    assert!(highest < FIRST + 20_000, "{highest}");
    assert_eq!(disk.usage().expect("counted").allocated, 0);
}

#[test]
fn a_disk_that_reads_later_says_so_and_waits_for_nobody() {
    #[derive(Debug)]
    struct Far(Arc<Below>);
    impl Image for Far {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_at(buffer, offset)
        }
        fn try_read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
    let disk = Disk::create(SimulatedStore::default(), header(), Arc::new(Far(below()))).expect("made");
    let would_block =
        |result: io::Result<()>| result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    assert!(would_block(disk.try_read(&mut [0; 512], 0)));
    // A part of a block needs the rest of it; a whole one does not.
    assert!(would_block(disk.try_write(&[1; 512], 0)));
    assert!(disk.try_write(&[1; 4096], 0).is_ok());
    assert!(disk.try_read(&mut [0; 4096], 0).is_ok());
    assert!(disk.write(&[2; 512], 4096).is_ok());
}

#[test]
fn an_overlay_in_a_file_lives_through_its_whole_life() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.overlay");
    let image: Arc<dyn Image> = below();
    let overlay = Overlay::create(&path, &OverlayOptions::default(), image.clone(), "golden").expect("made");
    assert!(
        Overlay::create(&path, &OverlayOptions::default(), image.clone(), "golden").is_err(),
        "never over another"
    );
    overlay.write_at(&[5; 10_000], 3_000).expect("written");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    overlay.export(&mut before).expect("exported");
    assert_eq!(overlay.usage().expect("counted").allocated, 4 * 4096);
    let copy = directory.path().join("copy.overlay");
    overlay.snapshot(&copy).expect("copied");
    overlay.write_at(&[6; 512], 0).expect("written");
    let twice = Overlay::open(&path, image.clone(), "golden");
    assert!(matches!(twice, Err(super::OverlayError::InUse)), "one writer at a time");
    drop(overlay);
    assert_eq!(Overlay::peek(&path).expect("readable").base_id, "golden");
    assert!(matches!(
        Overlay::open(&path, image.clone(), "other"),
        Err(super::OverlayError::OtherBase { .. })
    ));
    Overlay::open(&copy, image.clone(), "golden").expect("opens").export(&mut after).expect("exported");
    assert!(before == after, "the snapshot is what it was then");
    let overlay = Overlay::open(&path, image, "golden").expect("opens");
    let mut first = [0; 512];
    overlay.read_at(&mut first, 0).expect("read");
    assert_eq!(first, [6; 512]);
    // The snapshot becomes the image: nothing but the last write is left of the overlay's own.
    let new: Arc<dyn Image> = Arc::new(Below(before));
    overlay.rebase(new, "newer").expect("rebased");
    assert_eq!(overlay.usage().expect("counted").allocated, 4096);
    overlay.discard(0, 4096).expect("discarded");
    overlay.flush().expect("flushed");
    assert_eq!(overlay.usage().expect("counted").allocated, 0);
    let old = overlay.size();
    overlay.resize(old + (1 << 20)).expect("grown");
    overlay.resize(4096).expect("shrunk");
    overlay.resize(old).expect("grown again");
    let mut all = Vec::new();
    overlay.export(&mut all).expect("exported");
    assert!(all.iter().all(|byte| *byte == 0), "what was cut off is gone");
    assert!(overlay.resize(u64::MAX / 512 * 512).is_err());
    Overlay::delete(&path).expect("deleted");
}

const SECTOR: usize = 512;
/// 128 blocks.
const SECTORS: usize = 1024;
const BOOT: [u8; 16] = [7; 16];

/// Counts when it goes.
struct Counted<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Release);
    }
}

/// Writers of neighbouring sectors, whose blocks are copied for one picture after the other: nobody's sector goes back
/// to what it was before.
#[test]
fn no_write_is_lost_when_pictures_begin_and_end() {
    let disk = Arc::new(Disk::create(SimulatedStore::default(), header(), below()).expect("made"));
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (disk, done) = (&disk, &done);
            scope.spawn(move || {
                // Also when it fails: nobody waits for one that is gone.
                let _done = Counted(done);
                for round in 0..ROUNDS {
                    // Each has one sector of each of the first blocks.
                    let offset = ((round as usize % 4) * 8 + writer) * SECTOR;
                    disk.write(&filled(round), offset as u64).expect("written");
                    let mut read = vec![0; SECTOR];
                    disk.read(&mut read, offset as u64).expect("read");
                    assert_eq!(read, filled(round), "writer {writer}, round {round}");
                }
            });
        }
        while done.load(std::sync::atomic::Ordering::Acquire) < WRITERS {
            disk.snapshot(SimulatedStore::default()).expect("copied");
        }
    });
    for writer in 0..WRITERS {
        for last in ROUNDS - 4..ROUNDS {
            let mut read = vec![0; SECTOR];
            let offset = ((last as usize % 4) * 8 + writer) * SECTOR;
            disk.read(&mut read, offset as u64).expect("read");
            assert_eq!(read, filled(last), "writer {writer}, round {last}");
        }
    }
}

const WRITERS: usize = 4;
const ROUNDS: u32 = 4000;
