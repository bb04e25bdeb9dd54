//! A small circuit breaker: a dead BMC must cost its callers nothing but an error.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::tuning::{Tuning, jitter};
use crate::BmcError;

/// Closed while calls work; after a few failures in a row it opens for a while, then lets one call
/// through.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    reason: BmcError,
}

impl Breaker {
    /// Whether a call may go ahead now.
    pub(crate) fn check(&self, addr: SocketAddr, now: Instant) -> Result<(), BmcError> {
        match &self.open {
            Some(open) if now < open.until => Err(BmcError::CircuitOpen {
                addr,
                failures: self.failures,
                reason: Box::new(open.reason.clone()),
                next_try_in: open.until - now,
            }),
            _ => Ok(()),
        }
    }

    /// Learns from a call that went ahead.
    pub(crate) fn record<T>(&mut self, tuning: &Tuning, now: Instant, outcome: &Result<T, BmcError>) {
        let Err(error) = outcome else { return *self = Self::default() };
        if !error.trips_breaker() {
            // The BMC answered: it is there and lets us in.
            return *self = Self::default();
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(over) = self.failures.checked_sub(tuning.breaker_failures) {
            let pause = tuning.breaker_pause.saturating_mul(1 << over.min(16)).min(tuning.breaker_max_pause);
            let until = now + jitter(pause).max(Duration::from_millis(1));
            self.open = Some(Open { until, reason: error.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Breaker;
    use crate::BmcError;
    use crate::ipmi::Tuning;

    #[test]
    fn opens_after_three_failures_lets_one_through_and_closes_on_success() {
        let addr = "192.0.2.1:623".parse().unwrap();
        let failure: Result<(), _> =
            Err(BmcError::Unreachable { addr, tried: 6, elapsed: Duration::ZERO, waiting_for: "an answer" });
        let (tuning, now, mut breaker) = (Tuning::default(), Instant::now(), Breaker::default());
        for _ in 0..2 {
            breaker.record(&tuning, now, &failure);
            assert_eq!(breaker.check(addr, now), Ok(()));
        }
        breaker.record(&tuning, now, &failure);
        let Err(BmcError::CircuitOpen { failures: 3, next_try_in, .. }) = breaker.check(addr, now) else {
            panic!("closed")
        };
        assert!(next_try_in >= Duration::from_millis(7_500) && next_try_in <= Duration::from_millis(12_500));
        assert_eq!(breaker.check(addr, now + next_try_in), Ok(()));
        breaker.record(&tuning, now + next_try_in, &failure);
        assert!(breaker.check(addr, now + next_try_in).is_err());
        breaker.record(&tuning, now, &Ok(()));
        assert_eq!(breaker.check(addr, now), Ok(()));
    }
}
