//! Making room: images that nothing needs go, the one that was not used for longest first.

use super::{ImageCache, MANIFEST, MARKS, PART, Slot, WHOLE, blocking};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use tokio::sync::Mutex;

/// How much the cache may take of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of all images; more only as long as they are needed.
    pub(crate) most: u64,
    /// Bytes that are to stay free on its disk.
    pub(crate) free: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { most: u64::MAX, free: 4 << 30 }
    }
}

/// An image in the cache, whole or not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    digest: String,
    bytes: u64,
    used: SystemTime,
}

impl ImageCache {
    /// Removes images until there is room, or only those are left that somebody needs. `needed`: digests of those, asked only
    /// when there is no room. It may take long, and meanwhile images are opened as ever: those stay. Returns what went.
    pub(crate) async fn make_room<E>(
        &self,
        needed: impl Future<Output = Result<HashSet<String>, E>>,
    ) -> Result<Vec<String>, EvictError<E>> {
        // Who is wanted from here on may be needed by one that is asked too early to say so.
        self.images.lock().await.wanted.clear();
        let coming = self.coming.swap(0, Ordering::AcqRel);
        let dir = self.dir.clone();
        let probe = self.free;
        let (kept, free) = blocking(move || Ok((kept(&dir)?, probe(&dir)?))).await?;
        if too_much(&kept, free, coming, self.room) == 0 {
            return Ok(Vec::new());
        }
        let needed = needed.await.map_err(EvictError::Needed)?;
        // Held: whoever wants one of these waits, and fetches it anew.
        let mut images = self.images.lock().await;
        let free_to_go = |kept: &Kept| {
            let is_idle = |slot: &Arc<Mutex<Slot>>| slot.try_lock().is_ok_and(|slot| slot.is_idle());
            !needed.contains(&kept.digest)
                && !images.wanted.contains(&kept.digest)
                && images.slots.get(&kept.digest).is_none_or(is_idle)
        };
        let gone = choose(&kept, free, coming, self.room, free_to_go);
        for digest in &gone {
            images.slots.remove(digest);
            let files: Vec<PathBuf> =
                [WHOLE, PART, MARKS, MANIFEST].iter().filter_map(|kind| self.file(digest, kind)).collect();
            blocking(move || files.iter().try_for_each(|path| remove(path))).await?;
            tracing::info!(manifest = %digest, "image removed from the cache: nothing needs it, and its room is needed");
        }
        Ok(gone)
    }
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvictError<E> {
    #[error("the image cache cannot be looked at")]
    Io(#[from] io::Error),
    #[error("what is needed of the image cache is not known")]
    Needed(#[source] E),
}

/// Bytes that are too many, with those that are about to come.
fn too_much(kept: &[Kept], free: u64, coming: u64, room: Room) -> u64 {
    let all: u64 = kept.iter().map(|kept| kept.bytes).sum();
    let above = all.saturating_add(coming).saturating_sub(room.most);
    above.max(room.free.saturating_add(coming).saturating_sub(free))
}

/// Which images go.
fn choose(kept: &[Kept], free: u64, coming: u64, room: Room, may_go: impl Fn(&Kept) -> bool) -> Vec<String> {
    let mut left = too_much(kept, free, coming, room);
    let mut oldest: Vec<&Kept> = kept.iter().filter(|kept| may_go(kept)).collect();
    oldest.sort_by_key(|kept| kept.used);
    let mut gone = Vec::new();
    for kept in oldest {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(kept.bytes);
        gone.push(kept.digest.clone());
    }
    gone
}

/// What is in the directory.
fn kept(dir: &Path) -> io::Result<Vec<Kept>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found: BTreeMap<String, Kept> = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let (Some(digest), Some(kind)) = (
            path.file_stem().and_then(|stem| stem.to_str()),
            path.extension().and_then(|extension| extension.to_str()),
        ) else {
            continue;
        };
        if ![WHOLE, PART, MARKS, MANIFEST].contains(&kind) {
            continue;
        }
        let Ok(about) = entry.metadata() else { continue };
        let new = Kept { digest: digest.to_owned(), bytes: 0, used: SystemTime::UNIX_EPOCH };
        let kept = found.entry(digest.to_owned()).or_insert(new);
        // What it takes, not how long it looks: images have holes.
        kept.bytes = kept.bytes.saturating_add(about.blocks().saturating_mul(512));
        // Whoever opens an image touches its manifest.
        if kind == MANIFEST {
            kept.used = about.modified()?;
        }
    }
    Ok(found.into_values().collect())
}

/// The image is used now.
pub(super) fn touch(manifest: &Path) -> io::Result<()> {
    std::fs::File::options().write(true).open(manifest)?.set_modified(SystemTime::now())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_that_nobody_needs_go_until_there_is_room() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let kept = |digest: &str, bytes, used| Kept { digest: digest.into(), bytes, used: at(used) };
        let all = [kept("new", 30, 9), kept("old", 20, 1), kept("needed", 50, 0), kept("middle", 10, 5)];
        let goes = |free, coming, most, keep| {
            choose(&all, free, coming, Room { most, free: keep }, |kept| kept.digest != "needed").join(" ")
        };
        assert_eq!(goes(1000, 0, 110, 100), "");
        assert_eq!(goes(1000, 0, 109, 100), "old");
        assert_eq!(goes(1000, 0, 89, 100), "old middle");
        assert_eq!(goes(1000, 30, 110, 100), "old middle");
        // Free space counts as well, and what is coming too.
        assert_eq!(goes(100, 0, u64::MAX, 100), "");
        assert_eq!(goes(100, 1, u64::MAX, 100), "old");
        // More than there is to take: what is needed stays.
        assert_eq!(goes(0, 0, 0, u64::MAX), "old middle new");
    }
}
