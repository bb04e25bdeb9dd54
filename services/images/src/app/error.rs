//! Why the service did not do it.

use crate::import::ImportError;
use farrier_images_store::StoreError;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error("{0} is not here")]
    NotFound(String),
    #[error("{field}: {expected}")]
    Invalid { field: &'static str, expected: String },
    #[error("{0}")]
    NotAllowed(String),
    #[error("{0} exists")]
    NameTaken(String),
    #[error("{0} is reserved")]
    Reserved(String),
    #[error("the request id was used to upload other bytes as {0}")]
    RequestIdReused(String),
    #[error("{0} changed")]
    Stale(String),
    #[error("{name} is in use")]
    InUse {
        name: String,
        /// Those that the caller may see.
        by: Vec<String>,
        others: usize,
    },
    #[error("{name} has another manifest")]
    ImageChanged { name: String, now: Option<String> },
    #[error("the service is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("database error")]
    Store(#[from] StoreError),
    #[error("{doing}")]
    Disk {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("a task of the service ended early")]
    Lost,
}
