//! Fetching an image: chunks that somebody waits for at once, all others behind them.
//!
//! One of these an image and rack, however many machines read it. While it asks for a wanted chunk it does not take
//! anything of the stream that brings the rest, so that the link is free for it (HTTP/2 flow control).

use super::CacheError;
use super::error::disk_error;
use super::image::Shared;
use super::origin::Origin;
use super::run::{Chunk, Run};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How patient fetching is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Without a byte of a chunk that somebody waits for: a link that is slow brings some, one that is cut none.
    pub(super) wanted_idle: Duration,
    /// The same of the rest.
    pub(super) fill_idle: Duration,
    /// Between two tries; it doubles up to the last.
    pub(super) first_pause: Duration,
    pub(super) last_pause: Duration,
    /// After a refusal, or a chunk with a wrong digest.
    pub(super) forgive_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            wanted_idle: Duration::from_secs(20),
            fill_idle: Duration::from_secs(60),
            first_pause: Duration::from_millis(200),
            last_pause: Duration::from_secs(5),
            forgive_after: Duration::from_secs(30),
        }
    }
}

/// Fetches until nobody holds the image any more. Later it stays for chunks that are found damaged.
pub(super) async fn keep(
    shared: Arc<Shared>,
    origin: Arc<dyn Origin>,
    timing: Timing,
    unused: CancellationToken,
) {
    tokio::select! {
        () = unused.cancelled() => {}
        () = work(&shared, &*origin, &timing) => {}
    }
}

async fn work(shared: &Arc<Shared>, origin: &dyn Origin, timing: &Timing) {
    let mut fill = Fill { run: None, cursor: 0 };
    let mut wanted = FuturesUnordered::new();
    let mut pause = timing.first_pause;
    // When what came damaged is asked for again; whatever else happens meanwhile does not put it off.
    let mut forgive_at: Option<Instant> = None;
    loop {
        while wanted.len() < WANTED_AT_ONCE
            && let Some(index) = shared.next_wanted(fill.coming(shared))
        {
            wanted.push(async move { (index, one(shared, origin, index, timing.wanted_idle).await) });
        }
        let whole = shared.news.borrow().whole;
        if !whole && wanted.is_empty() && shared.chunks.missing_from(0).is_none() {
            shared.compare_all().await;
            if shared.chunks.missing_from(0).is_some() {
                continue;
            }
            match finish(shared).await {
                Ok(()) => tracing::info!(image = shared.name, "image in the cache"),
                Err(error) => pause = wait(shared, None, error, pause, timing).await,
            }
            continue;
        }
        // The rest waits for what is wanted, unless it brings that itself.
        let awaited = fill.coming(shared).is_some_and(|index| shared.is_wanted(index));
        let go_on = !whole && (wanted.is_empty() || awaited);
        let rest =
            async { if go_on { fill.next(shared, origin, timing.fill_idle).await } else { pending().await } };
        forgive_at =
            shared.is_damaged().then(|| forgive_at.unwrap_or_else(|| Instant::now() + timing.forgive_after));
        let (index, outcome) = tokio::select! {
            biased;
            () = until(forgive_at), if forgive_at.is_some() => {
                forgive_at = None;
                shared.forgive();
                continue;
            }
            Some((index, outcome)) = wanted.next(), if !wanted.is_empty() => {
                shared.landed(index, outcome.is_ok());
                fill.cursor = index.saturating_add(1);
                (Some(index), outcome)
            }
            () = shared.work.notified() => continue,
            (index, outcome) = rest => (index, outcome),
        };
        match outcome {
            Ok(()) => pause = timing.first_pause,
            Err(error) => pause = wait(shared, index, error, pause, timing).await,
        }
    }
}

