//! A batch of changes, reduced to what it comes to: for each message of an account or a room one thing to do, and for each
//! part of a room.
//!
//! A message that comes and goes within the batch is only removed. The removal is kept although the row was most likely
//! never written: an earlier commit of the same message may have been cut off after it reached the disk.
//!
//! What waits for other servers is put and removed likewise.
//!
//! A room's message is a message like any other. What is history and not in the archive waits in the room's tail for those
//! who enter.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use rookery_core::store::{Archived, OutgoingEntry, Record, RoomRecord, RoomWrite, StoreError, TailChange};
use rookery_xmpp::jid::BareJid;

use crate::codec::{to_column, to_stamp};
use crate::span::skew;

/// A message to put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put<'a> {
    /// Whose: an account's, or a room's.
    pub(crate) owner: &'a BareJid,
    pub(crate) of_room: bool,
    pub(crate) id: i64,
    pub(crate) stamp: i64,
    pub(crate) stanza: &'a [u8],
    /// The resource that it waits for.
    pub(crate) resource: Option<&'a str>,
    pub(crate) filed: Option<Filed<'a>>,
    pub(crate) digest: Option<i64>,
    /// Whether it waits after this batch.
    pub(crate) waits: bool,
}

/// The place of a message in the archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filed<'a> {
    pub(crate) with: &'a BareJid,
    pub(crate) resource: Option<&'a str>,
    pub(crate) sent: bool,
    /// It counts as unread; in a room: it is history.
    pub(crate) counts: bool,
    pub(crate) message_id: Option<&'a str>,
}

impl<'a> Put<'a> {
    fn of_account(record: &'a Record, id: i64) -> Self {
        let entry = &record.entry;
        let filed = |archived: &'a Archived| Filed {
            with: &archived.with,
            resource: archived.resource.as_deref(),
            sent: archived.sent,
            counts: archived.counts,
            message_id: archived.message_id.as_deref(),
        };
        Self {
            owner: &entry.account,
            of_room: false,
            id,
            stamp: to_stamp(entry.stamp),
            stanza: &entry.stanza,
            resource: entry.resource.as_deref(),
            filed: record.archived.as_ref().map(filed),
            digest: record.digest.map(u64::cast_signed),
            waits: record.waits,
        }
    }

    fn of_room(room: &'a BareJid, record: &'a RoomRecord, id: i64) -> Self {
        let filed = Filed {
            with: room,
            resource: record.nick.as_deref(),
            sent: false,
            counts: record.history,
            message_id: record.message_id.as_deref(),
        };
        Self {
            owner: room,
            of_room: true,
            id,
            stamp: to_stamp(record.stamp),
            stanza: &record.stanza,
            resource: None,
            filed: record.archived.then_some(filed),
            digest: record.digest.map(u64::cast_signed),
            waits: record.history && !record.archived,
        }
    }

    pub(crate) fn place(&self) -> Place<'a> {
        Place { account: self.owner, id: self.id }
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

/// A room to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Creation<'a> {
    pub(crate) room: &'a BareJid,
    pub(crate) service: &'a BareJid,
    pub(crate) created: i64,
}

/// What a room is made of, but for messages: one thing by its name or address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartKey<'a> {
    pub(crate) room: &'a BareJid,
    /// As the column says it.
    pub(crate) kind: &'static str,
    pub(crate) key: &'a str,
}

/// What a batch comes to. No message is named by two of the first four. Rooms are destroyed first, made next, and then all
/// the rest is done.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    /// Messages that wait, or are archived, or both.
    pub(crate) puts: Vec<Put<'a>>,
    /// Messages that are neither any more, though they may be known.
    pub(crate) gone: Vec<Put<'a>>,
    pub(crate) delivered: Vec<Place<'a>>,
    pub(crate) refused: Vec<Place<'a>>,
    /// What is known no more; perhaps delivered as well. Not what is put, gone or refused, which says so itself.
    pub(crate) forgotten: Vec<Place<'a>>,
    pub(crate) destroyed: Vec<&'a BareJid>,
    pub(crate) created: Vec<Creation<'a>>,
    /// Each once.
    pub(crate) parts: Vec<(PartKey<'a>, Option<&'a [u8]>)>,
    /// What waits for other servers, and what does not any more. No id is in both.
    pub(crate) sends: Vec<(i64, &'a OutgoingEntry)>,
    pub(crate) sent: Vec<i64>,
    /// The highest id that the batch names.
    pub(crate) highest: i64,
    /// How far the times of the ids of archived messages are ahead of their stamps and behind them, in microseconds.
    pub(crate) skew: (i64, i64),
}

