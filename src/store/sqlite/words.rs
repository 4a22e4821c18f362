//! Searching by words with FTS5: terms go into a table without content, so that the text is stored once.

use rookery_core::store::StoreError;
use sqlx::{Connection, SqliteConnection, query, query_as};

use super::wide::{Wide, run, wide};
use crate::health::Outcome;
use crate::words::terms;

const INDEX: Wide = wide!(
    "INSERT OR REPLACE INTO words (rowid, terms) SELECT * FROM (VALUES ",
    "(?, ?)",
    ") WHERE column1 IS NOT NULL"
);

/// Ids as an array of JSON, for `json_each`.
pub(super) fn list(ids: &[u64]) -> Result<String, StoreError> {
    let mut text = String::with_capacity(2 + ids.len() * 20);
    text.push('[');
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&crate::codec::to_column(*id)?.to_string());
    }
    text.push(']');
    Ok(text)
}

/// The FTS5 expression that all words of a text match; nothing when there are none. Terms hold letters, digits and one
/// underscore, so none can leave its quotes.
pub(super) fn search(account: i64, text: &str) -> Option<String> {
    let terms = terms(account, text);
    (!terms.is_empty()).then(|| format!("\"{}\"", terms.join("\" AND \"")))
}

/// Makes texts findable; `true` when more are left.
pub(super) async fn index(on: &mut SqliteConnection, limit: usize) -> Outcome<bool> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut tx = on.begin_with("BEGIN IMMEDIATE").await?;
    let mut waiting: Vec<(i64, i64, String)> = query_as("SELECT id, account, body FROM unindexed ORDER BY id LIMIT $1")
        .bind(limit.saturating_add(1))
        .fetch_all(&mut *tx)
        .await?;
    let more = i64::try_from(waiting.len()).is_ok_and(|found| found > limit);
    waiting.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let found = waiting.iter().map(|(id, account, body)| (*id, terms(*account, body).join(" ")));
    let found: Vec<(i64, String)> = found.filter(|(_, terms)| !terms.is_empty()).collect();
    run(&mut tx, &INDEX, &found, |values, (id, terms)| {
        values.number(*id).text(terms.as_str());
    })
    .await?;
    if let Some((last, _, _)) = waiting.last() {
        query("DELETE FROM unindexed WHERE id <= $1").bind(last).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(more)
}
