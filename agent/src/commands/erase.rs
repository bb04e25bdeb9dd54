//! Erase: what a tenant left goes, and is proven gone.
//!
//! METADATA wipes both ends of every disk and of every partition and reads all of it back. FULL makes
//! the whole disk zeros, by giving the blocks back where the disk promises zeros for that, else by
//! writing, and samples it. Secure erase inside the drive (ATA SECURITY ERASE, NVMe Format) needs
//! ioctls that have no safe wrapper: FULL does not reach a drive's spare blocks.
use super::{CommandError, Context, OpenDisk, Progress, blocking, done, open};
use crate::machine::BlockDevice;
use crate::partitions::{Extent, PartitionTable};
use farrier_proto::agent::session_request::Done;
use farrier_proto::agent::session_response::erase::Depth;
use farrier_proto::agent::session_response::{Erase, Inspected};
use farrier_proto::types::Disk;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;

/// Wiped at each end. LUKS2's second header may begin 4 MiB in; ZFS labels, MD 0.90 and 1.0, Intel and
/// DDF metadata lie within the last MiB; backup GPTs in the last 20 KiB.
const END_BYTES: u64 = 8 << 20;
/// Btrfs keeps copies of its superblock at these offsets (fs/btrfs/disk-io.h); without them the ends suffice.
const BTRFS_MIRRORS: [u64; 2] = [64 << 20, 256 << 30];
const SUPERBLOCK_BYTES: u64 = 4096;
/// A piece of a FULL erase: between two pieces progress is told and a shutdown is heard.
const PIECE_BYTES: u64 = 256 << 20;
/// Places a FULL erase looks at, and how much at each. 2,000 samples find 0.25 % of leftover data with
/// more than 99 % probability.
const SAMPLES: u64 = 2000;
const SAMPLE_BYTES: u64 = 4096;

pub(super) async fn run(
    context: &Arc<Context>,
    command: Erase,
    progress: Progress,
) -> Result<Done, CommandError> {
    let full = match command.depth() {
        Depth::Metadata => false,
        Depth::Full => true,
        Depth::Unspecified => {
            return Err(CommandError::Unsupported {
                expected: "a depth of METADATA or FULL",
                seen: format!("{}", command.depth),
                next: "upgrade the agent's ramdisk",
            });
        }
    };
    let disks = all_disks(context, command.inspected.as_ref()).await?;
    let total: u64 = disks.iter().map(|d| u64::try_from(d.size_bytes).unwrap_or(0)).sum();
    let (mut before, mut names) = (0, Vec::new());
    for info in disks {
        let disk = Arc::new(open(context, info).await?);
        if full {
            erase_full(&disk, before, total, &progress).await?;
        } else {
            let disk = disk.clone();
            blocking(move || erase_metadata(&disk)).await?;
        }
        before += disk.device.size_bytes();
        progress.report(before, total, &format!("erased {}", disk.info.name));
        names.push(disk.info.name.clone());
    }
    let how = if full { "made zeros and sampled" } else { "wiped at their ends and read back" };
    let detail = format!("{} disks {how}: {}", names.len(), names.join(" "));
    Ok(Done { disks: names, ..done(detail) })
}

/// Every disk of the machine: all that the inspection saw have appeared, and no more come. None at all is
/// believed where the inspection saw none either, after a long look.
async fn all_disks(context: &Arc<Context>, inspected: Option<&Inspected>) -> Result<Vec<Disk>, CommandError> {
    let deadline = Instant::now() + context.limits.disk_wait;
    let mut before: Option<Vec<Disk>> = None;
    loop {
        let disks = super::hardware(context).await?.disks;
        let settled = before.replace(disks.clone()).is_some_and(|seen| seen == disks);
        let missing = absent(inspected.map_or(&[], |inspected| &inspected.disks), &disks);
        let past = Instant::now() >= deadline;
        match (missing.is_empty(), disks.is_empty()) {
            (true, false) if settled => return Ok(disks),
            (true, true) if past && inspected.is_some() => return Ok(disks),
            (true, true) if past => return Err(CommandError::NoDisks),
            (false, _) if past => return Err(CommandError::DisksMissing(missing)),
            _ => tokio::time::sleep(context.limits.disk_poll).await,
        }
    }
}

/// Which of the `inspected` disks are not among the `seen`, in words. Kernel names move between boots: a disk is
/// known by its world wide name, else its serial number, else by where it is and how large.
fn absent(inspected: &[Disk], seen: &[Disk]) -> Vec<String> {
    let same = |a: &Disk, b: &Disk| {
        if !a.wwn.is_empty() {
            a.wwn == b.wwn
        } else if !a.serial_number.is_empty() {
            a.serial_number == b.serial_number
        } else {
            a.by_path == b.by_path && a.size_bytes == b.size_bytes
        }
    };
    let mut left: Vec<&Disk> = seen.iter().collect();
    let mut absent = Vec::new();
    for disk in inspected {
        match left.iter().position(|candidate| same(disk, candidate)) {
            Some(at) => {
                left.swap_remove(at);
            }
            None => absent.push(format!(
                "{} (serial {:?}, wwn {:?}, {} bytes)",
                disk.name, disk.serial_number, disk.wwn, disk.size_bytes
            )),
        }
    }
    absent
}

