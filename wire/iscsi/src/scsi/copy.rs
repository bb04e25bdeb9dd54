//! EXTENDED COPY (LID1) inside one unit, RECEIVE COPY RESULTS, and the third-party copy page (SPC-4 section
//! 6.4, 6.21 and 7.8.17): what hypervisors use to clone without moving the bytes over the network.

use std::collections::VecDeque;

use crate::be;

use super::opcodes::{Command, TABLE};
use super::sense::{self, Refusal, Sense};
use super::unit::State;
use super::{CopySegment, MediaOp, Nexus, Plan, Unit};

/// Results of the last copies, by I_T nexus and list identifier, until they are asked for.
#[derive(Debug, Default)]
pub(crate) struct CopyResults(VecDeque<CopyResult>);

#[derive(Debug)]
struct CopyResult {
    by: u64,
    list: u8,
    ok: bool,
    segments: u16,
    bytes: u64,
}

impl CopyResults {
    pub(crate) fn forget(&mut self, nexus: u64) {
        self.0.retain(|result| result.by != nexus);
    }

    pub(crate) fn done(&mut self, by: u64, list: u8, segments: &[CopySegment], ok: bool) {
        self.0.retain(|result| (result.by, result.list) != (by, list));
        if self.0.len() >= MAX_RESULTS {
            self.0.pop_front();
        }
        let bytes = segments.iter().map(|segment| segment.len).sum();
        let segments = u16::try_from(segments.len()).unwrap_or(u16::MAX);
        self.0.push_back(CopyResult { by, list, ok, segments, bytes });
    }
}

pub(crate) fn length(cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let length = be::u32(cdb, 10) as usize;
    match length {
        // Nothing to copy is no error (section 6.4.3).
        0 => Ok(Plan::Good),
        ..=MAX_LIST if length >= HEADER => Ok(Plan::Parameters(length)),
        _ => Err(sense::PARAMETER_LIST_LENGTH.into()),
    }
}

/// Reads the list and makes it segments of this unit.
pub(crate) fn extended_copy(
    unit: &Unit,
    state: &mut State,
    nexus: &Nexus,
    list: &[u8],
) -> Result<Plan, Refusal> {
    let targets_len = usize::from(be::u16(list, 2));
    let segments_len = be::u32(list, 8) as usize;
    let inline_len = be::u32(list, 12) as usize;
    if inline_len != 0 {
        return Err(Sense::new(sense::key::ILLEGAL_REQUEST, 0x26, 0x0b).into());
    }
    if targets_len.saturating_add(segments_len) > MAX_DESCRIPTORS {
        return Err(sense::PARAMETER_LIST_LENGTH.into());
    }
    if targets_len / TARGET > MAX_TARGETS {
        return Err(sense::TOO_MANY_TARGETS.into());
    }
    let targets = list.get(HEADER..HEADER + targets_len).ok_or(sense::PARAMETER_LIST_LENGTH)?;
    let segments = HEADER
        .checked_add(targets_len)
        .and_then(|from| list.get(from..from.checked_add(segments_len)?))
        .ok_or(sense::PARAMETER_LIST_LENGTH)?;
    let count = targets
        .chunks(TARGET)
        .map(|target| check_target(unit, target))
        .collect::<Result<Vec<()>, _>>()?
        .len();
    let mut planned = Vec::new();
    let mut rest = segments;
    while !rest.is_empty() {
        let len = match be::u8(rest, 0) {
            BLOCK_TO_BLOCK => 28,
            BLOCK_TO_BLOCK_OFFSET => 32,
            _ => return Err(sense::UNSUPPORTED_SEGMENT_DESCRIPTOR.into()),
        };
        let (segment, after) = rest.split_at_checked(len).ok_or(sense::PARAMETER_LIST_LENGTH)?;
        if planned.len() == MAX_SEGMENTS {
            return Err(sense::TOO_MANY_SEGMENTS.into());
        }
        planned.push(read_segment(state, segment, count)?);
        rest = after;
    }
    planned.retain(|segment| segment.len > 0);
    let list_id = be::u8(list, 0);
    if planned.is_empty() {
        state.copies.done(nexus.id, list_id, &[], true);
        return Ok(Plan::Good);
    }
    Ok(Plan::Media(MediaOp::Copy { segments: planned, by: nexus.id, list: list_id }))
}

