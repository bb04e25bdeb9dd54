//! A logical unit: its identity, its state between commands, and the order in which a command is judged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::copy::CopyResults;
use super::mode::ModePages;
use super::opcodes::{Access, Command, Opcode};
use super::persistent::Reservations;
use super::sense::{self, Refusal, Sense, Specific, attention};
use super::{
    InitiatorPort, MediaError, MediaOp, MediaReply, Nexus, Plan, blocks, copy, inquiry, mode, persistent,
    report, reservation, start,
};

/// What a unit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// At most 8 characters.
    pub vendor: String,
    /// At most 16 characters.
    pub product: String,
    /// At most 4 characters.
    pub revision: String,
    /// Unit serial number, unique for the vendor and product.
    pub serial: String,
    /// NAA identifier (SPC-4 section 7.8.6.6), unique in the world.
    pub naa: [u8; 8],
    pub removable: bool,
    pub read_only: bool,
    /// Whether the medium can give space back.
    pub thin: bool,
}

/// Size and shape of the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub blocks: u64,
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Logical blocks of a physical block, as a power of two.
    pub physical_exponent: u8,
}

/// A logical unit. Shared by all sessions of its target.
#[derive(Debug)]
pub struct Unit {
    pub lun: u16,
    pub identity: Identity,
    /// Target's iSCSI name, for the device identification page.
    pub target_name: String,
    /// How many target ports lead here.
    pub ports: u16,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) geometry: Geometry,
    pub(crate) nexuses: BTreeMap<u64, NexusState>,
    /// Holder of RESERVE(6).
    pub(crate) reserved_by: Option<u64>,
    pub(crate) persistent: Reservations,
    pub(crate) mode: ModePages,
    pub(crate) power: Power,
    pub(crate) sanitize: SanitizeState,
    pub(crate) copies: CopyResults,
    /// Grows with each reset: a task that began in an older one is gone.
    pub(crate) resets: u64,
}

#[derive(Debug, Default)]
pub(crate) struct NexusState {
    pub(crate) port: Option<InitiatorPort>,
    pub(crate) attentions: VecDeque<(u8, u8)>,
    pub(crate) prevents_removal: bool,
    /// Tasks of this nexus that began before this number are aborted (PREEMPT AND ABORT, CLEAR TASK SET).
    pub(crate) aborted_before: u64,
    pub(crate) tasks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Ready,
    Ejected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SanitizeState {
    Idle,
    Running,
    Failed,
}

/// When a task began: whether it still counts is asked when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskAge {
    nexus: u64,
    resets: u64,
    number: u64,
}

impl Unit {
    pub fn new(lun: u16, target_name: &str, ports: u16, identity: Identity, geometry: Geometry) -> Unit {
        let state = State {
            geometry,
            nexuses: BTreeMap::new(),
            reserved_by: None,
            persistent: Reservations::default(),
            mode: ModePages::default(),
            power: Power::Ready,
            sanitize: SanitizeState::Idle,
            copies: CopyResults::default(),
            resets: 0,
        };
        Unit { lun, identity, target_name: target_name.to_owned(), ports, state: Mutex::new(state) }
    }

    pub fn geometry(&self) -> Geometry {
        self.state().geometry
    }

    /// The medium has another size now. Every session hears of it.
    pub fn resize(&self, blocks: u64) {
        let mut state = self.state();
        state.geometry.blocks = blocks;
        state.attend_all(attention::CAPACITY_CHANGED);
    }

    /// A session begins.
    pub fn attach(&self, nexus: &Nexus) {
        let mut fresh = NexusState { port: Some(nexus.port.clone()), ..NexusState::default() };
        fresh.attentions.push_back(attention::POWER_ON);
        self.state().nexuses.insert(nexus.id, fresh);
    }

    /// A session is over: RESERVE(6) and PREVENT go with it, persistent reservations stay (SPC-4 5.12.1).
    pub fn detach(&self, nexus: &Nexus) {
        let mut state = self.state();
        state.nexuses.remove(&nexus.id);
        state.copies.forget(nexus.id);
        if state.reserved_by == Some(nexus.id) {
            state.reserved_by = None;
        }
    }

    /// A task begins; see [`Unit::is_current`].
    pub fn begin(&self, nexus: &Nexus) -> TaskAge {
        let mut state = self.state();
        let resets = state.resets;
        let number = state.nexuses.get_mut(&nexus.id).map_or(0, |nexus| {
            nexus.tasks += 1;
            nexus.tasks
        });
        TaskAge { nexus: nexus.id, resets, number }
    }

    /// Whether a task that began then was not aborted since, by this initiator's reset or another's, or by the end of
    /// its session.
    pub fn is_current(&self, age: TaskAge) -> bool {
        let state = self.state();
        // A nexus that is gone has no tasks.
        let Some(nexus) = state.nexuses.get(&age.nexus) else { return false };
        age.resets == state.resets && age.number >= nexus.aborted_before
    }

