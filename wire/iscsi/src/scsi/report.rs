//! Commands that report: REQUEST SENSE, REPORT LUNS, REPORT TARGET PORT GROUPS, REPORT SUPPORTED OPERATION
//! CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 section 6.33 to 6.37 and 6.39).

use crate::be;

use super::opcodes::{Opcode, TABLE};
use super::sense::{self, Refusal, Sense};
use super::unit::State;
use super::{Nexus, Plan, Unit};

pub(crate) fn request_sense(state: &mut State, nexus: &Nexus, cdb: &[u8; 16]) -> Plan {
    let sense = match state.next_attention(nexus.id) {
        Some((asc, ascq)) => Sense::new(sense::key::UNIT_ATTENTION, asc, ascq),
        None => state.sanitize_progress().unwrap_or(sense::NO_SENSE),
    };
    let mut data = sense.emit(cdb[1] & 1 != 0);
    data.truncate(usize::from(cdb[4]));
    Plan::Data(data)
}

/// REPORT LUNS of a target with these units.
pub(crate) fn luns(luns: impl Iterator<Item = u16>, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    // Well known units (01h) there are none; 00h, 02h and the rest are all that we have.
    let body: Vec<u8> = match cdb[2] {
        0x00 | 0x02 => luns.flat_map(|lun| address(lun).to_be_bytes()).collect(),
        0x01 => Vec::new(),
        _ => return Err(Sense::cdb_field(2, None).into()),
    };
    let allocation = be::u32(cdb, 6) as usize;
    if allocation < 16 {
        return Err(Sense::cdb_field(6, None).into());
    }
    let mut data = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
    data.extend_from_slice(&[0; 4]);
    data.extend_from_slice(&body);
    data.truncate(allocation);
    Ok(Plan::Data(data))
}

/// Peripheral device addressing to 255, flat space above (SAM-5 section 4.7.7).
pub fn address(lun: u16) -> u64 {
    let word = if lun < 256 { lun } else { 0x4000 | (lun & 0x3fff) };
    u64::from(word) << 48
}

/// The number in a LUN field, or none if it is not a form of ours.
pub fn lun_of(field: u64) -> Option<u16> {
    let [high, low, rest @ ..] = field.to_be_bytes();
    if rest != [0; 6] {
        return None;
    }
    match high >> 6 {
        0 if high == 0 => Some(u16::from(low)),
        1 => Some(u16::from(high & 0x3f) << 8 | u16::from(low)),
        _ => None,
    }
}

/// One group, active and optimized, with all ports (SPC-4 section 6.37).
pub(crate) fn target_port_groups(unit: &Unit, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let extended = match cdb[1] >> 5 {
        0 => false,
        1 => true,
        _ => return Err(Sense::cdb_field(1, Some(7)).into()),
    };
    // T_SUP, O_SUP, AO_SUP off but active/optimized.
    let ports = u8::try_from(unit.ports).unwrap_or(u8::MAX);
    let mut body = vec![0x00, 0x01, 0, 1, 0, 0, 0, ports];
    for port in 1..=u16::from(ports) {
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&port.to_be_bytes());
    }
    let mut data = Vec::new();
    let header: &[u8] = if extended { &[0x10, 0, 0, 0] } else { &[] };
    data.extend_from_slice(&u32::try_from(body.len() + header.len()).unwrap_or(0).to_be_bytes());
    data.extend_from_slice(header);
    data.extend_from_slice(&body);
    data.truncate(be::u32(cdb, 6) as usize);
    Ok(Plan::Data(data))
}

pub(crate) fn supported_opcodes(unit: &Unit, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let timeouts = cdb[2] & 0x80 != 0;
    let (code, action) = (cdb[3], be::u16(cdb, 4));
    let rows = || TABLE.iter().filter(|row| unit.supported(row).is_ok());
    let mut data = match cdb[2] & 0x07 {
        0 => all_opcodes(rows(), timeouts),
        options @ 1..=3 => {
            let of_code = || rows().filter(|row| row.code == code);
            let has_actions = of_code().any(|row| row.action.is_some());
            let known = of_code().next().is_some();
            // 001b: an opcode without service actions; 010b: one with; 011b: whichever it is.
            match options {
                1 if known && has_actions => return Err(Sense::cdb_field(2, Some(2)).into()),
                2 if known && !has_actions => return Err(Sense::cdb_field(2, Some(2)).into()),
                3 if known && !has_actions && action != 0 => None,
                _ => of_code().find(|row| row.action.is_none_or(|own| own == action)),
            }
            .map_or_else(|| vec![0, 0x01, 0, 0], |row| one_opcode(row, timeouts))
        }
        _ => return Err(Sense::cdb_field(2, Some(2)).into()),
    };
    data.truncate(be::u32(cdb, 6) as usize);
    Ok(Plan::Data(data))
}

/// SPC-4 section 6.35.2.
fn all_opcodes<'a>(rows: impl Iterator<Item = &'a Opcode>, timeouts: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for row in rows {
        let flags = u8::from(row.action.is_some()) | if timeouts { 0x02 } else { 0 };
        let [high, low] = row.action.unwrap_or(0).to_be_bytes();
        let len = u8::try_from(row.usage.len()).unwrap_or(16);
        body.extend_from_slice(&[row.code, 0, high, low, 0, flags, 0, len]);
        if timeouts {
            body.extend_from_slice(&TIMEOUTS);
        }
    }
    let mut data = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
    data.extend_from_slice(&body);
    data
}

/// SPC-4 section 6.35.3: SUPPORT 011b, and the bits that mean something.
fn one_opcode(row: &Opcode, timeouts: bool) -> Vec<u8> {
    let [high, low] = u16::try_from(row.usage.len()).unwrap_or(0).to_be_bytes();
    let mut data = vec![0, 0x03 | if timeouts { 0x80 } else { 0 }, high, low];
    data.extend_from_slice(row.usage);
    if let Some(action) = row.action {
        let bits = be::u8(row.usage, 1) | u8::try_from(action).unwrap_or(0);
        be::put(&mut data, 5, &[bits]);
    }
    if timeouts {
        data.extend_from_slice(&TIMEOUTS);
    }
    data
}

/// Abort task, abort task set, clear task set, logical unit reset; target reset (SPC-4 section 6.36).
pub(crate) fn task_management(cdb: &[u8; 16]) -> Plan {
    let mut data = if cdb[2] & 0x80 == 0 {
        vec![FUNCTIONS[0], FUNCTIONS[1], 0, 0]
    } else {
        vec![FUNCTIONS[0], FUNCTIONS[1], 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    };
    data.truncate(be::u32(cdb, 6) as usize);
    Plan::Data(data)
}

/// ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, QUERY TASK; QUERY ASYNCHRONOUS EVENT, QUERY TASK
/// SET, I_T NEXUS RESET.
const FUNCTIONS: [u8; 2] = [0xdc, 0x07];
/// A command timeouts descriptor that names none (SPC-4 section 6.35.4).
const TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