/// An identification descriptor that names this unit (section 6.4.6.2). Other units are not reached.
fn check_target(unit: &Unit, target: &[u8]) -> Result<(), Sense> {
    if be::u8(target, 0) != IDENTIFICATION || target.len() < TARGET {
        return Err(sense::UNSUPPORTED_TARGET_DESCRIPTOR);
    }
    // LU ID TYPE and NUL are obsolete and ignored; the device type is not.
    if be::u8(target, 1) & 0x1f != 0 {
        return Err(sense::UNSUPPORTED_TARGET_DESCRIPTOR);
    }
    let kind = be::u8(target, 5) & 0x0f;
    let len = usize::from(be::u8(target, 7));
    let name = target.get(8..8usize.saturating_add(len).min(28)).unwrap_or_default();
    let mut vendor = vec![0u8; 8];
    be::put_text(&mut vendor, 0, 8, &unit.identity.vendor);
    vendor.extend(unit.identity.serial.bytes());
    let ours = match kind {
        3 => name == unit.identity.naa,
        1 => !name.is_empty() && vendor.starts_with(name),
        _ => false,
    };
    if ours { Ok(()) } else { Err(sense::COPY_TARGET_UNREACHABLE) }
}

fn read_segment(state: &State, segment: &[u8], targets: usize) -> Result<CopySegment, Refusal> {
    let geometry = state.geometry;
    let block = u64::from(geometry.block_size);
    let known = |index: u16| usize::from(index) < targets;
    if !known(be::u16(segment, 4)) || !known(be::u16(segment, 6)) {
        return Err(sense::COPY_TARGET_UNREACHABLE.into());
    }
    let (from, to) = (be::u64(segment, 12), be::u64(segment, 20));
    let (len, from_offset, to_offset) = if be::u8(segment, 0) == BLOCK_TO_BLOCK {
        (u64::from(be::u16(segment, 10)) * block, 0, 0)
    } else {
        (u64::from(be::u32(segment, 8)), u64::from(be::u16(segment, 28)), u64::from(be::u16(segment, 30)))
    };
    if len > u64::from(MAX_SEGMENT_LENGTH) {
        return Err(sense::INVALID_FIELD_IN_LIST.into());
    }
    let size = geometry.blocks.saturating_mul(block);
    let place = |lba: u64, offset: u64| -> Option<u64> {
        let at = lba.checked_mul(block)?.checked_add(offset)?;
        (at.checked_add(len)? <= size).then_some(at)
    };
    let from = place(from, from_offset).ok_or(sense::COPY_BEYOND_END)?;
    let to = place(to, to_offset).ok_or(sense::COPY_BEYOND_END)?;
    Ok(CopySegment { from, to, len })
}

/// RECEIVE COPY RESULTS (section 6.21).
pub(crate) fn results(state: &mut State, nexus: &Nexus, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let mut data = if cdb[1] & 0x1f == OPERATING_PARAMETERS {
        operating_parameters()
    } else {
        let results = &mut state.copies.0;
        let at = results.iter().position(|result| result.by == nexus.id && result.list == cdb[2]);
        let result = at.and_then(|at| results.remove(at)).ok_or(Sense::cdb_field(2, None))?;
        // Copy done (01h) or done with errors (02h), transfer count in bytes.
        let mut data = vec![0, 0, 0, 8, if result.ok { 1 } else { 2 }];
        data.extend_from_slice(&result.segments.to_be_bytes());
        data.push(0);
        data.extend_from_slice(&u32::try_from(result.bytes).unwrap_or(u32::MAX).to_be_bytes());
        data
    };
    data.truncate(be::u32(cdb, 10) as usize);
    Ok(Plan::Data(data))
}

