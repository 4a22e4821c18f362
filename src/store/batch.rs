//! A batch of tail changes, reduced to what it comes to: for each entry one row to put or one to remove.
//!
//! An entry that comes and goes within the batch is only removed. The removal is kept although the row was most likely
//! never written: an earlier commit of the same entry may have been cut off after it reached the disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rookery_core::store::{StoreError, TailChange, TailEntry};
use rookery_xmpp::jid::BareJid;

use crate::codec::to_column;

/// A row to put.
pub(crate) struct Put<'a> {
    pub(crate) entry: &'a TailEntry,
    pub(crate) id: i64,
}

/// A row to remove.
pub(crate) struct Removal<'a> {
    pub(crate) account: &'a BareJid,
    pub(crate) id: i64,
}

/// What a batch comes to. No row is named twice.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    pub(crate) puts: Vec<Put<'a>>,
    pub(crate) removals: Vec<Removal<'a>>,
    /// The highest id that the batch names.
    pub(crate) highest: i64,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(changes: &'a [TailChange]) -> Result<Self, StoreError> {
        let mut highest = 0;
        let mut last: HashMap<(i64, &str), usize> = HashMap::with_capacity(changes.len());
        let mut superseded = vec![false; changes.len()];
        for (index, change) in changes.iter().enumerate() {
            let (account, id) = match change {
                TailChange::Append(entry) => (&entry.account, entry.id),
                TailChange::Remove { account, id } => (account, *id),
            };
            let id = to_column(id)?;
            highest = highest.max(id);
            match last.entry((id, account.as_str())) {
                Entry::Vacant(place) => {
                    place.insert(index);
                }
                Entry::Occupied(mut place) => {
                    if let Some(mark) = superseded.get_mut(place.insert(index)) {
                        *mark = true;
                    }
                }
            }
        }
        let mut batch = Self { highest, ..Self::default() };
        for (change, superseded) in changes.iter().zip(superseded) {
            match change {
                _ if superseded => {}
                TailChange::Append(entry) => batch.puts.push(Put { entry, id: to_column(entry.id)? }),
                TailChange::Remove { account, id } => batch.removals.push(Removal { account, id: to_column(*id)? }),
            }
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::entry;

    fn told(changes: &[TailChange]) -> (Vec<i64>, Vec<i64>, i64) {
        let batch = Batch::new(changes).unwrap();
        (
            batch.puts.iter().map(|put| put.id).collect(),
            batch.removals.iter().map(|removal| removal.id).collect(),
            batch.highest,
        )
    }

    #[test]
    fn the_last_word_on_an_entry_counts() {
        let put = |id| TailChange::Append(entry("a@x.example", id));
        let remove = |id| TailChange::Remove { account: BareJid::new("a@x.example").unwrap(), id };
        assert_eq!(told(&[]), (vec![], vec![], 0));
        assert_eq!(told(&[put(1), put(2)]), (vec![1, 2], vec![], 2));
        assert_eq!(told(&[put(1), put(2), remove(2)]), (vec![1], vec![2], 2));
        assert_eq!(told(&[remove(1), put(1)]), (vec![1], vec![], 1));
        assert_eq!(told(&[put(3), put(3), put(1)]), (vec![3, 1], vec![], 3));
        assert_eq!(told(&[remove(9), put(1)]), (vec![1], vec![9], 9));
    }

    #[test]
    fn the_same_id_in_two_tails_is_two_entries() {
        let changes = [
            TailChange::Append(entry("a@x.example", 1)),
            TailChange::Remove { account: BareJid::new("b@x.example").unwrap(), id: 1 },
        ];
        assert_eq!(told(&changes), (vec![1], vec![1], 1));
    }

    #[test]
    fn an_id_beyond_the_columns_is_refused() {
        let changes = [TailChange::Append(entry("a@x.example", u64::MAX))];
        assert!(Batch::new(&changes).is_err());
    }
}
