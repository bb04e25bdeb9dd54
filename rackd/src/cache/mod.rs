//! The rack's image cache: each image crosses the link from the centre once, and may be read while it does.
//!
//! **Invariants:** no byte is given to a reader of [`CachedImage`] before this process has compared its chunk with the
//! manifest; a chunk that is not what it should be is fetched again. An image has its final name only when all of it
//! is on disk. `image` is what is read, `fill` brings it, `chunks` says what is here.

mod chunks;
mod error;
mod evict;
mod fill;
mod image;
mod manifest;
mod origin;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use error::CacheError;
pub(crate) use evict::Room;
pub(crate) use image::CachedImage;

use crate::space;
use chunks::Chunks;
use error::disk_error;
use farrier_block::{FileBacking, Mode};
use farrier_proto::types::ChunkManifest;
use fill::Timing;
use image::{Parts, Shared};
use manifest::Manifest;
use origin::{Centre, Origin};
use prost::Message as _;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) struct ImageCache {
    dir: PathBuf,
    origin: Arc<dyn Origin>,
    timing: Timing,
    room: Room,
    free: space::Probe,
    /// Bytes that the next image needs, and that there may be no room for.
    coming: AtomicU64,
    /// Somebody should make room.
    pub(crate) cramped: Notify,
    images: Mutex<Images>,
}

#[derive(Default)]
struct Images {
    /// Those that are open, by digest: one each, whoever reads it.
    slots: HashMap<String, Arc<Mutex<Slot>>>,
    /// Digests that were asked for since somebody last began to make room.
    wanted: HashSet<String>,
}

#[derive(Default)]
struct Slot {
    image: Weak<CachedImage>,
    keeper: Option<JoinHandle<()>>,
}

impl Images {
    fn slot(&mut self, digest: &str) -> Arc<Mutex<Slot>> {
        self.wanted.insert(digest.to_owned());
        self.slots.entry(digest.to_owned()).or_default().clone()
    }
}

