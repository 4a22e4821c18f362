//! What the server asks of its database, as narrow traits; `rookery-store` answers them for SQLite, PostgreSQL and memory.
//!
//! Every write that returns `Ok` is on disk (unless the conf relaxes durability): acknowledgements are built on that.
//! Callers hand over typed addresses and opaque bytes; nothing here knows SQL.

mod archive;
mod outgoing;
mod rooms;
mod sessions;
mod tail;

use std::time::SystemTime;

use async_trait::async_trait;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::Credentials;

pub use self::archive::{
    ArchiveEnds, ArchivePage, ArchivePlace, ArchiveQuery, ArchiveStore, ArchivedMessage, Conversation, Page,
};
pub use self::outgoing::{OutgoingEntry, OutgoingStore};
pub use self::rooms::{
    KEPT_HISTORY, LONGEST_VISIT, RoomRecord, RoomStore, RoomWrite, SEARCHED_HISTORY, StoredRoom, StoredRoomHead,
};
pub use self::sessions::{SavedSession, SessionStore};
pub use self::tail::{Archived, Record, Seen, TailChange, TailEntry, TailSize, TailStore};
use crate::roster::RosterItem;

/// Why the database did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Down, unreachable, or slower than the deadline of the call; worth another try.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// No space, read-only, or a quota of the database.
    #[error("the database takes no more: {0}")]
    Full(String),
    /// What came back is not what was written: a bug, or a database changed by hand.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

impl From<StoreError> for StanzaError {
    /// A `wait` error: the sender may try again. The log line is written where the store failed, not here.
    fn from(error: StoreError) -> Self {
        let condition = match error {
            StoreError::Unavailable(_) | StoreError::Full(_) => Condition::ResourceConstraint,
            StoreError::Corrupt(_) => Condition::InternalServerError,
        };
        Self::new(condition)
            .with_kind(ErrorKind::Wait)
            .with_text("The server's storage does not answer at the moment; please try again later.")
    }
}

/// The result of a call to the database.
pub type StoreResult<T> = Result<T, StoreError>;

/// An account as `rookery user list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// The account's address.
    pub jid: BareJid,
    /// When it was made.
    pub created: SystemTime,
}

/// Accounts and their salted keys. No password is ever stored (RFC 5802 §2.2: stored key and server key).
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// The keys of an account; `None` when there is no such account.
    async fn credentials(&self, user: &BareJid) -> StoreResult<Option<Credentials>>;
    /// Whether the account is there.
    async fn account_exists(&self, user: &BareJid) -> StoreResult<bool>;
    /// Makes an account; `false` when it is there already, or a room has the address (nothing is changed then).
    async fn create_account(&self, user: &BareJid, credentials: &Credentials) -> StoreResult<bool>;
    /// Replaces the keys, and has the account's saved sessions expire; `false` when there is no such account.
    async fn set_credentials(&self, user: &BareJid, credentials: &Credentials) -> StoreResult<bool>;
    /// Removes an account and all that it owns (roster, requests, tail, saved sessions, values); `false` when there was none. Its archive
    /// cannot be reached from then on, and goes bit by bit by [`Self::purge_deleted`].
    async fn delete_account(&self, user: &BareJid) -> StoreResult<bool>;
    /// Removes up to `limit` messages of accounts that have been deleted and rooms that were destroyed. `true` when more
    /// are left.
    async fn purge_deleted(&self, limit: usize) -> StoreResult<bool>;
    /// The accounts of a domain, by address.
    async fn accounts(&self, domain: &BareJid) -> StoreResult<Vec<AccountInfo>>;
}

/// A roster as it is stored (RFC 6121 §2).
#[derive(Debug, Clone, Default)]
pub struct StoredRoster {
    /// A number that no other account has or had, one of the same name neither.
    pub epoch: u64,
    /// The version of the whole roster: the highest of its changes.
    pub version: u64,
    /// The contacts.
    pub items: Vec<RosterItem>,
    /// Contacts removed, with the version of the removal, so that RFC 6121 §2.6 can push the difference.
    pub removed: Vec<(BareJid, u64)>,
    /// Subscription requests that wait for the user: who asks, and the whole presence stanza (RFC 6121 §3.1.3).
    pub requests: Vec<(BareJid, Vec<u8>)>,
}

/// One change of a roster.
#[derive(Debug, Clone)]
pub enum RosterChange {
    /// Adds or replaces the item; its `version` is the roster's new one.
    Put(RosterItem),
    /// Removes the item and remembers the removal under this version.
    Remove(BareJid, u64),
    /// Keeps a subscription request until it is answered.
    Request(BareJid, Vec<u8>),
    /// Forgets a subscription request.
    Unrequest(BareJid),
}

/// Rosters and subscription requests.
#[async_trait]
pub trait RosterStore: Send + Sync {
    /// The roster of an account; an empty one when nothing is stored.
    async fn roster(&self, user: &BareJid) -> StoreResult<StoredRoster>;
    /// Applies the changes in one transaction. A removal stays known when the contact comes back, until it is not
    /// among the last [`crate::roster::REMOVALS`]. For an account that is not there (deleted meanwhile) nothing happens.
    async fn change_roster(&self, user: &BareJid, changes: &[RosterChange]) -> StoreResult<()>;
}

/// Small values of small modules, by account (or domain), module and key.
#[async_trait]
pub trait KeyValueStore: Send + Sync {
    /// One value.
    async fn value(&self, owner: &BareJid, module: &str, key: &str) -> StoreResult<Option<Vec<u8>>>;
    /// All values of a module for an owner, by key.
    async fn values(&self, owner: &BareJid, module: &str) -> StoreResult<Vec<(String, Vec<u8>)>>;
    /// Sets values (`Some`) and removes them (`None`) in one transaction.
    async fn set_values(&self, owner: &BareJid, module: &str, changes: &[(String, Option<Vec<u8>>)])
    -> StoreResult<()>;
}

/// The whole database.
#[async_trait]
pub trait Store:
    AccountStore + RosterStore + TailStore + ArchiveStore + RoomStore + OutgoingStore + SessionStore + KeyValueStore
{
    /// Ends open work and closes the connections.
    async fn close(&self);
}
