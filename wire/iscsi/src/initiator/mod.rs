//! The initiator's side, as much of it as a reader needs: login with CHAP, READ CAPACITY, READ. Without I/O: PDUs
//! in, PDUs out. farrier-agent copies images with it.
//!
//! Order of calls: [`Initiator::login`], then [`Initiator::receive`] with all that arrives until
//! [`Event::LoggedIn`]; from then on [`Initiator::read_capacity`] and [`Initiator::read`] while
//! [`Initiator::may_send`]. One connection, error recovery level 0: after any error the connection is over.

mod login;

use crate::bhs::{BHS_LEN, Bhs, RESERVED_TAG, opcode};
use crate::chap::{ChapError, Credentials};
use crate::frame::{self, FrameError, FrameRules, Step};
use crate::text::TextError;

pub use login::LoginError;

/// Who logs in where.
#[derive(Debug, Clone)]
pub struct Login {
    /// iSCSI name of the initiator.
    pub initiator: String,
    /// iSCSI name of the target.
    pub target: String,
    /// `None`: no authentication is offered.
    pub chap: Option<Credentials>,
    /// Initiator session id of this connection: random (RFC 7143 section 11.12.5, type 10b).
    pub isid: [u8; 3],
}

/// What has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    LoggedIn,
    /// Bytes of the answer to command `tag`, at `offset` in it.
    Data {
        tag: u32,
        offset: u32,
        data: Vec<u8>,
    },
    /// Command `tag` has ended: SCSI status (SAM-5 section 5.3.1; 0 is GOOD) and sense data.
    Ended {
        tag: u32,
        status: u8,
        sense: Vec<u8>,
    },
    /// The target is about to drop the connection.
    Leaving,
}