impl<'a> Batch<'a> {
    /// What changes come to, as batches to be committed one after the other in one transaction: nearly always one. A room
    /// that is made or destroyed after something else was done with it begins another.
    pub(crate) fn all(changes: &'a [TailChange]) -> Result<Vec<Self>, StoreError> {
        cut(changes).into_iter().map(Self::new).collect()
    }

    fn new(changes: &'a [TailChange]) -> Result<Self, StoreError> {
        let mut batch = Self::default();
        let mut order: Vec<(Place<'a>, Fate<'a>)> = Vec::with_capacity(changes.len());
        let mut known: HashMap<Place<'a>, usize, RandomState> =
            HashMap::with_capacity_and_hasher(changes.len(), RandomState::default());
        let mut forgotten: HashSet<Place<'a>, RandomState> = HashSet::default();
        let mut parts: HashMap<PartKey<'a>, usize, RandomState> = HashMap::default();
        for change in changes {
            let (place, next) = match change {
                TailChange::Append(record) => {
                    let put = Put::of_account(record, to_column(record.entry.id)?);
                    (put.place(), Fate::Put(put))
                }
                TailChange::Deliver { account, id } => (Place { account, id: to_column(*id)? }, Fate::Delivered),
                TailChange::Refuse { account, id } => (Place { account, id: to_column(*id)? }, Fate::Refused),
                TailChange::Room { room, change: RoomWrite::Message(record) } => {
                    let put = Put::of_room(room, record, to_column(record.id)?);
                    (put.place(), Fate::Put(put))
                }
                TailChange::Forget { account, id } => {
                    let place = Place { account, id: to_column(*id)? };
                    batch.highest = batch.highest.max(place.id);
                    if let Some((_, Fate::Put(put))) = known.get(&place).and_then(|at| order.get_mut(*at)) {
                        put.digest = None;
                    }
                    forgotten.insert(place);
                    continue;
                }
                TailChange::Send(entry) => {
                    let id = to_column(entry.id)?;
                    batch.highest = batch.highest.max(id);
                    batch.sends.push((id, entry));
                    continue;
                }
                TailChange::Sent { id } => {
                    let id = to_column(*id)?;
                    batch.highest = batch.highest.max(id);
                    batch.sent.push(id);
                    continue;
                }
                TailChange::Room { room, change } => {
                    batch.change_room(room, change, &mut parts);
                    continue;
                }
            };
            batch.highest = batch.highest.max(place.id);
            if matches!(next, Fate::Put(_)) {
                forgotten.remove(&place);
            }
            match known.entry(place) {
                Entry::Vacant(free) => {
                    free.insert(order.len());
                    order.push((place, next));
                }
                Entry::Occupied(taken) => {
                    if let Some((_, fate)) = order.get_mut(*taken.get()) {
                        *fate = fate.then(next);
                    }
                }
            }
        }
        if !batch.sends.is_empty() && !batch.sent.is_empty() {
            // Nothing that has gone comes back.
            let sent: HashSet<i64, RandomState> = batch.sent.iter().copied().collect();
            batch.sends.retain(|(id, _)| !sent.contains(id));
        }
        for (place, fate) in order {
            if matches!(fate, Fate::Put(_) | Fate::Refused) {
                forgotten.remove(&place);
            }
            match fate {
                Fate::Put(put) => {
                    if put.filed.is_some() {
                        let (ahead, behind) = skew(put.id, put.stamp);
                        batch.skew = (batch.skew.0.max(ahead), batch.skew.1.max(behind));
                    }
                    let list = if put.waits || put.filed.is_some() { &mut batch.puts } else { &mut batch.gone };
                    list.push(put);
                }
                Fate::Delivered => batch.delivered.push(place),
                Fate::Refused => batch.refused.push(place),
            }
        }
        batch.forgotten = forgotten.into_iter().collect();
        Ok(batch)
    }

