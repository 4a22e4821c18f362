//! The hot path: a batch of tail changes as one statement, one round trip, one transaction.

use sqlx::{PgConnection, query};

use crate::batch::Batch;
use crate::codec;
use crate::health::Outcome;

/// The parts see the tables as they were before; a batch names no row twice, so their order does not matter. An account
/// that is not there any more joins nothing: its entries are passed over.
///
/// The removals are looked up one by one (`LATERAL ... LIMIT 1`), because a plan that was cached while the tails were short
/// would else search the whole tail of each account, however long it has grown.
const COMMIT: &str = "\
WITH removed AS (
    DELETE FROM tail WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM UNNEST($7::text[], $8::bigint[]) AS old (jid, id)
        JOIN accounts ON accounts.jid = old.jid
        CROSS JOIN LATERAL (
            SELECT tail.ctid FROM tail WHERE tail.account = accounts.number AND tail.id = old.id LIMIT 1
        ) AS found
    ))
), marked AS (
    UPDATE tail_marks SET id = $6 WHERE slot = pg_backend_pid() % 16 AND id < $6
)
INSERT INTO tail (account, id, resource, stamp, stanza)
SELECT accounts.number, new.id, new.resource, new.stamp, new.stanza
FROM UNNEST($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[]) AS new (jid, id, resource, stamp, stanza)
JOIN accounts ON accounts.jid = new.jid
ON CONFLICT (account, id) DO UPDATE
SET resource = excluded.resource, stamp = excluded.stamp, stanza = excluded.stanza";

/// Commits a batch. The mark is moved in the same round trip, whatever it is known to be.
pub(super) async fn commit(on: &mut PgConnection, batch: &Batch<'_>, _: i64) -> Outcome<()> {
    let puts = &batch.puts;
    let removals = &batch.removals;
    let put_jids: Vec<&str> = puts.iter().map(|put| put.entry.account.as_str()).collect();
    let put_ids: Vec<i64> = puts.iter().map(|put| put.id).collect();
    let resources: Vec<Option<&str>> = puts.iter().map(|put| put.entry.resource.as_deref()).collect();
    let stamps: Vec<i64> = puts.iter().map(|put| codec::to_stamp(put.entry.stamp)).collect();
    let stanzas: Vec<&[u8]> = puts.iter().map(|put| put.entry.stanza.as_ref()).collect();
    let old_jids: Vec<&str> = removals.iter().map(|removal| removal.account.as_str()).collect();
    let old_ids: Vec<i64> = removals.iter().map(|removal| removal.id).collect();
    query(COMMIT)
        .bind(put_jids)
        .bind(put_ids)
        .bind(resources)
        .bind(stamps)
        .bind(stanzas)
        .bind(batch.highest)
        .bind(old_jids)
        .bind(old_ids)
        .execute(on)
        .await?;
    Ok(())
}
