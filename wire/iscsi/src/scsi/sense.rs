//! Sense data (SPC-4 section 4.5): the reason of every refusal.

/// Status of a command (SAM-5 section 5.3.1).
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
}

/// A status that is not GOOD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Check(Sense),
    ReservationConflict,
    TaskSetFull,
    /// Come again: nothing is wrong (SAM-5 section 5.3.1).
    Busy,
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Refusal {
        Refusal::Check(sense)
    }
}

/// Sense key, additional sense code and qualifier, and what goes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    pub key: u8,
    pub asc: u8,
    pub ascq: u8,
    /// INFORMATION field.
    pub information: Option<u64>,
    pub specific: Specific,
}

/// The sense-key specific bytes (SPC-4 section 4.5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specific {
    None,
    /// Where the illegal field is: in the CDB or the parameter list, byte and bit.
    Field {
        cdb: bool,
        byte: u16,
        bit: Option<u8>,
    },
    /// Progress in 65536ths.
    Progress(u16),
}

impl Sense {
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Sense {
        Sense { key, asc, ascq, information: None, specific: Specific::None }
    }

    /// INVALID FIELD IN CDB.
    pub fn cdb_field(byte: usize, bit: Option<u8>) -> Sense {
        let byte = u16::try_from(byte).unwrap_or(0);
        Sense { specific: Specific::Field { cdb: true, byte, bit }, ..INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN PARAMETER LIST.
    pub fn list_field(byte: usize) -> Sense {
        let byte = u16::try_from(byte).unwrap_or(0);
        Sense { specific: Specific::Field { cdb: false, byte, bit: None }, ..INVALID_FIELD_IN_LIST }
    }

    pub fn at(self, information: u64) -> Sense {
        Sense { information: Some(information), ..self }
    }

    /// Fixed format (SPC-4 section 4.5.3) or descriptor format (section 4.5.2).
    pub fn emit(&self, descriptor: bool) -> Vec<u8> {
        if descriptor { self.descriptor() } else { self.fixed() }
    }

    fn fixed(&self) -> Vec<u8> {
        let mut bytes = vec![0x70, 0, self.key, 0, 0, 0, 0, 10, 0, 0, 0, 0, self.asc, self.ascq, 0, 0, 0, 0];
        // VALID says that INFORMATION means something; what does not fit four bytes is not told.
        if let Some(Ok(information)) = self.information.map(u32::try_from) {
            crate::be::put(&mut bytes, 0, &[0xf0]);
            crate::be::put(&mut bytes, 3, &information.to_be_bytes());
        }
        if let Some(specific) = self.specific.bytes() {
            crate::be::put(&mut bytes, 15, &specific);
        }
        bytes
    }

    fn descriptor(&self) -> Vec<u8> {
        let mut bytes = vec![0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0, 10, 0x80, 0]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some([a, b, c]) = self.specific.bytes() {
            bytes.extend_from_slice(&[2, 6, 0, 0, a, b, c, 0]);
        }
        let additional = u8::try_from(bytes.len().saturating_sub(8)).unwrap_or(0);
        crate::be::put(&mut bytes, 7, &[additional]);
        bytes
    }
}

impl Specific {
    fn bytes(self) -> Option<[u8; 3]> {
        match self {
            Specific::None => None,
            Specific::Field { cdb, byte, bit } => {
                let [high, low] = byte.to_be_bytes();
                let place = if cdb { 0x40 } else { 0 };
                let bit = bit.map_or(0, |bit| 0x08 | (bit & 7));
                Some([0x80 | place | bit, high, low])
            }
            Specific::Progress(progress) => {
                let [high, low] = progress.to_be_bytes();
                Some([0x80, high, low])
            }
        }
    }
}

/// Sense keys (SPC-4 table 27).
pub mod key {
    pub const NO_SENSE: u8 = 0x0;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const COPY_ABORTED: u8 = 0xa;
    pub const ABORTED_COMMAND: u8 = 0xb;
    pub const MISCOMPARE: u8 = 0xe;
}

pub const NO_SENSE: Sense = Sense::new(key::NO_SENSE, 0, 0);
pub const INVALID_OPCODE: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x20, 0x00);
pub const LBA_OUT_OF_RANGE: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x21, 0x00);
pub const INVALID_FIELD_IN_CDB: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x24, 0x00);
pub const LUN_NOT_SUPPORTED: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x25, 0x00);
pub const INVALID_FIELD_IN_LIST: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x00);
pub const INVALID_RELEASE: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x04);
pub const TOO_MANY_TARGETS: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x06);
pub const UNSUPPORTED_TARGET_DESCRIPTOR: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x07);
pub const TOO_MANY_SEGMENTS: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x08);
pub const UNSUPPORTED_SEGMENT_DESCRIPTOR: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x09);
pub const PARAMETER_LIST_LENGTH: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x1a, 0x00);
pub const INSUFFICIENT_REGISTRATION: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x55, 0x04);
pub const REMOVAL_PREVENTED: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x53, 0x02);
pub const COPY_TARGET_UNREACHABLE: Sense = Sense::new(key::COPY_ABORTED, 0x0d, 0x02);
/// A copy that leaves the medium: the reason is the segment's, not the command's.
pub const COPY_BEYOND_END: Sense = Sense::new(key::COPY_ABORTED, 0x00, 0x00);
pub const WRITE_PROTECTED: Sense = Sense::new(key::DATA_PROTECT, 0x27, 0x00);
pub const SOFTWARE_WRITE_PROTECTED: Sense = Sense::new(key::DATA_PROTECT, 0x27, 0x02);
pub const SPACE_ALLOCATION_FAILED: Sense = Sense::new(key::DATA_PROTECT, 0x27, 0x07);
pub const NO_MEDIUM: Sense = Sense::new(key::NOT_READY, 0x3a, 0x02);
pub const SANITIZE_IN_PROGRESS: Sense = Sense::new(key::NOT_READY, 0x04, 0x1b);
pub const SANITIZE_FAILED: Sense = Sense::new(key::MEDIUM_ERROR, 0x31, 0x03);
pub const READ_ERROR: Sense = Sense::new(key::MEDIUM_ERROR, 0x11, 0x00);
pub const WRITE_ERROR: Sense = Sense::new(key::MEDIUM_ERROR, 0x0c, 0x00);
pub const INTERNAL_FAILURE: Sense = Sense::new(key::HARDWARE_ERROR, 0x44, 0x00);
pub const MISCOMPARE: Sense = Sense::new(key::MISCOMPARE, 0x1d, 0x00);
pub const DATA_PHASE_ERROR: Sense = Sense::new(key::ABORTED_COMMAND, 0x4b, 0x00);
/// RFC 7143 section 11.4.7.2: what iSCSI itself found wrong.
pub const UNEXPECTED_UNSOLICITED_DATA: Sense = Sense::new(key::ABORTED_COMMAND, 0x0c, 0x0c);
pub const INCORRECT_AMOUNT_OF_DATA: Sense = Sense::new(key::ABORTED_COMMAND, 0x0c, 0x0d);

/// Unit attentions: additional sense code and qualifier.
pub mod attention {
    pub const POWER_ON: (u8, u8) = (0x29, 0x00);
    pub const BUS_DEVICE_RESET: (u8, u8) = (0x29, 0x03);
    pub const NEXUS_LOSS: (u8, u8) = (0x29, 0x07);
    pub const MODE_PARAMETERS_CHANGED: (u8, u8) = (0x2a, 0x01);
    pub const RESERVATIONS_PREEMPTED: (u8, u8) = (0x2a, 0x03);
    pub const RESERVATIONS_RELEASED: (u8, u8) = (0x2a, 0x04);
    pub const REGISTRATIONS_PREEMPTED: (u8, u8) = (0x2a, 0x05);
    pub const CAPACITY_CHANGED: (u8, u8) = (0x2a, 0x09);
    pub const MEDIUM_MAY_HAVE_CHANGED: (u8, u8) = (0x28, 0x00);
    pub const LUNS_CHANGED: (u8, u8) = (0x3f, 0x0e);
}