    fn change_room(
        &mut self,
        room: &'a BareJid,
        change: &'a RoomWrite,
        parts: &mut HashMap<PartKey<'a>, usize, RandomState>,
    ) {
        let (kind, key, value) = match change {
            RoomWrite::Value { name, value } => ("value", *name, value),
            RoomWrite::Person { jid, value } => ("person", jid.as_str(), value),
            RoomWrite::Visit { jid, value } => ("visit", jid.as_str(), value),
            RoomWrite::Create { service, created } => {
                return self.created.push(Creation { room, service, created: to_stamp(*created) });
            }
            RoomWrite::Destroy => return self.destroyed.push(room),
            // Among the messages already.
            RoomWrite::Message(_) => return,
        };
        let (key, value) = (PartKey { room, kind, key }, value.as_deref());
        match parts.entry(key) {
            Entry::Vacant(free) => {
                free.insert(self.parts.len());
                self.parts.push((key, value));
            }
            Entry::Occupied(taken) => {
                if let Some(part) = self.parts.get_mut(*taken.get()) {
                    part.1 = value;
                }
            }
        }
    }

    /// The rooms that get history beside the archive, each once.
    pub(crate) fn growing(&self) -> Vec<&'a BareJid> {
        let rooms = self.puts.iter().filter(|put| put.of_room && put.waits).map(|put| put.owner);
        let mut rooms: Vec<&BareJid> = rooms.collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }

    /// Whether it needs nothing but what all batches of messages need.
    pub(crate) fn is_plain(&self) -> bool {
        self.destroyed.is_empty()
            && self.created.is_empty()
            && self.parts.is_empty()
            && self.sends.is_empty()
            && self.sent.is_empty()
            && !self.puts.iter().any(|put| put.of_room && put.waits)
    }
}

/// Cuts changes so that in each piece rooms can be destroyed first and made next.
fn cut(changes: &[TailChange]) -> Vec<&[TailChange]> {
    let (mut pieces, mut rest) = (Vec::new(), changes);
    let is_rare = |change: &TailChange| {
        matches!(change, TailChange::Room { change: RoomWrite::Create { .. } | RoomWrite::Destroy, .. })
    };
    if changes.iter().any(is_rare) {
        let (mut made, mut used): (HashSet<&BareJid>, HashSet<&BareJid>) = (HashSet::new(), HashSet::new());
        let mut taken = 0;
        for change in changes {
            if let TailChange::Room { room, change } = change {
                let too_late = match change {
                    RoomWrite::Create { .. } => used.contains(room),
                    RoomWrite::Destroy => used.contains(room) || made.contains(room),
                    _ => false,
                };
                if too_late {
                    let (piece, behind) = rest.split_at(taken.min(rest.len()));
                    pieces.push(piece);
                    (rest, taken) = (behind, 0);
                    made.clear();
                    used.clear();
                }
                match change {
                    RoomWrite::Create { .. } => made.insert(room),
                    RoomWrite::Destroy => false,
                    _ => used.insert(room),
                };
            }
            taken += 1;
        }
    }
    pieces.push(rest);
    pieces
}

/// What is to be done with a message.
#[derive(Clone, Copy)]
enum Fate<'a> {
    Put(Put<'a>),
    Delivered,
    Refused,
}

