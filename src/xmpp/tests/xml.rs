//! Generated XML, well-formed and broken: the framer, both paths of the parser and two other XML parsers must agree.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test: panicking is how it fails"
)]

#[path = "invariants/mod.rs"]
mod invariants;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rookery_xmpp::element::{Element, Node};
use rookery_xmpp::limits::Limits;

use invariants::{HEADER, LIMITS, both_paths_agree, cuts_do_not_matter};

/// A tree in no parser's own words.
#[derive(Debug, PartialEq, Eq)]
enum Tree {
    Element { name: (String, String), attrs: BTreeSet<(String, String, String)>, inside: Vec<Self> },
    Text(String),
}

impl Tree {
    fn text(inside: &mut Vec<Self>, text: &str) {
        match inside.last_mut() {
            _ if text.is_empty() => {}
            Some(Self::Text(last)) => last.push_str(text),
            _ => inside.push(Self::Text(text.to_owned())),
        }
    }

    /// The child elements, without the text beside them: that of a stanza or a stream says nothing.
    fn elements(self) -> Vec<Self> {
        match self {
            Self::Element { inside, .. } => {
                inside.into_iter().filter(|tree| matches!(tree, Self::Element { .. })).collect()
            }
            Self::Text(_) => vec![],
        }
    }
}

fn ours(element: &Element) -> Tree {
    let mut inside = Vec::new();
    for node in element.nodes() {
        match node {
            Node::Element(child) => inside.push(ours(child)),
            Node::Text(text) => Tree::text(&mut inside, text),
        }
    }
    Tree::Element {
        name: (element.ns().to_owned(), element.name().to_owned()),
        attrs: element
            .attributes()
            .map(|(ns, name, value)| (ns.to_owned(), name.to_owned(), value.to_owned()))
            .collect(),
        inside,
    }
}

fn roxmltree(text: &str) -> Tree {
    fn convert(node: roxmltree::Node<'_, '_>) -> Tree {
        let mut inside = Vec::new();
        for child in node.children() {
            match child.text() {
                Some(text) if child.is_text() => Tree::text(&mut inside, text),
                _ => inside.push(convert(child)),
            }
        }
        Tree::Element {
            name: (node.tag_name().namespace().unwrap_or_default().to_owned(), node.tag_name().name().to_owned()),
            attrs: node
                .attributes()
                .map(|a| (a.namespace().unwrap_or_default().to_owned(), a.name().to_owned(), a.value().to_owned()))
                .collect(),
            inside,
        }
    }
    convert(roxmltree::Document::parse(text).unwrap_or_else(|e| panic!("roxmltree refuses {text}: {e}")).root_element())
}

fn xml_rs(text: &str) -> Tree {
    use xml::reader::{ParserConfig, XmlEvent};
    let config = ParserConfig::new().cdata_to_characters(true).whitespace_to_characters(true).trim_whitespace(false);
    let mut open: Vec<Tree> = Vec::new();
    let mut root = None;
    for event in config.create_reader(text.as_bytes()) {
        match event.unwrap_or_else(|e| panic!("xml-rs refuses {text}: {e}")) {
            XmlEvent::StartElement { name, attributes, .. } => open.push(Tree::Element {
                name: (name.namespace.unwrap_or_default(), name.local_name),
                attrs: attributes
                    .into_iter()
                    .map(|a| (a.name.namespace.unwrap_or_default(), a.name.local_name, a.value))
                    .collect(),
                inside: vec![],
            }),
            XmlEvent::EndElement { .. } => {
                let done = open.pop();
                match open.last_mut() {
                    Some(Tree::Element { inside, .. }) => inside.extend(done),
                    _ => root = done,
                }
            }
            XmlEvent::Characters(text) | XmlEvent::Whitespace(text) => {
                if let Some(Tree::Element { inside, .. }) = open.last_mut() {
                    Tree::text(inside, &text);
                }
            }
            _ => {}
        }
    }
    root.expect("an element")
}

/// All that is to be checked of one top-level element; says whether it was accepted.
fn check(input: &str) -> bool {
    let Some((read, written)) = both_paths_agree(input.as_bytes()) else {
        return false;
    };
    let around = format!("{HEADER}{input}</stream:stream>");
    for parser in [roxmltree, xml_rs] {
        // What the sender said, what we read and what recipients will read.
        let sent: Vec<Tree> = parser(&around).elements();
        assert_eq!(sent.len(), 1, "{input}");
        let sent: Vec<Tree> = sent.into_iter().flat_map(Tree::elements).collect();
        assert_eq!(sent, ours(&read).elements(), "{input}");
        let received = parser(&written);
        assert_eq!(received.elements(), ours(&read).elements(), "{input} as {written}");
    }
    true
}

