//! The watchdog timer of a simulated BMC (IPMI 2.0 chapter 27). One that runs out does to the machine what it was told to.

use std::time::{Duration, Instant};

use farrier_ipmi::completion;

use super::PowerAction;
use super::commands::Answer;

/// Timer use, byte 1.
const DO_NOT_LOG: u8 = 0x80;
const RUNNING: u8 = 0x40;
const USE: u8 = 0x07;
/// Reset Watchdog Timer, command specific.
const NEVER_SET: u8 = 0x80;
/// What a count is.
const TICK: Duration = Duration::from_millis(100);

/// As it was set last.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Whether it was set since the BMC began.
    set: bool,
    timer_use: u8,
    actions: u8,
    pretimeout: u8,
    /// Which uses have run out.
    expired: u8,
    count: u16,
    due: Option<Instant>,
}

impl Watchdog {
    /// Sections 27.5 to 27.7; `None`: it is another command.
    pub(super) fn execute(&mut self, cmd: u8, data: &[u8], now: Instant) -> Option<Answer> {
        Some(match (cmd, data) {
            (0x22, []) if !self.set => (NEVER_SET, Vec::new()),
            (0x22, []) => {
                self.due = Some(now + TICK * self.count.into());
                (completion::OK, Vec::new())
            }
            (0x24, [timer_use, actions, pretimeout, clear, low, high]) => {
                let keeps_running = timer_use & RUNNING != 0 && self.due.is_some();
                self.set = true;
                self.timer_use = timer_use & (DO_NOT_LOG | USE);
                self.actions = *actions;
                self.pretimeout = *pretimeout;
                self.expired &= !clear;
                self.count = u16::from_le_bytes([*low, *high]);
                self.due = keeps_running.then(|| now + TICK * self.count.into());
                (completion::OK, Vec::new())
            }
            (0x25, []) => (completion::OK, self.tell(now)),
            (0x22 | 0x24 | 0x25, _) => (completion::LENGTH_INVALID, Vec::new()),
            _ => return None,
        })
    }

    /// When it runs out.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It has run out: what is done to the machine.
    pub(super) fn expire(&mut self) -> Option<PowerAction> {
        self.due = None;
        self.expired |= 1 << (self.timer_use & USE);
        match self.actions & 0x07 {
            1 => Some(PowerAction::Reset),
            2 => Some(PowerAction::Off),
            3 => Some(PowerAction::Cycle),
            _ => None,
        }
    }

    fn tell(&self, now: Instant) -> Vec<u8> {
        let left = self.due.map(|due| due.saturating_duration_since(now));
        let left = left.map_or(self.count, |left| {
            u16::try_from(left.as_millis() / TICK.as_millis()).unwrap_or(u16::MAX)
        });
        let running = if self.due.is_some() { RUNNING } else { 0 };
        let mut told = vec![self.timer_use | running, self.actions, self.pretimeout, self.expired];
        told.extend(self.count.to_le_bytes());
        told.extend(left.to_le_bytes());
        told
    }
}
