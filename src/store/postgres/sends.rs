//! The part of the commit that is about other servers: what waits for them, and what has gone.

use sqlx::{PgConnection, query};

use crate::batch::Batch;
use crate::codec::to_stamp;
use crate::health::Outcome;

const SEND: &str = "\
INSERT INTO outgoing (id, local, remote, stamp, stanza)
SELECT row.id, row.local, row.remote, row.stamp, row.stanza
FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[]) AS row (id, local, remote, stamp, stanza)
ON CONFLICT (id) DO NOTHING";

/// Looked up row by row, because a plan that was cached while the table was short would else read all of it.
const SENT: &str = "\
DELETE FROM outgoing WHERE ctid = ANY (ARRAY(
    SELECT found.ctid FROM UNNEST($1::bigint[]) AS row (id)
    CROSS JOIN LATERAL (SELECT outgoing.ctid FROM outgoing WHERE outgoing.id = row.id LIMIT 1) AS found
))";

/// All statements, by name.
#[cfg(test)]
pub(super) const ALL: [(&str, &str); 2] = [("SEND", SEND), ("SENT", SENT)];

/// Writes it.
pub(super) async fn write(on: &mut PgConnection, batch: &Batch<'_>) -> Outcome<()> {
    if !batch.sends.is_empty() {
        let ids: Vec<i64> = batch.sends.iter().map(|(id, _)| *id).collect();
        let locals: Vec<&str> = batch.sends.iter().map(|(_, entry)| entry.local.as_str()).collect();
        let remotes: Vec<&str> = batch.sends.iter().map(|(_, entry)| entry.remote.as_str()).collect();
        let stamps: Vec<i64> = batch.sends.iter().map(|(_, entry)| to_stamp(entry.stamp)).collect();
        let stanzas: Vec<&[u8]> = batch.sends.iter().map(|(_, entry)| &*entry.stanza).collect();
        query(SEND).bind(&ids).bind(&locals).bind(&remotes).bind(&stamps).bind(&stanzas).execute(&mut *on).await?;
    }
    if !batch.sent.is_empty() {
        query(SENT).bind(&batch.sent).execute(on).await?;
    }
    Ok(())
}
