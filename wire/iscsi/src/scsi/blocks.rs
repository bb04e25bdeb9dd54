//! Commands that address blocks (SBC-3): where they point to, and whether that is on the medium.

use crate::be;

use super::mode::ModePages;
use super::opcodes::Command;
use super::sense::{self, Refusal, Sense};
use super::unit::State;
use super::{Compare, Extent, MediaOp, Plan, Unit};

/// MAXIMUM TRANSFER LENGTH of the block limits page, in bytes: what one command may move.
pub(crate) const MAX_TRANSFER: u64 = 4 << 20;
/// MAXIMUM COMPARE AND WRITE LENGTH, in blocks.
pub(crate) const MAX_COMPARE_AND_WRITE: u64 = 255;
/// MAXIMUM WRITE SAME LENGTH, in blocks: what the 10-byte command can say, and no minutes of one command.
pub(crate) const MAX_WRITE_SAME: u64 = 0xffff;
/// MAXIMUM UNMAP LBA COUNT, in blocks.
pub(crate) const MAX_UNMAP: u64 = 1 << 20;
/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
pub(crate) const MAX_UNMAP_RANGES: usize = 256;

/// Whether write protection stops it.
pub(crate) fn writes(command: Command) -> bool {
    matches!(
        command,
        Command::Write
            | Command::WriteAndVerify
            | Command::WriteSame
            | Command::Unmap
            | Command::CompareAndWrite
            | Command::OrWrite
            | Command::Sanitize
            | Command::ExtendedCopy
    )
}

/// LBA and number of blocks of a CDB, by its length (SPC-4 section 4.2.2).
fn address(cdb: &[u8; 16]) -> (u64, u64) {
    match cdb[0] >> 5 {
        // READ(6), WRITE(6): zero blocks are 256.
        0 => (u64::from(be::u24(cdb, 1) & 0x1f_ffff), if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) }),
        1 | 2 => (u64::from(be::u32(cdb, 2)), u64::from(be::u16(cdb, 7))),
        5 => (u64::from(be::u32(cdb, 2)), u64::from(be::u32(cdb, 6))),
        _ => (be::u64(cdb, 2), u64::from(be::u32(cdb, 10))),
    }
}

pub(crate) fn plan(unit: &Unit, state: &State, command: Command, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let (lba, count) = match command {
        Command::CompareAndWrite => (be::u64(cdb, 2), u64::from(cdb[13])),
        _ => address(cdb),
    };
    let geometry = state.geometry;
    let block = geometry.block_size;
    let range = |count: u64| -> Result<(u64, u64), Sense> {
        let inside = lba.checked_add(count).is_some_and(|end| end <= geometry.blocks);
        if !inside || (count == 0 && lba > geometry.blocks) {
            return Err(sense::LBA_OUT_OF_RANGE.at(lba));
        }
        Ok((lba.saturating_mul(u64::from(block)), count.saturating_mul(u64::from(block))))
    };
    // Of a command that moves all its blocks.
    let transfer = |count: u64| -> Result<(u64, usize), Sense> {
        let (offset, len) = range(count)?;
        let len = usize::try_from(len).ok().filter(|_| len <= MAX_TRANSFER);
        Ok((offset, len.ok_or(Sense::cdb_field(length_at(cdb), None))?))
    };
    let durable = durable(&state.mode, cdb);
    let op = match command {
        Command::ReadCapacity10 => return Ok(capacity10(state)),
        Command::ReadCapacity16 => return Ok(capacity16(unit, state, cdb)),
        Command::ReadDefectData => return Ok(defects(cdb)),
        Command::Read => {
            let (offset, len) = transfer(count)?;
            MediaOp::Read { offset, len }
        }
        Command::Write => {
            let (offset, len) = transfer(count)?;
            MediaOp::Write { offset, len, durable }
        }
        Command::WriteAndVerify => {
            let (offset, len) = transfer(count)?;
            MediaOp::WriteAndVerify { offset, len }
        }
        Command::OrWrite => {
            let (offset, len) = transfer(count)?;
            MediaOp::OrWrite { offset, len, durable }
        }
        Command::CompareAndWrite => {
            let (offset, len) = transfer(count)?;
            MediaOp::CompareAndWrite { offset, len, durable }
        }
        Command::Verify => {
            let compare = match cdb[1] >> 1 & 3 {
                0 => Compare::Nothing,
                1 => Compare::Data,
                3 => Compare::OneBlock,
                _ => return Err(Sense::cdb_field(1, Some(2)).into()),
            };
            let (offset, len) = if compare == Compare::Data {
                let (offset, len) = transfer(count)?;
                (offset, len as u64)
            } else {
                range(count)?
            };
            MediaOp::Verify { offset, len, compare, block }
        }
        Command::Prefetch => {
            // Zero blocks are all to the end (SBC-3 section 5.9).
            let count = if count == 0 { geometry.blocks.saturating_sub(lba) } else { count };
            let (offset, len) = range(count)?;
            MediaOp::Prefetch { offset, len }
        }
        Command::SynchronizeCache => {
            range(count)?;
            MediaOp::Flush
        }
        Command::WriteSame => {
            // WSNZ: a length of zero is refused (SBC-3 section 6.5.3).
            if count == 0 || count > MAX_WRITE_SAME {
                return Err(Sense::cdb_field(length_at(cdb), None).into());
            }
            let unmap = cdb[1] & 0x08 != 0;
            if unmap && !unit.identity.thin {
                return Err(Sense::cdb_field(1, Some(3)).into());
            }
            let (offset, len) = range(count)?;
            let zeros = cdb[0] == 0x93 && cdb[1] & 0x01 != 0;
            MediaOp::WriteSame { offset, len, block, unmap, zeros }
        }
        Command::Unmap => {
            let len = usize::from(be::u16(cdb, 7));
            return Ok(if len == 0 { Plan::Good } else { Plan::Parameters(len) });
        }
        Command::GetLbaStatus => {
            if lba >= geometry.blocks {
                return Err(sense::LBA_OUT_OF_RANGE.at(lba).into());
            }
            let allocation = be::u32(cdb, 10) as usize;
            let max = (allocation.saturating_sub(8) / 16).clamp(1, MAX_EXTENTS);
            MediaOp::Extents { offset: lba.saturating_mul(u64::from(block)), max, block }
        }
        _ => return Err(sense::INTERNAL_FAILURE.into()),
    };
    Ok(Plan::Media(op))
}

