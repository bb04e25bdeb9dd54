//! Time-outs and limits, in one place.

use std::time::Duration;

use crate::breaker::{Policy, REFUSED_PAUSE};

/// Defaults suit BMCs in a rack; tests make them smaller.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// TCP and TLS together. A BMC's processor takes up to two seconds for an RSA handshake.
    pub connect_timeout: Duration,
    /// One request with its answer: most need a tenth of a second, inventories of some BMCs 20 s.
    pub request_timeout: Duration,
    /// Connections to all BMCs together: each is a file of this process, which needs others.
    pub max_connections: usize,
    /// Of them, those that are left open while no request is on them; the oldest gives way. As many as
    /// tasks and people come back to within seconds.
    pub max_unused: usize,
    /// An unused connection is closed after this: BMCs have few, and so has this process.
    pub idle_disconnect: Duration,
    /// An unused session is deleted after this. Longer than the pause between two polls of the power, so that a poll needs
    /// no log-in: BMCs write each into their log.
    pub idle_close: Duration,
    /// Wait before a busy BMC is asked again, or one whose change is not to be seen yet; doubles each time.
    pub busy_delay: Duration,
    /// Requests for one answer, where repeating does no harm.
    pub tries: u32,
    /// Longest body taken, in bytes, but of what is known to be long. Most have some KiB, and what is read of a body takes up to
    /// sixteen times its bytes (`[0,0,…`).
    pub max_body: usize,
    /// Members of one collection that one call looks at: systems of a chassis, accounts, drives.
    pub max_members: usize,
    /// Members of a list that is read in several calls: NICs of a machine, parts with firmware. More are left out with a
    /// warning.
    pub max_listed: usize,
    /// Failed calls in a row until the circuit breaker opens.
    pub breaker_failures: u32,
    /// The breaker's first pause; doubles each time, jittered.
    pub breaker_pause: Duration,
    /// The breaker's longest pause.
    pub breaker_max_pause: Duration,
    /// The breaker's pause after a refused log-in, which opens it at once.
    pub refused_pause: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            max_connections: 4096,
            max_unused: 64,
            idle_disconnect: Duration::from_secs(5),
            idle_close: Duration::from_secs(180),
            busy_delay: Duration::from_millis(250),
            tries: 4,
            max_body: 256 << 10,
            max_members: 64,
            max_listed: 1024,
            breaker_failures: 3,
            breaker_pause: Duration::from_secs(10),
            breaker_max_pause: Duration::from_secs(120),
            refused_pause: REFUSED_PAUSE,
        }
    }
}

impl Tuning {
    pub(crate) fn breaker(&self) -> Policy {
        Policy::of(self.breaker_failures, self.breaker_pause, self.breaker_max_pause, self.refused_pause)
    }

    /// The wait before the nth repeat (0 first).
    pub(crate) fn busy(&self, attempt: u32) -> Duration {
        crate::breaker::jitter(self.busy_delay.saturating_mul(1 << attempt.min(5)))
    }
}
