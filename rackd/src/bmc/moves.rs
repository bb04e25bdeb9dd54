//! BMCs on their way to another address: no work on their machines begins meanwhile, and none afterwards by somebody who does not
//! know yet where they are.
//!
//! A move begins, and work on its machine looks for one, in a turn of [`crate::tasks::Tasks::turn`]: neither slips in between the
//! other's look and its beginning.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// From the end of a move until its node says where the BMC is; then work goes wrong and says so.
const FOLLOWS: Duration = Duration::from_secs(60);

/// By node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moves(Arc<Mutex<HashMap<String, Move>>>);

#[derive(Debug)]
enum Move {
    UnderWay,
    Over { from: String, to: String, until: Instant },
}

/// A move under way; dropped, it is over.
#[derive(Debug)]
pub(crate) struct Moving {
    moves: Moves,
    node: String,
}

impl Moves {
    /// `None`: it is on its way already.
    pub(crate) fn begin(&self, node: &str) -> Option<Moving> {
        let (mut all, now) = (self.all(), Instant::now());
        all.retain(|_, one| match one {
            Move::UnderWay => true,
            Move::Over { until, .. } => now < *until,
        });
        if matches!(all.get(node), Some(Move::UnderWay)) {
            return None;
        }
        all.insert(node.to_owned(), Move::UnderWay);
        Some(Moving { moves: self.clone(), node: node.to_owned() })
    }

    /// Why work on a node whose BMC is said to be at `address` waits; `None`: it need not.
    pub(crate) fn keeps_waiting(&self, node: &str, address: &str) -> Option<String> {
        match self.all().get(node)? {
            Move::UnderWay => Some(format!("the BMC of {node} is on its way to another address")),
            Move::Over { from, to, until } if from == address && Instant::now() < *until => {
                Some(format!("the BMC of {node} has moved to {to}, and the node does not say so yet"))
            }
            Move::Over { .. } => None,
        }
    }

    /// Every change is one call.
    fn all(&self) -> MutexGuard<'_, HashMap<String, Move>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moving {
    /// It was at `from`, as the node says it, and answers at `to`.
    pub(crate) fn went(self, from: &str, to: &str) {
        let over = Move::Over { from: from.to_owned(), to: to.to_owned(), until: Instant::now() + FOLLOWS };
        self.moves.all().insert(self.node.clone(), over);
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let mut all = self.moves.all();
        if matches!(all.get(&self.node), Some(Move::UnderWay)) {
            all.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_waits_until_the_node_says_where_its_bmc_is_and_no_longer_than_that() {
        let moves = Moves::default();
        let waits = |address: &str| moves.keeps_waiting("nodes/n1", address);
        assert_eq!(waits("10.0.0.1"), None);
        let moving = moves.begin("nodes/n1").unwrap();
        assert!(moves.begin("nodes/n1").is_none() && moves.begin("nodes/n2").is_some());
        assert!(waits("10.0.0.1").unwrap().contains("on its way"));
        moving.went("10.0.0.1", "10.0.0.2");
        assert!(waits("10.0.0.1").unwrap().contains("moved to 10.0.0.2"));
        assert_eq!(waits("10.0.0.2"), None, "the node has followed");
        tokio::time::advance(FOLLOWS).await;
        assert_eq!(waits("10.0.0.1"), None);
        // One that came to nothing leaves nothing.
        drop(moves.begin("nodes/n1"));
        assert_eq!(waits("10.0.0.1"), None);
    }
}
