//! A direct-access block device (SPC-4, SBC-3) as data and decisions: what a CDB means, whether it may run,
//! and what is answered. The medium itself is somebody else's: [`Plan::Media`] says what to do with it.

mod blocks;
mod copy;
mod inquiry;
mod mode;
mod opcodes;
mod persistent;
mod report;
mod reservation;
pub mod sense;
mod start;
mod unit;

pub use opcodes::{Access, Command, Opcode, TABLE as OPCODES};
pub use persistent::Reservations;
pub use report::{address as lun_address, lun_of};
pub use sense::{Refusal, Sense, Specific, status};
pub use unit::{Geometry, Identity, TaskAge, Unit};

pub(crate) use inquiry::absent as absent_unit;
pub(crate) use report::luns as report_luns;

/// An I_T nexus: one initiator port and one target port (SAM-5 section 4.6). At one connection a session,
/// also a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nexus {
    /// Unique in the process.
    pub id: u64,
    pub port: InitiatorPort,
}

/// What persistent reservations know an I_T nexus by: it survives the session (RFC 7143 section 4.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitiatorPort {
    pub name: String,
    pub isid: [u8; 6],
    /// Relative target port identifier, from 1.
    pub target_port: u16,
}

/// What comes of a command that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    Good,
    /// Data for the initiator, cut to the allocation length already.
    Data(Vec<u8>),
    /// A parameter list of this many bytes, then [`Unit::parameters`].
    Parameters(usize),
    Media(MediaOp),
}

/// Work on the medium. Offsets and lengths are in bytes, inside the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaOp {
    Read {
        offset: u64,
        len: usize,
    },
    /// `durable`: FUA, or the write cache is off.
    Write {
        offset: u64,
        len: usize,
        durable: bool,
    },
    WriteAndVerify {
        offset: u64,
        len: usize,
    },
    Verify {
        offset: u64,
        len: u64,
        compare: Compare,
        block: u32,
    },
    /// Twice `len` bytes arrive: what must be there, and what replaces it.
    CompareAndWrite {
        offset: u64,
        len: usize,
        durable: bool,
    },
    OrWrite {
        offset: u64,
        len: usize,
        durable: bool,
    },
    /// One block (none with `zeros`) over and over. `unmap`: give the space back if the block is zeros.
    WriteSame {
        offset: u64,
        len: u64,
        block: u32,
        unmap: bool,
        zeros: bool,
    },
    Unmap {
        ranges: Vec<(u64, u64)>,
    },
    Flush,
    Prefetch {
        offset: u64,
        len: u64,
    },
    /// Which parts from `offset` on are allocated: at most `max` extents.
    Extents {
        offset: u64,
        max: usize,
        block: u32,
    },
    /// `by` and `list` are whose copy it is.
    Copy {
        segments: Vec<CopySegment>,
        by: u64,
        list: u8,
    },
    Sanitize {
        pattern: Option<Vec<u8>>,
    },
    /// Wait until what is under way is over, whoever asked for it.
    Settle,
}

/// What VERIFY compares with (SBC-3 section 5.31, BYTCHK).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Nothing,
    Data,
    /// One block, with every block.
    OneBlock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopySegment {
    pub from: u64,
    pub to: u64,
    pub len: u64,
}

impl MediaOp {
    /// Whether it has no meaning with more or less data than it asks for.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, MediaOp::CompareAndWrite { .. } | MediaOp::WriteSame { .. })
    }

    /// Data the initiator sends for it, in bytes.
    pub fn data_out(&self) -> usize {
        match self {
            MediaOp::Write { len, .. }
            | MediaOp::WriteAndVerify { len, .. }
            | MediaOp::OrWrite { len, .. } => *len,
            MediaOp::CompareAndWrite { len, .. } => len.saturating_mul(2),
            MediaOp::Verify { len, compare: Compare::Data, .. } => {
                usize::try_from(*len).unwrap_or(usize::MAX)
            }
            MediaOp::Verify { compare: Compare::OneBlock, block, .. } => *block as usize,
            MediaOp::WriteSame { zeros: false, block, .. } => *block as usize,
            _ => 0,
        }
    }
}

/// What the medium did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaReply {
    Done,
    /// Of a read.
    Data(Vec<u8>),
    Extents(Vec<Extent>),
}

/// A part of the medium, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub len: u64,
    pub allocated: bool,
}

/// What went wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    #[error("the medium could not be read")]
    Read,
    #[error("the medium could not be written")]
    Write,
    #[error("no space is left for the medium")]
    NoSpace,
    #[error("other data than expected, from byte {at} of the compared on")]
    Miscompare { at: u64 },
    #[error("outside the medium")]
    OutOfRange,
    /// It comes from far and has not come yet: no error, and no sense data.
    #[error("not there yet")]
    Busy,
}

impl MediaError {
    pub fn refusal(self) -> Refusal {
        let sense = match self {
            MediaError::Read => sense::READ_ERROR,
            MediaError::Write => sense::WRITE_ERROR,
            MediaError::NoSpace => sense::SPACE_ALLOCATION_FAILED,
            MediaError::Miscompare { at } => sense::MISCOMPARE.at(at),
            MediaError::OutOfRange => sense::LBA_OUT_OF_RANGE,
            MediaError::Busy => return Refusal::Busy,
        };
        sense.into()
    }
}