/// Why the connection is over.
#[derive(Debug, thiserror::Error)]
pub enum InitiatorError {
    #[error("login refused with status {class:#04x}{detail:02x}: {meaning}")]
    Refused { class: u8, detail: u8, meaning: &'static str },
    #[error("login: {0}")]
    Login(#[from] LoginError),
    #[error("login: {0}")]
    Chap(#[from] ChapError),
    #[error("text: {0}")]
    Text(#[from] TextError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the target rejected a PDU, reason {reason:#04x} (RFC 7143 section 11.17.1)")]
    Rejected { reason: u8 },
    #[error("opcode {opcode:#04x}: not expected now")]
    Unexpected { opcode: u8 },
}

/// One connection of an initiator.
#[derive(Debug)]
pub struct Initiator {
    login: Login,
    stage: login::Stage,
    buffer: Vec<u8>,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    next_tag: u32,
}

impl Initiator {
    pub fn new(login: Login) -> Self {
        Self {
            login,
            stage: login::Stage::Start,
            buffer: Vec::new(),
            cmd_sn: 1,
            max_cmd_sn: 1,
            exp_stat_sn: 0,
            next_tag: 1,
        }
    }

    /// The first login request.
    pub fn login(&mut self, out: &mut Vec<u8>) {
        self.start_login(out);
    }

    /// Whether the target's command window has room (RFC 7143 section 4.2.2.1).
    pub fn may_send(&self) -> bool {
        self.stage == login::Stage::FullFeature && sequence_le(self.cmd_sn, self.max_cmd_sn)
    }

    /// READ CAPACITY(16) (SBC-3 section 5.16): [`Capacity::parse`] reads the answer.
    pub fn read_capacity(&mut self, lun: u16, out: &mut Vec<u8>) -> u32 {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, Capacity::LEN);
        self.command(lun, cdb, u32::from(Capacity::LEN), out)
    }

    /// READ(16) (SBC-3 section 5.15). Returns the command's tag.
    pub fn read(&mut self, lun: u16, block: u64, blocks: u32, block_bytes: u32, out: &mut Vec<u8>) -> u32 {
        let mut cdb = [0; 16];
        cdb[0] = 0x88;
        crate::be::put(&mut cdb, 2, &block.to_be_bytes());
        crate::be::put(&mut cdb, 10, &blocks.to_be_bytes());
        self.command(lun, cdb, blocks.saturating_mul(block_bytes), out)
    }

    /// A SCSI command that reads `len` bytes (RFC 7143 section 11.3).
    fn command(&mut self, lun: u16, cdb: [u8; 16], len: u32, out: &mut Vec<u8>) -> u32 {
        let tag = self.next_tag;
        // The reserved tag is never one of ours.
        self.next_tag = if tag == RESERVED_TAG - 1 { 1 } else { tag + 1 };
        // F and R; a simple task attribute.
        let mut bhs = Bhs::new(opcode::SCSI_COMMAND, 0x80 | 0x40 | 0x01)
            .with_u64(8, u64::from(lun) << 48)
            .with_itt(tag)
            .with_u32(20, len)
            .with_u32(24, self.cmd_sn)
            .with_u32(28, self.exp_stat_sn);
        crate::be::put(&mut bhs.0, 32, &cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        out.extend_from_slice(&bhs.0);
        tag
    }

    /// Takes in what has arrived, answers what needs an answer, and tells what it meant.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Vec<Event>, InitiatorError> {
        const RULES: FrameRules =
            FrameRules { header_digest: false, data_digest: false, max_data: MAX_RECV_DATA };
        self.buffer.extend_from_slice(bytes);
        let mut buffer = std::mem::take(&mut self.buffer);
        let (mut at, mut events) = (0, Vec::new());
        while let Step::Frame(frame) = frame::next(buffer.get(at..).unwrap_or_default(), &RULES)? {
            let data = buffer.get(at + frame.data.start..at + frame.data.end).unwrap_or_default();
            self.pdu(&frame.bhs, data, out, &mut events)?;
            at += frame.len;
        }
        buffer.drain(..at);
        self.buffer = buffer;
        Ok(events)
    }

    fn pdu(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), InitiatorError> {
        if self.stage != login::Stage::FullFeature {
            if bhs.opcode() != opcode::LOGIN_RESPONSE {
                return Err(InitiatorError::Unexpected { opcode: bhs.opcode() });
            }
            if self.login_response(bhs, data, out)? {
                events.push(Event::LoggedIn);
            }
            return Ok(());
        }
        match bhs.opcode() {
            opcode::DATA_IN => {
                self.window(bhs);
                let tag = bhs.itt();
                events.push(Event::Data { tag, offset: bhs.buffer_offset(), data: data.to_vec() });
                // S: the status comes with the last data (RFC 7143 section 11.7.3).
                if bhs.flags() & 0x01 != 0 {
                    self.stat_sn(bhs);
                    events.push(Event::Ended { tag, status: bhs.0[3], sense: Vec::new() });
                }
            }
            opcode::SCSI_RESPONSE => {
                self.window(bhs);
                self.stat_sn(bhs);
                // Response code other than "completed at target": the command failed in the target itself.
                let status = if bhs.0[2] == 0 { bhs.0[3] } else { 0xff };
                // The sense data has its length in front of it (section 11.4.7.2).
                let sense = data.get(2..).unwrap_or_default().to_vec();
                events.push(Event::Ended { tag: bhs.itt(), status, sense });
            }
            opcode::NOP_IN => {
                self.window(bhs);
                if bhs.ttt() != RESERVED_TAG {
                    self.answer_ping(bhs, out);
                }
            }
            opcode::ASYNC => {
                self.window(bhs);
                self.stat_sn(bhs);
                // 1: log out, please; 2 and 3: this connection, all connections are dropped (section 11.9.1).
                if matches!(bhs.0[36], 1..=3) {
                    events.push(Event::Leaving);
                }
            }
            opcode::REJECT => return Err(InitiatorError::Rejected { reason: bhs.0[2] }),
            opcode => return Err(InitiatorError::Unexpected { opcode }),
        }
        Ok(())
    }

    /// NOP-Out to a NOP-In that asks (RFC 7143 section 11.18): immediate, the target's tag given back.
    fn answer_ping(&mut self, bhs: &Bhs, out: &mut Vec<u8>) {
        let answer = Bhs::new(opcode::NOP_OUT | 0x40, 0x80)
            .with_u64(8, bhs.lun())
            .with_itt(RESERVED_TAG)
            .with_u32(20, bhs.ttt())
            .with_u32(24, self.cmd_sn)
            .with_u32(28, self.exp_stat_sn);
        out.extend_from_slice(&answer.0);
    }

    fn window(&mut self, bhs: &Bhs) {
        let max = crate::be::u32(&bhs.0, 32);
        if sequence_le(self.max_cmd_sn, max) {
            self.max_cmd_sn = max;
        }
    }

    fn stat_sn(&mut self, bhs: &Bhs) {
        self.exp_stat_sn = crate::be::u32(&bhs.0, 24).wrapping_add(1);
    }
}

/// What READ CAPACITY(16) says (SBC-3 section 5.16.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub blocks: u64,
    pub block_bytes: u32,
}

impl Capacity {
    const LEN: u8 = 32;

    /// `None`: too short, or no sane block size.
    pub fn parse(data: &[u8]) -> Option<Self> {
        if data.len() < 12 {
            return None;
        }
        let (last, block_bytes) = (crate::be::u64(data, 0), crate::be::u32(data, 8));
        let sane = block_bytes.is_power_of_two() && (512..=65_536).contains(&block_bytes);
        sane.then(|| Self { blocks: last.saturating_add(1), block_bytes })
    }
}

/// Serial number arithmetic (RFC 1982, RFC 7143 section 4.2.2.1).
fn sequence_le(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

/// MaxRecvDataSegmentLength we declare.
const MAX_RECV_DATA: usize = 256 * 1024;
const _: () = assert!(BHS_LEN == 48);

#[cfg(test)]
mod tests;
