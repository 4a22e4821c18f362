//! Searching by words with FTS5: terms go into a table without content, so that the text is stored once.

use rookery_core::store::StoreError;
use sqlx::SqliteConnection;

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

crate::words::index!(SqliteConnection, "BEGIN IMMEDIATE");

async fn put(on: &mut SqliteConnection, _account: i64, found: &[(i64, String)]) -> Outcome<()> {
    run(on, &INDEX, found, |values, (id, terms)| {
        values.number(*id).text(terms.as_str());
    })
    .await
}
