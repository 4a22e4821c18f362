//! One server to one database. What a server keeps in memory (tails, what was sent again, queues to others) is read when it
//! starts, so nobody else may write then: no second server, and not what is left of the one before. A process that was
//! killed leaves its connections to PostgreSQL, which finish what they had been told, a commit perhaps; a server that has
//! read the tables just before would miss that message, and take it for a new one when it is sent again. (What one server gives
//! up itself is waited for in `commits.rs`.)
//!
//! Each connection of a server holds a lock together with its like until it ends, whatever ended it. A server that starts gets
//! the same lock for itself first, and so waits for all of them. Then it leaves its mark: a server that had lost all of its
//! connections for a while, and finds another one's mark when it comes back, does not write any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery_core::store::StoreError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, query, query_scalar};
use tokio::time::{Instant, sleep};

use super::open::refusal;
use crate::open::OpenError;

/// The lock, by two numbers; those with one are accounts (`texts::HOLD`).
const HOLD: &str = "SELECT pg_advisory_lock_shared(1383033707, 1)";
const TRY: &str = "SELECT pg_try_advisory_lock(1383033707, 1)";
const LET_GO: &str = "SELECT pg_advisory_unlock(1383033707, 1)";

/// Who holds it: programs by the names that they gave themselves, and where they run. A port of -1 is a socket of the machine.
const HOLDERS: &str = "SELECT coalesce(string_agg(DISTINCT concat_ws(' on ', nullif(application_name, ''), \
    coalesce(host(client_addr), CASE client_port WHEN -1 THEN 'the same machine' END)), ', '), 'another program') \
    FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND classid = 1383033707 AND objid = 1 AND objsubid = 2 AND pid <> pg_backend_pid())";

/// The mark of the server that has the database, under a name that no address has.
const MARK: &str = "INSERT INTO key_values (owner, module, key, value) VALUES ('', 'store', 'server', $1) \
    ON CONFLICT (owner, module, key) DO UPDATE SET value = excluded.value";
const IS_MARKED: &str = "SELECT EXISTS (SELECT 1 FROM key_values \
    WHERE owner = '' AND module = 'store' AND key = 'server' AND value = $1)";

/// A stricter setting (a standby that confirms) is left alone.
const DURABLY: &str = "SELECT set_config('synchronous_commit', 'on', true) \
    WHERE current_setting('synchronous_commit') = 'off'";

/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// A wait that is longer is told to the admin.
const NOTEWORTHY: Duration = Duration::from_secs(1);

/// A connection whose other end is gone with its machine ends within about twenty seconds, whether PostgreSQL has sent it
/// something or not. (Sockets of the same machine end at once, and have none of this.) One that only waits does not end.
const LIFE: &str = "SELECT set_config('tcp_keepalives_idle', '10', false), \
    set_config('tcp_keepalives_interval', '3', false), set_config('tcp_keepalives_count', '3', false), \
    set_config('tcp_user_timeout', '20000', false), \
    (SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout')";

/// Locks and marks of a standby are not those of the server whose place it takes.
const IS_STANDBY: &str = "SELECT pg_is_in_recovery()";

const LOST: &str = "another server has had the database meanwhile, so this one does not write to it any more: \
    see that only one of them runs, and start that one again";

/// What a server leaves in the database to say that it has it: drawn at random.
pub(super) struct Mark {
    drawn: [u8; 16],
    /// Whether another one's was found in its place.
    is_gone: AtomicBool,
}

impl Mark {
    /// A connection takes part in the lock, to its end. An error if another server has had the database since the mark was
    /// left.
    pub(super) async fn hold(&self, on: &mut PgConnection) -> Result<(), sqlx::Error> {
        if query_scalar(IS_STANDBY).persistent(false).fetch_one(&mut *on).await? {
            return Err(sqlx::Error::Protocol("this PostgreSQL is a standby, which nothing can be written to".into()));
        }
        share(on).await?;
        if query_scalar(IS_MARKED).bind(self.drawn.as_slice()).persistent(false).fetch_one(on).await? {
            return Ok(());
        }
        if !self.is_gone.swap(true, Ordering::Relaxed) {
            tracing::error!("{LOST}");
        }
        Err(sqlx::Error::Protocol(LOST.into()))
    }

    /// An error once another server has had the database.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_gone.load(Ordering::Relaxed) { Err(StoreError::Unavailable(LOST.into())) } else { Ok(()) }
    }
}

async fn share(on: &mut PgConnection) -> Result<(), sqlx::Error> {
    query(LIFE).persistent(false).execute(&mut *on).await?;
    query(HOLD).persistent(false).execute(on).await?;
    Ok(())
}

/// Whether nobody has it; this connection does from here on.
pub(super) async fn is_free(on: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar(TRY).fetch_one(on).await
}

/// Has the database for this connection alone from here on, once all that was begun by others is done. A connection that
/// holds on for longer than `patience` is a server's that lives.
pub(super) async fn wait(name: &str, on: &mut PgConnection, patience: Duration) -> Result<(), OpenError> {
    let refused = |error| refusal(name.to_owned(), error);
    let begin = Instant::now();
    let mut told = false;
    while !is_free(on).await.map_err(refused)? {
        let waited = begin.elapsed();
        if waited >= patience {
            let by: String = query_scalar(HOLDERS).fetch_one(on).await.map_err(refused)?;
            return Err(OpenError::InUse { name: name.to_owned(), by });
        }
        if waited >= NOTEWORTHY && !told {
            told = true;
            tracing::info!(database = name, "waiting for the connections of another server to end");
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// The database is this server's: what its first connection had alone, others with the mark may have with it.
pub(super) async fn settle_in(
    name: &str,
    on: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<Mark, OpenError> {
    let refused = |error| refusal(name.to_owned(), error);
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).map_err(|error| refused(sqlx::Error::Protocol(error.to_string())))?;
    leave_mark(on, &drawn).await.map_err(refused)?;
    share(on).await.map_err(refused)?;
    if keeps_locks(on, options).await.map_err(refused)? {
        Ok(Mark { drawn, is_gone: AtomicBool::new(false) })
    } else {
        Err(OpenError::Pooled { name: name.to_owned() })
    }
}

/// It outlives a crash of the database, whatever the commits of messages do: without it no connection would be taken any more.
async fn leave_mark(on: &mut PgConnection, drawn: &[u8]) -> Result<(), sqlx::Error> {
    let mut tx = on.begin().await?;
    query(DURABLY).execute(&mut *tx).await?;
    query(MARK).bind(drawn).execute(&mut *tx).await?;
    tx.commit().await
}

/// Lets the lock go that this connection had alone. A pooler that gives each statement another connection keeps no locks: with
/// one of them busy, it has to take a new one.
async fn keeps_locks(on: &mut PgConnection, options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let mut beside = options.connect().await?;
    let tx = beside.begin().await?;
    let was_ours = query_scalar(LET_GO).fetch_one(on).await?;
    tx.rollback().await?;
    beside.close().await?;
    Ok(was_ours)
}
