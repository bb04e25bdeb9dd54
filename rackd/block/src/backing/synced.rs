//! Syncs that are believed once: the kernel tells of a lost write a single time and takes it for written then, so that the
//! next sync succeeds. The first failure is the last word, until the file is opened again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a sync of this file failed.
#[derive(Debug, Default)]
pub(crate) struct Synced(AtomicBool);

impl Synced {
    pub(crate) fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "the disk below failed to write earlier: what it lost is not known",
            ));
        }
        sync().inspect_err(|_| self.0.store(true, Ordering::Release))
    }
}
