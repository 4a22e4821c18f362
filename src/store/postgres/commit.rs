//! The hot path: a batch of tail changes as one statement, one round trip, one transaction; and before it, where there are
//! archived messages, one that sees to it that their conversations are there.

use sqlx::{PgConnection, query};

use crate::batch::{Batch, Place};
use crate::codec;
use crate::health::Outcome;
use crate::span::widened;

const CONVERSE: &str = "\
INSERT INTO conversations (account, jid)
SELECT DISTINCT accounts.number, wanted.peer
FROM UNNEST($1::text[], $2::text[]) AS wanted (jid, peer)
JOIN accounts ON accounts.jid = wanted.jid
WHERE wanted.peer IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM conversations AS there WHERE there.account = accounts.number AND there.jid = wanted.peer
)
ON CONFLICT (account, jid) DO NOTHING";

/// The parts see the tables as they were before; a batch names no message twice, so their order does not matter. An account
/// that is not there any more joins nothing: its messages are passed over.
///
/// What is removed is looked up row by row (`LATERAL ... LIMIT 1`), because a plan that was cached while the tails were short
/// would else search the whole tail of each account, however long it has grown.
const COMMIT: &str = "\
WITH new AS (
    SELECT accounts.number AS account, row.id, row.peer, row.sent, row.counts, row.stamp, row.digest,
        row.peer_resource, row.message_id, row.stanza, row.waits, row.resource, row.body,
        (
            SELECT conversations.number FROM conversations
            WHERE conversations.account = accounts.number AND conversations.jid = row.peer
        ) AS conversation
    FROM UNNEST(
        $1::text[], $2::bigint[], $3::text[], $4::boolean[], $5::boolean[], $6::bigint[], $7::bigint[],
        $8::text[], $9::text[], $10::bytea[], $11::boolean[], $12::text[], $13::text[]
    ) AS row (
        jid, id, peer, sent, counts, stamp, digest, peer_resource, message_id, stanza, waits, resource, body
    )
    JOIN accounts ON accounts.jid = row.jid
), put AS (
    INSERT INTO messages (account, id, conversation, sent, counts, stamp, digest, resource, message_id, stanza)
    SELECT account, id, conversation, sent, counts, stamp, digest, peer_resource, message_id, stanza FROM new
    ON CONFLICT (account, id) DO UPDATE SET conversation = excluded.conversation, sent = excluded.sent,
        counts = excluded.counts, stamp = excluded.stamp, digest = excluded.digest, resource = excluded.resource,
        message_id = excluded.message_id, stanza = excluded.stanza
), waiting AS (
    INSERT INTO tail (account, id, alone, size, resource)
    SELECT account, id, peer IS NULL, length(stanza), resource FROM new WHERE waits
    ON CONFLICT (account, id) DO UPDATE SET alone = excluded.alone, size = excluded.size, resource = excluded.resource
), texts AS (
    INSERT INTO unindexed (id, account, body)
    SELECT id, account, coalesce(body, '') FROM new
    ON CONFLICT (id, account) DO UPDATE SET body = excluded.body
), old AS (
    SELECT accounts.number AS account, row.id, row.vanishes, row.settled
    FROM UNNEST($14::text[], $15::bigint[], $16::boolean[], $17::boolean[]) AS row (jid, id, vanishes, settled)
    JOIN accounts ON accounts.jid = row.jid
), dropped AS (
    DELETE FROM messages WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM old
        CROSS JOIN LATERAL (
            SELECT messages.ctid, messages.conversation FROM messages
            WHERE messages.account = old.account AND messages.id = old.id LIMIT 1
        ) AS found
        WHERE old.vanishes OR (old.settled AND found.conversation IS NULL)
    ))
    RETURNING account, id
), unindexing AS (
    INSERT INTO unindexed (id, account, body)
    SELECT id, account, '' FROM dropped
    ON CONFLICT (id, account) DO UPDATE SET body = ''
), left_tail AS (
    DELETE FROM tail WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM old
        CROSS JOIN LATERAL (
            SELECT tail.ctid FROM tail WHERE tail.account = old.account AND tail.id = old.id LIMIT 1
        ) AS found
    ))
), known AS (
    INSERT INTO seen (account, id, digest)
    SELECT accounts.number, row.id, row.digest
    FROM UNNEST($18::text[], $19::bigint[], $20::bigint[]) AS row (jid, id, digest)
    JOIN accounts ON accounts.jid = row.jid
    ON CONFLICT (account, id) DO UPDATE SET digest = excluded.digest
), unknown AS (
    DELETE FROM seen WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM UNNEST($21::text[], $22::bigint[]) AS row (jid, id)
        JOIN accounts ON accounts.jid = row.jid
        CROSS JOIN LATERAL (
            SELECT seen.ctid FROM seen WHERE seen.account = accounts.number AND seen.id = row.id LIMIT 1
        ) AS found
    ))
), skewed AS (
    UPDATE archive_marks SET
        ahead = CASE WHEN ahead < $24 THEN $25 ELSE ahead END,
        behind = CASE WHEN behind < $26 THEN $27 ELSE behind END
    WHERE slot = 0 AND (ahead < $24 OR behind < $26)
)
UPDATE tail_marks SET id = $23 WHERE slot = pg_backend_pid() % 16 AND id < $23";

