//! What is asked of a database for archives (XEP-0313): pages, ends, what is unread, and forgetting.
//!
//! Messages come in by [`super::TailStore::commit`]. Ids grow with the order in which the account sent and received, so
//! order by id is the archive's order; times are not to be relied on for it, since clocks jump.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rookery_xmpp::jid::{BareJid, Jid};

use super::StoreResult;

/// Which part of what a query matches is wanted (XEP-0059). Always by id, oldest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Page {
    /// From the oldest on.
    #[default]
    First,
    /// What comes after this id.
    After(u64),
    /// What comes right before this id.
    Before(u64),
    /// Up to the newest.
    Last,
}

/// A question to an account's archive.
#[derive(Debug, Clone, Default)]
pub struct ArchiveQuery {
    /// Only messages with this peer; a full JID: only with this resource of it.
    pub with: Option<Jid>,
    /// Only messages of this time or later.
    pub start: Option<SystemTime>,
    /// Only messages of this time or earlier.
    pub end: Option<SystemTime>,
    /// Only messages after this one, which has to be in the archive.
    pub after_id: Option<u64>,
    /// Only messages before this one, which has to be in the archive.
    pub before_id: Option<u64>,
    /// Only these messages, which all have to be in the archive. Empty: all.
    pub ids: Vec<u64>,
    /// Only messages whose text has all these words (XEP-0431). Words as the user typed them; no operators.
    pub words: Option<String>,
    /// Which of them. An id named here has to be in the archive, though it need not match.
    pub page: Page,
    /// How many at most; 0 for the count alone.
    pub max: usize,
    /// Whether to count all that match, whatever the page.
    pub count: bool,
}

/// A message of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedMessage {
    /// Its id in the archive, which is its stanza-id.
    pub id: u64,
    /// When the server took it.
    pub stamp: SystemTime,
    /// The stanza, whole, with `xmlns='jabber:client'`.
    pub stanza: Bytes,
    /// It waits in the account's tail for a resource: the one it was meant for, if it was sent to a full JID.
    pub waits: Option<Option<String>>,
}

/// A page of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchivePage {
    /// The messages, oldest first.
    pub messages: Vec<ArchivedMessage>,
    /// Nothing that matches lies beyond the page, in the direction in which it was asked for.
    pub complete: bool,
    /// How many match in all, when that was asked for.
    pub count: Option<u64>,
    /// How many of them come before the first of the page, when the count was asked for.
    pub index: Option<u64>,
}

/// One end of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivePlace {
    /// The message's id.
    pub id: u64,
    /// When the server took it.
    pub stamp: SystemTime,
}

/// The oldest and the newest message of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveEnds {
    /// The oldest.
    pub start: ArchivePlace,
    /// The newest.
    pub end: ArchivePlace,
}

/// How far a user has read a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The peer.
    pub with: BareJid,
    /// The last message that the user has displayed; 0 when none.
    pub displayed: u64,
    /// How many messages that count came after it.
    pub unread: u64,
}

/// The archives of the accounts.
#[async_trait]
pub trait ArchiveStore: Send + Sync {
    /// A page of an archive. `None` when an id that was named is not in it.
    async fn archive_page(&self, user: &BareJid, query: &ArchiveQuery) -> StoreResult<Option<ArchivePage>>;
    /// The ends of an archive; `None` when it is empty.
    async fn archive_ends(&self, user: &BareJid) -> StoreResult<Option<ArchiveEnds>>;
    /// The newest message of a conversation that came from the peer with this id of the sender's; `None` when there is
    /// none among the last five thousand.
    async fn archived_id(&self, user: &BareJid, with: &BareJid, message_id: &str) -> StoreResult<Option<u64>>;
    /// The user has displayed a conversation up to this message. Never goes back; `false` when nothing changed.
    async fn set_displayed(&self, user: &BareJid, with: &BareJid, id: u64) -> StoreResult<bool>;
    /// How much is unread of each conversation, by peer; those with nothing unread and nothing displayed are left out.
    async fn conversations(&self, user: &BareJid) -> StoreResult<Vec<Conversation>>;
    /// Removes up to `limit` of the oldest messages of an archive that are not newer than `up_to`, so that no holes
    /// come up; what still waits in the tail keeps its place there. A room's history beside the archive goes as well.
    /// `true` when more are left.
    async fn expire_archive(&self, user: &BareJid, up_to: u64, limit: usize) -> StoreResult<bool>;
    /// Accounts and rooms of a domain with something in the archive not newer than `up_to`, by address, `limit` at most, with
    /// addresses above `after`. None: there are no more. Where much has to be looked at, a call may end early, and then names
    /// the account that it has come to, whether that has something or not.
    async fn expired_accounts(
        &self,
        domain: &BareJid,
        up_to: u64,
        after: Option<&BareJid>,
        limit: usize,
    ) -> StoreResult<Vec<BareJid>>;
    /// Whether all of an archive can be found by its words.
    async fn is_findable(&self, owner: &BareJid) -> StoreResult<bool>;
    /// Makes up to `limit` messages of an archive findable by their words that are not yet, the oldest first. `true` when
    /// more are left. Searches see only what this has done, so it is called before each until nothing is left, if there is
    /// anything to do at all; archives that nobody searches cost nothing.
    async fn index_words(&self, owner: &BareJid, limit: usize) -> StoreResult<bool>;
}
