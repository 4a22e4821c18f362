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

use super::epochs::Epochs;
use super::names::Names;
use super::wide::{Statement, Wide, run, wide};
use crate::batch::{Batch, Place, Put};
use crate::codec;
use crate::health::Outcome;
use crate::span::widened;

/// An id belongs to one account for ever. What a deleted account has left is in nobody's way; else the account becomes
/// NULL, which it may not, and the batch fails.
const PUT: Wide = wide!(
    "INSERT INTO messages (id, epoch, account, conversation, sent, counts, stamp, resource, message_id, stanza) \
     SELECT * FROM (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET account = CASE WHEN account = excluded.account \
     OR NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.number = messages.account) THEN excluded.account END, \
     epoch = excluded.epoch, conversation = excluded.conversation, sent = excluded.sent, counts = excluded.counts, \
     stamp = excluded.stamp, resource = excluded.resource, message_id = excluded.message_id, stanza = excluded.stanza"
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

const INDEX_LATER: Wide = wide!(
    "INSERT INTO unindexed (id, account, body) SELECT * FROM (VALUES ",
    "(?, ?, ?)",
    ") WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET account = excluded.account, body = excluded.body"
);

const UNFIND: Wide =
    wide!("WITH old (id) AS (VALUES ", "(?)", ") DELETE FROM words WHERE rowid IN (SELECT id FROM old)");

const FORGET_TEXT: Wide =
    wide!("WITH old (id) AS (VALUES ", "(?)", ") DELETE FROM unindexed WHERE id IN (SELECT id FROM old)");

/// What one commit tells the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    deletions: i64,
    names: Names,
    epochs: Epochs,
}

