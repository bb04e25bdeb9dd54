//! What must not outlive this process: every namespace it made, with the processes inside.
//!
//! `Drop` does the work in the normal case. A signal runs no destructors, so a program that owns a
//! rack calls [`on_signals`] once; a process killed with SIGKILL leaves its namespaces behind, and
//! the next [`crate::net::sweep`] (run by every [`crate::net::Netns::create`]) finds them.

use std::collections::BTreeSet;
use std::sync::{Mutex, Once, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static SIGNALS: Once = Once::new();

/// Takes SIGINT, SIGTERM and SIGHUP (a terminal that is closed) over, for the whole process: they remove every namespace made here,
/// end what runs inside, then end the process with 128 + the signal's number.
///
/// For tests and demos, not for programs that have their own graceful end. Later calls do nothing.
pub fn on_signals() {
    SIGNALS.call_once(|| {
        let spawned = std::thread::Builder::new().name("lab-signals".into()).spawn(wait_for_signal);
        if let Err(error) = spawned {
            tracing::warn!(%error, "ctrl-c will leave namespaces behind");
        }
    });
}

/// Removes every namespace made by this process that is still there.
pub fn remove_all() {
    let names: Vec<String> = live().iter().cloned().collect();
    for name in names {
        crate::net::remove(&name);
    }
}

pub(crate) fn register(name: &str) {
    live().insert(name.to_owned());
}

pub(crate) fn forget(name: &str) {
    live().remove(name);
}

fn live() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    // A panic elsewhere does not spoil a set of names.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_for_signal() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let code = runtime.block_on(async {
        let wanted = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let [Ok(mut int), Ok(mut term), Ok(mut hup)] = wanted else { return None };
        Some(tokio::select! {
            _ = int.recv() => 130,
            _ = term.recv() => 143,
            _ = hup.recv() => 129,
        })
    });
    if let Some(code) = code {
        remove_all();
        std::process::exit(code);
    }
}
