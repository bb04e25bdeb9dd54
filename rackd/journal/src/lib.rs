//! rackd's memory: tasks with their steps, the highest fencing token seen of each node, and the addresses
//! given out. One SQLite file, so that a killed rackd goes on where it was.
//!
//! It must never know what a step does. Secrets come in sealed. Start with [`Journal::accept`].

mod address;
mod entity;
mod home;
mod migration;
mod task;

pub use task::{Accepted, Record};

use farrier_db::Db;
use std::path::Path;
use tokio::sync::watch;

/// The journal of one rackd. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    db: Db,
    /// Highest sequence written: followers wait on it.
    latest: std::sync::Arc<watch::Sender<i64>>,
}

/// Why the journal refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal cannot be read or written")]
    Database(#[from] sea_orm::DbErr),
    #[error("{node} was last worked on with token {seen}; {given} is older: its owner has lost the node")]
    StaleFence { node: String, seen: i64, given: i64 },
    #[error("{node} is being worked on by task {task}: expected it to end first; ask again then")]
    Busy { node: String, task: String },
    #[error("task {id} is journaled with another content")]
    Differs { id: String },
    #[error("no task {id} is journaled here")]
    Unknown { id: String },
    #[error("segment {segment}: all {size} addresses of its pool are in use by machines; widen the pool")]
    PoolExhausted { segment: String, size: u32 },
    #[error("rackd was interrupted before it answered: {0}")]
    Interrupted(String),
    #[error("a journal row cannot be read: it was written by another version or damaged")]
    Damaged(#[from] prost::DecodeError),
}

impl Journal {
    /// Opens or makes the journal at `path`.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let db = Db::open::<migration::Migrator>(&format!("sqlite://{}", path.display())).await?;
        let journal = Self { db, latest: std::sync::Arc::new(watch::channel(0).0) };
        let last = journal.last_sequence().await?;
        journal.latest.send_replace(last);
        Ok(journal)
    }

    /// Whether it can be read.
    pub async fn ping(&self) -> Result<(), JournalError> {
        Ok(self.db.ping().await?)
    }

    /// Follows the highest sequence written.
    pub fn latest(&self) -> watch::Receiver<i64> {
        self.latest.subscribe()
    }
}

#[cfg(test)]
mod tests;
