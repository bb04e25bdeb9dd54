//! Who is told of the machine's power as it changes, whatever changed it: a button over IPMI or Redfish, the watchdog, or the
//! machine itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;

use super::PowerState;

/// Changes that a listener may be behind; it loses the oldest.
const BEHIND: usize = 64;

/// A change of the power.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Counted from 1.
    pub(super) number: u64,
    /// What it is now.
    pub(super) power: PowerState,
}

/// Without memory for changes until somebody listens: there are thousands of it.
#[derive(Debug, Default)]
pub(super) struct Bell {
    told: OnceLock<broadcast::Sender<Change>>,
    last: AtomicU64,
}

impl Bell {
    pub(super) fn ring(&self, power: PowerState) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(told) = self.told.get() {
            // Nobody listens any more, perhaps.
            let _nobody = told.send(Change { number, power });
        }
    }

    /// From now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Change> {
        self.told.get_or_init(|| broadcast::channel(BEHIND).0).subscribe()
    }

    /// Who listens now.
    pub(super) fn listeners(&self) -> usize {
        self.told.get().map_or(0, broadcast::Sender::receiver_count)
    }
}
