//! XEP-0424 §4, XEP-0425: what is left in the archive of a message that was taken back.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rookery_core::server::Server;
use rookery_core::session::Receipt;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;

use super::record;
use crate::muc::outcome::Stored;

/// How long to wait before a database that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// A message that is to be taken back.
#[derive(Debug, Clone)]
pub(super) struct Retraction {
    pub(super) room: BareJid,
    pub(super) id: u64,
    /// Only if it came from this person.
    pub(super) by: Option<BareJid>,
    /// `<retracted/>`.
    pub(super) tombstone: Element,
}

impl Retraction {
    /// Does it, once the message is on disk itself.
    pub(super) async fn carry_out(&self, server: &Arc<Server>) -> Result<Stored, StanzaError> {
        server.stored().await?;
        let Some(stored) = server.store.room_message(&self.room, self.id).await? else { return Ok(Stored::NotFound) };
        let Some((mut message, sender)) = record::opened(&stored.stanza) else { return Ok(Stored::NotFound) };
        let is_theirs = |by: &BareJid| sender.as_ref().is_some_and(|sender| sender.jid.bare_str() == by.as_str());
        if self.by.as_ref().is_some_and(|by| !is_theirs(by)) {
            return Ok(Stored::NotFound);
        }
        message.retain(|ns, name| matches!((ns, name), (ns::OCCUPANT_ID, "occupant-id") | (ns::SID, "stanza-id")));
        message.append(self.tombstone.clone());
        let tombstone = record::sealed(&message, sender.as_ref());
        let done = server.store.retract(&self.room, self.id, tombstone).await?;
        Ok(if done { Stored::Done } else { Stored::NotFound })
    }

    /// Does it beside all else, however often it has to be tried.
    pub(super) fn insist(self, server: &Arc<Server>, receipt: Option<Arc<Receipt>>) {
        let server = server.clone();
        server.clone().beside(async move {
            while self.carry_out(&server).await.is_err() {
                server.within(PAUSE, pending()).await;
            }
            drop(receipt);
        });
    }
}
