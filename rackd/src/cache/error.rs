use crate::space::NoRoom;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tonic::{Code, Status};

/// Why an image, or a part of it, is not in the cache.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("the images service did not answer: {0}")]
    Unreachable(Status),
    #[error("the images service refused {image}: {message}")]
    Refused { image: String, message: String },
    #[error(
        "{what}: expected SHA-256 {expected}, saw {seen}; the image or the link is damaged, import it again"
    )]
    Checksum { what: String, expected: String, seen: String },
    #[error("the manifest of {image} is malformed: {why}")]
    Manifest { image: String, why: &'static str },
    #[error("the image cache at {path} cannot be used")]
    Disk { path: PathBuf, source: Arc<io::Error> },
    #[error("no room for the image: {0}")]
    NoRoom(NoRoom),
}

impl CacheError {
    pub(crate) fn is_transient(&self) -> bool {
        // A full disk may be emptied.
        matches!(self, CacheError::Unreachable(_) | CacheError::Disk { .. } | CacheError::NoRoom(_))
    }

    pub(super) fn of(image: &str, status: Status) -> Self {
        match status.code() {
            Code::NotFound | Code::FailedPrecondition | Code::PermissionDenied | Code::InvalidArgument => {
                CacheError::Refused { image: image.to_owned(), message: status.message().to_owned() }
            }
            _ => CacheError::Unreachable(status),
        }
    }

    pub(super) fn silent(image: &str, seconds: u64) -> Self {
        CacheError::Unreachable(Status::deadline_exceeded(format!("nothing of {image} for {seconds}s")))
    }

    pub(super) fn ended_early(image: &str) -> Self {
        CacheError::Unreachable(Status::unavailable(format!("the stream of {image} ended early")))
    }
}

pub(super) fn disk_error(path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Disk { path, source: Arc::new(source) }
}
