//! What core itself knows of archives (XEP-0313): what counts as unread, which words a message is found by, how much of
//! each conversation is unread, and the sweeping up after deleted accounts. Which messages are archived is for a module to
//! say, what an archive answers as well.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};
use tokio::time::Instant;

use crate::account::Account;
use crate::seen;
use crate::server::Server;
use crate::store::{Conversation, StoreResult};

/// How often what is past is swept up.
const SWEEP: Duration = Duration::from_secs(60);
/// Messages of deleted accounts that go in one step.
const STEP: usize = 500;
/// What lies between two steps, for the others who need the database.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest text that a message is found by, in bytes: those that are made findable at once are all in memory.
const LONGEST_TEXT: usize = 64 * 1024;

/// Messages that are about another one, whatever fallback text they carry (XEP-0184, 0308, 0333, 0424, 0425, 0444).
const ABOUT_ANOTHER: &[(&str, &str)] = &[
    (ns::RECEIPTS, "received"),
    (ns::CORRECT, "replace"),
    (ns::MARKERS, "received"),
    (ns::MARKERS, "displayed"),
    (ns::MARKERS, "acknowledged"),
    (ns::RETRACT, "retract"),
    (ns::MODERATE, "moderated"),
    (ns::REACTIONS, "reactions"),
];

/// Payloads of encryption (XEP-0380, 0384, 0373, 0027).
const ENCRYPTED: &[(&str, &str)] = &[
    (ns::EME, "encryption"),
    (ns::OMEMO, "encrypted"),
    (ns::OMEMO_LEGACY, "encrypted"),
    (ns::OPENPGP, "openpgp"),
    (ns::OPENPGP_LEGACY, "x"),
];

/// Whether an incoming message counts as unread until its reader has displayed it: it says something, in text or
/// encrypted, and is neither about another message nor one's own.
pub fn counts(message: &Stanza) -> bool {
    let own = || match (&message.head.from, &message.head.to) {
        (Some(from), Some(to)) => from.bare_str() == to.bare_str(),
        _ => false,
    };
    matches!(message.head.kind, Kind::Message(MessageType::Normal | MessageType::Chat))
        && (message.has("body", ns::CLIENT) || has_ciphertext(message))
        && !message.has_such(|ns, name| ABOUT_ANOTHER.contains(&(ns, name)))
        && !own()
}

/// Whether there is something encrypted to be read; OMEMO's messages without payload carry keys alone (XEP-0384 §4.4).
fn has_ciphertext(message: &Stanza) -> bool {
    let omemo = [ns::OMEMO, ns::OMEMO_LEGACY];
    message.has("openpgp", ns::OPENPGP)
        || message.has("x", ns::OPENPGP_LEGACY)
        || omemo
            .into_iter()
            .any(|ns| message.find("encrypted", ns).is_some_and(|encrypted| encrypted.find("payload", ns).is_some()))
}

/// The text by whose words a message is found, of the message as it is stored. None for one that is encrypted, whose text
/// only says so, and for one that is about another; what stands in for something else (XEP-0428) is left out.
pub fn text(stored: Bytes) -> Option<Box<str>> {
    match parser::parse(stored, &Namespaces::none()) {
        Ok(Parsed::Stanza(message)) => body(&message),
        Ok(_) | Err(_) => None,
    }
}

fn body(message: &Stanza) -> Option<Box<str>> {
    let is_silent = |ns: &str, name: &str| ENCRYPTED.contains(&(ns, name)) || is_about_another_without_text(ns, name);
    if !message.has("body", ns::CLIENT) || message.has_such(is_silent) {
        return None;
    }
    let children = message.children();
    let mut fallbacks: Vec<Region> =
        children.iter().filter(|child| child.is("fallback", ns::FALLBACK)).flat_map(regions).collect();
    fallbacks.sort_unstable_by_key(|region| region.start);
    let mut text = String::new();
    for body in children.iter().filter(|child| child.is("body", ns::CLIENT)) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&without(&body.content(), &fallbacks));
        if text.len() > LONGEST_TEXT {
            let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            break;
        }
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

/// What is left of a text, in one pass however many regions there are. They are sorted.
fn without(text: &str, regions: &[Region]) -> String {
    let mut regions = regions.iter().peekable();
    let mut until = 0;
    let is_left = |(place, char): (usize, char)| {
        while let Some(region) = regions.next_if(|region| region.start <= place) {
            until = until.max(region.end);
        }
        (place >= until).then_some(char)
    };
    text.chars().enumerate().filter_map(is_left).collect()
}

/// A correction is about another message and has the text to find it by; the others have not.
fn is_about_another_without_text(ns: &str, name: &str) -> bool {
    ABOUT_ANOTHER.contains(&(ns, name)) && ns != ns::CORRECT
}

/// Characters of a text that stand in for something else.
#[derive(Clone, Copy)]
struct Region {
    start: usize,
    end: usize,
}

/// What `<fallback/>` says of bodies (XEP-0428 §2.2), in code points (XEP-0426).
fn regions(fallback: &Element) -> Vec<Region> {
    let whole = Region { start: 0, end: usize::MAX };
    if fallback.elements().next().is_none() {
        return vec![whole];
    }
    let place = |body: &Element, name: &str| body.get(name).and_then(|place| place.parse().ok());
    let region = |body: &Element| match (place(body, "start"), place(body, "end")) {
        (Some(start), Some(end)) => Region { start, end },
        _ => whole,
    };
    fallback.elements().filter(|child| child.is("body", ns::FALLBACK)).map(region).collect()
}

