//! Opening a database and writing to it safely, the same for every store: SQLite on one machine,
//! PostgreSQL beyond it.
//!
//! It must never know a table. Start with [`Db::open`]; a write is [`Db::begin`] … [`Write::commit`].

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use sea_orm_migration::MigratorTrait;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A writer that waits longer than this for another has met a stuck transaction.
const BUSY_TIMEOUT_MS: &str = "10000";
/// Connections to one database: readers beside the one SQLite writer.
const CONNECTIONS: u32 = 8;

/// A database with its schema up to date. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    conn: DatabaseConnection,
    /// SQLite has one writer at a time; queueing here is fair, where its busy handler polls and starves.
    writer: Option<Arc<Semaphore>>,
}

/// A transaction that writes.
#[derive(Debug)]
pub struct Write {
    tx: DatabaseTransaction,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Db {
    /// Opens `sqlite://PATH` (made if missing) or `postgres://…` and migrates it forward.
    pub async fn open<M: MigratorTrait>(url: &str) -> Result<Self, DbErr> {
        let sqlite = url.starts_with("sqlite:");
        let mut options = ConnectOptions::new(if sqlite && !url.contains('?') {
            format!("{url}?mode=rwc")
        } else {
            url.to_owned()
        });
        options.sqlx_logging(false).max_connections(CONNECTIONS).connect_timeout(Duration::from_secs(10));
        if sqlite {
            options.map_sqlx_sqlite_opts(|o| {
                o.pragma("journal_mode", "WAL")
                    // Every commit is in the write-ahead log when it returns, and the log is synced at
                    // commit: an acknowledged request survives power loss too.
                    .pragma("synchronous", "FULL")
                    .pragma("busy_timeout", BUSY_TIMEOUT_MS)
                    .pragma("foreign_keys", "ON")
            });
        }
        let conn = Database::connect(options).await?;
        M::up(&conn, None).await?;
        let writer = (conn.get_database_backend() == DbBackend::Sqlite).then(|| Arc::new(Semaphore::new(1)));
        Ok(Self { conn, writer })
    }

    /// For reads outside a transaction.
    pub fn conn(&self) -> &DatabaseConnection {
        &self.conn
    }

    /// Begins a transaction that will write. On SQLite it takes the write lock at once: a deferred one that
    /// reads first fails later with SQLITE_BUSY_SNAPSHOT, which no waiting cures.
    pub async fn begin(&self) -> Result<Write, DbErr> {
        let turn = match &self.writer {
            Some(writer) => writer.clone().acquire_owned().await.ok(),
            None => None,
        };
        let options = TransactionOptions {
            sqlite_transaction_mode: self.writer.is_some().then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(Write { tx: self.conn.begin_with_options(options).await?, _turn: turn })
    }

    /// True on SQLite.
    pub fn is_sqlite(&self) -> bool {
        self.writer.is_some()
    }
}

impl Write {
    /// The connection inside this transaction.
    pub fn conn(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// Makes it so. Dropped without this, nothing happened.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.tx.commit().await
    }
}

/// Whether an insert failed because a unique column has the value already.
pub fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}
