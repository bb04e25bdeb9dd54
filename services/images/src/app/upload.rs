//! An upload, from its header to the image.

use super::{AppError, Images};
use crate::disks::manifest_digest;
use crate::import::receive::{self, Promise, Verified};
use crate::import::{self, Cut, Declared, ImportError};
use farrier_images_store::{InsertError, Stored};
use farrier_proto::images::Image;
use farrier_runtime::time;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

/// A checked header.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Input fields filled in, `sha256` in lower case; the others empty.
    pub(crate) image: Image,
    pub(crate) promise: Promise,
    pub(crate) declared: Declared,
    /// Empty: none.
    pub(crate) request_id: String,
    /// Under the reservation of the operation that `request_id` names.
    pub(crate) reserved: bool,
    /// For the log.
    pub(crate) actor: String,
}

/// What became of a header.
pub(crate) enum Begun {
    /// The request was done before: this is its answer.
    Done(Box<Image>),
    /// Send the bytes.
    Receiving(Box<Receiving>),
}

/// An upload that takes bytes.
pub(crate) struct Receiving {
    images: Images,
    wanted: Wanted,
    file: JoinHandle<Result<Verified, ImportError>>,
    started: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Images {
    /// Looks whether the name is free, and waits for a turn. Pieces go into the channel; drop it at the end.
    pub(crate) async fn begin(&self, wanted: Wanted) -> Result<(Begun, mpsc::Sender<Vec<u8>>), AppError> {
        let (pieces, received) = mpsc::channel(PIECES);
        if let Some(existing) = self.store.image(&wanted.image.name).await? {
            return Ok((Begun::Done(Box::new(same_request(existing, &wanted)?)), pieces));
        }
        let reserved = self.store.reservation(&wanted.image.name, time::now_ms()).await?;
        if !wanted.reserved && reserved.is_some() {
            return Err(AppError::Reserved(wanted.image.name));
        }
        let turn = self.uploads.clone().acquire_owned().await.map_err(|_| AppError::ShuttingDown)?;
        let (disks, promise) = (self.disks.clone(), wanted.promise.clone());
        let file = spawn_blocking(move || receive::receive(&disks, &promise, received));
        let started = Instant::now();
        let receiving = Receiving { images: self.clone(), wanted, file, started, _turn: turn };
        Ok((Begun::Receiving(Box::new(receiving)), pieces))
    }
}

impl Receiving {
    /// Waits for the bytes, verifies, converts and stores them. Dropped, the conversion stops.
    pub(crate) async fn finish(self) -> Result<Image, AppError> {
        let file = self.file.await.map_err(|_| AppError::Lost)??;
        let received = Instant::now();
        let turn =
            self.images.conversions.clone().acquire_owned().await.map_err(|_| AppError::ShuttingDown)?;
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let (disks, declared) = (self.images.disks.clone(), self.wanted.declared.clone());
        let cut = spawn_blocking(move || {
            let _turn = turn;
            import::convert(&disks, file, declared, &cancel)
        });
        let cut = cut.await.map_err(|_| AppError::Lost)??;
        drop(guard);
        tracing::info!(
            image = %self.wanted.image.name,
            file_bytes = self.wanted.promise.file_bytes,
            disk_bytes = cut.manifest.size_bytes,
            receive_ms = received.duration_since(self.started).as_millis(),
            convert_ms = received.elapsed().as_millis(),
            "image converted"
        );
        // On a task of its own: a caller who hangs up now does not part the disk from its row.
        let (images, wanted) = (self.images, self.wanted);
        tokio::spawn(publish(images, wanted, cut)).await.map_err(|_| AppError::Lost)?
    }
}

/// The disk under its name, then the row; nobody deletes in between.
async fn publish(images: Images, wanted: Wanted, cut: Cut) -> Result<Image, AppError> {
    let image = Image {
        uid: uuid::Uuid::now_v7().to_string(),
        disk_bytes: cut.manifest.size_bytes,
        stored_bytes: i64::try_from(cut.stored_bytes).unwrap_or(i64::MAX),
        manifest_sha256: manifest_digest(&cut.manifest),
        create_time: Some(time::now()),
        ..wanted.image.clone()
    };
    let _publish = images.publish.lock().await;
    let disks = images.disks.clone();
    spawn_blocking(move || disks.publish(cut.raw, &cut.manifest))
        .await
        .map_err(|_| AppError::Lost)?
        .map_err(|source| AppError::Disk { doing: "cannot keep a disk", source })?;
    match images.store.insert(&image, &wanted.request_id, wanted.reserved).await {
        Ok(stored) => {
            tracing::info!(actor = %wanted.actor, image = %image.name, manifest = %image.manifest_sha256, "image stored");
            Ok(stored.image)
        }
        Err(error) => {
            images.drop_unused(&image.manifest_sha256).await;
            match error {
                InsertError::Taken(existing) => same_request(*existing, &wanted),
                InsertError::Reservation if wanted.reserved => {
                    Err(AppError::NotAllowed(format!("{} is no longer reserved", image.name)))
                }
                InsertError::Reservation => Err(AppError::Reserved(image.name)),
                InsertError::Store(error) => Err(error.into()),
            }
        }
    }
}

impl Images {
    /// Removes a disk that was kept for an image that is not to be. Holding the lock is the caller's duty.
    async fn drop_unused(&self, manifest: &str) {
        // A database that cannot be asked: the sweep at the next start does it.
        let Ok(used) = self.store.manifests().await else { return };
        if used.contains(manifest) {
            return;
        }
        let (disks, manifest) = (self.disks.clone(), manifest.to_owned());
        if let Ok(Err(error)) = spawn_blocking(move || disks.remove(&manifest)).await {
            tracing::warn!(%error, "cannot remove a disk without an image");
        }
    }
}

/// An image that has the name already: the answer if it came from this same request, else a refusal.
fn same_request(existing: Stored, wanted: &Wanted) -> Result<Image, AppError> {
    let name = wanted.image.name.clone();
    let same_id = !wanted.request_id.is_empty() && existing.request_id == wanted.request_id;
    if !same_id || existing.image.owner != wanted.image.owner {
        return Err(AppError::NameTaken(name));
    }
    if existing.image.sha256 != wanted.image.sha256 {
        return Err(AppError::RequestIdReused(name));
    }
    Ok(existing.image)
}

/// Pieces of at most 1 MiB between the network and the disk.
const PIECES: usize = 4;
