//! Searching by words with a GIN index over the terms of each text.

use rookery_core::store::StoreError;
use sqlx::PgConnection;

use crate::health::Outcome;
use crate::words::terms;

/// Ids as an array.
pub(super) fn list(ids: &[u64]) -> Result<Vec<i64>, StoreError> {
    ids.iter().map(|id| crate::codec::to_column(*id)).collect()
}

/// The tsquery that all words of a text match; nothing when there are none. Terms hold letters, digits and one underscore,
/// so none can leave its quotes.
pub(super) fn search(account: i64, text: &str) -> Option<String> {
    let terms = terms(account, text);
    (!terms.is_empty()).then(|| format!("'{}'", terms.join("' & '")))
}

crate::words::index!(PgConnection, "BEGIN");

async fn put(on: &mut PgConnection, account: i64, found: &[(i64, String)]) -> Outcome<()> {
    query(
        "INSERT INTO words (account, id, terms) \
         SELECT $1, row.id, array_to_tsvector(string_to_array(row.terms, ' ')) \
         FROM UNNEST($2::bigint[], $3::text[]) AS row (id, terms) \
         ON CONFLICT (account, id) DO UPDATE SET terms = excluded.terms",
    )
    .bind(account)
    .bind(found.iter().map(|(id, _)| *id).collect::<Vec<i64>>())
    .bind(found.iter().map(|(_, terms)| terms.as_str()).collect::<Vec<&str>>())
    .execute(on)
    .await?;
    Ok(())
}
