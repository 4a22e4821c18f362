//! How long a call may take, what a failure means, and what the log says of it.
//!
//! A broken database fails hundreds of calls a second; an admin needs one line per kind of failure, and one when it is
//! over. Reads and writes are counted apart: a full disk still reads.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rookery_core::store::{StoreError, StoreResult};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tracing::{error, info};

/// Every call to the database ends within this time.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The log says at most one line per kind of failure in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Why a call failed, before the backend has judged it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The driver's or the database's word.
    Sql(sqlx::Error),
    /// Already judged.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The result of work on a connection.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Judges what is the same for both drivers; `codes` judges the database's own error codes.
pub(crate) fn judge(error: &sqlx::Error, codes: fn(&str) -> Fault) -> Fault {
    match error {
        sqlx::Error::Database(error) => error.code().map_or(Fault::Corrupt, |code| codes(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::InvalidSavePointStatement => Fault::Unavailable,
        _ => Fault::Corrupt,
    }
}

/// The kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Unavailable,
    Full,
    Corrupt,
}

impl Fault {
    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::Full(_) => Self::Full,
            StoreError::Corrupt(_) => Self::Corrupt,
        }
    }

    fn with(self, text: String) -> StoreError {
        match self {
            Self::Unavailable => StoreError::Unavailable(text),
            Self::Full => StoreError::Full(text),
            Self::Corrupt => StoreError::Corrupt(text),
        }
    }
}

/// The deadline and the log of one database.
pub(crate) struct Health {
    /// The database, as the log names it.
    name: String,
    deadline: Duration,
    codes: fn(&str) -> Fault,
    reads: Side,
    writes: Side,
    /// Why a call is being tried again, for the log line when the deadline ends it.
    reason: Mutex<Option<(Instant, String)>>,
}

impl Health {
    pub(crate) fn new(name: String, deadline: Duration, codes: fn(&str) -> Fault) -> Self {
        Self {
            name,
            deadline,
            codes,
            reads: Side::new("reading"),
            writes: Side::new("writing"),
            reason: Mutex::new(None),
        }
    }

    /// Notes why a call is tried again.
    pub(crate) fn remember(&self, reason: String) {
        *self.reason.lock() = Some((Instant::now(), reason));
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A turn at calls of which so many may run at once. Who waits for it does not wait for the database: the call has its
    /// whole time afterwards.
    pub(crate) async fn turn<'a>(&self, turns: &'a Semaphore) -> StoreResult<SemaphorePermit<'a>> {
        match timeout(self.deadline, turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable(format!(
                "others ask for as much, and no turn came within {:?}",
                self.deadline
            ))),
        }
    }

    /// Runs a call that only reads.
    pub(crate) async fn read<T>(&self, call: impl Future<Output = Outcome<T>>) -> StoreResult<T> {
        self.run(&self.reads, call).await
    }

    /// Runs a call that writes. One that is cut off by the deadline may have been written all the same.
    pub(crate) async fn write<T>(&self, call: impl Future<Output = Outcome<T>>) -> StoreResult<T> {
        self.run(&self.writes, call).await
    }

    async fn run<T>(&self, side: &Side, call: impl Future<Output = Outcome<T>>) -> StoreResult<T> {
        let error = match timeout(self.deadline, call).await {
            Ok(Ok(value)) => {
                side.succeeded(&self.name);
                return Ok(value);
            }
            Ok(Err(Failure::Store(error))) => error,
            Ok(Err(Failure::Sql(sqlx::Error::PoolTimedOut))) => self.too_late("no connection to be had"),
            Ok(Err(Failure::Sql(error))) => judge(&error, self.codes).with(error.to_string()),
            Err(_) => self.too_late("no answer"),
        };
        side.failed(&self.name, &error);
        Err(error)
    }

    fn too_late(&self, what: &str) -> StoreError {
        let text = match &*self.reason.lock() {
            Some((at, reason)) if at.elapsed() <= self.deadline => {
                format!("{what} within {:?} ({reason})", self.deadline)
            }
            _ => format!("{what} within {:?}", self.deadline),
        };
        StoreError::Unavailable(text)
    }
}

/// Reading or writing.
struct Side {
    verb: &'static str,
    /// Whether the last call failed; spares the lock while all is well.
    failing: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// What the log owes.
#[derive(Default)]
struct Ledger {
    unavailable: Kind,
    full: Kind,
    corrupt: Kind,
    /// A line told of a failure that will be over one day, and no line told yet that it is.
    owes_recovery: bool,
}

/// What the log owes of one kind of failure.
#[derive(Default)]
struct Kind {
    /// Failures that no line has told of.
    untold: u64,
    told: Option<Instant>,
}

impl Side {
    fn new(verb: &'static str) -> Self {
        Self { verb, failing: AtomicBool::new(false), ledger: Mutex::new(Ledger::default()) }
    }

    fn failed(&self, name: &str, error: &StoreError) {
        let mut ledger = self.ledger.lock();
        let fault = Fault::of(error);
        let kind = match fault {
            Fault::Unavailable => &mut ledger.unavailable,
            Fault::Full => &mut ledger.full,
            Fault::Corrupt => &mut ledger.corrupt,
        };
        kind.untold += 1;
        if kind.told.is_none_or(|told| told.elapsed() >= QUIET) {
            error!(database = name, failures = kind.untold, "{} failed: {error}", self.verb);
            kind.untold = 0;
            kind.told = Some(Instant::now());
            ledger.owes_recovery |= fault != Fault::Corrupt;
        }
        self.failing.store(true, Ordering::Relaxed);
    }

    fn succeeded(&self, name: &str) {
        if !self.failing.load(Ordering::Relaxed) {
            return;
        }
        let mut ledger = self.ledger.lock();
        self.failing.store(false, Ordering::Relaxed);
        if std::mem::take(&mut ledger.owes_recovery) {
            info!(database = name, "{} works again", self.verb);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::LogCapture;

    fn health() -> Health {
        Health::new("test.db".into(), Duration::from_secs(1), |_| Fault::Corrupt)
    }

    async fn fail(health: &Health, error: StoreError) {
        health.write(async { Outcome::<()>::Err(error.into()) }).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends() {
        let result = health().read(std::future::pending::<Outcome<()>>()).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn t8_one_line_per_kind_and_ten_seconds_and_one_at_the_end() {
        let log = LogCapture::start();
        let health = health();
        for _ in 0..100 {
            fail(&health, StoreError::Full("quota".into())).await;
            fail(&health, StoreError::Unavailable("gone".into())).await;
        }
        assert_eq!(log.take().len(), 2);
        tokio::time::advance(QUIET).await;
        fail(&health, StoreError::Full("quota".into())).await;
        let lines = log.take();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("failures=100"), "{lines:?}");
        for _ in 0..3 {
            health.write(async { Ok(()) }).await.unwrap();
        }
        assert_eq!(log.take().len(), 1);
        // A database that flaps does not flood the log.
        for _ in 0..100 {
            fail(&health, StoreError::Full("quota".into())).await;
            health.write(async { Ok(()) }).await.unwrap();
        }
        assert_eq!(log.take().len(), 0);
    }
}
