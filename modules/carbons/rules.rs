//! XEP-0280 §6.1: which messages are copied. Pure; what has to be remembered between messages is asked for.

use rookery_core::module::Way;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};

/// Whether a message may be a private one between an occupant of a room and a user: the occupant's side has a resource.
pub(super) fn names_occupant(peer: &Jid) -> bool {
    peer.localpart().is_some() && !peer.is_bare()
}

/// Whether a message is eligible. `in_room`: it is a private message between a user and an occupant of a room that the
/// user is in. `answers_eligible`: it is the error that came of a message that was eligible itself.
pub(super) fn is_eligible(
    way: Way,
    message: &Stanza,
    peer: &Jid,
    in_room: bool,
    answers_eligible: impl FnOnce() -> bool,
) -> bool {
    let Kind::Message(kind) = message.head.kind else { return false };
    // Where an error carries one of these, the message that it came of did (XEP-0334 §5 tells to pass over hints in
    // errors): then it was not eligible either.
    if message.has("private", ns::CARBONS) || message.has("no-copy", ns::HINTS) {
        return false;
    }
    // What another archive sends is for the session that has asked it (security.md C1).
    if message.has("result", ns::MAM) {
        return false;
    }
    let is_private = in_room || names_occupant(peer) && message.has("x", ns::MUC_USER);
    match (kind, way) {
        (MessageType::Groupchat, _) => false,
        (MessageType::Error, _) => answers_eligible(),
        // The room itself sends it to all of the user's clients that are there.
        (_, Way::Incoming) if is_private => false,
        (MessageType::Chat, _) => true,
        (MessageType::Normal, _) if message.has("body", ns::CLIENT) => true,
        (MessageType::Normal | MessageType::Headline, _) => {
            is_private || message.has_such(|ns, _| CONVERSATIONAL.contains(&ns)) || invites(message)
        }
    }
}

/// What is used in conversations, whatever the message's type and with or without text: XEP-0184, XEP-0085, XEP-0333.
const CONVERSATIONAL: &[&str] = &[ns::RECEIPTS, ns::CHATSTATES, ns::MARKERS];

/// An invitation into a room, direct (XEP-0249) or by way of the room (XEP-0045 §7.8.2).
fn invites(message: &Stanza) -> bool {
    message.has("x", ns::CONFERENCE)
        || message.find("x", ns::MUC_USER).is_some_and(|x| x.find("invite", ns::MUC_USER).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "<body>x</body>";
    const ROOM: &str = "<x xmlns='http://jabber.org/protocol/muc#user'/>";

    fn judged(way: Way, kind: &str, peer: &str, inside: &str) -> bool {
        let message: Stanza = format!("<message type='{kind}'>{inside}</message>").parse().unwrap();
        is_eligible(way, &message, &Jid::new(peer).unwrap(), false, || false)
    }

    #[test]
    fn what_belongs_to_a_conversation_is_copied_both_ways() {
        let invite = "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='nurse@localhost'/></x>";
        let payloads = [
            "<request xmlns='urn:xmpp:receipts'/>",
            "<received xmlns='urn:xmpp:receipts' id='1'/>",
            "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
            "<gone xmlns='http://jabber.org/protocol/chatstates'/>",
            "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
            "<x xmlns='jabber:x:conference' jid='room@conference.localhost'/>",
            invite,
        ];
        for way in [Way::Incoming, Way::Outgoing] {
            for peer in ["juliet@localhost", "room@conference.localhost", "localhost"] {
                for inside in ["", BODY, "<encrypted xmlns='urn:xmpp:omemo:2'/>"] {
                    assert!(judged(way, "chat", peer, inside), "{inside}");
                }
                assert!(judged(way, "normal", peer, BODY));
                for payload in payloads {
                    for kind in ["chat", "normal", "headline"] {
                        assert!(judged(way, kind, peer, payload), "{kind} {payload}");
                    }
                }
                for (kind, inside) in [
                    ("normal", ""),
                    ("normal", "<x xmlns='jabber:x:data' type='form'/>"),
                    ("normal", "<body xmlns='urn:x'>x</body>"),
                    ("normal", "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='nurse@localhost'/></x>"),
                    ("headline", BODY),
                    ("headline", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>"),
                    ("groupchat", BODY),
                    ("error", BODY),
                ] {
                    assert!(!judged(way, kind, peer, inside), "{kind} {inside}");
                }
                for payload in payloads {
                    assert!(!judged(way, "groupchat", peer, payload) && !judged(way, "error", peer, payload));
                }
            }
        }
    }

    #[test]
    fn nothing_private_is_copied() {
        for way in [Way::Incoming, Way::Outgoing] {
            for kind in ["chat", "normal", "headline", "error"] {
                for mark in ["<private xmlns='urn:xmpp:carbons:2'/>", "<no-copy xmlns='urn:xmpp:hints'/>"] {
                    let inside = format!("{BODY}<request xmlns='urn:xmpp:receipts'/>{mark}");
                    let message: Stanza = format!("<message type='{kind}'>{inside}</message>").parse().unwrap();
                    let peer = Jid::new("juliet@localhost").unwrap();
                    assert!(!is_eligible(way, &message, &peer, false, || true), "{kind} {mark}");
                }
            }
            assert!(judged(way, "chat", "juliet@localhost", "<private xmlns='urn:x'/><no-copy/>"));
        }
    }

    #[test]
    fn results_of_other_archives_are_not_copied() {
        let result = "<result xmlns='urn:xmpp:mam:2' id='1'/>";
        for way in [Way::Incoming, Way::Outgoing] {
            for kind in ["chat", "normal"] {
                assert!(!judged(way, kind, "room@conference.localhost", &format!("{result}{BODY}")), "{kind}");
            }
        }
    }

    #[test]
    fn private_messages_of_rooms_are_copied_when_sent_and_not_when_received() {
        let occupant = "room@conference.localhost/nurse";
        for inside in [ROOM, &format!("{BODY}{ROOM}"), &format!("<x xmlns='jabber:x:conference' jid='a@b'/>{ROOM}")] {
            for kind in ["chat", "normal"] {
                assert!(!judged(Way::Incoming, kind, occupant, inside), "{kind} {inside}");
                assert!(judged(Way::Outgoing, kind, occupant, inside), "{kind} {inside}");
            }
        }
        let bare: Stanza = format!("<message type='chat'>{BODY}</message>").parse().unwrap();
        let occupant = Jid::new(occupant).unwrap();
        assert!(
            !is_eligible(Way::Incoming, &bare, &occupant, true, || false),
            "the mark is missing, the room is known"
        );
        assert!(is_eligible(Way::Outgoing, &bare, &occupant, true, || false));
    }

    #[test]
    fn an_error_is_copied_if_what_it_came_of_was() {
        let error: Stanza = "<message type='error'/>".parse().unwrap();
        for way in [Way::Incoming, Way::Outgoing] {
            for known in [true, false] {
                let peer = Jid::new("room@conference.localhost/nurse").unwrap();
                assert_eq!(is_eligible(way, &error, &peer, true, || known), known);
            }
        }
    }
}
