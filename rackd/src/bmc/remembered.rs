//! Which driver worked for which node, on disk: after a restart `auto` asks the right one first.
//!
//! A memory only: without it, or with an old one, each BMC is found again.

use farrier_bmc::Auto;
use farrier_bmc::redfish::DRIVERS;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file and what is to be written into it.
pub(super) struct Remembered {
    path: PathBuf,
    pub(super) auto: Auto,
    /// Changes so far, and those of them that the file has.
    changes: AtomicU64,
    writing: tokio::sync::Mutex<u64>,
}

impl Remembered {
    pub(super) fn open(path: PathBuf) -> Self {
        let worked = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "which bmc drivers worked is forgotten");
            }
            Vec::new()
        });
        Self {
            path,
            auto: Auto::knowing(worked),
            changes: AtomicU64::new(0),
            writing: tokio::sync::Mutex::new(0),
        }
    }

    /// Something is remembered that was not. Writes the file, once for all that changed while it waited.
    pub(super) fn changed(self: &Arc<Self>) {
        let change = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut written = this.writing.lock().await;
            if *written >= change {
                return;
            }
            let upto = this.changes.load(Ordering::Relaxed);
            let (path, worked) = (this.path.clone(), this.auto.all());
            let write = tokio::task::spawn_blocking(move || write(&path, worked.into_iter().collect()));
            match write.await.map_err(io::Error::other).flatten() {
                Ok(()) => *written = upto,
                Err(error) => tracing::warn!(%error, "which bmc drivers work cannot be written down"),
            }
        });
    }
}

const IPMI: &str = "ipmi";

fn read(path: &Path) -> io::Result<Vec<(String, &'static str)>> {
    let worked: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(path)?)?;
    let known = |driver: &str| [IPMI].iter().chain(DRIVERS).copied().find(|known| *known == driver);
    Ok(worked.into_iter().filter_map(|(node, driver)| Some((node, known(&driver)?))).collect())
}

fn write(path: &Path, worked: BTreeMap<String, &'static str>) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    let mut file = std::fs::File::create(&tmp)?;
    file.write_all(&serde_json::to_vec(&worked)?)?;
    // Not synced: a memory that a crash takes costs a question.
    std::fs::rename(tmp, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_and_rubbish_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bmc-drivers.json");
        write(&path, BTreeMap::from([("n1".to_owned(), "ipmi"), ("n2".to_owned(), "redfish")])).unwrap();
        let auto = Remembered::open(path.clone()).auto;
        assert_eq!((auto.worked("n1"), auto.worked("n2")), (Some("ipmi"), Some("redfish")));
        std::fs::write(&path, br#"{"n1": "telepathy", "n2": "ipmi"}"#).unwrap();
        let auto = Remembered::open(path.clone()).auto;
        assert_eq!((auto.worked("n1"), auto.worked("n2")), (None, Some("ipmi")));
        std::fs::write(&path, b"[").unwrap();
        assert_eq!(Remembered::open(path).auto.worked("n2"), None);
    }
}