impl Server {
    /// How far the user has read each conversation, and how much is unread of it.
    pub async fn conversations(&self, account: &Arc<Account>) -> Result<Vec<Conversation>, StanzaError> {
        self.recorded(account).await?;
        Ok(self.store.conversations(&account.jid).await?)
    }

    /// Removes what deleted accounts have left, and forgets which messages came long ago, in small steps.
    async fn sweep_archives(&self, past: u64) -> StoreResult<()> {
        while self.store.purge_deleted(STEP).await? {
            tokio::time::sleep(PAUSE).await;
        }
        self.store.forget_seen(past).await
    }
}

/// Sweeps again and again until the server is gone.
pub(crate) async fn keep_house(server: Weak<Server>) {
    let Some(last) = server.upgrade().map(|server| server.ids.last()) else { return };
    let begun = Instant::now();
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = server.sweep_archives(seen::past(last, begun.elapsed())).await {
            server.store_failed("cannot remove what is past from the database; trying again", &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(children: &str) -> Stanza {
        format!("<message type='chat' from='juliet@capulet.lit/balcony' to='romeo@montague.lit'>{children}</message>")
            .parse()
            .unwrap()
    }

    const BODY: &str = "<body>Wherefore art thou</body>";

    #[test]
    fn what_is_unread() {
        for (children, expected) in [
            ("", false),
            (BODY, true),
            ("<active xmlns='http://jabber.org/protocol/chatstates'/>", false),
            ("<subject>Love</subject>", false),
            ("<received xmlns='urn:xmpp:receipts' id='1'/>", false),
            ("<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", false),
            ("<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/><payload>AA==</payload></encrypted>", true),
            ("<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/></encrypted>", false),
            ("<encrypted xmlns='eu.siacs.conversations.axolotl'><header/><payload>AA==</payload></encrypted>", true),
            ("<openpgp xmlns='urn:xmpp:openpgp:0'>AA==</openpgp>", true),
            ("<x xmlns='jabber:x:encrypted'>AA==</x>", true),
            ("<body>x</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>", false),
            ("<body>x</body><retract xmlns='urn:xmpp:message-retract:1' id='1'/>", false),
            ("<body>x</body><reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>x</reaction></reactions>", false),
            ("<body>x</body><request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>", true),
        ] {
            assert_eq!(counts(&message(children)), expected, "{children}");
        }
        for (kind, expected) in
            [("normal", true), ("groupchat", false), ("headline", false), ("error", false), ("chat", true)]
        {
            let message: Stanza = format!("<message type='{kind}'>{BODY}</message>").parse().unwrap();
            assert_eq!(counts(&message), expected, "{kind}");
        }
        let own: Stanza = format!("<message from='a@b/c' to='a@b'>{BODY}</message>").parse().unwrap();
        assert!(!counts(&own));
    }

    #[test]
    fn what_a_message_is_found_by() {
        for (children, expected) in [
            ("", None),
            (BODY, Some("Wherefore art thou")),
            ("<body/>", None),
            ("<body>  </body>", None),
            ("<body>one</body><body xml:lang='de'>eins</body>", Some("one\neins")),
            ("<body>I sent you something encrypted</body><encryption xmlns='urn:xmpp:eme:0' namespace='x'/>", None),
            ("<body>x</body><encrypted xmlns='eu.siacs.conversations.axolotl'/>", None),
            ("<body>x</body><x xmlns='jabber:x:encrypted'>AA==</x>", None),
            ("<body>new</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>", Some("new")),
            ("<body>/me retracted</body><retract xmlns='urn:xmpp:message-retract:1' id='1'/>", None),
            ("<body>x</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:q'/>", None),
            ("<body>x</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:q'><body/></fallback>", None),
            ("<body>x</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:q'><subject/></fallback>", Some("x")),
            (
                "<body>&gt; \u{e9}t\u{e9}\nGreat</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'>\
                 <body start='0' end='6'/></fallback>",
                Some("Great"),
            ),
        ] {
            assert_eq!(body(&message(children)).as_deref(), expected, "{children}");
        }
    }

    #[test]
    fn b16_many_fallbacks_in_a_long_text_are_one_pass() {
        let regions = |regions: &[(usize, usize)]| {
            let region = |(start, end): &(usize, usize)| format!("<body start='{start}' end='{end}'/>");
            let regions: String = regions.iter().map(region).collect();
            format!("<fallback xmlns='urn:xmpp:fallback:0'>{regions}</fallback>")
        };
        let some = regions(&[(8, 9), (1, 3), (2, 5), (5, 4), (0, 0), (100, 200)]);
        assert_eq!(body(&message(&format!("<body>0123456789</body>{some}"))).as_deref(), Some("05679"));
        // What looked at each region for each character would take minutes.
        let many: Vec<(usize, usize)> = (0..100_000).map(|place| (2 * place, 2 * place + 1)).collect();
        let long = format!("<body>{}</body>{}", "xy".repeat(100_000), regions(&many));
        assert_eq!(body(&message(&long)).as_deref(), Some(&*"y".repeat(LONGEST_TEXT)));
    }
}
