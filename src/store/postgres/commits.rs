//! The connection by which messages are committed, one batch after the other.
//!
//! A call that was given up may still be under way in the database, with rows that nobody else sees yet: a message that it
//! stores cannot be taken back before it has stored it, and would come to somebody after its sender was told that it failed.
//! So nothing is committed before what came earlier has ended, one way or the other. The connection holds a lock that no
//! other has beside it, to its end; one that takes its place gets the lock when PostgreSQL is done with the one before.
//!
//! It is none of the pool's, so that no reader is ever in the way of a commit.

use rookery_core::store::StoreError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, query_scalar};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use super::open::{PING, RESTED, Settings};
use super::{PAUSE, is_sound};
use crate::health::{Health, Outcome};

/// The lock, beside that of the database as a whole (`alone.rs`).
const TRY: &str = "SELECT pg_try_advisory_lock(1383033707, 2)";

/// Where the connection is made, and where it rests between two commits, with the time since when it does.
pub(super) struct Commits {
    options: PgConnectOptions,
    settings: Settings,
    place: Mutex<Option<(PgConnection, Instant)>>,
}

impl Commits {
    /// Commits by this connection, which is the only one that the database has, until it breaks.
    pub(super) async fn begin(
        mut on: PgConnection,
        options: PgConnectOptions,
        settings: Settings,
    ) -> Result<Self, sqlx::Error> {
        settings.settle(&mut on).await?;
        let _: bool = query_scalar(TRY).persistent(false).fetch_one(&mut on).await?;
        Ok(Self { options, settings, place: Mutex::new(Some((on, Instant::now()))) })
    }

    /// Waits for the commit before, and for what was given up of it.
    pub(super) async fn lease(&self, health: &Health) -> Outcome<Lease<'_>> {
        let mut place = self.place.lock().await;
        let on = match place.take() {
            Some((on, since)) if since.elapsed() < RESTED => Some(on),
            Some((mut on, _)) => matches!(timeout(PING, on.ping()).await, Ok(Ok(()))).then_some(on),
            None => None,
        };
        let (on, is_new) = match on {
            Some(on) => (on, false),
            None => (self.connect(health).await?, true),
        };
        Ok(Lease { place, on: Some(on), is_new })
    }

    async fn connect(&self, health: &Health) -> Outcome<PgConnection> {
        let mut on = self.options.connect().await?;
        self.settings.settle(&mut on).await?;
        while !query_scalar::<_, bool>(TRY).persistent(false).fetch_one(&mut on).await? {
            health.remember("PostgreSQL is still busy with a commit that took too long".into());
            sleep(PAUSE).await;
        }
        Ok(on)
    }

    pub(super) async fn close(&self) {
        if let Some((on, _)) = self.place.lock().await.take() {
            let _ = on.close().await;
        }
    }
}

/// The lease of the connection. Without `settle` it ends with it: nobody knows what it still does.
pub(super) struct Lease<'a> {
    place: MutexGuard<'a, Option<(PgConnection, Instant)>>,
    on: Option<PgConnection>,
    /// Whether it has just been made.
    pub(super) is_new: bool,
}

impl Lease<'_> {
    pub(super) fn connection(&mut self) -> Outcome<&mut PgConnection> {
        self.on.as_mut().ok_or_else(|| StoreError::Unavailable("the connection is gone".into()).into())
    }

    pub(super) fn settle<T>(mut self, result: Outcome<T>) -> Outcome<T> {
        if is_sound(&result) {
            *self.place = self.on.take().map(|on| (on, Instant::now()));
        }
        result
    }
}
