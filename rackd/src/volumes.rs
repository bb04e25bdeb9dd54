//! rackd's iSCSI disks: images that ramdisks copy, and the volumes of machines without a disk of their own.
//!
//! Targets are in memory, what they are made of is on disk: a restarted rackd offers them again, and initiators that
//! watch their sessions (iPXE's next boot, Linux with iscsid) log in again.

mod accounts;
mod held;
mod moving;
mod shown;

use crate::config::Config;
pub(crate) use accounts::Account;
use farrier_block::{
    AddError, Backing as _, Chap, Credentials, FileBacking, Image, Limits, LunSpec, Mode, Overlay,
    OverlayError, OverlayOptions, Secret, TargetSpec, Targets,
};
use farrier_runtime::vault::Vault;
use held::{Slots, Turn};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rack's targets and volumes.
pub(crate) struct Volumes {
    targets: Targets,
    port: u16,
    rack: String,
    dir: PathBuf,
    vault: Arc<Vault>,
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

/// Beside each volume: whose it is. Written first and removed last, so that no volume is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    instance: String,
    node: String,
    /// The task that offers it; empty: it is between two machines, and nobody may.
    task: String,
    manifest_sha256: String,
    /// The task whose secrets have the user data, when that is not `task`.
    #[serde(default)]
    seed_of: String,
    /// Of the disk, wherever it goes: no other has it.
    #[serde(default)]
    id: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{doing} {path}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
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

impl Volumes {
    pub(crate) fn new(config: &Config, port: u16, vault: Arc<Vault>) -> Self {
        Self {
            targets: Targets::new(Limits::default()),
            port,
            rack: config.rack.clone(),
            dir: config.data.join("volumes"),
            vault,
            open: Slots::default(),
        }
    }

    pub(crate) fn targets(&self) -> Targets {
        self.targets.clone()
    }

    /// The node that this initiator's name is of, if it is one of ours: who says so has proved nothing yet.
    pub(crate) fn node_of(&self, initiator: &str) -> Option<String> {
        let node = initiator.strip_prefix(&format!("{AUTHORITY}:{}:node:", self.rack))?;
        farrier_model::is_label(node).then(|| format!("nodes/{node}"))
    }

    /// The node that has this target of ours.
    pub(crate) fn owner_of(&self, target: &str) -> Option<String> {
        let (kind, what) = target.strip_prefix(&format!("{AUTHORITY}:{}:", self.rack))?.split_once(':')?;
        match kind {
            IMAGE => farrier_model::is_label(what).then(|| format!("nodes/{what}")),
            VOLUME if farrier_model::is_label(what) => Some(self.record(what).ok()?.node),
            _ => None,
        }
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
        let mut turn = self.open.turn(new.instance).await;
        let files = self.files(new.instance);
        // One that cannot be read is not of this task, and the instance has no other disk.
        let known = read_record(&files.record).ok().flatten();
        if known.is_some_and(|known| record.is_of(&known)) && files.seed.exists() {
            return Ok(());
        }
        self.targets.remove(&self.access(VOLUME, new.instance, new.node).target).await;
        let old = turn.take();
        let (image, bytes, seed, dir) = (new.image, new.bytes, new.seed, self.dir.clone());
        blocking(move || {
            // The NoCloud file system has user data in it, the overlay everything else of the tenant.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(io_error("making", &dir))?;
            files.remove(old)?;
            // First: whatever happens now, somebody knows that there is something to remove.
            write_record(&files.record, &record)?;
            let size = Some(bytes.max(image.size()).next_multiple_of(SECTOR));
            let options = OverlayOptions { size, ..OverlayOptions::default() };
            let overlay = Overlay::create(&files.overlay, &options, image, &record.manifest_sha256);
            overlay.and_then(|o| Ok(o.flush()?)).map_err(overlay_error(&files.overlay))?;
            // Last: a volume with it is whole.
            write_synced(&files.seed, &seed)?;
            sync_dir(&dir)?;
            // Held until here, whoever waits for it.
            drop(turn);
            Ok(())
        })
        .await
    }

    /// Offers an instance's volume (logical unit 0) and its NoCloud file system (1) to its node.
    pub(crate) async fn offer_volume(
        &self,
        instance: &str,
        node: &str,
        task: &str,
        image: Arc<dyn Image>,
    ) -> Result<Access, VolumeError> {
        let access = self.access(VOLUME, instance, node);
        let mut turn = self.open.turn(instance).await;
        let files = self.files(instance);
        let record = self.record(instance)?;
        // A task of a machine that the volume was taken from may still be restored: never to two machines.
        if !record.is_offered_by(node, task) {
            return Err(elsewhere(&record, node));
        }
        self.targets.remove(&access.target).await;
        let volume = self.opened(&mut turn, &record, image).await?;
        let luns = blocking(move || {
            let seed =
                FileBacking::open(&files.seed, Mode::ReadOnly).map_err(io_error("opening", &files.seed))?;
            // The next instance of this name has another disk.
            let luns = [LunSpec::new(0, volume.overlay), LunSpec::new(1, seed).read_only()];
            Ok(luns.into_iter().map(|lun| lun.medium(&record.id)).collect())
        })
        .await?;
        let (_turn, accounts) = self.accounts(turn, instance, task).await?;
        self.offer(&access, luns, accounts.chap()).await?;
        Ok(access)
    }

