//! The full feature phase: the order of commands, and which PDU goes where.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::be;
use crate::bhs::{Bhs, RESERVED_TAG, opcode};
use crate::host::{Host, Room, SessionKind, SessionStart, Target};
use crate::link::Link;
use crate::login::Established;
use crate::params::Params;
use crate::scsi::{InitiatorPort, MediaOp, Nexus, TaskAge, Unit, lun_of};

use super::data_out::Collecting;
use super::task_management::Waiting;
use super::{Closed, Limits};

#[derive(Debug)]
pub(super) struct Session {
    pub(super) start: SessionStart,
    pub(super) params: Params,
    pub(super) limits: Limits,
    pub(super) nexus: Nexus,
    cid: u16,
    /// By initiator task tag.
    pub(super) tasks: HashMap<u32, Task>,
    /// Tasks that were aborted while the medium worked on them.
    pub(super) orphans: BTreeSet<u64>,
    pub(super) waiting: Vec<Waiting>,
    /// Bytes of write data promised to tasks.
    pub(super) outstanding: usize,
    pub(super) serial: u32,
    pub(super) next_ttt: u32,
    pub(super) text: VecDeque<u8>,
    pub(super) text_partial: Vec<u8>,
    /// Commands that came before their turn; `None`: one that was aborted before it came.
    held: BTreeMap<u32, Option<Kept>>,
    /// An ORDERED command waits until the ones before it are done.
    pub(super) barrier: Option<Box<Kept>>,
}

/// A PDU that waits: header, additional headers, data.
type Kept = (Bhs, Vec<u8>, Vec<u8>);

/// A SCSI command under way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) key: u64,
    pub(super) work: Work,
    pub(super) stage: Stage,
    /// Bytes counted in `outstanding`.
    pub(super) promised: usize,
    /// The world's share in that; work under way has its own.
    pub(super) _room: Option<Room>,
}

/// What stays the same while a command runs.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) request: Bhs,
    pub(super) unit: Arc<Unit>,
    pub(super) age: TaskAge,
    /// Data-out bytes its CDB asks for, for the residual.
    pub(super) moves: usize,
}

#[derive(Debug)]
pub(super) enum Stage {
    Collecting(Box<Collecting>),
    /// The medium works on it.
    InFlight(MediaOp),
}

