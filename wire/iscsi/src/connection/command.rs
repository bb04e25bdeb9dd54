//! A SCSI command: judged, given data, run, answered (RFC 7143 section 11.3 and 11.4).

use std::sync::Arc;

use crate::be;
use crate::bhs::{Bhs, opcode};
use crate::host::{Host, Now, TaskKey};
use crate::link::Link;
use crate::scsi::{Command, MediaOp, Opcode, Plan, Refusal, Sense, Unit, absent_unit, sense, status};

use super::Closed;
use super::data_out::Purpose;
use super::session::{REASON_PROTOCOL, Session, Stage, Task, Work, reject};

impl Session {
    pub(super) fn command<H: Host>(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        ahs: &[u8],
        data: &[u8],
        host: &mut H,
    ) -> Result<(), Closed> {
        if self.target().is_none() || self.tasks.contains_key(&bhs.itt()) {
            reject(link, bhs, REASON_PROTOCOL);
            return Ok(());
        }
        // ORDERED: after all before it, before all after it (SAM-5 section 8.6). Data of those before it that still
        // collect comes behind it on the connection: it cannot wait for them here.
        let ordered = bhs.flags() & 0x07 == ORDERED;
        if ordered && self.is_collecting() {
            self.refuse(link, bhs, None, &Refusal::TaskSetFull);
            return Ok(());
        }
        if ordered && self.in_flight() > 0 {
            self.barrier = Some(Box::new((*bhs, ahs.to_vec(), data.to_vec())));
            return Ok(());
        }
        self.start_command(link, bhs, ahs, data, host)
    }

    /// After something was completed: an ORDERED command may go now.
    pub(super) fn after_barrier<H: Host>(&mut self, link: &mut Link, host: &mut H) -> Result<(), Closed> {
        if self.in_flight() == 0
            && let Some(barrier) = self.barrier.take()
        {
            let (bhs, ahs, data) = *barrier;
            self.start_command(link, &bhs, &ahs, &data, host)?;
            return self.deliver_held(link, host);
        }
        Ok(())
    }

    fn start_command<H: Host>(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        ahs: &[u8],
        data: &[u8],
        host: &mut H,
    ) -> Result<(), Closed> {
        let cdb = bhs.cdb();
        // An extended CDB or a bidirectional read length: no command here has either.
        if !ahs.is_empty() {
            self.refuse(link, bhs, None, &Sense::cdb_field(0, None).into());
            return Ok(());
        }
        if let Some(answer) = self.for_target(bhs, &cdb) {
            match answer {
                Ok(data) => self.data_in(link, bhs, &data),
                Err(refusal) => self.refuse(link, bhs, None, &refusal),
            }
            return Ok(());
        }
        let Some(unit) = self.unit(bhs.lun()).cloned() else {
            self.refuse(link, bhs, None, &sense::LUN_NOT_SUPPORTED.into());
            return Ok(());
        };
        // Those that were aborted count until the medium is done with them.
        if self.tasks.len() + self.orphans.len() >= MAX_TASKS {
            self.refuse(link, bhs, Some(&unit), &Refusal::TaskSetFull);
            return Ok(());
        }
        let age = unit.begin(&self.nexus);
        let plan = match unit.plan(&self.nexus, &cdb) {
            Ok(plan) => plan,
            Err(refusal) => {
                self.refuse(link, bhs, Some(&unit), &refusal);
                return Ok(());
            }
        };
        if let Plan::Media(op) = &plan
            && op.is_exact()
            && (bhs.flags() & WRITE == 0 || bhs.expected_data_len() as usize != op.data_out())
            && !(op.data_out() == 0 && bhs.flags() & WRITE == 0)
        {
            self.refuse(link, bhs, Some(&unit), &Sense::cdb_field(0, None).into());
            return Ok(());
        }
        let mut work = Work { request: *bhs, unit, age, moves: 0 };
        let purpose = match plan {
            Plan::Parameters(len) => Purpose::List(len),
            Plan::Media(op) if op.data_out() > 0 => Purpose::Media(op),
            plan => {
                self.carry_out(link, &work, plan, &[], host);
                return Ok(());
            }
        };
        work.moves = purpose.len();
        self.collect(link, work, purpose, data, host);
        Ok(())
    }

