//! Time-outs and limits, in one place.

use std::time::Duration;

use crate::breaker::{Policy, REFUSED_PAUSE, jitter};

/// Defaults suit BMCs in a rack; tests make them smaller.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Wait for the first answer. A healthy BMC answers in 5 to 100 ms; slow ones need 300 ms.
    pub first_timeout: Duration,
    /// No wait for one answer is longer.
    pub max_timeout: Duration,
    /// Datagrams per request, the first included. With the waits above, 6 tries take about 12 s.
    pub tries: u32,
    /// Datagrams in a session that was used before, until it is taken for lost and opened anew.
    pub tries_in_old_session: u32,
    /// Datagrams in a row that may be answered by what nobody can read, and by nothing else, until no answer is expected any
    /// more. Who only sends rubbish in a BMC's name, beside its answers, changes nothing.
    pub garbled_tries: u32,
    /// Wait for the answer to a command that is sent only once (power cycle, reset).
    pub single_shot_timeout: Duration,
    /// At least so long between an answer and the next request to the same BMC.
    pub min_interval: Duration,
    /// A session that is silent for so long is asked for a sign of life: BMCs drop it after 60 s without telling.
    pub keep_alive: Duration,
    /// A session that nobody has used for so long is closed. Longer than the pause between two polls of the power, so that
    /// a poll needs no log-in: BMCs write each into their log.
    pub idle_close: Duration,
    /// Sensors' records that nobody has needed for so long are forgotten, and read again when somebody does: they are more memory
    /// than all else of a BMC.
    pub keep_records: Duration,
    /// Wait before a busy BMC, or one without a free session, is asked again; doubles each time.
    pub busy_delay: Duration,
    /// Failed calls in a row until the circuit breaker opens.
    pub breaker_failures: u32,
    /// The breaker's first pause; doubles each time, jittered.
    pub breaker_pause: Duration,
    /// The breaker's longest pause.
    pub breaker_max_pause: Duration,
    /// The breaker's pause after a refused log-in, which opens it at once.
    pub refused_pause: Duration,
    /// Sessions being opened at the same time over all BMCs: after an outage thousands would. One that is not open after
    /// [`Tuning::first_timeout`] no longer counts, so that dead and slow BMCs keep nobody waiting.
    pub concurrent_opens: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            first_timeout: Duration::from_millis(500),
            max_timeout: Duration::from_secs(4),
            tries: 6,
            tries_in_old_session: 3,
            garbled_tries: 3,
            single_shot_timeout: Duration::from_secs(5),
            min_interval: Duration::from_millis(5),
            keep_alive: Duration::from_secs(40),
            idle_close: Duration::from_secs(180),
            keep_records: Duration::from_secs(10 * 60),
            busy_delay: Duration::from_millis(250),
            breaker_failures: 3,
            breaker_pause: Duration::from_secs(10),
            breaker_max_pause: Duration::from_secs(120),
            refused_pause: REFUSED_PAUSE,
            concurrent_opens: 256,
        }
    }
}

impl Tuning {
    /// The wait after the nth datagram (0 first): rises by 1.6 each time, ± 25 %.
    pub(crate) fn timeout(&self, attempt: u32) -> Duration {
        let factor = 1.6_f64.powi(i32::try_from(attempt.min(20)).unwrap_or(20));
        let wait = self.first_timeout.mul_f64(factor).min(self.max_timeout);
        jitter(wait)
    }

    /// The wait before the nth repeat of a request a busy BMC refused.
    pub(crate) fn busy(&self, attempt: u32) -> Duration {
        jitter(self.busy_delay.saturating_mul(1 << attempt.min(5)))
    }

    pub(crate) fn breaker(&self) -> Policy {
        Policy::of(self.breaker_failures, self.breaker_pause, self.breaker_max_pause, self.refused_pause)
    }
}