    /// Ends the sessions of a node and offers it nothing any more. Its volumes stay.
    pub(crate) async fn withdraw(&self, node: &str) {
        self.withdraw_image(node).await;
        // A volume that cannot be read here is offered under its instance's name, which only the record knows.
        let (records, unreadable) = match self.read_all() {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(node.id = node, error = %farrier_runtime::telemetry::chain(&error), "volumes not withdrawn");
                return;
            }
        };
        for error in unreadable {
            tracing::error!(error = %farrier_runtime::telemetry::chain(&error), "a volume's record cannot be read");
        }
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
        let (mut records, _) = self.read_all()?;
        records.retain(|record| label(&record.node) == label(node));
        for instance in records.into_iter().map(|record| record.instance) {
            // Nobody offers it again between its withdrawal and its removal, or gives it to another node.
            let mut turn = self.open.turn(&instance).await;
            let files = self.files(&instance);
            if read_record(&files.record)?.is_none_or(|record| label(&record.node) != label(node)) {
                continue;
            }
            self.targets.remove(&self.access(VOLUME, &instance, node).target).await;
            let (old, dir) = (turn.take(), self.dir.clone());
            blocking(move || {
                files.remove(old)?;
                sync_dir(&dir)?;
                drop(turn);
                Ok(())
            })
            .await?;
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
        let mut turn = self.open.turn(instance).await;
        let record = self.record(instance)?;
        if label(&record.node) != label(node) {
            return Err(elsewhere(&record, node));
        }
        if let Some(volume) = &*turn {
            return Ok(volume.clone());
        }
        let missing = || VolumeError::NoImage { manifest_sha256: record.manifest_sha256.clone() };
        let path = image(&record.manifest_sha256).ok_or_else(missing)?;
        let image = blocking(move || open_image(&path)).await?;
        self.opened(&mut turn, &record, image).await
    }

    fn record(&self, instance: &str) -> Result<Record, VolumeError> {
        let missing = || VolumeError::NoVolume { instance: instance.to_owned() };
        read_record(&self.files(instance).record)?.ok_or_else(missing)
    }

    async fn opened(
        &self,
        turn: &mut Turn,
        record: &Record,
        base: Arc<dyn Image>,
    ) -> Result<Volume, VolumeError> {
        if let Some(volume) = &**turn {
            return Ok(volume.clone());
        }
        let (path, base_id) = (self.files(&record.instance).overlay, record.manifest_sha256.clone());
        let volume = blocking(move || {
            let overlay = Overlay::open(&path, base.clone(), &base_id).map_err(overlay_error(&path))?;
            Ok(Volume { overlay, base, base_id })
        })
        .await?;
        **turn = Some(volume.clone());
        Ok(volume)
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
    pub(crate) fn tasks(&self) -> Result<HashSet<String>, VolumeError> {
        Ok(self.all_records()?.into_iter().flat_map(|record| [record.task, record.seed_of]).collect())
    }

    /// Images that a volume builds on.
    pub(crate) fn images(&self) -> Result<HashSet<String>, VolumeError> {
        Ok(self.all_records()?.into_iter().map(|record| record.manifest_sha256).collect())
    }

    /// All of them, or the error of the first that cannot be read.
    fn all_records(&self) -> Result<Vec<Record>, VolumeError> {
        let (records, unreadable) = self.read_all()?;
        unreadable.into_iter().next().map_or(Ok(records), Err)
    }

    /// Those that can be read, and why the others cannot.
    fn read_all(&self) -> Result<(Vec<Record>, Vec<VolumeError>), VolumeError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            entries => entries.map_err(io_error("reading", &self.dir))?,
        };
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(io_error("reading", &self.dir))?.path();
            if path.extension().is_none_or(|extension| extension != RECORD) {
                continue;
            }
            match read_record(&path) {
                Ok(record) => records.extend(record),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((records, unreadable))
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

impl Record {
    /// Whether this task of this node may offer it.
    fn is_offered_by(&self, node: &str, task: &str) -> bool {
        label(&self.node) == label(node) && self.task == task
    }

    /// Whether it was made for the same.
    fn is_of(&self, known: &Record) -> bool {
        Record { id: self.id.clone(), ..known.clone() } == *self
    }
}

fn label(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// `None`: there is none.
fn read_record(path: &Path) -> Result<Option<Record>, VolumeError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => {
            let record = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
            record.map(Some).map_err(io_error("reading", path))
        }
    }
}

fn write_record(path: &Path, record: &Record) -> Result<(), VolumeError> {
    let text = serde_json::to_vec(record).map_err(io::Error::other).map_err(io_error("writing", path))?;
    write_synced(path, &text)
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io_error("working on", Path::new("volumes"))(io::Error::other(error))))
}

/// Naming authority of every name we make (RFC 7143 section 4.2.7.4).
const AUTHORITY: &str = "iqn.2026-11.dev.farrier";
const IMAGE: &str = "image";
const VOLUME: &str = "volume";
const RECORD: &str = "json";
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests;
