//! Stanzas in, stanzas out, as pairs of XML text.

use super::*;
use crate::framer::{Frame, Framer};
use crate::limits::Limits;

/// A stream of a client that declares more than it needs.
fn stream() -> Namespaces {
    let header = "<stream:stream xml:lang='de' xmlns='jabber:client' xmlns:d='urn:xmpp:delay' xmlns:c='jabber:client'
        xmlns:stream='http://etherx.jabber.org/streams'>";
    let Ok(Some(Frame::Header(header))) = Framer::new(Limits::c2s()).next(&mut header.as_bytes()) else {
        panic!("no header")
    };
    header.namespaces
}

fn read(text: &str, stream: &Namespaces) -> Result<Parsed, StreamError> {
    parse(Bytes::copy_from_slice(text.as_bytes()), stream)
}

fn stanza(text: &str, stream: &Namespaces) -> Stanza {
    match read(text, stream) {
        Ok(Parsed::Stanza(stanza)) => stanza,
        other => panic!("{text}: {other:?}"),
    }
}

/// `input` travels as bytes or not, and is written as `output`.
fn check(is_raw: bool, input: &str, output: &str) {
    check_in(&stream(), is_raw, input, output);
}

fn check_in(stream: &Namespaces, is_raw: bool, input: &str, output: &str) {
    let stanza = stanza(input, stream);
    assert_eq!(stanza.is_raw(), is_raw, "{input}");
    let mut out = Vec::new();
    stanza.write(&mut out, None);
    assert_eq!(String::from_utf8(out).unwrap(), output);
    // What was written means the same, by either way.
    let again: Stanza = output.parse().unwrap();
    assert_eq!(again, stanza);
    assert_eq!(again.to_element(), stanza.to_element());
}

fn condition(text: &str) -> StreamCondition {
    let text = format!("<message>{text}</message>");
    read(&text, &stream()).expect_err(&text).condition
}

