//! Epochs (`../epochs.rs`) as PostgreSQL keeps them, where a commit that failed may have come through all the same.
//!
//! One server has the database (`alone.rs`), so it knows all ids that were given to a commit by this connection: a new epoch
//! begins above them, and no id changes its epoch. Its row is there before any message of it. Where that fails, nothing is committed until
//! it comes through, and each try writes the same row: one that comes late does no harm.

use std::sync::Arc;

use sqlx::{PgConnection, query, query_as};
use tokio::sync::Mutex;

use crate::batch::Batch;
use crate::epochs::Epochs;
use crate::health::Outcome;

/// How many records an epoch holds. Its part of the two indexes is some 50 MB then, which PostgreSQL keeps in memory as it is
/// set up by default. Half as many would double what a search for a rare conversation looks into. Those of the tests are
/// small, so that what they store is in many.
const FULL: i64 = if cfg!(test) { 16 } else { 524_288 };

/// What one commit tells the next.
#[derive(Default)]
pub(super) struct Memory(Mutex<Option<Known>>);

struct Known {
    epochs: Arc<Epochs>,
    /// How many records were ever given to a commit, and how many of them before the newest epoch.
    records: i64,
    before: i64,
    /// The highest id that was ever given to a commit.
    highest: i64,
}

impl Memory {
    /// A new connection may be to a database that has lost its last moments, or to another one that took its place: what it
    /// knows is asked for anew. Nothing is under way there (`commits.rs`).
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }

    /// Counts what is to be committed to the newest epoch, or to a new one if it does not fit. Gives the epochs.
    pub(super) async fn enter(&self, on: &mut PgConnection, batches: &[Batch<'_>]) -> Outcome<Arc<Epochs>> {
        let mut known = self.0.lock().await;
        let known = match &mut *known {
            Some(known) => known,
            unknown => unknown.insert(Known::learn(on).await?),
        };
        let records = known.records.saturating_add(batches.iter().map(records).sum());
        if known.is_full(records) {
            known.begin(on).await?;
        }
        known.records = records;
        known.highest = batches.iter().map(|batch| batch.highest).fold(known.highest, i64::max);
        Ok(Arc::clone(&known.epochs))
    }
}

/// How many records a batch brings.
pub(super) fn records(batch: &Batch<'_>) -> i64 {
    i64::try_from(batch.puts.len() + batch.gone.len()).unwrap_or(i64::MAX)
}

impl Known {
    async fn learn(on: &mut PgConnection) -> Outcome<Self> {
        let rows: Vec<(i64, i64, i64)> =
            query_as("SELECT first, number, before FROM epochs ORDER BY first").fetch_all(&mut *on).await?;
        let (records, highest) =
            query_as("SELECT CAST(sum(records) AS BIGINT), max(id) FROM tail_marks").fetch_one(on).await?;
        let before = rows.last().map_or(0, |(_, _, before)| *before);
        let epochs = rows.into_iter().map(|(first, number, _)| (first, number)).collect();
        Ok(Self { epochs: Arc::new(Epochs(epochs)), records, before, highest })
    }

    /// Whether the newest epoch has room for no more than it holds.
    fn is_full(&self, records: i64) -> bool {
        let is_begun = self.epochs.0.last().is_some_and(|(first, _)| self.highest >= *first);
        is_begun && self.records > self.before && records.saturating_sub(self.before) > FULL
    }

    async fn begin(&mut self, on: &mut PgConnection) -> Outcome<()> {
        let number = self.epochs.0.iter().map(|(_, number)| *number).max().unwrap_or(0).saturating_add(1);
        let first = self.highest.saturating_add(1);
        query("INSERT INTO epochs (first, number, before) VALUES ($1, $2, $3) ON CONFLICT (first) DO NOTHING")
            .bind(first)
            .bind(number)
            .bind(self.records)
            .execute(on)
            .await?;
        Arc::make_mut(&mut self.epochs).0.push((first, number));
        self.before = self.records;
        Ok(())
    }
}
