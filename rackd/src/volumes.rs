//! rackd's iSCSI disks: images that ramdisks copy, and the volumes of machines without a disk of their own.
//!
//! Targets are in memory, what they are made of is on disk: a restarted rackd offers them again, and initiators that
//! watch their sessions (iPXE's next boot, Linux with iscsid) log in again.

mod accounts;
mod disk;
mod held;
mod moving;
mod record;
mod shown;

use crate::config::Config;
pub(crate) use accounts::Account;
use disk::{Disk, PATIENCE, blocking};
use farrier_block::{
    AddError, Backing as _, Chap, Credentials, FileBacking, Image, Limits, LunSpec, Mode, Overlay,
    OverlayError, OverlayOptions, Secret, TargetSpec, Targets,
};
use farrier_runtime::telemetry::chain;
use farrier_runtime::vault::Vault;
use held::{Slots, Turn};
pub(crate) use moving::Owner;
use record::{RECORD, Record, read_record, read_records, write_record};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::broadcast;

/// The rack's targets and volumes.
pub(crate) struct Volumes {
    targets: Targets,
    port: u16,
    rack: String,
    dir: PathBuf,
    vault: Arc<Vault>,
    disk: Disk,
    /// What comes of offering machines their disks.
    offers: broadcast::Sender<Offer>,
    /// Open volumes. Never two open overlays over one file: it is opened once, and stays open while it is there.
    open: Slots,
}

/// An open volume. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) overlay: Arc<Overlay>,
    /// The image below.
    pub(crate) base: Arc<dyn farrier_block::Image>,
    pub(crate) base_id: String,
}

/// What a machine needs to log in.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) target: String,
    pub(crate) initiator: String,
    pub(crate) port: u16,
}

/// What came of offering a machine its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// To whom, and of which instance, as in [`Away`].
    Made {
        node: String,
        instance: String,
    },
    Failed(Away),
}

/// A machine's disk that cannot be offered to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Away {
    /// `nodes/{node}`
    pub(crate) node: String,
    /// `instances/{instance}`, or its label.
    pub(crate) instance: String,
    pub(crate) reason: String,
}

/// A volume to be.
pub(crate) struct NewVolume<'a> {
    /// Label of the instance: one volume each.
    pub(crate) instance: &'a str,
    /// `nodes/{node}` that boots from it.
    pub(crate) node: &'a str,
    /// The operation that makes it: the same again finds it made.
    pub(crate) task: &'a str,
    pub(crate) image: Arc<dyn Image>,
    pub(crate) manifest_sha256: &'a str,
    /// Bytes; the image's own when that is more.
    pub(crate) bytes: u64,
    /// NoCloud file system, the second logical unit.
    pub(crate) seed: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{doing} {path}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the disk that volumes are on: expected an answer within {seconds} s, saw none; look at the rack's disk"
    )]
    Hangs { seconds: u64 },
    #[error("the volume at {path} cannot be used")]
    Overlay { path: PathBuf, source: OverlayError },
    #[error("the disk cannot be offered")]
    Target(#[from] AddError),
    #[error("instance {instance}: expected its volume on this rack, saw none; deploy it again")]
    NoVolume { instance: String },
    #[error(
        "the image below the volume, {manifest_sha256}: expected it in the rack's cache, saw nothing there"
    )]
    NoImage { manifest_sha256: String },
    #[error("instance {instance}: expected its volume with {expected}, it is {seen}")]
    Elsewhere { instance: String, expected: String, seen: String },
    #[error("instance {instance}: expected its disk offered to a machine, it is not; look at the rack's log")]
    NotOffered { instance: String },
    #[error(
        "{}: expected at least {}, which the disk has now; it can only grow",
        farrier_model::size::exact(*.wanted),
        farrier_model::size::exact(*.now)
    )]
    Shrinks { wanted: u64, now: u64 },
}

impl VolumeError {
    /// Whether it may be over when the disk is well again.
    fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Hangs { .. } | Self::Overlay { .. } | Self::NoImage { .. })
    }
}

impl Volumes {
    pub(crate) fn new(config: &Config, port: u16, vault: Arc<Vault>) -> Self {
        Self {
            targets: Targets::new(Limits::default()),
            port,
            rack: config.rack.clone(),
            dir: config.data.join("volumes"),
            vault,
            disk: Disk::new(PATIENCE),
            offers: broadcast::Sender::new(OFFERS),
            open: Slots::default(),
        }
    }

    /// What comes of offering machines their disks, from now on. A receiver that is slow loses the oldest.
    pub(crate) fn offers(&self) -> broadcast::Receiver<Offer> {
        self.offers.subscribe()
    }

    pub(crate) fn targets(&self) -> Targets {
        self.targets.clone()
    }

