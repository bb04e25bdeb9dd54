//! START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL (SBC-3 section 5.25 and 5.15), SANITIZE (section 5.24).

use crate::be;

use super::sense::{self, Refusal, Sense, attention};
use super::unit::{Power, SanitizeState, State};
use super::{MediaOp, Nexus, Plan, Unit};

pub(crate) fn start_stop(
    unit: &Unit,
    state: &mut State,
    nexus: &Nexus,
    cdb: &[u8; 16],
) -> Result<Plan, Refusal> {
    // A power condition other than START_VALID changes nothing here: LOEJ and START are ignored.
    if cdb[4] & 0xf0 != 0 {
        return Ok(Plan::Good);
    }
    let (load_eject, start) = (cdb[4] & 0x02 != 0, cdb[4] & 0x01 != 0);
    if load_eject && !unit.identity.removable {
        return Err(Sense::cdb_field(4, Some(1)).into());
    }
    if load_eject {
        if state.nexuses.values().any(|nexus| nexus.prevents_removal) {
            return Err(sense::REMOVAL_PREVENTED.into());
        }
        if start && state.power == Power::Ejected {
            state.attend_others(nexus.id, attention::MEDIUM_MAY_HAVE_CHANGED);
        }
        state.power = if start { Power::Ready } else { Power::Ejected };
    }
    // There is no spindle: a stopped unit goes on working, with its cache written (NO_FLUSH says not to).
    let flush = !start && cdb[4] & 0x04 == 0;
    Ok(if flush { Plan::Media(MediaOp::Flush) } else { Plan::Good })
}

pub(crate) fn prevent_allow(state: &mut State, nexus: &Nexus, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    if cdb[4] & 0x02 != 0 {
        return Err(Sense::cdb_field(4, Some(1)).into());
    }
    if let Some(nexus) = state.nexuses.get_mut(&nexus.id) {
        nexus.prevents_removal = cdb[4] & 1 != 0;
    }
    Ok(Plan::Good)
}

pub(crate) fn sanitize_begin(state: &mut State, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let length = usize::from(be::u16(cdb, 7));
    match cdb[1] & 0x1f {
        OVERWRITE => {
            let block = state.geometry.block_size as usize;
            // Header of four bytes and a pattern of at most a block.
            if !(5..=4 + block).contains(&length) {
                return Err(Sense::cdb_field(7, None).into());
            }
            Ok(Plan::Parameters(length))
        }
        _ if length != 0 => Err(Sense::cdb_field(7, None).into()),
        BLOCK_ERASE => {
            state.sanitize = SanitizeState::Running;
            Ok(Plan::Media(MediaOp::Sanitize { pattern: None }))
        }
        // EXIT FAILURE MODE.
        _ => {
            if state.sanitize == SanitizeState::Failed {
                state.sanitize = SanitizeState::Idle;
            }
            Ok(Plan::Good)
        }
    }
}

/// Parameter list of OVERWRITE (SBC-3 section 5.24.2.2).
pub(crate) fn sanitize(state: &mut State, _: &[u8; 16], list: &[u8]) -> Result<Plan, Refusal> {
    let count = be::u8(list, 0) & 0x1f;
    let length = usize::from(be::u16(list, 2));
    if count == 0 {
        return Err(Sense::list_field(0).into());
    }
    let pattern = list.get(4..4 + length).filter(|pattern| !pattern.is_empty());
    let (Some(pattern), true) = (pattern, length <= state.geometry.block_size as usize) else {
        return Err(Sense::list_field(2).into());
    };
    state.sanitize = SanitizeState::Running;
    Ok(Plan::Media(MediaOp::Sanitize { pattern: Some(pattern.to_vec()) }))
}

const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
