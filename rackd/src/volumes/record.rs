//! Whose a volume is, in a file beside it.

use super::{VolumeError, io_error, label, write_synced};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Beside each volume: whose it is. Written first and removed last, so that no volume is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) instance: String,
    pub(super) node: String,
    /// The task that offers it; empty: it is between two machines, and nobody may.
    pub(super) task: String,
    pub(super) manifest_sha256: String,
    /// The task whose secrets have the user data, when that is not `task`.
    #[serde(default)]
    pub(super) seed_of: String,
    /// Of the disk, wherever it goes: no other has it.
    #[serde(default)]
    pub(super) id: String,
}

impl Record {
    /// Whether this task of this node may offer it.
    pub(super) fn is_offered_by(&self, node: &str, task: &str) -> bool {
        label(&self.node) == label(node) && self.task == task
    }

    /// Whether it was made for the same.
    pub(super) fn is_of(&self, known: &Record) -> bool {
        Record { id: self.id.clone(), ..known.clone() } == *self
    }
}

/// Those that can be read, and why the others cannot.
pub(super) fn read_records(dir: &Path) -> Result<(Vec<Record>, Vec<VolumeError>), VolumeError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        entries => entries.map_err(io_error("reading", dir))?,
    };
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(io_error("reading", dir))?.path();
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

/// `None`: there is none.
pub(super) fn read_record(path: &Path) -> Result<Option<Record>, VolumeError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => {
            let record = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
            record.map(Some).map_err(io_error("reading", path))
        }
    }
}

pub(super) fn write_record(path: &Path, record: &Record) -> Result<(), VolumeError> {
    let text = serde_json::to_vec(record).map_err(io::Error::other).map_err(io_error("writing", path))?;
    write_synced(path, &text)
}

/// How its file's name ends.
pub(super) const RECORD: &str = "json";
