//! What must hold for any input: checked on generated XML by `xml.rs` and on arbitrary bytes by the fuzz targets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test helper: panicking is how it fails")]

use bytes::Bytes;
use rookery_xmpp::element::Element;
use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::header::{Namespaces, StreamHeader};
use rookery_xmpp::limits::Limits;
use rookery_xmpp::parser::{Parsed, parse};
use rookery_xmpp::stanza::Stanza;

/// Small enough for generated input to reach them.
pub(crate) const LIMITS: Limits = Limits {
    element_bytes: 400,
    stream_bytes: Some(3000),
    depth: 5,
    elements: 12,
    attributes: 4,
    namespaces: 3,
    name_bytes: 24,
    attr_value_bytes: 60,
    ns_uri_bytes: 40,
};

/// A header with prefixes that stanzas may use.
pub(crate) const HEADER: &str = "<stream:stream xml:lang='en' xmlns='jabber:client' xmlns:d='urn:xmpp:delay' xmlns:c='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// What [`HEADER`] declares.
pub(crate) fn stream() -> Namespaces {
    match Framer::new(Limits::c2s()).next(&mut HEADER.as_bytes()) {
        Ok(Some(Frame::Header(header))) => header.namespaces,
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, PartialEq)]
enum Seen {
    Header(Box<StreamHeader>),
    Element(Bytes),
    Whitespace,
    End,
    Error(String),
}

/// All that a framer sees in `pieces`; neighbouring whitespace as one.
fn frames<'a>(limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let most = usize::try_from(limits.element_bytes).unwrap();
    let mut framer = Framer::new(limits);
    let mut seen = Vec::new();
    for mut piece in pieces {
        loop {
            seen.push(match framer.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(Frame::Header(header))) => Seen::Header(header),
                Ok(Some(Frame::Element(bytes))) => {
                    assert!(bytes.len() <= most);
                    Seen::Element(bytes)
                }
                Ok(Some(Frame::Whitespace)) if seen.last() == Some(&Seen::Whitespace) => continue,
                Ok(Some(Frame::Whitespace)) => Seen::Whitespace,
                Ok(Some(Frame::End)) => Seen::End,
                Err(error) => Seen::Error(error.to_string()),
            });
        }
        assert!(piece.is_empty(), "what asks for more has read all");
    }
    seen
}

/// However a stream is cut, the frames and the error are the same. Each of `cuts` is the size of a piece.
pub(crate) fn cuts_do_not_matter(limits: Limits, input: &[u8], cuts: &[usize]) {
    let mut rest = input;
    let mut cuts = cuts.iter().map(|cut| cut.max(&1)).cycle();
    let pieces = std::iter::from_fn(move || {
        let at = (*cuts.next().unwrap_or(&1)).min(rest.len());
        let (piece, behind) = rest.split_at(at);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    let mut whole = frames(limits, std::iter::once(input));
    let mut cut = frames(limits, pieces);
    // A flood of whitespace is seen before it is too much, if it comes in pieces.
    for seen in [&mut whole, &mut cut] {
        if let [.., Seen::Whitespace, Seen::Error(_)] = seen.as_slice() {
            seen.remove(seen.len() - 2);
        }
    }
    assert_eq!(whole, cut);
}

/// Whatever is accepted means the same as bytes, as elements, and after being written; and it is one element.
///
/// Returns what was read and how it is written, for other parsers to compare.
pub(crate) fn both_paths_agree(input: &[u8]) -> Option<(Element, String)> {
    let stream = stream();
    match parse(Bytes::copy_from_slice(input), &stream).ok()? {
        Parsed::Nonza(element) => {
            assert_eq!(element.to_xml().parse(), Ok(element.clone()));
            None
        }
        Parsed::Stanza(stanza) | Parsed::Invalid { head_for_reply: Some(stanza), .. } => {
            let written = stanza.to_xml();
            let read = stanza.to_element();
            assert_eq!(as_stanza(&written), read);

            // The tree builder on the sender's bytes: what the index and the kept bytes must agree with.
            let around = [HEADER.as_bytes(), input, b"</stream:stream>"].concat();
            let around = Element::parse(&around, generous()).expect("what is read alone is read in its stream");
            let children: Vec<_> = around.elements().flat_map(Element::elements).cloned().collect();
            assert_eq!(around.elements().count(), 1);
            assert_eq!(children, stanza.children());
            looks_agree(&stanza, &children);

            let again = parse(Bytes::from(written.clone().into_bytes()), &Namespaces::none());
            assert!(
                matches!(&again, Ok(Parsed::Stanza(s) | Parsed::Invalid { head_for_reply: Some(s), .. }) if *s == stanza),
                "{again:?}"
            );
            Some((read, written))
        }
        Parsed::Invalid { .. } => None,
    }
}

/// Questions to the index are answered as the elements would.
fn looks_agree(stanza: &Stanza, children: &[Element]) {
    assert_eq!(stanza.child_count(), children.len());
    assert_eq!(stanza.payload_name(), children.first().map(|e| (e.ns(), e.name())));
    for child in children {
        assert!(stanza.has(child.name(), child.ns()) && stanza.has_ns(child.ns()));
        let mut stripped = stanza.clone();
        let count = children.iter().filter(|other| other.is(child.name(), child.ns())).count();
        assert_eq!(stripped.strip(&[(child.ns(), child.name())]), count);
        assert!(!stripped.has(child.name(), child.ns()));
        stripped.append(child.clone());
        assert_eq!(stripped.children().last(), Some(child));
        assert_eq!(as_stanza(&stripped.to_xml()), stripped.to_element());
    }
}

/// The one element that `written` must be, without the whitespace between its children.
fn as_stanza(written: &str) -> Element {
    let whole = Element::parse(written.as_bytes(), generous()).expect("what is written can be read");
    let mut stanza = Element::new(whole.name().to_owned(), whole.ns().to_owned());
    for (ns, name, value) in whole.attributes() {
        let name = if ns.is_empty() { name.to_owned() } else { format!("xml:{name}") };
        stanza.set(name, value);
    }
    stanza.children(whole.elements().cloned())
}

fn generous() -> Limits {
    let large = 1 << 30;
    Limits {
        element_bytes: large,
        stream_bytes: None,
        depth: large,
        elements: large,
        attributes: large,
        namespaces: large,
        name_bytes: large,
        attr_value_bytes: large,
        ns_uri_bytes: large,
    }
}
