//! The System Event Log of a simulated BMC (IPMI 2.0 section 31): what its power button did, and what a test puts in.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use farrier_ipmi::command::sel::{FIRST, LAST, RECORD_BYTES};
use farrier_ipmi::completion;

use super::PowerAction;

/// Small BMCs have room for so many.
const CAPACITY: usize = 512;
/// Clear SEL says so (Table 31-9).
const ERASED: u8 = 0x01;
const INITIATE: u8 = 0xAA;
/// Reserve SEL is supported; there was no overflow.
const CAN_RESERVE: u8 = 0x02;
const OVERFLOW: u8 = 0x80;
/// Power Unit (Table 42-3) and its offsets; System Event, timestamp clock and boot are not kept.
const POWER_UNIT: u8 = 0x09;
const POWER_OFF: u8 = 0x00;
const POWER_CYCLE: u8 = 0x01;
/// Critical Interrupt, and its offset: Front Panel NMI / Diagnostic Interrupt.
const CRITICAL_INTERRUPT: u8 = 0x13;
const FRONT_PANEL_NMI: u8 = 0x00;
const SENSOR_SPECIFIC: u8 = 0x6F;
const DEASSERTED: u8 = 0x80;

type Answer = (u8, Vec<u8>);

/// Records, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sel {
    records: VecDeque<[u8; RECORD_BYTES]>,
    newest: u16,
    reservation: u16,
    overflow: bool,
    added: u32,
    erased: u32,
}

impl Sel {
    /// Adds a record; its id is the log's to give. A full log loses its oldest.
    pub(super) fn add(&mut self, mut record: [u8; RECORD_BYTES]) {
        // 0 and FFFFh are no ids.
        self.newest = if self.newest >= LAST - 1 { 1 } else { self.newest + 1 };
        let [low, high] = self.newest.to_le_bytes();
        [record[0], record[1]] = [low, high];
        if self.records.len() == CAPACITY {
            self.records.pop_front();
            self.overflow = true;
        }
        self.records.push_back(record);
        self.added = now();
        // What was reserved has changed (section 31.4).
        self.reservation = self.reservation.wrapping_add(1);
    }

    /// The button was pressed, and it did something.
    pub(super) fn pressed(&mut self, action: PowerAction) {
        let (kind, offset, direction) = match action {
            PowerAction::Off | PowerAction::Soft => (POWER_UNIT, POWER_OFF, 0),
            PowerAction::On => (POWER_UNIT, POWER_OFF, DEASSERTED),
            PowerAction::Cycle | PowerAction::Reset => (POWER_UNIT, POWER_CYCLE, 0),
            PowerAction::Interrupt => (CRITICAL_INTERRUPT, FRONT_PANEL_NMI, 0),
        };
        let [a, b, c, d] = now().to_le_bytes();
        let event = SENSOR_SPECIFIC | direction;
        self.add([0, 0, 0x02, a, b, c, d, 0x20, 0, 0x04, kind, 0x01, event, offset, 0xFF, 0xFF]);
    }

    /// One of the log's commands; `None`: it is none.
    pub(super) fn execute(&mut self, cmd: u8, data: &[u8]) -> Option<Answer> {
        Some(match cmd {
            0x40 => (completion::OK, self.info()),
            0x42 => {
                self.reservation = self.reservation.checked_add(1).unwrap_or(1).max(1);
                (completion::OK, self.reservation.to_le_bytes().to_vec())
            }
            0x43 => self.entry(data),
            0x47 => self.clear(data),
            _ => return None,
        })
    }

    fn info(&self) -> Vec<u8> {
        let entries = u16::try_from(self.records.len()).unwrap_or(u16::MAX);
        let free = u16::try_from((CAPACITY - self.records.len()) * RECORD_BYTES).unwrap_or(u16::MAX);
        let mut answer = vec![0x51];
        answer.extend(entries.to_le_bytes());
        answer.extend(free.to_le_bytes());
        answer.extend(self.added.to_le_bytes());
        answer.extend(self.erased.to_le_bytes());
        answer.push(CAN_RESERVE | if self.overflow { OVERFLOW } else { 0 });
        answer
    }

    fn entry(&self, data: &[u8]) -> Answer {
        let [_, _, low, high, offset, count] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
        let id = |record: &[u8; RECORD_BYTES]| u16::from_le_bytes([record[0], record[1]]);
        let place = match u16::from_le_bytes([*low, *high]) {
            FIRST => 0,
            LAST => self.records.len().saturating_sub(1),
            wanted => match self.records.iter().position(|record| id(record) == wanted) {
                Some(place) => place,
                None => return (completion::NOT_PRESENT, Vec::new()),
            },
        };
        let Some(record) = self.records.get(place) else { return (completion::NOT_PRESENT, Vec::new()) };
        let next = self.records.get(place + 1).map_or(LAST, id);
        let count = if *count == 0xFF { RECORD_BYTES } else { usize::from(*count) };
        let Some(part) =
            record.get(usize::from(*offset)..).and_then(|rest| rest.get(..count.min(rest.len())))
        else {
            return (completion::OUT_OF_RANGE, Vec::new());
        };
        (completion::OK, [&next.to_le_bytes()[..], part].concat())
    }

    fn clear(&mut self, data: &[u8]) -> Answer {
        let [low, high, b'C', b'L', b'R', action] = data else {
            return (completion::INVALID_FIELD, Vec::new());
        };
        if u16::from_le_bytes([*low, *high]) != self.reservation {
            return (completion::RESERVATION_INVALID, Vec::new());
        }
        if *action == INITIATE {
            self.records.clear();
            self.overflow = false;
            self.erased = now();
        }
        (completion::OK, vec![ERASED])
    }
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
