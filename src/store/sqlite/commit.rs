//! The hot path: a batch of tail changes as few, wide, prepared statements in one transaction.
//!
//! Rows go 64, 8 or 1 at a time, so that any batch is made of three texts that are prepared once.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Connection, Sqlite, query};

use crate::batch::{Batch, Put, Removal};
use crate::codec;
use crate::health::Outcome;

macro_rules! times_8 {
    ($text:literal) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text)
    };
}

macro_rules! times_7 {
    ($text:literal) => {
        concat!($text, $text, $text, $text, $text, $text, $text)
    };
}

macro_rules! times_56 {
    ($text:literal) => {
        concat!(
            times_8!($text),
            times_8!($text),
            times_8!($text),
            times_8!($text),
            times_8!($text),
            times_8!($text),
            times_8!($text)
        )
    };
}

/// An account that is not there any more joins nothing: its entries are passed over.
macro_rules! put {
    ($($rows:expr),*) => {
        concat!(
            "WITH new (jid, id, resource, stamp, stanza) AS (VALUES (?, ?, ?, ?, ?)",
            $($rows,)*
            ") INSERT INTO tail (account, id, resource, stamp, stanza) ",
            "SELECT accounts.number, new.id, new.resource, new.stamp, new.stanza ",
            "FROM new CROSS JOIN accounts ON accounts.jid = new.jid WHERE true ",
            "ON CONFLICT (account, id) DO UPDATE SET ",
            "resource = excluded.resource, stamp = excluded.stamp, stanza = excluded.stanza"
        )
    };
}

macro_rules! remove {
    ($($rows:expr),*) => {
        concat!(
            "WITH old (jid, id) AS (VALUES (?, ?)",
            $($rows,)*
            ") DELETE FROM tail WHERE rowid IN (SELECT tail.rowid FROM old ",
            "CROSS JOIN accounts ON accounts.jid = old.jid ",
            "CROSS JOIN tail ON tail.account = accounts.number AND tail.id = old.id)"
        )
    };
}

const PUT_1: &str = put!();
const PUT_8: &str = put!(times_7!(", (?, ?, ?, ?, ?)"));
const PUT_64: &str = put!(times_7!(", (?, ?, ?, ?, ?)"), times_56!(", (?, ?, ?, ?, ?)"));

const REMOVE_1: &str = remove!();
const REMOVE_8: &str = remove!(times_7!(", (?, ?)"));
const REMOVE_64: &str = remove!(times_7!(", (?, ?)"), times_56!(", (?, ?)"));

/// Commits a batch. `marked` is the id up to which the mark is known to stand.
pub(super) async fn commit(on: &mut SqliteConnection, batch: &Batch<'_>, marked: i64) -> Outcome<()> {
    let mut tx = on.begin_with("BEGIN IMMEDIATE").await?;
    let mut puts = batch.puts.as_slice();
    while let Some((rows, rest)) = split(puts) {
        let text = match rows.len() {
            64 => PUT_64,
            8 => PUT_8,
            _ => PUT_1,
        };
        rows.iter().fold(query(text), bind_put).execute(&mut *tx).await?;
        puts = rest;
    }
    let mut removals = batch.removals.as_slice();
    while let Some((rows, rest)) = split(removals) {
        let text = match rows.len() {
            64 => REMOVE_64,
            8 => REMOVE_8,
            _ => REMOVE_1,
        };
        rows.iter().fold(query(text), bind_removal).execute(&mut *tx).await?;
        removals = rest;
    }
    if batch.highest > marked {
        query("UPDATE tail_marks SET id = ? WHERE slot = 0 AND id < ?")
            .bind(batch.highest)
            .bind(batch.highest)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The next 64, 8 or 1 rows, and those behind them.
fn split<T>(rows: &[T]) -> Option<(&[T], &[T])> {
    rows.split_at_checked(64).or_else(|| rows.split_at_checked(8)).or_else(|| rows.split_at_checked(1))
}

type Statement = Query<'static, Sqlite, SqliteArguments>;

fn bind_put(statement: Statement, put: &Put<'_>) -> Statement {
    statement
        .bind(put.entry.account.as_str())
        .bind(put.id)
        .bind(put.entry.resource.as_deref())
        .bind(codec::to_stamp(put.entry.stamp))
        .bind(put.entry.stanza.as_ref())
}

fn bind_removal(statement: Statement, removal: &Removal<'_>) -> Statement {
    statement.bind(removal.account.as_str()).bind(removal.id)
}
