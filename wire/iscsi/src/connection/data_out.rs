//! Data-Out and R2T (RFC 7143 section 11.7 and 11.8): data comes in order, or the command fails.

use std::collections::VecDeque;

use crate::bhs::{Bhs, RESERVED_TAG, opcode};
use crate::host::Host;
use crate::link::Link;
use crate::scsi::{MediaOp, Plan, Refusal, Sense, sense};

use super::Closed;
use super::command::WRITE;
use super::session::{Session, Stage, Task, Work};

/// What data is collected for.
#[derive(Debug)]
pub(super) enum Purpose {
    List(usize),
    Media(MediaOp),
}

impl Purpose {
    pub(super) fn len(&self) -> usize {
        match self {
            Purpose::List(len) => *len,
            Purpose::Media(op) => op.data_out(),
        }
    }
}

/// A command that waits for data.
#[derive(Debug)]
pub(super) struct Collecting {
    purpose: Purpose,
    /// Bytes that are wanted.
    total: usize,
    data: Vec<u8>,
    /// Where the next Data-Out must begin.
    position: usize,
    unsolicited: Option<Unsolicited>,
    asked: VecDeque<Asked>,
    /// Where the next R2T begins.
    next: usize,
    r2t_sn: u32,
}

/// Data that comes without being asked for.
#[derive(Debug)]
struct Unsolicited {
    data_sn: u32,
    /// FirstBurstLength, or all the initiator said it has.
    end: usize,
}

/// An R2T that is out.
#[derive(Debug)]
struct Asked {
    ttt: u32,
    data_sn: u32,
    end: usize,
}

impl Collecting {
    pub(super) fn new(
        purpose: Purpose,
        total: usize,
        expected: usize,
        immediate: &[u8],
        more: bool,
        first_burst: usize,
    ) -> Collecting {
        let unsolicited = more.then_some(Unsolicited { data_sn: 0, end: first_burst.min(expected) });
        let mut collecting = Collecting {
            purpose,
            total,
            // Grows with what arrives: a promise costs no memory.
            data: Vec::new(),
            position: 0,
            unsolicited,
            asked: VecDeque::new(),
            next: 0,
            r2t_sn: 0,
        };
        collecting.take(immediate);
        collecting
    }

    fn take(&mut self, data: &[u8]) {
        let wanted = self.total.saturating_sub(self.data.len()).min(data.len());
        self.data.extend_from_slice(data.get(..wanted).unwrap_or_default());
        self.position += data.len();
    }

    fn is_whole(&self) -> bool {
        self.unsolicited.is_none() && self.data.len() >= self.total
    }

    /// Takes a Data-Out in. Order, place and amount must be right (RFC 7143 section 7.10: level 0 ends the
    /// command otherwise).
    fn data_out(&mut self, bhs: &Bhs, data: &[u8]) -> Result<(), Sense> {
        let end = self.position.saturating_add(data.len());
        let (data_sn, limit) = match (&mut self.unsolicited, self.asked.front_mut()) {
            (Some(first), _) if bhs.ttt() == RESERVED_TAG => (&mut first.data_sn, first.end),
            (None, Some(asked)) if bhs.ttt() == asked.ttt => (&mut asked.data_sn, asked.end),
            _ => return Err(sense::UNEXPECTED_UNSOLICITED_DATA),
        };
        if bhs.data_sn() != *data_sn || bhs.buffer_offset() as usize != self.position {
            return Err(sense::DATA_PHASE_ERROR);
        }
        if end > limit || (data.is_empty() && !bhs.is_final()) {
            return Err(sense::INCORRECT_AMOUNT_OF_DATA);
        }
        *data_sn = data_sn.wrapping_add(1);
        let solicited = self.unsolicited.is_none();
        self.take(data);
        if bhs.is_final() {
            if solicited && end != limit {
                return Err(sense::INCORRECT_AMOUNT_OF_DATA);
            }
            if solicited {
                self.asked.pop_front();
            } else {
                self.unsolicited = None;
            }
        } else if solicited && end == limit {
            // The sequence is full and its last PDU does not say so.
            return Err(sense::INCORRECT_AMOUNT_OF_DATA);
        }
        Ok(())
    }
}

impl Session {
    pub(super) fn data_out<H: Host>(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        data: &[u8],
        host: &mut H,
    ) -> Result<(), Closed> {
        // Data of a command that failed meanwhile is on its way still: it is dropped.
        let Some(mut task) = self.tasks.remove(&bhs.itt()) else { return Ok(()) };
        let Stage::Collecting(collecting) = &mut task.stage else {
            self.tasks.insert(bhs.itt(), task);
            return Ok(());
        };
        if !task.work.unit.is_current(task.work.age) {
            self.outstanding = self.outstanding.saturating_sub(task.promised);
            return Ok(());
        }
        if let Err(error) = collecting.data_out(bhs, data) {
            self.outstanding = self.outstanding.saturating_sub(task.promised);
            self.refuse(link, &task.work.request, Some(&task.work.unit), &error.into());
            return Ok(());
        }
        if !collecting.is_whole() {
            self.ask(link, &task.work.request, collecting);
            self.tasks.insert(bhs.itt(), task);
            return Ok(());
        }
        self.outstanding = self.outstanding.saturating_sub(task.promised);
        if let Stage::Collecting(collecting) = task.stage {
            let Collecting { purpose, data, .. } = *collecting;
            self.collected(link, &task.work, purpose, &data, host);
        }
        Ok(())
    }