    /// LOGICAL UNIT RESET, and what a target reset does to each unit (SAM-5 section 6.3.3).
    pub fn reset(&self) {
        let mut state = self.state();
        state.resets += 1;
        state.reserved_by = None;
        state.mode = ModePages::default();
        for nexus in state.nexuses.values_mut() {
            nexus.prevents_removal = false;
        }
        // The one who asked hears it too (SAM-5 section 5.14.3).
        state.attend_all(attention::BUS_DEVICE_RESET);
    }

    /// A TARGET COLD RESET is a power cycle to the one who asks for it as well.
    pub fn cold_reset(&self, by: &Nexus) {
        self.reset();
        let mut state = self.state();
        state.power = Power::Ready;
        state.attend(by.id, attention::POWER_ON);
    }

    /// I_T NEXUS RESET: as if the session had ended and begun again (SAM-5 section 6.3.4).
    pub fn lose_nexus(&self, nexus: &Nexus) {
        self.abort_tasks(nexus);
        let mut state = self.state();
        if state.reserved_by == Some(nexus.id) {
            state.reserved_by = None;
        }
        if let Some(known) = state.nexuses.get_mut(&nexus.id) {
            known.prevents_removal = false;
        }
        state.attend(nexus.id, attention::NEXUS_LOSS);
    }

    /// QUERY ASYNCHRONOUS EVENT: how many attentions wait for this initiator, and the next of them (SAM-5 section
    /// 7.9). It stays.
    pub fn pending_attention(&self, nexus: &Nexus) -> Option<(usize, (u8, u8))> {
        let state = self.state();
        let waiting = &state.nexuses.get(&nexus.id)?.attentions;
        Some((waiting.len(), *waiting.front()?))
    }

    /// CLEAR TASK SET: everybody's tasks (SAM-5 section 7.4).
    pub fn clear_tasks(&self) {
        let mut state = self.state();
        for nexus in state.nexuses.values_mut() {
            nexus.aborted_before = nexus.tasks + 1;
        }
    }

    /// ABORT TASK SET: this initiator's tasks.
    pub fn abort_tasks(&self, nexus: &Nexus) {
        if let Some(nexus) = self.state().nexuses.get_mut(&nexus.id) {
            nexus.aborted_before = nexus.tasks + 1;
        }
    }

    /// Judges a command, in the order: attention, CDB, reservation, medium, write protection, fields.
    pub fn plan(&self, nexus: &Nexus, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
        let mut state = self.state();
        let row = Opcode::find(cdb);
        // Commands that do not wait for an attention to be fetched (SPC-4 section 5.9.1).
        let immune = matches!(
            row.as_ref().map(|row| row.command),
            Ok(Command::Inquiry | Command::ReportLuns | Command::RequestSense)
        );
        if !immune && let Some((asc, ascq)) = state.next_attention(nexus.id) {
            return Err(Sense::new(sense::key::UNIT_ATTENTION, asc, ascq).into());
        }
        let row = row?;
        self.supported(row)?;
        row.check(cdb)?;
        reservation::check(&state, nexus, row, cdb)?;
        if !row.without_medium || row.command == Command::StartStopUnit {
            state.ready(row.command)?;
        }
        if row.access == Access::Write && blocks::writes(row.command) {
            self.writable(&state)?;
        }
        self.dispatch(&mut state, nexus, row, cdb)
    }

    /// The parameter list that [`Plan::Parameters`] asked for.
    pub fn parameters(&self, nexus: &Nexus, cdb: &[u8; 16], list: &[u8]) -> Result<Plan, Refusal> {
        let mut state = self.state();
        let row = Opcode::find(cdb)?;
        match row.command {
            Command::ModeSelect => mode::select(&mut state, nexus, cdb, list).map(|()| Plan::Good),
            Command::PersistentReserveOut => persistent::out(&mut state, nexus, cdb, list),
            Command::Unmap => blocks::unmap(&state, list),
            Command::Sanitize => start::sanitize(&mut state, cdb, list),
            Command::ExtendedCopy => copy::extended_copy(self, &mut state, nexus, list),
            _ => Err(sense::INTERNAL_FAILURE.into()),
        }
    }

    /// Must be called when the medium is done with an operation, also when nobody waits for it any more.
    /// Gives the data for the initiator.
    pub fn finish(&self, op: &MediaOp, result: Result<MediaReply, MediaError>) -> Result<Vec<u8>, Refusal> {
        let mut state = self.state();
        match op {
            MediaOp::Sanitize { .. } => {
                state.sanitize = if result.is_ok() { SanitizeState::Idle } else { SanitizeState::Failed };
            }
            MediaOp::Copy { list, by, segments } => state.copies.done(*by, *list, segments, result.is_ok()),
            _ => {}
        }
        match result {
            Ok(MediaReply::Done) => Ok(Vec::new()),
            Ok(MediaReply::Data(data)) => Ok(data),
            Ok(MediaReply::Extents(extents)) => Ok(blocks::lba_status(&state, op, &extents)),
            Err(error) => Err(error.refusal()),
        }
    }

