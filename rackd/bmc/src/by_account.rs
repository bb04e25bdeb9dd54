//! What is known of an account at a BMC, whoever asks by whichever handle: the servers of a chassis share it, and it outlives
//! them all for as long as it says something. Who asks next is often not the one who asked before.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Says whether it is still worth knowing when nobody uses it.
pub(crate) trait Lasts {
    fn lasts(&self) -> bool;
}

/// One of these for a hub. `K`: the account, and what opens it.
pub(crate) struct ByAccount<K, T>(Mutex<Table<K, T>>);

struct Table<K, T> {
    known: HashMap<SocketAddr, Vec<Known<K, T>>>,
    /// When it was last walked.
    swept: Option<Instant>,
}

struct Known<K, T> {
    account: K,
    what: Arc<T>,
}

impl<K, T> Default for ByAccount<K, T> {
    fn default() -> Self {
        Self(Mutex::new(Table { known: HashMap::new(), swept: None }))
    }
}

impl<K: PartialEq, T: Lasts> ByAccount<K, T> {
    /// What is known, or what `make` makes.
    pub(crate) fn of(&self, addr: SocketAddr, account: K, make: impl FnOnce() -> T) -> Arc<T> {
        let mut table = self.table();
        table.sweep();
        let known = table.known.entry(addr).or_default();
        known.retain(Known::is_worth_keeping);
        if let Some(known) = known.iter().find(|known| known.account == account) {
            return Arc::clone(&known.what);
        }
        // The oldest makes room: what handles use stays.
        if known.len() >= MOST
            && let Some(oldest) = known.iter().position(|known| !known.is_used())
        {
            known.remove(oldest);
        }
        let what = Arc::new(make());
        known.push(Known { account, what: Arc::clone(&what) });
        what
    }

    /// Looks at what is known of an account; where `keep` says no, whoever comes later begins anew.
    pub(crate) fn review(&self, addr: SocketAddr, account: &K, keep: impl Fn(&T) -> bool) {
        if let Some(known) = self.table().known.get_mut(&addr) {
            known.retain(|known| known.account != *account || keep(&known.what));
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table().known.values().map(Vec::len).sum()
    }

    /// The map stays consistent even if a holder panicked: every change is one call.
    fn table(&self) -> MutexGuard<'_, Table<K, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T: Lasts> Table<K, T> {
    /// No secret stays for long because nobody asks its BMC again.
    fn sweep(&mut self) {
        let now = Instant::now();
        if self.swept.is_some_and(|at| now < at + SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.known.retain(|_, known| {
            known.retain(Known::is_worth_keeping);
            !known.is_empty()
        });
    }
}

impl<K, T: Lasts> Known<K, T> {
    /// By a handle: nobody but the table gives it away, under its lock.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.what) > 1
    }

    fn is_worth_keeping(&self) -> bool {
        self.is_used() || self.what.lasts()
    }
}

/// Accounts that are known at an address, but for those in use: somebody who guesses does not fill the memory.
pub(crate) const MOST: usize = 32;

/// Between two walks of all addresses.
const SWEEP: Duration = Duration::from_secs(60);
