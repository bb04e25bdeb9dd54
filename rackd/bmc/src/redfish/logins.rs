//! What is known of a password, shared by all who log in at an address with it: the servers of a chassis have one account, and
//! each wrong log-in counts against it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use farrier_ipmi::Secret;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

use super::address::RedfishAddress;
use super::tuning::Tuning;
use crate::breaker::jitter;
use crate::{BmcError, Deadline};

/// One of these for a hub.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<SocketAddr, Vec<Known>>>);

struct Known {
    user: String,
    password: Secret,
    login: Weak<Login>,
}

/// An account at an address, with a password.
#[derive(Default)]
pub(super) struct Login {
    /// Until when nobody tries it again, since it was refused. Held by whoever tries it: one at a time.
    refused: tokio::sync::Mutex<Option<Instant>>,
}

/// May try to log in; nobody else does meanwhile.
pub(super) struct Turn<'a>(MutexGuard<'a, Option<Instant>>);

impl Logins {
    /// The one of this address, account and password.
    pub(super) fn of(&self, address: &RedfishAddress) -> Arc<Login> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(address.addr).or_default();
        known.retain(|known| known.login.strong_count() > 0);
        let is_it = |known: &&Known| known.user == address.user && known.password == address.password;
        if let Some(login) = known.iter().find(is_it).and_then(|known| known.login.upgrade()) {
            return login;
        }
        let login = Arc::new(Login::default());
        let (user, password) = (address.user.clone(), address.password.clone());
        known.push(Known { user, password, login: Arc::downgrade(&login) });
        login
    }
}

impl Login {
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
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::redfish::{RedfishAddress, scripted};

    /// A chassis of eight servers, whose account's password is wrong at the node of each.
    #[tokio::test(start_paused = true)]
    async fn a_password_that_is_wrong_is_tried_once_for_all_servers_of_a_chassis() {
        let tried = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&tried);
        let hub = scripted::hub(move |request| {
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
        });
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
