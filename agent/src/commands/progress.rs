//! How far a command has come, told a few times a second at most.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

type Sink = dyn Fn(i64, i64, &str) + Send + Sync;

/// A cheap handle; clones share the pace.
#[derive(Clone)]
pub(crate) struct Progress {
    sink: Arc<Sink>,
    interval: Duration,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    /// `sink` gets bytes done, bytes in total, and what is being done.
    pub(crate) fn new(interval: Duration, sink: impl Fn(i64, i64, &str) + Send + Sync + 'static) -> Self {
        Self { sink: Arc::new(sink), interval, last: Arc::default() }
    }

    /// Tells, unless it was told a moment ago; the end is always told.
    pub(crate) fn report(&self, done_bytes: u64, total_bytes: u64, detail: &str) {
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let soon = last.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
            if soon && done_bytes < total_bytes {
                return;
            }
            *last = Some(now);
        }
        let signed = |n| i64::try_from(n).unwrap_or(i64::MAX);
        (self.sink)(signed(done_bytes), signed(total_bytes), detail);
    }
}