/// Section 6.21.4.
fn operating_parameters() -> Vec<u8> {
    let mut data = vec![0u8; 44];
    // SNLID: a list identifier need not be unique.
    be::put(&mut data, 4, &[0x01]);
    be::put(&mut data, 8, &(MAX_TARGETS as u16).to_be_bytes());
    be::put(&mut data, 10, &(MAX_SEGMENTS as u16).to_be_bytes());
    be::put(&mut data, 12, &(MAX_DESCRIPTORS as u32).to_be_bytes());
    be::put(&mut data, 16, &MAX_SEGMENT_LENGTH.to_be_bytes());
    // One copy at a time; granularity 2^9.
    be::put(&mut data, 34, &[0, 1, 1, 9, 9, 9]);
    let types = [BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET, IDENTIFICATION];
    be::put(&mut data, 43, &[3]);
    data.extend_from_slice(&types);
    let available = u32::try_from(data.len() - 4).unwrap_or(0);
    be::put(&mut data, 0, &available.to_be_bytes());
    data
}

/// Third-party copy page (section 7.8.17): supported commands, parameter data, supported descriptors, general.
pub(crate) fn vpd() -> Vec<u8> {
    let actions = |command: Command| -> Vec<u8> {
        let rows = TABLE.iter().filter(|row| row.command == command);
        rows.filter_map(|row| u8::try_from(row.action?).ok()).collect()
    };
    let mut commands = Vec::new();
    for (opcode, command) in [(0x83, Command::ExtendedCopy), (0x84, Command::ReceiveCopyResults)] {
        let actions = actions(command);
        commands.extend_from_slice(&[opcode, u8::try_from(actions.len()).unwrap_or(0)]);
        commands.extend_from_slice(&actions);
    }
    let mut body = vec![u8::try_from(commands.len()).unwrap_or(0)];
    body.extend_from_slice(&commands);
    let mut data = Vec::new();
    descriptor(&mut data, 0x0001, &body);
    let mut parameters = vec![0u8; 28];
    be::put(&mut parameters, 4, &(MAX_TARGETS as u16).to_be_bytes());
    be::put(&mut parameters, 6, &(MAX_SEGMENTS as u16).to_be_bytes());
    be::put(&mut parameters, 8, &(MAX_DESCRIPTORS as u32).to_be_bytes());
    descriptor(&mut data, 0x0004, &parameters);
    descriptor(&mut data, 0x0008, &[0, 3, BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET, IDENTIFICATION]);
    let mut general = vec![0u8; 32];
    be::put(&mut general, 0, &1u32.to_be_bytes());
    be::put(&mut general, 4, &1u32.to_be_bytes());
    be::put(&mut general, 8, &MAX_SEGMENT_LENGTH.to_be_bytes());
    descriptor(&mut data, 0x8001, &general);
    data
}

fn descriptor(data: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let padded = (body.len() + 4).next_multiple_of(4) - 4;
    data.extend_from_slice(&kind.to_be_bytes());
    data.extend_from_slice(&u16::try_from(padded).unwrap_or(0).to_be_bytes());
    data.extend_from_slice(body);
    data.resize(data.len() + padded - body.len(), 0);
}

const IDENTIFICATION: u8 = 0xe4;
const BLOCK_TO_BLOCK: u8 = 0x02;
const BLOCK_TO_BLOCK_OFFSET: u8 = 0x0a;
const OPERATING_PARAMETERS: u8 = 0x03;
const HEADER: usize = 16;
const TARGET: usize = 32;
const MAX_TARGETS: usize = 2;
const MAX_SEGMENTS: usize = 16;
/// Bytes of all descriptors of a list.
const MAX_DESCRIPTORS: usize = MAX_TARGETS * TARGET + MAX_SEGMENTS * 32;
/// Bytes of one segment: 32 MiB, all that a count of 16 bits says in blocks of 512, so that a copy is not minutes of one
/// command.
const MAX_SEGMENT_LENGTH: u32 = 32 << 20;
/// More than the descriptors can fill.
const MAX_LIST: usize = 4096;
/// Results that are remembered.
const MAX_RESULTS: usize = 16;
