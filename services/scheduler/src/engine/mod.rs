//! Drives operations: *placing → starting → running → closing → done*.
//!
//! Everything it needs is in the database; a killed scheduler goes on where it was. Each unfinished
//! operation has one driver task; a rack's reports come in through one watcher a rack.

mod close;
mod drive;
mod hold;
mod image_hold;
mod networks;
mod place;
pub(crate) mod placement;
pub(crate) mod recover;
mod secret;
mod snapshot;
pub(crate) mod spec;
mod start;
mod watch;

pub(crate) use secret::seal;

use crate::clients::Clients;
use farrier_runtime::vault::Vault;
use farrier_scheduler_store::{Store, StoreError};
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Without a nudge the database is looked at this often: for what another replica stored, and for what a
/// lost nudge left behind.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct Engine {
    store: Store,
    clients: Clients,
    vault: Arc<Vault>,
    pub(crate) shutdown: CancellationToken,
    nudged: Notify,
    /// Drivers by operation, and how to wake them.
    drivers: Mutex<HashMap<String, Arc<Notify>>>,
    /// Racks that are being watched.
    watched: Mutex<HashSet<String>>,
    tracker: TaskTracker,
}

impl Engine {
    pub(crate) fn new(
        store: Store,
        clients: Clients,
        vault: Arc<Vault>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            store,
            clients,
            vault,
            shutdown,
            nudged: Notify::new(),
            drivers: Mutex::default(),
            watched: Mutex::default(),
            tracker: TaskTracker::new(),
        }
    }

    /// Something new is stored.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Something happened to this operation.
    fn wake(&self, operation: &str) {
        if let Some(driver) = self.drivers.lock().unwrap_or_else(PoisonError::into_inner).get(operation) {
            driver.notify_one();
        }
    }

    /// Asks an operation to stop. Done ones stay done.
    pub(crate) async fn cancel(&self, operation: &str, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        self.store
            .edit(operation, |row| {
                if row.cancel.is_empty() {
                    row.cancel = reason;
                }
            })
            .await?;
        self.wake(operation);
        Ok(())
    }
}

/// Runs until shutdown, then waits for the drivers.
pub(crate) async fn run(engine: Arc<Engine>) {
    loop {
        match engine.store.unfinished().await {
            Ok(names) => {
                for name in names {
                    ensure_driver(&engine, name);
                }
            }
            Err(error) => {
                tracing::error!(error = %farrier_runtime::telemetry::chain(&error), "operations cannot be read");
            }
        }
        tokio::select! {
            () = engine.nudged.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = engine.shutdown.cancelled() => break,
        }
    }
    engine.tracker.close();
    engine.tracker.wait().await;
}

fn ensure_driver(engine: &Arc<Engine>, name: String) {
    let mut drivers = engine.drivers.lock().unwrap_or_else(PoisonError::into_inner);
    if drivers.contains_key(&name) {
        return;
    }
    let wake = Arc::new(Notify::new());
    drivers.insert(name.clone(), wake.clone());
    drop(drivers);
    let engine = engine.clone();
    engine.tracker.clone().spawn(async move {
        drive::drive(&engine, &name, &wake).await;
        engine.drivers.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        // Whatever waited behind it may go on.
        engine.wake_all_waiting();
    });
}

impl Engine {
    /// Lets every driver look again: an operation ended, and another may have waited for it.
    pub(crate) fn wake_all_waiting(&self) {
        for driver in self.drivers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            driver.notify_one();
        }
    }
}
