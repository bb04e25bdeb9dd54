//! Which BMCs have worked, since this program began: what one of them says while it restarts is not believed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// One of these for a hub: whoever asks a BMC next is often not the one who asked it before.
#[derive(Debug, Default)]
pub(super) struct Worked(Mutex<HashSet<SocketAddr>>);

impl Worked {
    pub(super) fn add(&self, addr: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(addr);
    }

    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&addr)
    }
}
