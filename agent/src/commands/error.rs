//! Why a command failed, with what was expected, what was seen and what to do next.
use crate::manifest::Digest;
use crate::root_device::Rejection;
use farrier_model::size::exact;
use farrier_proto::agent::FailureReason;
use std::io;
use std::time::Duration;

/// One variant a cause; the values are what an operator needs to act.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("expected a disk that matches the root device hints, seen {}; next: correct the hints of the node, or its disks", list(.0))]
    NoRootDevice(Vec<Rejection>),
    #[error(
        "expected a disk of at least {} for the {what}, seen {disk} with {}; next: choose a smaller image or a larger disk by root device hints",
        exact(*.needed_bytes),
        exact(*.disk_bytes)
    )]
    DiskTooSmall { what: &'static str, needed_bytes: u64, disk: String, disk_bytes: u64 },
    #[error(
        "chunk {chunk}: expected SHA-256 {expected}, seen {seen} in {tries} downloads; next: verify the image in the rack's cache"
    )]
    Checksum { chunk: usize, expected: Digest, seen: Digest, tries: u32 },
    #[error("expected chunk {chunk} from {server}, seen no byte for {} s, last error: {seen}; next: see that rackd serves images on the provisioning network", .stalled.as_secs())]
    Download { chunk: usize, server: String, stalled: Duration, seen: String },
    #[error("{disk}: {doing} failed ({source}); next: replace the disk if its log agrees")]
    DiskIo { disk: String, doing: String, source: io::Error },
    #[error(
        "{disk}: expected what was written at byte {offset}, seen something else; next: replace the disk"
    )]
    ReadBack { disk: String, offset: u64 },
    #[error(
        "{disk}: expected zeros after erasing, seen data at byte {offset}; next: keep the machine out of use and replace or erase the disk by hand"
    )]
    NotErased { disk: String, offset: u64 },
    #[error(transparent)]
    ConfigDrive(#[from] farrier_nocloud::VolumeError),
    #[error("expected every disk of the last inspection to be erased, not seen: {}; next: if they were taken out, inspect the node again; if not, see their cables and controllers", .0.join(", "))]
    DisksMissing(Vec<String>),
    #[error(
        "expected a disk to erase, seen none on a machine that was never inspected; next: inspect the node, then clean it"
    )]
    NoDisks,
    #[error("expected {expected}, seen {seen}; next: {next}")]
    BootEntry { expected: String, seen: String, next: &'static str },
    #[error("expected {expected}, seen {seen}; next: {next}")]
    Unsupported { expected: &'static str, seen: String, next: &'static str },
    #[error("the agent has a bug: {0}; next: report it with the console log")]
    Bug(String),
}

impl CommandError {
    /// For `map_err` on a disk's operations.
    pub fn disk_io(disk: &str, doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::DiskIo { disk: disk.to_owned(), doing: doing.into(), source }
    }

    /// The closed set rackd acts on.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::NoRootDevice(_) => FailureReason::NoRootDevice,
            Self::DiskTooSmall { .. } => FailureReason::DiskTooSmall,
            Self::Checksum { .. } => FailureReason::Checksum,
            Self::Download { .. } => FailureReason::Download,
            Self::DiskIo { .. } | Self::ReadBack { .. } => FailureReason::DiskIo,
            Self::NotErased { .. } | Self::DisksMissing(_) | Self::NoDisks => FailureReason::NotErased,
            Self::BootEntry { .. } => FailureReason::BootEntry,
            Self::Unsupported { .. } | Self::ConfigDrive(_) => FailureReason::Unsupported,
            Self::Bug(_) => FailureReason::Unspecified,
        }
    }
}

fn list(rejections: &[Rejection]) -> String {
    if rejections.is_empty() {
        return "no disk at all".to_owned();
    }
    let each: Vec<String> = rejections.iter().map(|r| format!("{}: {}", r.disk, r.because)).collect();
    each.join("; ")
}
