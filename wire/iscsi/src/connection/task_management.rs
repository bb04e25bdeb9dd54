//! Task management (RFC 7143 section 11.5 and 11.6, SAM-5 chapter 7). An answer says that nothing of the
//! aborted tasks happens any more, so it waits for what the medium is doing.

use crate::be;
use crate::bhs::{Bhs, opcode};
use crate::link::Link;
use crate::scsi::MediaOp;

use super::session::{Session, Stage};

/// An answer that waits for aborted tasks.
#[derive(Debug)]
pub(super) struct Waiting {
    answer: Bhs,
    keys: Vec<u64>,
}

impl Session {
    pub(super) fn task_management(&mut self, link: &mut Link, bhs: &Bhs) {
        let function = bhs.flags() & 0x7f;
        let (response, keys) = self.manage(function, bhs);
        let answer =
            Bhs::new(opcode::TASK_MANAGEMENT_RESPONSE, 0x80).with_u8(2, response).with_itt(bhs.itt());
        if self.waiting.len() >= MAX_WAITING {
            link.send(answer.with_u8(2, REJECTED), &[]);
            return;
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
    fn manage(&mut self, function: u8, bhs: &Bhs) -> (u8, Vec<u64>) {
        let unit = self.unit(bhs.lun()).cloned();
        let lun = bhs.lun();
        match (function, unit) {
            (ABORT_TASK, Some(_)) => {
                let referenced = be::u32(&bhs.0, 20);
                let known = self.tasks.get(&referenced).is_some_and(|task| task.work.request.lun() == lun);
                if known {
                    (COMPLETE, self.abort(|itt, _| itt == referenced))
                } else {
                    // Over already, or never seen: its answer is on the wire (section 11.6.1).
                    (NO_TASK, Vec::new())
                }
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
            (ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET | LOGICAL_UNIT_RESET, None) => (NO_LUN, Vec::new()),
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
                self.orphans.push(task.key);
                keys.push(task.key);
            }
        }
        keys
    }
}

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;
const TARGET_COLD_RESET: u8 = 7;
const TASK_REASSIGN: u8 = 8;

/// Responses (section 11.6.1).
const COMPLETE: u8 = 0;
const NO_TASK: u8 = 1;
const NO_LUN: u8 = 2;
const NO_REASSIGN: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const REJECTED: u8 = 255;

/// Task management requests that wait at once.
const MAX_WAITING: usize = 64;
