//! WriteImage: an image onto the root disk.
//!
//! Chunk 0, which holds the partition table, is written last: a disk that is half written looks empty,
//! never bootable. Zero chunks are not fetched. At the end samples of what was written are read back.
use super::fetch::{Fetcher, Pulse};
use super::samples::Samples;
use super::{CommandError, Context, OpenDisk, Progress, blocking, done, open_root};
use crate::machine::BlockDevice;
use crate::manifest::{Chunk, Manifest};
use crate::partitions::PartitionTable;
use farrier_model::size::exact;
use farrier_proto::agent::session_request::Done;
use farrier_proto::agent::session_response::WriteImage;
use futures::future::join_all;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Zeros shorter than this are written: seeking over them costs a disk more.
const ZERO_RUN_BYTES: usize = 64 * 1024;

/// What a WriteImage that failed had finished.
pub(crate) struct HalfWritten {
    disk: String,
    manifest: Manifest,
    done: Vec<bool>,
    reads_zero: bool,
    samples: Samples,
}

/// The state the downloads of one image share.
struct Work {
    disk: String,
    device: Arc<dyn BlockDevice>,
    manifest: Manifest,
    /// The disk's blocks below the image read back as zeros wherever nothing was written.
    reads_zero: bool,
    queue: Mutex<Vec<Chunk>>,
    done: Mutex<Vec<bool>>,
    samples: Mutex<Samples>,
    done_bytes: AtomicU64,
    written_bytes: AtomicU64,
    pulse: Pulse,
    progress: Progress,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn run(
    context: &Arc<Context>,
    command: WriteImage,
    url: watch::Receiver<String>,
    progress: Progress,
) -> Result<Done, CommandError> {
    let manifest = Manifest::try_from(command.manifest.unwrap_or_default()).map_err(|error| {
        CommandError::Unsupported {
            expected: "a manifest whose numbers agree",
            seen: error.to_string(),
            next: "import the image again",
        }
    })?;
    let disk = open_root(context, command.root_device).await?;
    let disk_bytes = disk.device.size_bytes();
    if manifest.size_bytes() > disk_bytes {
        let disk = disk.info.name;
        let needed_bytes = manifest.size_bytes();
        return Err(CommandError::DiskTooSmall { what: "image", needed_bytes, disk, disk_bytes });
    }
    let work = Arc::new(prepare(context, disk, manifest, progress).await?);
    let result = write(context, &work, url).await;
    // After any other failure what is on the disk is in doubt: the next try starts from nothing.
    if matches!(result, Err(CommandError::Download { .. } | CommandError::Checksum { .. })) {
        *lock(&context.half_written) = Some(HalfWritten {
            disk: work.disk.clone(),
            manifest: work.manifest.clone(),
            done: lock(&work.done).clone(),
            reads_zero: work.reads_zero,
            samples: std::mem::take(&mut lock(&work.samples)),
        });
    }
    result
}

/// Takes up what an earlier try left, or clears the ground for a first one.
async fn prepare(
    context: &Context,
    disk: OpenDisk,
    manifest: Manifest,
    progress: Progress,
) -> Result<Work, CommandError> {
    let name = disk.info.name;
    let earlier = lock(&context.half_written).take();
    let (done, reads_zero, samples) = match earlier.filter(|e| e.disk == name && e.manifest == manifest) {
        Some(earlier) => (earlier.done, earlier.reads_zero, earlier.samples),
        None => {
            let (device, disk, image_bytes) = (disk.device.clone(), name.clone(), manifest.size_bytes());
            let reads_zero = blocking(move || clear(&*device, &disk, image_bytes)).await?;
            (vec![false; manifest.count()], reads_zero, Samples::choose(image_bytes))
        }
    };
    let mut queue: Vec<Chunk> =
        manifest.chunks().filter(|c| !done.get(c.index).copied().unwrap_or(false)).collect();
    // Taken from the end: ascending on the disk.
    queue.reverse();
    let left: u64 = queue.iter().map(|c| c.len).sum();
    Ok(Work {
        disk: name,
        device: disk.device,
        reads_zero,
        queue: Mutex::new(queue),
        done: Mutex::new(done),
        samples: Mutex::new(samples),
        done_bytes: AtomicU64::new(manifest.size_bytes() - left),
        written_bytes: AtomicU64::new(0),
        pulse: Pulse::new(),
        progress,
        manifest,
    })
}

/// Gives the image's blocks back, if the disk promises zeros for them and keeps the promise; at the
/// least wipes what made the old contents bootable. Says whether all of it reads as zeros now.
fn clear(device: &dyn BlockDevice, disk: &str, image_bytes: u64) -> Result<bool, CommandError> {
    let block = u64::from(device.block_bytes());
    let len = (image_bytes.div_ceil(block) * block).min(device.size_bytes() / block * block);
    let unmapped = device.unmap(0, len).map_err(CommandError::disk_io(disk, "discarding"))?;
    if unmapped && reads_zero(device, len).map_err(CommandError::disk_io(disk, "reading"))? {
        return Ok(true);
    }
    let head = len.min(1 << 20);
    device.zero(0, head).map_err(CommandError::disk_io(disk, "zeroing the first MiB"))?;
    Ok(false)
}

/// Looks at 64 places: a disk that lies about discarding lies everywhere.
fn reads_zero(device: &dyn BlockDevice, len: u64) -> std::io::Result<bool> {
    let mut block = vec![0; 4096.min(usize::try_from(len).unwrap_or(4096))];
    let span = len - block.len() as u64;
    for place in 0..64 {
        let at = span / 63 * place;
        device.forget_cached(at, block.len() as u64)?;
        device.read_at(&mut block, at)?;
        if block.iter().any(|b| *b != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn write(
    context: &Arc<Context>,
    work: &Arc<Work>,
    url: watch::Receiver<String>,
) -> Result<Done, CommandError> {
    work.tell();
    let first = take_first(&mut lock(&work.queue));
    download(context, work, &url).await?;
    lock(&work.queue).extend(first);
    download(context, work, &url).await?;
    let finished = work.clone();
    let grown = blocking(move || finished.finish()).await?;
    let written = work.written_bytes.load(Ordering::Relaxed);
    let table = if grown { "; backup partition table moved to the end of the disk" } else { "" };
    Ok(Done {
        disks: vec![work.disk.clone()],
        written_bytes: i64::try_from(written).unwrap_or(i64::MAX),
        ..done(format!(
            "image of {} on {}, {} written{table}",
            exact(work.manifest.size_bytes()),
            work.disk,
            exact(written)
        ))
    })
}

/// Chunk 0, if it is still to be written.
fn take_first(queue: &mut Vec<Chunk>) -> Option<Chunk> {
    let at = queue.iter().position(|c| c.index == 0)?;
    Some(queue.remove(at))
}

/// Empties the queue.
async fn download(
    context: &Arc<Context>,
    work: &Arc<Work>,
    url: &watch::Receiver<String>,
) -> Result<(), CommandError> {
    let stop = CancellationToken::new();
    let workers = (0..context.limits.chunks_in_flight.max(1)).map(|_| async {
        let result = worker(context, work, url.clone(), &stop).await;
        if result.is_err() {
            stop.cancel();
        }
        result
    });
    // All of them, also after an error: a write still under way must not hit the disk after the answer.
    join_all(workers).await.into_iter().collect()
}

async fn worker(
    context: &Arc<Context>,
    work: &Arc<Work>,
    url: watch::Receiver<String>,
    stop: &CancellationToken,
) -> Result<(), CommandError> {
    let mut fetcher = Fetcher::new(&context.limits, url, work.manifest.size_bytes(), &work.pulse);
    loop {
        let Some(chunk) = lock(&work.queue).pop() else { return Ok(()) };
        let data = if chunk.is_zeros() {
            None
        } else {
            let Some(data) = stop.run_until_cancelled(fetcher.chunk(chunk)).await else { return Ok(()) };
            Some(data?)
        };
        let task = work.clone();
        blocking(move || task.put(chunk, data.as_deref())).await?;
    }
}

impl Work {
    fn tell(&self) {
        self.progress.report(self.done_bytes.load(Ordering::Relaxed), self.manifest.size_bytes(), "writing");
    }

    /// Writes one chunk, whose digest has been checked.
    fn put(&self, chunk: Chunk, data: Option<&[u8]>) -> Result<(), CommandError> {
        let failed = || format!("writing chunk {} at byte {}", chunk.index, chunk.offset);
        let written = match data {
            None if self.reads_zero => 0,
            None => {
                self.zero(chunk).map_err(CommandError::disk_io(&self.disk, failed()))?;
                0
            }
            Some(data) => {
                let data_runs = if self.reads_zero { data_runs(data) } else { vec![(0, data)] };
                let mut written = 0;
                for (at, run) in data_runs {
                    self.device
                        .write_at(run, chunk.offset + at as u64)
                        .map_err(CommandError::disk_io(&self.disk, failed()))?;
                    written += run.len() as u64;
                }
                written
            }
        };
        lock(&self.samples).take(chunk.offset, chunk.len, data);
        if let Some(done) = lock(&self.done).get_mut(chunk.index) {
            *done = true;
        }
        self.written_bytes.fetch_add(written, Ordering::Relaxed);
        self.done_bytes.fetch_add(chunk.len, Ordering::Relaxed);
        self.tell();
        Ok(())
    }

    /// The last chunk may end inside a block, which only a write can do.
    fn zero(&self, chunk: Chunk) -> std::io::Result<()> {
        let block = u64::from(self.device.block_bytes());
        let whole = chunk.len / block * block;
        if whole > 0 {
            self.device.zero(chunk.offset, whole)?;
        }
        let rest = vec![0; usize::try_from(chunk.len - whole).unwrap_or(0)];
        self.device.write_at(&rest, chunk.offset + whole)
    }

    /// Everything on the medium, read back in part, and a partition table that knows the disk's size.
    fn finish(&self) -> Result<bool, CommandError> {
        let io = |doing: &'static str| CommandError::disk_io(&self.disk, doing);
        self.device.sync().map_err(io("flushing"))?;
        self.verify()?;
        let table = PartitionTable::read(&*self.device).map_err(io("reading the partition table"))?;
        let PartitionTable::Gpt(mut gpt) = table else { return Ok(false) };
        if !gpt.is_short() {
            return Ok(false);
        }
        gpt.use_whole_disk();
        gpt.write(&*self.device).map_err(io("writing the partition table"))?;
        match PartitionTable::read(&*self.device).map_err(io("reading the partition table"))? {
            PartitionTable::Gpt(seen) if seen == gpt => Ok(true),
            _ => Err(CommandError::ReadBack { disk: self.disk.clone(), offset: 512 }),
        }
    }

    fn verify(&self) -> Result<(), CommandError> {
        for (offset, expected) in lock(&self.samples).taken() {
            let mut seen = vec![0; expected.len()];
            self.device
                .forget_cached(offset, expected.len() as u64)
                .and_then(|()| self.device.read_at(&mut seen, offset))
                .map_err(CommandError::disk_io(&self.disk, format!("reading back byte {offset}")))?;
            if seen != expected {
                return Err(CommandError::ReadBack { disk: self.disk.clone(), offset });
            }
        }
        Ok(())
    }
}

/// The stretches of a chunk that are not long runs of zeros, each with its offset.
fn data_runs(data: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (n, piece) in data.chunks(ZERO_RUN_BYTES).enumerate() {
        let start = n * ZERO_RUN_BYTES;
        if piece.iter().all(|b| *b == 0) {
            continue;
        }
        match runs.last_mut() {
            Some((_, end)) if *end == start => *end = start + piece.len(),
            _ => runs.push((start, start + piece.len())),
        }
    }
    runs.into_iter().filter_map(|(start, end)| Some((start, data.get(start..end)?))).collect()
}