fn text() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "x",
        "a b",
        " ",
        "\n",
        "&amp;",
        "&lt;",
        "&gt;",
        "&apos;",
        "&quot;",
        "&#10;",
        "&#x20AC;",
        "&#13;",
        "&#9;",
        ">",
        "'",
        "\"",
        "é€𝄞",
        "]]",
        "\u{7F}",
        "\u{FEFF}",
        "\u{FFFD}",
        "=",
        "/",
        "{}|",
        "%20",
        "xmlns",
    ]);
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn attribute() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b", "id", "by", "xml:lang", "d:a", "p:a", "p:b", "q:a", "xmlnsx", "é"]);
    let declared = select(vec![
        " xmlns='urn:x'",
        " xmlns=\"urn:y\"",
        " xmlns:p='urn:x'",
        " xmlns:p='urn:p'",
        "\nxmlns:q = 'urn:x'",
        " xmlns=''",
        " xmlns='jabber:client'",
        " xmlns:q='jabber:server'",
        " xmlns='urn:a&amp;b'",
        " xmlns:q='urn:&#x78;'",
        " xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    ]);
    prop_oneof![
        (name, text(), any::<bool>(), select(vec!["=", " =", "= ", "\n=\t"])).prop_map(
            |(name, value, single, equals)| {
                let quote = if single { '\'' } else { '"' };
                format!(" {name}{equals}{quote}{}{quote}", value.replace(quote, ""))
            }
        ),
        declared.prop_map(str::to_owned),
    ]
}

fn element() -> impl Strategy<Value = String> {
    let tag = || {
        let name = select(vec!["a", "body", "x", "stanza-id", "d:x", "p:x", "p:y", "c:body", "q:z", "message", "é"]);
        (name, proptest::collection::vec(attribute(), 0..3), select(vec!["", " ", "\n"]))
    };
    let leaf = tag().prop_map(|(name, attrs, space)| format!("<{name}{}{space}/>", attrs.concat()));
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let inside = prop_oneof![
            4 => inner,
            3 => text(),
            1 => select(vec!["<![CDATA[]]>", "<![CDATA[<x>&amp;]]]>", "<![CDATA[ ]] >]]>"]).prop_map(str::to_owned),
        ];
        (tag(), proptest::collection::vec(inside, 0..4)).prop_map(|((name, attrs, space), inside)| {
            format!("<{name}{}{space}>{}</{name}{space}>", attrs.concat(), inside.concat())
        })
    })
}

fn stanza() -> impl Strategy<Value = String> {
    let tag = select(vec![
        ("message", " to='a@b' type='chat'"),
        ("message", "\nxmlns='jabber:client'"),
        ("message", " xmlns:p='urn:p' xmlns:q='urn:q'"),
        ("c:message", " xmlns:p='urn:p'"),
        ("c:message", " xmlns='urn:p' xmlns:p='urn:x'"),
        ("presence", " xml:lang='fr' p:x='1' xmlns:p='urn:p'"),
        ("iq", " type='get' id='&lt;1'"),
        ("iq", " type='bad' to='@'"),
        ("message", ""),
    ]);
    let around = select(vec!["", "\n", " "]);
    (tag, proptest::collection::vec(element(), 0..4), around).prop_map(|((name, attrs), inside, around)| {
        format!("<{name}{attrs}>{around}{}{around}</{name}>", inside.join(around))
    })
}

/// Replaces a piece of `text` by `with`.
fn damage(text: &str, at: Index, length: usize, with: &str) -> String {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let from = at.index(places.len());
    let to = (from + length).min(places.len() - 1);
    format!("{}{with}{}", &text[..places[from]], &text[places[to]..])
}

fn splinter() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "<",
        ">",
        "/",
        "'",
        "\"",
        "&",
        ";",
        "=",
        ":",
        " ",
        "]]>",
        "<!--x-->",
        "<?x?>",
        "<!DOCTYPE x>",
        "&x;",
        "&#0;",
        "&#xD800;",
        "\u{1}",
        "\u{FFFE}",
        "</message>",
        "<message>",
        "<a>",
        "</a>",
        "<p:a/>",
        "xmlns:p='urn:x'",
        "xmlns=''",
        " a='1'",
        "<![CDATA[",
        "|",
        "{",
        "\n",
        "\u{FEFF}",
        "&amp",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b7_all_parsers_agree_on_what_is_accepted(input in stanza()) {
        check(&input);
    }

    #[test]
    fn b7_all_parsers_agree_on_what_was_damaged(input in stanza(), at: Index, length in 0..3_usize, with in splinter()) {
        check(&damage(&input, at, length, with));
    }

    #[test]
    fn b3_cuts_do_not_matter(
        input in proptest::collection::vec(stanza(), 0..6), at: Index, length in 0..3_usize, with in splinter(),
        cuts in proptest::collection::vec(1..40_usize, 1..5), declared: bool, large: bool,
    ) {
        let declaration = if declared { "<?xml version='1.0'?>\n" } else { "" };
        let input = format!("{declaration}{HEADER}{}</stream:stream>", input.join("\n"));
        let limits = if large { Limits::c2s() } else { LIMITS };
        cuts_do_not_matter(limits, input.as_bytes(), &cuts);
        cuts_do_not_matter(limits, damage(&input, at, length, with).as_bytes(), &cuts);
        cuts_do_not_matter(limits, damage(&input, at, length, with).as_bytes(), &[1]);
    }
}

#[test]
fn b7_what_is_legal_is_accepted() {
    // Lest the properties above hold for nothing.
    for input in [
        "<message/>",
        "<message to='a@b'><body>x &amp; y</body><d:x a='1' d:a='2'/></message>",
        "<c:message xmlns:p='urn:p'><p:x p:a=\"'\">\r\n</p:x></c:message>",
        "<message><a xmlns='urn:a&amp;b'><b xmlns=''/></a><![CDATA[x]]></message>",
        "<iq type='bad' to='@'/>",
        "<presence><x xmlns='urn:x'><![CDATA[<&>]]></x></presence>",
        "<message><x a='a\tb\nc'/></message>",
    ] {
        assert!(check(input), "{input}");
    }
    for input in ["", "<x/>", "<message>", "<message><p:x/></message>"] {
        assert!(!check(input), "{input}");
    }
}
