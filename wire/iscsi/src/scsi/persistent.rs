//! Persistent reservations (SPC-4 section 5.12, 6.15 and 6.16). They survive sessions, not the process:
//! APTPL is not supported.

use crate::be;

use super::sense::{self, Refusal, Sense, attention};
use super::unit::State;
use super::{InitiatorPort, MediaOp, Nexus, Plan};

/// Registrations and the reservation of a unit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reservations {
    generation: u32,
    registrants: Vec<Registrant>,
    /// Type, and who made it. All registrants hold the types that say so.
    held: Option<(Kind, InitiatorPort)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registrant {
    key: u64,
    port: InitiatorPort,
}

/// Types of SPC-4 table 45.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrants = 5,
    ExclusiveAccessRegistrants = 6,
    WriteExclusiveAll = 7,
    ExclusiveAccessAll = 8,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        ALL_KINDS.iter().copied().find(|kind| *kind as u8 == code)
    }

    fn for_registrants(self) -> bool {
        !matches!(self, Kind::WriteExclusive | Kind::ExclusiveAccess)
    }

    fn held_by_all(self) -> bool {
        matches!(self, Kind::WriteExclusiveAll | Kind::ExclusiveAccessAll)
    }

    fn excludes_reads(self) -> bool {
        matches!(self, Kind::ExclusiveAccess | Kind::ExclusiveAccessRegistrants | Kind::ExclusiveAccessAll)
    }
}

const ALL_KINDS: &[Kind] = &[
    Kind::WriteExclusive,
    Kind::ExclusiveAccess,
    Kind::WriteExclusiveRegistrants,
    Kind::ExclusiveAccessRegistrants,
    Kind::WriteExclusiveAll,
    Kind::ExclusiveAccessAll,
];

impl Reservations {
    pub(crate) fn is_empty(&self) -> bool {
        self.registrants.is_empty()
    }

    pub(crate) fn is_registered(&self, port: &InitiatorPort) -> bool {
        self.registrant(port).is_some()
    }

    pub(crate) fn may_read(&self, port: &InitiatorPort) -> bool {
        self.held.as_ref().is_none_or(|(kind, _)| !kind.excludes_reads() || self.may_write(port))
    }

    pub(crate) fn may_write(&self, port: &InitiatorPort) -> bool {
        match &self.held {
            None => true,
            Some((kind, _)) if kind.for_registrants() => self.is_registered(port),
            Some((_, holder)) => holder == port,
        }
    }

    fn registrant(&self, port: &InitiatorPort) -> Option<&Registrant> {
        self.registrants.iter().find(|registrant| registrant.port == *port)
    }

    fn holds(&self, port: &InitiatorPort) -> Option<Kind> {
        let (kind, holder) = self.held.as_ref()?;
        let holds = if kind.held_by_all() { self.is_registered(port) } else { holder == port };
        holds.then_some(*kind)
    }

    fn changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

/// PERSISTENT RESERVE IN.
pub(crate) fn report(state: &State, cdb: &[u8; 16]) -> Plan {
    let reservations = &state.persistent;
    let mut data = match cdb[1] & 0x1f {
        READ_KEYS => listed(
            reservations,
            reservations.registrants.iter().flat_map(|known| known.key.to_be_bytes()).collect(),
        ),
        READ_RESERVATION => listed(reservations, reservation(reservations)),
        READ_FULL_STATUS => listed(
            reservations,
            reservations.registrants.iter().flat_map(|known| status(reservations, known)).collect(),
        ),
        // REPORT CAPABILITIES (section 6.15.4): CRH, TMV; ALLOW COMMANDS 001b; all types.
        _ => vec![0, 8, 0x10, 0x90, 0xea, 0x01, 0, 0],
    };
    data.truncate(usize::from(be::u16(cdb, 7)));
    Plan::Data(data)
}

fn listed(reservations: &Reservations, body: Vec<u8>) -> Vec<u8> {
    let mut data = reservations.generation.to_be_bytes().to_vec();
    data.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    data.extend_from_slice(&body);
    data
}

fn reservation(reservations: &Reservations) -> Vec<u8> {
    let Some((kind, holder)) = &reservations.held else { return Vec::new() };
    // The key of a reservation that all registrants hold is zero (section 6.15.3.2).
    let key = match reservations.registrant(holder) {
        Some(known) if !kind.held_by_all() => known.key,
        _ => 0,
    };
    let mut body = key.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, 0, 0, *kind as u8, 0, 0]);
    body
}

