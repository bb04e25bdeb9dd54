//! Log-ins at consoles over SSH, of all who log in at an address with an account and a password: the systems of a chassis have one,
//! and the BMC counts each that is wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, timeout_at};

use crate::breaker::{Breaker, Policy};
use crate::by_account::{ByAccount, Lasts};
use crate::{BmcError, Deadline, Secret};

/// Those of a hub, by account and password.
pub(super) type ConsoleLogins = ByAccount<(String, Secret), ConsoleLogin>;

/// An account at an address, with a password.
#[derive(Debug)]
pub(super) struct ConsoleLogin {
    breaker: Breaker,
    /// Taken the last time.
    proven: AtomicBool,
    /// Held by whoever tries it, until it is proven: one at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Lasts for ConsoleLogin {
    /// Refused not long ago, or being tried.
    fn lasts(&self) -> bool {
        self.breaker.lasts() || self.turn.try_lock().is_err()
    }
}

impl ConsoleLogin {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            breaker: Breaker::new(policy),
            proven: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Logs in, one after the other until the password is known to be right; nothing is sent where it was refused to somebody who
    /// was waited for.
    pub(super) async fn try_it<T>(
        &self,
        addr: SocketAddr,
        deadline: Deadline,
        log_in: impl Future<Output = Result<T, BmcError>>,
    ) -> Result<T, BmcError> {
        let turn = timeout_at(deadline.instant(), self.turn.lock()).await;
        let turn = turn.map_err(|_| BmcError::NoTurn { addr })?;
        self.breaker.check(addr, Instant::now())?;
        // From here on those who wait go ahead together.
        let _turn = (!self.proven.load(Ordering::Relaxed)).then_some(turn);
        let opened = log_in.await;
        match &opened {
            Ok(_) => {
                self.proven.store(true, Ordering::Relaxed);
                self.breaker.close();
            }
            Err(error) if error.is_wrong_password() => {
                self.proven.store(false, Ordering::Relaxed);
                self.breaker.record(Instant::now(), &opened);
            }
            // What the network does to SSH is tried anew each time.
            Err(_) => {}
        }
        opened
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;
    use crate::redfish::Tuning;

    const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 22);

    /// Eight at once, each of which takes a second; how many were sent, and what came of them.
    async fn eight(login: &ConsoleLogin, good: bool) -> (u32, Vec<Result<(), BmcError>>) {
        let sent = Arc::new(AtomicU32::new(0));
        let tries = (0..8).map(|_| {
            let sent = Arc::clone(&sent);
            login.try_it(ADDR, Deadline::after(Duration::from_secs(30)), async move {
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                match good {
                    true => Ok(()),
                    false => Err(BmcError::WrongPassword { addr: ADDR, user: "root".into() }),
                }
            })
        });
        let seen = futures::future::join_all(tries).await;
        (sent.load(Ordering::Relaxed), seen)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_password_costs_one_log_in_however_many_consoles_are_opened_at_once() {
        let login = ConsoleLogin::new(Tuning::default().breaker());
        for expected in [1, 0] {
            let (sent, seen) = eight(&login, false).await;
            assert_eq!(sent, expected);
            assert!(
                seen.iter().all(|seen| seen.as_ref().is_err_and(BmcError::is_wrong_password)),
                "{seen:?}"
            );
        }
        // Somebody has given the account this password.
        login.breaker().close();
        let begin = Instant::now();
        let (sent, seen) = eight(&login, true).await;
        assert!(sent == 8 && seen.iter().all(Result::is_ok), "{seen:?}");
        // One proves it, and the others go ahead together.
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_log_in_beyond_his_own_deadline() {
        let login = ConsoleLogin::new(Tuning::default().breaker());
        let never = login.try_it(
            ADDR,
            Deadline::after(Duration::from_secs(60)),
            std::future::pending::<Result<(), _>>(),
        );
        let short = login.try_it(ADDR, Deadline::after(Duration::from_secs(5)), async { Ok(()) });
        let seen = tokio::select! {
            biased;
            _ = never => None,
            seen = short => Some(seen),
        };
        assert!(matches!(seen, Some(Err(BmcError::NoTurn { .. }))), "{seen:?}");
    }
}
