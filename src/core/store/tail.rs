//! What is asked of a database for messages on their way: the group commit, and the tails that wait (see `tail.rs`).

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rookery_xmpp::jid::BareJid;

use super::{OutgoingEntry, RoomWrite, StoreResult};

/// A message that waits in an account's tail: stored, and not delivered to any resource yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailEntry {
    /// Whose tail.
    pub account: BareJid,
    /// The id assigned under the account's lock: unique in the server, growing; the stanza-id of XEP-0359.
    pub id: u64,
    /// The resource a message to a full JID was meant for.
    pub resource: Option<String>,
    /// When the server took the message.
    pub stamp: SystemTime,
    /// The stanza, whole, with `xmlns='jabber:client'`.
    pub stanza: Bytes,
}

/// Where a message stands in its account's archive (XEP-0313).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The peer: who sent it or whom it was sent to.
    pub with: BareJid,
    /// The peer's resource, if it was named.
    pub resource: Option<Box<str>>,
    /// The account's user sent it.
    pub sent: bool,
    /// It counts as unread until the user has displayed it.
    pub counts: bool,
    /// The sender's id of the message: the stanza's attribute.
    pub message_id: Option<Box<str>>,
}

/// A message as it goes to disk: to wait in the tail, to stay in the archive, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The message.
    pub entry: TailEntry,
    /// Whether it waits for a resource.
    pub waits: bool,
    /// Its place in the archive; without one it is gone when it is delivered.
    pub archived: Option<Archived>,
    /// What it would be known by if it were sent again.
    pub digest: Option<u64>,
}

/// A message that the account has sent or received, for as long as it may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its id in the account.
    pub id: u64,
    /// What it is known by.
    pub digest: u64,
}

/// A change of the tails, of rooms and of what waits for other servers, committed in batches. An id belongs to one account or room for ever.
#[derive(Debug, Clone)]
pub enum TailChange {
    /// Stores a message.
    Append(Record),
    /// A resource has it: it waits no more. The archive keeps what is its own.
    Deliver {
        /// Whose tail.
        account: BareJid,
        /// The entry's id.
        id: u64,
    },
    /// It was refused, and its sender told: as if it had never been stored. It may be sent again.
    Refuse {
        /// Whose tail.
        account: BareJid,
        /// The entry's id.
        id: u64,
    },
    /// What it was known by if it were sent again is known no more; the message itself stays, if there is one.
    Forget {
        /// Whose.
        account: BareJid,
        /// The message's id.
        id: u64,
    },
    /// A room changes.
    Room {
        /// Which.
        room: BareJid,
        /// How.
        change: RoomWrite,
    },
    /// A stanza waits for another server.
    Send(OutgoingEntry),
    /// It waits no more.
    Sent {
        /// The entry's id.
        id: u64,
    },
}

/// How much waits in a tail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailSize {
    /// Messages.
    pub messages: u64,
    /// The sum of the stanzas' sizes.
    pub bytes: u64,
}

/// The durable queues of the accounts (design: the archive is the queue).
#[async_trait]
pub trait TailStore: Send + Sync {
    /// Applies the changes in their order, in one transaction; on disk when this returns `Ok`.
    /// An append for an account that has been deleted meanwhile is passed over in silence.
    ///
    /// A call that fails as `Unavailable` may have been cut off after the disk had it: the batch may be stored all the same.
    /// Committing it again does no harm (a record that is there already becomes what the new one says: one that does not
    /// wait leaves the tail), and removing what may not be there does neither.
    async fn commit(&self, changes: &[TailChange]) -> StoreResult<()>;
    /// Up to `limit` entries of an account with `after < id <= up_to` that wait, by id.
    async fn tail(&self, user: &BareJid, after: u64, up_to: u64, limit: usize) -> StoreResult<Vec<TailEntry>>;
    /// How many pages of tails may be read at once. Many come back at the same moment when a server or a network does; on all
    /// connections they would keep out whoever logs in, and each other until the deadline.
    fn tail_readers(&self) -> usize;
    /// How much waits.
    async fn tail_size(&self, user: &BareJid) -> StoreResult<TailSize>;
    /// The highest id ever assigned that the database knows (0 when none): ids go on above it after a restart.
    async fn last_id(&self) -> StoreResult<u64>;
    /// The newest messages of an account that have a digest and `after < id <= up_to`, `limit` at most, in any order.
    async fn seen(&self, user: &BareJid, after: u64, up_to: u64, limit: usize) -> StoreResult<Vec<Seen>>;
    /// Forgets the digests of all messages up to an id, in small steps that hold nobody up.
    async fn forget_seen(&self, up_to: u64) -> StoreResult<()>;
}
