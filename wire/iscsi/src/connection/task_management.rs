//! Task management (RFC 7143 section 11.5 and 11.6, RFC 7144 section 6, SAM-5 chapter 7). An answer says that nothing of the
//! aborted tasks happens any more, so it waits for what the medium is doing.

use std::sync::Arc;

use crate::be;
use crate::bhs::{Bhs, opcode};
use crate::host::{Host, Now, TaskKey};
use crate::link::Link;
use crate::scsi::sense::key;
use crate::scsi::{MediaOp, Unit};

use super::session::{Session, Stage};

/// An answer that waits for aborted tasks.
#[derive(Debug)]
pub(super) struct Waiting {
    answer: Bhs,
    keys: Vec<u64>,
}

impl Session {
    pub(super) fn task_management<H: Host>(&mut self, link: &mut Link, bhs: &Bhs, host: &mut H) {
        let function = bhs.flags() & 0x7f;
        let full = self.waiting.len() >= MAX_WAITING || self.orphans.len() >= MAX_ORPHANS;
        let (response, mut keys) =
            if full { (REJECTED, Vec::new()) } else { self.manage(function, bhs, link) };
        if response == COMPLETE {
            keys.extend(self.settle(function, bhs, host));
        }
        let mut answer =
            Bhs::new(opcode::TASK_MANAGEMENT_RESPONSE, 0x80).with_u8(2, response).with_itt(bhs.itt());
        if function == QUERY_ASYNC_EVENT {
            be::put(&mut answer.0, 8, &self.pending_event(bhs.lun()));
        }
        self.waiting.push(Waiting { answer, keys });
        self.after_abort(link);
    }

