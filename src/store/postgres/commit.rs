//! The hot path: a batch of messages as one statement, one round trip, one transaction; and before it, where there are
//! archived messages, one that sees to it that their conversations are there. Only what else changes of rooms
//! (`room_changes.rs`) needs a transaction of several statements.

use sqlx::{Connection, PgConnection, query};

use super::epochs::{Memory, records};
use super::{room_changes, sends};
use crate::batch::{Batch, Place, Put};
use crate::epochs::Epochs;
use crate::health::Outcome;
use crate::span::widened;

const CONVERSE: &str = "\
INSERT INTO conversations (account, jid)
SELECT DISTINCT owner.number, wanted.peer
FROM UNNEST($1::text[], $2::text[], $3::boolean[]) AS wanted (jid, peer, of_room)
CROSS JOIN LATERAL (
    SELECT number FROM accounts WHERE accounts.jid = wanted.jid AND NOT wanted.of_room
    UNION ALL SELECT number FROM rooms WHERE rooms.jid = wanted.jid AND wanted.of_room
) AS owner
WHERE NOT EXISTS (
    SELECT 1 FROM conversations AS there WHERE there.account = owner.number AND there.jid = wanted.peer
)
ON CONFLICT (account, jid) DO NOTHING";

/// The parts see the tables as they were before; a batch names no message twice, so their order does not matter. An account
/// or a room that is not there any more joins nothing: its messages are passed over. What has an id above the mark was never committed
/// before, so nothing is looked for that an earlier commit of it might have left.
///
/// What is removed is looked up row by row (`LATERAL ... LIMIT 1`), because a plan that was cached while the tails were short
/// would else search the whole tail of each account, however long it has grown.
const COMMIT: &str = "\
WITH mark AS MATERIALIZED (
    SELECT max(id) AS id FROM tail_marks
), new AS MATERIALIZED (
    SELECT owner.number AS account, row.id, row.peer, row.sent, row.counts, row.stamp, row.peer_resource,
        row.message_id, row.stanza, row.waits, row.resource, row.digest, row.epoch,
        (
            SELECT conversations.number FROM conversations
            WHERE conversations.account = owner.number AND conversations.jid = row.peer
        ) AS conversation
    FROM UNNEST(
        $1::text[], $2::bigint[], $3::text[], $4::boolean[], $5::boolean[], $6::bigint[], $7::text[], $8::text[],
        $9::bytea[], $10::boolean[], $11::text[], $12::boolean[], $28::bigint[], $29::bigint[]
    ) AS row (
        jid, id, peer, sent, counts, stamp, peer_resource, message_id, stanza, waits, resource, of_room, digest, epoch
    )
    CROSS JOIN LATERAL (
        SELECT number FROM accounts WHERE accounts.jid = row.jid AND NOT row.of_room
        UNION ALL SELECT number FROM rooms WHERE rooms.jid = row.jid AND row.of_room
    ) AS owner
), put AS (
    INSERT INTO messages (epoch, account, id, conversation, sent, counts, stamp, resource, message_id, stanza, digest)
    SELECT epoch, account, id, conversation, sent, counts, stamp, peer_resource, message_id, stanza,
        CASE WHEN conversation IS NOT NULL THEN digest END FROM new
    ON CONFLICT (id, account) DO UPDATE SET conversation = excluded.conversation, sent = excluded.sent,
        counts = excluded.counts, stamp = excluded.stamp, resource = excluded.resource,
        message_id = excluded.message_id, stanza = excluded.stanza, digest = excluded.digest
), waiting AS (
    INSERT INTO tail (account, id, alone, size, resource)
    SELECT account, id, peer IS NULL, length(stanza), resource FROM new WHERE waits
    ON CONFLICT (account, id) DO UPDATE SET alone = excluded.alone, size = excluded.size, resource = excluded.resource
), old AS MATERIALIZED (
    SELECT owner.number AS account, row.id, row.vanishes
    FROM UNNEST($13::text[], $14::bigint[], $15::boolean[]) AS row (jid, id, vanishes)
    CROSS JOIN LATERAL (
        SELECT number FROM accounts WHERE accounts.jid = row.jid
        UNION ALL SELECT number FROM rooms WHERE rooms.jid = row.jid
    ) AS owner
), again AS MATERIALIZED (
    SELECT account, id, waits, epoch, digest IS NOT NULL AND conversation IS NULL AS is_seen
    FROM new WHERE id <= (SELECT id FROM mark)
), dropped AS (
    DELETE FROM messages WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM old
        CROSS JOIN LATERAL (
            SELECT messages.ctid, messages.conversation FROM messages
            WHERE messages.account = old.account AND messages.id = old.id LIMIT 1
        ) AS found
        WHERE old.vanishes OR found.conversation IS NULL
    ))
), settled AS (
    DELETE FROM tail WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM (
            SELECT account, id FROM old UNION ALL SELECT account, id FROM again WHERE NOT waits
        ) AS leaving
        CROSS JOIN LATERAL (
            SELECT tail.ctid FROM tail WHERE tail.account = leaving.account AND tail.id = leaving.id LIMIT 1
        ) AS found
    ))
), unfound AS (
    DELETE FROM words WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM (
            SELECT account, id FROM old WHERE vanishes UNION ALL SELECT account, id FROM again
        ) AS changed
        CROSS JOIN LATERAL (
            SELECT words.ctid FROM words WHERE words.account = changed.account AND words.id = changed.id LIMIT 1
        ) AS found
    ))
), found_again AS (
    UPDATE searched SET
        up_to = least(up_to, (SELECT min(again.id) - 1 FROM again WHERE again.account = searched.account))
    WHERE searched.account = ANY (ARRAY(SELECT account FROM again))
), known AS (
    INSERT INTO seen (epoch, account, id, digest)
    SELECT epoch, account, id, digest FROM new WHERE digest IS NOT NULL AND conversation IS NULL
    UNION ALL SELECT row.epoch, owner.number, row.id, row.digest
    FROM UNNEST($16::text[], $17::bigint[], $18::bigint[], $27::boolean[], $30::bigint[])
        AS row (jid, id, digest, of_room, epoch)
    CROSS JOIN LATERAL (
        SELECT number FROM accounts WHERE accounts.jid = row.jid AND NOT row.of_room
        UNION ALL SELECT number FROM rooms WHERE rooms.jid = row.jid AND row.of_room
    ) AS owner
    ON CONFLICT (epoch, account, id) DO UPDATE SET digest = excluded.digest
), unknown AS (
    DELETE FROM seen WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM (
            SELECT row.epoch, owner.number AS account, row.id
            FROM UNNEST($19::text[], $20::bigint[], $21::boolean[], $31::bigint[]) AS row (jid, id, refused, epoch)
            CROSS JOIN LATERAL (
                SELECT number FROM accounts WHERE accounts.jid = row.jid
                UNION ALL SELECT number FROM rooms WHERE rooms.jid = row.jid
            ) AS owner
            WHERE row.refused OR row.id <= (SELECT id FROM mark)
            UNION ALL SELECT epoch, account, id FROM again WHERE NOT is_seen
        ) AS gone
        CROSS JOIN LATERAL (
            SELECT seen.ctid FROM seen
            WHERE seen.epoch = gone.epoch AND seen.account = gone.account AND seen.id = gone.id LIMIT 1
        ) AS found
    ))
), forgotten AS (
    UPDATE messages SET digest = NULL WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM UNNEST($33::text[], $34::bigint[]) AS row (jid, id)
        CROSS JOIN LATERAL (
            SELECT number FROM accounts WHERE accounts.jid = row.jid
            UNION ALL SELECT number FROM rooms WHERE rooms.jid = row.jid
        ) AS owner
        CROSS JOIN LATERAL (
            SELECT messages.ctid, messages.digest FROM messages
            WHERE messages.account = owner.number AND messages.id = row.id LIMIT 1
        ) AS found
        WHERE found.digest IS NOT NULL
    ))
), recounted AS (
    UPDATE conversations SET counted = displayed, unread = 0 WHERE number = ANY (ARRAY(
        SELECT found.number FROM (
            SELECT account, id FROM old WHERE vanishes UNION ALL SELECT account, id FROM again
        ) AS changed
        CROSS JOIN LATERAL (
            SELECT conversations.number FROM conversations WHERE conversations.account = changed.account
                AND conversations.counted >= changed.id AND conversations.displayed < changed.id
        ) AS found
        WHERE changed.id <= (SELECT counted FROM archive_marks WHERE slot = 0)
    ))
), skewed AS (
    UPDATE archive_marks SET
        ahead = CASE WHEN ahead < $23 THEN $24 ELSE ahead END,
        behind = CASE WHEN behind < $25 THEN $26 ELSE behind END
    WHERE slot = 0 AND (ahead < $23 OR behind < $25)
)
UPDATE tail_marks SET id = greatest(id, $22), records = records + $32
WHERE slot = pg_backend_pid() % 16 AND (id < $22 OR $32 > 0)";

