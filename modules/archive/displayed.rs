//! XEP-0333: what a user's own clients say they have displayed. A marker that one of them sends to a contact moves the
//! user's place in that conversation forward, and so what is unread of it.
//!
//! The marker is looked up in the archive, beside everything else and one after the other for each account; of those to one
//! contact that wait, the latest counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use rookery_core::account::Account;
use rookery_core::module::{Cx, Flow};
use rookery_core::server::Server;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};
use tracing::debug;

use super::Archive;

/// Conversations of one account whose markers may wait; beyond, they are passed over, as XEP-0333 §1 allows.
const MOST: usize = 1000;

/// The longest id that is looked up, in bytes; they wait in memory.
const LONGEST_ID: usize = 1023;

/// Markers of an account that wait to be looked up.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    markers: BTreeMap<BareJid, Box<str>>,
    /// Somebody is at it.
    is_busy: bool,
}

impl Waiting {
    /// Takes a marker in. Whether nobody is at it.
    fn add(&mut self, with: BareJid, id: Box<str>) -> bool {
        if self.markers.len() < MOST || self.markers.contains_key(&with) {
            self.markers.insert(with, id);
        }
        !std::mem::replace(&mut self.is_busy, true)
    }

    /// The next to look up; with none left, whoever is at it goes.
    fn next(&mut self) -> Option<(BareJid, Box<str>)> {
        let next = self.markers.pop_first();
        self.is_busy = next.is_some();
        next
    }
}

impl Archive {
    pub(super) fn displayed(self: &Arc<Self>, cx: &Cx<'_>, message: &mut Stanza) -> Flow {
        if let Some((with, id)) = marker(message)
            && with != cx.account.jid
            && cx.account.update(self.waiting, |waiting| waiting.add(with, id)) == Some(true)
        {
            let (archive, server, account) = (self.clone(), cx.server.clone(), cx.account.clone());
            cx.server.beside(async move {
                while let Some(Some((with, id))) = account.update(archive.waiting, Waiting::next) {
                    // It is a hint (§1): the next marker says all that this one would have said.
                    if let Err(error) = note(&server, &account, &with, &id).await {
                        debug!(account = %account.jid, %error, "cannot note what was displayed");
                    }
                }
            });
        }
        Flow::Next
    }
}

async fn note(server: &Server, account: &Arc<Account>, with: &BareJid, id: &str) -> Result<(), StanzaError> {
    server.recorded(account).await?;
    if let Some(id) = server.store.archived_id(&account.jid, with, id).await? {
        server.store.set_displayed(&account.jid, with, id).await?;
    }
    Ok(())
}

/// To whom a marker goes, and which of their messages it names. Rooms have ids of their own (§4.3), which are in no user's
/// archive.
fn marker(message: &Stanza) -> Option<(BareJid, Box<str>)> {
    if !matches!(message.head.kind, Kind::Message(MessageType::Normal | MessageType::Chat)) {
        return None;
    }
    let displayed = message.find("displayed", ns::MARKERS)?;
    let id = displayed.get("id").filter(|id| id.len() <= LONGEST_ID)?;
    Some((message.head.to.as_ref()?.bare(), id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers() {
        let of = |message: &str| marker(&message.parse().unwrap());
        let displayed = "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>";
        let expected = Some((BareJid::new("a@b").unwrap(), "1".into()));
        assert_eq!(of(&format!("<message to='a@b/c'>{displayed}</message>")), expected);
        assert_eq!(of(&format!("<message to='a@b' type='chat'><body/>{displayed}</message>")), expected);
        assert_eq!(of(&format!("<message to='a@b' type='groupchat'>{displayed}</message>")), None);
        assert_eq!(of("<message to='a@b'><displayed xmlns='urn:xmpp:chat-markers:0'/></message>"), None);
        let long = "x".repeat(LONGEST_ID + 1);
        let long = format!("<displayed xmlns='urn:xmpp:chat-markers:0' id='{long}'/>");
        assert_eq!(of(&format!("<message to='a@b'>{long}</message>")), None);
        assert_eq!(of("<message to='a@b'><markable xmlns='urn:xmpp:chat-markers:0'/></message>"), None);
    }

    #[test]
    fn one_is_at_it_and_the_latest_counts() {
        let jid = |text| BareJid::new(text).unwrap();
        let mut waiting = Waiting::default();
        assert!(waiting.add(jid("a@b"), "1".into()));
        assert!(!waiting.add(jid("a@b"), "2".into()));
        assert!(!waiting.add(jid("c@d"), "3".into()));
        assert_eq!(waiting.next(), Some((jid("a@b"), "2".into())));
        assert_eq!(waiting.next(), Some((jid("c@d"), "3".into())));
        assert_eq!(waiting.next(), None);
        assert!(waiting.add(jid("a@b"), "4".into()));
    }
}
