//! The System Event Log of a simulated BMC (IPMI 2.0 section 31): what became of its machine's power, and what somebody puts
//! in. Redfish of the same BMC tells the same records (`redfish::log`), and changes of the power as they happen
//! (`redfish::events`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use farrier_ipmi::command::sel::{FIRST, LAST, RECORD_BYTES};
use farrier_ipmi::completion;

use super::bell::Bell;
use super::{PowerAction, PowerState};

/// Small BMCs have room for so many.
pub(super) const CAPACITY: usize = 512;
/// Clear SEL says so (Table 31-9).
const ERASING: u8 = 0x00;
const ERASED: u8 = 0x01;
const INITIATE: u8 = 0xAA;
/// Delete SEL Entry is supported, and Reserve SEL (Table 31-2).
const CAN_DELETE: u8 = 0x08;
const CAN_RESERVE: u8 = 0x02;
const OVERFLOW: u8 = 0x80;
/// Delete SEL Entry and Clear SEL take no reservation of this number where none was made.
const NO_RESERVATION: u16 = 0;
/// Power Unit (Table 42-3) and its offsets; System Event, timestamp clock and boot are not kept.
pub(super) const POWER_UNIT: u8 = 0x09;
pub(super) const POWER_OFF: u8 = 0x00;
pub(super) const POWER_CYCLE: u8 = 0x01;
/// Critical Interrupt, and its offset: Front Panel NMI / Diagnostic Interrupt.
pub(super) const CRITICAL_INTERRUPT: u8 = 0x13;
pub(super) const FRONT_PANEL_NMI: u8 = 0x00;
pub(super) const SENSOR_SPECIFIC: u8 = 0x6F;
pub(super) const DEASSERTED: u8 = 0x80;

type Answer = (u8, Vec<u8>);

/// The log of one BMC, whatever it speaks. Cheap to clone; clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct EventLog(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    sel: Mutex<Sel>,
    bell: Bell,
}

impl EventLog {
    /// Never held across an await.
    pub(super) fn sel(&self) -> MutexGuard<'_, Sel> {
        self.0.sel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.0.bell
    }

    /// From now on an erase takes so many more commands about the log, and cancels the reservation that it began with (section
    /// 31.4 lets it).
    pub fn erase_slowly(&self, commands: u32) {
        self.sel().erase_takes = commands;
    }

    /// From now on it has no Reserve SEL, which is optional.
    pub fn reserve_nothing(&self) {
        self.sel().reserves_nothing = true;
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sel().records.len()
    }

    /// The power before a button is pressed: what differs from it afterwards is the button's doing.
    pub(super) fn sees(&self, power: PowerState) {
        self.sel().power = Some(power);
    }

    /// A button was pressed, and this is the power now. One that changed nothing is not told, but for restarts.
    pub(super) fn pressed(&self, action: PowerAction, power: PowerState) {
        let mut sel = self.sel();
        // Whoever watches the machine may have told it already.
        let changed = sel.power.replace(power) != Some(power);
        match action {
            PowerAction::Cycle | PowerAction::Reset => sel.happened(POWER_UNIT, POWER_CYCLE, 0),
            PowerAction::Interrupt => sel.happened(CRITICAL_INTERRUPT, FRONT_PANEL_NMI, 0),
            PowerAction::On | PowerAction::Off | PowerAction::Soft if changed => sel.power_is(power),
            PowerAction::On | PowerAction::Off | PowerAction::Soft => {}
        }
        if changed {
            self.0.bell.ring(power);
        }
    }

    /// The machine's power is this, and perhaps no button made it so.
    pub fn noticed(&self, power: PowerState) {
        let mut sel = self.sel();
        if sel.power.replace(power) != Some(power) {
            sel.power_is(power);
            self.0.bell.ring(power);
        }
    }
}

/// Records, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sel {
    records: VecDeque<[u8; RECORD_BYTES]>,
    newest: u16,
    reservation: u16,
    overflow: bool,
    added: u32,
    erased: u32,
    /// As it was told last.
    power: Option<PowerState>,
    /// Commands until an erase is done.
    erase_takes: u32,
    /// As many are left of one that was begun.
    erasing: Option<u32>,
    reserves_nothing: bool,
}

impl Sel {
    /// Adds a record; its id is the log's to give. A full log loses its oldest.
    pub(super) fn add(&mut self, mut record: [u8; RECORD_BYTES]) -> [u8; 2] {
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
        self.reservation = self.reservation.checked_add(1).unwrap_or(1);
        [low, high]
    }

