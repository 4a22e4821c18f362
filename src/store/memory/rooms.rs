//! Rooms in memory: the plainest way to say what the databases must do.

use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rookery_core::store::{
    Archived, ArchivedMessage, KEPT_HISTORY, Record, RoomRecord, RoomStore, RoomWrite, StoreResult, StoredRoom,
    StoredRoomHead, TailEntry,
};
use rookery_xmpp::jid::{BareJid, FullJid};

use super::archive::Messages;
use super::{Access, MemoryStore, State};
use crate::codec::{from_stamp, to_stamp};

pub(super) struct Room {
    service: BareJid,
    created: SystemTime,
    values: BTreeMap<&'static str, Bytes>,
    people: BTreeMap<BareJid, Bytes>,
    visits: BTreeMap<FullJid, Bytes>,
    pub(super) messages: Messages,
}

impl Room {
    fn new(service: &BareJid, created: SystemTime) -> Self {
        Self {
            service: service.clone(),
            // As columns have it.
            created: from_stamp(to_stamp(created)).unwrap_or(created),
            values: BTreeMap::new(),
            people: BTreeMap::new(),
            visits: BTreeMap::new(),
            messages: Messages::default(),
        }
    }
}

fn set<K: Ord>(map: &mut BTreeMap<K, Bytes>, key: K, value: Option<&Bytes>) {
    match value {
        Some(value) => map.insert(key, value.clone()),
        None => map.remove(&key),
    };
}

/// A message of a room as one of an account: what is history alone waits for those who enter.
fn record(room: &BareJid, message: &RoomRecord) -> Record {
    let RoomRecord { id, stamp, stanza, nick, message_id, history, archived, digest } = message.clone();
    let in_archive = Archived { with: room.clone(), resource: nick, sent: false, counts: history, message_id };
    Record {
        entry: TailEntry { account: room.clone(), id, resource: None, stamp, stanza },
        waits: history && !archived,
        archived: archived.then_some(in_archive),
        digest,
    }
}

impl State {
    /// Applies a change of a room.
    pub(super) fn change_room(&mut self, jid: &BareJid, change: &RoomWrite) {
        match change {
            RoomWrite::Create { service, created } => {
                if !self.accounts.contains_key(jid) {
                    self.rooms.entry(jid.clone()).or_insert_with(|| Room::new(service, *created));
                }
                return;
            }
            RoomWrite::Destroy => {
                if self.rooms.remove(jid).is_some() {
                    self.values.retain(|(owner, _, _), _| owner != jid);
                }
                return;
            }
            _ => {}
        }
        let Some(room) = self.rooms.get_mut(jid) else { return };
        match change {
            RoomWrite::Value { name, value } => set(&mut room.values, *name, value.as_ref()),
            RoomWrite::Person { jid, value } => set(&mut room.people, jid.clone(), value.as_ref()),
            RoomWrite::Visit { jid, value } => set(&mut room.visits, jid.clone(), value.as_ref()),
            RoomWrite::Message(message) => room.messages.append(&record(jid, message), self.forgotten),
            RoomWrite::Create { .. } | RoomWrite::Destroy => {}
        }
    }

    /// Forgets what is history beside the archives, but for the newest.
    pub(super) fn trim_rooms(&mut self) {
        self.rooms.values_mut().for_each(|room| room.messages.trim(KEPT_HISTORY));
    }
}

#[async_trait]
impl RoomStore for MemoryStore {
    async fn rooms(
        &self,
        service: &BareJid,
        after: Option<&BareJid>,
        limit: usize,
    ) -> StoreResult<Vec<StoredRoomHead>> {
        self.call(Access::Read, |state| {
            let rooms = state.rooms.iter();
            let rooms = rooms.filter(|(jid, room)| room.service == *service && after.is_none_or(|after| *jid > after));
            let head = |(jid, room): (&BareJid, &Room)| StoredRoomHead {
                jid: jid.clone(),
                created: room.created,
                config: room.values.get("config").cloned().unwrap_or_default(),
            };
            Ok(rooms.take(limit).map(head).collect())
        })
        .await
    }

    async fn room(&self, room: &BareJid) -> StoreResult<Option<StoredRoom>> {
        self.call(Access::Read, |state| {
            Ok(state.rooms.get(room).map(|room| StoredRoom {
                created: room.created,
                values: room.values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
                people: room.people.clone().into_iter().collect(),
                visits: room.visits.clone().into_iter().collect(),
            }))
        })
        .await
    }

    async fn room_history(&self, room: &BareJid, limit: usize) -> StoreResult<Vec<ArchivedMessage>> {
        self.call(Access::Read, |state| {
            Ok(state.rooms.get(room).map(|room| room.messages.history(limit)).unwrap_or_default())
        })
        .await
    }

    async fn room_message(&self, room: &BareJid, id: u64) -> StoreResult<Option<ArchivedMessage>> {
        self.call(Access::Read, |state| Ok(state.rooms.get(room).and_then(|room| room.messages.of_room(id)))).await
    }

    async fn retract(&self, room: &BareJid, id: u64, tombstone: Bytes) -> StoreResult<bool> {
        self.call(Access::Write, |state| {
            Ok(state.rooms.get_mut(room).is_some_and(|room| room.messages.retract(id, tombstone)))
        })
        .await
    }

    async fn visited_rooms(&self, service: &BareJid) -> StoreResult<Vec<BareJid>> {
        self.call(Access::Read, |state| {
            let rooms = state.rooms.iter();
            let rooms = rooms.filter(|(_, room)| room.service == *service && !room.visits.is_empty());
            Ok(rooms.map(|(jid, _)| jid.clone()).collect())
        })
        .await
    }
}
