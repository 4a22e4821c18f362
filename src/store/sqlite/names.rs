//! The numbers of accounts, rooms and conversations, remembered from one commit to the next.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use sqlx::sqlite::SqliteConnection;

use super::wide::{Wide, read, run, wide};
use crate::batch::{Batch, PartKey, Put};
use crate::health::Outcome;

const ACCOUNTS: Wide = wide!(
    "WITH wanted (place, jid) AS (VALUES ",
    "(?, ?)",
    ") SELECT group_concat(wanted.place || ' ' || accounts.number, ' ') \
     FROM wanted CROSS JOIN accounts ON accounts.jid = wanted.jid"
);

const ROOMS: Wide = wide!(
    "WITH wanted (place, jid) AS (VALUES ",
    "(?, ?)",
    ") SELECT group_concat(wanted.place || ' ' || rooms.number, ' ') \
     FROM wanted CROSS JOIN rooms ON rooms.jid = wanted.jid"
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
    new: Map<Owner>,
    /// What has not been asked for since it was new.
    old: Map<Owner>,
    /// How many names are in `new`.
    count: usize,
}

/// An account or a room, whose number is negative.
#[derive(Debug)]
struct Owner {
    number: i64,
    conversations: Map<i64>,
}

impl Owner {
    fn is_room(&self) -> bool {
        self.number < 0
    }
}

/// A batch with numbers for names. What is of an account or a room that is not there any more is not in it.
#[derive(Default)]
pub(super) struct Numbered<'a> {
    pub(super) puts: Vec<Row<'a>>,
    pub(super) gone: Vec<Row<'a>>,
    /// Accounts and ids.
    pub(super) delivered: Vec<(i64, i64)>,
    pub(super) refused: Vec<(i64, i64)>,
    pub(super) forgotten: Vec<(i64, i64)>,
    pub(super) parts: Vec<Part<'a>>,
    /// The rooms that get history beside the archive, each once.
    pub(super) growing: Vec<i64>,
}

/// What a room is made of, with its number for its name.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) room: i64,
    pub(super) key: PartKey<'a>,
    pub(super) value: Option<&'a [u8]>,
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
    owners: Vec<&'a str>,
    conversations: Vec<Peer<'a>>,
}

/// A conversation by names: whose, its owner's number, the peer.
type Peer<'a> = (&'a str, i64, &'a str);

impl Names {
    /// Finds the numbers of all names of a batch. Conversations that are not there are made.
    pub(super) async fn learn<'a>(&mut self, on: &mut SqliteConnection, batch: &'a Batch<'_>) -> Outcome<Numbered<'a>> {
        if self.count >= MOST {
            self.old = std::mem::take(&mut self.new);
            self.count = 0;
        }
        let (mut numbered, mut unknown) = self.number(batch);
        if !unknown.owners.is_empty() {
            self.read_owners(on, unknown.owners).await?;
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
            let jid = put.owner.as_str();
            let Some(owner) = self.recall(jid) else {
                unknown.owners.push(jid);
                continue;
            };
            if owner.is_room() != put.of_room {
                continue;
            }
            let number = owner.number;
            let conversation = put.filed.and_then(|filed| {
                let with = filed.with.as_str();
                let conversation = owner.conversations.get(with).copied();
                if conversation.is_none() {
                    unknown.conversations.push((jid, number, with));
                }
                conversation
            });
            numbered.puts.push(Row { put, account: number, conversation });
        }
        for put in &batch.gone {
            match self.recall(put.owner.as_str()) {
                Some(owner) if owner.is_room() == put.of_room => {
                    numbered.gone.push(Row { put, account: owner.number, conversation: None });
                }
                Some(_) => {}
                None => unknown.owners.push(put.owner.as_str()),
            }
        }
        for (key, value) in &batch.parts {
            match self.recall(key.room.as_str()) {
                Some(owner) if owner.is_room() => {
                    numbered.parts.push(Part { room: owner.number, key: *key, value: *value });
                }
                Some(_) => {}
                None => unknown.owners.push(key.room.as_str()),
            }
        }
        // Among the puts, so that their names are asked for already.
        let growing = batch.growing().into_iter();
        let growing = growing.filter_map(|room| self.recall(room.as_str()).map(|owner| owner.number));
        numbered.growing = growing.filter(|number| *number < 0).collect();
        for (places, found) in [
            (&batch.delivered, &mut numbered.delivered),
            (&batch.refused, &mut numbered.refused),
            (&batch.forgotten, &mut numbered.forgotten),
        ] {
            for place in places {
                match self.recall(place.account.as_str()) {
                    Some(owner) => found.push((owner.number, place.id)),
                    None => unknown.owners.push(place.account.as_str()),
                }
            }
        }
        (numbered, unknown)
    }

    async fn read_owners(&mut self, on: &mut SqliteConnection, mut wanted: Vec<&str>) -> Outcome<()> {
        wanted.sort_unstable();
        wanted.dedup();
        for statement in [&ACCOUNTS, &ROOMS] {
            let places: Vec<(i64, &str)> = (0..).zip(wanted.iter().copied()).collect();
            let found = read(on, statement, &places, |values, (place, jid)| {
                values.number(*place).text(*jid);
            })
            .await?;
            for (place, number) in found {
                if let Some(jid) = wanted.get(place) {
                    self.new.insert((*jid).into(), Owner { number, conversations: Map::default() });
                    self.count += 1;
                }
            }
            wanted.retain(|jid| !self.new.contains_key(*jid));
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
            let (Some((owner, _, with)), Some(missing)) = (wanted.get(place), missing.get_mut(place)) else {
                continue;
            };
            *missing = false;
            if let Some(owner) = self.new.get_mut(*owner) {
                owner.conversations.insert((*with).into(), number);
                self.count += 1;
            }
        }
        let missing = wanted.into_iter().zip(missing).filter(|(_, missing)| *missing);
        Ok(missing.map(|(peer, _)| peer).collect())
    }

    /// An account or a room, if it is known; from now on it is among the new ones.
    fn recall(&mut self, jid: &str) -> Option<&Owner> {
        if !self.old.is_empty()
            && !self.new.contains_key(jid)
            && let Some((jid, owner)) = self.old.remove_entry(jid)
        {
            self.count += 1 + owner.conversations.len();
            self.new.insert(jid, owner);
        }
        self.new.get(jid)
    }
}
