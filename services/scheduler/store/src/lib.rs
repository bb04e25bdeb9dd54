//! The scheduler's database: instances, operations, request ids, and how far each rack's reports were read.
//! sea-orm stops here.
//!
//! One function is one transaction. Start with [`Store::open`].

mod cursor;
mod entity;
mod instance;
mod migration;
mod operation;

pub use instance::InstanceFilter;
pub use operation::{NewOperation, OperationFilter, OperationRow};

use farrier_db::Db;
use std::sync::Arc;
use tokio::sync::watch;

/// The scheduler's store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    /// Moves with every write of this process: followers look again.
    changed: Arc<watch::Sender<u64>>,
}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be read or written")]
    Database(#[from] sea_orm::DbErr),
    #[error("{name} is not here")]
    NotFound { name: String },
    #[error("{name} is taken")]
    NameTaken { name: String },
    #[error("{name} changed since it was read")]
    Stale { name: String },
    #[error("request id {id} was used for another request")]
    RequestIdReused { id: String },
    #[error("a row cannot be read: it was written by another version or damaged")]
    Damaged(#[from] prost::DecodeError),
}

impl Store {
    /// Opens `sqlite://PATH` or `postgres://…` and migrates it forward.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let db = Db::open::<migration::Migrator>(url).await?;
        Ok(Self { db, changed: Arc::new(watch::channel(0).0) })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.db.ping().await?)
    }

    /// Follows writes of this process. Another replica's are found by looking again now and then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn nudge(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

#[cfg(test)]
mod tests;
