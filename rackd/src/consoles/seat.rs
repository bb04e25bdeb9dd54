//! Somebody at a desk.

use super::desk::Desk;
use farrier_bmc::BmcError;
use std::sync::Arc;
use tokio::sync::broadcast;

/// What somebody came for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadOnly,
    Write,
    /// Write, whoever does so now.
    Steal,
}

/// What all who are attached see.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    Chars(Arc<[u8]>),
    /// For people.
    Notice(Arc<str>),
    /// The line is gone for good; the last output.
    Ended(Arc<BmcError>),
    /// The node has another BMC now; the last output.
    Moved,
}

/// What a writer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Chars(Vec<u8>),
    Break,
    /// BREAK, then this.
    MagicSysRq(u8),
}

/// A seat; dropping it is getting up.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) id: u64,
    pub(super) desk: Arc<Desk>,
    /// What was said shortly before.
    pub(crate) scrollback: Vec<u8>,
    /// The driver that has the line.
    pub(crate) driver: String,
    pub(crate) output: broadcast::Receiver<Output>,
}

impl Seat {
    /// Types; or says why that goes nowhere.
    pub(crate) fn input(&self, input: Input) -> Result<(), &'static str> {
        self.desk.input(self.id, input)
    }

    /// Only looks on from now on: the keyboard is free.
    pub(crate) fn type_no_more(&self) {
        self.desk.free_keyboard(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.get_up(self.id);
    }
}
