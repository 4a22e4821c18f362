//! SQLite: one file, one connection that writes, a few that read.
//!
//! WAL lets readers go on beside the writer; `synchronous=FULL` has the log on disk when COMMIT returns. All writes of
//! this process pass through one connection, so only another process (`rookery user add`) can make it wait.
//!
//! **A broken handle is not used again.** After a failed fsync the kernel forgets that the pages were dirty: a second
//! fsync says yes to what never reached the disk, and the log would have a hole under later commits. So after an error of
//! that sort, a cut-off call or a vanished caller the connection is dropped, and the next one starts by copying the whole
//! log into the database file and emptying it (`wal_checkpoint(TRUNCATE)`), which writes every page anew.
//!
//! The file is not mapped into memory: a disk that fails under a mapping kills the process instead of failing the call.

mod commit;
mod epochs;
mod names;
mod open;
mod room_changes;
mod sends;
pub(crate) mod texts;
mod wide;
mod words;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rookery_core::store::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Sqlite, SqlitePool, query_as};
use tokio::sync::{Mutex, MutexGuard, Semaphore};

use self::commit::{Memory, commit};
use crate::health::{Failure, Fault, Health, Outcome};

mod rows {
    crate::rows::rows!(sqlx::SqliteConnection, "BEGIN IMMEDIATE", "BEGIN");
}

mod archive {
    crate::archive::archive!(sqlx::SqliteConnection, "BEGIN IMMEDIATE", "BEGIN");
}

mod rooms {
    crate::rooms::statements!(sqlx::SqliteConnection, "BEGIN IMMEDIATE", "BEGIN");
}

mod outgoing {
    crate::outgoing::statements!(sqlx::SqliteConnection);
}

mod sessions {
    crate::sessions::statements!(sqlx::SqliteConnection, "BEGIN IMMEDIATE");
}

crate::rows::store!(SqliteStore);
crate::rooms::store!(SqliteStore);
crate::outgoing::store!(SqliteStore);
crate::sessions::store!(SqliteStore);

/// Statements of a commit that look for rows, by name.
#[cfg(test)]
pub(crate) fn commits() -> impl Iterator<Item = (&'static str, &'static str)> {
    commit::ALL
        .into_iter()
        .chain(room_changes::ALL)
        .chain(sends::ALL)
        .flat_map(|(name, texts)| texts.map(|text| (name, text)))
}

/// How long to wait before the log is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// A database in one file.
pub(crate) struct SqliteStore {
    health: Health,
    path: PathBuf,
    pub(crate) options: SqliteConnectOptions,
    /// `None` while a call has it, and after a call that broke it.
    pub(crate) writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
    /// Turns at pages of archives: with tails they leave a reader for what is quick.
    pub(crate) pages: Semaphore,
    pub(crate) tail_readers: usize,
    memory: parking_lot::Mutex<Memory>,
}

impl SqliteStore {
    async fn writer(&self) -> Outcome<Writer<'_>> {
        let mut slot = self.writer.lock().await;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => self.reopen().await?,
        };
        Ok(Writer { slot, connection: Some(connection) })
    }

    /// A new connection that writes, on a log that is known to be whole.
    async fn reopen(&self) -> Outcome<SqliteConnection> {
        let start = Instant::now();
        let mut connection = self.options.connect().await?;
        // SQLite waits for a lock on the log itself, but not for another handle that is just copying it: most likely the
        // one that was given up, which ends on its own.
        while !empty_log(&mut connection).await? {
            if start.elapsed() >= patience(self.health.deadline()) {
                return Err(StoreError::Unavailable("another program holds the file".into()).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::info!(path = %self.path.display(), "the database was opened anew");
        Ok(connection)
    }

    async fn committer(&self) -> Outcome<Writer<'_>> {
        self.writer().await
    }

    pub(crate) async fn reader(&self) -> Outcome<Reader> {
        Ok(Reader(Some(self.readers.acquire().await?)))
    }

    /// Nothing: a locked file has been waited for by SQLite itself, and all else does not pass within a call.
    async fn try_again(&self, _: &Failure) -> bool {
        false
    }

    async fn end(&self) {
        // Bounded, because closing copies the log into the file, and the disk may hang.
        let closing = async {
            self.readers.close().await;
            if let Some(writer) = self.writer.lock().await.take() {
                let _ = writer.close().await;
            }
        };
        let _ = tokio::time::timeout(self.health.deadline(), closing).await;
    }
}

/// Copies the log into the database file and empties it; `false` when another process kept that from happening.
async fn empty_log(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let (busy, _, _): (i64, i64, i64) = query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await?;
    Ok(busy == 0)
}

/// The lease of the one connection that writes.
struct Writer<'a> {
    slot: MutexGuard<'a, Option<SqliteConnection>>,
    connection: Option<SqliteConnection>,
}

impl Writer<'_> {
    fn connection(&mut self) -> Outcome<&mut SqliteConnection> {
        self.connection.as_mut().ok_or(gone())
    }

    /// Puts the connection back, unless the failure may have broken it.
    fn settle<T>(mut self, result: Outcome<T>) -> Outcome<T> {
        let sound = match &result {
            Ok(_) | Err(Failure::Store(_)) => true,
            Err(Failure::Sql(sqlx::Error::Database(error))) => {
                matches!(error.code().as_deref().and_then(primary), Some(code::BUSY | code::LOCKED | code::CONSTRAINT))
            }
            Err(Failure::Sql(_)) => false,
        };
        if sound {
            *self.slot = self.connection.take();
        }
        result
    }
}

/// The lease of a connection that reads.
pub(crate) struct Reader(Option<PoolConnection<Sqlite>>);

impl Reader {
    fn connection(&mut self) -> Outcome<&mut SqliteConnection> {
        self.0.as_deref_mut().ok_or(gone())
    }

    fn settle<T>(mut self, result: Outcome<T>) -> Outcome<T> {
        if matches!(result, Ok(_) | Err(Failure::Store(_))) {
            drop(self.0.take());
        }
        result
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

fn gone() -> Failure {
    StoreError::Unavailable("the connection is gone".into()).into()
}

/// The primary result codes we tell apart (sqlite.org/rescode.html).
mod code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const READONLY: i32 = 8;
    pub(super) const INTERRUPT: i32 = 9;
    pub(super) const IOERR: i32 = 10;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const PROTOCOL: i32 = 15;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const NOTADB: i32 = 26;
}

/// The primary code of an extended one, as the driver spells it.
fn primary(code: &str) -> Option<i32> {
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

/// What an error code means for the caller.
fn judge(code: &str) -> Fault {
    match primary(code) {
        Some(code::FULL | code::IOERR | code::READONLY | code::PERM) => Fault::Full,
        Some(code::BUSY | code::LOCKED | code::NOMEM | code::INTERRUPT | code::CANTOPEN | code::PROTOCOL) => {
            Fault::Unavailable
        }
        _ => Fault::Corrupt,
    }
}

/// How long SQLite itself waits for a lock of another process: half the deadline, so that the call can still say why.
fn patience(deadline: Duration) -> Duration {
    deadline / 2
}
