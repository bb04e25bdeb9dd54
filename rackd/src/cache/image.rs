//! An image that can be read before it is all there.

use super::CacheError;
use super::chunks::{Chunks, State};
use super::error::disk_error;
use super::manifest::Manifest;
use super::run::Chunk;
use farrier_block::{Arrival, Backing as _, FileBacking, Image};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

/// An image in the cache, whole or on its way. As long as one is held, the rest is being fetched.
#[derive(Debug)]
pub(crate) struct CachedImage {
    pub(super) shared: Arc<Shared>,
    /// Ends the fetching.
    pub(super) _held: DropGuard,
}

/// What the readers of an image and its fetcher share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) manifest: Manifest,
    pub(super) path: PathBuf,
    pub(super) disk: Arc<FileBacking>,
    pub(super) chunks: Chunks,
    queue: Mutex<Queue>,
    /// Something is in the queue.
    pub(super) work: Notify,
    pub(super) news: watch::Sender<News>,
    unsynced: AtomicUsize,
    runtime: Handle,
}

#[derive(Default)]
struct Queue {
    /// Chunks that somebody waits for, in the order of asking.
    wanted: Vec<usize>,
    /// Those being fetched for somebody, and those being stored.
    under_way: BTreeSet<usize>,
    /// Why the centre gives nothing.
    refused: Option<CacheError>,
    /// Chunks that came with other bytes than they should have.
    damaged: BTreeMap<usize, CacheError>,
}

/// What has become of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    /// Chunks that are here.
    pub(super) here: usize,
    /// All of it is on disk, under its final name.
    pub(super) whole: bool,
    /// How often fetching went wrong, and how the last time.
    pub(super) troubles: u64,
    pub(super) trouble: Option<CacheError>,
}

