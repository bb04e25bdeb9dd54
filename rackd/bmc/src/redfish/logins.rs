//! What is known of a password, shared by all who log in at an address with it: the servers of a chassis have one account, and
//! each wrong log-in counts against it. A refusal outlives its handles: who asks next is often not the one who asked before.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use farrier_ipmi::Secret;
use tokio::time::{Instant, timeout_at};

use super::address::RedfishAddress;
use super::session::Session;
use super::tuning::Tuning;
use crate::breaker::jitter;
use crate::by_account::{ByAccount, Lasts};
use crate::{BmcError, Deadline};

/// One of these for a hub.
#[derive(Default)]
pub(crate) struct Logins(ByAccount<(String, Secret), Login>);

/// An account at an address, with a password.
#[derive(Default)]
pub(crate) struct Login {
    /// Taken the last time that it went along with a request.
    proven: AtomicBool,
    /// The session that was opened with it last, while anybody uses it.
    session: Mutex<Weak<Session>>,
    /// Until when nobody tries it again, since it was refused. Held by whoever tries it: one at a time.
    refused: tokio::sync::Mutex<Option<Instant>>,
}

/// May try to log in; nobody else does meanwhile.
pub(super) struct Turn<'a>(tokio::sync::MutexGuard<'a, Option<Instant>>);

/// May send the password along with a request.
pub(crate) struct Pass<'a> {
    login: &'a Login,
    /// Nobody else does meanwhile; `None`: it was taken before.
    turn: Option<Turn<'a>>,
}

impl Logins {
    /// The one of this address, account and password.
    pub(crate) fn of(&self, address: &RedfishAddress) -> Arc<Login> {
        self.0.of(address.addr, address.account(), Login::default)
    }

    /// Somebody gives an account this password: what was known against it counts no longer.
    pub(crate) fn forgive(&self, addr: SocketAddr, account: &(String, Secret)) {
        // Where somebody tries it right now, what comes of that is kept from those who come later.
        self.0.review(addr, account, Login::forgive);
    }
}

impl Lasts for Login {
    /// Refused, or being tried.
    fn lasts(&self) -> bool {
        match self.refused.try_lock() {
            Ok(refused) => refused.is_some_and(|until| Instant::now() < until),
            Err(_) => true,
        }
    }
}

impl Login {
    /// The session that all share who come.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.shared().upgrade()
    }

    pub(super) fn share(&self, session: &Arc<Session>) {
        *self.shared() = Arc::downgrade(session);
    }

    /// Unless another has taken its place.
    pub(super) fn forget_session(&self, session: &Arc<Session>) {
        let mut shared = self.shared();
        if std::ptr::eq(shared.as_ptr(), Arc::as_ptr(session)) {
            *shared = Weak::new();
        }
    }

    /// One assignment is all that is done with it.
    fn shared(&self) -> MutexGuard<'_, Weak<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: somebody tries it right now.
    fn forgive(&self) -> bool {
        match self.refused.try_lock() {
            Ok(mut refused) => {
                *refused = None;
                true
            }
            Err(_) => false,
        }
    }

    /// For a request that the password goes along with. Who tries it first is waited for, however long its answer takes: a BMC that
    /// says no slowly would count them all. Once it was taken nobody waits any more.
    ///
    /// # Errors
    /// It was refused not long ago: nothing was sent. Or who tries it has not ended by the deadline.
    pub(crate) async fn pass(
        &self,
        address: &RedfishAddress,
        deadline: Deadline,
    ) -> Result<Pass<'_>, BmcError> {
        let turn = self.turn(address, deadline).await?;
        let turn = (!self.proven.load(Ordering::Relaxed)).then_some(turn);
        Ok(Pass { login: self, turn })
    }

    /// It was wrong in a request that needs no log-in: nobody tries it again for a while.
    async fn refuse(&self, address: &RedfishAddress, tuning: &Tuning) -> BmcError {
        Turn(self.refused.lock().await).refused(address, tuning)
    }

    /// Waits for the others who try it.
    ///
    /// # Errors
    /// It was refused not long ago: nothing was sent. Or others have not ended by the deadline.
    pub(super) async fn turn(
        &self,
        address: &RedfishAddress,
        deadline: Deadline,
    ) -> Result<Turn<'_>, BmcError> {
        let turn = timeout_at(deadline.instant(), self.refused.lock()).await;
        let turn = turn.map_err(|_| BmcError::NoTurn { addr: address.addr })?;
        match *turn {
            Some(until) if Instant::now() < until => Err(address.wrong_password()),
            _ => Ok(Turn(turn)),
        }
    }
}

