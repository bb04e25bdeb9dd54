//! The actors of all BMCs that are reached by Redfish.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::RedfishAddress;
use super::dial::Dial;
use super::driver::RedfishBmc;
use super::link::Link;
use super::recognise::handle;
use super::tuning::Tuning;
use super::vendor;
use super::worked::Worked;
use crate::actor::{self, Job, Line as _, MAILBOX, forget_ended};
use crate::coalesce::Coalesced;
use crate::{Bmc, PowerState};

/// All BMCs of a rack. Cheap to clone. When the last clone is dropped the actors stop;
/// [`RedfishHub::shutdown`] also waits until they have deleted their sessions.
#[derive(Clone)]
pub struct RedfishHub {
    inner: Arc<Inner>,
}

struct Inner {
    dial: Arc<dyn Dial>,
    tuning: Tuning,
    actors: Arc<Mutex<Actors>>,
    worked: Arc<Worked>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The way to an actor, and the reads of the power that wait for it.
pub(super) type Way = (mpsc::Sender<Job<Link>>, Arc<Coalesced<PowerState>>);
type Actors = HashMap<SocketAddr, Vec<Known>>;

struct Known {
    address: Arc<RedfishAddress>,
    mailbox: mpsc::WeakSender<Job<Link>>,
    reads: Arc<Coalesced<PowerState>>,
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
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (actors, worked) = (Arc::default(), Arc::default());
        let places = Arc::new(Semaphore::new(tuning.max_connections));
        Self { inner: Arc::new(Inner { dial, tuning, actors, worked, places, stop, tasks }) }
    }

    /// A handle for one BMC. Nothing is sent yet. Handles with equal addresses share one actor, so
    /// calls through them wait for each other; other credentials make another actor. Must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn bmc(&self, address: RedfishAddress) -> Bmc {
        let name = vendor::of_driver(&address.driver).driver;
        handle(Arc::new(RedfishBmc::new(address.addr, self.mailbox(Arc::new(address)))), name)
    }

    /// Stops all actors, lets them delete their sessions, and waits for them. Calls under way end
    /// with [`crate::BmcError::ShuttingDown`].
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn mailbox(&self, address: Arc<RedfishAddress>) -> Way {
        // The map stays consistent even if a holder panicked: every change is one call.
        let mut actors = self.inner.actors.lock().unwrap_or_else(PoisonError::into_inner);
        let known = actors.entry(address.addr).or_default();
        known.retain(|known| known.mailbox.strong_count() > 0);
        let found = known.iter().find(|known| known.address == address);
        if let Some(way) = found.and_then(|known| Some((known.mailbox.upgrade()?, Arc::clone(&known.reads))))
        {
            return way;
        }
        let reads = Arc::default();
        let (mailbox, jobs) = mpsc::channel(MAILBOX);
        let kept = Arc::clone(&reads);
        known.push(Known { address: Arc::clone(&address), mailbox: mailbox.downgrade(), reads: kept });
        let (dial, worked) = (Arc::clone(&self.inner.dial), Arc::clone(&self.inner.worked));
        let places = Arc::clone(&self.inner.places);
        let link = Link::new(address, dial, self.inner.tuning, worked, places);
        let (addr, stop) = (link.addr(), self.inner.stop.clone());
        let all = Arc::clone(&self.inner.actors);
        self.inner.tasks.spawn(async move {
            actor::run(link, jobs, stop).await;
            let mut actors = all.lock().unwrap_or_else(PoisonError::into_inner);
            forget_ended(&mut actors, addr, |known| known.mailbox.strong_count() > 0);
        });
        (mailbox, reads)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