/// Commits a batch.
pub(super) async fn commit(on: &mut SqliteConnection, batch: &Batch<'_>, memory: &Mutex<Memory>) -> Outcome<()> {
    // Put back when the commit has come through: what a failed one has learned may not be true.
    let mut known = std::mem::take(&mut *memory.lock());
    let mut tx = on.begin_with("BEGIN IMMEDIATE").await?;
    let (deletions, mark, records, ahead, behind): (i64, i64, i64, i64, i64) = query_as(
        "SELECT archive_marks.deletions, tail_marks.id, tail_marks.records, archive_marks.ahead, archive_marks.behind \
         FROM archive_marks CROSS JOIN tail_marks WHERE archive_marks.slot = 0 AND tail_marks.slot = 0",
    )
    .fetch_one(&mut *tx)
    .await?;
    if known.deletions != deletions {
        known = Memory { deletions, ..Memory::default() };
    }
    known.names.learn(&mut tx, batch).await?;
    known.epochs.learn(&mut tx).await?;
    let records = known.epochs.grow(&mut tx, batch.puts.len() + batch.gone.len(), records, mark).await?;
    write(&mut tx, batch, &known, mark).await?;
    query("UPDATE tail_marks SET id = max(id, ?), records = ? WHERE slot = 0")
        .bind(batch.highest)
        .bind(records)
        .execute(&mut *tx)
        .await?;
    if batch.skew.0 > ahead || batch.skew.1 > behind {
        query("UPDATE archive_marks SET ahead = max(ahead, ?), behind = max(behind, ?) WHERE slot = 0")
            .bind(widened(batch.skew.0))
            .bind(widened(batch.skew.1))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    *memory.lock() = known;
    Ok(())
}

async fn write(on: &mut SqliteConnection, batch: &Batch<'_>, known: &Memory, mark: i64) -> Outcome<()> {
    let Memory { names, epochs, .. } = known;
    let number = |place: Place<'_>| Some((names.account(place.account.as_str())?, place.id));
    let bind_place = |statement: Statement, (account, id): &(i64, i64)| statement.bind(*account).bind(*id);
    let is_fresh = |put: &&Put<'_>| put.id > mark;

    let puts: Vec<Row<'_>> = batch.puts.iter().filter_map(|put| Row::new(put, known)).collect();
    run(on, &PUT, &puts, Row::bind).await?;
    let waiting: Vec<&Row<'_>> = puts.iter().filter(|row| row.put.waits).collect();
    run(on, &WAIT, &waiting, |statement, row| row.bind_waiting(statement)).await?;

    let delivered: Vec<(i64, i64)> = batch.delivered.iter().copied().filter_map(number).collect();
    run(on, &DROP_ALONE, &delivered, bind_place).await?;
    let settled = batch.puts.iter().filter(|put| !put.waits && !is_fresh(put));
    let settled: Vec<(i64, i64)> = settled.map(Put::place).filter_map(number).collect();
    let gone = batch.gone.iter().filter(|put| !is_fresh(put)).map(Put::place);
    let vanishing: Vec<(i64, i64)> = gone.chain(batch.refused.iter().copied()).filter_map(number).collect();
    let leaving: Vec<(i64, i64)> = [&delivered[..], &settled, &vanishing].concat();
    run(on, &LEAVE, &leaving, bind_place).await?;
    run(on, &VANISH, &vanishing, bind_place).await?;

    let all = batch.puts.iter().chain(&batch.gone);
    let seen = all.clone().filter_map(|put| Some((number(put.place())?, put.record.digest?.cast_signed())));
    let seen: Vec<((i64, i64), i64)> = seen.collect();
    run(on, &KNOW, &seen, |statement, (place, digest)| {
        bind_place(statement.bind(epochs.of(place.1)), place).bind(*digest)
    })
    .await?;
    let unseen = all.filter(|put| put.record.digest.is_none() && !is_fresh(put)).map(Put::place);
    let unseen: Vec<(i64, i64)> = unseen.chain(batch.refused.iter().copied()).filter_map(number).collect();
    run(on, &UNKNOW, &unseen, |statement, place| bind_place(statement.bind(epochs.of(place.1)), place)).await?;

    let changed = puts.iter().filter(|row| row.put.id <= mark).map(|row| row.put.id);
    let changed: Vec<i64> = changed.chain(vanishing.iter().map(|(_, id)| *id)).collect();
    run(on, &UNFIND, &changed, |statement, id| statement.bind(*id)).await?;
    run(on, &FORGET_TEXT, &changed, |statement, id| statement.bind(*id)).await?;
    let texts = puts.iter().filter_map(|row| Some((row.put.id, row.account, row.put.body()?)));
    let texts: Vec<(i64, i64, &str)> = texts.collect();
    run(on, &INDEX_LATER, &texts, |statement, (id, account, body)| statement.bind(*id).bind(*account).bind(*body)).await
}

/// A message to put, with numbers for names.
struct Row<'a> {
    put: &'a Put<'a>,
    epoch: i64,
    account: i64,
    conversation: Option<i64>,
}

impl<'a> Row<'a> {
    /// An account that is not there any more has no number: its messages are passed over.
    fn new(put: &'a Put<'a>, known: &Memory) -> Option<Self> {
        let jid = put.account().as_str();
        let conversation = put.archived().and_then(|archived| known.names.conversation(jid, archived.with.as_str()));
        Some(Self { put, epoch: known.epochs.of(put.id), account: known.names.account(jid)?, conversation })
    }

    fn bind(statement: Statement, row: &Self) -> Statement {
        let Put { record, id, .. } = row.put;
        let archived = row.put.archived();
        statement
            .bind(*id)
            .bind(row.epoch)
            .bind(row.account)
            .bind(row.conversation)
            .bind(archived.is_some_and(|archived| archived.sent))
            .bind(archived.is_some_and(|archived| archived.counts))
            .bind(codec::to_stamp(record.entry.stamp))
            .bind(archived.and_then(|archived| archived.resource.as_deref()))
            .bind(archived.and_then(|archived| archived.message_id.as_deref()))
            .bind(record.entry.stanza.as_ref())
    }

    fn bind_waiting(&self, statement: Statement) -> Statement {
        let entry = &self.put.record.entry;
        statement
            .bind(self.account)
            .bind(self.put.id)
            .bind(self.put.archived().is_none())
            .bind(i64::try_from(entry.stanza.len()).unwrap_or(i64::MAX))
            .bind(entry.resource.as_deref())
    }
}
