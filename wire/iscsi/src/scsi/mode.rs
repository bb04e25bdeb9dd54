//! Mode pages (SPC-4 section 7.5, SBC-3 section 6.4): read-write error recovery, caching, control,
//! informational exceptions; MODE SENSE and MODE SELECT.

use crate::be;

use super::sense::{self, Refusal, Sense, attention};
use super::unit::State;
use super::{Nexus, Plan, Unit};

/// Current values. Saving is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModePages {
    caching: [u8; 18],
    control: [u8; 10],
}

impl Default for ModePages {
    fn default() -> ModePages {
        ModePages { caching: CACHING, control: CONTROL }
    }
}

impl ModePages {
    pub(crate) fn write_cache(&self) -> bool {
        self.caching[0] & 0x04 != 0
    }

    pub(crate) fn descriptor_sense(&self) -> bool {
        self.control[0] & 0x04 != 0
    }

    pub(crate) fn software_write_protect(&self) -> bool {
        self.control[2] & 0x08 != 0
    }

    /// Values of a page by PAGE CONTROL: current, changeable, default.
    fn values(&self, page: u8, control: u8) -> Option<Vec<u8>> {
        let row = PAGES.iter().find(|row| row.code == page)?;
        Some(match (control, page) {
            (1, _) => row.changeable.to_vec(),
            (0, CACHING_PAGE) => self.caching.to_vec(),
            (0, CONTROL_PAGE) => self.control.to_vec(),
            _ => row.default.to_vec(),
        })
    }
}

struct Row {
    code: u8,
    default: &'static [u8],
    changeable: &'static [u8],
}

const RECOVERY_PAGE: u8 = 0x01;
const CACHING_PAGE: u8 = 0x08;
const CONTROL_PAGE: u8 = 0x0a;
const EXCEPTIONS_PAGE: u8 = 0x1c;
const ALL_PAGES: u8 = 0x3f;

