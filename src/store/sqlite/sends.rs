//! The part of the commit that is about other servers: what waits for them, and what has gone.

use sqlx::sqlite::SqliteConnection;

use super::wide::{Wide, run, wide};
use crate::batch::Batch;
use crate::codec::to_stamp;
use crate::health::Outcome;

const SEND: Wide = wide!(
    "INSERT INTO outgoing (id, local, remote, stamp, stanza) SELECT * FROM (VALUES ",
    "(?, ?, ?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (id) DO NOTHING"
);

const SENT: Wide = wide!("WITH old (id) AS (VALUES ", "(?)", ") DELETE FROM outgoing WHERE id IN (SELECT id FROM old)");

/// Statements that look for rows, by name.
#[cfg(test)]
pub(super) const ALL: [(&str, Wide); 1] = [("SENT", SENT)];

/// Writes it.
pub(super) async fn write(on: &mut SqliteConnection, batch: &Batch<'_>) -> Outcome<()> {
    run(&mut *on, &SEND, &batch.sends, |values, (id, entry)| {
        values
            .number(*id)
            .text(entry.local.as_str())
            .text(entry.remote.as_str())
            .number(to_stamp(entry.stamp))
            .bytes(&entry.stanza);
    })
    .await?;
    run(on, &SENT, &batch.sent, |values, id| {
        values.number(*id);
    })
    .await
}
