//! The basic header segment (RFC 7143 section 11.2.1): 48 bytes at the start of every PDU.
//!
//! ```text
//! 0  |I| opcode | F and flags   | opcode-specific               |
//! 4  | TotalAHSLen (4-byte words)| DataSegmentLength (24 bits)  |
//! 8  | LUN or opcode-specific (8 bytes)                         |
//! 16 | Initiator Task Tag                                       |
//! 20 | opcode-specific (28 bytes)                               |
//! ```

use crate::be;

/// Length of the basic header segment in bytes.
pub const BHS_LEN: usize = 48;

/// The tag that stands for "none" (RFC 7143 section 11.2.1.8 and 11.7.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// Opcodes of both directions (RFC 7143 section 11.2.1.2).
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// A header, as it is on the wire. Field names are the RFC's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bhs(pub [u8; BHS_LEN]);

impl Bhs {
    /// A header of the target: `flags` is byte 1.
    pub fn new(opcode: u8, flags: u8) -> Bhs {
        let mut bytes = [0; BHS_LEN];
        bytes[0] = opcode;
        bytes[1] = flags;
        Bhs(bytes)
    }

    /// The I bit: deliver at once, out of the command order.
    pub fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    /// The F bit (in login requests and responses: T).
    pub fn is_final(&self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// Bytes of additional header segments.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Bytes of the data segment, without padding.
    pub fn data_len(&self) -> usize {
        be::u24(&self.0, 5) as usize
    }

    pub fn lun(&self) -> u64 {
        be::u64(&self.0, 8)
    }

    pub fn itt(&self) -> u32 {
        be::u32(&self.0, 16)
    }

    /// Target transfer tag of Data-Out, NOP-Out and Text; the tag referred to in a task management request.
    pub fn ttt(&self) -> u32 {
        be::u32(&self.0, 20)
    }

    pub fn expected_data_len(&self) -> u32 {
        be::u32(&self.0, 20)
    }

    pub fn cmd_sn(&self) -> u32 {
        be::u32(&self.0, 24)
    }

    pub fn exp_stat_sn(&self) -> u32 {
        be::u32(&self.0, 28)
    }

    pub fn cdb(&self) -> [u8; 16] {
        be::array(&self.0, 32)
    }

    pub fn data_sn(&self) -> u32 {
        be::u32(&self.0, 36)
    }

    pub fn buffer_offset(&self) -> u32 {
        be::u32(&self.0, 40)
    }

    pub fn with_u8(mut self, at: usize, value: u8) -> Bhs {
        be::put(&mut self.0, at, &[value]);
        self
    }

    pub fn with_u16(mut self, at: usize, value: u16) -> Bhs {
        be::put(&mut self.0, at, &value.to_be_bytes());
        self
    }

    pub fn with_u32(mut self, at: usize, value: u32) -> Bhs {
        be::put(&mut self.0, at, &value.to_be_bytes());
        self
    }

    pub fn with_u64(mut self, at: usize, value: u64) -> Bhs {
        be::put(&mut self.0, at, &value.to_be_bytes());
        self
    }

    pub fn with_itt(self, itt: u32) -> Bhs {
        self.with_u32(16, itt)
    }

    pub(crate) fn set_data_len(&mut self, len: usize) {
        let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        be::put(&mut self.0, 5, &[a, b, c]);
    }
}
