//! The hot path: a batch of tail changes as few, wide, prepared statements in one transaction.
//!
//! Rows go 64, 8 or 1 at a time, so that any batch is made of three texts a statement that are prepared once. Accounts and
//! conversations are looked up first, each once a batch, so that the wide statements hold numbers and join nothing.

use std::collections::HashMap;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Connection, Row, Sqlite, query};

use crate::batch::{Batch, Place, Put};
use crate::codec;
use crate::health::Outcome;
use crate::span::widened;

macro_rules! rows_8 {
    ($row:literal) => {
        concat!($row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row)
    };
}

/// One statement for 1, 8 and 64 rows.
macro_rules! wide {
    ($before:literal, $row:literal, $after:literal) => {
        [
            concat!($before, $row, $after),
            concat!($before, rows_8!($row), $after),
            concat!(
                $before,
                rows_8!($row),
                ", ",
                rows_8!($row),
                ", ",
                rows_8!($row),
                ", ",
                rows_8!($row),
                ", ",
                rows_8!($row),
                ", ",
                rows_8!($row),
                ", ",
                rows_8!($row),
                ", ",
                rows_8!($row),
                $after
            ),
        ]
    };
}

type Wide = [&'static str; 3];

const ACCOUNTS: Wide = wide!(
    "WITH wanted (place, jid) AS (VALUES ",
    "(?, ?)",
    ") SELECT wanted.place, accounts.number FROM wanted CROSS JOIN accounts ON accounts.jid = wanted.jid"
);

const CONVERSATIONS: Wide = wide!(
    "WITH wanted (place, account, jid) AS (VALUES ",
    "(?, ?, ?)",
    ") SELECT wanted.place, conversations.number FROM wanted CROSS JOIN conversations \
     ON conversations.account = wanted.account AND conversations.jid = wanted.jid"
);

/// An id belongs to one account for ever. What a deleted account has left is in nobody's way; else the account becomes
/// NULL, which it may not, and the batch fails.
const PUT: Wide = wide!(
    "INSERT INTO messages (id, account, conversation, sent, counts, stamp, digest, resource, message_id, stanza) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (id) DO UPDATE SET account = CASE WHEN account = excluded.account \
     OR NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.number = messages.account) THEN excluded.account END, \
     conversation = excluded.conversation, sent = excluded.sent, counts = excluded.counts, stamp = excluded.stamp, \
     digest = excluded.digest, resource = excluded.resource, message_id = excluded.message_id, stanza = excluded.stanza"
);

const WAIT: Wide = wide!(
    "INSERT INTO tail (account, id, alone, size, resource) VALUES ",
    "(?, ?, ?, ?, ?)",
    " ON CONFLICT (account, id) DO UPDATE SET alone = excluded.alone, size = excluded.size, resource = excluded.resource"
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
    "INSERT INTO seen (account, id, digest) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT (id) DO UPDATE SET account = excluded.account, digest = excluded.digest"
);

const UNKNOW: Wide = wide!(
    "WITH old (account, id) AS (VALUES ",
    "(?, ?)",
    ") DELETE FROM seen WHERE id IN (SELECT seen.id FROM old CROSS JOIN seen ON seen.id = old.id AND seen.account = old.account)"
);

const INDEX_LATER: Wide = wide!(
    "INSERT INTO unindexed (id, account, body) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT (id) DO UPDATE SET account = excluded.account, body = excluded.body"
);

/// Commits a batch. `marked` is the id up to which the mark is known to stand.
pub(super) async fn commit(on: &mut SqliteConnection, batch: &Batch<'_>, marked: i64) -> Outcome<()> {
    let mut tx = on.begin_with("BEGIN IMMEDIATE").await?;
    let names = Names::resolve(&mut tx, batch).await?;
    let puts: Vec<(&Put<'_>, i64)> =
        batch.puts.iter().filter_map(|put| Some((put, names.account(put.account().as_str())?))).collect();
    run(&mut tx, &PUT, &puts, |statement, (put, account)| bind_put(statement, put, *account, &names)).await?;
    let waiting: Vec<&(&Put<'_>, i64)> = puts.iter().filter(|(put, _)| put.waits).collect();
    run(&mut tx, &WAIT, &waiting, |statement, (put, account)| {
        statement
            .bind(*account)
            .bind(put.id)
            .bind(put.archived().is_none())
            .bind(i64::try_from(put.record.entry.stanza.len()).unwrap_or(i64::MAX))
            .bind(put.record.entry.resource.as_deref())
    })
    .await?;
    let place = |place: Place<'_>| Some((names.account(place.account.as_str())?, place.id));
    let bind_place = |statement: Statement, (account, id): &(i64, i64)| statement.bind(*account).bind(*id);
    let delivered: Vec<(i64, i64)> = batch.delivered.iter().copied().filter_map(place).collect();
    run(&mut tx, &DROP_ALONE, &delivered, bind_place).await?;
    let leaving: Vec<(i64, i64)> = batch.leave_the_tail().filter_map(place).collect();
    run(&mut tx, &LEAVE, &leaving, bind_place).await?;
    let vanishing: Vec<(i64, i64)> = batch.vanish().filter_map(place).collect();
    run(&mut tx, &VANISH, &vanishing, bind_place).await?;
    let known: Vec<(i64, i64, i64)> =
        batch.known_apart().filter_map(|(at, digest)| place(at).map(|(account, id)| (account, id, digest))).collect();
    run(&mut tx, &KNOW, &known, |statement, (account, id, digest)| statement.bind(*account).bind(*id).bind(*digest))
        .await?;
    let unknown: Vec<(i64, i64)> = batch.unknown_apart().filter_map(place).collect();
    run(&mut tx, &UNKNOW, &unknown, bind_place).await?;
    let mut texts: Vec<(i64, i64, &str)> =
        puts.iter().map(|(put, account)| (*account, put.id, put.body().unwrap_or_default())).collect();
    texts.extend(vanishing.iter().map(|(account, id)| (*account, *id, "")));
    run(&mut tx, &INDEX_LATER, &texts, |statement, (account, id, body)| statement.bind(*id).bind(*account).bind(*body))
        .await?;
    if batch.highest > marked {
        query("UPDATE tail_marks SET id = ? WHERE slot = 0 AND id < ?")
            .bind(batch.highest)
            .bind(batch.highest)
            .execute(&mut *tx)
            .await?;
    }
    let (ahead, behind) = batch.skew;
    if ahead > 0 || behind > 0 {
        query(
            "UPDATE archive_marks SET ahead = CASE WHEN ahead < $1 THEN $2 ELSE ahead END, \
             behind = CASE WHEN behind < $3 THEN $4 ELSE behind END WHERE slot = 0 AND (ahead < $1 OR behind < $3)",
        )
        .bind(ahead)
        .bind(widened(ahead))
        .bind(behind)
        .bind(widened(behind))
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The numbers of the accounts and conversations that a batch names. An account that is not there any more has none: its
/// messages are passed over.
struct Names<'a> {
    accounts: HashMap<&'a str, i64>,
    conversations: HashMap<(i64, &'a str), i64>,
}

impl<'a> Names<'a> {
    async fn resolve(on: &mut SqliteConnection, batch: &Batch<'a>) -> Outcome<Self> {
        let mut names = Self { accounts: HashMap::new(), conversations: HashMap::new() };
        let mut wanted: Vec<&'a str> = batch.accounts().map(|account| account.as_str()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted: Vec<(i64, &'a str)> = (0..).zip(wanted).collect();
        for (place, number) in
            read(on, &ACCOUNTS, &wanted, |statement, (place, jid)| statement.bind(*place).bind(*jid)).await?
        {
            if let Some((_, jid)) = usize::try_from(place).ok().and_then(|place| wanted.get(place)) {
                names.accounts.insert(jid, number);
            }
        }
        let mut peers: Vec<(i64, &'a str)> = batch
            .puts
            .iter()
            .filter_map(|put| {
                let archived = put.archived()?;
                Some((*names.accounts.get(put.account().as_str())?, archived.with.as_str()))
            })
            .collect();
        peers.sort_unstable();
        peers.dedup();
        let wanted: Vec<(i64, (i64, &'a str))> = (0..).zip(peers).collect();
        for (place, number) in read(on, &CONVERSATIONS, &wanted, |statement, (place, (account, jid))| {
            statement.bind(*place).bind(*account).bind(*jid)
        })
        .await?
        {
            if let Some((_, peer)) = usize::try_from(place).ok().and_then(|place| wanted.get(place)) {
                names.conversations.insert(*peer, number);
            }
        }
        for (_, peer) in wanted {
            if names.conversations.contains_key(&peer) {
                continue;
            }
            let made = query("INSERT INTO conversations (account, jid) VALUES (?, ?)")
                .bind(peer.0)
                .bind(peer.1)
                .execute(&mut *on)
                .await?;
            names.conversations.insert(peer, made.last_insert_rowid());
        }
        Ok(names)
    }

    fn account(&self, jid: &str) -> Option<i64> {
        self.accounts.get(jid).copied()
    }

    fn conversation(&self, account: i64, jid: &str) -> Option<i64> {
        self.conversations.get(&(account, jid)).copied()
    }
}

/// Runs a statement for all rows, 64, 8 or 1 at a time.
async fn run<T>(
    on: &mut SqliteConnection,
    texts: &Wide,
    mut rows: &[T],
    bind: impl Fn(Statement, &T) -> Statement,
) -> Outcome<()> {
    while let Some((text, part, rest)) = split(texts, rows) {
        part.iter().fold(query(text), &bind).execute(&mut *on).await?;
        rows = rest;
    }
    Ok(())
}

/// What a statement finds for all rows, 64, 8 or 1 at a time.
async fn read<T>(
    on: &mut SqliteConnection,
    texts: &Wide,
    mut rows: &[T],
    bind: impl Fn(Statement, &T) -> Statement,
) -> Outcome<Vec<(i64, i64)>> {
    let mut found = Vec::with_capacity(rows.len());
    while let Some((text, part, rest)) = split(texts, rows) {
        for row in part.iter().fold(query(text), &bind).fetch_all(&mut *on).await? {
            found.push((row.try_get(0)?, row.try_get(1)?));
        }
        rows = rest;
    }
    Ok(found)
}

/// The statement for the next rows, these, and those behind them.
fn split<'a, T>(texts: &Wide, rows: &'a [T]) -> Option<(&'static str, &'a [T], &'a [T])> {
    let [one, eight, many] = *texts;
    let part = |text, count| rows.split_at_checked(count).map(|(part, rest)| (text, part, rest));
    part(many, 64).or_else(|| part(eight, 8)).or_else(|| part(one, 1))
}

type Statement = Query<'static, Sqlite, SqliteArguments>;

fn bind_put(statement: Statement, put: &Put<'_>, account: i64, names: &Names<'_>) -> Statement {
    let archived = put.archived();
    statement
        .bind(put.id)
        .bind(account)
        .bind(archived.and_then(|archived| names.conversation(account, archived.with.as_str())))
        .bind(archived.is_some_and(|archived| archived.sent))
        .bind(archived.is_some_and(|archived| archived.counts))
        .bind(codec::to_stamp(put.record.entry.stamp))
        .bind(archived.and_then(|_| put.record.digest).map(u64::cast_signed))
        .bind(archived.and_then(|archived| archived.resource.as_deref()))
        .bind(archived.and_then(|archived| archived.message_id.as_deref()))
        .bind(put.record.entry.stanza.as_ref())
}
