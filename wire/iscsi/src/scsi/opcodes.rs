//! Every command there is, as data: which CDB bits it takes, what reservations let through, and when.
//!
//! One table drives the check of each CDB, REPORT SUPPORTED OPERATION CODES (SPC-4 section 6.35) and the
//! reservation rules (SPC-4 tables 66 and 67, SBC-3 table 16).

use super::sense::{INVALID_OPCODE, Sense};

/// What a command does, whatever the length of its CDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    TestUnitReady,
    RequestSense,
    Inquiry,
    ModeSelect,
    ModeSense,
    Reserve,
    Release,
    StartStopUnit,
    PreventAllow,
    ReadCapacity10,
    ReadCapacity16,
    Read,
    Write,
    WriteAndVerify,
    Verify,
    Prefetch,
    SynchronizeCache,
    ReadDefectData,
    WriteSame,
    Unmap,
    CompareAndWrite,
    OrWrite,
    GetLbaStatus,
    ReportLuns,
    ReportTargetPortGroups,
    ReportSupportedOpcodes,
    ReportTaskManagement,
    PersistentReserveIn,
    PersistentReserveOut,
    Sanitize,
    ExtendedCopy,
    ReceiveCopyResults,
}

/// What another initiator's reservation does to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Allowed always, RESERVE(6) of another included.
    Always,
    /// Allowed by persistent reservations, but not during RESERVE(6) of another.
    Persistent,
    /// Reads the medium or its state: refused by Exclusive Access.
    Read,
    /// Changes it: refused by Write Exclusive too.
    Write,
    /// Decided by the command itself (PERSISTENT RESERVE, RESERVE, RELEASE, PREVENT ALLOW).
    Own,
}

/// A row of the table.
#[derive(Debug)]
pub struct Opcode {
    pub code: u8,
    pub action: Option<u16>,
    pub command: Command,
    pub access: Access,
    /// Whether it works while the medium is out, stopped or being sanitized.
    pub without_medium: bool,
    /// Which bits of the CDB mean something (SPC-4 section 6.35.3, CDB USAGE DATA); byte 0 is the opcode.
    pub usage: &'static [u8],
}

impl Opcode {
    /// The row of a CDB. An unknown service action is a wrong field, an unknown opcode a wrong command.
    pub fn find(cdb: &[u8; 16]) -> Result<&'static Opcode, Sense> {
        let mut known = false;
        for row in TABLE.iter().filter(|row| row.code == cdb[0]) {
            known = true;
            if row.action.is_none_or(|action| action == u16::from(cdb[1] & 0x1f)) {
                return Ok(row);
            }
        }
        Err(if known { Sense::cdb_field(1, Some(4)) } else { INVALID_OPCODE })
    }

    /// Refuses every bit that means nothing here, naming it.
    pub fn check(&self, cdb: &[u8; 16]) -> Result<(), Sense> {
        let action = if self.action.is_some() { 0x1f } else { 0 };
        for (at, (byte, usage)) in cdb.iter().zip(self.usage).enumerate().skip(1) {
            let usage = if at == 1 { usage | action } else { *usage };
            let stray = byte & !usage;
            if stray != 0 {
                let bit = 7u32.saturating_sub(stray.leading_zeros());
                return Err(Sense::cdb_field(at, u8::try_from(bit).ok()));
            }
        }
        Ok(())
    }
}

use Access::{Always, Own, Persistent, Read as Reading, Write as Writing};
use Command::{
    CompareAndWrite, ExtendedCopy, GetLbaStatus, Inquiry, ModeSelect, ModeSense, OrWrite,
    PersistentReserveIn, PersistentReserveOut, Prefetch, PreventAllow, Read, ReadCapacity10, ReadCapacity16,
    ReadDefectData, ReceiveCopyResults, Release, ReportLuns, ReportSupportedOpcodes, ReportTargetPortGroups,
    ReportTaskManagement, RequestSense, Reserve, Sanitize, StartStopUnit, SynchronizeCache, TestUnitReady,
    Unmap, Verify, Write, WriteAndVerify, WriteSame,
};

const fn row(
    code: u8,
    action: Option<u16>,
    command: Command,
    access: Access,
    without_medium: bool,
    usage: &'static [u8],
) -> Opcode {
    Opcode { code, action, command, access, without_medium, usage }
}

