//! WriteConfigDrive: cloud-init's NoCloud files in a small FAT volume at the end of the disk.
//!
//! cloud-init looks for a file system labelled CIDATA (cloudinit/sources/DataSourceNoCloud.py). The
//! volume is built in memory, so that what lies on the disk can be compared with it byte for byte.
use super::{CommandError, Context, OpenDisk, blocking, done, open_root};
use crate::machine::BlockDevice;
use crate::partitions::{Extent, Gpt, Mbr, PartitionTable, last_gap};
use farrier_model::size::exact;
use farrier_nocloud::{ALIGN, LABEL};
use farrier_proto::agent::session_request::Done;
use farrier_proto::agent::session_response::{File, WriteConfigDrive};
use std::io;
use std::sync::Arc;

/// GPT name of our partition; with the label it is how an earlier drive is found and replaced.
pub const PARTITION_NAME: &str = "farrier-config";
/// Microsoft basic data, the GPT type of FAT volumes (EBD0A0A2-B9E5-4433-87C0-68B6B72699C7).
const BASIC_DATA: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];
/// FAT16 with LBA addressing: what DOS tables call any small FAT volume.
const MBR_FAT_LBA: u8 = 0x0e;

pub(super) async fn run(context: &Arc<Context>, command: WriteConfigDrive) -> Result<Done, CommandError> {
    let disk = open_root(context, command.root_device).await?;
    blocking(move || write(&disk, &command.files)).await
}

fn write(disk: &OpenDisk, files: &[File]) -> Result<Done, CommandError> {
    let name = disk.info.name.as_str();
    let device = &*disk.device;
    let io = |doing: &'static str| CommandError::disk_io(name, doing);

    let files: Vec<_> =
        files.iter().map(|f| farrier_nocloud::File { name: &f.name, content: &f.content }).collect();
    let volume = farrier_nocloud::volume(&files, device.block_bytes(), rand::random())?;
    let table = PartitionTable::read(device).map_err(io("reading the partition table"))?;
    let needed_bytes = volume.len() as u64;
    let no_room = || CommandError::DiskTooSmall {
        what: "config drive behind the image",
        needed_bytes,
        disk: name.to_owned(),
        disk_bytes: device.size_bytes(),
    };
    let (offset, table) = match table {
        PartitionTable::Gpt(gpt) => {
            let (offset, gpt) = place_gpt(device, gpt, needed_bytes).ok_or_else(no_room)?;
            (offset, PartitionTable::Gpt(gpt))
        }
        PartitionTable::Mbr(mbr) => {
            let (offset, mbr) = place_mbr(device, mbr, needed_bytes).ok_or_else(no_room)?;
            (offset, PartitionTable::Mbr(mbr))
        }
        PartitionTable::None => {
            return Err(CommandError::Unsupported {
                expected: "a GPT or DOS partition table on the disk",
                seen: format!("neither on {name}"),
                next: "write a whole-disk image first",
            });
        }
    };

    // Contents before the entry that makes them visible.
    device.zero(offset, needed_bytes).map_err(io("zeroing the config drive"))?;
    for (n, piece) in volume.chunks(1 << 16).enumerate().filter(|(_, p)| p.iter().any(|b| *b != 0)) {
        let at = offset + (n as u64) * (1 << 16);
        device.write_at(piece, at).map_err(io("writing the config drive"))?;
    }
    device.sync().map_err(io("flushing"))?;
    match &table {
        PartitionTable::Gpt(gpt) => gpt.write(device),
        PartitionTable::Mbr(mbr) => mbr.write(device),
        PartitionTable::None => Ok(()),
    }
    .map_err(io("writing the partition table"))?;

    verify(device, &volume, offset, &table)
        .map_err(io("reading back the config drive"))?
        .map_or(Ok(()), |at| Err(CommandError::ReadBack { disk: name.to_owned(), offset: at }))?;
    let written = volume.len();
    Ok(Done {
        disks: vec![name.to_owned()],
        written_bytes: i64::try_from(written).unwrap_or(i64::MAX),
        ..done(format!(
            "config drive of {} with {} files at byte {offset} of {name}",
            exact(written as u64),
            files.len()
        ))
    })
}

/// First byte that differs from what was written, if any.
fn verify(
    device: &dyn BlockDevice,
    volume: &[u8],
    offset: u64,
    table: &PartitionTable,
) -> io::Result<Option<u64>> {
    device.forget_cached(offset, volume.len() as u64)?;
    let mut seen = vec![0; volume.len()];
    device.read_at(&mut seen, offset)?;
    if let Some(at) = seen.iter().zip(volume).position(|(a, b)| a != b) {
        return Ok(Some(offset + at as u64));
    }
    Ok((PartitionTable::read(device)?.extents() != table.extents()).then_some(0))
}

/// A free place for the drive and the table with it in, in place of an earlier one.
fn place_gpt(device: &dyn BlockDevice, mut gpt: Gpt, len: u64) -> Option<(u64, Gpt)> {
    if gpt.is_short() {
        gpt.use_whole_disk();
    }
    let mut guid = *uuid::Uuid::new_v4().as_bytes();
    let used: Vec<_> = gpt.used().collect();
    for (index, entry) in used {
        if entry.name == PARTITION_NAME || labelled(device, gpt.extent(&entry)) {
            guid = entry.guid;
            gpt.remove(index);
        }
    }
    let taken: Vec<Extent> = gpt.used().map(|(_, e)| gpt.extent(&e)).collect();
    let offset = last_gap(gpt.usable(), &taken, len, ALIGN)?;
    let entry = gpt.entry(BASIC_DATA, guid, Extent { offset, len }, PARTITION_NAME);
    gpt.add(&entry)?;
    Some((offset, gpt))
}

fn place_mbr(device: &dyn BlockDevice, mut mbr: Mbr, len: u64) -> Option<(u64, Mbr)> {
    let used: Vec<_> = mbr.used().collect();
    for (index, entry) in used {
        if labelled(device, mbr.extent(&entry)) {
            mbr.remove(index);
        }
    }
    let taken: Vec<Extent> = mbr.used().map(|(_, e)| mbr.extent(&e)).collect();
    let offset = last_gap(mbr.usable(device.size_bytes()), &taken, len, ALIGN)?;
    mbr.add(MBR_FAT_LBA, Extent { offset, len })?;
    Some((offset, mbr))
}

/// A FAT boot sector with our label: at byte 43 in FAT12/16, at 71 in FAT32 (Microsoft FAT spec §3).
fn labelled(device: &dyn BlockDevice, at: Extent) -> bool {
    let mut sector = [0; 512];
    if device.read_at(&mut sector, at.offset).is_err() {
        return false;
    }
    let signed = sector.get(510..) == Some(&[0x55, 0xaa]);
    let label = |at: usize| sector.get(at..at + 11).is_some_and(|l| l.eq_ignore_ascii_case(LABEL));
    signed && (label(43) || label(71))
}
