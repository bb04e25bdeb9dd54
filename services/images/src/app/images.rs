//! The catalogue: start, read, delete.

use super::AppError;
use super::hold::in_use;
use crate::disks::Disks;
use anyhow::Context as _;
use farrier_identity::Identity;
use farrier_images_store::{DeleteError, Filter, Store, Stored};
use farrier_proto::images::Image;
use farrier_proto::types::ChunkManifest;
use farrier_runtime::authz::Caller;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;

/// The images of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    pub(super) store: Store,
    pub(super) disks: Disks,
    pub(super) max_bytes: u64,
    /// Held where a disk and the rows that refer to it change together, so that a disk is not removed
    /// under an image that is about to share it. One process has the directory, so this is enough.
    pub(super) publish: Arc<Mutex<()>>,
    /// Uploads that write at once; more wait.
    pub(super) uploads: Arc<Semaphore>,
    /// Conversions at once: each keeps a core busy.
    pub(super) conversions: Arc<Semaphore>,
}

impl Images {
    /// Opens the data directory and removes what a crash left there.
    pub(crate) async fn start(store: Store, data_dir: PathBuf, max_bytes: u64) -> anyhow::Result<Self> {
        let keep = store.manifests().await.context("cannot read the images")?;
        let disks = spawn_blocking(move || {
            let disks = Disks::open(data_dir)?;
            disks.sweep(&keep)?;
            for digest in keep.iter().filter(|digest| !disks.has(digest)) {
                tracing::error!(manifest = %digest, "the disk of an image is missing");
            }
            std::io::Result::Ok(disks)
        })
        .await?
        .context("cannot use the data directory")?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            store,
            disks,
            max_bytes,
            publish: Arc::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            conversions: Arc::new(Semaphore::new(cores)),
        })
    }

    /// Largest file taken, and largest disk.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// An image that the caller may see.
    pub(crate) async fn image(&self, caller: &Caller, name: &str) -> Result<Image, AppError> {
        let found = self.store.image(name).await?.filter(|stored| caller.sees(&stored.image.owner));
        let mut image = found.ok_or_else(|| AppError::NotFound(name.to_owned()))?.image;
        self.with_users(caller, std::slice::from_mut(&mut image)).await?;
        Ok(image)
    }

    /// Images that the caller may see, by name.
    pub(crate) async fn list(
        &self,
        caller: &Caller,
        filter: Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Image>, AppError> {
        let visible_to = (!caller.sees_all_projects()).then(|| caller.project().to_owned());
        let found = self.store.list(&Filter { visible_to, ..filter }, after, limit).await?;
        let mut images: Vec<Image> = found.into_iter().map(|stored| stored.image).collect();
        self.with_users(caller, &mut images).await?;
        Ok(images)
    }

    /// Deletes an image of the caller's, and its disk when no other image has it.
    pub(crate) async fn delete(&self, caller: &Caller, name: &str, etag: &str) -> Result<(), AppError> {
        let image = self.image(caller, name).await?;
        if !owns(caller, &image.owner) {
            return Err(AppError::NotAllowed(format!("{name} belongs to everybody: an operator deletes it")));
        }
        // Without an etag too: what was checked above is what goes.
        let etag = if etag.is_empty() { image.etag } else { etag.to_owned() };
        let images = self.clone();
        let (name, caller) = (name.to_owned(), caller.clone());
        // On a task of its own: a caller who hangs up does not leave the work half done.
        tokio::spawn(async move {
            let _publish = images.publish.lock().await;
            let deleted = images.store.delete(&name, &etag).await.map_err(|error| match error {
                DeleteError::NotFound => AppError::NotFound(name.clone()),
                DeleteError::Stale => AppError::Stale(name.clone()),
                DeleteError::InUse(holders) => in_use(&caller, &name, holders),
                DeleteError::Store(error) => error.into(),
            })?;
            let actor = caller.actor();
            tracing::info!(%actor, image = %name, manifest = %deleted.manifest_sha256, "image deleted");
            if deleted.last {
                let disks = images.disks.clone();
                spawn_blocking(move || disks.remove(&deleted.manifest_sha256))
                    .await
                    .map_err(|_| AppError::Lost)?
                    .map_err(|source| AppError::Disk { doing: "cannot remove a disk", source })?;
            }
            Ok(())
        })
        .await
        .map_err(|_| AppError::Lost)?
    }

    /// The chunks of an image's disk. A rack must know its digest, which nobody guesses: so it reads what a
    /// task of its own names, and no other project's images. Others who may read bytes see every project.
    pub(crate) async fn manifest(
        &self,
        caller: &Caller,
        name: &str,
        expected: &str,
    ) -> Result<ChunkManifest, AppError> {
        let Some(Stored { image, .. }) = self.store.image(name).await? else {
            return Err(AppError::NotFound(name.to_owned()));
        };
        let by_digest = matches!(caller.identity(), Some(Identity::Rack(_)));
        if (by_digest || !expected.is_empty()) && expected != image.manifest_sha256 {
            let now = (!by_digest).then_some(image.manifest_sha256);
            return Err(AppError::ImageChanged { name: name.to_owned(), now });
        }
        let disks = self.disks.clone();
        let found = spawn_blocking(move || disks.manifest(&image.manifest_sha256)).await;
        found
            .map_err(|_| AppError::Lost)?
            .and_then(|manifest| manifest.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
            .map_err(|source| AppError::Disk { doing: "cannot read a manifest", source })
    }
}

/// Whether the caller may change what belongs to `owner`.
fn owns(caller: &Caller, owner: &str) -> bool {
    caller.sees_all_projects() || (!owner.is_empty() && owner == caller.project())
}

/// Uploads that write at once. A spinning disk serves fewer well; a network card is full long before.
const UPLOADS: usize = 16;