    /// All records, oldest first.
    pub(super) fn records(&self) -> impl DoubleEndedIterator<Item = &[u8; RECORD_BYTES]> + ExactSizeIterator {
        self.records.iter()
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.overflow = false;
        self.erased = now();
    }

    fn power_is(&mut self, power: PowerState) {
        self.happened(POWER_UNIT, POWER_OFF, if power == PowerState::Off { 0 } else { DEASSERTED });
    }

    /// A sensor-specific event of a sensor of this kind.
    fn happened(&mut self, kind: u8, offset: u8, direction: u8) {
        let [a, b, c, d] = now().to_le_bytes();
        let event = SENSOR_SPECIFIC | direction;
        self.add([0, 0, 0x02, a, b, c, d, 0x20, 0, 0x04, kind, 0x01, event, offset, 0xFF, 0xFF]);
    }

    /// One of the log's commands; `None`: it is none.
    pub(super) fn execute(&mut self, cmd: u8, data: &[u8]) -> Option<Answer> {
        if let Some(left) = self.erasing.take() {
            self.erasing = left.checked_sub(1).filter(|left| *left > 0);
            if self.erasing.is_none() {
                self.clear();
            }
        }
        Some(match cmd {
            // Tables 31-2 and 31-4.
            0x40 | 0x42 if self.erasing.is_some() => (completion::ERASE_IN_PROGRESS, Vec::new()),
            0x40 => (completion::OK, self.info()),
            0x42 if self.reserves_nothing => return None,
            0x42 => {
                self.reservation = self.reservation.checked_add(1).unwrap_or(1).max(1);
                (completion::OK, self.reservation.to_le_bytes().to_vec())
            }
            0x43 => self.entry(data),
            0x44 => match data.try_into() {
                Ok(record) => (completion::OK, self.add(record).to_vec()),
                Err(_) => (completion::LENGTH_INVALID, Vec::new()),
            },
            0x46 => self.delete(data),
            0x47 => self.clear_by_command(data),
            0x48 => (completion::OK, now().to_le_bytes().to_vec()),
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
        let can_reserve = if self.reserves_nothing { 0 } else { CAN_RESERVE };
        answer.push(CAN_DELETE | can_reserve | if self.overflow { OVERFLOW } else { 0 });
        answer
    }

    fn entry(&self, data: &[u8]) -> Answer {
        let [_, _, low, high, offset, count] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
        let Some(place) = self.place(u16::from_le_bytes([*low, *high])) else {
            return (completion::NOT_PRESENT, Vec::new());
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

    fn place(&self, wanted: u16) -> Option<usize> {
        match wanted {
            FIRST => Some(0),
            LAST => self.records.len().checked_sub(1),
            wanted => self.records.iter().position(|record| id(record) == wanted),
        }
    }

    /// Section 31.8.
    fn delete(&mut self, data: &[u8]) -> Answer {
        let [r0, r1, low, high] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
        if ![self.reservation, NO_RESERVATION].contains(&u16::from_le_bytes([*r0, *r1])) {
            return (completion::RESERVATION_INVALID, Vec::new());
        }
        let place = self.place(u16::from_le_bytes([*low, *high]));
        let Some(gone) = place.and_then(|place| self.records.remove(place)) else {
            return (completion::NOT_PRESENT, Vec::new());
        };
        self.erased = now();
        (completion::OK, gone[..2].to_vec())
    }

    fn clear_by_command(&mut self, data: &[u8]) -> Answer {
        let [low, high, b'C', b'L', b'R', action] = data else {
            return (completion::INVALID_FIELD, Vec::new());
        };
        let valid = if self.reserves_nothing { NO_RESERVATION } else { self.reservation };
        if u16::from_le_bytes([*low, *high]) != valid {
            return (completion::RESERVATION_INVALID, Vec::new());
        }
        if *action == INITIATE && self.erasing.is_none() {
            match self.erase_takes {
                0 => self.clear(),
                commands => {
                    self.erasing = Some(commands);
                    self.reservation = self.reservation.checked_add(1).unwrap_or(1);
                }
            }
        }
        (completion::OK, vec![if self.erasing.is_some() { ERASING } else { ERASED }])
    }
}

/// 0 and FFFFh are no ids.
pub(super) fn id(record: &[u8; RECORD_BYTES]) -> u16 {
    u16::from_le_bytes([record[0], record[1]])
}

pub(super) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