/// Something went wrong: told, and tried again later. Returns the next pause.
async fn wait(
    shared: &Shared,
    index: Option<usize>,
    error: CacheError,
    pause: Duration,
    timing: &Timing,
) -> Duration {
    tracing::warn!(image = shared.name, error = %farrier_runtime::telemetry::chain(&error), "image not fetched");
    shared.trouble(index, &error);
    match error {
        // One chunk: the others may be good.
        CacheError::Checksum { .. } => return pause,
        _ if error.is_transient() => {
            tokio::time::sleep(pause).await;
        }
        _ => {
            tokio::time::sleep(timing.forgive_after).await;
            shared.forgive();
        }
    }
    (pause * 2).min(timing.last_pause)
}

/// Chunks that came damaged are asked for again after a while: somebody may have repaired the centre's disk.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// One chunk for somebody who waits.
async fn one(
    shared: &Arc<Shared>,
    origin: &dyn Origin,
    index: usize,
    idle: Duration,
) -> Result<(), CacheError> {
    let range = index..index.saturating_add(1);
    let mut run = Run::open(origin, &shared.name, &shared.digest, range, idle).await?;
    match run.chunk(&shared.name, &shared.manifest).await? {
        Some(chunk) => shared.store(chunk).await,
        // Empty chunks are always here.
        None => Ok(()),
    }
}

/// The stream that brings what nobody has asked for.
struct Fill {
    run: Option<Run>,
    /// Where to go on: behind the last chunk that was wanted, since machines read on.
    cursor: usize,
}

impl Fill {
    /// Stores one more chunk.
    ///
    /// CANCEL-SAFETY: what has come of a chunk is kept; a chunk that is being stored is stored.
    async fn next(
        &mut self,
        shared: &Arc<Shared>,
        origin: &dyn Origin,
        idle: Duration,
    ) -> (Option<usize>, Result<(), CacheError>) {
        match self.chunk(shared, origin, idle).await {
            Ok(chunk) => {
                let index = chunk.index;
                self.cursor = index.saturating_add(1);
                (Some(index), shared.store(chunk).await)
            }
            Err(error) => {
                self.run = None;
                (None, Err(error))
            }
        }
    }

    /// The chunk that the open stream brings next.
    fn coming(&self, shared: &Shared) -> Option<usize> {
        self.run.as_ref()?.upcoming(&shared.manifest)
    }

    async fn chunk(
        &mut self,
        shared: &Shared,
        origin: &dyn Origin,
        idle: Duration,
    ) -> Result<Chunk, CacheError> {
        loop {
            if let Some(run) = &mut self.run
                && let Some(index) = run.upcoming(&shared.manifest)
                // Fetched for somebody meanwhile: not twice.
                && shared.gap(index, 1).is_some_and(|gap| gap.start == index)
                && let Some(chunk) = run.chunk(&shared.name, &shared.manifest).await?
            {
                return Ok(chunk);
            }
            self.run = None;
            let Some(gap) = shared.gap(self.cursor, RUN) else { return pending().await };
            self.run = Some(Run::open(origin, &shared.name, &shared.digest, gap, idle).await?);
        }
    }
}

/// All is there: it gets its final name.
async fn finish(shared: &Arc<Shared>) -> Result<(), CacheError> {
    let work = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || {
        farrier_block::Backing::flush(&*work.disk)?;
        let whole = work.path.with_extension(super::WHOLE);
        rename(&work.path, &whole)?;
        work.chunks.forget_marks();
        let _ = std::fs::remove_file(work.path.with_extension(super::MARKS));
        Ok(())
    });
    let done = done.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(disk_error(&shared.path))?;
    shared.news.send_modify(|news| {
        news.whole = true;
        news.trouble = None;
    });
    Ok(())
}

/// Done already by one that was ended in the middle of it: then that is fine.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
        renamed => renamed,
    }
}

/// Chunks for those who wait, under way at once.
const WANTED_AT_ONCE: usize = 4;
/// Chunks of one stream of the rest: behind them it goes where machines read.
const RUN: usize = 8;
