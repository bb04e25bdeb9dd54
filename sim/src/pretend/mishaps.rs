//! What goes wrong inside a pretend machine. What goes wrong in its BMC is [`crate::bmc::Faults`].

use std::sync::{Condvar, Mutex, PoisonError};

/// The default is a healthy machine. Each holds until it is set otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// The firmware hangs: the network never hears of the machine.
    pub hang_before_agent: bool,
    /// Kernel and ramdisk are fetched, and then nothing.
    pub agent_never_calls: bool,
    /// The ramdisk crashes, with power on, once its boot has written so many bytes to the disk.
    pub die_after_bytes: Option<u64>,
    /// The installed system runs but does not call home.
    pub system_never_calls: bool,
    /// The disk takes no byte more than so many of a boot, and answers nothing, until this is set
    /// otherwise or power is cut.
    pub stall_after_bytes: Option<u64>,
    /// Whatever runs on it does nothing about a pressed button; each press is struck.
    pub ignores_button: bool,
}

/// The mishaps in force. Disk writes wait on it, on blocking threads.
#[derive(Debug, Default)]
pub(super) struct Fate {
    mishaps: Mutex<Mishaps>,
    changed: Condvar,
}

impl Fate {
    pub(super) fn now(&self) -> Mishaps {
        *self.mishaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, mishaps: Mishaps) {
        *self.mishaps.lock().unwrap_or_else(PoisonError::into_inner) = mishaps;
        self.changed.notify_all();
    }

    /// Makes waiters look again.
    pub(super) fn nudge(&self) {
        // Taking the lock once: a waiter is either before its look or already waiting.
        drop(self.mishaps.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Blocks as long as `stalled`.
    pub(super) fn wait_while(&self, mut stalled: impl FnMut(&Mishaps) -> bool) {
        let mishaps = self.mishaps.lock().unwrap_or_else(PoisonError::into_inner);
        let _held = self
            .changed
            .wait_while(mishaps, |mishaps| stalled(mishaps))
            .unwrap_or_else(PoisonError::into_inner);
    }
}