/// In the order of opcode and service action. DPO and FUA are 0x10 and 0x08 of byte 1. GROUP NUMBER is taken
/// and means nothing; protection and NACA are not supported, so their bits are clear.
#[rustfmt::skip]
pub static TABLE: &[Opcode] = &[
    row(0x00, None, TestUnitReady, Persistent, false, &[0x00, 0, 0, 0, 0, 0]),
    row(0x03, None, RequestSense, Always, true, &[0x03, 0x01, 0, 0, 0xff, 0]),
    row(0x08, None, Read, Reading, false, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0]),
    row(0x0a, None, Write, Writing, false, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0]),
    row(0x12, None, Inquiry, Always, true, &[0x12, 0x01, 0xff, 0xff, 0xff, 0]),
    row(0x15, None, ModeSelect, Writing, true, &[0x15, 0x11, 0, 0, 0xff, 0]),
    row(0x16, None, Reserve, Own, true, &[0x16, 0, 0, 0, 0, 0]),
    row(0x17, None, Release, Own, true, &[0x17, 0, 0, 0, 0, 0]),
    row(0x1a, None, ModeSense, Reading, true, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0]),
    row(0x1b, None, StartStopUnit, Writing, true, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0]),
    row(0x1e, None, PreventAllow, Own, true, &[0x1e, 0, 0, 0, 0x03, 0]),
    row(0x25, None, ReadCapacity10, Persistent, false, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    row(0x28, None, Read, Reading, false, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x2a, None, Write, Writing, false, &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x2e, None, WriteAndVerify, Writing, false, &[0x2e, 0x12, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x2f, None, Verify, Reading, false, &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x34, None, Prefetch, Reading, false, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x35, None, SynchronizeCache, Writing, false, &[0x35, 0x06, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x37, None, ReadDefectData, Reading, false, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x41, None, WriteSame, Writing, false, &[0x41, 0x08, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    row(0x42, None, Unmap, Writing, false, &[0x42, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0]),
    row(0x48, Some(0x01), Sanitize, Writing, false, &[0x48, 0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x48, Some(0x02), Sanitize, Writing, false, &[0x48, 0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x48, Some(0x1f), Sanitize, Writing, false, &[0x48, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x55, None, ModeSelect, Writing, true, &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x5a, None, ModeSense, Reading, true, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x5e, Some(0x00), PersistentReserveIn, Own, true, &[0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x5e, Some(0x01), PersistentReserveIn, Own, true, &[0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x5e, Some(0x02), PersistentReserveIn, Own, true, &[0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x5e, Some(0x03), PersistentReserveIn, Own, true, &[0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    row(0x5f, Some(0x00), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x5f, Some(0x01), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x5f, Some(0x02), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x5f, Some(0x03), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x5f, Some(0x04), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x5f, Some(0x05), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x5f, Some(0x06), PersistentReserveOut, Own, true, &[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    row(0x83, Some(0x00), ExtendedCopy, Writing, false, &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0x84, Some(0x00), ReceiveCopyResults, Persistent, true, &[0x84, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0x84, Some(0x03), ReceiveCopyResults, Persistent, true, &[0x84, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0x88, None, Read, Reading, false, &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x89, None, CompareAndWrite, Writing, false, &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0]),
    row(0x8a, None, Write, Writing, false, &[0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x8b, None, OrWrite, Writing, false, &[0x8b, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x8e, None, WriteAndVerify, Writing, false, &[0x8e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x8f, None, Verify, Reading, false, &[0x8f, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x90, None, Prefetch, Reading, false, &[0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x91, None, SynchronizeCache, Writing, false, &[0x91, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x93, None, WriteSame, Writing, false, &[0x93, 0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0x9e, Some(0x10), ReadCapacity16, Persistent, false, &[0x9e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0x9e, Some(0x12), GetLbaStatus, Reading, false, &[0x9e, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0xa0, None, ReportLuns, Always, true, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0xa3, Some(0x0a), ReportTargetPortGroups, Persistent, true, &[0xa3, 0xe0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0xa3, Some(0x0c), ReportSupportedOpcodes, Persistent, true, &[0xa3, 0, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0xa3, Some(0x0d), ReportTaskManagement, Persistent, true, &[0xa3, 0, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    row(0xa8, None, Read, Reading, false, &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0xaa, None, Write, Writing, false, &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0xae, None, WriteAndVerify, Writing, false, &[0xae, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0xaf, None, Verify, Reading, false, &[0xaf, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]),
    row(0xb7, None, ReadDefectData, Reading, false, &[0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
];
