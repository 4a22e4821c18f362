//! PostgreSQL: a pool of connections, each with a server-side limit on how long a statement may run.
//!
//! A connection that breaks (restart, failover, network) is dropped and the call is tried again on a new one until its
//! deadline, if doing it twice does no harm: everything but making and deleting an account. A connection that was cut off
//! by the deadline is closed, never given back: nobody knows what it still does.

mod alone;
mod commit;
mod commits;
mod epochs;
mod open;
mod room_changes;
mod sends;
pub(crate) mod texts;
mod words;

use std::sync::Arc;
use std::time::Duration;

use rookery_core::store::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::Semaphore;

use self::alone::Mark;
use self::commit::commit;
use self::commits::Commits;
use self::epochs::Memory;
use crate::health::{Failure, Fault, Health, Outcome};

mod rows {
    crate::rows::rows!(sqlx::PgConnection, "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

mod archive {
    crate::archive::archive!(sqlx::PgConnection, "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

mod rooms {
    crate::rooms::statements!(sqlx::PgConnection, "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

mod outgoing {
    crate::outgoing::statements!(sqlx::PgConnection);
}

mod sessions {
    crate::sessions::statements!(sqlx::PgConnection, "BEGIN");
}

crate::rows::store!(PostgresStore);
crate::rooms::store!(PostgresStore);
crate::outgoing::store!(PostgresStore);
crate::sessions::store!(PostgresStore);

/// The statements of a commit, by name.
#[cfg(test)]
pub(crate) fn commits() -> impl Iterator<Item = (&'static str, &'static str)> {
    commit::ALL.into_iter().chain(room_changes::ALL).chain(sends::ALL)
}

/// How long to wait before a call is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A database on a server.
pub(crate) struct PostgresStore {
    health: Health,
    pub(crate) pool: PgPool,
    commits: Commits,
    /// Turns at pages of archives: with tails they leave a part of the pool for what is quick, if it has three connections
    /// or more.
    pub(crate) pages: Semaphore,
    pub(crate) tail_readers: usize,
    mark: Arc<Mark>,
    memory: Memory,
}

impl PostgresStore {
    async fn writer(&self) -> Outcome<Lease> {
        self.mark.check()?;
        Ok(Lease(Some(self.pool.acquire().await?)))
    }

    async fn reader(&self) -> Outcome<Lease> {
        self.writer().await
    }

    async fn committer(&self) -> Outcome<commits::Lease<'_>> {
        self.mark.check()?;
        let lease = self.commits.lease(&self.health).await?;
        if lease.is_new {
            self.memory.forget().await;
        }
        Ok(lease)
    }

    /// Waits a moment when another try may help.
    async fn try_again(&self, failure: &Failure) -> bool {
        let Failure::Sql(error) = failure else {
            return false;
        };
        let again = match error {
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| passes(&code)),
            _ => false,
        };
        if again {
            self.health.remember(error.to_string());
            tokio::time::sleep(PAUSE).await;
        }
        again
    }

    async fn end(&self) {
        let closed = async {
            self.pool.close().await;
            self.commits.close().await;
        };
        let _ = tokio::time::timeout(self.health.deadline(), closed).await;
    }
}

/// The lease of a connection.
struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    fn connection(&mut self) -> Outcome<&mut PgConnection> {
        self.0.as_deref_mut().ok_or_else(|| StoreError::Unavailable("the connection is gone".into()).into())
    }

    fn settle<T>(mut self, result: Outcome<T>) -> Outcome<T> {
        if is_sound(&result) {
            drop(self.0.take());
        }
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Whether a connection may be used again after this.
fn is_sound<T>(result: &Outcome<T>) -> bool {
    match result {
        Ok(_) | Err(Failure::Store(_)) => true,
        Err(Failure::Sql(sqlx::Error::Database(error))) => error.code().is_none_or(|code| !ends_connection(&code)),
        Err(Failure::Sql(_)) => false,
    }
}

/// Connection exceptions and an operator who ends backends; and a server that became a standby, whose place another one has
/// taken.
fn ends_connection(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || matches!(code, "25P03" | "25006")
}

/// Errors (postgresql.org/docs/current/errcodes-appendix.html) that another try may not meet: the server restarts, has too
/// many connections, two transactions were in each other's way, or an account was deleted under a change to it (the next
/// try does not find it and passes over).
fn passes(code: &str) -> bool {
    ends_connection(code) || matches!(code, "53300" | "40001" | "40P01" | "23503")
}

/// What an error code means for the caller.
fn judge(code: &str) -> Fault {
    match code {
        // Too many connections.
        "53300" => Fault::Unavailable,
        // A read-only transaction: the server became a standby.
        "25006" => Fault::Full,
        _ if code.starts_with("53") => Fault::Full,
        // Locks not had in time.
        "55P03" => Fault::Unavailable,
        // Login refused since the start; operator intervention and statements that took too long; system errors.
        _ if ["28", "57", "58"].iter().any(|class| code.starts_with(class)) => Fault::Unavailable,
        _ if passes(code) => Fault::Unavailable,
        _ => Fault::Corrupt,
    }
}