impl Session {
    pub(super) fn new(established: Established, limits: Limits) -> Session {
        let Established { start, grant, params, cid } = established;
        let port =
            InitiatorPort { name: start.initiator.clone(), isid: start.isid, target_port: grant.target_port };
        let nexus = Nexus { id: grant.nexus, port };
        if let SessionKind::Normal(target) = &start.kind {
            for unit in &target.units {
                unit.attach(&nexus);
            }
        }
        Session {
            start,
            params,
            limits,
            nexus,
            cid,
            tasks: HashMap::new(),
            orphans: BTreeSet::new(),
            waiting: Vec::new(),
            outstanding: 0,
            serial: 0,
            next_ttt: 0,
            text: VecDeque::new(),
            text_partial: Vec::new(),
            held: BTreeMap::new(),
            barrier: None,
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(target) = self.target() {
            for unit in &target.units {
                unit.detach(&self.nexus);
            }
        }
        self.tasks.clear();
    }

    pub(super) fn target(&self) -> Option<&Arc<Target>> {
        match &self.start.kind {
            SessionKind::Normal(target) => Some(target),
            SessionKind::Discovery => None,
        }
    }

    pub(super) fn unit(&self, lun: u64) -> Option<&Arc<Unit>> {
        let lun = lun_of(lun)?;
        self.target()?.units.iter().find(|unit| unit.lun == lun)
    }

    pub(super) fn in_flight(&self) -> usize {
        let flying = self.tasks.values().filter(|task| matches!(task.stage, Stage::InFlight(_))).count();
        flying + self.orphans.len()
    }

    /// Whether a command waits for data.
    pub(super) fn is_collecting(&self) -> bool {
        self.tasks.values().any(|task| matches!(task.stage, Stage::Collecting(_)))
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.barrier.is_some()
    }

    pub(super) fn pdu<H: Host>(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        ahs: &[u8],
        data: &[u8],
        host: &mut H,
    ) -> Result<(), Closed> {
        // Outside the order of commands.
        match bhs.opcode() {
            opcode::DATA_OUT => return self.data_out(link, bhs, data, host),
            opcode::NOP_OUT if bhs.itt() == RESERVED_TAG => return Ok(()),
            opcode::LOGIN_REQUEST => {
                reject(link, bhs, REASON_PROTOCOL);
                return Err(Closed::Protocol("login in a session".into()));
            }
            opcode::SNACK => {
                reject(link, bhs, REASON_SNACK);
                return Ok(());
            }
            opcode::SCSI_COMMAND
            | opcode::TASK_MANAGEMENT
            | opcode::TEXT_REQUEST
            | opcode::LOGOUT_REQUEST
            | opcode::NOP_OUT => {}
            _ => {
                reject(link, bhs, REASON_UNSUPPORTED);
                return Ok(());
            }
        }
        if bhs.immediate() {
            return self.deliver(link, bhs, ahs, data, host);
        }
        // RFC 7143 section 4.2.2.1: outside the window is ignored, inside is delivered in order.
        let ahead = bhs.cmd_sn().wrapping_sub(link.exp_cmd_sn);
        if ahead >= crate::link::WINDOW {
            return Ok(());
        }
        if ahead > 0 {
            // One TCP connection keeps the order: only an initiator that skips numbers comes here.
            let held: usize = self.held.values().flatten().map(|(_, _, data)| data.len()).sum();
            if self.held.len() >= MAX_HELD || held + data.len() > MAX_HELD_BYTES {
                return Err(Closed::Protocol("too many commands before their turn".into()));
            }
            self.held.entry(bhs.cmd_sn()).or_insert_with(|| Some((*bhs, ahs.to_vec(), data.to_vec())));
            return Ok(());
        }
        link.exp_cmd_sn = link.exp_cmd_sn.wrapping_add(1);
        self.deliver(link, bhs, ahs, data, host)?;
        self.deliver_held(link, host)
    }

    /// Those whose turn it is now.
    pub(super) fn deliver_held<H: Host>(&mut self, link: &mut Link, host: &mut H) -> Result<(), Closed> {
        while self.barrier.is_none()
            && let Some(kept) = self.held.remove(&link.exp_cmd_sn)
        {
            link.exp_cmd_sn = link.exp_cmd_sn.wrapping_add(1);
            if let Some((bhs, ahs, data)) = kept {
                self.deliver(link, &bhs, &ahs, &data, host)?;
            }
        }
        Ok(())
    }

    /// ABORT TASK of a command that has not had its turn: counted as received, never run (RFC 7143 section 11.6.1).
    /// False: its number is none that is still to come.
    pub(super) fn abort_ahead(&mut self, link: &Link, cmd_sn: u32, of_request: u32) -> bool {
        let ahead = cmd_sn.wrapping_sub(link.exp_cmd_sn);
        let before = of_request.wrapping_sub(cmd_sn);
        let to_come = ahead < crate::link::WINDOW && (1..=crate::link::WINDOW).contains(&before);
        if to_come && (self.held.len() < MAX_HELD || self.held.contains_key(&cmd_sn)) {
            self.held.insert(cmd_sn, None);
        }
        to_come
    }

    fn deliver<H: Host>(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        ahs: &[u8],
        data: &[u8],
        host: &mut H,
    ) -> Result<(), Closed> {
        match bhs.opcode() {
            opcode::SCSI_COMMAND => self.command(link, bhs, ahs, data, host),
            opcode::TASK_MANAGEMENT => {
                self.task_management(link, bhs, host);
                // An abort may have filled a gap.
                self.deliver_held(link, host)
            }
            opcode::TEXT_REQUEST => self.text(link, bhs, data, host),
            opcode::LOGOUT_REQUEST => logout(link, bhs),
            _ => {
                self.nop(link, bhs, data);
                Ok(())
            }
        }
    }

    /// NOP-Out wants its data back (RFC 7143 section 11.18).
    fn nop(&self, link: &mut Link, bhs: &Bhs, data: &[u8]) {
        let len = data.len().min(self.params.max_send_data);
        let answer = Bhs::new(opcode::NOP_IN, 0x80)
            .with_u64(8, bhs.lun())
            .with_itt(bhs.itt())
            .with_u32(20, RESERVED_TAG);
        link.send(answer, data.get(..len).unwrap_or_default());
    }

    pub(super) fn ping(&mut self, link: &mut Link) {
        let ttt = self.ttt();
        let ask = Bhs::new(opcode::NOP_IN, 0x80).with_itt(RESERVED_TAG).with_u32(20, ttt);
        let ask = link.peek(ask);
        link.out.pdu(ask, &[]);
    }

    pub(super) fn say_drop(&mut self, link: &mut Link) {
        // Event 2; Parameter1 is the CID, Parameter2 Time2Wait, Parameter3 Time2Retain.
        let message = Bhs::new(opcode::ASYNC, 0x80)
            .with_itt(RESERVED_TAG)
            .with_u8(36, 2)
            .with_u16(38, self.cid)
            .with_u16(40, self.params.time2wait)
            .with_u16(42, 0);
        link.send(message, &[]);
    }

    pub(super) fn ttt(&mut self) -> u32 {
        self.next_ttt = self.next_ttt.wrapping_add(1);
        if self.next_ttt == RESERVED_TAG {
            self.next_ttt = 0;
        }
        self.next_ttt
    }
}

/// Reject (RFC 7143 section 11.17): the header goes back.
pub(super) fn reject(link: &mut Link, bhs: &Bhs, reason: u8) {
    let answer = Bhs::new(opcode::REJECT, 0x80).with_u8(2, reason).with_itt(RESERVED_TAG);
    link.send(answer, &bhs.0);
}

/// RFC 7143 section 11.14 and 11.15.
fn logout(link: &mut Link, bhs: &Bhs) -> Result<(), Closed> {
    let reason = bhs.flags() & 0x7f;
    // 2, removing a connection for recovery, is not offered at level 0.
    let response = if reason > 1 { 2 } else { 0 };
    let answer = Bhs::new(opcode::LOGOUT_RESPONSE, 0x80).with_u8(2, response).with_itt(bhs.itt());
    link.send(be_times(answer), &[]);
    if response == 0 { Err(Closed::LoggedOut) } else { Ok(()) }
}

/// Time2Wait and Time2Retain of a logout: nothing is kept.
fn be_times(mut bhs: Bhs) -> Bhs {
    be::put(&mut bhs.0, 40, &[0; 4]);
    bhs
}

pub(super) const REASON_SNACK: u8 = 0x03;
pub(super) const REASON_PROTOCOL: u8 = 0x04;
pub(super) const REASON_UNSUPPORTED: u8 = 0x05;

/// Commands that wait for one before them, and their data.
const MAX_HELD: usize = 32;
const MAX_HELD_BYTES: usize = 1 << 20;
