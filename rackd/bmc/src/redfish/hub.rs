//! The actors of all BMCs that are reached by Redfish.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::address::RedfishAddress;
use super::dial::Dial;
use super::driver::RedfishBmc;
use super::link::Link;
use super::logins::Logins;
use super::recognise::handle;
use super::tuning::Tuning;
use super::vendor;
use super::worked::Worked;
use crate::Bmc;
use crate::actors::Actors;
use crate::ssh::Ssh;

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
    places: Arc<Semaphore>,
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
        let places = Arc::new(Semaphore::new(tuning.max_connections));
        let logins = Arc::default();
        Self { inner: Arc::new(Inner { dial, tuning, actors, worked, logins, places, ssh }) }
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
            Link::new(address, dial, inner.tuning, worked, logins, Arc::clone(&inner.places))
        };
        let address = Arc::new(address);
        let way = inner.actors.way(addr, Arc::clone(&address), make);
        let ssh = inner.ssh.clone().map(|ssh| (address, ssh));
        handle(Arc::new(RedfishBmc::new(addr, way, ssh)), name)
    }

    /// Somebody has given the account of this address its password, perhaps by another way than Redfish: that it was refused
    /// before counts no longer.
    pub fn forgive(&self, address: &RedfishAddress) {
        self.inner.logins.forgive(address.addr, &address.user, &address.password);
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
