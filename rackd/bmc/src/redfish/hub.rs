//! The actors of all BMCs that are reached by Redfish.

use std::sync::Arc;

use super::address::RedfishAddress;
use super::dial::Dial;
use super::driver::RedfishBmc;
use super::link::Link;
use super::recognise::handle;
use super::tuning::Tuning;
use super::vendor;
use crate::Bmc;
use crate::actors::Actors;

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
        Self { inner: Arc::new(Inner { dial, tuning, actors: Actors::new() }) }
    }

    /// A handle for one BMC. Nothing is sent yet. Handles with equal addresses share one actor, so
    /// calls through them wait for each other; other credentials make another actor. Must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn bmc(&self, address: RedfishAddress) -> Bmc {
        let name = vendor::of_driver(&address.driver).driver;
        let (addr, Inner { dial, tuning, actors }) = (address.addr, &*self.inner);
        let make = |address| Link::new(address, Arc::clone(dial), *tuning);
        let mailbox = actors.mailbox(addr, Arc::new(address), make);
        handle(Arc::new(RedfishBmc::new(addr, mailbox)), name)
    }

    /// Stops all actors, lets them delete their sessions, and waits for them. Calls under way end
    /// with [`crate::BmcError::ShuttingDown`].
    pub async fn shutdown(&self) {
        self.inner.actors.shutdown().await;
    }
}