/// WCE: acknowledged writes wait for SYNCHRONIZE CACHE.
const CACHING: [u8; 18] = [0x04, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
/// QUEUE ALGORITHM MODIFIER 1: unrestricted reordering is the initiator's business.
const CONTROL: [u8; 10] = [0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];

const PAGES: &[Row] = &[
    // AWRE.
    Row { code: RECOVERY_PAGE, default: &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0], changeable: &[0; 10] },
    Row {
        code: CACHING_PAGE,
        default: &CACHING,
        changeable: &[0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    },
    // D_SENSE and SWP.
    Row { code: CONTROL_PAGE, default: &CONTROL, changeable: &[0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0] },
    Row { code: EXCEPTIONS_PAGE, default: &[0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0], changeable: &[0; 10] },
];

/// MODE SENSE (6) and (10), SPC-4 section 6.11.
pub(crate) fn sense(unit: &Unit, state: &State, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let long = cdb[0] == 0x5a;
    let (control, page, subpage) = (cdb[2] >> 6, cdb[2] & 0x3f, cdb[3]);
    if control == 3 {
        return Err(Sense::new(sense::key::ILLEGAL_REQUEST, 0x39, 0x00).into());
    }
    let mut pages = Vec::new();
    for row in PAGES.iter().filter(|row| page == ALL_PAGES || row.code == page) {
        if subpage != 0 && subpage != 0xff {
            return Err(Sense::cdb_field(3, None).into());
        }
        let values = state.mode.values(row.code, control).unwrap_or_default();
        pages.extend_from_slice(&[row.code, u8::try_from(values.len()).unwrap_or(0)]);
        pages.extend_from_slice(&values);
    }
    if pages.is_empty() {
        return Err(Sense::cdb_field(2, Some(5)).into());
    }
    // WP and DPOFUA (SBC-3 section 6.4.1).
    let protected = unit.identity.read_only || state.mode.software_write_protect();
    let device = 0x10 | if protected { 0x80 } else { 0 };
    let descriptor =
        if cdb[1] & 0x08 == 0 { descriptor(state, long && cdb[1] & 0x10 != 0) } else { Vec::new() };
    let mut data = if long {
        let long_lba = u8::from(descriptor.len() == 16);
        let [high, low] = u16::try_from(descriptor.len()).unwrap_or(0).to_be_bytes();
        vec![0, 0, 0, device, long_lba, 0, high, low]
    } else {
        vec![0, 0, device, u8::try_from(descriptor.len()).unwrap_or(0)]
    };
    data.extend_from_slice(&descriptor);
    data.extend_from_slice(&pages);
    if long {
        let len = u16::try_from(data.len() - 2).unwrap_or(u16::MAX);
        be::put(&mut data, 0, &len.to_be_bytes());
        data.truncate(usize::from(be::u16(cdb, 7)));
    } else {
        let len = u8::try_from(data.len() - 1).unwrap_or(u8::MAX);
        be::put(&mut data, 0, &[len]);
        data.truncate(usize::from(cdb[4]));
    }
    Ok(Plan::Data(data))
}

/// Short or long block descriptor (SBC-3 section 6.4.2).
fn descriptor(state: &State, long: bool) -> Vec<u8> {
    let block = state.geometry.block_size.to_be_bytes();
    if long {
        let mut data = state.geometry.blocks.to_be_bytes().to_vec();
        data.extend_from_slice(&[0, 0, 0, 0]);
        data.extend_from_slice(&block);
        data
    } else {
        let mut data = u32::try_from(state.geometry.blocks).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        data.extend_from_slice(&block);
        be::put(&mut data, 4, &[0]);
        data
    }
}

pub(crate) fn select_length(cdb: &[u8; 16]) -> usize {
    if cdb[0] == 0x55 { usize::from(be::u16(cdb, 7)) } else { usize::from(cdb[4]) }
}

/// MODE SELECT (SPC-4 section 6.9): all or nothing.
pub(crate) fn select(state: &mut State, nexus: &Nexus, cdb: &[u8; 16], list: &[u8]) -> Result<(), Refusal> {
    if list.is_empty() {
        return Ok(());
    }
    // PF must be 1: these are pages. SP: nothing can be saved.
    if cdb[1] & 0x10 == 0 {
        return Err(Sense::cdb_field(1, Some(4)).into());
    }
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::cdb_field(1, Some(0)).into());
    }
    let (header, descriptors) =
        if cdb[0] == 0x55 { (8, usize::from(be::u16(list, 6))) } else { (4, usize::from(be::u8(list, 3))) };
    if list.len() < header || !matches!(descriptors, 0 | 8 | 16) {
        return Err(sense::PARAMETER_LIST_LENGTH.into());
    }
    let mut at = header + descriptors;
    let mut changed = state.mode.clone();
    while at < list.len() {
        let (code, len) = (be::u8(list, at) & 0x3f, usize::from(be::u8(list, at + 1)));
        let row = PAGES.iter().find(|row| row.code == code).ok_or(Sense::list_field(at))?;
        if be::u8(list, at) & 0x40 != 0 || len != row.default.len() {
            return Err(Sense::list_field(at + 1).into());
        }
        let values = list.get(at + 2..at + 2 + len).ok_or(sense::PARAMETER_LIST_LENGTH)?;
        let current = state.mode.values(code, 0).unwrap_or_default();
        for (byte, ((new, old), changeable)) in values.iter().zip(&current).zip(row.changeable).enumerate() {
            if (new ^ old) & !changeable != 0 {
                return Err(Sense::list_field(at + 2 + byte).into());
            }
        }
        match code {
            CACHING_PAGE => be::put(&mut changed.caching, 0, values),
            CONTROL_PAGE => be::put(&mut changed.control, 0, values),
            _ => {}
        }
        at += 2 + len;
    }
    if changed != state.mode {
        state.mode = changed;
        state.attend_others(nexus.id, attention::MODE_PARAMETERS_CHANGED);
    }
    Ok(())
}