/// All statements, by name.
#[cfg(test)]
pub(super) const ALL: [(&str, &str); 2] = [("CONVERSE", CONVERSE), ("COMMIT", COMMIT)];

/// Commits batches in one transaction. Nothing is remembered from one call to the next: it may be tried again by another
/// connection.
pub(super) async fn commit(on: &mut PgConnection, batches: &[Batch<'_>], memory: &Memory) -> Outcome<()> {
    let epochs = memory.enter(on, batches).await?;
    if let [batch] = batches
        && batch.is_plain()
    {
        return write(on, batch, &epochs).await;
    }
    let mut tx = on.begin_with("BEGIN").await?;
    for batch in batches {
        room_changes::live(&mut tx, batch).await?;
        write(&mut tx, batch, &epochs).await?;
        room_changes::change(&mut tx, batch).await?;
        sends::write(&mut tx, batch).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Sees to it that the conversations of archived messages are there, each looked for once.
async fn converse(on: &mut PgConnection, puts: &[Put<'_>]) -> Outcome<()> {
    let wanted = puts.iter().filter_map(|put| Some((put.owner.as_str(), put.filed?.with.as_str(), put.of_room)));
    let mut wanted: Vec<(&str, &str, bool)> = wanted.collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(());
    }
    query(CONVERSE)
        .bind(wanted.iter().map(|(jid, _, _)| *jid).collect::<Vec<&str>>())
        .bind(wanted.iter().map(|(_, peer, _)| *peer).collect::<Vec<&str>>())
        .bind(wanted.iter().map(|(_, _, of_room)| *of_room).collect::<Vec<bool>>())
        .execute(on)
        .await?;
    Ok(())
}

/// Writes the messages of a batch.
async fn write(on: &mut PgConnection, batch: &Batch<'_>, epochs: &Epochs) -> Outcome<()> {
    let puts = &batch.puts;
    let filed = || puts.iter().map(|put| put.filed);
    let jids: Vec<&str> = puts.iter().map(|put| put.owner.as_str()).collect();
    let of_rooms: Vec<bool> = puts.iter().map(|put| put.of_room).collect();
    let peers: Vec<Option<&str>> = filed().map(|filed| filed.map(|filed| filed.with.as_str())).collect();
    converse(on, puts).await?;
    let ids: Vec<i64> = puts.iter().map(|put| put.id).collect();
    let sent: Vec<bool> = filed().map(|filed| filed.is_some_and(|filed| filed.sent)).collect();
    let counts: Vec<bool> = filed().map(|filed| filed.is_some_and(|filed| filed.counts)).collect();
    let stamps: Vec<i64> = puts.iter().map(|put| put.stamp).collect();
    let peer_resources: Vec<Option<&str>> = filed().map(|filed| filed.and_then(|filed| filed.resource)).collect();
    let message_ids: Vec<Option<&str>> = filed().map(|filed| filed.and_then(|filed| filed.message_id)).collect();
    let stanzas: Vec<&[u8]> = puts.iter().map(|put| put.stanza).collect();
    let waits: Vec<bool> = puts.iter().map(|put| put.waits).collect();
    let resources: Vec<Option<&str>> = puts.iter().map(|put| put.resource).collect();

    let vanishing = batch.gone.iter().map(Put::place).chain(batch.refused.iter().copied());
    let delivered = batch.delivered.iter().copied();
    let old: Vec<(Place<'_>, bool)> =
        vanishing.map(|place| (place, true)).chain(delivered.map(|place| (place, false))).collect();
    let old_jids: Vec<&str> = old.iter().map(|(place, _)| place.account.as_str()).collect();
    let old_ids: Vec<i64> = old.iter().map(|(place, _)| place.id).collect();
    let vanishes: Vec<bool> = old.iter().map(|(_, vanishes)| *vanishes).collect();

    let digests: Vec<Option<i64>> = puts.iter().map(|put| put.digest).collect();
    let known: Vec<(&Put<'_>, i64)> = batch.gone.iter().filter_map(|put| Some((put, put.digest?))).collect();
    let known_jids: Vec<&str> = known.iter().map(|(put, _)| put.owner.as_str()).collect();
    let known_ids: Vec<i64> = known.iter().map(|(put, _)| put.id).collect();
    let known_of_rooms: Vec<bool> = known.iter().map(|(put, _)| put.of_room).collect();
    let known_digests: Vec<i64> = known.iter().map(|(_, digest)| *digest).collect();
    let without = batch.gone.iter().filter(|put| put.digest.is_none()).map(|put| (put.place(), false));
    let forgotten = batch.refused.iter().chain(&batch.forgotten).map(|place| (*place, true));
    let unknown: Vec<(Place<'_>, bool)> = without.chain(forgotten).collect();
    let unknown_jids: Vec<&str> = unknown.iter().map(|(place, _)| place.account.as_str()).collect();
    let unknown_ids: Vec<i64> = unknown.iter().map(|(place, _)| place.id).collect();
    let refused: Vec<bool> = unknown.iter().map(|(_, refused)| *refused).collect();
    let forgotten_jids: Vec<&str> = batch.forgotten.iter().map(|place| place.account.as_str()).collect();
    let forgotten_ids: Vec<i64> = batch.forgotten.iter().map(|place| place.id).collect();
    let (ahead, behind) = batch.skew;
    let epochs_of = |ids: &[i64]| ids.iter().map(|id| epochs.of(*id)).collect::<Vec<i64>>();
    query(COMMIT)
        .bind(&jids)
        .bind(&ids)
        .bind(&peers)
        .bind(sent)
        .bind(counts)
        .bind(stamps)
        .bind(peer_resources)
        .bind(message_ids)
        .bind(stanzas)
        .bind(waits)
        .bind(resources)
        .bind(&of_rooms)
        .bind(old_jids)
        .bind(old_ids)
        .bind(vanishes)
        .bind(known_jids)
        .bind(&known_ids)
        .bind(known_digests)
        .bind(unknown_jids)
        .bind(&unknown_ids)
        .bind(refused)
        .bind(batch.highest)
        .bind(ahead)
        .bind(widened(ahead))
        .bind(behind)
        .bind(widened(behind))
        .bind(known_of_rooms)
        .bind(digests)
        .bind(epochs_of(&ids))
        .bind(epochs_of(&known_ids))
        .bind(epochs_of(&unknown_ids))
        .bind(records(batch))
        .bind(forgotten_jids)
        .bind(forgotten_ids)
        .execute(on)
        .await?;
    Ok(())
}
