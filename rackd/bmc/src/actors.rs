//! The actors of all BMCs that one driver reaches: one a BMC, made when it is asked for and gone with its last handle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actor::{self, Job, Line, MAILBOX, forget_ended};
use crate::coalesce::Reads;
use crate::either::Absent;

type Table<A, L> = HashMap<SocketAddr, Vec<Known<A, L>>>;

/// `A` says all about a BMC: handles of equal ones share an actor.
pub(crate) struct Actors<A, L: Line> {
    known: Arc<Mutex<Table<A, L>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Known<A, L> {
    address: Arc<A>,
    mailbox: mpsc::WeakSender<Job<L>>,
    kept: Kept,
}

/// What all handles of a BMC share beside its actor. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// Reads that wait for the actor.
    pub(crate) reads: Arc<Reads>,
    pub(crate) absent: Arc<Absent>,
}

/// The way to an actor.
pub(crate) type Way<L> = (mpsc::Sender<Job<L>>, Kept);

impl<A: PartialEq + Send + Sync + 'static, L: Line> Actors<A, L> {
    pub(crate) fn new() -> Self {
        Self { known: Arc::default(), stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// The way to a BMC's actor; where there is none, one is started on a line that `make` makes.
    pub(crate) fn way(&self, addr: SocketAddr, address: Arc<A>, make: impl FnOnce(Arc<A>) -> L) -> Way<L> {
        // The map stays consistent even if a holder panicked: every change is one call.
        let mut actors = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = actors.entry(addr).or_default();
        known.retain(|known| known.mailbox.strong_count() > 0);
        let found = known.iter().find(|known| known.address == address);
        let found = found.and_then(|known| Some((known.mailbox.upgrade()?, known.kept.clone())));
        if let Some(way) = found {
            return way;
        }
        let (mailbox, jobs) = mpsc::channel(MAILBOX);
        let kept = Kept::default();
        let (weak, shared) = (mailbox.downgrade(), kept.clone());
        known.push(Known { address: Arc::clone(&address), mailbox: weak, kept: shared });
        let (line, stop, all) = (Box::new(make(address)), self.stop.clone(), Arc::clone(&self.known));
        self.tasks.spawn(async move {
            actor::run(line, jobs, stop).await;
            let mut actors = all.lock().unwrap_or_else(PoisonError::into_inner);
            forget_ended(&mut actors, addr, |known| known.mailbox.strong_count() > 0);
        });
        (mailbox, kept)
    }

    /// Stops all actors, lets them close their sessions, and waits for them. Calls under way end with
    /// [`crate::BmcError::ShuttingDown`].
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl<A, L: Line> Drop for Actors<A, L> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
