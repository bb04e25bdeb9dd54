//! Who may: RESERVE(6) and RELEASE(6) (SPC-2 section 7.21), persistent reservations (SPC-4 section 5.12),
//! and how the two stand to each other.

use super::opcodes::{Access, Command, Opcode};
use super::sense::Refusal;
use super::unit::State;
use super::{Nexus, Plan};

/// Whether reservations let a command of `nexus` through.
pub(crate) fn check(state: &State, nexus: &Nexus, row: &Opcode, cdb: &[u8; 16]) -> Result<(), Refusal> {
    if row.access == Access::Always {
        return Ok(());
    }
    if let Some(holder) = state.reserved_by {
        let harmless = row.command == Command::Release
            // Allowing removal takes nothing from the holder (SPC-2 table 9).
            || (row.command == Command::PreventAllow && cdb[4] & 1 == 0);
        let persistent = matches!(row.command, Command::PersistentReserveIn | Command::PersistentReserveOut);
        // Persistent reservation commands do not mix with RESERVE at all (SPC-2 section 5.5.1).
        if persistent || (holder != nexus.id && !harmless) {
            return Err(Refusal::ReservationConflict);
        }
        return Ok(());
    }
    let access = match row.command {
        Command::PreventAllow if cdb[4] & 1 != 0 => Access::Write,
        _ => row.access,
    };
    let allowed = match access {
        Access::Read => state.persistent.may_read(&nexus.port),
        Access::Write => state.persistent.may_write(&nexus.port),
        _ => true,
    };
    if allowed { Ok(()) } else { Err(Refusal::ReservationConflict) }
}

pub(crate) fn reserve(state: &mut State, nexus: &Nexus) -> Result<Plan, Refusal> {
    if let Some(answer) = beside_persistent(state, nexus) {
        return answer;
    }
    state.reserved_by = Some(nexus.id);
    Ok(Plan::Good)
}

pub(crate) fn release(state: &mut State, nexus: &Nexus) -> Result<Plan, Refusal> {
    if let Some(answer) = beside_persistent(state, nexus) {
        return answer;
    }
    // Releasing what another holds is no error and no release (SPC-2 section 7.16.2).
    if state.reserved_by == Some(nexus.id) {
        state.reserved_by = None;
    }
    Ok(Plan::Good)
}

/// CRH (SPC-4 section 5.12.3): a registrant hears GOOD and nothing happens, a stranger has a conflict.
fn beside_persistent(state: &State, nexus: &Nexus) -> Option<Result<Plan, Refusal>> {
    if state.persistent.is_empty() {
        return None;
    }
    let known = state.persistent.is_registered(&nexus.port);
    Some(if known { Ok(Plan::Good) } else { Err(Refusal::ReservationConflict) })
}
