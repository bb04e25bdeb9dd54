//! BMCs that have spoken cipher suite 17: with them nobody falls back to suite 3. A datagram that is lost, or that somebody in
//! between forges (an Open Session Response has no MAC, IPMI 2.0 §13.18), would otherwise choose SHA-1 for us.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use farrier_ipmi::CipherSuite;

use super::address::Cipher;

/// By the BMC's address and port. It outlives actors and sessions; whoever wants it to outlive the process keeps
/// [`Pins::all`] and gives it back.
pub struct Pins {
    known: Mutex<HashSet<SocketAddr>>,
    changed: Box<dyn Fn() + Send + Sync>,
}

impl Pins {
    /// `known` have spoken it before. `changed` is called, within a runtime, after each change; it must not wait.
    #[must_use]
    pub fn new(
        known: impl IntoIterator<Item = SocketAddr>,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { known: Mutex::new(known.into_iter().take(MOST).collect()), changed: Box::new(changed) }
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.known().iter().copied().collect();
        all.sort_unstable();
        all
    }

    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.known().contains(&addr)
    }

    /// A session was opened. Whoever has asked for suite 3 by its number knows that the BMC is another one, or has other firmware.
    pub fn worked(&self, addr: SocketAddr, suite: CipherSuite, asked: Cipher) {
        let mut known = self.known();
        let is_new = match (suite, asked) {
            (CipherSuite::Suite17, _) => known.len() < MOST && known.insert(addr),
            (CipherSuite::Suite3, Cipher::Fixed(_)) => known.remove(&addr),
            (CipherSuite::Suite3, Cipher::Auto) => false,
        };
        drop(known);
        if is_new {
            (self.changed)();
        }
    }

    /// Every change is one call.
    fn known(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Pins {
    fn default() -> Self {
        Self::new([], || ())
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pins").field(&self.known().len()).finish()
    }
}

/// More BMCs than any rack has.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn suite_17_is_kept_until_somebody_asks_for_3_by_its_number() {
        let changes = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&changes);
        let pins = Pins::new([], move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let addr = ([192, 0, 2, 1], 623).into();
        let worked = |suite, asked| {
            pins.worked(addr, suite, asked);
            (pins.has(addr), changes.load(Ordering::Relaxed))
        };
        assert_eq!(worked(CipherSuite::Suite3, Cipher::Auto), (false, 0));
        assert_eq!(worked(CipherSuite::Suite17, Cipher::Auto), (true, 1));
        assert_eq!(worked(CipherSuite::Suite17, Cipher::Fixed(CipherSuite::Suite17)), (true, 1));
        assert_eq!(pins.all(), [addr]);
        assert_eq!(worked(CipherSuite::Suite3, Cipher::Fixed(CipherSuite::Suite3)), (false, 2));
    }
}
