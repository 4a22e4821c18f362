//! XEP-0045 §7.2.15 and §8.1: the subject.

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::image::Subject;
use super::outcome::Outcome;
use super::payload;
use super::room::Room;

/// Whether a message changes the subject: it has one, and says nothing else (§8.1).
pub(super) fn is_change(message: &Stanza) -> bool {
    message.has("subject", ns::CLIENT) && !message.has("body", ns::CLIENT) && !message.has("thread", ns::CLIENT)
}

impl Subject {
    /// The text, that without a language first.
    pub fn text(&self) -> String {
        let subjects = || self.message.children().iter().filter(|child| child.is("subject", ns::CLIENT));
        let plain = subjects().find(|subject| subject.get("xml:lang").is_none()).or_else(|| subjects().next());
        plain.map(Element::content).unwrap_or_default()
    }
}

impl Room {
    /// What ends the way in: the subject, and be it none.
    pub(super) fn send_subject(&self, to: &FullJid, out: &mut Outcome) {
        let stanza = match &self.subject {
            Some(subject) => {
                let mut stanza = subject.message.clone();
                stanza.append(payload::delay(&self.jid, subject.stamp));
                stanza
            }
            None => {
                let subject = Element::new("subject", ns::CLIENT);
                Stanza::message(MessageType::Groupchat).from(self.jid.clone()).child(subject)
            }
        };
        out.send(stanza, to);
    }
}
