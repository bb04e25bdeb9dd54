//! What the sessions of a server share: memory and threads, so much for each address and for each target.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use farrier_model::{Share, Shares};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;

/// Budgets of a server.
#[derive(Debug)]
pub(crate) struct Budget {
    discoveries: Shares<IpAddr>,
    memory: Shares<IpAddr>,
    turns: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    turns_per_address: usize,
}

/// What one target has.
#[derive(Debug)]
pub(crate) struct TargetBudget {
    memory: Shares<()>,
    turns: Arc<Semaphore>,
}

/// The budgets that one session draws on.
#[derive(Debug, Clone)]
pub(crate) struct Purse {
    address: IpAddr,
    memory: Shares<IpAddr>,
    of_target: Shares<()>,
    turns: [Arc<Semaphore>; 2],
}

/// A place for one operation on a thread; held until it is over.
pub(crate) type Turn = [OwnedSemaphorePermit; 2];

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Budget {
        Budget {
            discoveries: Shares::new(limits.discoveries, limits.discoveries_per_address),
            memory: Shares::new(limits.outstanding_crowded, limits.outstanding_share),
            turns: Mutex::default(),
            turns_per_address: limits.operations_per_address.max(1),
        }
    }

    /// A place for a discovery session.
    pub(crate) fn discovery(&self, address: IpAddr) -> Option<Share<IpAddr>> {
        self.discoveries.take(address)
    }

    /// For a session from `address` with a target.
    pub(crate) fn purse(&self, address: IpAddr, target: &TargetBudget) -> Purse {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, known| known.strong_count() > 0);
        let known = turns.get(&address).and_then(Weak::upgrade);
        let of_address = known.unwrap_or_else(|| Arc::new(Semaphore::new(self.turns_per_address)));
        turns.insert(address, Arc::downgrade(&of_address));
        Purse {
            address,
            memory: self.memory.clone(),
            of_target: target.memory.clone(),
            turns: [of_address, Arc::clone(&target.turns)],
        }
    }
}

impl TargetBudget {
    pub(crate) fn new(limits: &Limits) -> TargetBudget {
        TargetBudget {
            memory: Shares::new(limits.outstanding_crowded, 0),
            turns: Arc::new(Semaphore::new(limits.operations_per_target.max(1))),
        }
    }
}

impl Purse {
    /// Memory for one command. A first command always has it: so everybody gets on.
    pub(crate) fn memory(&self, bytes: usize) -> Option<(Share<IpAddr>, Share<()>)> {
        Some((self.memory.take_many(self.address, bytes)?, self.of_target.take_many((), bytes)?))
    }

    /// A place on a thread, if one is free.
    pub(crate) fn try_turn(&self) -> Option<Turn> {
        let [address, target] = &self.turns;
        Some([Arc::clone(address).try_acquire_owned().ok()?, Arc::clone(target).try_acquire_owned().ok()?])
    }

    /// A place on a thread, when it is this session's turn. In one order everywhere: nobody waits in a circle.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        let [address, target] = &self.turns;
        Some([
            Arc::clone(address).acquire_owned().await.ok()?,
            Arc::clone(target).acquire_owned().await.ok()?,
        ])
    }
}