/// UNMAP's parameter list (SBC-3 section 5.28).
pub(crate) fn unmap(state: &State, list: &[u8]) -> Result<Plan, Refusal> {
    if list.len() < 8 {
        return Err(sense::PARAMETER_LIST_LENGTH.into());
    }
    let described = usize::from(be::u16(list, 2));
    let descriptors = list.get(8..).unwrap_or_default();
    let descriptors = descriptors.get(..described).unwrap_or(descriptors);
    if descriptors.len() / 16 > MAX_UNMAP_RANGES {
        return Err(Sense::list_field(2).into());
    }
    let block = u64::from(state.geometry.block_size);
    let (mut ranges, mut total) = (Vec::new(), 0u64);
    for descriptor in descriptors.chunks_exact(16) {
        let (lba, count) = (be::u64(descriptor, 0), u64::from(be::u32(descriptor, 8)));
        if lba.checked_add(count).is_none_or(|end| end > state.geometry.blocks) {
            return Err(sense::LBA_OUT_OF_RANGE.at(lba).into());
        }
        total = total.saturating_add(count);
        if count > 0 {
            ranges.push((lba.saturating_mul(block), count.saturating_mul(block)));
        }
    }
    if total > MAX_UNMAP {
        return Err(Sense::list_field(8).into());
    }
    Ok(if ranges.is_empty() { Plan::Good } else { Plan::Media(MediaOp::Unmap { ranges }) })
}

/// Answer of GET LBA STATUS (SBC-3 section 5.4.2).
pub(crate) fn lba_status(state: &State, op: &MediaOp, extents: &[Extent]) -> Vec<u8> {
    let block = match op {
        MediaOp::Extents { block, .. } => u64::from(*block).max(1),
        _ => u64::from(state.geometry.block_size).max(1),
    };
    let mut data = vec![0u8; 8];
    let len = u32::try_from(extents.len() * 16 + 4).unwrap_or(u32::MAX);
    be::put(&mut data, 0, &len.to_be_bytes());
    for extent in extents {
        let count = u32::try_from(extent.len / block).unwrap_or(u32::MAX);
        data.extend_from_slice(&(extent.offset / block).to_be_bytes());
        data.extend_from_slice(&count.to_be_bytes());
        // 0: mapped, 1: deallocated.
        data.extend_from_slice(&[u8::from(!extent.allocated), 0, 0, 0]);
    }
    data
}

/// FUA of the CDBs that have it, or a write cache that is switched off.
fn durable(mode: &ModePages, cdb: &[u8; 16]) -> bool {
    (cdb[0] >> 5 != 0 && cdb[1] & 0x08 != 0) || !mode.write_cache()
}

fn length_at(cdb: &[u8; 16]) -> usize {
    match cdb[0] >> 5 {
        0 => 4,
        1 | 2 => 7,
        5 => 6,
        _ => 10,
    }
}

fn capacity10(state: &State) -> Plan {
    let last = u32::try_from(state.geometry.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut data = last.to_be_bytes().to_vec();
    data.extend_from_slice(&state.geometry.block_size.to_be_bytes());
    Plan::Data(data)
}

/// SBC-3 section 5.16.2.
fn capacity16(unit: &Unit, state: &State, cdb: &[u8; 16]) -> Plan {
    let mut data = vec![0u8; 32];
    be::put(&mut data, 0, &state.geometry.blocks.saturating_sub(1).to_be_bytes());
    be::put(&mut data, 8, &state.geometry.block_size.to_be_bytes());
    // LBPME and LBPRZ: what was unmapped reads as zeros.
    let thin = if unit.identity.thin { 0xc0 } else { 0 };
    be::put(&mut data, 13, &[state.geometry.physical_exponent & 0x0f, thin]);
    data.truncate(be::u32(cdb, 10) as usize);
    Plan::Data(data)
}

/// There are none (SBC-3 section 5.17 and 5.18).
fn defects(cdb: &[u8; 16]) -> Plan {
    let (mut data, allocation) = if cdb[0] == 0x37 {
        (vec![0, cdb[2] & 0x1f, 0, 0], usize::from(be::u16(cdb, 7)))
    } else {
        (vec![0, cdb[1] & 0x1f, 0, 0, 0, 0, 0, 0], be::u32(cdb, 6) as usize)
    };
    data.truncate(allocation);
    Plan::Data(data)
}

/// Descriptors in one answer of GET LBA STATUS.
const MAX_EXTENTS: usize = 256;
