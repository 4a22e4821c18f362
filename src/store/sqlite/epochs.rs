//! Epochs: ranges of ids, which the indexes of messages begin with.
//!
//! An index over all accounts or conversations has its right edges everywhere: five hundred messages would write a
//! thousand pages, more of them the more there are. With the epoch in front they write to the newest epoch's part of the
//! index, whose few pages are in memory; and whoever looks for an account or a conversation looks into each epoch. A new
//! epoch begins when the newest is full, with the first id that no message has had yet, so epochs are in the order of
//! their ids, and an id belongs to one epoch for ever.

use sqlx::query;
use sqlx::query_as;
use sqlx::sqlite::SqliteConnection;

use crate::health::Outcome;

/// How many records an epoch holds. Half as many would halve the pages that a commit writes for the indexes, which are
/// then fewer than it writes for the messages anyway, and double what a search for a rare conversation looks into.
const FULL: i64 = 32_768;

/// The epochs, by their first ids.
#[derive(Debug, Default)]
pub(super) struct Epochs(Vec<(i64, i64)>);

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

    /// The epoch of an id.
    pub(super) fn of(&self, id: i64) -> i64 {
        let after = self.0.partition_point(|(first, _)| *first <= id);
        self.0.get(after.saturating_sub(1)).map_or(1, |(_, number)| *number)
    }
}
