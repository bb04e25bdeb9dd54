//! A disk below that fails is told of, and not with each command that meets it.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use crate::events::Event;

/// Who hears of one medium's trouble.
#[derive(Debug)]
pub(crate) struct Trouble {
    target: String,
    lun: u16,
    events: broadcast::Sender<Event>,
    told: Mutex<Option<Instant>>,
}

impl Trouble {
    pub(crate) fn new(target: &str, lun: u16, events: broadcast::Sender<Event>) -> Trouble {
        Trouble { target: target.to_owned(), lun, events, told: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn nobody_hears() -> Trouble {
        Trouble::new("", 0, broadcast::channel(1).0)
    }

    /// `done`: what could not be, "read" or "written".
    pub(crate) fn tell(&self, done: &'static str, error: &io::Error) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            return;
        }
        *told = Some(now);
        drop(told);
        let reason = format!("it cannot be {done}: {error}");
        tracing::error!(target = %self.target, lun = self.lun, %reason, "iscsi disk fails");
        // Nobody listens: nobody wants to know.
        let _ = self.events.send(Event::DiskFailed { target: self.target.clone(), lun: self.lun, reason });
    }
}

const EVERY: Duration = Duration::from_secs(60);