fn refusal(text: &str) -> (Condition, Option<Stanza>) {
    match read(text, &stream()) {
        Ok(Parsed::Invalid { head_for_reply, error }) => {
            (error.condition, head_for_reply.and_then(|stanza| stanza.error_reply(&error)))
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn plain_bytes_stay_as_they_are() {
    check(
        true,
        "<message\n type=\"chat\" to='Bob@Example.org' >\n<body  >a &amp; &#98;\r\n</body ><x xmlns=\"urn:x\"  a='1'><y/></x>\n</message>",
        "<message type='chat' to='bob@example.org' xml:lang='de'>\n<body  >a &amp; &#98;\r\n</body ><x xmlns=\"urn:x\"  a='1'><y/></x>\n</message>",
    );
    check(true, "<presence xml:lang='en'/>", "<presence xml:lang='en'/>");
    check(true, "<presence id='&lt;1&gt;'></presence>", "<presence id='&lt;1&gt;' xml:lang='de'/>");
    check(
        true,
        "<message><p:x xmlns:p='urn:x' p:a='1' xml:lang='fr'><p:y/></p:x></message>",
        "<message xml:lang='de'><p:x xmlns:p='urn:x' p:a='1' xml:lang='fr'><p:y/></p:x></message>",
    );
    check(true, "<message><x xmlns=''/></message>", "<message xml:lang='de'><x xmlns=''/></message>");
    check(
        true,
        "<message xmlns='jabber:client'><body>x</body></message>",
        "<message xml:lang='de'><body>x</body></message>",
    );
}

#[test]
fn prefixes_from_outside_are_written_out() {
    check(
        false,
        "<message><d:delay stamp='x'/></message>",
        "<message xml:lang='de'><delay xmlns='urn:xmpp:delay' stamp='x'/></message>",
    );
    check(
        false,
        "<message xmlns:p='urn:p'><body p:a='&#10;'>x</body></message>",
        "<message xml:lang='de'><body xmlns:ns0='urn:p' ns0:a='&#10;'>x</body></message>",
    );
    check(
        false,
        "<message><c:body>x<d:x d:y='1'/></c:body></message>",
        "<message xml:lang='de'><body>x<x xmlns='urn:xmpp:delay' xmlns:ns0='urn:xmpp:delay' ns0:y='1'/></body></message>",
    );
    check(
        false,
        "<c:message xmlns='urn:other'><c:body>x</c:body><z/></c:message>",
        "<message xml:lang='de'><body>x</body><z xmlns='urn:other'/></message>",
    );
    // Declared inside as well: the inner one counts.
    check(
        true,
        "<message><d:delay xmlns:d='urn:other'/></message>",
        "<message xml:lang='de'><d:delay xmlns:d='urn:other'/></message>",
    );
}

#[test]
fn stanza_namespaces_inside_are_written_anew() {
    check(
        false,
        "<message><body xmlns='jabber:client'>x</body></message>",
        "<message xml:lang='de'><body>x</body></message>",
    );
    check(
        false,
        "<message><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body/></message></f></message>",
        "<message xml:lang='de'><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body/></message></f></message>",
    );
    check(
        false,
        "<message><x:body xmlns:x='jabber:client'>x</x:body></message>",
        "<message xml:lang='de'><body>x</body></message>",
    );
}

#[test]
fn cdata_and_text_beside_the_children_are_written_anew() {
    check(
        false,
        "<message><body>a<![CDATA[<b>&amp;]]>c</body></message>",
        "<message xml:lang='de'><body>a&lt;b&gt;&amp;amp;c</body></message>",
    );
    check(false, "<message>text<body/>&amp;<![CDATA[x]]></message>", "<message xml:lang='de'><body/></message>");
    check(true, "<message>text</message>", "<message xml:lang='de'/>");
}

#[test]
fn streams_of_servers_and_without_a_stream_are_the_same_inside() {
    let servers = Namespaces::content_only(ns::SERVER);
    check_in(&servers, true, "<message><body>x</body></message>", "<message><body>x</body></message>");
    check_in(
        &servers,
        false,
        "<message><body xmlns='jabber:server'>x</body><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>",
        "<message><body>x</body><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>",
    );
    let websocket = Namespaces::none();
    check_in(
        &websocket,
        true,
        "<message xmlns='jabber:client'><body>x</body></message>",
        "<message><body>x</body></message>",
    );
    // In a stream of clients this is no stanza, nor is a stanza without namespace in a WebSocket frame.
    assert!(matches!(read("<message xmlns='jabber:server'/>", &stream()), Ok(Parsed::Nonza(_))));
    assert!(matches!(read("<message/>", &websocket), Ok(Parsed::Nonza(_))));
}

#[test]
fn other_elements_are_read_as_they_are() {
    let Ok(Parsed::Nonza(nonza)) =
        read("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth>", &stream())
    else {
        panic!("not a nonza")
    };
    assert!(nonza.is("auth", ns::SASL));
    assert_eq!((nonza.get("mechanism"), nonza.content()), (Some("PLAIN"), "AA==".to_owned()));
    let Ok(Parsed::Nonza(nonza)) = read("<stream:error><d:x/></stream:error>", &stream()) else {
        panic!("not a nonza")
    };
    assert_eq!(nonza.to_xml(), "<error xmlns='http://etherx.jabber.org/streams'><x xmlns='urn:xmpp:delay'/></error>");
}

#[test]
fn b1_entities_comments_and_instructions_are_restricted() {
    for bad in ["&lol;", "<a b='&lol;'/>", "<!-- -->", "<?x?>", "<a><!----></a>"] {
        assert_eq!(condition(bad), StreamCondition::RestrictedXml, "{bad}");
    }
    for bad in ["<!DOCTYPE m [<!ENTITY a 'aaaa'>]><m>&a;</m>", "<?xml version='1.0'?><m/>", "<!-- --><m/>"] {
        assert!(read(bad, &stream()).is_err(), "{bad}");
    }
}

#[test]
fn b4_work_grows_with_size_alone() {
    // 64 declarations in force, and as many prefixed elements as fit: the worst that the limits let through.
    let declarations: String = (0..32).map(|n| format!(" xmlns:p{n}='urn:{n}'")).collect();
    let deep = |inside: String| format!("<message><a{declarations}><a{declarations}>{inside}</a></a></message>");
    let attributes: String = (0..64).map(|n| format!(" a{n:02}=''")).collect();
    let text = deep(format!("<p0:x{attributes}/>").repeat(500));
    assert!(stanza(&text, &stream()).is_raw());
    let too_many = format!("{}{}", format!("<a{declarations}>").repeat(9), "</a>".repeat(9));
    assert_eq!(condition(&too_many), StreamCondition::PolicyViolation);
}

#[test]
fn b5_depth_is_no_recursion() {
    let deep = format!("<message>{}{}</message>", "<a>".repeat(50_000), "</a>".repeat(50_000));
    let stanza = stanza(&deep, &stream());
    assert_eq!(stanza.children().len(), 1);
    assert_eq!(stanza.clone().children_mut().len(), 1);
}

#[test]
fn b6_names_are_names_and_namespaces_are_uris() {
    for bad in [
        "<a\u{1}b/>",
        "<a|b/>",
        "<a{b/>",
        "<{urn:x}b/>",
        "<1/>",
        "<-a/>",
        "<a:b:c xmlns:a='u'/>",
        "<:a/>",
        "<a:/>",
        "<a b|c=''/>",
        "<a\u{FEFF}/>",
        "<\u{D7}/>",
    ] {
        assert_eq!(condition(bad), StreamCondition::NotWellFormed, "{bad}");
    }
    for bad in [
        "<a xmlns='urn:x&#10;b'/>",
        "<a xmlns='urn:x}b'/>",
        "<a xmlns='urn:x b'/>",
        "<p:a xmlns:p='urn|x'/>",
        "<a xmlns='urn:x\nb'/>",
    ] {
        assert_eq!(condition(bad), StreamCondition::BadFormat, "{bad}");
    }
    let parsed = stanza("<message><a xmlns='urn:x'/><xa xmlns='urn:'/></message>", &stream());
    assert!(parsed.has("a", "urn:x") && parsed.has("xa", "urn:") && !parsed.has("a", "urn:"));
}

#[test]
fn b7_what_parsers_may_differ_on_is_not_passed_on() {
    // Each of these is more than one thing to a lax parser.
    for bad in [
        "</message><message>",
        "<a></b>",
        "<a></A>",
        "<a>",
        "</a>",
        "<a></a b='1'>",
        "<a b='1' b='2'/>",
        "<a b='<'/>",
        "<a b='1'c='2'/>",
        "]]>",
        "<a b='&'/>",
        "&",
        "&amp",
        "& amp;",
        "<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>",
        "<a xmlns='u' xmlns='v'/>",
        "<a xml:lang='a' xml:lang='b'/>",
        "<a xmlns:xml='urn:x'/>",
        "<a xmlns:xmlns='urn:x'/>",
        "<xmlns:a/>",
        "<a xmlns:p=''/>",
        "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
        "<a/ >",
        "< a/>",
        "<a b=1/>",
        "<a b/>",
    ] {
        let condition = condition(bad);
        assert!(
            matches!(condition, StreamCondition::NotWellFormed | StreamCondition::BadNamespacePrefix),
            "{bad}: {condition}"
        );
    }
    for bad in ["<p:a/>", "<a p:b=''/>", "<a><b xmlns:p='u'/><p:c/></a>"] {
        assert_eq!(condition(bad), StreamCondition::BadNamespacePrefix, "{bad}");
    }
    for bad in [
        "",
        " ",
        "x",
        "<message/><message/>",
        "<message/>x",
        " <message/>",
        "\u{FEFF}<message/>",
        "<message/>\n",
        "<message>",
    ] {
        assert!(read(bad, &stream()).is_err(), "{bad}");
    }
    for bad in [&b"\xC0\xBC"[..], b"\xED\xA0\x80", b"\xF5\x80\x80\x80", b"\xE2\x82", b"\xFF", b"\x80"] {
        let whole = [b"<message><body>", bad, b"</body></message>"].concat();
        assert!(parse(whole.into(), &stream()).is_err(), "{bad:?}");
    }
}

#[test]
fn b8_characters_that_xml_cannot_hold_end_the_senders_stream() {
    for bad in [
        "\0",
        "\u{1}",
        "\u{B}",
        "\u{1F}",
        "\u{FFFE}",
        "\u{FFFF}",
        "&#0;",
        "&#1;",
        "&#x1F;",
        "&#xFFFE;",
        "&#xFFFF;",
        "&#xD800;",
        "&#xDFFF;",
        "&#x110000;",
        "&#99999999999;",
    ] {
        assert_eq!(condition(bad), StreamCondition::NotWellFormed, "{bad:?}");
        assert_eq!(condition(&format!("<a b='{bad}'/>")), StreamCondition::NotWellFormed, "{bad:?}");
    }
    for good in ["\u{7F}", "\u{85}", "\u{FEFF}", "\u{FFFD}", "&#x7F;", "&#9;", "&#xE000;", "&#x10FFFF;"] {
        assert!(stanza(&format!("<message><body>{good}</body></message>"), &stream()).is_raw(), "{good:?}");
    }
}

#[test]
fn malformed_start_tags_are_answered() {
    let (condition, reply) =
        refusal("<iq type='get' id='1' to='a@@b' from='juliet@example.org'><x xmlns='urn:x'/></iq>");
    assert_eq!(condition, Condition::JidMalformed);
    let reply = reply.unwrap();
    assert_eq!((reply.head.kind, reply.head.id.as_deref()), (Kind::Iq(IqType::Error), Some("1")));
    assert_eq!(reply.head.to, Some("juliet@example.org".parse().unwrap()));
    assert!(reply.has("error", ns::CLIENT) && reply.has("x", "urn:x"));

    for (bad, answered) in [
        ("<iq type='fetch' id='1'><x/></iq>", true),
        ("<iq id='1'><x/></iq>", true),
        ("<iq type='get'><x/></iq>", true),
        ("<iq type='get' id='1'/>", true),
        ("<iq type='set' id='1'><x/><y/></iq>", true),
        ("<iq type='result' id='1'><x/><y/></iq>", false),
        ("<iq type='result'/>", false),
        ("<iq type='error'/>", false),
        ("<presence type='available'/>", true),
        ("<presence type=''/>", true),
    ] {
        let (condition, reply) = refusal(bad);
        assert_eq!((condition, reply.is_some()), (Condition::BadRequest, answered), "{bad}");
    }
    let (condition, reply) = refusal("<message type='error' to='@'/>");
    assert_eq!((condition, reply), (Condition::JidMalformed, None));
}

#[test]
fn unknown_message_types_are_normal() {
    let parsed = stanza("<message type='whisper' unknown='1'/>", &stream());
    assert_eq!(parsed.head.kind, Kind::Message(MessageType::Normal));
    check(true, "<message type='normal'/>", "<message xml:lang='de'/>");
}

#[test]
fn text_reads_as_xml_has_it() {
    let parsed = stanza("<message><body a='x\r\ny\tz&#13;'>a\r\nb\rc&#13;&#xA;&lt;d&apos;</body></message>", &stream());
    let body = parsed.payload().unwrap();
    assert_eq!(body.content(), "a\nb\nc\r\n<d'");
    assert_eq!(body.get("a"), Some("x y z\r"));
    assert_eq!(body.nodes().len(), 1);
    check(
        false,
        "<message><body a='&#9;&quot;'>a&#13;b<![CDATA[]]></body></message>",
        "<message xml:lang='de'><body a='&#9;&quot;'>a&#13;b</body></message>",
    );
}
