//! What is asked of a database for rooms (XEP-0045): what a room is made of, and its messages.
//!
//! A room owns messages as an account does, in the same archive: [`super::ArchiveStore::archive_page`], `archive_ends`,
//! `archived_id`, `expire_archive` and `expired_accounts`, and [`super::TailStore::seen`], take a room's address, and a
//! service's for the domain. There `with` is the room itself, by its full JID an occupant: the nick is the resource.
//! Changes come in by [`super::TailStore::commit`], in order with all others. What the values say, only the rooms know.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rookery_xmpp::jid::{BareJid, FullJid};

use super::{ArchivedMessage, StoreResult};

/// How many of the newest messages of a room are kept that are history and not in the archive.
pub const KEPT_HISTORY: usize = 500;

/// So many of the newest messages in the archive of a room are looked through for history.
pub const SEARCHED_HISTORY: usize = 4096;

/// So many bytes the address of a session in a room may have: what an index of every database takes.
pub const LONGEST_VISIT: usize = 2500;

/// A change of a room, committed with the messages of people. One of a room that is not there is passed over in silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomWrite {
    /// The room exists from now on; nothing happens if it does already. No room is made under the address of an account:
    /// whoever makes one asks [`super::AccountStore::account_exists`] before.
    Create {
        /// The service that the room is in.
        service: BareJid,
        /// When it was made.
        created: SystemTime,
    },
    /// Sets a value of the room, or removes it.
    Value {
        /// Which: `config` is part of [`StoredRoomHead`].
        name: &'static str,
        /// The value.
        value: Option<Bytes>,
    },
    /// Sets what is known of a person, or forgets it.
    Person {
        /// Who.
        jid: BareJid,
        /// What is known.
        value: Option<Bytes>,
    },
    /// A session is in the room, or has left it. Its address is no longer than [`LONGEST_VISIT`]: a change that the database
    /// does not take would keep all that is behind it from the disk.
    Visit {
        /// Whose.
        jid: FullJid,
        /// What is known of it; `None`: it has left.
        value: Option<Bytes>,
    },
    /// Stores a message.
    Message(RoomRecord),
    /// The room is gone, with all that is its. Its messages cannot be reached from then on, and go bit by bit by
    /// [`super::AccountStore::purge_deleted`].
    Destroy,
}

/// A message of a room as it goes to disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRecord {
    /// Its id: of the same sequence as those of the accounts' messages; the stanza-id of XEP-0359.
    pub id: u64,
    /// When the room took it.
    pub stamp: SystemTime,
    /// The stanza, whole, with `xmlns='jabber:client'`.
    pub stanza: Bytes,
    /// The nick of whoever sent it.
    pub nick: Option<Box<str>>,
    /// The sender's id of the message: the stanza's attribute.
    pub message_id: Option<Box<str>>,
    /// Those who enter get it, while it is among the newest.
    pub history: bool,
    /// It is in the room's archive. If it is neither this nor history, only its digest is stored.
    pub archived: bool,
    /// What it would be known by if it were sent again.
    pub digest: Option<u64>,
}

/// A room, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRoomHead {
    /// Its address.
    pub jid: BareJid,
    /// When it was made.
    pub created: SystemTime,
    /// The value `config`; empty when there is none.
    pub config: Bytes,
}

/// What a room is made of, but for its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRoom {
    /// When it was made.
    pub created: SystemTime,
    /// Its values, by name.
    pub values: Vec<(String, Bytes)>,
    /// What is known of people, by address.
    pub people: Vec<(BareJid, Bytes)>,
    /// The sessions in the room, by address.
    pub visits: Vec<(FullJid, Bytes)>,
}

/// The rooms.
#[async_trait]
pub trait RoomStore: Send + Sync {
    /// The rooms of a service, by address, with addresses above `after`, `limit` at most.
    async fn rooms(&self, service: &BareJid, after: Option<&BareJid>, limit: usize)
    -> StoreResult<Vec<StoredRoomHead>>;
    /// A room; `None` when it is not there.
    async fn room(&self, room: &BareJid) -> StoreResult<Option<StoredRoom>>;
    /// The newest messages that are history, oldest first, `limit` at most: those in the archive as far as they are among
    /// the last [`SEARCHED_HISTORY`] there, those beside it among the last [`KEPT_HISTORY`].
    async fn room_history(&self, room: &BareJid, limit: usize) -> StoreResult<Vec<ArchivedMessage>>;
    /// A message of a room, in the archive or not.
    async fn room_message(&self, room: &BareJid, id: u64) -> StoreResult<Option<ArchivedMessage>>;
    /// Replaces a message's stanza and forgets its words; `false` when it is not there. The message has to be on disk: one
    /// that a commit still has before it would be stored as it was.
    async fn retract(&self, room: &BareJid, id: u64, tombstone: Bytes) -> StoreResult<bool>;
    /// The rooms of a service that have sessions in them, by address.
    async fn visited_rooms(&self, service: &BareJid) -> StoreResult<Vec<BareJid>>;
}