    /// The node that this initiator's name is of, if it is one of ours: who says so has proved nothing yet.
    pub(crate) fn node_of(&self, initiator: &str) -> Option<String> {
        let node = initiator.strip_prefix(&format!("{AUTHORITY}:{}:node:", self.rack))?;
        farrier_model::is_label(node).then(|| format!("nodes/{node}"))
    }

    /// The node that has this target of ours, which is offered.
    pub(crate) fn owner_of(&self, target: &str) -> Option<String> {
        self.targets.initiators_of(target).first().and_then(|initiator| self.node_of(initiator))
    }

    /// Offers a whole image, read-only, to one node's ramdisk, which proves itself with `user` and `secret`.
    pub(crate) async fn offer_image(
        &self,
        node: &str,
        image: PathBuf,
        user: &str,
        secret: &str,
    ) -> Result<Access, VolumeError> {
        let access = self.access(IMAGE, node, node);
        let lun = blocking(move || Ok(LunSpec::new(0, open_image(&image)?).read_only())).await?;
        let initiator = Credentials { user: user.to_owned(), secret: Secret::new(secret.as_bytes()) };
        self.offer(&access, vec![lun], vec![Chap { initiator, target: None }]).await?;
        Ok(access)
    }

    /// Ends what [`Volumes::offer_image`] began.
    pub(crate) async fn withdraw_image(&self, node: &str) {
        self.targets.remove(&self.access(IMAGE, node, node).target).await;
    }

    /// Makes the volume, unless this very task has made it already. An older one of the instance goes.
    pub(crate) async fn ensure_volume(&self, new: NewVolume<'_>) -> Result<(), VolumeError> {
        let record = Record {
            instance: new.instance.to_owned(),
            node: new.node.to_owned(),
            task: new.task.to_owned(),
            manifest_sha256: new.manifest_sha256.to_owned(),
            seed_of: String::new(),
            id: hex::encode(rand::random::<[u8; 8]>()),
        };
        let turn = self.turn(new.instance).await?;
        let (files, wanted) = (self.files(new.instance), record.clone());
        let (turn, is_made) = self
            .disk
            .with(turn, move |_| {
                // One that cannot be read is not of this task, and the instance has no other disk.
                let known = read_record(&files.record).ok().flatten();
                Ok(known.is_some_and(|known| wanted.is_of(&known)) && files.seed.exists())
            })
            .await?;
        if is_made {
            return Ok(());
        }
        self.targets.remove(&self.access(VOLUME, new.instance, new.node).target).await;
        let (files, dir) = (self.files(new.instance), self.dir.clone());
        let (image, bytes, seed) = (new.image, new.bytes, new.seed);
        let made = self.disk.with(turn, move |turn| {
            // The NoCloud file system has user data in it, the overlay everything else of the tenant.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(io_error("making", &dir))?;
            files.remove(turn.take())?;
            // First: whatever happens now, somebody knows that there is something to remove.
            write_record(&files.record, &record)?;
            let size = Some(bytes.max(image.size()).next_multiple_of(SECTOR));
            let options = OverlayOptions { size, ..OverlayOptions::default() };
            let overlay = Overlay::create(&files.overlay, &options, image, &record.manifest_sha256);
            overlay.and_then(|o| Ok(o.flush()?)).map_err(overlay_error(&files.overlay))?;
            // Last: a volume with it is whole.
            write_synced(&files.seed, &seed)?;
            sync_dir(&dir)
        });
        made.await.map(drop)
    }

    /// Offers an instance's volume (logical unit 0) and its NoCloud file system (1) to its node.
    pub(crate) async fn offer_volume(
        &self,
        instance: &str,
        node: &str,
        task: &str,
        image: Arc<dyn Image>,
    ) -> Result<Access, VolumeError> {
        let offered = self.try_to_offer(instance, node, task, image).await;
        let (node, instance) = (node.to_owned(), instance.to_owned());
        let offer = match &offered {
            Ok(_) => Offer::Made { node, instance },
            Err(error) if error.is_of_the_disk() => {
                Offer::Failed(Away { node, instance, reason: chain(error) })
            }
            Err(_) => return offered,
        };
        // Nobody listens: nobody wants to know.
        let _ = self.offers.send(offer);
        offered
    }

