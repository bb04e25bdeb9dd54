//! A lock for each volume: what is done to one waits for what is done to it, and for no other.

use super::{Volume, label};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Volume>>>;

/// Volumes by their instances' labels, those that are open or that somebody works on.
#[derive(Default)]
pub(super) struct Slots(Mutex<HashMap<String, Slot>>);

/// Held over every change of a volume and of whose it is. What is in it is open.
pub(super) type Turn = OwnedMutexGuard<Option<Volume>>;

impl Slots {
    pub(super) async fn turn(&self, instance: &str) -> Turn {
        self.slot(instance).lock_owned().await
    }

    /// The open volume, unless it is not open or somebody is changing that.
    pub(super) fn peek(&self, instance: &str) -> Option<Volume> {
        self.slot(instance).try_lock().ok()?.clone()
    }

    pub(super) fn slot(&self, instance: &str) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has these, and nobody gets one but here.
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|open| open.is_some())
        });
        slots.entry(label(instance).to_owned()).or_default().clone()
    }
}
