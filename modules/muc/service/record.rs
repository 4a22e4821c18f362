//! Messages of rooms as they are stored: as all have got them, and with the sender's real JID inside, as XEP-0313 §6.1.2 has
//! it for those who may see it. For all others it is taken out.

use bytes::Bytes;
use rookery_xmpp::element::Element;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::Stanza;

use crate::muc::roles::Affiliation;

/// What is stored with a message of whoever has sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::muc) struct Sender {
    pub(in crate::muc) jid: FullJid,
    /// They were an owner when they sent it, and the message says itself when it was written: it counts (XEP-0045 §7.9)
    /// whatever they are by now.
    pub(in crate::muc) stamps: bool,
}

/// A message with its sender, to be stored.
pub(in crate::muc) fn sealed(message: &Stanza, sender: Option<&Sender>) -> Bytes {
    let mut stanza = message.clone();
    if let Some(sender) = sender {
        // Those who see addresses get this as it is; so it says it in words that are known to them.
        let affiliation = sender.stamps.then(|| Affiliation::Owner.name());
        let item =
            Element::new("item", ns::MUC_USER).attr_opt("affiliation", affiliation).attr("jid", sender.jid.as_str());
        stanza.append(Element::new("x", ns::MUC_USER).child(item));
    }
    let mut bytes = Vec::with_capacity(stanza.size() + 32);
    stanza.write_standalone(&mut bytes);
    Bytes::from(bytes)
}

/// A stored message as all have got it, and its sender. `None` if it cannot be read.
pub(in crate::muc) fn opened(stored: &Bytes) -> Option<(Stanza, Option<Sender>)> {
    let Ok(Parsed::Stanza(mut stanza)) = parser::parse(stored.clone(), &Namespaces::none()) else { return None };
    let item = stanza.find("x", ns::MUC_USER).and_then(|x| x.find("item", ns::MUC_USER));
    let sender = item.and_then(|item| {
        let stamps = item.get("affiliation") == Some(Affiliation::Owner.name());
        Some(Sender { jid: FullJid::new(item.get("jid")?).ok()?, stamps })
    });
    if sender.is_some() {
        // The room's own words in this namespace name nobody.
        stanza.retain(|ns, name| (ns, name) != (ns::MUC_USER, "x"));
    }
    Some((stanza, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_inside_and_can_be_taken_out() {
        let message: Stanza = "<message from='coven@rooms.example/witch' type='groupchat' id='1'><body>hi</body>\
            <occupant-id xmlns='urn:xmpp:occupant-id:0' id='x'/></message>"
            .parse()
            .unwrap();
        for stamps in [false, true] {
            let hag = Sender { jid: FullJid::new("hag66@example.org/pda").unwrap(), stamps };
            let stored = sealed(&message, Some(&hag));
            assert!(String::from_utf8_lossy(&stored).contains("hag66@example.org/pda"));
            let (opened_message, sender) = opened(&stored).unwrap();
            assert_eq!((opened_message, sender), (message.clone(), Some(hag)));
        }
        let (own, sender) = opened(&sealed(&message, None)).unwrap();
        assert_eq!((own, sender), (message, None));
        assert!(opened(&Bytes::from_static(b"<message")).is_none());
    }
}
