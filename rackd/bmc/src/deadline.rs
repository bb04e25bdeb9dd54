//! When a caller stops caring.

use std::time::Duration;

use tokio::time::Instant;

/// A point in time a whole call, with all its retries, must not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// From now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        // An absurd duration means "no deadline": a day is as good as for ever for a BMC call.
        let now = Instant::now();
        Self(now.checked_add(duration).unwrap_or(now + Duration::from_secs(86_400)))
    }

    /// At a time.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The point in time.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_past(self) -> bool {
        self.remaining().is_zero()
    }
}
