//! Images made of volumes: a picture of the disk beside it, and the picture's way to the images service.
//!
//! Nothing but the changed blocks is written here, and nothing but the chunks with changes is sent: compressed while they
//! are sent, twice, since their digest goes ahead of them. A full disk would stop every machine that lives on this rack.

use crate::space::{self, NoRoom};
use crate::volumes::Volume;
use farrier_block::{Backing as _, Overlay, OverlayError};
use farrier_model::chunks::CHUNK_BYTES;
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

/// The pictures of one rack.
pub(crate) struct Snapshots {
    dir: PathBuf,
    images: ImageServiceClient<Channel>,
    free: space::Probe,
}

/// What will be sent, known before it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{doing} {path}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the disk cannot be read")]
    Overlay(#[from] OverlayError),
    #[error("the images service did not take {image}: {message}")]
    Refused { image: String, message: String },
    #[error("the images service did not answer: {0}")]
    Unreachable(String),
    #[error("no room for a picture of the disk: {0}")]
    NoRoom(#[from] NoRoom),
    #[error("stopped")]
    Stopped,
}

impl SnapshotError {
    /// A full disk may be emptied, a picture that somebody else takes ends.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            SnapshotError::Io { .. } | SnapshotError::Unreachable(_) | SnapshotError::Stopped => true,
            SnapshotError::Overlay(error) => {
                matches!(error, OverlayError::Busy | OverlayError::InUse | OverlayError::Io(_))
            }
            // Asked again it would hold the node for hours; whoever makes room asks anew.
            SnapshotError::Refused { .. } | SnapshotError::NoRoom(_) => false,
        }
    }
}

/// Called with bytes of the disk done, and all of them.
pub(crate) type Progress = Box<dyn Fn(u64, u64) + Send>;

impl Snapshots {
    pub(crate) fn new(data: &Path, images: Channel) -> Self {
        Self { dir: data.join("snapshots"), images: ImageServiceClient::new(images), free: space::free }
    }

    /// Takes a task's picture of a volume, unless it has one. The machine's writes go on.
    pub(crate) async fn take(&self, task: &str, volume: &Volume) -> Result<(), SnapshotError> {
        let (dir, whole, part) = (self.dir.clone(), self.whole(task), self.part(task));
        let (overlay, free) = (volume.overlay.clone(), self.free);
        let stop = Stop::default();
        let stopped = stop.flag();
        blocking(move || {
            if whole.exists() {
                return Ok(());
            }
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(io_error("making", &dir))?;
            // Half of one, from before a crash.
            remove(&part)?;
            // Its blocks are copied; what the machine writes meanwhile comes out of the reserve.
            let own = overlay.usage().map_err(io_error("reading", overlay.path()))?.allocated;
            space::check(free, &dir, own).map_err(io_error("reading", &dir))??;
            if stopped.load(Ordering::Acquire) {
                return Err(SnapshotError::Stopped);
            }
            overlay.snapshot(&part)?;
            if stopped.load(Ordering::Acquire) {
                // Nobody waits for it any more, and whoever cleaned up may have been here before.
                remove(&part)?;
                return Err(SnapshotError::Stopped);
            }
            std::fs::rename(&part, &whole).map_err(io_error("writing", &whole))
        })
        .await
    }

    /// Reads a task's picture once and says what sending it will come to.
    pub(crate) async fn measure(
        &self,
        task: &str,
        volume: &Volume,
        progress: Progress,
    ) -> Result<Packed, SnapshotError> {
        let (path, volume) = (self.whole(task), volume.clone());
        let stop = Stop::default();
        let stopped = stop.flag();
        blocking(move || {
            let counted = pack(&path, &volume, progress, stopped, Counted::default())?;
            Ok(Packed { sha256: hex::encode(counted.hash.finalize()), bytes: counted.bytes })
        })
        .await
    }

    /// Sends a task's picture as `image`, whose name is reserved for it.
    pub(crate) async fn upload(
        &self,
        task: &str,
        image: &str,
        packed: &Packed,
        volume: &Volume,
        progress: Progress,
    ) -> Result<Image, SnapshotError> {
        let header = Header {
            image: Some(Image {
                name: image.to_owned(),
                sha256: packed.sha256.clone(),
                format: ImageFormat::Changes.into(),
                compression: Compression::Zstd.into(),
                ..Image::default()
            }),
            file_bytes: i64::try_from(packed.bytes).unwrap_or(i64::MAX),
            request_id: format!("operations/{task}"),
            base_manifest_sha256: volume.base_id.clone(),
        };
        let (pieces, received) = mpsc::channel(PIECES);
        let first = UploadImageRequest { part: Some(Part::Header(header)) };
        pieces.send(first).await.map_err(|_| SnapshotError::Stopped)?;
        let (path, volume) = (self.whole(task), volume.clone());
        // It ends by itself when nobody takes its pieces any more: no flag is needed.
        let sent = tokio::task::spawn_blocking(move || {
            let flag = Arc::new(AtomicBool::new(false));
            let mut sender = pack(&path, &volume, progress, flag, Sender { pieces, piece: Vec::new() })?;
            sender.send().map_err(|_| SnapshotError::Stopped)
        });
        let mut images = self.images.clone();
        let answer = images.upload_image(ReceiverStream::new(received)).await;
        match answer {
            Ok(image) => Ok(image.into_inner()),
            Err(status) => match sent.await {
                // The stream ended early because the disk could not be read: that is the reason, not what was made
                // of it over there.
                Ok(Err(error)) if !matches!(error, SnapshotError::Stopped) => Err(error),
                _ => Err(refused(image, &status)),
            },
        }
    }

