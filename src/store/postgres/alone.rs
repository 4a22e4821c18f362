//! One server to one database. What a server keeps in memory (tails, what was sent again, queues to others) is read when it
//! starts, so nobody else may write then: no second server, and not what is left of the one before. A process that was
//! killed leaves its connections to PostgreSQL, which finish what they had been told, a commit perhaps; a server that has
//! read the tables just before would miss that message, and take it for a new one when it is sent again.
//!
//! Each connection of a pool holds a lock together with its like until it ends, whatever ended it. A server that starts gets
//! the same lock for itself first, and so waits for all of them.

use std::time::Duration;

use sqlx::{PgConnection, query, query_scalar};
use tokio::time::{Instant, sleep};

use crate::open::OpenError;

/// The lock, by two numbers; those with one are accounts (`texts::HOLD`).
const HOLD: &str = "SELECT pg_advisory_lock_shared(1383033707, 1)";
const TRY: &str = "SELECT pg_try_advisory_lock(1383033707, 1)";
const LET_GO: &str = "SELECT pg_advisory_unlock(1383033707, 1)";

/// Who holds it: addresses of programs, by the names that they gave themselves.
const HOLDERS: &str = "SELECT coalesce(string_agg(DISTINCT concat_ws(' on ', nullif(application_name, ''), \
    coalesce(host(client_addr), 'the same machine')), ', '), 'somebody') \
    FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND classid = 1383033707 AND objid = 1 AND objsubid = 2 AND pid <> pg_backend_pid())";

/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// A wait that is longer is told to the admin.
const NOTEWORTHY: Duration = Duration::from_secs(1);

/// A connection whose other end is gone with its machine ends so: PostgreSQL asks after ten seconds of silence, and gives up
/// after three answers that do not come. (Sockets of the same machine end at once, and have none of this.)
const KEEPALIVE: &str = "SELECT set_config('tcp_keepalives_idle', '10', false), \
    set_config('tcp_keepalives_interval', '3', false), set_config('tcp_keepalives_count', '3', false)";

/// A connection of the pool takes part in the lock, to its end.
pub(super) async fn hold(on: &mut PgConnection) -> Result<(), sqlx::Error> {
    query(KEEPALIVE).persistent(false).execute(&mut *on).await?;
    query(HOLD).persistent(false).execute(on).await?;
    Ok(())
}

/// Whether nobody has it; this connection does from here on.
pub(super) async fn is_free(on: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar(TRY).fetch_one(on).await
}

/// What this connection had alone, others of this server may have with it.
pub(super) async fn share(on: &mut PgConnection) -> Result<(), sqlx::Error> {
    hold(on).await?;
    query(LET_GO).persistent(false).execute(on).await?;
    Ok(())
}

/// Has the database for this connection alone from here on, once all that was begun by others is done. A connection that
/// holds on for longer than `patience` is a server's that lives.
pub(super) async fn wait(name: &str, on: &mut PgConnection, patience: Duration) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| OpenError::Unreachable { name: name.to_owned(), why: error.to_string() };
    let begin = Instant::now();
    let mut told = false;
    while !is_free(on).await.map_err(failed)? {
        let waited = begin.elapsed();
        if waited >= patience {
            let by: String = query_scalar(HOLDERS).fetch_one(on).await.map_err(failed)?;
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