    async fn try_to_offer(
        &self,
        instance: &str,
        node: &str,
        task: &str,
        image: Arc<dyn Image>,
    ) -> Result<Access, VolumeError> {
        let access = self.access(VOLUME, instance, node);
        let (turn, record) = self.record(instance).await?;
        // A task of a machine that the volume was taken from may still be restored: never to two machines.
        if !record.is_offered_by(node, task) {
            return Err(elsewhere(&record, node));
        }
        self.targets.remove(&access.target).await;
        let (turn, volume) = self.opened(turn, &record, image).await?;
        let files = self.files(instance);
        let seed = move |_: &mut Turn| {
            FileBacking::open(&files.seed, Mode::ReadOnly).map_err(io_error("opening", &files.seed))
        };
        let (turn, seed) = self.disk.with(turn, seed).await?;
        // The next instance of this name has another disk.
        let luns = [LunSpec::new(0, volume.overlay), LunSpec::new(1, seed).read_only()];
        let luns = luns.into_iter().map(|lun| lun.medium(&record.id)).collect();
        let (_turn, accounts) = self.accounts(turn, instance, task).await?;
        self.offer(&access, luns, accounts.chap()).await?;
        Ok(access)
    }

    /// Ends the sessions of a node and offers it nothing any more. Its volumes stay.
    pub(crate) async fn withdraw(&self, node: &str) {
        self.withdraw_image(node).await;
        // A volume that cannot be read here is offered under its instance's name, which only the record knows.
        let records = self.readable().await.unwrap_or_else(|error| {
            tracing::error!(node.id = node, error = %chain(&error), "volumes not withdrawn by their records");
            Vec::new()
        });
        for record in records.into_iter().filter(|record| label(&record.node) == label(node)) {
            self.targets.remove(&self.access(VOLUME, &record.instance, node).target).await;
        }
        // Whatever the records say.
        for target in self.targets.names_for(&self.access(VOLUME, "", node).initiator) {
            self.targets.remove(&target).await;
        }
    }

    /// Ends the sessions of a node and removes its volumes. Returns the instances they were of.
    pub(crate) async fn drop_volumes(&self, node: &str) -> Result<Vec<String>, VolumeError> {
        self.withdraw(node).await;
        let mut dropped = Vec::new();
        // One that cannot be read is told of by whoever lists them, and keeps nobody else's.
        let (mut records, _) = self.read_all().await?;
        records.retain(|record| label(&record.node) == label(node));
        for instance in records.into_iter().map(|record| record.instance) {
            // Nobody offers it again between its withdrawal and its removal, or gives it to another node.
            let turn = match self.record(&instance).await {
                Ok((turn, record)) if label(&record.node) == label(node) => turn,
                Ok(_) | Err(VolumeError::NoVolume { .. }) => continue,
                Err(error) => return Err(error),
            };
            self.targets.remove(&self.access(VOLUME, &instance, node).target).await;
            let (files, dir) = (self.files(&instance), self.dir.clone());
            let removed = self.disk.with(turn, move |turn| {
                files.remove(turn.take())?;
                sync_dir(&dir)
            });
            removed.await?;
            dropped.push(instance);
        }
        Ok(dropped)
    }

    /// The volume of an instance that lives on `node`, opened if it is not. `image`: the cached one with this digest.
    pub(crate) async fn volume(
        &self,
        instance: &str,
        node: &str,
        image: impl FnOnce(&str) -> Option<PathBuf>,
    ) -> Result<Volume, VolumeError> {
        let (turn, record) = self.record(instance).await?;
        if label(&record.node) != label(node) {
            return Err(elsewhere(&record, node));
        }
        if let Some(volume) = &*turn {
            return Ok(volume.clone());
        }
        let missing = || VolumeError::NoImage { manifest_sha256: record.manifest_sha256.clone() };
        let path = image(&record.manifest_sha256).ok_or_else(missing)?;
        let image = blocking(move || open_image(&path)).await?;
        Ok(self.opened(turn, &record, image).await?.1)
    }

    /// What is done to a volume waits for what is done to it now, and not for ever.
    async fn turn(&self, instance: &str) -> Result<Turn, VolumeError> {
        self.disk.soon(async { Ok(self.open.turn(instance).await) }).await
    }

    /// A volume's record, and its turn.
    async fn record(&self, instance: &str) -> Result<(Turn, Record), VolumeError> {
        let (turn, path) = (self.turn(instance).await?, self.files(instance).record);
        let (turn, record) = self.disk.with(turn, move |_| read_record(&path)).await?;
        let missing = || VolumeError::NoVolume { instance: instance.to_owned() };
        Ok((turn, record.ok_or_else(missing)?))
    }

    async fn opened(
        &self,
        turn: Turn,
        record: &Record,
        base: Arc<dyn Image>,
    ) -> Result<(Turn, Volume), VolumeError> {
        let (path, base_id) = (self.files(&record.instance).overlay, record.manifest_sha256.clone());
        let open = move |turn: &mut Turn| {
            if let Some(volume) = &**turn {
                return Ok(volume.clone());
            }
            let overlay = Overlay::open(&path, base.clone(), &base_id).map_err(overlay_error(&path))?;
            Ok(turn.insert(Volume { overlay, base, base_id }).clone())
        };
        self.disk.with(turn, open).await
    }

