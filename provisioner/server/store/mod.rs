//! The only SQL. One file a table, bare functions on a [`Tx`]: nobody outside this room holds a pool, and no
//! transaction can be held across the network by a function that never gets one.
//!
//! The same statements run on SQLite (embedded, WAL, one writer connection) and on Postgres. JSON, UUIDs and
//! identities are TEXT and times are epoch milliseconds, so that both order and compare them alike.

pub mod api_tokens;
pub mod applied_configs;
pub mod audit;
pub mod declared;
pub mod events;
pub mod foreign_servers;
pub mod heard;
pub mod leases;
pub mod leases6;
pub mod machines;
pub mod pins;
pub mod secrets;
pub mod wipe_certificates;

use sqlx::{
    ConnectOptions, PgPool, Postgres, Sqlite, SqlitePool, Transaction,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("database migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("{table} holds a row that cannot be read ({key}): {source}")]
    Row { table: &'static str, key: String, source: serde_json::Error },
    #[error("{0} was changed by somebody else meanwhile")]
    Raced(String),
    #[error("{0}")]
    Exists(String),
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// A commit that finds the write-ahead log longer than this moves it into the database itself, and waits for the disk
/// meanwhile. Usually [`Db::checkpoint`] has done it before; in pages of 4 KiB.
const WAL_PAGES_MAX: &str = "16384";

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Db {
    Sqlite { writer: SqlitePool, reader: SqlitePool },
    Postgres(PgPool),
}

/// One short transaction; rolled back when dropped.
#[derive(Debug)]
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Runs one body against whichever database the transaction is on.
macro_rules! on {
    ($tx:expr, $connection:ident => $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                let $connection = &mut **tx;
                $body
            }
            $crate::store::Tx::Postgres(tx) => {
                let $connection = &mut **tx;
                $body
            }
        }
    };
}
use on;

impl Db {
    /// Opens (and makes) the embedded database. `synchronous=FULL`: what was answered is on the disk.
    pub async fn sqlite(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", WAL_PAGES_MAX)
            .busy_timeout(Duration::from_secs(10))
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("./migrations/sqlite").run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        Ok(Self::Sqlite { writer, reader })
    }

    /// Connects to Postgres and brings its tables up to date.
    pub async fn postgres(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(8).connect(url).await?;
        sqlx::migrate!("./migrations/postgres").run(&pool).await?;
        Ok(Self::Postgres(pool))
    }

    /// A transaction that may write. On SQLite there is one at a time, and it never fails half-way for a lock.
    pub async fn write(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// A transaction that only reads.
    pub async fn read(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { reader, .. } => Tx::Sqlite(reader.begin().await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Moves what was committed from SQLite's write-ahead log into the database, beside readers and writers. To be called
    /// again and again: else a commit does it now and then, and whoever waits for that one waits long.
    pub async fn checkpoint(&self) -> Result<()> {
        if let Self::Sqlite { reader, .. } = self {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(reader).await?;
        }
        Ok(())
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// Every statement of the room, so that a test can prepare each on both databases.
pub fn statements() -> Vec<&'static str> {
    [
        api_tokens::STATEMENTS,
        applied_configs::STATEMENTS,
        audit::STATEMENTS,
        declared::STATEMENTS,
        events::STATEMENTS,
        foreign_servers::STATEMENTS,
        heard::STATEMENTS,
        leases::STATEMENTS,
        leases6::STATEMENTS,
        machines::STATEMENTS,
        pins::STATEMENTS,
        secrets::STATEMENTS,
        wipe_certificates::STATEMENTS,
        &leases::made_statements(),
    ]
    .concat()
}

fn to_json<T: serde::Serialize>(table: &'static str, key: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Row { table, key: key.to_owned(), source })
}

fn from_json<T: serde::de::DeserializeOwned>(table: &'static str, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| StoreError::Row { table, key: key.to_owned(), source })
}

/// A unique key was violated: `what` says it for an operator.
fn exists(error: sqlx::Error, what: impl FnOnce() -> String) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::Exists(what()),
        _ => StoreError::Database(error),
    }
}

#[cfg(test)]
mod tests;
