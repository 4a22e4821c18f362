//! Opening the file: directory, rights, what is in it, schema, connections.

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, query, query_as, query_scalar};
use tokio::sync::{Mutex, Semaphore};

use super::{SqliteStore, code, empty_log, judge, patience, primary};
use crate::conf::Durability;
use crate::health::Health;
use crate::migrations;
use crate::open::{OpenError, warn_relaxed};

/// Connections that read. SQLite reads from memory most of the time; more would only wait for the same CPUs.
const READERS: u32 = 5;

/// So many of them read pages of archives at once, and so many pages of tails. Both may take long.
const PAGES: usize = 2;

/// How long to wait for another process that opens the file at the same time, before looking again.
const PAUSE: Duration = Duration::from_millis(50);

/// "Rook", as the schema writes it into the file.
const APPLICATION: i64 = 0x526F_6F6B;

impl SqliteStore {
    pub(crate) async fn open(path: &Path, durability: Durability, deadline: Duration) -> Result<Self, OpenError> {
        make_file(path)?;
        let options = options(path, durability, deadline);
        let start = Instant::now();
        let writer = loop {
            match prepare(path, &options).await {
                // SQLite waits for most locks itself, but not for those of a change to WAL.
                Err(OpenError::Locked { .. }) if start.elapsed() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => break result?,
            }
        };
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let name = path.display().to_string();
        if durability == Durability::Relaxed {
            warn_relaxed(&name);
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(deadline)
            .acquire_slow_threshold(deadline)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options.clone().pragma("query_only", "ON").pragma("cache_size", "-4096"));
        Ok(Self {
            health: Health::new(name, deadline, judge),
            path: path.to_owned(),
            options,
            writer: Mutex::new(Some(writer)),
            readers,
            pages: Semaphore::new(PAGES),
            tail_readers: PAGES,
            memory: parking_lot::Mutex::default(),
        })
    }
}

/// A connection that writes, on a file that was found to be ours and is up to date.
async fn prepare(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, OpenError> {
    let fail = |error| failure(path, &error);
    // Looks before it touches: the change to WAL would be written into another program's file.
    let mut probe = options.connect().await.map_err(fail)?;
    inspect(path, &mut probe).await?;
    probe.close().await.map_err(fail)?;
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let mut writer = options.connect().await.map_err(fail)?;
    migrate(path, &mut writer).await?;
    // Another process may hold the log; it has then opened it this way itself.
    empty_log(&mut writer).await.map_err(fail)?;
    Ok(writer)
}

fn options(path: &Path, durability: Durability, deadline: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(match durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Relaxed => SqliteSynchronous::Normal,
        })
        .foreign_keys(true)
        .busy_timeout(patience(deadline))
        // 16 MiB of pages; the log is copied back every 4000 pages (16 MiB) and cut to 64 MiB after a burst.
        .pragma("cache_size", "-16384")
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864")
        .pragma("temp_store", "MEMORY")
        .optimize_on_close(true, 400)
        .disable_statement_logging()
}

/// Makes directory and file for us alone; SQLite would give them the rights of the umask.
///
/// A file that is there is not opened here: closing it would take the locks from a handle that this process has on it.
fn make_file(path: &Path) -> Result<(), OpenError> {
    if let Some(directory) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|why| OpenError::Directory { path: directory.to_owned(), why })?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            return Err(OpenError::ReadOnly { path: path.to_owned(), why: error.to_string() });
        }
        Err(error) => {
            return Err(OpenError::File { path: path.to_owned(), why: error.to_string() });
        }
    }
    let mode = path.metadata().map_or(0, |data| data.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!(
            path = %path.display(),
            "the database can be read by every user of this machine; chmod o-rwx is advised"
        );
    }
    Ok(())
}

/// Sees that the file is a database, ours or empty, and that we may write it, without writing it.
async fn inspect(path: &Path, on: &mut SqliteConnection) -> Result<(), OpenError> {
    let fail = |error| failure(path, &error);
    let (application, tables): (i64, i64) = query_as(
        "SELECT (SELECT application_id FROM pragma_application_id), count(*) FROM sqlite_schema \
         WHERE type = 'table' AND name <> '_sqlx_migrations' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_one(&mut *on)
    .await
    .map_err(fail)?;
    if application != APPLICATION && (application != 0 || tables != 0) {
        return Err(OpenError::Foreign { path: path.to_owned(), why: "it is a database of another program".into() });
    }
    // SQLite opens a read-only file without a word.
    let tx = on.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
    tx.rollback().await.map_err(fail)
}

async fn migrate(path: &Path, on: &mut SqliteConnection) -> Result<(), OpenError> {
    let migrator = migrations::sqlite();
    let known = migrator.iter().map(|step| step.version).max().unwrap_or(0);
    // No table of steps: no step was taken.
    let taken: i64 =
        query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *on).await.unwrap_or(known);
    if taken < known {
        migrations::say_so(&path.display(), taken, known);
    }
    // What is sorted for a new index is as large as a part of the archive.
    query("PRAGMA temp_store = FILE").execute(&mut *on).await.map_err(|error| failure(path, &error))?;
    let mut result = migrator.run_direct(None, on, false).await;
    for _ in 0..migrator.iter().count() {
        let Err(MigrateError::ExecuteMigration(..)) = result else { break };
        // Another process may have taken the same step at the same time; if so, there is one less left to do.
        result = migrator.run_direct(None, on, false).await;
    }
    query("PRAGMA temp_store = MEMORY").execute(&mut *on).await.map_err(|error| failure(path, &error))?;
    result.map_err(|error| match error {
        MigrateError::VersionMissing(found) => OpenError::Newer { name: path.display().to_string(), found, known },
        MigrateError::Execute(ref cause) | MigrateError::ExecuteMigration(ref cause, _) => match failure(path, cause) {
            OpenError::File { .. } => schema(path, &error),
            told => told,
        },
        error => schema(path, &error),
    })
}

fn schema(path: &Path, error: &MigrateError) -> OpenError {
    OpenError::Schema { name: path.display().to_string(), why: error.to_string() }
}

fn failure(path: &Path, error: &sqlx::Error) -> OpenError {
    let (path, why) = (path.to_owned(), error.to_string());
    let code = match error {
        sqlx::Error::Database(error) => error.code().as_deref().and_then(primary),
        _ => None,
    };
    match code {
        Some(code::NOTADB) => OpenError::Foreign { path, why: "it is no SQLite database, or a damaged one".into() },
        Some(code::BUSY | code::LOCKED) => OpenError::Locked { path, why },
        Some(code::READONLY | code::PERM) => OpenError::ReadOnly { path, why },
        _ => OpenError::File { path, why },
    }
}
