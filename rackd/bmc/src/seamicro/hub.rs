//! The actors of all servers in SeaMicro chassis.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::SEAMICRO;
use super::driver::SeaMicro;
use super::link::Link;
use crate::actors::Actors;
use crate::breaker::{Breaker, Breakers};
use crate::redfish::connections::Connections;
use crate::redfish::logins::Logins;
use crate::redfish::{Dial, RedfishAddress, Tuning};
use crate::{Bmc, Secret};

/// All servers of all chassis of a rack. Cheap to clone; see [`crate::redfish::RedfishHub`].
#[derive(Clone)]
pub struct SeaMicroHub {
    inner: Arc<Inner>,
}

struct Inner {
    dial: Arc<dyn Dial>,
    tuning: Tuning,
    actors: Actors<RedfishAddress, Link>,
    breakers: Breakers<(String, Secret)>,
    logins: Logins,
    connections: Arc<Connections>,
    undo: Arc<Undo>,
}

/// Boot orders to be given back once a server has been told to boot from the network once: the chassis knows no order for
/// one boot. In memory: after a restart the network stays the first until another device is set.
#[derive(Debug, Default)]
pub(super) struct Undo(Mutex<HashMap<(SocketAddr, String), String>>);

impl Undo {
    /// Looks at, or changes, what a server gets back.
    pub(super) fn with<T>(&self, of: &RedfishAddress, change: impl FnOnce(&mut Option<String>) -> T) -> T {
        // A holder that panicked left a whole map: every change is one call.
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (of.addr, of.system.clone());
        let mut order = orders.remove(&key);
        let told = change(&mut order);
        if let Some(order) = order {
            orders.insert(key, order);
        }
        told
    }
}

impl SeaMicroHub {
    /// `dial` makes the connections and knows TLS.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self::with(dial, Tuning::default())
    }

    /// As [`SeaMicroHub::new`], with other time-outs.
    #[must_use]
    pub fn with(dial: Arc<dyn Dial>, tuning: Tuning) -> Self {
        let (actors, breakers, undo) = (Actors::new(), Breakers::default(), Arc::default());
        let connections = Arc::new(Connections::new(&tuning));
        let logins = Logins::default();
        Self { inner: Arc::new(Inner { dial, tuning, actors, breakers, logins, connections, undo }) }
    }

    /// A handle for one server: `address.system` is its id, `0/0`, and goes into paths as it is; `address.driver` is not looked at. Nothing
    /// is sent yet. Handles with equal addresses share one actor. Must be called within a tokio runtime.
    #[must_use]
    pub fn bmc(&self, address: RedfishAddress) -> Bmc {
        let (addr, inner) = (address.addr, &*self.inner);
        let make = |address: Arc<RedfishAddress>| {
            let (dial, connections) = (Arc::clone(&inner.dial), Arc::clone(&inner.connections));
            let make = || Breaker::new(inner.tuning.breaker());
            let breaker = inner.breakers.of(addr, address.account(), make);
            let login = inner.logins.of(&address);
            Link::new(address, dial, inner.tuning, (login, breaker), connections, Arc::clone(&inner.undo))
        };
        let driver = Arc::new(SeaMicro::new(addr, inner.actors.way(addr, Arc::new(address), make).0));
        Bmc::new(SEAMICRO)
            .with_power(driver.clone())
            .with_boot_device(driver.clone())
            .with_identity(driver.clone())
            .with_inventory(driver.clone())
            .with_vlans(driver.clone())
            .with_volumes(driver)
    }

    /// Somebody has given the account of this chassis its password: that it was refused before counts no longer.
    pub fn forgive(&self, address: &RedfishAddress) {
        self.inner.logins.forgive(address.addr, &address.account());
        self.inner.breakers.review(address.addr, &address.account(), |breaker| {
            breaker.close();
            true
        });
    }

    /// Stops all actors and waits for them. Calls under way end with [`crate::BmcError::ShuttingDown`].
    pub async fn shutdown(&self) {
        self.inner.actors.shutdown().await;
    }
}
