//! Which nodes were given their boot script, for whoever renews what is in it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Not a channel: whoever falls behind finds each node once, and loses none. As large as the table, at most.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    given: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Scripts {
    pub(crate) fn note(&self, node: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned());
        self.more.notify_one();
    }

    /// Those since the last call, at least one. Nothing is lost when the future is dropped.
    pub(crate) async fn given(&self) -> BTreeSet<String> {
        loop {
            let given = std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
            if !given.is_empty() {
                return given;
            }
            self.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_storm_of_scripts_loses_no_node() {
        let scripts = Scripts::default();
        for n in 0..5000 {
            scripts.note(&format!("node-{}", n % 1000));
        }
        assert_eq!(scripts.given().await.len(), 1000);
        let (given, ()) = tokio::join!(scripts.given(), async { scripts.note("late") });
        assert_eq!(given, BTreeSet::from(["late".to_owned()]));
    }
}
