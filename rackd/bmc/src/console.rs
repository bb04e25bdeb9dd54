//! Capability: the serial console.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{BmcError, Deadline};

/// Opens a machine's serial console.
#[async_trait]
pub trait Console: Send + Sync {
    /// A line to the serial port, until it is dropped or ends by itself: see [`ConsoleEvent::Ended`]. A BMC has one
    /// to give; `take_over` takes it from whoever has it, else that is refused: [`BmcError::ConsoleTaken`].
    async fn open_console(&self, take_over: bool, deadline: Deadline) -> Result<ConsoleLine, BmcError>;
}

/// A line to a serial port. Dropping it gives the console back to the BMC.
#[derive(Debug)]
pub struct ConsoleLine {
    /// What comes from the machine. Who does not read it stops the machine's output, in the BMC, and may lose some.
    pub events: mpsc::Receiver<ConsoleEvent>,
    /// What goes to the machine.
    pub input: mpsc::Sender<ConsoleInput>,
}

/// Something from the machine or its BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// Characters.
    Output(Vec<u8>),
    /// The BMC lost characters.
    Overrun,
    /// A BREAK from the machine.
    Break,
    /// The serial port takes nothing now: the machine is off or in reset.
    Unavailable,
    /// Something for the machine was not sent, and why; the line goes on.
    Refused(&'static str),
    /// The line is gone; the last event.
    Ended(BmcError),
}

/// Something for the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleInput {
    /// Characters.
    Chars(Vec<u8>),
    /// A BREAK.
    Break,
    /// A BREAK and right behind it a character: Linux takes that for a magic SysRq. Where no BREAK can be sent the
    /// character is not typed either.
    MagicSysRq(u8),
}