/// What an image is made from.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) manifest: Manifest,
    pub(super) path: PathBuf,
    pub(super) disk: Arc<FileBacking>,
    pub(super) chunks: Chunks,
    pub(super) whole: bool,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { name, digest, manifest, path, disk, chunks, whole } = parts;
        let news = News { here: chunks.here(), whole, ..News::default() };
        Self {
            name,
            digest,
            manifest,
            path,
            disk,
            chunks,
            queue: Mutex::default(),
            work: Notify::new(),
            news: watch::Sender::new(news),
            unsynced: AtomicUsize::new(0),
            runtime: Handle::current(),
        }
    }

    /// Until the chunk is here. What cannot be had, damaged or refused, may be had when the centre is well again: a running
    /// system is told to come again, as long as it does, and not that its disk is broken.
    async fn arrive(self: Arc<Self>, index: usize) -> io::Result<()> {
        let mut news = self.news.subscribe();
        loop {
            // Before looking: what happens from here on is heard.
            news.borrow_and_update();
            match self.chunks.get(index) {
                State::Good => return Ok(()),
                State::Claimed => self.compare(index),
                State::Checking => {}
                State::Missing => self.want(index),
            }
            news.changed().await.map_err(io::Error::other)?;
        }
    }

    /// Compares a chunk on disk with its digest, on a thread that may wait.
    fn compare(self: &Arc<Self>, index: usize) {
        if !self.chunks.claim_check(index) {
            return;
        }
        let shared = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            let mut bytes = vec![0; shared.manifest.len(index)];
            let read = Image::read_at(&*shared.disk, &mut bytes, shared.manifest.offset(index));
            let read = read.map_err(disk_error(&shared.path));
            let good = read.and_then(|()| shared.manifest.verify(&shared.name, index, &bytes));
            let state = match good {
                Ok(()) => State::Good,
                Err(error) => {
                    tracing::warn!(
                        image = shared.name, chunk = index, error = %error,
                        "a chunk in the cache is not what it was, it is fetched again"
                    );
                    State::Missing
                }
            };
            shared.settle(index, state);
        });
    }

    /// Compares what an earlier process left and nobody has read yet: the final name is a promise.
    pub(super) async fn compare_all(self: &Arc<Self>) {
        let mut news = self.news.subscribe();
        for index in 0..self.manifest.count() {
            self.compare(index);
            let settled = |_: &News| !matches!(self.chunks.get(index), State::Claimed | State::Checking);
            // Its sender is this very image.
            let _ = news.wait_for(settled).await;
        }
    }

    /// Compares every chunk, and fetches again what is not what it was. Returns how many those were.
    pub(super) async fn repair(self: &Arc<Self>) -> Result<usize, CacheError> {
        let mut news = self.news.subscribe();
        let known = news.borrow().troubles;
        let mut damaged = 0;
        for index in (0..self.manifest.count()).filter(|index| !self.manifest.is_empty(*index)) {
            self.chunks.doubt(index);
            let mut missed = false;
            loop {
                // Before looking: what happens from here on is heard.
                let now = news.borrow_and_update().clone();
                match self.chunks.get(index) {
                    State::Good => break,
                    State::Claimed => self.compare(index),
                    State::Checking => {}
                    State::Missing => {
                        missed = true;
                        if let Some(error) = now.trouble.filter(|_| now.troubles != known) {
                            return Err(error);
                        }
                        self.hope_for(index)?;
                        self.want(index);
                    }
                }
                // Its sender is this very image.
                let _ = news.changed().await;
            }
            damaged += usize::from(missed);
        }
        Ok(damaged)
    }

    /// Whether it is worth asking for the chunk now.
    fn hope_for(&self, index: usize) -> Result<(), CacheError> {
        let queue = self.queue();
        queue.damaged.get(&index).or(queue.refused.as_ref()).map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Puts the chunk at the head of what is fetched. One that cannot be had now is wanted again when [`Shared::forgive`]
    /// has said so.
    fn want(&self, index: usize) {
        let mut queue = self.queue();
        if queue.damaged.contains_key(&index) || queue.refused.is_some() {
            return;
        }
        if !queue.under_way.contains(&index) && !queue.wanted.contains(&index) {
            queue.wanted.push(index);
            drop(queue);
            self.work.notify_one();
        }
    }

    /// The chunk that has been waited for longest, but for the one that is coming anyway; [`Shared::landed`] must
    /// follow.
    pub(super) fn next_wanted(&self, coming: Option<usize>) -> Option<usize> {
        let mut queue = self.queue();
        queue.wanted.retain(|index| self.chunks.get(*index) == State::Missing);
        let free = |index: &usize| Some(*index) != coming && !queue.under_way.contains(index);
        let at = queue.wanted.iter().position(free)?;
        let index = queue.wanted.remove(at);
        queue.under_way.insert(index);
        Some(index)
    }

    pub(super) fn is_wanted(&self, index: usize) -> bool {
        self.queue().wanted.contains(&index)
    }

    /// It has been fetched for somebody, or that went wrong: then it is wanted still.
    pub(super) fn landed(&self, index: usize, good: bool) {
        let mut queue = self.queue();
        queue.under_way.remove(&index);
        if !good && !queue.damaged.contains_key(&index) {
            queue.wanted.insert(0, index);
        }
    }

    /// Chunks to fetch next for nobody in particular: missing ones in a row, empty ones between them.
    pub(super) fn gap(&self, from: usize, most: usize) -> Option<std::ops::Range<usize>> {
        let queue = self.queue();
        let idle = |index: usize| {
            self.chunks.get(index) == State::Missing
                && !queue.damaged.contains_key(&index)
                && !queue.under_way.contains(&index)
        };
        let count = self.manifest.count();
        let start = self.chunks.missing_from(from)?;
        let start = (start..count).find(|i| idle(*i)).or_else(|| (0..start.min(count)).find(|i| idle(*i)))?;
        let open = |index: &usize| idle(*index) || self.manifest.is_empty(*index);
        let end = (start..count.min(start.saturating_add(most))).take_while(open).last()?;
        Some(start..end.saturating_add(1))
    }

    /// Verifies and stores what came, on a thread that may wait.
    ///
    /// CANCEL-SAFETY: it is stored all the same, and nobody fetches it meanwhile; only an error is lost.
    pub(super) async fn store(self: &Arc<Self>, chunk: Chunk) -> Result<(), CacheError> {
        self.queue().under_way.insert(chunk.index);
        let shared = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || {
            let index = chunk.index;
            let stored = shared.verify_and_write(&chunk);
            if stored.is_ok() {
                shared.settle(index, State::Good);
            }
            shared.queue().under_way.remove(&index);
            // Perhaps nobody waits for this outcome any more. The fetcher must look all the same: it may have been the
            // last chunk, or be missing again.
            shared.work.notify_one();
            stored
        });
        stored.await.unwrap_or_else(|error| Err(disk_error(&self.path)(io::Error::other(error))))
    }

    fn verify_and_write(&self, Chunk { index, bytes }: &Chunk) -> Result<(), CacheError> {
        self.manifest.verify(&self.name, *index, bytes)?;
        let write = || {
            self.disk.write_at(bytes, self.manifest.offset(*index))?;
            if self.unsynced.fetch_add(1, Ordering::Relaxed) + 1 >= SYNC_EVERY {
                self.unsynced.store(0, Ordering::Relaxed);
                self.disk.flush()?;
            }
            Ok(())
        };
        write().map_err(disk_error(&self.path))
    }

    fn settle(&self, index: usize, state: State) {
        if let Err(error) = self.chunks.set(index, state) {
            tracing::warn!(image = self.name, %error, "the cache's marks cannot be written");
        }
        if state == State::Good {
            let mut queue = self.queue();
            queue.damaged.remove(&index);
            queue.refused = None;
        }
        self.news.send_modify(|news| {
            news.here = self.chunks.here();
            if state == State::Good {
                news.trouble = None;
            }
        });
    }

    /// Fetching went wrong. Who waits for what cannot come hears of it.
    pub(super) fn trouble(&self, index: Option<usize>, error: &CacheError) {
        let mut queue = self.queue();
        match (error, index) {
            (CacheError::Checksum { .. }, Some(index)) => {
                queue.damaged.insert(index, error.clone());
                // Not again at once: whoever waits for it hears that it cannot be had.
                queue.wanted.retain(|wanted| *wanted != index);
            }
            _ if error.is_transient() => {}
            _ => queue.refused = Some(error.clone()),
        }
        drop(queue);
        self.news.send_modify(|news| {
            news.troubles += 1;
            news.trouble = Some(error.clone());
        });
    }

    /// What could not be had may be asked for again. True: there was something.
    pub(super) fn forgive(&self) -> bool {
        let mut queue = self.queue();
        let any = queue.refused.is_some() || !queue.damaged.is_empty();
        queue.refused = None;
        queue.damaged.clear();
        drop(queue);
        if any {
            self.news.send_modify(|_| ());
        }
        any
    }

    pub(super) fn is_damaged(&self) -> bool {
        !self.queue().damaged.is_empty()
    }

    /// Why some of it cannot be had, for now.
    pub(super) fn hopeless(&self) -> Option<CacheError> {
        let queue = self.queue();
        queue.damaged.values().next().or(queue.refused.as_ref()).cloned()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedImage {
    /// Bytes of it that are here, and of all of it.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let manifest = &self.shared.manifest;
        (manifest.offset(self.shared.chunks.here()).min(manifest.size), manifest.size)
    }
}

