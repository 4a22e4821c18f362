//! Looking at stanzas and changing them, both as bytes and as elements.

use super::*;
use crate::error::{Condition, StanzaError};

const MESSAGE: &str = "<message type='chat' from='romeo@example.org/1' to='juliet@example.org' id='1'><body>a&lt;b</body>\n\
    <s:stanza-id xmlns:s='urn:xmpp:sid:0' id='f' by='example.org'/><active xmlns='http://jabber.org/protocol/chatstates'/>\
    <stanza-id id='g' by='other.org' xmlns=\"urn:xmpp:sid:0\"><stanza-id/></stanza-id></message>";

/// The message as bytes and as elements.
fn both() -> [Stanza; 2] {
    let raw: Stanza = MESSAGE.parse().unwrap();
    let mut edited = raw.clone();
    edited.children_mut();
    assert!(raw.is_raw() && !edited.is_raw());
    [raw, edited]
}

fn written(stanza: &Stanza) -> String {
    let mut out = Vec::new();
    stanza.write(&mut out, None);
    // What is escaped is longer on the wire than here.
    let (size, len, out) = (stanza.size(), out.len(), String::from_utf8(out).unwrap());
    assert!(size == len || (size < len && out.contains(['&', '\u{FFFD}'])), "{size} {out}");
    out
}

#[test]
fn what_is_written_once_for_many_is_what_each_would_be_written() {
    let to = Jid::new("mercutio@example.org/o'er").unwrap();
    for mut stanza in both().into_iter().chain(["<presence id='2' xml:lang='en'/>".parse().unwrap()]) {
        stanza.head.to = None;
        let (mut one, mut other) = (Vec::new(), Vec::new());
        stanza.write(&mut one, Some(&to));
        stanza.written().write(&mut other, &to);
        assert_eq!(String::from_utf8(other).unwrap(), String::from_utf8(one).unwrap());
        let (size, without_to) = (stanza.size(), stanza.written().size());
        assert!(size == without_to || (size < without_to && !stanza.is_raw()), "{size} {without_to}");
    }
}

#[test]
fn stanzas_are_small() {
    assert!(size_of::<Stanza>() <= 104, "{}", size_of::<Stanza>());
}

#[test]
fn names_are_known_without_parsing() {
    for stanza in both() {
        assert_eq!(stanza.payload_name(), Some((ns::CLIENT, "body")));
        assert_eq!(stanza.child_count(), 4);
        assert!(
            stanza.has("body", ns::CLIENT) && stanza.has("stanza-id", ns::SID) && stanza.has("active", ns::CHATSTATES)
        );
        assert!(!stanza.has("body", ns::SID) && !stanza.has("stanza-id", ns::CLIENT));
        assert!(stanza.has_ns(ns::SID) && !stanza.has_ns("urn:x"));
        assert_eq!(stanza.find("stanza-id", ns::SID).and_then(|e| e.get("id")), Some("f"));
        assert_eq!(stanza.payload().map(Element::content).as_deref(), Some("a<b"));
        assert!(stanza.find("x", ns::CLIENT).is_none());
    }
}

