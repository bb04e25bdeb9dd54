//! Opening a database and writing to it safely, the same for every store: SQLite on one machine,
//! PostgreSQL beyond it.
//!
//! It must never know a table. Start with [`Db::open`]; a write is [`Db::begin`] … [`Write::commit`].

use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
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
        if !sqlite && !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            let why =
                format!("{}: expected sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE", shown(url));
            return Err(DbErr::Conn(sea_orm::RuntimeErr::Internal(why)));
        }
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
        let unusable = |error: DbErr| {
            DbErr::Conn(sea_orm::RuntimeErr::Internal(format!("{} cannot be used: {error}", shown(url))))
        };
        let conn = Database::connect(options).await.map_err(unusable)?;
        M::up(&conn, None).await.map_err(unusable)?;
        let writer = (conn.get_database_backend() == DbBackend::Sqlite).then(|| Arc::new(Semaphore::new(1)));
        Ok(Self { conn, writer })
    }

    /// For reads outside a transaction.
    pub fn conn(&self) -> &DatabaseConnection {
        &self.conn
    }

    /// Whether the database answers. SQLite reads its file for it, which a constant would not make it do.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let ask = if self.is_sqlite() { "SELECT count(*) FROM sqlite_master" } else { "SELECT 1" };
        self.conn.execute_unprepared(ask).await.map(|_| ())
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

/// A database's URL without what may be a secret: whoever is before the `@`, and the query.
fn shown(url: &str) -> String {
    let place = url.split('?').next().unwrap_or_default();
    match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => place.to_owned(),
    }
}

/// Whether an insert failed because a unique column has the value already.
pub fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl MigratorTrait for Nothing {
        fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_used_is_named_without_its_password() {
        let error = Db::open::<Nothing>("sqlite:///nowhere/at/all.db").await.unwrap_err().to_string();
        assert!(error.contains("sqlite:///nowhere/at/all.db cannot be used"), "{error}");
        assert_eq!(
            shown("postgres://f:s3cret@db.example/farrier?sslkey=s3cret"),
            "postgres://db.example/farrier"
        );
        assert_eq!(shown("postgres://db/farrier"), "postgres://db/farrier");
    }
}
