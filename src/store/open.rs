//! Opening a database, and what an admin reads when that fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rookery_core::store::Store;

use crate::conf::{Backend, StoreConf};
use crate::health::DEADLINE;
use crate::memory::MemoryStore;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;

/// Why the database cannot be used. Each says which one, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be made.
    #[error(
        "cannot make the data directory {path}: {why}; make it yourself and give it to the user that runs rookery, or name another path in the conf ([store] path)"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        why: std::io::Error,
    },
    /// The database file cannot be opened.
    #[error(
        "cannot open the database file {path}: {why}; see that it is a file which the user that runs rookery may read and write, or name another path in the conf ([store] path)"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The system's or the database's word.
        why: String,
    },
    /// The file, its directory or its file system may not be written.
    #[error(
        "the database file {path} is read-only: {why}; see that the file and its directory belong to the user that runs rookery (chown, chmod u+rw), and that the file system is mounted read-write"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The system's or the database's word.
        why: String,
    },
    /// Another process holds the file.
    #[error(
        "the database file {path} is locked by another program: {why}; end whatever else has it open (a backup or a database browser, perhaps), and try again"
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// The database's word.
        why: String,
    },
    /// The file is something else, or damaged.
    #[error(
        "the file {path} is not a database of rookery: {why}; name another path in the conf ([store] path), or put a backup in its place"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The database was made by a newer release.
    #[error(
        "the database {name} has schema {found}, this release of rookery knows up to {known}; start the newer release again, or put back the backup made before the upgrade"
    )]
    Newer {
        /// The file, or the server and database.
        name: String,
        /// The schema of the database.
        found: i64,
        /// The newest schema we know.
        known: i64,
    },
    /// The schema cannot be brought up to date.
    #[error(
        "cannot bring the schema of the database {name} up to date: {why}; nothing was changed. Put back a backup, or give the database's user the right to create tables"
    )]
    Schema {
        /// The file, or the server and database.
        name: String,
        /// The database's word.
        why: String,
    },
    /// The URL of the conf is none.
    #[error(
        "the url in [store] of the conf cannot be read: {why}; it has the form postgres://user:password@host/database (a special character in the password is written as %XX)"
    )]
    Url {
        /// What is wrong with it; without the password.
        why: String,
    },
    /// The server does not answer.
    #[error(
        "cannot reach the database {name}: {why}; see that PostgreSQL runs there, that it listens on that address, and that no firewall is between"
    )]
    Unreachable {
        /// Server and database.
        name: String,
        /// The system's word.
        why: String,
    },
    /// The server refuses us.
    #[error(
        "the database {name} refuses us: {why}; see user, password and database name in the url of [store] in the conf, and pg_hba.conf of the server"
    )]
    Refused {
        /// Server and database.
        name: String,
        /// The server's word.
        why: String,
    },
    /// Another server has it.
    #[error(
        "the database {name} is in use by {by}: a server has a database for itself; end the other one, or give this one a database of its own in the url of [store] in the conf"
    )]
    InUse {
        /// Server and database.
        name: String,
        /// Programs and their addresses.
        by: String,
    },
    /// Something in between mixes connections up.
    #[error(
        "the database {name} is reached through a pooler that gives each statement another connection: set its pool_mode to session (pgbouncer), or name PostgreSQL's own address in the url of [store] in the conf"
    )]
    Pooled {
        /// Server and database.
        name: String,
    },
}

/// Opens the database of the conf, and makes or migrates it where needed.
pub async fn open(conf: &StoreConf) -> Result<Arc<dyn Store>, OpenError> {
    open_within(conf, DEADLINE).await
}

/// Opens the database with another deadline for its calls than [`DEADLINE`]; for tests and tools.
pub async fn open_within(conf: &StoreConf, deadline: Duration) -> Result<Arc<dyn Store>, OpenError> {
    let durability = conf.durability;
    Ok(match &conf.backend {
        Backend::Sqlite { path } => Arc::new(SqliteStore::open(path, durability, deadline).await?),
        Backend::Postgres { url, connections } => {
            Arc::new(PostgresStore::open(url, *connections, durability, deadline).await?)
        }
        Backend::Memory => Arc::new(MemoryStore::new()),
    })
}

/// Tries to open the database of the conf, and makes or migrates it where needed; also while a server uses it. Whether one
/// does, as far as that can be seen.
pub async fn look(conf: &StoreConf) -> Result<bool, OpenError> {
    match &conf.backend {
        Backend::Postgres { url, .. } => PostgresStore::look(url, DEADLINE).await,
        Backend::Sqlite { .. } | Backend::Memory => {
            open(conf).await?.close().await;
            Ok(false)
        }
    }
}

/// The log line that relaxed durability costs.
pub(crate) fn warn_relaxed(name: &str) {
    tracing::warn!(
        database = name,
        "durability is relaxed by the conf: a power cut may lose messages that were acknowledged"
    );
}
