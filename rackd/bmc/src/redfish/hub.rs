//! The actors of all BMCs that are reached by Redfish.

use std::sync::Arc;

use super::address::RedfishAddress;
use super::connections::Connections;
use super::console_login::{ConsoleLogin, ConsoleLogins};
use super::dial::Dial;
use super::driver::RedfishBmc;
use super::link::Link;
use super::logins::Logins;
use super::recognise::handle;
use super::tuning::Tuning;
use super::vendor;
use super::worked::Worked;
use crate::actors::Actors;
use crate::breaker::{Breaker, Breakers};
use crate::ssh::Ssh;
use crate::{Bmc, Secret};

/// All BMCs of a rack. Cheap to clone. When the last clone is dropped the actors stop;
/// [`RedfishHub::shutdown`] also waits until they have deleted their sessions.
#[derive(Clone)]
pub struct RedfishHub {
    inner: Arc<Inner>,
}

struct Inner {
    dial: Arc<dyn Dial>,
    tuning: Tuning,
    actors: Actors<RedfishAddress, Link>,
    worked: Arc<Worked>,
    logins: Arc<Logins>,
    breakers: Breakers<(String, Secret)>,
    /// Of consoles over SSH.
    consoles: ConsoleLogins,
    connections: Arc<Connections>,
    ssh: Option<Ssh>,
}

impl RedfishHub {
    /// `dial` makes the connections and knows TLS.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self::with(dial, Tuning::default())
    }

    /// As [`RedfishHub::new`], with other time-outs.
    #[must_use]
    pub fn with(dial: Arc<dyn Dial>, tuning: Tuning) -> Self {
        Self::with_ssh(dial, tuning, None)
    }

    /// As [`RedfishHub::with`], with consoles over SSH; `None`: without.
    #[must_use]
    pub fn with_ssh(dial: Arc<dyn Dial>, tuning: Tuning, ssh: Option<Ssh>) -> Self {
        let (actors, worked) = (Actors::new(), Arc::default());
        let connections = Arc::new(Connections::new(&tuning));
        let (logins, breakers, consoles) = (Arc::default(), Breakers::default(), ConsoleLogins::default());
        Self {
            inner: Arc::new(Inner {
                dial,
                tuning,
                actors,
                worked,
                logins,
                breakers,
                consoles,
                connections,
                ssh,
            }),
        }
    }

    /// A handle for one BMC. Nothing is sent yet. Handles with equal addresses share one actor, so
    /// calls through them wait for each other; other credentials make another actor. Must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn bmc(&self, address: RedfishAddress) -> Bmc {
        let name = vendor::of_driver(&address.driver).driver;
        let (addr, inner) = (address.addr, &*self.inner);
        let make = |address: Arc<RedfishAddress>| {
            let (dial, worked) = (Arc::clone(&inner.dial), Arc::clone(&inner.worked));
            let logins = Arc::clone(&inner.logins);
            let make = || Breaker::new(inner.tuning.breaker());
            let breaker = inner.breakers.of(addr, address.account(), make);
            Link::new(address, dial, inner.tuning, worked, logins, breaker, Arc::clone(&inner.connections))
        };
        let address = Arc::new(address);
        let way = inner.actors.way(addr, Arc::clone(&address), make);
        let ssh = inner.ssh.clone().map(|ssh| {
            let make = || ConsoleLogin::new(inner.tuning.breaker());
            let login = inner.consoles.of(addr, address.account(), make);
            (address, ssh, login)
        });
        handle(Arc::new(RedfishBmc::new(addr, way, ssh)), name)
    }

    /// Somebody has given the account of this address its password, perhaps by another way than Redfish: that it was refused
    /// before counts no longer.
    pub fn forgive(&self, address: &RedfishAddress) {
        self.inner.logins.forgive(address.addr, &address.account());
        let (addr, account) = (address.addr, address.account());
        let close = |breaker: &Breaker| {
            breaker.close();
            true
        };
        self.inner.breakers.review(addr, &account, close);
        self.inner.consoles.review(addr, &account, |login| close(login.breaker()));
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> &Connections {
        &self.inner.connections
    }

    /// Stops all actors, lets them delete their sessions, and waits for them. Calls under way end
    /// with [`crate::BmcError::ShuttingDown`].
    pub async fn shutdown(&self) {
        if let Some(ssh) = &self.inner.ssh {
            ssh.shutdown().await;
        }
        self.inner.actors.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::redfish::scripted;
    use crate::{BmcError, Deadline};

    /// Each system's node asks by a handle of its own, which is gone before the next.
    #[tokio::test(start_paused = true)]
    async fn a_bmc_that_is_dead_is_dead_to_all_its_systems_and_whoever_asks_next() {
        let hub = scripted::hub(|_| None);
        let ask = async |system: &str| {
            let bmc = hub.bmc(RedfishAddress { system: system.to_owned(), ..scripted::address() });
            bmc.power_status(Deadline::after(Duration::from_secs(25))).await.unwrap_err()
        };
        for system in ["1", "2", "3"] {
            let seen = ask(system).await;
            assert!(!matches!(seen, BmcError::CircuitOpen { .. }), "{system}: {seen:?}");
        }
        let seen = ask("4").await;
        assert!(matches!(seen, BmcError::CircuitOpen { failures: 3, .. }), "{seen:?}");
        hub.forgive(&scripted::address());
        let seen = ask("4").await;
        assert!(!matches!(seen, BmcError::CircuitOpen { .. }), "{seen:?}");
        hub.shutdown().await;
    }
}