impl Fate<'_> {
    /// What this and then `next` come to.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Put(put), Self::Delivered) => Self::Put(Put { waits: false, ..put }),
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

    fn room(name: &str, change: RoomWrite) -> TailChange {
        TailChange::Room { room: BareJid::new(name).unwrap(), change }
    }

    /// How many changes each piece has.
    fn pieces(changes: &[TailChange]) -> Vec<usize> {
        cut(changes).into_iter().map(<[TailChange]>::len).collect()
    }

    #[test]
    fn rooms_are_destroyed_and_made_before_all_else() {
        let service = BareJid::new("r.example").unwrap();
        let create = |name| {
            room(name, RoomWrite::Create { service: service.clone(), created: std::time::SystemTime::UNIX_EPOCH })
        };
        let value = |name| room(name, RoomWrite::Value { name: "config", value: None });
        let destroy = |name| room(name, RoomWrite::Destroy);
        let (a, b) = ("a@r.example", "b@r.example");
        assert_eq!(pieces(&[]), [0]);
        assert_eq!(pieces(&[value(a), value(a), value(b)]), [3]);
        assert_eq!(pieces(&[create(a), value(a), create(b), value(b)]), [4]);
        assert_eq!(pieces(&[destroy(a), create(a), value(a), destroy(b)]), [4]);
        assert_eq!(pieces(&[value(a), create(a), value(a)]), [1, 2]);
        assert_eq!(pieces(&[create(a), destroy(a)]), [1, 1]);
        assert_eq!(pieces(&[value(b), destroy(b), create(b), value(b), destroy(b), value(b)]), [1, 3, 2]);
        assert_eq!(pieces(&[create(a), create(a), value(b), create(a)]), [4]);
    }

    #[test]
    fn the_last_word_on_a_part_of_a_room_counts() {
        let value = |name, value: &'static str| {
            room("a@r.example", RoomWrite::Value { name, value: Some(value.as_bytes().into()) })
        };
        let person = RoomWrite::Person { jid: BareJid::new("config").unwrap(), value: None };
        let changes = [value("config", "1"), value("subject", "2"), room("a@r.example", person), value("config", "3")];
        let batches = Batch::all(&changes).unwrap();
        let parts = batches[0].parts.iter().map(|(key, value)| (key.kind, key.key, *value));
        let wanted: [(&str, &str, Option<&[u8]>); 3] =
            [("value", "config", Some(b"3")), ("value", "subject", Some(b"2")), ("person", "config", None)];
        assert_eq!(parts.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn what_comes_and_goes_for_another_server_is_only_removed() {
        let send = |id: u64| {
            let (local, remote) = (BareJid::new("x.example").unwrap(), BareJid::new("far.example").unwrap());
            let stamp = std::time::SystemTime::UNIX_EPOCH;
            TailChange::Send(OutgoingEntry { id, local, remote, stamp, stanza: "<message/>".into() })
        };
        let changes = [send(1), send(2), TailChange::Sent { id: 2 }, TailChange::Sent { id: 9 }];
        let batch = Batch::new(&changes).unwrap();
        assert_eq!(batch.sends.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1]);
        assert_eq!((&*batch.sent, batch.highest, batch.is_plain()), (&[2, 9][..], 9, false));
    }

    #[test]
    fn what_is_forgotten_stays_but_for_what_it_was_known_by() {
        let forget = |id| TailChange::Forget { account: BareJid::new("a@x.example").unwrap(), id };
        let mut known = archive(1);
        if let TailChange::Append(record) = &mut known {
            record.digest = Some(7);
        }
        for (changes, digest, forgotten) in [
            (vec![known.clone()], Some(7), vec![]),
            (vec![known.clone(), forget(1)], None, vec![]),
            (vec![forget(1), known.clone()], Some(7), vec![]),
            (vec![forget(9), known], Some(7), vec![9]),
        ] {
            let batch = Batch::new(&changes).unwrap();
            assert_eq!(batch.puts.iter().map(|put| (put.id, put.digest)).collect::<Vec<_>>(), [(1, digest)]);
            assert_eq!(batch.forgotten.iter().map(|place| place.id).collect::<Vec<_>>(), forgotten);
            assert!(batch.is_plain() && batch.highest >= *forgotten.first().unwrap_or(&1));
        }
        let account = BareJid::new("a@x.example").unwrap();
        let delivered = [forget(1), TailChange::Deliver { account: account.clone(), id: 1 }];
        let batch = Batch::new(&delivered).unwrap();
        assert_eq!((batch.forgotten.len(), batch.delivered.len()), (1, 1));
        let refused = [forget(1), TailChange::Refuse { account, id: 1 }];
        let batch = Batch::new(&refused).unwrap();
        assert_eq!((batch.forgotten.len(), batch.refused.len()), (0, 1), "it is gone with all that it had");
    }

    #[test]
    fn an_id_beyond_the_columns_is_refused() {
        assert!(Batch::new(&[append("a@x.example", u64::MAX)]).is_err());
    }
}