impl Shared {
    /// Why the rest does not come, if it does not.
    pub(super) fn trouble_now(&self) -> Option<CacheError> {
        self.hopeless().or_else(|| self.news.borrow().trouble.clone())
    }
}

impl Image for CachedImage {
    fn size(&self) -> u64 {
        self.shared.manifest.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let shared = &self.shared;
        for index in shared.manifest.touched(offset, buffer.len() as u64) {
            if shared.chunks.get(index) == State::Good {
                continue;
            }
            shared.runtime.block_on(async {
                let arrived = tokio::time::timeout(PATIENCE, Arc::clone(shared).arrive(index)).await;
                arrived.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            })?;
        }
        Image::read_at(&*shared.disk, buffer, offset)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut touched = self.shared.manifest.touched(offset, buffer.len() as u64);
        if !touched.all(|index| self.shared.chunks.get(index) == State::Good) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Image::try_read_at(&*self.shared.disk, buffer, offset)
    }

    fn arrival(&self, offset: u64, len: u64) -> Option<Arrival> {
        let mut touched = self.shared.manifest.touched(offset, len);
        let index = touched.find(|index| self.shared.chunks.get(*index) != State::Good)?;
        Some(Box::pin(Arc::clone(&self.shared).arrive(index)))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// New chunks are synced to disk in such portions: a guest's own flush never waits for all of an image.
const SYNC_EVERY: usize = 16;
/// For those who read without asking [`Image::arrival`] first.
const PATIENCE: Duration = Duration::from_secs(30);
