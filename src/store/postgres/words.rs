//! Searching by words with a GIN index over the terms of each text.

use rookery_core::store::StoreError;
use sqlx::{Connection, PgConnection, query, query_as};

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

/// Makes texts findable; `true` when more are left.
pub(super) async fn index(on: &mut PgConnection, limit: usize) -> Outcome<bool> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut tx = on.begin_with("BEGIN").await?;
    let mut waiting: Vec<(i64, i64, String)> =
        query_as("SELECT id, account, body FROM unindexed ORDER BY id, account LIMIT $1 FOR UPDATE")
            .bind(limit.saturating_add(1))
            .fetch_all(&mut *tx)
            .await?;
    let more = i64::try_from(waiting.len()).is_ok_and(|found| found > limit);
    waiting.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let found: Vec<(i64, i64, String)> = waiting
        .iter()
        .map(|(id, account, body)| (*account, *id, terms(*account, body).join(" ")))
        .filter(|(_, _, terms)| !terms.is_empty())
        .collect();
    query(
        "INSERT INTO words (account, id, terms) \
         SELECT row.account, row.id, array_to_tsvector(string_to_array(row.terms, ' ')) \
         FROM UNNEST($1::bigint[], $2::bigint[], $3::text[]) AS row (account, id, terms) \
         ON CONFLICT (account, id) DO UPDATE SET terms = excluded.terms",
    )
    .bind(found.iter().map(|(account, _, _)| *account).collect::<Vec<i64>>())
    .bind(found.iter().map(|(_, id, _)| *id).collect::<Vec<i64>>())
    .bind(found.iter().map(|(_, _, terms)| terms.as_str()).collect::<Vec<&str>>())
    .execute(&mut *tx)
    .await?;
    let (ids, accounts): (Vec<i64>, Vec<i64>) = waiting.iter().map(|(id, account, _)| (*id, *account)).unzip();
    query(
        "DELETE FROM unindexed WHERE ctid = ANY (ARRAY(SELECT done.ctid \
         FROM UNNEST($1::bigint[], $2::bigint[]) AS row (id, account) CROSS JOIN LATERAL (SELECT unindexed.ctid \
         FROM unindexed WHERE unindexed.id = row.id AND unindexed.account = row.account LIMIT 1) AS done))",
    )
    .bind(ids)
    .bind(accounts)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(more)
}