    async fn offer(
        &self,
        access: &Access,
        luns: Vec<LunSpec>,
        accounts: Vec<Chap>,
    ) -> Result<(), VolumeError> {
        // What an earlier try offered is offered anew: its backing may be another file by now.
        self.targets.remove(&access.target).await;
        self.targets.add(TargetSpec {
            name: access.target.clone(),
            alias: String::new(),
            luns,
            accounts,
            initiators: vec![access.initiator.clone()],
        })?;
        Ok(())
    }

    fn access(&self, kind: &str, what: &str, node: &str) -> Access {
        let (what, node) = (label(what), label(node));
        Access {
            target: format!("{AUTHORITY}:{}:{kind}:{what}", self.rack),
            initiator: format!("{AUTHORITY}:{}:node:{node}", self.rack),
            port: self.port,
        }
    }

    /// Tasks that a volume still needs: the one that offers it, and the one whose secrets have its user data.
    pub(crate) async fn tasks(&self) -> Result<HashSet<String>, VolumeError> {
        Ok(self.all_records().await?.into_iter().flat_map(|record| [record.task, record.seed_of]).collect())
    }

    /// Images that a volume builds on.
    pub(crate) async fn images(&self) -> Result<HashSet<String>, VolumeError> {
        Ok(self.all_records().await?.into_iter().map(|record| record.manifest_sha256).collect())
    }

    /// All of them, or the error of the first that cannot be read.
    async fn all_records(&self) -> Result<Vec<Record>, VolumeError> {
        let (records, unreadable) = self.read_all().await?;
        unreadable.into_iter().next().map_or(Ok(records), Err)
    }

    /// Those that can be read; the others are told of.
    async fn readable(&self) -> Result<Vec<Record>, VolumeError> {
        let (records, unreadable) = self.read_all().await?;
        for error in unreadable {
            tracing::error!(error = %chain(&error), "a volume's record cannot be read");
        }
        Ok(records)
    }

    /// Those that can be read, and why the others cannot.
    async fn read_all(&self) -> Result<(Vec<Record>, Vec<VolumeError>), VolumeError> {
        let dir = self.dir.clone();
        self.disk.look(move || read_records(&dir)).await
    }

    fn files(&self, instance: &str) -> Files {
        // A label has neither dots nor slashes.
        let name = label(instance);
        Files {
            overlay: self.dir.join(format!("{name}.overlay")),
            seed: self.dir.join(format!("{name}.seed")),
            accounts: self.dir.join(format!("{name}.accounts")),
            record: self.dir.join(format!("{name}.{RECORD}")),
        }
    }
}

/// Where the parts of a volume are.
#[derive(Clone)]
struct Files {
    overlay: PathBuf,
    seed: PathBuf,
    /// Sealed.
    accounts: PathBuf,
    record: PathBuf,
}

impl Files {
    /// The record goes last: as long as it is there, somebody knows that there is something to remove. `open`: the volume,
    /// if it was; what it has not written yet is not written any more.
    fn remove(&self, open: Option<Volume>) -> Result<(), VolumeError> {
        if let Some(volume) = open {
            volume.overlay.abandon();
        }
        let begun = [&self.seed, &self.accounts, &self.record].map(|path| beside(path));
        let whole = [&self.overlay, &self.seed, &self.accounts, &self.record].into_iter();
        for path in begun.iter().chain(whole) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("removing", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn label(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// A file that took another's place survives a power failure when its directory does.
fn sync_dir(dir: &Path) -> Result<(), VolumeError> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("writing", dir))
}

fn elsewhere(record: &Record, expected: &str) -> VolumeError {
    let seen = if record.task.is_empty() { "given to" } else { "with" };
    VolumeError::Elsewhere {
        instance: record.instance.clone(),
        expected: expected.to_owned(),
        seen: format!("{seen} {}", record.node),
    }
}

fn open_image(path: &Path) -> Result<Arc<FileBacking>, VolumeError> {
    FileBacking::open(path, Mode::ReadOnly).map_err(io_error("opening", path))
}

/// What a file is called until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Whole or not at all.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), VolumeError> {
    use std::io::Write as _;
    let tmp = beside(path);
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        // A file system image is zeros behind what is in it.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        file.write_all(bytes.get(..end).unwrap_or(bytes))?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        std::fs::rename(&tmp, path)
    };
    write().map_err(io_error("writing", path))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { doing, path, source }
}

fn overlay_error(path: &Path) -> impl FnOnce(OverlayError) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Overlay { path, source }
}

/// Naming authority of every name we make (RFC 7143 section 4.2.7.4).
const AUTHORITY: &str = "iqn.2026-11.dev.farrier";
const IMAGE: &str = "image";
const VOLUME: &str = "volume";
const SECTOR: u64 = 512;
/// More than a rack has machines.
const OFFERS: usize = 1024;

#[cfg(test)]
mod tests;