fn erase_metadata(disk: &OpenDisk) -> Result<(), CommandError> {
    let (device, name) = (&*disk.device, disk.info.name.as_str());
    let table =
        PartitionTable::read(device).map_err(CommandError::disk_io(name, "reading the partition table"))?;
    let regions = regions(device, &table.extents());
    // Partitions first, the disk's own ends last: a broken erase still knows where the partitions are.
    for region in regions.iter().rev() {
        device
            .zero(region.offset, region.len)
            .map_err(CommandError::disk_io(name, format!("erasing at byte {}", region.offset)))?;
    }
    device.sync().map_err(CommandError::disk_io(name, "flushing"))?;
    for region in regions {
        prove_zero(device, name, region)?;
    }
    Ok(())
}

/// What METADATA wipes: the disk's ends first, then each partition's.
fn regions(device: &dyn BlockDevice, partitions: &[Extent]) -> Vec<Extent> {
    let block = u64::from(device.block_bytes().max(512));
    let disk = Extent { offset: 0, len: device.size_bytes() / block * block };
    let mut regions = Vec::new();
    for whole in std::iter::once(&disk).chain(partitions) {
        // A table may say anything: only what is on the disk can be wiped.
        let end = whole.end().min(disk.len) / block * block;
        let start = whole.offset / block * block;
        if start >= end {
            continue;
        }
        let len = end - start;
        let ends = END_BYTES.min(len);
        regions.push(Extent { offset: start, len: ends });
        regions.push(Extent { offset: end - ends, len: ends });
        for mirror in BTRFS_MIRRORS.iter().filter(|m| *m + SUPERBLOCK_BYTES <= len) {
            regions.push(Extent { offset: start + mirror, len: SUPERBLOCK_BYTES });
        }
    }
    regions
}

fn prove_zero(device: &dyn BlockDevice, name: &str, region: Extent) -> Result<(), CommandError> {
    let read = || -> io::Result<Option<u64>> {
        device.forget_cached(region.offset, region.len)?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = region.offset;
        while at < region.end() {
            let len = usize::try_from(region.end() - at).unwrap_or(usize::MAX).min(buffer.len());
            let Some(piece) = buffer.get_mut(..len) else { break };
            device.read_at(piece, at)?;
            if let Some(data) = piece.iter().position(|b| *b != 0) {
                return Ok(Some(at + data as u64));
            }
            at += len as u64;
        }
        Ok(None)
    };
    match read().map_err(CommandError::disk_io(name, format!("reading back byte {}", region.offset)))? {
        None => Ok(()),
        Some(offset) => Err(CommandError::NotErased { disk: name.to_owned(), offset }),
    }
}

async fn erase_full(
    disk: &Arc<OpenDisk>,
    before: u64,
    total: u64,
    progress: &Progress,
) -> Result<(), CommandError> {
    let unmapped = make_zero(disk, before, total, progress, true).await?;
    let proof = prove(disk).await;
    // A disk that takes the discard and gives the old data back gets zeros written after all.
    if unmapped && matches!(proof, Err(CommandError::NotErased { .. })) {
        make_zero(disk, before, total, progress, false).await?;
        return prove(disk).await;
    }
    proof
}

/// Makes the whole disk zeros; says whether any of it was done by giving blocks back.
async fn make_zero(
    disk: &Arc<OpenDisk>,
    before: u64,
    total: u64,
    progress: &Progress,
    mut unmap: bool,
) -> Result<bool, CommandError> {
    let block = u64::from(disk.device.block_bytes().max(512));
    let len = disk.device.size_bytes() / block * block;
    let (mut at, mut any) = (0, false);
    while at < len {
        let piece = PIECE_BYTES.min(len - at);
        let on = disk.clone();
        unmap = blocking(move || {
            let io = |doing| CommandError::disk_io(&on.info.name, format!("{doing} at byte {at}"));
            let unmapped = unmap && on.device.unmap(at, piece).map_err(io("discarding"))?;
            if !unmapped {
                on.device.zero(at, piece).map_err(io("zeroing"))?;
            }
            Ok(unmapped)
        })
        .await?;
        any |= unmap;
        at += piece;
        progress.report(before + at, total, &format!("erasing {}", disk.info.name));
    }
    Ok(any)
}

/// Both ends in full and samples between them, at places nobody can foresee.
async fn prove(disk: &Arc<OpenDisk>) -> Result<(), CommandError> {
    let disk = disk.clone();
    blocking(move || {
        let (device, name) = (&*disk.device, disk.info.name.as_str());
        device.sync().map_err(CommandError::disk_io(name, "flushing"))?;
        for region in regions(device, &[]) {
            prove_zero(device, name, region)?;
        }
        let places = device.size_bytes() / SAMPLE_BYTES;
        for _ in 0..SAMPLES.min(places) {
            let offset = rand::random_range(0..places) * SAMPLE_BYTES;
            prove_zero(device, name, Extent { offset, len: SAMPLE_BYTES })?;
        }
        Ok(())
    })
    .await
}