    /// REPORT LUNS, and INQUIRY and REQUEST SENSE of a unit that is not there (SPC-4 section 6.33, 6.6, 6.39).
    fn for_target(&self, bhs: &Bhs, cdb: &[u8; 16]) -> Option<Result<Vec<u8>, Refusal>> {
        let target = self.target()?;
        let row = Opcode::find(cdb).ok()?;
        let present = self.unit(bhs.lun()).is_some();
        let plan = match row.command {
            Command::ReportLuns => row
                .check(cdb)
                .map_err(Refusal::from)
                .and_then(|()| crate::scsi::report_luns(target.units.iter().map(|unit| unit.lun), cdb)),
            Command::Inquiry if !present => absent_unit(cdb),
            Command::RequestSense if !present => {
                Ok(Plan::Data(sense::LUN_NOT_SUPPORTED.emit(cdb[1] & 1 != 0)))
            }
            _ => return None,
        };
        Some(plan.map(|plan| match plan {
            Plan::Data(data) => data,
            _ => Vec::new(),
        }))
    }

    /// Does what a plan says, with all its data there.
    pub(super) fn carry_out<H: Host>(
        &mut self,
        link: &mut Link,
        work: &Work,
        plan: Plan,
        data: &[u8],
        host: &mut H,
    ) {
        match plan {
            Plan::Good => self.good(link, work),
            Plan::Data(data) => self.data_in(link, &work.request, &data),
            Plan::Parameters(_) => {
                self.refuse(link, &work.request, Some(&work.unit), &sense::PARAMETER_LIST_LENGTH.into());
            }
            Plan::Media(op @ MediaOp::Read { offset, len }) => {
                match self.read_in(link, work, offset, len, host) {
                    Now::Done(()) => {}
                    Now::Failed(error) => {
                        self.refuse(link, &work.request, Some(&work.unit), &error.refusal())
                    }
                    Now::Later => self.run(link, work, op, data, host),
                }
            }
            Plan::Media(op) => self.run(link, work, op, data, host),
        }
    }

    fn run<H: Host>(&mut self, link: &mut Link, work: &Work, op: MediaOp, data: &[u8], host: &mut H) {
        // What the medium does not do at once is held in memory until it does.
        let cost = if let MediaOp::Read { len, .. } = &op { *len } else { data.len() };
        if self.outstanding > 0 && self.outstanding.saturating_add(cost) > self.limits.outstanding {
            return self.refuse(link, &work.request, Some(&work.unit), &Refusal::TaskSetFull);
        }
        let key = self.key(work.request.itt());
        let result = match host.run(TaskKey(key), &work.unit, work.age, &op, data) {
            Now::Done(reply) => Ok(reply),
            Now::Failed(error) => Err(error),
            // IMMED: it has begun, and goes on (SBC-3 section 5.24.1).
            Now::Later if matches!(op, MediaOp::Sanitize { .. }) && work.request.cdb()[1] & 0x80 != 0 => {
                return self.good(link, work);
            }
            Now::Later => {
                self.outstanding += cost;
                let task =
                    Task { key, work: work.clone(), stage: Stage::InFlight(op), promised: cost, _room: None };
                self.tasks.insert(work.request.itt(), task);
                return;
            }
        };
        let result = work.unit.finish(&op, result);
        self.conclude(link, work, &op, result);
    }

    /// Names a task: its tag, and a number since tags come again.
    pub(super) fn key(&mut self, itt: u32) -> u64 {
        self.serial = self.serial.wrapping_add(1);
        u64::from(self.serial) << 32 | u64::from(itt)
    }

    /// The medium comes back with a task that it took longer for.
    pub(super) fn complete<H: Host>(
        &mut self,
        link: &mut Link,
        key: TaskKey,
        result: Result<Vec<u8>, Refusal>,
        host: &mut H,
    ) -> Result<(), Closed> {
        let itt = (key.0 & 0xffff_ffff) as u32;
        if self.orphans.remove(&key.0) {
        } else if self.tasks.get(&itt).is_some_and(|task| task.key == key.0)
            && let Some(task) = self.tasks.remove(&itt)
        {
            self.outstanding = self.outstanding.saturating_sub(task.promised);
            // Aborted by somebody's reset or preemption: no answer (SAM-5 section 5.6, TAS 0).
            if task.work.unit.is_current(task.work.age)
                && let Stage::InFlight(op) = &task.stage
            {
                self.conclude(link, &task.work, op, result);
            }
        }
        self.after_abort(link);
        self.after_barrier(link, host)
    }