/// A full status descriptor (section 6.15.5).
fn status(reservations: &Reservations, known: &Registrant) -> Vec<u8> {
    let held = reservations.holds(&known.port);
    let id = transport_id(&known.port);
    let mut body = known.key.to_be_bytes().to_vec();
    body.extend_from_slice(&[
        0,
        0,
        0,
        0,
        u8::from(held.is_some()),
        held.map_or(0, |kind| kind as u8),
        0,
        0,
        0,
        0,
    ]);
    body.extend_from_slice(&known.port.target_port.to_be_bytes());
    body.extend_from_slice(&u32::try_from(id.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(&id);
    body
}

/// iSCSI TransportID of an initiator port (SPC-4 section 7.6.4.6), format 01b.
fn transport_id(port: &InitiatorPort) -> Vec<u8> {
    let isid: String = port.isid.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = format!("{},i,0x{isid}", port.name).into_bytes();
    name.push(0);
    name.resize(name.len().next_multiple_of(4).max(20), 0);
    let mut id = vec![0x45, 0];
    id.extend_from_slice(&u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
    id.extend_from_slice(&name);
    id
}

/// PERSISTENT RESERVE OUT has a list of 24 bytes (section 6.16.3).
pub(crate) fn length(cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    if be::u32(cdb, 5) != 24 {
        return Err(sense::PARAMETER_LIST_LENGTH.into());
    }
    Ok(Plan::Parameters(24))
}

pub(crate) fn out(state: &mut State, nexus: &Nexus, cdb: &[u8; 16], list: &[u8]) -> Result<Plan, Refusal> {
    if list.len() < 24 {
        return Err(sense::PARAMETER_LIST_LENGTH.into());
    }
    let (key, new_key, flags) = (be::u64(list, 0), be::u64(list, 8), be::u8(list, 20));
    let action = cdb[1] & 0x1f;
    let port = &nexus.port;
    let registers = matches!(action, REGISTER | REGISTER_AND_IGNORE);
    // SPEC_I_PT and APTPL are not supported; ALL_TG_PT is (one group of ports).
    if flags & 0x08 != 0 || (registers && flags & 0x01 != 0) {
        return Err(Sense::list_field(20).into());
    }
    let registered = state.persistent.registrant(port).map(|known| known.key);
    match (action, registered) {
        (REGISTER_AND_IGNORE, _) => {}
        (REGISTER, None) if key == 0 => {}
        (_, Some(known)) if known == key => {}
        _ => return Err(Refusal::ReservationConflict),
    }
    let kind = Kind::from_code(cdb[2] & 0x0f);
    if matches!(action, RESERVE | RELEASE | PREEMPT | PREEMPT_AND_ABORT) && cdb[2] & 0xf0 != 0 {
        return Err(Sense::cdb_field(2, Some(7)).into());
    }
    match action {
        REGISTER | REGISTER_AND_IGNORE => register(state, nexus, new_key)?,
        RESERVE => reserve(state, port, kind.ok_or(Sense::cdb_field(2, Some(3)))?)?,
        RELEASE => release(state, nexus, kind)?,
        CLEAR => clear(state, nexus),
        PREEMPT | PREEMPT_AND_ABORT => {
            let kind = kind.ok_or(Sense::cdb_field(2, Some(3)));
            preempt(state, nexus, new_key, kind, action == PREEMPT_AND_ABORT)?;
        }
        _ => return Err(Sense::cdb_field(1, Some(4)).into()),
    }
    // GOOD says that nothing of the aborted tasks happens any more (section 5.12.11.2.6).
    Ok(if action == PREEMPT_AND_ABORT { Plan::Media(MediaOp::Settle) } else { Plan::Good })
}

fn register(state: &mut State, nexus: &Nexus, key: u64) -> Result<(), Refusal> {
    let port = &nexus.port;
    if key == 0 {
        if state.persistent.is_registered(port) {
            unregister(state, nexus);
            state.persistent.changed();
        }
        return Ok(());
    }
    let count = state.persistent.registrants.len();
    match state.persistent.registrants.iter_mut().find(|known| known.port == *port) {
        Some(known) => known.key = key,
        None if count >= MAX_REGISTRANTS => return Err(sense::INSUFFICIENT_REGISTRATION.into()),
        None => state.persistent.registrants.push(Registrant { key, port: port.clone() }),
    }
    state.persistent.changed();
    Ok(())
}

/// Takes a registration away, and the reservation with it if nobody is left to hold it (section 5.12.11.3).
fn unregister(state: &mut State, nexus: &Nexus) {
    let held = state.persistent.holds(&nexus.port);
    state.persistent.registrants.retain(|known| known.port != nexus.port);
    let Some(kind) = held else { return };
    if kind.held_by_all() {
        if state.persistent.is_empty() {
            state.persistent.held = None;
        }
        return;
    }
    state.persistent.held = None;
    if kind.for_registrants() {
        attend_registrants(state, &nexus.port, attention::RESERVATIONS_RELEASED);
    }
}

fn reserve(state: &mut State, port: &InitiatorPort, kind: Kind) -> Result<(), Refusal> {
    let Some((held, holder)) = &state.persistent.held else {
        state.persistent.held = Some((kind, port.clone()));
        return Ok(());
    };
    // The same again is no error, anything else a conflict (section 5.12.9).
    let same = *held == kind && (held.held_by_all() || holder == port);
    if same { Ok(()) } else { Err(Refusal::ReservationConflict) }
}

fn release(state: &mut State, nexus: &Nexus, kind: Option<Kind>) -> Result<(), Refusal> {
    let Some(held) = state.persistent.holds(&nexus.port) else { return Ok(()) };
    if kind != Some(held) {
        return Err(sense::INVALID_RELEASE.into());
    }
    state.persistent.held = None;
    if held.for_registrants() {
        attend_registrants(state, &nexus.port, attention::RESERVATIONS_RELEASED);
    }
    Ok(())
}

fn clear(state: &mut State, nexus: &Nexus) {
    attend_registrants(state, &nexus.port, attention::RESERVATIONS_PREEMPTED);
    state.persistent.registrants.clear();
    state.persistent.held = None;
    state.persistent.changed();
}

/// Section 5.12.11.4: removes registrations of a key, and takes the reservation over if it was theirs.
fn preempt(
    state: &mut State,
    nexus: &Nexus,
    key: u64,
    kind: Result<Kind, Sense>,
    abort: bool,
) -> Result<(), Refusal> {
    let port = &nexus.port;
    let held_by_all = state.persistent.held.as_ref().is_some_and(|(kind, _)| kind.held_by_all());
    let holder_key = match &state.persistent.held {
        Some((_, holder)) if !held_by_all => state.persistent.registrant(holder).map(|known| known.key),
        _ => None,
    };
    let takes_over = if held_by_all { key == 0 } else { holder_key.is_some() && holder_key == Some(key) };
    if key == 0 && !held_by_all {
        return Err(Sense::list_field(8).into());
    }
    let kind = if takes_over { Some(kind?) } else { None };
    let gone: Vec<InitiatorPort> = state
        .persistent
        .registrants
        .iter()
        .filter(|known| known.port != *port && (known.key == key || (takes_over && held_by_all)))
        .map(|known| known.port.clone())
        .collect();
    if gone.is_empty() && !takes_over {
        return Err(Refusal::ReservationConflict);
    }
    let released = takes_over && state.persistent.held.as_ref().is_some_and(|(held, _)| Some(*held) != kind);
    state.persistent.registrants.retain(|known| !gone.contains(&known.port));
    if let Some(kind) = kind {
        state.persistent.held = Some((kind, port.clone()));
    }
    for lost in &gone {
        attend_port(state, lost, attention::REGISTRATIONS_PREEMPTED);
        if abort {
            abort_port(state, lost);
        }
    }
    if released {
        attend_registrants(state, port, attention::RESERVATIONS_RELEASED);
    }
    state.persistent.changed();
    Ok(())
}

/// Sessions of a port are found through the ports that attach told.
fn attend_port(state: &mut State, port: &InitiatorPort, attention: (u8, u8)) {
    for id in nexuses_of(state, port) {
        state.attend(id, attention);
    }
}

fn abort_port(state: &mut State, port: &InitiatorPort) {
    for id in nexuses_of(state, port) {
        if let Some(nexus) = state.nexuses.get_mut(&id) {
            nexus.aborted_before = nexus.tasks + 1;
        }
    }
}

fn attend_registrants(state: &mut State, but: &InitiatorPort, attention: (u8, u8)) {
    let others: Vec<InitiatorPort> = state
        .persistent
        .registrants
        .iter()
        .filter(|known| known.port != *but)
        .map(|known| known.port.clone())
        .collect();
    for other in others {
        attend_port(state, &other, attention);
    }
}

fn nexuses_of(state: &State, port: &InitiatorPort) -> Vec<u64> {
    state.nexuses.iter().filter(|(_, nexus)| nexus.port.as_ref() == Some(port)).map(|(id, _)| *id).collect()
}

const READ_KEYS: u8 = 0;
const READ_RESERVATION: u8 = 1;
const READ_FULL_STATUS: u8 = 3;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;

/// Registrations of one unit: a rack has fewer initiators.
const MAX_REGISTRANTS: usize = 256;
