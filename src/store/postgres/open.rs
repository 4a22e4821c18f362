//! Opening the pool: the URL, a first connection that can say what is wrong, schema, settings of each connection.

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, query, query_scalar};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::alone::Mark;
use super::commits::Commits;
use super::epochs::Memory;
use super::{PostgresStore, alone, judge};
use crate::conf::Durability;
use crate::health::Health;
use crate::migrations;
use crate::open::{OpenError, warn_relaxed};

/// A connection that has rested longer than this is asked whether it is still there before it is used.
pub(super) const RESTED: Duration = Duration::from_secs(1);

/// How long that answer may take.
pub(super) const PING: Duration = Duration::from_secs(2);

/// How many deadlines the connections of a server before have to end, which are those of a machine that is gone at worst.
const PATIENCE: u32 = 3;

impl PostgresStore {
    pub(crate) async fn open(
        url: &str,
        connections: u32,
        durability: Durability,
        deadline: Duration,
    ) -> Result<Self, OpenError> {
        let (name, options, mut first) = connect(url, deadline).await?;
        within(&name, deadline * (PATIENCE + 1), alone::wait(&name, &mut first, deadline * PATIENCE)).await?;
        migrate(&name, &mut first).await?;
        let refused = |error| refusal(name.clone(), error);
        let commit = synchronous_commit(&name, &mut first, durability).await.map_err(refused)?;
        let mark = Arc::new(within(&name, deadline, alone::settle_in(&name, &mut first, &options)).await?);
        let settings = Settings { commit, mark: Arc::clone(&mark), deadline };
        let commits = Commits::begin(first, options.clone(), settings.clone()).await.map_err(refused)?;
        let connections = connections.max(1);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            // Whoever looks sees that the database is in use, also when nothing happens.
            .min_connections(1)
            // A little earlier than the call, which can then say that it got no connection.
            .acquire_timeout(deadline * 9 / 10)
            .acquire_slow_threshold(deadline)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for < RESTED {
                        return Ok(true);
                    }
                    timeout(PING, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let settings = settings.clone();
                Box::pin(async move { settings.settle(connection).await })
            })
            .connect_lazy_with(options);
        let part = |of| usize::try_from(connections / of).unwrap_or(1).max(1);
        let health = Health::new(name, deadline, judge);
        Ok(Self {
            health,
            pool,
            commits,
            pages: Semaphore::new(part(2)),
            tail_readers: part(4),
            mark,
            memory: Memory::default(),
        })
    }

    /// Tries to open it, also beside a server that uses it, whose tables are then left as they are. Whether there is one.
    pub(crate) async fn look(url: &str, deadline: Duration) -> Result<bool, OpenError> {
        let (name, _, mut first) = connect(url, deadline).await?;
        let is_free = alone::is_free(&mut first).await.map_err(|error| refusal(name.clone(), error))?;
        if is_free {
            migrate(&name, &mut first).await?;
        }
        let _ = first.close().await;
        Ok(!is_free)
    }
}

/// Gives a database up that falls silent.
async fn within<T>(
    name: &str,
    deadline: Duration,
    call: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    let silent = |_| OpenError::Unreachable { name: name.to_owned(), why: format!("no answer within {deadline:?}") };
    timeout(deadline, call).await.map_err(silent)?
}

/// The first connection, which can say what is wrong.
async fn connect(url: &str, deadline: Duration) -> Result<(String, PgConnectOptions, PgConnection), OpenError> {
    let options = options(url)?;
    let name = name(&options);
    let connected = async { options.connect().await.map_err(|error| refusal(name.clone(), error)) };
    let connection = within(&name, deadline, connected).await?;
    Ok((name, options, connection))
}

fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(OpenError::Url { why: "it does not begin with postgres://".into() });
    }
    let options: PgConnectOptions =
        url.parse().map_err(|error: sqlx::Error| OpenError::Url { why: error.to_string() })?;
    Ok(options.application_name("rookery").disable_statement_logging())
}

/// Server and database for people; the password is not in it.
fn name(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => format!("{database} at {} (user {user})", socket.display()),
        None => format!("{database} at {}:{} (user {user})", options.get_host(), options.get_port()),
    }
}

async fn migrate(name: &str, on: &mut PgConnection) -> Result<(), OpenError> {
    let migrator = migrations::postgres();
    let known = migrator.iter().map(|step| step.version).max().unwrap_or(0);
    let any = query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *on).await;
    if any.unwrap_or(false) {
        let taken = query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *on).await;
        let taken = taken.unwrap_or(known);
        if taken < known {
            migrations::say_so(&name, taken, known);
        }
    }
    migrator.run_direct(None, on, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => OpenError::Newer { name: name.to_owned(), found, known },
        error => OpenError::Schema { name: name.to_owned(), why: error.to_string() },
    })
}

/// What `synchronous_commit` is to be: an admin's stricter setting (a standby that confirms) is left alone.
async fn synchronous_commit(
    name: &str,
    on: &mut PgConnection,
    durability: Durability,
) -> Result<Option<&'static str>, sqlx::Error> {
    if durability == Durability::Relaxed {
        warn_relaxed(name);
        return Ok(Some("off"));
    }
    let fsync: String = query_scalar("SHOW fsync").fetch_one(&mut *on).await?;
    if fsync == "off" {
        tracing::warn!(
            database = name,
            "the server runs with fsync=off: a power cut may lose messages that were acknowledged"
        );
    }
    let commit: String = query_scalar("SHOW synchronous_commit").fetch_one(on).await?;
    Ok((commit == "off").then_some("on"))
}

/// What a new connection is told.
#[derive(Clone)]
pub(super) struct Settings {
    commit: Option<&'static str>,
    mark: Arc<Mark>,
    deadline: Duration,
}

impl Settings {
    /// The server gives up on a statement when we do. And it always goes by the indexes: every statement of ours looks up
    /// single rows or goes along an index from one place on, but a plan that was cached while the tables were all but empty
    /// would read them whole, and sort them, after they grew. Plans are not compiled: by the estimate, which adds a fortune for
    /// what we forbid, nearly all would be, at a cost far above their own.
    pub(super) async fn settle(&self, on: &mut PgConnection) -> Result<(), sqlx::Error> {
        query(
            "SELECT set_config('statement_timeout', $1, false), \
         set_config('idle_in_transaction_session_timeout', $1, false), \
         set_config('synchronous_commit', coalesce($2, current_setting('synchronous_commit')), false), \
         set_config('enable_seqscan', 'off', false), \
         set_config('enable_hashjoin', 'off', false), \
         set_config('enable_mergejoin', 'off', false), \
         set_config('enable_sort', 'off', false), \
         set_config('jit', 'off', false)",
        )
        .persistent(false)
        .bind(self.deadline.as_millis().to_string())
        .bind(self.commit)
        .execute(&mut *on)
        .await?;
        self.mark.hold(on).await
    }
}

pub(super) fn refusal(name: String, error: sqlx::Error) -> OpenError {
    let why = error.to_string();
    match error {
        sqlx::Error::Database(_) => OpenError::Refused { name, why },
        _ => OpenError::Unreachable { name, why },
    }
}
