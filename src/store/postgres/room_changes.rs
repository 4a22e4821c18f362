//! The part of the commit that is about rooms: making and destroying them, and what they are made of. Their messages go the
//! way of all messages (`commit.rs`).

use std::time::SystemTime;

use rookery_core::store::KEPT_HISTORY;
use sqlx::{PgConnection, query};

use crate::batch::Batch;
use crate::codec;
use crate::health::Outcome;

/// What a room is made of goes with it (ON DELETE CASCADE). Messages stay under a number that nobody has.
const DESTROY: &str = "\
WITH gone AS (
    DELETE FROM rooms WHERE jid = ANY ($1) RETURNING number, jid
), marked AS (
    INSERT INTO deleted_accounts (number, deleted) SELECT number, $2 FROM gone
)
DELETE FROM key_values WHERE owner = ANY (ARRAY(SELECT jid FROM gone))";

const CREATE: &str = "\
INSERT INTO rooms (jid, service, created)
SELECT row.jid, row.service, row.created
FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS row (jid, service, created)
WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.jid = row.jid)
ON CONFLICT (jid) DO NOTHING";

const SET: &str = "\
INSERT INTO room_parts (room, kind, key, value)
SELECT rooms.number, row.kind, row.key, row.value
FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bytea[]) AS row (jid, kind, key, value)
JOIN rooms ON rooms.jid = row.jid
ON CONFLICT (room, kind, key) DO UPDATE SET value = excluded.value";

const UNSET: &str = "\
DELETE FROM room_parts WHERE ctid = ANY (ARRAY(
    SELECT found.ctid FROM UNNEST($1::text[], $2::text[], $3::text[]) AS row (jid, kind, key)
    JOIN rooms ON rooms.jid = row.jid
    CROSS JOIN LATERAL (
        SELECT room_parts.ctid FROM room_parts
        WHERE room_parts.room = rooms.number AND room_parts.kind = row.kind AND room_parts.key = row.key LIMIT 1
    ) AS found
))";

/// Removes what is too old of the history beside the archive.
const TRIM: &str = "\
WITH old AS MATERIALIZED (
    SELECT found.account, found.id, found.ctid FROM UNNEST($1::text[]) AS row (jid)
    JOIN rooms ON rooms.jid = row.jid
    CROSS JOIN LATERAL (
        SELECT tail.account, tail.id, tail.ctid FROM tail
        WHERE tail.account = rooms.number ORDER BY tail.id DESC OFFSET $2
    ) AS found
), dropped AS (
    DELETE FROM messages WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM old
        CROSS JOIN LATERAL (
            SELECT messages.ctid, messages.conversation FROM messages
            WHERE messages.account = old.account AND messages.id = old.id LIMIT 1
        ) AS found
        WHERE found.conversation IS NULL
    ))
)
DELETE FROM tail WHERE ctid = ANY (ARRAY(SELECT old.ctid FROM old))";

/// All statements, by name.
#[cfg(test)]
pub(super) const ALL: [(&str, &str); 5] =
    [("DESTROY", DESTROY), ("CREATE", CREATE), ("SET", SET), ("UNSET", UNSET), ("TRIM", TRIM)];

/// Destroys rooms, and makes those that are not there.
pub(super) async fn live(on: &mut PgConnection, batch: &Batch<'_>) -> Outcome<()> {
    if !batch.destroyed.is_empty() {
        let jids: Vec<&str> = batch.destroyed.iter().map(|room| room.as_str()).collect();
        query(DESTROY).bind(jids).bind(codec::to_stamp(SystemTime::now())).execute(&mut *on).await?;
    }
    if !batch.created.is_empty() {
        let created = || batch.created.iter();
        query(CREATE)
            .bind(created().map(|creation| creation.room.as_str()).collect::<Vec<&str>>())
            .bind(created().map(|creation| creation.service.as_str()).collect::<Vec<&str>>())
            .bind(created().map(|creation| creation.created).collect::<Vec<i64>>())
            .execute(on)
            .await?;
    }
    Ok(())
}

/// Changes what rooms are made of, and keeps their history beside the archive short.
pub(super) async fn change(on: &mut PgConnection, batch: &Batch<'_>) -> Outcome<()> {
    let set = || batch.parts.iter().filter_map(|(key, value)| Some((key, (*value)?)));
    let unset = || batch.parts.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key);
    if set().next().is_some() {
        query(SET)
            .bind(set().map(|(key, _)| key.room.as_str()).collect::<Vec<&str>>())
            .bind(set().map(|(key, _)| key.kind).collect::<Vec<&str>>())
            .bind(set().map(|(key, _)| key.key).collect::<Vec<&str>>())
            .bind(set().map(|(_, value)| value).collect::<Vec<&[u8]>>())
            .execute(&mut *on)
            .await?;
    }
    if unset().next().is_some() {
        query(UNSET)
            .bind(unset().map(|key| key.room.as_str()).collect::<Vec<&str>>())
            .bind(unset().map(|key| key.kind).collect::<Vec<&str>>())
            .bind(unset().map(|key| key.key).collect::<Vec<&str>>())
            .execute(&mut *on)
            .await?;
    }
    let growing: Vec<&str> = batch.growing().iter().map(|room| room.as_str()).collect();
    if !growing.is_empty() {
        query(TRIM).bind(growing).bind(i64::try_from(KEPT_HISTORY).unwrap_or(i64::MAX)).execute(on).await?;
    }
    Ok(())
}