/// Commits a batch. The mark is moved in the same round trip, whatever it is known to be.
pub(super) async fn commit(on: &mut PgConnection, batch: &Batch<'_>, _: i64) -> Outcome<()> {
    let puts = &batch.puts;
    let archived = || puts.iter().map(|put| put.archived());
    let jids: Vec<&str> = puts.iter().map(|put| put.account().as_str()).collect();
    let peers: Vec<Option<&str>> = archived().map(|archived| archived.map(|archived| archived.with.as_str())).collect();
    if peers.iter().any(Option::is_some) {
        query(CONVERSE).bind(&jids).bind(&peers).execute(&mut *on).await?;
    }
    let ids: Vec<i64> = puts.iter().map(|put| put.id).collect();
    let sent: Vec<bool> = archived().map(|archived| archived.is_some_and(|archived| archived.sent)).collect();
    let counts: Vec<bool> = archived().map(|archived| archived.is_some_and(|archived| archived.counts)).collect();
    let stamps: Vec<i64> = puts.iter().map(|put| codec::to_stamp(put.record.entry.stamp)).collect();
    let digests: Vec<Option<i64>> =
        puts.iter().map(|put| put.archived().and_then(|_| put.record.digest).map(u64::cast_signed)).collect();
    let peer_resources: Vec<Option<&str>> =
        archived().map(|archived| archived.and_then(|archived| archived.resource.as_deref())).collect();
    let message_ids: Vec<Option<&str>> =
        archived().map(|archived| archived.and_then(|archived| archived.message_id.as_deref())).collect();
    let stanzas: Vec<&[u8]> = puts.iter().map(|put| put.record.entry.stanza.as_ref()).collect();
    let waits: Vec<bool> = puts.iter().map(|put| put.waits).collect();
    let resources: Vec<Option<&str>> = puts.iter().map(|put| put.record.entry.resource.as_deref()).collect();
    let bodies: Vec<Option<&str>> = puts.iter().map(|put| put.body()).collect();
    let leaving = puts.iter().filter(|put| !put.waits).map(|put| (put.place(), false, false));
    let vanishing = batch.vanish().map(|place| (place, true, true));
    let delivered = batch.delivered.iter().map(|place| (*place, false, true));
    let old: Vec<(Place<'_>, bool, bool)> = leaving.chain(vanishing).chain(delivered).collect();
    let old_jids: Vec<&str> = old.iter().map(|(place, ..)| place.account.as_str()).collect();
    let old_ids: Vec<i64> = old.iter().map(|(place, ..)| place.id).collect();
    let vanishes: Vec<bool> = old.iter().map(|(_, vanishes, _)| *vanishes).collect();
    let settled: Vec<bool> = old.iter().map(|(_, _, settled)| *settled).collect();
    let known: Vec<(Place<'_>, i64)> = batch.known_apart().collect();
    let known_jids: Vec<&str> = known.iter().map(|(place, _)| place.account.as_str()).collect();
    let known_ids: Vec<i64> = known.iter().map(|(place, _)| place.id).collect();
    let known_digests: Vec<i64> = known.iter().map(|(_, digest)| *digest).collect();
    let unknown: Vec<Place<'_>> = batch.unknown_apart().collect();
    let unknown_jids: Vec<&str> = unknown.iter().map(|place| place.account.as_str()).collect();
    let unknown_ids: Vec<i64> = unknown.iter().map(|place| place.id).collect();
    let (ahead, behind) = batch.skew;
    query(COMMIT)
        .bind(&jids)
        .bind(ids)
        .bind(&peers)
        .bind(sent)
        .bind(counts)
        .bind(stamps)
        .bind(digests)
        .bind(peer_resources)
        .bind(message_ids)
        .bind(stanzas)
        .bind(waits)
        .bind(resources)
        .bind(bodies)
        .bind(old_jids)
        .bind(old_ids)
        .bind(vanishes)
        .bind(settled)
        .bind(known_jids)
        .bind(known_ids)
        .bind(known_digests)
        .bind(unknown_jids)
        .bind(unknown_ids)
        .bind(batch.highest)
        .bind(ahead)
        .bind(widened(ahead))
        .bind(behind)
        .bind(widened(behind))
        .execute(on)
        .await?;
    Ok(())
}