    /// What a task left goes. Also when there is nothing.
    pub(crate) async fn remove(&self, task: &str) -> Result<(), SnapshotError> {
        let (whole, part) = (self.whole(task), self.part(task));
        blocking(move || {
            remove(&part)?;
            remove(&whole)
        })
        .await
    }

    /// What no running task needs goes: left by a crash in the wrong moment.
    pub(crate) async fn sweep(
        &self,
        is_needed: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), SnapshotError> {
        let dir = self.dir.clone();
        blocking(move || {
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries.map_err(io_error("reading", &dir))?,
            };
            for entry in entries {
                let path = entry.map_err(io_error("reading", &dir))?.path();
                let of = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                if !is_needed(of) {
                    tracing::info!(path = %path.display(), "a snapshot that nobody needs is removed");
                    remove(&path)?;
                }
            }
            Ok(())
        })
        .await
    }

    // A task's id is letters, digits and hyphens: checked before it is journaled.
    fn whole(&self, task: &str) -> PathBuf {
        self.dir.join(format!("{task}.overlay"))
    }

    fn part(&self, task: &str) -> PathBuf {
        self.dir.join(format!("{task}.part"))
    }
}

/// Stops blocking work whose caller is gone.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes what a picture has that its image has not, chunk by chunk and compressed, to `to`; how it is told stands in the
/// images service's contract. The same picture gives the same bytes every time.
fn pack<W: Write>(
    path: &Path,
    volume: &Volume,
    progress: Progress,
    stopped: Arc<AtomicBool>,
    to: W,
) -> Result<W, SnapshotError> {
    let picture = Overlay::open(path, volume.base.clone(), &volume.base_id)?;
    let encoder = zstd::Encoder::new(to, LEVEL).map_err(io_error("compressing", path))?;
    let (size, changed) = (picture.size(), picture.changed(CHUNK_BYTES));
    let length = |chunk: u64| size.saturating_sub(chunk.saturating_mul(CHUNK_BYTES)).min(CHUNK_BYTES);
    let total = 8 + changed.iter().map(|chunk| 8 + length(*chunk)).sum::<u64>();
    let mut plain = Plain { encoder, done: 0, total, told: 0, progress, stopped };
    let mut buffer = Vec::new();
    let mut tell = || -> io::Result<()> {
        plain.write_all(&size.to_le_bytes())?;
        for chunk in &changed {
            buffer.resize(usize::try_from(length(*chunk)).unwrap_or(0), 0);
            picture.read_at(&mut buffer, chunk.saturating_mul(CHUNK_BYTES))?;
            plain.write_all(&chunk.to_le_bytes())?;
            plain.write_all(&buffer)?;
        }
        Ok(())
    };
    match tell() {
        // Nobody takes it any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(SnapshotError::Stopped),
        told => told.map_err(OverlayError::Io)?,
    }
    plain.encoder.finish().map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => SnapshotError::Stopped,
        _ => io_error("compressing", path)(error),
    })
}

/// Bytes on their way into the encoder, counted.
struct Plain<W: Write> {
    encoder: zstd::Encoder<'static, W>,
    done: u64,
    total: u64,
    told: u64,
    progress: Progress,
    stopped: Arc<AtomicBool>,
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Acquire) {
            // Not `Interrupted`: `write_all` would try again for ever.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.encoder.write(bytes)?;
        self.done += written as u64;
        if self.done - self.told >= TELL_EVERY || self.done == self.total {
            self.told = self.done;
            (self.progress)(self.done, self.total);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

/// Counts and digests what goes through it.
#[derive(Default)]
struct Counted {
    hash: Sha256,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts what goes through it into messages.
struct Sender {
    pieces: mpsc::Sender<UploadImageRequest>,
    piece: Vec<u8>,
}

impl Sender {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.piece);
        let message = UploadImageRequest { part: Some(Part::Data(data)) };
        self.pieces.blocking_send(message).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES.saturating_sub(self.piece.len());
        let taken = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused(image: &str, status: &tonic::Status) -> SnapshotError {
    match status.code() {
        Code::NotFound
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::AlreadyExists
        | Code::InvalidArgument => {
            SnapshotError::Refused { image: image.to_owned(), message: status.message().to_owned() }
        }
        _ => SnapshotError::Unreachable(status.message().to_owned()),
    }
}

fn remove(path: &Path) -> Result<(), SnapshotError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", path)(error)),
        _ => Ok(()),
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { doing, path, source }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io_error("working on", Path::new("snapshots"))(io::Error::other(error))))
}

/// Messages between the compressor and the network.
const PIECES: usize = 4;
/// Bytes in a message: the contract's limit.
const PIECE_BYTES: usize = 1 << 20;
/// Of zstd: the quickest that halves a root file system. The rack's cores are the machines' disks.
const LEVEL: i32 = 1;
/// Bytes of the disk between two words about it.
const TELL_EVERY: u64 = 16 << 20;

#[cfg(test)]
mod tests;