#[test]
fn c3_server_owned_elements_are_stripped_in_every_spelling() {
    for mut stanza in both() {
        let raw = stanza.is_raw();
        assert_eq!(stanza.strip(&[(ns::MAM, "result"), (ns::CARBONS, "received")]), 0);
        assert_eq!(stanza.strip(&[(ns::MAM, "result"), (ns::SID, "stanza-id")]), 2);
        assert_eq!(stanza.is_raw(), raw);
        assert!(!stanza.has_ns(ns::SID));
        assert_eq!(stanza.find("active", ns::CHATSTATES).map(Element::name), Some("active"));
        assert_eq!(
            written(&stanza),
            "<message type='chat' to='juliet@example.org' from='romeo@example.org/1' id='1'><body>a&lt;b</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        );
        assert_eq!(stanza.strip(&[(ns::CHATSTATES, "active"), (ns::CLIENT, "body")]), 2);
        assert_eq!(stanza.child_count(), 0);
        assert!(written(&stanza).ends_with("id='1'/>"));
    }
}

#[test]
fn c3_only_those_are_stripped_that_claim_to_be_ours() {
    for mut stanza in both() {
        let ours = |e: &Element| e.is("stanza-id", ns::SID) && e.get("by") == Some("example.org");
        assert_eq!(stanza.retain_elements(|e| !ours(e)), 1);
        assert_eq!(stanza.retain_elements(|e| !ours(e)), 0);
        assert_eq!(stanza.find("stanza-id", ns::SID).and_then(|e| e.get("by")), Some("other.org"));
        assert_eq!(stanza.retain(|_, name| name == "body"), 2);
        assert_eq!(stanza.payload_name(), Some((ns::CLIENT, "body")));
    }
}

#[test]
fn a_leaf_is_appended_as_if_it_had_been_built() {
    for stanza in both().into_iter().chain([Stanza::message(MessageType::Chat)]) {
        let (mut one, mut other) = (stanza.clone(), stanza);
        one.append_leaf("stanza-id", ns::SID, &[("by", "o'neill@example.org"), ("id", "7")]);
        other.append(Element::new("stanza-id", ns::SID).attr("by", "o'neill@example.org").attr("id", "7"));
        assert_eq!(written(&one), written(&other));
        assert_eq!(one, other);
        assert!(one.has("stanza-id", ns::SID));
    }
}

#[test]
fn what_is_appended_is_found_and_bytes_stay_bytes() {
    for mut stanza in both() {
        let raw = stanza.is_raw();
        let before = stanza.clone();
        stanza.append(Element::new("stanza-id", "urn:new").attr("by", "<&>"));
        stanza.append(Element::new("subject", ns::CLIENT).text("x"));
        stanza.append(Element::new("none", ""));
        assert_eq!((stanza.is_raw(), stanza.child_count(), before.child_count()), (raw, 7, 4));
        assert!(
            stanza.has("body", ns::CLIENT)
                && stanza.has("stanza-id", "urn:new")
                && stanza.has("subject", ns::CLIENT)
                && stanza.has("none", "")
        );
        assert_eq!(stanza.find("stanza-id", "urn:new").and_then(|e| e.get("by")), Some("<&>"));
        assert_eq!(stanza.strip(&[("urn:new", "stanza-id")]), 1);
        assert_eq!(stanza.find("subject", ns::CLIENT).map(Element::content).as_deref(), Some("x"));
        assert!(written(&stanza).ends_with("<subject>x</subject><none xmlns=''/></message>"));
        let again: Stanza = written(&stanza).parse().unwrap();
        assert_eq!(again, stanza);
    }
    let mut empty = Stanza::presence(PresenceType::Available);
    empty.append(Element::new("x", "urn:x"));
    assert_eq!(written(&empty), "<presence><x xmlns='urn:x'/></presence>");
    // A namespace that is not written as it reads cannot be pointed at.
    empty.append(Element::new("x", "urn:'x'"));
    empty.append(Element::new("lang", ns::XML));
    assert!(empty.has("x", "urn:'x'") && empty.has("lang", ns::XML) && empty.has("x", "urn:x"));
}

#[test]
fn clones_share_until_one_is_changed() {
    let [raw, edited] = both();
    for stanza in [raw, edited] {
        let mut copy = stanza.clone();
        copy.children_mut().clear();
        assert_eq!((copy.child_count(), stanza.child_count()), (0, 4));
        assert_eq!(copy.payload_name(), None);
    }
}

#[test]
fn the_recipient_may_differ_per_copy() {
    let stanza =
        Stanza::message(MessageType::Groupchat).from("room@muc.example.org/a&b".parse::<Jid>().unwrap()).id("'1\n");
    let to: Jid = "romeo@example.org/1".parse().unwrap();
    let mut out = Vec::new();
    stanza.write(&mut out, Some(&to));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<message type='groupchat' to='romeo@example.org/1' from='room@muc.example.org/a&amp;b' id='&apos;1&#10;'/>"
    );
    assert!(stanza.to_xml().starts_with("<message xmlns='jabber:client' type='groupchat' from="));
}

