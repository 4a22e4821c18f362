//! The numbers of accounts and conversations, remembered from one commit to the next.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use sqlx::sqlite::SqliteConnection;

use super::wide::{Wide, read, run, wide};
use crate::batch::Batch;
use crate::health::Outcome;

const ACCOUNTS: Wide = wide!(
    "WITH wanted (place, jid) AS (VALUES ",
    "(?, ?)",
    ") SELECT group_concat(wanted.place || ' ' || accounts.number, ' ') \
     FROM wanted CROSS JOIN accounts ON accounts.jid = wanted.jid"
);

const CONVERSATIONS: Wide = wide!(
    "WITH wanted (place, account, jid) AS (VALUES ",
    "(?, ?, ?)",
    ") SELECT group_concat(wanted.place || ' ' || conversations.number, ' ') FROM wanted \
     CROSS JOIN conversations ON conversations.account = wanted.account AND conversations.jid = wanted.jid"
);

const CONVERSE: Wide =
    wide!("INSERT INTO conversations (account, jid) SELECT * FROM (VALUES ", "(?, ?)", ") WHERE column1 IS NOT NULL");

/// How many names are remembered before those that have not been asked for lately are forgotten.
const MOST: usize = 1 << 15;

type Map<T> = HashMap<Box<str>, T, RandomState>;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Names {
    new: Map<Account>,
    /// What has not been asked for since it was new.
    old: Map<Account>,
    /// How many names are in `new`.
    count: usize,
}

#[derive(Debug)]
struct Account {
    number: i64,
    conversations: Map<i64>,
}

impl Names {
    /// Learns all names of a batch. Conversations that are not there are made; accounts that are not there have no
    /// number.
    pub(super) async fn learn(&mut self, on: &mut SqliteConnection, batch: &Batch<'_>) -> Outcome<()> {
        if self.count >= MOST {
            self.old = std::mem::take(&mut self.new);
            self.count = 0;
        }
        let mut unknown: Vec<&str> =
            batch.accounts().map(|account| account.as_str()).filter(|account| !self.recall(account)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let unknown: Vec<(usize, &str)> = unknown.into_iter().enumerate().collect();
        let found = read(on, &ACCOUNTS, &unknown, |statement, (place, jid)| {
            statement.bind(i64::try_from(*place).unwrap_or(i64::MAX)).bind(*jid)
        })
        .await?;
        for (place, number) in found {
            if let Some((_, jid)) = unknown.get(place) {
                self.new.insert((*jid).into(), Account { number, conversations: Map::default() });
                self.count += 1;
            }
        }
        let mut unknown: Vec<(&str, i64, &str)> = Vec::new();
        for put in &batch.puts {
            if let (Some(account), Some(archived)) = (self.new.get(put.account().as_str()), put.archived())
                && !account.conversations.contains_key(archived.with.as_str())
            {
                unknown.push((put.account().as_str(), account.number, archived.with.as_str()));
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        let unknown = self.find(on, unknown).await?;
        run(on, &CONVERSE, &unknown, |statement, (_, number, with)| statement.bind(*number).bind(*with)).await?;
        self.find(on, unknown).await?;
        Ok(())
    }

    /// Looks for conversations, given the account, its number and the peer; those that are not there are given back.
    async fn find<'a>(
        &mut self,
        on: &mut SqliteConnection,
        wanted: Vec<(&'a str, i64, &'a str)>,
    ) -> Outcome<Vec<(&'a str, i64, &'a str)>> {
        let places: Vec<(usize, &(&str, i64, &str))> = wanted.iter().enumerate().collect();
        let found = read(on, &CONVERSATIONS, &places, |statement, (place, (_, number, with))| {
            statement.bind(i64::try_from(*place).unwrap_or(i64::MAX)).bind(*number).bind(*with)
        })
        .await?;
        for (place, number) in found {
            if let Some((account, _, with)) = wanted.get(place) {
                self.insert(account, with, number);
            }
        }
        Ok(wanted.into_iter().filter(|(account, _, with)| self.conversation(account, with).is_none()).collect())
    }

    /// Whether an account is known; from now on it is among the new ones.
    fn recall(&mut self, account: &str) -> bool {
        if self.new.contains_key(account) {
            return true;
        }
        let Some((jid, known)) = self.old.remove_entry(account) else {
            return false;
        };
        self.count += 1 + known.conversations.len();
        self.new.insert(jid, known);
        true
    }

    fn insert(&mut self, account: &str, with: &str, number: i64) {
        if let Some(account) = self.new.get_mut(account) {
            account.conversations.insert(with.into(), number);
            self.count += 1;
        }
    }

    /// The number of an account.
    pub(super) fn account(&self, jid: &str) -> Option<i64> {
        self.new.get(jid).map(|account| account.number)
    }

    /// The number of a conversation of an account.
    pub(super) fn conversation(&self, account: &str, with: &str) -> Option<i64> {
        self.new.get(account)?.conversations.get(with).copied()
    }
}
