//! A batch of tail changes, reduced to what it comes to: for each message of an account one thing to do.
//!
//! A message that comes and goes within the batch is only removed. The removal is kept although the row was most likely
//! never written: an earlier commit of the same message may have been cut off after it reached the disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use rookery_core::store::{Archived, Record, StoreError, TailChange};
use rookery_xmpp::jid::BareJid;

use crate::codec::{to_column, to_stamp};
use crate::span::skew;

/// A message to put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put<'a> {
    pub(crate) record: &'a Record,
    pub(crate) id: i64,
    /// Whether it waits after this batch.
    pub(crate) waits: bool,
}

impl<'a> Put<'a> {
    pub(crate) fn account(&self) -> &'a BareJid {
        &self.record.entry.account
    }

    pub(crate) fn archived(&self) -> Option<&'a Archived> {
        self.record.archived.as_ref()
    }

    /// Its text, which it can be found by.
    pub(crate) fn body(&self) -> Option<&'a str> {
        self.archived().and_then(|archived| archived.body.as_deref())
    }

    pub(crate) fn place(&self) -> Place<'a> {
        Place { account: self.account(), id: self.id }
    }
}

/// A message that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) account: &'a BareJid,
    pub(crate) id: i64,
}

impl Hash for Place<'_> {
    /// By the id alone: hardly ever do two accounts have the same.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// What a batch comes to. No message is named by two of the first four.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    /// Messages that wait, or are archived, or both.
    pub(crate) puts: Vec<Put<'a>>,
    /// Messages that are neither any more, though they may be known.
    pub(crate) gone: Vec<Put<'a>>,
    pub(crate) delivered: Vec<Place<'a>>,
    pub(crate) refused: Vec<Place<'a>>,
    /// The highest id that the batch names.
    pub(crate) highest: i64,
    /// How far the times of the ids of archived messages are ahead of their stamps and behind them, in microseconds.
    pub(crate) skew: (i64, i64),
}

impl<'a> Batch<'a> {
    pub(crate) fn new(changes: &'a [TailChange]) -> Result<Self, StoreError> {
        let mut batch = Self::default();
        let mut order: Vec<(Place<'a>, Fate<'a>)> = Vec::with_capacity(changes.len());
        let mut known: HashMap<Place<'a>, usize, RandomState> =
            HashMap::with_capacity_and_hasher(changes.len(), RandomState::default());
        for change in changes {
            let (account, id) = match change {
                TailChange::Append(record) => (&record.entry.account, record.entry.id),
                TailChange::Deliver { account, id } | TailChange::Refuse { account, id } => (account, *id),
            };
            let id = to_column(id)?;
            batch.highest = batch.highest.max(id);
            let next = match change {
                TailChange::Append(record) => Fate::Put { record, waits: record.waits },
                TailChange::Deliver { .. } => Fate::Delivered,
                TailChange::Refuse { .. } => Fate::Refused,
            };
            match known.entry(Place { account, id }) {
                Entry::Vacant(place) => {
                    place.insert(order.len());
                    order.push((Place { account, id }, next));
                }
                Entry::Occupied(place) => {
                    if let Some((_, fate)) = order.get_mut(*place.get()) {
                        *fate = fate.then(next);
                    }
                }
            }
        }
        for (place, fate) in order {
            match fate {
                Fate::Put { record, waits } => {
                    let put = Put { record, id: place.id, waits };
                    if record.archived.is_some() {
                        let (ahead, behind) = skew(put.id, to_stamp(record.entry.stamp));
                        batch.skew = (batch.skew.0.max(ahead), batch.skew.1.max(behind));
                    }
                    let list = if waits || record.archived.is_some() { &mut batch.puts } else { &mut batch.gone };
                    list.push(put);
                }
                Fate::Delivered => batch.delivered.push(place),
                Fate::Refused => batch.refused.push(place),
            }
        }
        Ok(batch)
    }
}

/// What is to be done with a message.
#[derive(Clone, Copy)]
enum Fate<'a> {
    Put { record: &'a Record, waits: bool },
    Delivered,
    Refused,
}

impl Fate<'_> {
    /// What this and then `next` come to.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Put { record, .. }, Self::Delivered) => Self::Put { record, waits: false },
            (Self::Refused, Self::Delivered) => Self::Refused,
            (_, next) => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{append, entry};

    fn bob(id: u64) -> TailChange {
        TailChange::Deliver { account: BareJid::new("b@x.example").unwrap(), id }
    }

    fn deliver(id: u64) -> TailChange {
        TailChange::Deliver { account: BareJid::new("a@x.example").unwrap(), id }
    }

    fn refuse(id: u64) -> TailChange {
        TailChange::Refuse { account: BareJid::new("a@x.example").unwrap(), id }
    }

    fn archive(id: u64) -> TailChange {
        let archived = Archived {
            with: BareJid::new("b@x.example").unwrap(),
            resource: None,
            sent: false,
            counts: true,
            message_id: None,
            body: None,
        };
        let entry = entry("a@x.example", id);
        TailChange::Append(Record { entry, waits: true, archived: Some(archived), digest: None })
    }

    /// What is put (negative: and does not wait), what is gone, what is delivered, what is refused.
    fn told(changes: &[TailChange]) -> [Vec<i64>; 4] {
        let batch = Batch::new(changes).unwrap();
        [
            batch.puts.iter().map(|put| if put.waits { put.id } else { -put.id }).collect(),
            batch.gone.iter().map(|put| put.id).collect(),
            batch.delivered.iter().map(|place| place.id).collect(),
            batch.refused.iter().map(|place| place.id).collect(),
        ]
    }

    #[test]
    fn the_last_word_on_a_message_counts() {
        let put = |id| append("a@x.example", id);
        assert!(told(&[]).iter().all(Vec::is_empty));
        assert_eq!(told(&[put(1), put(2)]), [vec![1, 2], vec![], vec![], vec![]]);
        assert_eq!(told(&[put(1), put(2), deliver(2)]), [vec![1], vec![2], vec![], vec![]]);
        assert_eq!(told(&[put(1), archive(2), deliver(2)]), [vec![1, -2], vec![], vec![], vec![]]);
        assert_eq!(told(&[archive(2), refuse(2)]), [vec![], vec![], vec![], vec![2]]);
        assert_eq!(told(&[refuse(2), deliver(2)]), [vec![], vec![], vec![], vec![2]]);
        assert_eq!(told(&[deliver(2), refuse(2)]), [vec![], vec![], vec![], vec![2]]);
        assert_eq!(told(&[deliver(1), put(1)]), [vec![1], vec![], vec![], vec![]]);
        assert_eq!(told(&[put(3), put(3), put(1)]), [vec![3, 1], vec![], vec![], vec![]]);
        assert_eq!(told(&[deliver(9), put(1)]), [vec![1], vec![], vec![9], vec![]]);
        assert_eq!(Batch::new(&[put(1), deliver(9)]).unwrap().highest, 9);
    }

    #[test]
    fn the_same_id_in_two_tails_is_two_messages() {
        assert_eq!(told(&[append("a@x.example", 1), bob(1)]), [vec![1], vec![], vec![1], vec![]]);
    }

    #[test]
    fn an_id_beyond_the_columns_is_refused() {
        assert!(Batch::new(&[append("a@x.example", u64::MAX)]).is_err());
    }
}
