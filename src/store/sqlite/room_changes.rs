//! The part of the commit that is about rooms: making and destroying them, and what they are made of. Their messages go the
//! way of all messages (`commit.rs`).

use std::time::SystemTime;

use rookery_core::store::KEPT_HISTORY;
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use super::names::{Numbered, Part};
use super::wide::{Values, Wide, run, wide};
use crate::batch::Batch;
use crate::codec;
use crate::health::Outcome;

const SET: Wide = wide!(
    "INSERT INTO room_parts (room, kind, key, value) SELECT * FROM (VALUES ",
    "(?, ?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (room, kind, key) DO UPDATE SET value = excluded.value"
);

const UNSET: Wide = wide!(
    "WITH old (room, kind, key) AS (VALUES ",
    "(?, ?, ?)",
    ") DELETE FROM room_parts WHERE rowid IN (SELECT part.rowid FROM old CROSS JOIN room_parts AS part \
     ON part.room = old.room AND part.kind = old.kind AND part.key = old.key)"
);

// OFFSET takes no parameter of a row.
const _: () = assert!(KEPT_HISTORY == 500);

/// The messages beside the archive that are too many.
const TRIM_MESSAGES: Wide = wide!(
    "WITH grown (room) AS (VALUES ",
    "(?)",
    ") DELETE FROM messages WHERE id IN (SELECT tail.id FROM grown CROSS JOIN tail ON tail.account = grown.room \
     AND tail.id <= (SELECT newest.id FROM tail AS newest WHERE newest.account = grown.room \
     ORDER BY newest.id DESC LIMIT 1 OFFSET 500)) AND conversation IS NULL"
);

/// Their places, when the messages are gone.
const TRIM_TAIL: Wide = wide!(
    "WITH grown (room) AS (VALUES ",
    "(?)",
    ") DELETE FROM tail WHERE (account, id) IN (SELECT tail.account, tail.id FROM grown \
     CROSS JOIN tail ON tail.account = grown.room \
     AND tail.id <= (SELECT newest.id FROM tail AS newest WHERE newest.account = grown.room \
     ORDER BY newest.id DESC LIMIT 1 OFFSET 500))"
);

/// Statements that look for rows, by name.
#[cfg(test)]
pub(super) const ALL: [(&str, Wide); 3] =
    [("UNSET", UNSET), ("TRIM_MESSAGES", TRIM_MESSAGES), ("TRIM_TAIL", TRIM_TAIL)];

/// Destroys rooms. `archive_marks` counts them, so that nobody goes on with their numbers.
pub(super) async fn destroy(on: &mut SqliteConnection, batch: &Batch<'_>) -> Outcome<()> {
    for room in &batch.destroyed {
        // What the room is made of goes with it (ON DELETE CASCADE). Messages stay under a number that nobody has.
        let number: Option<i64> = query_scalar("DELETE FROM rooms WHERE jid = ? RETURNING number")
            .bind(room.as_str())
            .fetch_optional(&mut *on)
            .await?;
        let Some(number) = number else { continue };
        query("DELETE FROM key_values WHERE owner = ?").bind(room.as_str()).execute(&mut *on).await?;
        query("INSERT INTO deleted_accounts (number, deleted) VALUES (?, ?)")
            .bind(number)
            .bind(codec::to_stamp(SystemTime::now()))
            .execute(&mut *on)
            .await?;
        query("UPDATE archive_marks SET deletions = deletions + 1 WHERE slot = 0").execute(&mut *on).await?;
    }
    Ok(())
}

/// Makes rooms that are not there.
pub(super) async fn create(on: &mut SqliteConnection, batch: &Batch<'_>) -> Outcome<()> {
    for creation in &batch.created {
        let number: Option<i64> = query_scalar(
            "UPDATE archive_marks SET rooms = rooms - 1 WHERE slot = 0 \
             AND NOT EXISTS (SELECT 1 FROM rooms WHERE jid = $1 UNION ALL SELECT 1 FROM accounts WHERE jid = $1) \
             RETURNING rooms",
        )
        .bind(creation.room.as_str())
        .fetch_optional(&mut *on)
        .await?;
        if let Some(number) = number {
            query("INSERT INTO rooms (number, jid, service, created) VALUES (?, ?, ?, ?)")
                .bind(number)
                .bind(creation.room.as_str())
                .bind(creation.service.as_str())
                .bind(creation.created)
                .execute(&mut *on)
                .await?;
        }
    }
    Ok(())
}

/// Changes what rooms are made of.
pub(super) async fn change(on: &mut SqliteConnection, batch: &Numbered<'_>) -> Outcome<()> {
    let name = |values: &mut Values, part: &Part<'_>| {
        values.number(part.room).text(part.key.kind).text(part.key.key);
    };
    let (set, unset): (Vec<Part<'_>>, Vec<Part<'_>>) = batch.parts.iter().partition(|part| part.value.is_some());
    run(on, &SET, &set, |values, part| {
        name(values, part);
        values.bytes(part.value.unwrap_or_default());
    })
    .await?;
    run(on, &UNSET, &unset, name).await
}

/// Removes what is too old of the history beside the archive, of rooms that have got more of it.
pub(super) async fn trim(on: &mut SqliteConnection, batch: &Numbered<'_>) -> Outcome<()> {
    for statement in [&TRIM_MESSAGES, &TRIM_TAIL] {
        run(on, statement, &batch.growing, |values, room| {
            values.number(*room);
        })
        .await?;
    }
    Ok(())
}