#[test]
fn results_and_errors_go_back() {
    let get: Stanza =
        "<iq type='get' id='1' from='romeo@example.org/1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>"
            .parse()
            .unwrap();
    assert_eq!(written(&get.result(None)), "<iq type='result' to='romeo@example.org/1' from='example.org' id='1'/>");
    let result = get.result(Some(Element::new("x", "urn:x")));
    assert!(written(&result).ends_with("<x xmlns='urn:x'/></iq>"));
    let error = StanzaError::new(Condition::ServiceUnavailable);
    let reply = get.error_reply(&error).unwrap();
    assert_eq!(
        written(&reply),
        "<iq type='error' to='romeo@example.org/1' from='example.org' id='1'><ping xmlns='urn:xmpp:ping'/>\
         <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
    assert_eq!(reply.error_reply(&error), None);
    assert_eq!(result.error_reply(&error), None);
    // What is large does not come back.
    let large = Stanza::message(MessageType::Chat).child(Element::new("body", ns::CLIENT).text("x".repeat(10_000)));
    let reply = large.error_reply(&error).unwrap();
    assert_eq!((reply.head.kind, reply.child_count()), (Kind::Message(MessageType::Error), 1));
}

#[test]
fn forwarding_keeps_the_whole() {
    let [raw, edited] = both();
    assert_eq!(raw.to_element(), edited.to_element());
    let forwarded = Element::new("forwarded", ns::FORWARD).child(raw.to_element());
    let xml = forwarded.to_xml();
    assert!(xml.starts_with("<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' type='chat'"));
    assert_eq!(xml.parse::<Element>().unwrap(), forwarded);
}

#[test]
fn b8_text_from_elsewhere_is_written_legally() {
    let stanza = Stanza::message(MessageType::Chat)
        .id("\u{1}\u{FFFF}")
        .child(Element::new("bo dy", ns::CLIENT).attr("a\0b", "\u{2}").text("\u{0}\u{FFFE}"));
    let again: Stanza = written(&stanza).parse().unwrap();
    assert_eq!(again.head.id.as_deref(), Some("\u{FFFD}\u{FFFD}"));
    assert_eq!(again.children()[0].content(), "\u{FFFD}\u{FFFD}");
}

#[test]
fn a_stanza_is_forwarded_as_it_is() {
    let around = |ns: &'static str| {
        [
            Element::new("result", ns).attr("id", "1"),
            Element::new("forwarded", ns::FORWARD).child(Element::new("delay", ns::DELAY)).text("t<"),
        ]
    };
    for stanza in both() {
        for inner in [stanza.clone(), Stanza::message(MessageType::Normal), stanza.child(Element::new("x", "urn:x"))] {
            let outer = Stanza::message(MessageType::Chat).around(&around("urn:r"), &inner);
            assert!(outer.is_raw() && outer.has("result", "urn:r") && outer.child_count() == 1);
            assert_eq!(
                written(&outer),
                format!(
                    "<message type='chat'><result xmlns='urn:r' id='1'><forwarded xmlns='urn:xmpp:forward:0'>\
                     <delay xmlns='urn:xmpp:delay'/>t&lt;{}</forwarded></result></message>",
                    inner.to_xml()
                )
            );
            // A namespace that has to be escaped is not found in bytes.
            let odd = Stanza::message(MessageType::Chat).around(&around("urn:<"), &inner);
            assert!(!odd.is_raw() && odd.has("result", "urn:<"));
            for (outer, ns) in [(&outer, "urn:r"), (&odd, "urn:<")] {
                let forwarded = outer.find("result", ns).and_then(|result| result.find("forwarded", ns::FORWARD));
                let message = forwarded.and_then(|forwarded| forwarded.find("message", ns::CLIENT));
                assert!(message.is_some_and(|message| message.elements().eq(inner.children())));
            }
            let mut stripped = outer.clone();
            assert_eq!(stripped.strip(&[("urn:r", "result")]), 1);
            assert_eq!(written(&stripped), "<message type='chat'/>");
        }
    }
}