    fn conclude(&mut self, link: &mut Link, work: &Work, op: &MediaOp, result: Result<Vec<u8>, Refusal>) {
        match result {
            Ok(data) if matches!(op, MediaOp::Read { .. } | MediaOp::Extents { .. }) => {
                let data = cut(op, &work.request, data);
                self.data_in(link, &work.request, &data);
            }
            Ok(_) => self.good(link, work),
            Err(refusal) => self.refuse(link, &work.request, Some(&work.unit), &refusal),
        }
    }

    /// GOOD without data-in.
    pub(super) fn good(&mut self, link: &mut Link, work: &Work) {
        let bhs = &work.request;
        let (flags, residual) =
            residual(bhs, work.moves, if bhs.flags() & WRITE != 0 { WRITE } else { READ });
        let answer = Bhs::new(opcode::SCSI_RESPONSE, 0x80 | flags).with_itt(bhs.itt()).with_u32(44, residual);
        link.send(answer, &[]);
    }

    pub(super) fn refuse(&mut self, link: &mut Link, bhs: &Bhs, unit: Option<&Arc<Unit>>, refusal: &Refusal) {
        let (code, sense) = match refusal {
            Refusal::Check(sense) => {
                let bytes = unit.map_or_else(|| sense.emit(false), |unit| unit.emit(sense));
                (status::CHECK_CONDITION, bytes)
            }
            Refusal::ReservationConflict => (status::RESERVATION_CONFLICT, Vec::new()),
            Refusal::TaskSetFull => (status::TASK_SET_FULL, Vec::new()),
            Refusal::Busy => (status::BUSY, Vec::new()),
        };
        let moves = bhs.flags() & (READ | WRITE);
        let (flags, left) = residual(bhs, 0, if moves == 0 { READ } else { moves });
        let answer = Bhs::new(opcode::SCSI_RESPONSE, 0x80 | flags)
            .with_u8(3, code)
            .with_itt(bhs.itt())
            .with_u32(44, left);
        if sense.is_empty() {
            return link.send(answer, &[]);
        }
        // SenseLength before the sense data (RFC 7143 section 11.4.7).
        let mut data = u16::try_from(sense.len()).unwrap_or(0).to_be_bytes().to_vec();
        data.extend_from_slice(&sense);
        link.send(answer, &data);
    }
}

/// GET LBA STATUS has an allocation length.
fn cut(op: &MediaOp, bhs: &Bhs, mut data: Vec<u8>) -> Vec<u8> {
    if matches!(op, MediaOp::Extents { .. }) {
        data.truncate(be::u32(&bhs.cdb(), 10) as usize);
    }
    data
}

/// Residual flags and count: what the initiator expected against what the command moves (RFC 7143 section
/// 11.4.5). `direction`: the flag of the command that says it expects anything.
pub(super) fn residual(bhs: &Bhs, moves: usize, direction: u8) -> (u8, u32) {
    let expected = if bhs.flags() & direction != 0 { u64::from(bhs.expected_data_len()) } else { 0 };
    let moves = moves as u64;
    let count = |left: u64| u32::try_from(left).unwrap_or(u32::MAX);
    match moves.cmp(&expected) {
        std::cmp::Ordering::Equal => (0, 0),
        std::cmp::Ordering::Less => (UNDERFLOW, count(expected - moves)),
        std::cmp::Ordering::Greater => (OVERFLOW, count(moves - expected)),
    }
}

/// Flags of a SCSI command (RFC 7143 section 11.3.1).
pub(super) const READ: u8 = 0x40;
pub(super) const WRITE: u8 = 0x20;
const ORDERED: u8 = 2;

/// Flags of a response (section 11.4.1).
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

/// Twice the command window: what is in flight, and what collects data.
const MAX_TASKS: usize = 256;