    /// A command that wants data: with all of it there it goes on, else it waits and asks.
    pub(super) fn collect<H: Host>(
        &mut self,
        link: &mut Link,
        work: Work,
        purpose: Purpose,
        data: &[u8],
        host: &mut H,
    ) {
        let bhs = &work.request;
        let expected = if bhs.flags() & WRITE != 0 { bhs.expected_data_len() as usize } else { 0 };
        let total = purpose.len().min(expected);
        let refusal: Option<Refusal> = if !data.is_empty() && !self.params.immediate_data
            || !bhs.is_final() && self.params.initial_r2t
        {
            Some(sense::UNEXPECTED_UNSOLICITED_DATA.into())
        } else if data.len() > self.params.first_burst.min(expected) {
            Some(sense::INCORRECT_AMOUNT_OF_DATA.into())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.refuse(link, bhs, Some(&work.unit), &refusal);
        }
        // All there: no copy.
        if bhs.is_final() && data.len() >= total {
            let data = data.get(..total).unwrap_or_default();
            return self.collected(link, &work, purpose, data, host);
        }
        if self.outstanding.saturating_add(total) > self.limits.outstanding {
            return self.refuse(link, bhs, Some(&work.unit), &Refusal::TaskSetFull);
        }
        let Some(room) = host.room(total) else {
            return self.refuse(link, bhs, Some(&work.unit), &Refusal::TaskSetFull);
        };
        let key = self.key(bhs.itt());
        let mut collecting =
            Collecting::new(purpose, total, expected, data, !bhs.is_final(), self.params.first_burst);
        self.ask(link, bhs, &mut collecting);
        self.outstanding += total;
        let itt = bhs.itt();
        let stage = Stage::Collecting(Box::new(collecting));
        self.tasks.insert(itt, Task { key, work, stage, promised: total, _room: Some(room) });
    }

    /// Sends R2Ts for what is still wanted, as many as may be out at once.
    pub(super) fn ask(&mut self, link: &mut Link, request: &Bhs, collecting: &mut Collecting) {
        if collecting.unsolicited.is_some() {
            return;
        }
        collecting.next = collecting.next.max(collecting.position);
        while collecting.next < collecting.total
            && collecting.asked.len() < self.params.max_outstanding_r2t as usize
        {
            let len = (collecting.total - collecting.next).min(self.params.max_burst);
            let ttt = self.ttt();
            let r2t = Bhs::new(opcode::R2T, 0x80)
                .with_u64(8, request.lun())
                .with_itt(request.itt())
                .with_u32(20, ttt)
                .with_u32(36, collecting.r2t_sn)
                .with_u32(40, u32::try_from(collecting.next).unwrap_or(u32::MAX))
                .with_u32(44, u32::try_from(len).unwrap_or(u32::MAX));
            let r2t = link.peek(r2t);
            link.out.pdu(r2t, &[]);
            collecting.next += len;
            collecting.r2t_sn = collecting.r2t_sn.wrapping_add(1);
            collecting.asked.push_back(Asked { ttt, data_sn: 0, end: collecting.next });
        }
    }

    /// All data that will come is there. It is less than the command wants if the initiator said so.
    fn collected<H: Host>(
        &mut self,
        link: &mut Link,
        work: &Work,
        purpose: Purpose,
        data: &[u8],
        host: &mut H,
    ) {
        let planned = match purpose {
            Purpose::List(_) => {
                work.unit.parameters(&self.nexus, &work.request.cdb(), data).map(|plan| (plan, data))
            }
            Purpose::Media(op) if op.data_out() == data.len() => Ok((Plan::Media(op), data)),
            Purpose::Media(op) => shorter(op, data, work.unit.geometry().block_size as usize),
        };
        match planned {
            Ok((plan, data)) => self.carry_out(link, work, plan, data, host),
            Err(refusal) => self.refuse(link, &work.request, Some(&work.unit), &refusal),
        }
    }
}

/// A command whose data is shorter than its CDB says (the expected length is below the transfer length): the
/// blocks that are whole are written, and the residual count says what was missing.
fn shorter(op: MediaOp, data: &[u8], block: usize) -> Result<(Plan, &[u8]), Refusal> {
    let whole = data.len() - data.len() % block.max(1);
    let data = data.get(..whole).unwrap_or_default();
    let op = match op {
        MediaOp::Write { offset, durable, .. } => MediaOp::Write { offset, len: whole, durable },
        MediaOp::WriteAndVerify { offset, .. } => MediaOp::WriteAndVerify { offset, len: whole },
        MediaOp::OrWrite { offset, durable, .. } => MediaOp::OrWrite { offset, len: whole, durable },
        // What compares or repeats has no meaning with a part of it.
        _ => return Err(Sense::cdb_field(0, None).into()),
    };
    Ok((if whole == 0 { Plan::Good } else { Plan::Media(op) }, data))
}
