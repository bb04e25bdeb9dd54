//! What was found out about BMCs, on disk: after a restart `auto` asks the right driver first, and a BMC that has spoken cipher
//! suite 17 is not asked with a weaker one.
//!
//! A memory only: without it, or with an old one, each BMC is found again.

use farrier_bmc::Auto;
use farrier_bmc::ipmi::Pins;
use farrier_bmc::redfish::DRIVERS;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What is known, and the files that have it.
pub(super) struct Remembered {
    pub(super) auto: Arc<Auto>,
    pub(super) pins: Arc<Pins>,
    drivers: Arc<Kept>,
}

impl Remembered {
    /// In files of `data`.
    pub(super) fn open(data: &Path) -> Self {
        let drivers = Kept::new(data.join("bmc-drivers.json"));
        let worked = drivers.read(workers);
        let suites = Kept::new(data.join("bmc-cipher-suites.json"));
        let strong: Vec<SocketAddr> = suites.read(|bytes| Ok(serde_json::from_slice(bytes)?));
        let pins = Arc::new_cyclic(|pins: &Weak<Pins>| {
            let pins = pins.clone();
            Pins::new(strong, move || {
                if let Some(pins) = pins.upgrade() {
                    suites.changed(move || Ok(serde_json::to_vec(&pins.all())?));
                }
            })
        });
        Self { auto: Arc::new(Auto::knowing(worked)), pins, drivers }
    }

    /// `auto` has found out what it did not know.
    pub(super) fn driver_changed(&self) {
        let auto = Arc::clone(&self.auto);
        self.drivers.changed(move || {
            let worked: BTreeMap<String, &str> = auto.all().into_iter().collect();
            Ok(serde_json::to_vec(&worked)?)
        });
    }
}

/// A file, and what of the changes it has.
struct Kept {
    path: PathBuf,
    changes: AtomicU64,
    /// Of the changes those that are written.
    writing: tokio::sync::Mutex<u64>,
}

impl Kept {
    fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, changes: AtomicU64::new(0), writing: tokio::sync::Mutex::new(0) })
    }

    fn read<T: Default>(&self, parse: impl FnOnce(&[u8]) -> io::Result<T>) -> T {
        let read = std::fs::read(&self.path).and_then(|bytes| parse(&bytes));
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %self.path.display(), %error, "what was found out about bmcs is forgotten");
            }
            T::default()
        })
    }

    /// Writes the file, once for all that changed while it waited.
    fn changed(self: &Arc<Self>, now: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) {
        let change = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut written = this.writing.lock().await;
            if *written >= change {
                return;
            }
            let upto = this.changes.load(Ordering::Relaxed);
            let path = this.path.clone();
            let write = tokio::task::spawn_blocking(move || write(&path, &now()?));
            match write.await.map_err(io::Error::other).flatten() {
                Ok(()) => *written = upto,
                Err(error) => {
                    tracing::warn!(path = %this.path.display(), %error, "what was found out about bmcs cannot be written down");
                }
            }
        });
    }
}

const IPMI: &str = "ipmi";

/// By node; a driver that nobody knows is none.
fn workers(bytes: &[u8]) -> io::Result<Vec<(String, &'static str)>> {
    let worked: BTreeMap<String, String> = serde_json::from_slice(bytes)?;
    let known = |driver: &str| [IPMI].iter().chain(DRIVERS).copied().find(|known| *known == driver);
    Ok(worked.into_iter().filter_map(|(node, driver)| Some((node, known(&driver)?))).collect())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    let mut file = std::fs::File::create(&tmp)?;
    file.write_all(bytes)?;
    // Once a BMC: a pin that a crash takes would be found anew by whoever answers first.
    file.sync_data()?;
    std::fs::rename(tmp, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_bmc::CipherSuite;
    use farrier_bmc::ipmi::Cipher;

    #[test]
    fn what_was_written_is_known_and_rubbish_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bmc-drivers.json");
        write(&path, br#"{"n1": "ipmi", "n2": "redfish"}"#).unwrap();
        let worked = |node| Remembered::open(dir.path()).auto.worked(node);
        assert_eq!((worked("n1"), worked("n2")), (Some("ipmi"), Some("redfish")));
        std::fs::write(&path, br#"{"n1": "telepathy", "n2": "ipmi"}"#).unwrap();
        assert_eq!((worked("n1"), worked("n2")), (None, Some("ipmi")));
        std::fs::write(&path, b"[").unwrap();
        assert_eq!(worked("n2"), None);
    }

    /// Until the file says so.
    async fn written(path: &Path, expected: &str) {
        while std::fs::read_to_string(path).ok().as_deref() != Some(expected) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_bmc_that_has_spoken_suite_17_is_known_by_the_next_rackd() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bmc-cipher-suites.json");
        let addr = ([192, 0, 2, 1], 623).into();
        Remembered::open(dir.path()).pins.worked(addr, CipherSuite::Suite17, Cipher::Auto);
        // Nobody holds the first any more: the change is written all the same.
        written(&path, r#"["192.0.2.1:623"]"#).await;
        let next = Remembered::open(dir.path());
        assert_eq!(next.pins.all(), [addr]);
        next.pins.worked(addr, CipherSuite::Suite3, Cipher::Fixed(CipherSuite::Suite3));
        written(&path, "[]").await;
    }
}
