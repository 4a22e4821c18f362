//! What is asked of a database for stanzas on their way to other servers: see `remote/`.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rookery_xmpp::jid::BareJid;

use super::StoreResult;

/// A stanza that waits for another server. It comes by [`super::TailChange::Send`] and goes by [`super::TailChange::Sent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingEntry {
    /// Of the same sequence as the ids of messages: unique in the server, growing.
    pub id: u64,
    /// Our domain.
    pub local: BareJid,
    /// The other one.
    pub remote: BareJid,
    /// When the server took it.
    pub stamp: SystemTime,
    /// The stanza, whole, with `xmlns='jabber:client'`.
    pub stanza: Bytes,
}

/// The queues to other servers, as they are read when the server starts.
#[async_trait]
pub trait OutgoingStore: Send + Sync {
    /// Up to `limit` entries with an id above `after`, by id.
    async fn outgoing(&self, after: u64, limit: usize) -> StoreResult<Vec<OutgoingEntry>>;
}
