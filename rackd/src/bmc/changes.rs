//! BMCs that somebody changes by hand: no work on their machines begins meanwhile, which would find them half changed, or change
//! them back.
//!
//! A change begins, and work on its machine looks for one, in a turn of [`crate::tasks::Tasks::turn`], as with
//! [`super::Moves`]: of the two that come together one sees the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are under way, by node: the BMC takes them one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Arc<Mutex<HashMap<String, u32>>>);

/// A change under way; dropped, it is over.
#[derive(Debug)]
pub(crate) struct Changing {
    changes: Changes,
    node: String,
}

impl Changes {
    pub(crate) fn begin(&self, node: &str) -> Changing {
        *self.all().entry(node.to_owned()).or_default() += 1;
        Changing { changes: self.clone(), node: node.to_owned() }
    }

    /// Why work on a node waits; `None`: it need not.
    pub(crate) fn keeps_waiting(&self, node: &str) -> Option<String> {
        self.all()
            .contains_key(node)
            .then(|| format!("somebody is changing what the BMC of {node} is set to"))
    }

    /// Every change of it is one call.
    fn all(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut all = self.changes.all();
        if let Some(under_way) = all.get_mut(&self.node) {
            *under_way -= 1;
            if *under_way == 0 {
                all.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_for_the_last_of_several() {
        let changes = Changes::default();
        let waits = |node: &str| changes.keeps_waiting(node).is_some();
        let (first, second) = (changes.begin("nodes/n1"), changes.begin("nodes/n1"));
        assert!(waits("nodes/n1") && !waits("nodes/n2"));
        drop(first);
        assert!(waits("nodes/n1"));
        drop(second);
        assert!(!waits("nodes/n1") && changes.all().is_empty());
    }
}