impl Pass<'_> {
    /// It is right.
    pub(crate) fn took(self) {
        self.login.proven.store(true, Ordering::Relaxed);
    }

    /// It is wrong: nobody tries it again for a while.
    pub(crate) async fn refused(self, address: &RedfishAddress, tuning: &Tuning) -> BmcError {
        self.login.proven.store(false, Ordering::Relaxed);
        match self.turn {
            Some(mut turn) => turn.refused(address, tuning),
            None => self.login.refuse(address, tuning).await,
        }
    }
}

impl Turn<'_> {
    /// It is right.
    pub(super) fn took(&mut self) {
        *self.0 = None;
    }

    /// It is wrong: nobody tries it again for a while.
    pub(super) fn refused(&mut self, address: &RedfishAddress, tuning: &Tuning) -> BmcError {
        *self.0 = Some(Instant::now() + jitter(tuning.refused_pause));
        address.wrong_password()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;
    use crate::by_account::MOST;
    use crate::redfish::{RedfishAddress, RedfishHub, scripted};

    /// A BMC that takes no password, and counts those that are tried.
    fn refusing(count: Arc<AtomicU32>) -> RedfishHub {
        scripted::hub(move |request| {
            let body = match request {
                "GET /redfish/v1/" => {
                    r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "Links": {"Sessions": {"@odata.id": "/X"}}}"#
                }
                "POST /X" => {
                    count.fetch_add(1, Ordering::Relaxed);
                    return Some((401, "{}".to_owned()));
                }
                _ => return Some((404, "{}".to_owned())),
            };
            Some((200, body.to_owned()))
        })
    }

    /// The same of one that has no sessions: the password goes along with every request. It says no after so long.
    fn refusing_each(count: Arc<AtomicU32>, after: Duration) -> RedfishHub {
        scripted::slow_hub(after, move |request| {
            if request == "GET /redfish/v1/" {
                return Some((200, scripted::ROOT.to_owned()));
            }
            count.fetch_add(1, Ordering::Relaxed);
            Some((401, "{}".to_owned()))
        })
    }

    /// Five calls of a command line, each with a handle of its own, which is gone before the next.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_outlives_its_handle_until_it_expires() {
        let tried = Arc::new(AtomicU32::new(0));
        let hub = refusing(Arc::clone(&tried));
        let ask = async |logged_in: u32| {
            let bmc = hub.bmc(scripted::address());
            let seen = bmc.power_status(Deadline::after(Duration::from_secs(60))).await;
            assert!(seen.as_ref().is_err_and(BmcError::is_wrong_password), "{seen:?}");
            assert_eq!(tried.load(Ordering::Relaxed), logged_in);
            drop(bmc);
            // Long enough for the actor to end.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        for _ in 0..5 {
            ask(1).await;
        }
        tokio::time::sleep(Tuning::default().refused_pause * 2).await;
        ask(2).await;
        hub.shutdown().await;
    }

    /// Where the password goes along with every request.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_outlives_its_handle_also_where_there_are_no_sessions() {
        let tried = Arc::new(AtomicU32::new(0));
        let hub = refusing_each(Arc::clone(&tried), Duration::ZERO);
        for _ in 0..5 {
            let bmc = hub.bmc(scripted::address());
            let seen = bmc.power_status(Deadline::after(Duration::from_secs(60))).await;
            assert!(seen.as_ref().is_err_and(BmcError::is_wrong_password), "{seen:?}");
            drop(bmc);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(tried.load(Ordering::Relaxed), 1);
        hub.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_few_and_gone_when_they_expire_or_are_forgiven() {
        let (logins, tuning) = (Logins::default(), Tuning::default());
        let with = |n: usize| RedfishAddress { password: Secret::new(n.to_string()), ..scripted::address() };
        let kept = || logins.0.len();
        for n in 0..100 {
            let _told = logins.of(&with(n)).refuse(&with(n), &tuning).await;
        }
        assert_eq!(kept(), MOST);
        let soon = || Deadline::after(Duration::from_secs(1));
        assert!(logins.of(&with(99)).turn(&with(99), soon()).await.is_err());
        logins.forgive(with(99).addr, &with(99).account());
        assert!(logins.of(&with(99)).turn(&with(99), soon()).await.is_ok());
        assert!(logins.of(&with(98)).turn(&with(98), soon()).await.is_err());
        tokio::time::sleep(tuning.refused_pause * 2).await;
        let elsewhere = RedfishAddress { addr: ([192, 0, 2, 2], 80).into(), ..scripted::address() };
        let _login = logins.of(&elsewhere);
        assert_eq!(kept(), 1);
    }

    /// The same where the password goes along with every request.
    #[tokio::test(start_paused = true)]
    async fn a_password_that_is_wrong_is_tried_once_also_where_there_are_no_sessions() {
        for after in [0, 8].map(Duration::from_secs) {
            let tried = Arc::new(AtomicU32::new(0));
            let hub = refusing_each(Arc::clone(&tried), after);
            let bmcs: Vec<_> = (0..8)
                .map(|n| hub.bmc(RedfishAddress { system: n.to_string(), ..scripted::address() }))
                .collect();
            let looks = bmcs.iter().map(|bmc| bmc.power_status(Deadline::after(Duration::from_secs(60))));
            for seen in futures::future::join_all(looks).await {
                assert!(seen.as_ref().is_err_and(BmcError::is_wrong_password), "{seen:?}");
            }
            assert_eq!(tried.load(Ordering::Relaxed), 1, "{after:?}");
            hub.shutdown().await;
        }
    }

    /// Whoever waits for somebody's try waits no longer than he has time, and the BMC hears nothing of him.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_ones_try_waits_until_his_own_deadline() {
        let tried = Arc::new(AtomicU32::new(0));
        let hub = refusing_each(Arc::clone(&tried), Duration::from_secs(8));
        let of = |n: u32| hub.bmc(RedfishAddress { system: n.to_string(), ..scripted::address() });
        let (one, other) = (of(1), of(2));
        let patient = one.power_status(Deadline::after(Duration::from_secs(60)));
        // Each reads the service root for eight seconds: the first has the turn by then.
        let hasty = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.power_status(Deadline::after(Duration::from_secs(11))).await
        };
        let (first, second) = tokio::join!(patient, hasty);
        assert!(first.as_ref().is_err_and(BmcError::is_wrong_password), "{first:?}");
        assert!(matches!(second, Err(BmcError::NoTurn { .. })), "{second:?}");
        assert_eq!(tried.load(Ordering::Relaxed), 1);
        hub.shutdown().await;
    }

    /// A chassis of eight servers, whose account's password is wrong at the node of each.
    #[tokio::test(start_paused = true)]
    async fn a_password_that_is_wrong_is_tried_once_for_all_servers_of_a_chassis() {
        let tried = Arc::new(AtomicU32::new(0));
        let hub = refusing(Arc::clone(&tried));
        let bmcs: Vec<_> = (0..8)
            .map(|n| hub.bmc(RedfishAddress { system: n.to_string(), ..scripted::address() }))
            .collect();
        for _ in 0..2 {
            let looks = bmcs.iter().map(|bmc| bmc.power_status(Deadline::after(Duration::from_secs(60))));
            for seen in futures::future::join_all(looks).await {
                assert!(seen.as_ref().is_err_and(BmcError::is_wrong_password), "{seen:?}");
            }
        }
        assert_eq!(tried.load(Ordering::Relaxed), 1);
        // Another password is another matter.
        let other = RedfishAddress { password: Secret::new("hunter4"), ..scripted::address() };
        let seen = hub.bmc(other).power_status(Deadline::after(Duration::from_secs(60))).await;
        assert!(seen.is_err() && tried.load(Ordering::Relaxed) == 2, "{seen:?}");
        hub.shutdown().await;
    }
}