impl Slot {
    /// Nobody has the image, and nothing of it is being written any more.
    fn is_idle(&self) -> bool {
        self.image.strong_count() == 0 && self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl ImageCache {
    pub(crate) fn new(dir: PathBuf, images: Channel, room: Room) -> Self {
        Self { room, ..Self::with_origin(dir, Arc::new(Centre::new(images)), Timing::default()) }
    }

    fn with_origin(dir: PathBuf, origin: Arc<dyn Origin>, timing: Timing) -> Self {
        Self {
            dir,
            origin,
            timing,
            room: Room::default(),
            free: space::free,
            coming: AtomicU64::new(0),
            cramped: Notify::new(),
            images: Mutex::default(),
        }
    }

    /// The raw disk of a complete image, or `None`.
    pub(crate) fn path(&self, manifest_sha256: &str) -> Option<PathBuf> {
        let path = self.file(manifest_sha256, WHOLE)?;
        path.exists().then_some(path)
    }

    /// Makes sure that all of the image is here. `progress` gets (done, total) in chunks' bytes.
    pub(crate) async fn ensure(
        &self,
        name: &str,
        manifest_sha256: &str,
        progress: impl Fn(i64, i64),
    ) -> Result<ChunkManifest, CacheError> {
        let image = self.open(name, manifest_sha256).await?;
        let shared = &image.shared;
        let mut news = shared.news.subscribe();
        let mut known = news.borrow().troubles;
        loop {
            let now = news.borrow_and_update().clone();
            let bytes = |chunks: usize| i64::try_from(shared.manifest.offset(chunks)).unwrap_or(i64::MAX);
            progress(bytes(now.here), bytes(shared.manifest.count()));
            if now.whole {
                return Ok(shared.manifest.proto.clone());
            }
            if let Some(error) = shared.hopeless() {
                return Err(error);
            }
            if let Some(error) = now.trouble.filter(|_| now.troubles != known) {
                return Err(error);
            }
            known = now.troubles;
            // Its sender is the image, which is held here.
            let _ = news.changed().await;
        }
    }

    /// How much of an image is here: bytes, all its bytes, and why the rest does not come. `None`: nothing is known.
    pub(crate) async fn arrived(&self, manifest_sha256: &str) -> Option<(u64, u64, Option<CacheError>)> {
        let slot = self.images.lock().await.slots.get(manifest_sha256).cloned();
        // Whoever opens it now may wait for the centre: the file is asked then.
        let open = slot.and_then(|slot| slot.try_lock().ok()?.image.upgrade());
        if let Some(image) = open {
            let (here, all) = image.progress();
            return Some((here, all, image.shared.trouble_now().filter(|_| here < all)));
        }
        let size = self.path(manifest_sha256)?.metadata().ok()?.len();
        Some((size, size, None))
    }

    /// Looks through all of the image for chunks that are not what they were, and fetches those again. Returns how many
    /// there were. For whoever read it by its path, and was told so by a digest.
    pub(crate) async fn repair(&self, name: &str, manifest_sha256: &str) -> Result<usize, CacheError> {
        self.open(name, manifest_sha256).await?.shared.repair().await
    }

    /// The image for reading, however much of it is here: the rest is being fetched as long as it is held.
    pub(crate) async fn open(
        &self,
        name: &str,
        manifest_sha256: &str,
    ) -> Result<Arc<CachedImage>, CacheError> {
        let slot = self.images.lock().await.slot(manifest_sha256);
        let mut slot = slot.lock().await;
        if let Some(image) = slot.image.upgrade() {
            return Ok(image);
        }
        // One that was left is about to end: two would write the same files.
        if let Some(keeper) = slot.keeper.take() {
            let _ = keeper.await;
        }
        let shared = Arc::new(self.read(name, manifest_sha256).await?);
        let unused = CancellationToken::new();
        let keeper = fill::keep(shared.clone(), self.origin.clone(), self.timing, unused.clone());
        let image = Arc::new(CachedImage { shared, _held: unused.drop_guard() });
        *slot = Slot { image: Arc::downgrade(&image), keeper: Some(tokio::spawn(keeper)) };
        Ok(image)
    }

    /// What is here of an image, and its manifest from the centre if that is not.
    async fn read(&self, name: &str, digest: &str) -> Result<Shared, CacheError> {
        let file = |extension| {
            let why = "its name is no SHA-256";
            self.file(digest, extension).ok_or(CacheError::Manifest { image: name.to_owned(), why })
        };
        let (whole, part, marks) = (file(WHOLE)?, file(PART)?, file(MARKS)?);
        let manifest = self.manifest(name, digest, &file(MANIFEST)?).await?;
        self.fits(&manifest, &whole, &part).await?;
        let (name, digest) = (name.to_owned(), digest.to_owned());
        let path = part.clone();
        let read = move || {
            let count = manifest.count();
            let is_empty = |index| manifest.is_empty(index);
            // A file of another size is not this image: somebody has cut it off.
            let sized = |path: &Path| path.metadata().is_ok_and(|m| m.len() == manifest.size);
            let is_whole = sized(&whole);
            let (path, chunks) = if is_whole {
                (whole, Chunks::whole(count, is_empty))
            } else {
                match std::fs::remove_file(&whole) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let fresh = !sized(&part);
                let disk =
                    std::fs::OpenOptions::new().write(true).create(true).truncate(fresh).open(&part)?;
                disk.set_len(manifest.size)?;
                // Marks without their file: somebody emptied the cache.
                (part, Chunks::open(&marks, count, fresh, is_empty)?)
            };
            let disk = FileBacking::open(&path, Mode::ReadWrite)?;
            Ok(Shared::new(Parts { name, digest, manifest, path, disk, chunks, whole: is_whole }))
        };
        blocking(read).await.map_err(disk_error(&path))
    }

    /// Whether what is still to come of an image has room. If not somebody is asked to make some.
    async fn fits(&self, manifest: &Manifest, whole: &Path, part: &Path) -> Result<(), CacheError> {
        let (all, probe, dir) = (manifest.stored(), self.free, self.dir.clone());
        let (whole, part) = (whole.to_owned(), part.to_owned());
        let look = move || {
            if whole.exists() {
                return Ok((0, Ok(())));
            }
            let here = part.metadata().map_or(0, |about| about.blocks().saturating_mul(512));
            let coming = all.saturating_sub(here);
            Ok((coming, space::check(probe, &dir, coming)?))
        };
        let (coming, fits) = blocking(look).await.map_err(disk_error(&self.dir))?;
        if coming > 0 {
            self.coming.fetch_max(coming, Ordering::AcqRel);
            self.cramped.notify_one();
        }
        fits.map_err(CacheError::NoRoom)
    }

    async fn manifest(&self, name: &str, digest: &str, path: &Path) -> Result<Manifest, CacheError> {
        // It is named by its content: what is here needs no centre.
        if let Ok(bytes) = tokio::fs::read(path).await
            && let Ok(manifest) = Manifest::check(name, digest, &bytes)
        {
            let path = path.to_owned();
            if let Err(error) = blocking(move || evict::touch(&path)).await {
                tracing::warn!(image = name, %error, "when the image was used is not noted");
            }
            return Ok(manifest);
        }
        let asked = tokio::time::timeout(IDLE, self.origin.manifest(name, digest)).await;
        let asked = asked.map_err(|_| CacheError::silent(name, IDLE.as_secs()))?;
        let bytes = asked.map_err(|status| CacheError::of(name, status))?.encode_to_vec();
        let manifest = Manifest::check(name, digest, &bytes)?;
        let (dir, target) = (self.dir.clone(), path.to_owned());
        let write = move || {
            std::fs::create_dir_all(dir)?;
            write_atomic(&target, &bytes)
        };
        blocking(write).await.map_err(disk_error(path))?;
        Ok(manifest)
    }

    fn file(&self, manifest_sha256: &str, extension: &str) -> Option<PathBuf> {
        // Only a digest names a file: nothing from the wire becomes a path.
        let plain = manifest_sha256.len() == 64 && manifest_sha256.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| self.dir.join(format!("{manifest_sha256}.{extension}")))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let tmp = path.with_extension("tmp");
    let mut file = std::fs::File::create(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(tmp, path)
}

/// For a manifest: without one there is nothing to read.
const IDLE: Duration = Duration::from_secs(60);

/// Extensions of an image's files: all of it, what is here of it, which chunks those are, what they should be.
const WHOLE: &str = "raw";
const PART: &str = "part";
const MARKS: &str = "marks";
const MANIFEST: &str = "manifest";
