//! XEP-0313 §6.1 and XEP-0334: which messages are worth archiving. All that says or changes something is: text, encrypted
//! text, corrections, retractions, reactions, receipts, markers, invitations. What is about the moment alone is not.

use rookery_xmpp::element::Element;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};

/// Payloads of the moment: they are no reason to archive a message.
const FLEETING: &[&str] = &[ns::CHATSTATES, ns::PUBSUB_EVENT, ns::IBB, ns::ATTENTION];

/// What goes with other payloads and says nothing by itself.
const BESIDE: &[&str] = &[ns::HINTS, ns::SID, ns::DELAY, ns::OCCUPANT_ID, ns::ADDRESS, ns::NICK, ns::FALLBACK];

/// Whether a message is worth archiving, if its user wants any archived.
pub(super) fn is_worth(message: &Stanza) -> bool {
    if !matches!(message.head.kind, Kind::Message(MessageType::Normal | MessageType::Chat)) {
        return false;
    }
    if message.has("no-store", ns::HINTS) || message.has("no-permanent-store", ns::HINTS) {
        return false;
    }
    // Another archive's answer to a query of the user's (security.md C1).
    if message.has("result", ns::MAM) {
        return false;
    }
    let is_lasting = |ns: &str, name: &str| {
        let is_thread = ns == ns::CLIENT && name == "thread";
        let is_room = ns == ns::MUC_USER && name == "x";
        !is_thread && !is_room && !FLEETING.contains(&ns) && !BESIDE.contains(&ns)
    };
    message.has("store", ns::HINTS) || message.has_such(is_lasting) || is_from_room(message)
}

/// Whether the room says something: an empty `<x/>` only marks a private message (XEP-0045 §7.5).
fn is_from_room(message: &Stanza) -> bool {
    message.find("x", ns::MUC_USER).is_some_and(|x| x.elements().any(|child: &Element| !child.is("item", ns::MUC_USER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, children: &str, expected: bool) {
        let message: Stanza =
            format!("<message type='{kind}' from='a@b/c' to='d@e'>{children}</message>").parse().unwrap();
        assert_eq!(is_worth(&message), expected, "{kind}: {children}");
    }

    #[test]
    fn kinds() {
        let body = "<body>x</body>";
        for (kind, expected) in
            [("normal", true), ("chat", true), ("groupchat", false), ("headline", false), ("error", false)]
        {
            check(kind, body, expected);
            check(kind, &format!("{body}<store xmlns='urn:xmpp:hints'/>"), expected);
        }
    }

    #[test]
    fn hints() {
        let hint = |hint: &str| format!("<{hint} xmlns='urn:xmpp:hints'/>");
        check("chat", &format!("<body>x</body>{}", hint("no-store")), false);
        check("chat", &format!("<body>x</body>{}", hint("no-permanent-store")), false);
        check("chat", &format!("<body>x</body>{}", hint("no-copy")), true);
        check("chat", &format!("{}{}", hint("store"), hint("no-permanent-store")), false);
        check("chat", &hint("store"), true);
        check("chat", &hint("no-copy"), false);
        check("chat", &format!("<composing xmlns='http://jabber.org/protocol/chatstates'/>{}", hint("store")), true);
    }

    #[test]
    fn what_says_something_and_what_does_not() {
        for (children, expected) in [
            ("", false),
            ("<thread>t</thread>", false),
            ("<body/>", true),
            ("<subject>x</subject>", true),
            ("<active xmlns='http://jabber.org/protocol/chatstates'/><body>x</body>", true),
            ("<active xmlns='http://jabber.org/protocol/chatstates'/><thread>t</thread>", false),
            (
                "<composing xmlns='http://jabber.org/protocol/chatstates'/><x xmlns='http://jabber.org/protocol/muc#user'/>",
                false,
            ),
            ("<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>", true),
            ("<x xmlns='jabber:x:conference' jid='coven@chat.shakespeare.lit'/>", true),
            ("<received xmlns='urn:xmpp:receipts' id='1'/>", true),
            ("<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", true),
            ("<retract xmlns='urn:xmpp:message-retract:1' id='1'/>", true),
            ("<reactions xmlns='urn:xmpp:reactions:0' id='1'/>", true),
            ("<encrypted xmlns='urn:xmpp:omemo:2'/>", true),
            ("<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>", true),
            ("<origin-id xmlns='urn:xmpp:sid:0' id='1'/>", false),
            ("<event xmlns='http://jabber.org/protocol/pubsub#event'/>", false),
            ("<event xmlns='http://jabber.org/protocol/pubsub#event'/><body>x</body>", true),
            ("<data xmlns='http://jabber.org/protocol/ibb' sid='1' seq='0'>AA==</data>", false),
            ("<result xmlns='urn:xmpp:mam:2' id='1'/><body>x</body>", false),
        ] {
            check("chat", children, expected);
        }
    }
}