    /// Sense data in the format that the control mode page asks for.
    pub fn emit(&self, sense: &Sense) -> Vec<u8> {
        sense.emit(self.state().mode.descriptor_sense())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-done state: every change is one assignment or one push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commands that only some units have.
    pub(crate) fn supported(&self, row: &Opcode) -> Result<(), Sense> {
        let missing = match row.command {
            Command::PreventAllow => !self.identity.removable,
            Command::Unmap => !self.identity.thin,
            _ => false,
        };
        if missing { Err(sense::INVALID_OPCODE) } else { Ok(()) }
    }

    fn writable(&self, state: &State) -> Result<(), Sense> {
        if self.identity.read_only {
            return Err(sense::WRITE_PROTECTED);
        }
        if state.mode.software_write_protect() {
            return Err(sense::SOFTWARE_WRITE_PROTECTED);
        }
        Ok(())
    }

    fn dispatch(
        &self,
        state: &mut State,
        nexus: &Nexus,
        row: &Opcode,
        cdb: &[u8; 16],
    ) -> Result<Plan, Refusal> {
        let plan = match row.command {
            Command::TestUnitReady => Plan::Good,
            Command::RequestSense => report::request_sense(state, nexus, cdb),
            Command::Inquiry => inquiry::inquiry(self, state, nexus, cdb)?,
            Command::ModeSense => mode::sense(self, state, cdb)?,
            Command::ModeSelect => Plan::Parameters(mode::select_length(cdb)),
            Command::Reserve => reservation::reserve(state, nexus)?,
            Command::Release => reservation::release(state, nexus)?,
            Command::StartStopUnit => start::start_stop(self, state, nexus, cdb)?,
            Command::PreventAllow => start::prevent_allow(state, nexus, cdb)?,
            Command::ReportTargetPortGroups => report::target_port_groups(self, cdb)?,
            Command::ReportSupportedOpcodes => report::supported_opcodes(self, cdb)?,
            Command::ReportTaskManagement => report::task_management(cdb),
            // Answered by the target, which knows all its units.
            Command::ReportLuns => return Err(sense::INTERNAL_FAILURE.into()),
            Command::PersistentReserveIn => persistent::report(state, cdb),
            Command::PersistentReserveOut => persistent::length(cdb)?,
            Command::Sanitize => start::sanitize_begin(state, cdb)?,
            Command::ExtendedCopy => copy::length(cdb)?,
            Command::ReceiveCopyResults => copy::results(state, nexus, cdb)?,
            _ => blocks::plan(self, state, row.command, cdb)?,
        };
        Ok(plan)
    }
}

impl State {
    pub(crate) fn attend(&mut self, nexus: u64, attention: (u8, u8)) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            // The same twice says nothing new, and a nexus that never asks must not grow the queue.
            if !nexus.attentions.contains(&attention) && nexus.attentions.len() < MAX_ATTENTIONS {
                nexus.attentions.push_back(attention);
            }
        }
    }

    pub(crate) fn attend_others(&mut self, but: u64, attention: (u8, u8)) {
        let others: Vec<u64> = self.nexuses.keys().copied().filter(|id| *id != but).collect();
        for id in others {
            self.attend(id, attention);
        }
    }

    pub(crate) fn next_attention(&mut self, nexus: u64) -> Option<(u8, u8)> {
        self.nexuses.get_mut(&nexus)?.attentions.pop_front()
    }

    fn attend_all(&mut self, attention: (u8, u8)) {
        self.attend_others(0, attention);
    }

    fn ready(&self, command: Command) -> Result<(), Sense> {
        match self.sanitize {
            SanitizeState::Running => return Err(sense::SANITIZE_IN_PROGRESS),
            SanitizeState::Failed if command != Command::Sanitize => return Err(sense::SANITIZE_FAILED),
            _ => {}
        }
        if command == Command::StartStopUnit {
            return Ok(());
        }
        match self.power {
            Power::Ready => Ok(()),
            Power::Ejected => Err(sense::NO_MEDIUM),
        }
    }

    pub(crate) fn sanitize_progress(&self) -> Option<Sense> {
        (self.sanitize == SanitizeState::Running)
            .then_some(Sense { specific: Specific::Progress(0x8000), ..sense::SANITIZE_IN_PROGRESS })
    }
}

/// Attentions that wait for one nexus: there are nine kinds.
const MAX_ATTENTIONS: usize = 16;
