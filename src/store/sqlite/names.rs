//! The numbers of accounts and conversations, remembered from one commit to the next.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use sqlx::sqlite::SqliteConnection;

use super::wide::{Wide, read, run, wide};
use crate::batch::{Batch, Put};
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

/// A batch with numbers for names. What is of an account that is not there any more is not in it.
#[derive(Default)]
pub(super) struct Numbered<'a> {
    pub(super) puts: Vec<Row<'a>>,
    pub(super) gone: Vec<Row<'a>>,
    /// Accounts and ids.
    pub(super) delivered: Vec<(i64, i64)>,
    pub(super) refused: Vec<(i64, i64)>,
}

/// A message to put, with numbers for names.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) put: &'a Put<'a>,
    pub(super) account: i64,
    pub(super) conversation: Option<i64>,
}

/// What is not remembered.
#[derive(Default)]
struct Unknown<'a> {
    accounts: Vec<&'a str>,
    conversations: Vec<Peer<'a>>,
}

/// A conversation by names: the account, its number, the peer.
type Peer<'a> = (&'a str, i64, &'a str);

impl Names {
    /// Finds the numbers of all names of a batch. Conversations that are not there are made.
    pub(super) async fn learn<'a>(&mut self, on: &mut SqliteConnection, batch: &'a Batch<'_>) -> Outcome<Numbered<'a>> {
        if self.count >= MOST {
            self.old = std::mem::take(&mut self.new);
            self.count = 0;
        }
        let (mut numbered, mut unknown) = self.number(batch);
        if !unknown.accounts.is_empty() {
            self.read_accounts(on, unknown.accounts).await?;
            (numbered, unknown) = self.number(batch);
        }
        if !unknown.conversations.is_empty() {
            let missing = self.read_conversations(on, unknown.conversations).await?;
            run(on, &CONVERSE, &missing, |values, (_, number, with)| {
                values.number(*number).text(*with);
            })
            .await?;
            self.read_conversations(on, missing).await?;
            (numbered, _) = self.number(batch);
        }
        Ok(numbered)
    }

    /// What is remembered of the names of a batch.
    fn number<'a>(&mut self, batch: &'a Batch<'_>) -> (Numbered<'a>, Unknown<'a>) {
        let (mut numbered, mut unknown) = (Numbered::default(), Unknown::default());
        numbered.puts.reserve(batch.puts.len());
        for put in &batch.puts {
            let jid = put.account().as_str();
            let Some(account) = self.recall(jid) else {
                unknown.accounts.push(jid);
                continue;
            };
            let number = account.number;
            let conversation = put.archived().and_then(|archived| {
                let with = archived.with.as_str();
                let conversation = account.conversations.get(with).copied();
                if conversation.is_none() {
                    unknown.conversations.push((jid, number, with));
                }
                conversation
            });
            numbered.puts.push(Row { put, account: number, conversation });
        }
        for put in &batch.gone {
            match self.recall(put.account().as_str()) {
                Some(account) => numbered.gone.push(Row { put, account: account.number, conversation: None }),
                None => unknown.accounts.push(put.account().as_str()),
            }
        }
        for (places, found) in [(&batch.delivered, &mut numbered.delivered), (&batch.refused, &mut numbered.refused)] {
            for place in places {
                match self.recall(place.account.as_str()) {
                    Some(account) => found.push((account.number, place.id)),
                    None => unknown.accounts.push(place.account.as_str()),
                }
            }
        }
        (numbered, unknown)
    }

    async fn read_accounts(&mut self, on: &mut SqliteConnection, mut wanted: Vec<&str>) -> Outcome<()> {
        wanted.sort_unstable();
        wanted.dedup();
        let places: Vec<(i64, &str)> = (0..).zip(wanted.iter().copied()).collect();
        let found = read(on, &ACCOUNTS, &places, |values, (place, jid)| {
            values.number(*place).text(*jid);
        })
        .await?;
        for (place, number) in found {
            if let Some(jid) = wanted.get(place) {
                self.new.insert((*jid).into(), Account { number, conversations: Map::default() });
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Looks for conversations; those that are not there are given back, each once.
    async fn read_conversations<'a>(
        &mut self,
        on: &mut SqliteConnection,
        mut wanted: Vec<Peer<'a>>,
    ) -> Outcome<Vec<Peer<'a>>> {
        wanted.sort_unstable();
        wanted.dedup();
        let places: Vec<(i64, &Peer<'_>)> = (0..).zip(&wanted).collect();
        let found = read(on, &CONVERSATIONS, &places, |values, (place, (_, number, with))| {
            values.number(*place).number(*number).text(*with);
        })
        .await?;
        let mut missing = vec![true; wanted.len()];
        for (place, number) in found {
            let (Some((account, _, with)), Some(missing)) = (wanted.get(place), missing.get_mut(place)) else {
                continue;
            };
            *missing = false;
            if let Some(account) = self.new.get_mut(*account) {
                account.conversations.insert((*with).into(), number);
                self.count += 1;
            }
        }
        let missing = wanted.into_iter().zip(missing).filter(|(_, missing)| *missing);
        Ok(missing.map(|(peer, _)| peer).collect())
    }

    /// An account, if it is known; from now on it is among the new ones.
    fn recall(&mut self, jid: &str) -> Option<&Account> {
        if !self.old.is_empty()
            && !self.new.contains_key(jid)
            && let Some((jid, account)) = self.old.remove_entry(jid)
        {
            self.count += 1 + account.conversations.len();
            self.new.insert(jid, account);
        }
        self.new.get(jid)
    }
}