    /// Sends answers whose tasks are all gone.
    pub(super) fn after_abort(&mut self, link: &mut Link) {
        let orphans = &self.orphans;
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting: &Waiting| waiting.keys.iter().all(|key| !orphans.contains(key)));
        self.waiting = waiting;
        for Waiting { answer, .. } in ready {
            link.send(answer, &[]);
        }
    }

    /// Response code, and the tasks that must end before it is sent.
    fn manage(&mut self, function: u8, bhs: &Bhs, link: &Link) -> (u8, Vec<u64>) {
        let unit = self.unit(bhs.lun()).cloned();
        let lun = bhs.lun();
        match (function, unit) {
            (ABORT_TASK, Some(_)) => {
                let referenced = be::u32(&bhs.0, 20);
                if self.has_task(referenced, lun) {
                    (COMPLETE, self.abort(|itt, _| itt == referenced))
                } else if self.abort_ahead(link, be::u32(&bhs.0, 32), bhs.cmd_sn()) {
                    (COMPLETE, Vec::new())
                } else {
                    // Over already, or never seen: its answer is on the wire (section 11.6.1).
                    (NO_TASK, Vec::new())
                }
            }
            (QUERY_TASK, Some(_)) => (present(self.has_task(be::u32(&bhs.0, 20), lun)), Vec::new()),
            (QUERY_TASK_SET, Some(_)) => {
                let any = self.tasks.values().any(|task| task.work.request.lun() == lun);
                (present(any), Vec::new())
            }
            (QUERY_ASYNC_EVENT, Some(unit)) => {
                (present(unit.pending_attention(&self.nexus).is_some()), Vec::new())
            }
            (ABORT_TASK_SET, Some(unit)) => {
                unit.abort_tasks(&self.nexus);
                (COMPLETE, self.abort(|_, task_lun| task_lun == lun))
            }
            (CLEAR_TASK_SET, Some(unit)) => {
                unit.clear_tasks();
                (COMPLETE, self.abort(|_, task_lun| task_lun == lun))
            }
            (LOGICAL_UNIT_RESET, Some(unit)) => {
                unit.reset();
                (COMPLETE, self.abort(|_, task_lun| task_lun == lun))
            }
            (ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET, None)
            | (QUERY_TASK | QUERY_TASK_SET | QUERY_ASYNC_EVENT, None) => (NO_LUN, Vec::new()),
            (NEXUS_RESET, _) => {
                let units = self.target().map(|target| target.units.clone()).unwrap_or_default();
                units.iter().for_each(|unit| unit.lose_nexus(&self.nexus));
                (COMPLETE, self.abort(|_, _| true))
            }
            (TARGET_WARM_RESET | TARGET_COLD_RESET, _) => {
                let units = self.target().map(|target| target.units.clone()).unwrap_or_default();
                for unit in &units {
                    if function == TARGET_COLD_RESET { unit.cold_reset(&self.nexus) } else { unit.reset() }
                }
                (COMPLETE, self.abort(|_, _| true))
            }
            // Task reassignment needs level 2; CLEAR ACA needs NormACA.
            (TASK_REASSIGN, _) => (NO_REASSIGN, Vec::new()),
            _ => (NOT_SUPPORTED, Vec::new()),
        }
    }

    fn has_task(&self, itt: u32, lun: u64) -> bool {
        self.tasks.get(&itt).is_some_and(|task| task.work.request.lun() == lun)
    }

    /// Additional response information of QUERY ASYNCHRONOUS EVENT: one or more of them, sense key, code, qualifier
    /// (SAM-5 section 7.9).
    fn pending_event(&self, lun: u64) -> [u8; 3] {
        let waiting = self.unit(lun).and_then(|unit| unit.pending_attention(&self.nexus));
        let Some((count, (asc, ascq))) = waiting else { return [0; 3] };
        let depth = if count == 1 { 0x10 } else { 0x20 };
        [depth | key::UNIT_ATTENTION, asc, ascq]
    }

    /// Waits for what other sessions have under way on the units that a function takes it from. Returns what to wait
    /// for.
    fn settle<H: Host>(&mut self, function: u8, bhs: &Bhs, host: &mut H) -> Vec<u64> {
        let units: Vec<Arc<Unit>> = match function {
            CLEAR_TASK_SET | LOGICAL_UNIT_RESET => self.unit(bhs.lun()).cloned().into_iter().collect(),
            TARGET_WARM_RESET | TARGET_COLD_RESET => {
                self.target().map(|target| target.units.clone()).unwrap_or_default()
            }
            _ => return Vec::new(),
        };
        let mut keys = Vec::new();
        for unit in units {
            let key = self.key(bhs.itt());
            let age = unit.begin(&self.nexus);
            if let Now::Later = host.run(TaskKey(key), &unit, age, &MediaOp::Settle, &[]) {
                self.orphans.insert(key);
                keys.push(key);
            }
        }
        keys
    }

    /// Takes tasks away; those the medium works on are remembered until it is done.
    fn abort(&mut self, which: impl Fn(u32, u64) -> bool) -> Vec<u64> {
        let gone: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(itt, task)| which(**itt, task.work.request.lun()))
            .map(|(itt, _)| *itt)
            .collect();
        let mut keys = Vec::new();
        for itt in gone {
            let Some(task) = self.tasks.remove(&itt) else { continue };
            self.outstanding = self.outstanding.saturating_sub(task.promised);
            // A sanitize goes on whatever happens to its task (SBC-3 section 4.11.1): nobody waits for it.
            let waits =
                !matches!(task.stage, Stage::InFlight(MediaOp::Sanitize { .. }) | Stage::Collecting(_));
            if waits {
                self.orphans.insert(task.key);
                keys.push(task.key);
            }
        }
        keys
    }
}

/// FUNCTION SUCCEEDED says that there is one (RFC 7144 section 6.2).
fn present(there: bool) -> u8 {
    if there { SUCCEEDED } else { COMPLETE }
}

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;
const TARGET_COLD_RESET: u8 = 7;
const TASK_REASSIGN: u8 = 8;
const QUERY_TASK: u8 = 9;
const QUERY_TASK_SET: u8 = 10;
const NEXUS_RESET: u8 = 11;
const QUERY_ASYNC_EVENT: u8 = 12;

/// Responses (section 11.6.1).
const COMPLETE: u8 = 0;
const NO_TASK: u8 = 1;
const NO_LUN: u8 = 2;
const NO_REASSIGN: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const SUCCEEDED: u8 = 7;
const REJECTED: u8 = 255;

/// Task management requests that wait at once, and aborted tasks that they wait for.
const MAX_WAITING: usize = 64;
const MAX_ORPHANS: usize = 1024;
