//! The hot path: a batch of tail changes as few, wide, prepared statements in one transaction (`wide.rs`), with numbers for
//! names (`names.rs`) and in epochs (`epochs.rs`).
//!
//! Numbers are never given out twice, and conversations live as long as their account. So what is remembered from one
//! commit to the next is true until an account or an epoch goes; each time `archive_marks` counts one more, and a commit that
//! finds another count than the last forgets everything.
//!
//! What has an id above the mark was never committed before: the mark goes up with every batch, in its transaction. Most
//! messages are such, and nothing has to be looked for that an earlier commit of theirs might have left.

use parking_lot::Mutex;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, query, query_as};

use super::names::{Names, Numbered, Row};
use super::wide::{Values, Wide, run, wide};
use super::{room_changes, sends};
use crate::batch::{Batch, Put};
use crate::epochs::Epochs;
use crate::health::Outcome;
use crate::span::widened;

/// An id belongs to one account or room for ever. What a deleted one has left is in nobody's way; else the account becomes
/// NULL, which it may not, and the batch fails.
const PUT: Wide = wide!(
    "INSERT INTO messages (id, epoch, account, conversation, sent, counts, stamp, resource, message_id, stanza, \
     digest) SELECT * FROM (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET account = CASE WHEN account = excluded.account \
     OR NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.number = messages.account \
     UNION ALL SELECT 1 FROM rooms WHERE rooms.number = messages.account) THEN excluded.account END, \
     epoch = excluded.epoch, conversation = excluded.conversation, sent = excluded.sent, counts = excluded.counts, \
     stamp = excluded.stamp, resource = excluded.resource, message_id = excluded.message_id, stanza = excluded.stanza, \
     digest = excluded.digest"
);

const WAIT: Wide = wide!(
    "INSERT INTO tail (account, id, alone, size, resource) SELECT * FROM (VALUES ",
    "(?, ?, ?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (account, id) DO UPDATE SET alone = excluded.alone, size = excluded.size, resource = excluded.resource"
);

/// What waited and is not archived goes altogether.
const DROP_ALONE: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") DELETE FROM messages WHERE id IN (SELECT tail.id FROM old \
     CROSS JOIN tail ON tail.account = old.account AND tail.id = old.id AND tail.alone) AND conversation IS NULL"
);

const LEAVE: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") DELETE FROM tail WHERE (account, id) IN (SELECT account, id FROM old)"
);

const VANISH: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") DELETE FROM messages WHERE id IN (SELECT messages.id FROM old \
     CROSS JOIN messages ON messages.id = old.id AND messages.account = old.account)"
);

const KNOW: Wide = wide!(
    "INSERT INTO seen (epoch, account, id, digest) SELECT * FROM (VALUES ",
    "(?, ?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (epoch, account, id) DO UPDATE SET digest = excluded.digest"
);

const UNKNOW: Wide = wide!(
    "WITH old (epoch, account, id) AS (VALUES ",
    "(?, ?, ?)",
    ") DELETE FROM seen WHERE (epoch, account, id) IN (SELECT epoch, account, id FROM old)"
);

/// The same of an archived message, which has its digest beside it.
const FORGET: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") UPDATE messages SET digest = NULL WHERE id IN (SELECT messages.id FROM old \
     CROSS JOIN messages ON messages.id = old.id AND messages.account = old.account AND messages.digest IS NOT NULL)"
);

const UNFIND: Wide =
    wide!("WITH old (id) AS (VALUES ", "(?)", ") DELETE FROM words WHERE rowid IN (SELECT id FROM old)");

/// What is stored again is to be found by what it is now.
const FIND_AGAIN: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") UPDATE searched SET up_to = min(up_to, (SELECT min(old.id) FROM old WHERE old.account = searched.account) - 1) \
     WHERE account IN (SELECT account FROM old)"
);

const RECOUNT: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") UPDATE conversations SET counted = displayed, unread = 0 WHERE number IN (SELECT c.number FROM old \
     CROSS JOIN conversations AS c ON c.account = old.account AND c.counted >= old.id AND c.displayed < old.id)"
);

/// Statements that look for rows as no other part does, by name.
#[cfg(test)]
pub(super) const ALL: [(&str, Wide); 2] = [("FIND_AGAIN", FIND_AGAIN), ("FORGET_ONE", FORGET)];

/// What one commit tells the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    deletions: i64,
    names: Names,
    epochs: Epochs,
}

