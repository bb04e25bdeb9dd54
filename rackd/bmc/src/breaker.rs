//! A small circuit breaker: a dead BMC must cost its callers nothing but an error.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::BmcError;
use crate::by_account::{ByAccount, Lasts};

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Failed calls in a row until it opens.
    pub(crate) failures: u32,
    /// The first pause; doubles each time, jittered.
    pub(crate) pause: Duration,
    /// The longest pause.
    pub(crate) max_pause: Duration,
    /// The pause after a refused log-in, which opens it at once: BMCs lock an account after three to five of them.
    pub(crate) refused_pause: Duration,
}

impl Policy {
    pub(crate) fn of(failures: u32, pause: Duration, max_pause: Duration, refused_pause: Duration) -> Self {
        Self { failures, pause, max_pause, refused_pause }
    }
}

/// See [`Policy::refused_pause`]. Two in ten minutes are fewer than any vendor's limit in its window, which has from one minute
/// (Dell) to five (Supermicro); and who corrected the account on the BMC itself does not wait for ever.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// Closed while calls work; after a few failures in a row it opens for a while, then lets calls through again. All who use one
/// account of a BMC share it, and it outlives them ([`ByAccount`]).
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: Policy,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When the last of them was.
    failed: Option<Instant>,
    open: Option<Open>,
}

/// Those of a hub, by account and what opens it.
pub(crate) type Breakers<K> = ByAccount<K, Breaker>;

#[derive(Debug)]
struct Open {
    until: Instant,
    reason: BmcError,
}

impl Breaker {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, state: Mutex::default() }
    }

    /// Somebody says that what went wrong is mended: it counts no longer.
    pub(crate) fn close(&self) {
        *self.state() = State::default();
    }

    /// The state stays consistent even if a holder panicked: every change is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may go ahead now.
    pub(crate) fn check(&self, addr: SocketAddr, now: Instant) -> Result<(), BmcError> {
        let state = self.state();
        match &state.open {
            Some(open) if now < open.until => Err(BmcError::CircuitOpen {
                addr,
                failures: state.failures,
                reason: Box::new(open.reason.clone()),
                next_try_in: open.until - now,
            }),
            _ => Ok(()),
        }
    }

    /// Learns from a call that went ahead.
    pub(crate) fn record<T>(&self, now: Instant, outcome: &Result<T, BmcError>) {
        let error = match outcome {
            Err(error) if error.trips_breaker() => error,
            Err(error) if error.proves_nothing() => return,
            // The BMC answered: it is there and lets us in.
            _ => return self.close(),
        };
        let mut state = self.state();
        // Who was under way when it opened failed with those who opened it: the servers of a chassis do so together.
        if !error.is_wrong_password() && state.open.as_ref().is_some_and(|open| now < open.until) {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        state.failed = Some(now);
        if error.is_wrong_password() {
            let until = now + jitter(self.policy.refused_pause).max(Duration::from_millis(1));
            state.open = Some(Open { until, reason: error.clone() });
            return;
        }
        if let Some(over) = state.failures.checked_sub(self.policy.failures) {
            let Policy { pause, max_pause, .. } = self.policy;
            let pause = pause.saturating_mul(1 << over.min(16)).min(max_pause);
            let until = now + jitter(pause).max(Duration::from_millis(1));
            state.open = Some(Open { until, reason: error.clone() });
        }
    }
}

impl Lasts for Breaker {
    /// It is open, or failures in a row are not long ago: callers who come one after the other count as one who asks again.
    fn lasts(&self) -> bool {
        let (state, now) = (self.state(), Instant::now());
        state.open.as_ref().is_some_and(|open| now < open.until)
            || state.failed.is_some_and(|at| now < at + self.policy.max_pause)
    }
}

/// ± 25 %, so that many actors started by one event do not stay in step.
pub(crate) fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Breaker;
    use crate::BmcError;
    use crate::ipmi::Tuning;

    #[test]
    fn a_refused_log_in_opens_it_at_once_and_for_longer() {
        let addr = "192.0.2.1:623".parse().unwrap();
        let refused: Result<(), _> = Err(BmcError::WrongPassword { addr, user: "u".to_owned() });
        let (now, breaker) = (Instant::now(), Breaker::new(Tuning::default().breaker()));
        breaker.record(now, &refused);
        let Err(open @ BmcError::CircuitOpen { next_try_in, .. }) = breaker.check(addr, now) else {
            panic!("closed")
        };
        assert!(
            open.is_wrong_password() && next_try_in >= super::REFUSED_PAUSE.mul_f64(0.7),
            "{next_try_in:?}"
        );
        assert_eq!(breaker.check(addr, now + next_try_in), Ok(()));
        breaker.record(now + next_try_in, &refused);
        assert!(breaker.check(addr, now + next_try_in + super::REFUSED_PAUSE / 2).is_err());
    }

    /// Callers in a hurry, or who had no turn, between those who wait.
    #[test]
    fn what_says_nothing_of_the_bmc_leaves_it_as_it_is() {
        let addr = "192.0.2.1:623".parse().unwrap();
        let waiting_for = "an answer";
        let silence = |tried| BmcError::Unreachable { addr, tried, elapsed: Duration::ZERO, waiting_for };
        let no_answer = BmcError::NoAnswer {
            addr,
            request: "GET /".to_owned(),
            seen: "nothing".to_owned(),
            elapsed: Duration::from_secs(1),
        };
        let nothing = [
            silence(2),
            no_answer,
            BmcError::NoTurn { addr },
            BmcError::OutOfFiles { addr },
            BmcError::StillQueued { addr },
            BmcError::ShuttingDown,
            BmcError::AnswerLost { addr, command: "Chassis Control", power_now: None },
        ];
        for nothing in nothing {
            let (now, breaker) = (Instant::now(), Breaker::new(Tuning::default().breaker()));
            for _ in 0..2 {
                breaker.record::<()>(now, &Err(silence(6)));
                breaker.record::<()>(now, &Err(nothing.clone()));
            }
            assert_eq!(breaker.check(addr, now), Ok(()));
            breaker.record::<()>(now, &Err(silence(6)));
            breaker.record::<()>(now, &Err(nothing.clone()));
            assert!(breaker.check(addr, now).is_err(), "{nothing}");
        }
    }

    #[test]
    fn opens_after_three_failures_lets_one_through_and_closes_on_success() {
        let addr = "192.0.2.1:623".parse().unwrap();
        let failure: Result<(), _> =
            Err(BmcError::Unreachable { addr, tried: 6, elapsed: Duration::ZERO, waiting_for: "an answer" });
        let (now, breaker) = (Instant::now(), Breaker::new(Tuning::default().breaker()));
        for _ in 0..2 {
            breaker.record(now, &failure);
            assert_eq!(breaker.check(addr, now), Ok(()));
        }
        breaker.record(now, &failure);
        let Err(BmcError::CircuitOpen { failures: 3, next_try_in, .. }) = breaker.check(addr, now) else {
            panic!("closed")
        };
        assert!(next_try_in >= Duration::from_millis(7_500) && next_try_in <= Duration::from_millis(12_500));
        assert_eq!(breaker.check(addr, now + next_try_in), Ok(()));
        breaker.record(now + next_try_in, &failure);
        assert!(breaker.check(addr, now + next_try_in).is_err());
        breaker.record(now, &Ok(()));
        assert_eq!(breaker.check(addr, now), Ok(()));
    }
}
