//! Epochs (`../epochs.rs`) as SQLite keeps them: one commit after the other, each in its own transaction.

use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_as};

use crate::epochs::Epochs;
use crate::health::Outcome;

/// How many records an epoch holds. Half as many would halve the pages that a commit writes for the indexes, which are
/// then fewer than it writes for the messages anyway, and double what a search for a rare conversation looks into. Those of
/// the tests are small, so that what they store is in many.
const FULL: i64 = if cfg!(test) { 16 } else { 32_768 };

impl Epochs {
    /// Reads the epochs if they are not known.
    pub(super) async fn learn(&mut self, on: &mut SqliteConnection) -> Outcome<()> {
        if self.0.is_empty() {
            self.0 = query_as("SELECT first, number FROM epochs ORDER BY first").fetch_all(on).await?;
        }
        Ok(())
    }

    /// Counts records to the newest epoch, which holds `records` and no id above `mark`. If they do not fit, a new one
    /// begins. Gives how many the newest holds then.
    pub(super) async fn grow(&mut self, on: &mut SqliteConnection, by: usize, records: i64, mark: i64) -> Outcome<i64> {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        let sum = records.saturating_add(by);
        match self.0.last() {
            Some((first, number)) if sum > FULL && records > 0 && mark >= *first => {
                let next = (mark.saturating_add(1), number.saturating_add(1));
                query("INSERT INTO epochs (first, number) VALUES (?, ?)").bind(next.0).bind(next.1).execute(on).await?;
                self.0.push(next);
                Ok(by)
            }
            _ => Ok(sum),
        }
    }
}