/// Commits batches in one transaction.
pub(super) async fn commit(on: &mut SqliteConnection, batches: &[Batch<'_>], memory: &Mutex<Memory>) -> Outcome<()> {
    // Put back when the commit has come through: what a failed one has learned may not be true.
    let mut known = std::mem::take(&mut *memory.lock());
    let mut tx = on.begin_with("BEGIN IMMEDIATE").await?;
    for batch in batches {
        apply(&mut tx, batch, &mut known).await?;
    }
    tx.commit().await?;
    *memory.lock() = known;
    Ok(())
}

async fn apply(on: &mut SqliteConnection, batch: &Batch<'_>, known: &mut Memory) -> Outcome<()> {
    room_changes::destroy(on, batch).await?;
    room_changes::create(on, batch).await?;
    let (deletions, mark, records, ahead, behind, counted): (i64, i64, i64, i64, i64, i64) = query_as(
        "SELECT archive_marks.deletions, tail_marks.id, tail_marks.records, archive_marks.ahead, archive_marks.behind, \
         archive_marks.counted \
         FROM archive_marks CROSS JOIN tail_marks WHERE archive_marks.slot = 0 AND tail_marks.slot = 0",
    )
    .fetch_one(&mut *on)
    .await?;
    if known.deletions != deletions {
        *known = Memory { deletions, ..Memory::default() };
    }
    let numbered = known.names.learn(on, batch).await?;
    known.epochs.learn(on).await?;
    let records = known.epochs.grow(on, batch.puts.len() + batch.gone.len(), records, mark).await?;
    recount(on, &numbered, counted).await?;
    write(on, &numbered, &known.epochs, mark).await?;
    room_changes::change(on, &numbered).await?;
    room_changes::trim(on, &numbered).await?;
    sends::write(on, batch).await?;
    query("UPDATE tail_marks SET id = max(id, ?), records = ? WHERE slot = 0")
        .bind(batch.highest)
        .bind(records)
        .execute(&mut *on)
        .await?;
    if batch.skew.0 > ahead || batch.skew.1 > behind {
        query("UPDATE archive_marks SET ahead = max(ahead, ?), behind = max(behind, ?) WHERE slot = 0")
            .bind(widened(batch.skew.0))
            .bind(widened(batch.skew.1))
            .execute(on)
            .await?;
    }
    Ok(())
}

/// Forgets what was counted as unread where a message changes that was counted.
async fn recount(on: &mut SqliteConnection, batch: &Numbered<'_>, counted: i64) -> Outcome<()> {
    let rows = batch.puts.iter().chain(&batch.gone).map(|row| (row.account, row.put.id));
    let changed = rows.chain(batch.refused.iter().copied()).filter(|(_, id)| *id <= counted);
    let changed: Vec<(i64, i64)> = changed.collect();
    run(on, &RECOUNT, &changed, |values, (account, id)| {
        values.number(*account).number(*id);
    })
    .await
}

async fn write(on: &mut SqliteConnection, batch: &Numbered<'_>, epochs: &Epochs, mark: i64) -> Outcome<()> {
    let Numbered { puts, gone, delivered, refused, forgotten, .. } = batch;
    let is_fresh = |row: &Row<'_>| row.put.id > mark;
    let place = |row: &Row<'_>| (row.account, row.put.id);
    let fill_place = |values: &mut Values, (account, id): &(i64, i64)| {
        values.number(*account).number(*id);
    };

    run(on, &PUT, puts, |values, row| fill_put(values, row, epochs)).await?;
    let waiting: Vec<Row<'_>> = puts.iter().copied().filter(|row| row.put.waits).collect();
    run(on, &WAIT, &waiting, fill_waiting).await?;

    run(on, &DROP_ALONE, delivered, fill_place).await?;
    let settled = puts.iter().filter(|row| !row.put.waits && !is_fresh(row)).map(place);
    let vanishing = gone.iter().filter(|row| !is_fresh(row)).map(place);
    let vanishing: Vec<(i64, i64)> = vanishing.chain(refused.iter().copied()).collect();
    let leaving: Vec<(i64, i64)> = delivered.iter().copied().chain(settled).chain(vanishing.iter().copied()).collect();
    run(on, &LEAVE, &leaving, fill_place).await?;
    run(on, &VANISH, &vanishing, fill_place).await?;

    let all = || puts.iter().chain(gone);
    let alone = |row: &&Row<'_>| row.put.filed.is_none();
    let seen = all().filter(alone).filter_map(|row| Some((row.account, row.put.id, row.put.digest?)));
    let seen: Vec<(i64, i64, i64)> = seen.collect();
    run(on, &KNOW, &seen, |values, (account, id, digest)| {
        values.number(epochs.of(*id)).number(*account).number(*id).number(*digest);
    })
    .await?;
    let unseen = all().filter(|row| (row.put.digest.is_none() || !alone(row)) && !is_fresh(row)).map(place);
    let unseen: Vec<(i64, i64)> = unseen.chain(refused.iter().chain(forgotten).copied()).collect();
    run(on, &UNKNOW, &unseen, |values, (account, id)| {
        values.number(epochs.of(*id)).number(*account).number(*id);
    })
    .await?;
    run(on, &FORGET, forgotten, fill_place).await?;

    let again: Vec<(i64, i64)> = puts.iter().filter(|row| !is_fresh(row)).map(place).collect();
    let changed: Vec<i64> = again.iter().chain(&vanishing).map(|(_, id)| *id).collect();
    run(on, &UNFIND, &changed, |values, id| {
        values.number(*id);
    })
    .await?;
    run(on, &FIND_AGAIN, &again, fill_place).await
}

fn fill_put(values: &mut Values, row: &Row<'_>, epochs: &Epochs) {
    let Put { id, stamp, stanza, filed, digest, .. } = *row.put;
    values
        .number(id)
        .number(epochs.of(id))
        .number(row.account)
        .number(row.conversation)
        .number(i64::from(filed.is_some_and(|filed| filed.sent)))
        .number(i64::from(filed.is_some_and(|filed| filed.counts)))
        .number(stamp)
        .text(filed.and_then(|filed| filed.resource))
        .text(filed.and_then(|filed| filed.message_id))
        .bytes(stanza)
        .number(filed.and(digest));
}

fn fill_waiting(values: &mut Values, row: &Row<'_>) {
    let put = row.put;
    values
        .number(row.account)
        .number(put.id)
        .number(i64::from(put.filed.is_none()))
        .number(i64::try_from(put.stanza.len()).unwrap_or(i64::MAX))
        .text(put.resource);
}
