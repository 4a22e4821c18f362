//! Messages of a room as they are stored: as they were sent to all, and beside what they said `<x/>` with the sender's real
//! JID (XEP-0313 §6.1.2). Whoever reads them takes that out, but for those who may see it: [`shown`] for the archive,
//! [`read`] for the room's history (security.md C5).

use bytes::Bytes;
use rookery_core::store::ArchivedMessage;
use rookery_xmpp::element::Element;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::Stanza;

use super::payload;

/// What is left of a message that was taken back, beside who had sent it (XEP-0424 §4).
const LEFT: &[(&str, &str)] = &[(ns::OCCUPANT_ID, "occupant-id"), (ns::SID, "stanza-id"), (ns::MUC_USER, "x")];

/// A message as it is stored.
pub fn write(stanza: &Stanza, sender: Option<&FullJid>) -> Bytes {
    let mut stanza = stanza.clone();
    if let Some(sender) = sender {
        let item = Element::new("item", ns::MUC_USER).attr("jid", sender.as_str());
        stanza.append(payload::user().child(item));
    }
    to_bytes(&stanza)
}

/// The message as all have got it, and who had sent it. `None` when what is stored is no message.
pub fn read(stored: &ArchivedMessage) -> Option<(Stanza, Option<FullJid>)> {
    let mut stanza = parse(stored)?;
    let sender = sender_in(&stanza);
    hide(&mut stanza);
    Some((stanza, sender))
}

/// The message as somebody sees it who looks it up.
pub fn shown(stored: &ArchivedMessage, sees_jids: bool) -> Option<ArchivedMessage> {
    if sees_jids {
        return Some(stored.clone());
    }
    let mut stanza = parse(stored)?;
    hide(&mut stanza);
    Some(ArchivedMessage { stanza: to_bytes(&stanza), ..stored.clone() })
}

/// Who has sent it.
pub fn sender(stored: &ArchivedMessage) -> Option<FullJid> {
    sender_in(&parse(stored)?)
}

/// What is to be stored in place of a message that was taken back: `tombstone` instead of all that it said.
pub fn bury(stored: &ArchivedMessage, tombstone: Element) -> Option<Bytes> {
    let mut stanza = parse(stored)?;
    stanza.retain(|ns, name| LEFT.contains(&(ns, name)));
    stanza.append(tombstone);
    Some(to_bytes(&stanza))
}

/// Takes the real JID out. The room's own messages carry no other such element into the archive.
fn hide(stanza: &mut Stanza) {
    stanza.retain(|ns, _| ns != ns::MUC_USER);
}

fn sender_in(stanza: &Stanza) -> Option<FullJid> {
    let item = stanza.find("x", ns::MUC_USER)?.find("item", ns::MUC_USER)?;
    Jid::new(item.get("jid")?).ok()?.full()
}

fn parse(stored: &ArchivedMessage) -> Option<Stanza> {
    match parser::parse(stored.stanza.clone(), &Namespaces::none()) {
        Ok(Parsed::Stanza(stanza)) => Some(stanza),
        Ok(_) | Err(_) => None,
    }
}

fn to_bytes(stanza: &Stanza) -> Bytes {
    let mut bytes = Vec::with_capacity(stanza.size() + 64);
    stanza.write_standalone(&mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const SAID: &str = "<message from='coven@chat.shakespeare.lit/firstwitch' type='groupchat' id='m1'>\
        <body>Thrice the brinded cat hath mew&apos;d.</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='7'/></message>";

    fn stored(stanza: &str, sender: Option<&str>) -> ArchivedMessage {
        let sender = sender.map(|sender| Jid::new(sender).unwrap().full().unwrap());
        let stanza = write(&stanza.parse().unwrap(), sender.as_ref());
        ArchivedMessage { id: 7, stamp: UNIX_EPOCH, stanza, waits: None }
    }

    fn text(bytes: &Bytes) -> String {
        let element: Element = str::from_utf8(bytes).unwrap().parse().unwrap();
        element.to_xml()
    }

    #[test]
    fn what_is_stored_is_read_again() {
        for sender in [Some("crone1@shakespeare.lit/desktop"), None] {
            let (stanza, who) = read(&stored(SAID, sender)).unwrap();
            assert_eq!(stanza, SAID.parse().unwrap());
            assert_eq!(who.as_ref().map(|who| who.as_str()), sender);
        }
        let broken = ArchivedMessage { stanza: Bytes::from_static(b"<message>"), ..stored(SAID, None) };
        assert_eq!((read(&broken), shown(&broken, false)), (None, None));
    }

    #[test]
    fn c5_real_jids_are_for_those_who_may_see_them() {
        let stored = stored(SAID, Some("crone1@shakespeare.lit/desktop"));
        let seen = shown(&stored, true).unwrap();
        assert_eq!(sender(&stored).unwrap().as_str(), "crone1@shakespeare.lit/desktop");
        assert!(text(&seen.stanza).contains(
            "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='crone1@shakespeare.lit/desktop'/></x>"
        ));
        let hidden = text(&shown(&stored, false).unwrap().stanza);
        assert!(!hidden.contains("crone1") && !hidden.contains("muc#user"), "{hidden}");
        assert!(hidden.starts_with("<message xmlns='jabber:client'") && hidden.contains("occupant-id"), "{hidden}");
    }

    #[test]
    fn a_tombstone_says_who_and_not_what() {
        let tombstone = Element::new("retracted", ns::RETRACT).attr("id", "r1");
        let stored = stored(SAID, Some("crone1@shakespeare.lit/desktop"));
        let buried = ArchivedMessage { stanza: bury(&stored, tombstone).unwrap(), ..stored };
        assert_eq!(sender(&buried).unwrap().as_str(), "crone1@shakespeare.lit/desktop");
        let (stanza, _) = read(&buried).unwrap();
        let expected = "<message from='coven@chat.shakespeare.lit/firstwitch' type='groupchat' id='m1'>\
            <occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>\
            <stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.shakespeare.lit' id='7'/>\
            <retracted xmlns='urn:xmpp:message-retract:1' id='r1'/></message>";
        assert_eq!(stanza, expected.parse().unwrap());
    }
}
