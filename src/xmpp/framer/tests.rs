//! Frames and refusals, each in pieces of several sizes.

use super::*;
use crate::ns;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// All frames of `input`, given in pieces of `cut` bytes, each as text.
fn frames(limits: Limits, input: &[u8], cut: usize) -> (Vec<String>, Option<StreamError>) {
    let mut framer = Framer::new(limits);
    let mut found = Vec::new();
    for mut piece in input.chunks(cut) {
        loop {
            match framer.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(Frame::Header(_))) => found.push("header".to_owned()),
                Ok(Some(Frame::Element(bytes))) => found.push(String::from_utf8_lossy(&bytes).into_owned()),
                Ok(Some(Frame::Whitespace)) if found.last().is_some_and(|last| last == " ") => {}
                Ok(Some(Frame::Whitespace)) => found.push(" ".to_owned()),
                Ok(Some(Frame::End)) => found.push("end".to_owned()),
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn check(input: &str, expected: &[&str]) {
    for cut in [1, 2, 3, 7, 1000] {
        let (found, error) = frames(Limits::c2s(), input.as_bytes(), cut);
        assert_eq!(found, expected, "in pieces of {cut}");
        assert_eq!(error, None);
    }
}

/// The error behind the header.
fn error(limits: Limits, input: &[u8]) -> StreamError {
    let whole = [HEADER.as_bytes(), input].concat();
    let (_, error) = frames(limits, &whole, 1000);
    assert_eq!(error, frames(limits, &whole, 1).1);
    assert_eq!(error, frames(limits, &whole, 3).1);
    error.expect("must be refused")
}

fn condition(input: &str) -> StreamCondition {
    error(Limits::c2s(), input.as_bytes()).condition
}

#[test]
fn elements_are_found_however_they_are_cut() {
    check(
        &format!(
            "<?xml version='1.0'?>\n{HEADER}<a/>\n \t<b x='>' y=\"/>'\"><c><![CDATA[</b>]]]></c ></b\n><d></d>  </stream:stream >ignored<"
        ),
        &["header", "<a/>", " ", "<b x='>' y=\"/>'\"><c><![CDATA[</b>]]]></c ></b\n>", "<d></d>", " ", "end"],
    );
}

#[test]
fn what_is_behind_an_element_stays_with_the_caller() {
    let mut framer = Framer::new(Limits::pre_auth());
    let mut input = HEADER.as_bytes();
    assert!(matches!(framer.next(&mut input), Ok(Some(Frame::Header(_)))));
    let mut input: &[u8] = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><injected/>";
    assert!(matches!(framer.next(&mut input), Ok(Some(Frame::Element(_)))));
    assert_eq!(input, b"<injected/>");
    framer.reset();
    let mut input = HEADER.as_bytes();
    let Ok(Some(Frame::Header(header))) = framer.next(&mut input) else { panic!("no header") };
    assert_eq!(header.namespaces.default_ns(), ns::CLIENT);
}

#[test]
fn b3_limits_are_counted_before_the_end_and_nothing_larger_is_kept() {
    let limits = Limits::c2s();
    let max = usize::try_from(limits.element_bytes).unwrap();
    let mut framer = Framer::new(limits);
    framer.next(&mut HEADER.as_bytes()).unwrap();
    let body = [b'x'; 1000];
    framer.next(&mut &b"<message><body>"[..]).unwrap();
    let mut sent = 15;
    let error = loop {
        match framer.next(&mut &body[..]) {
            Ok(_) => sent += body.len(),
            Err(error) => break error,
        }
        assert!(framer.partial.capacity() <= max);
    };
    assert!(sent <= max && sent + body.len() > max);
    assert_eq!(error.condition, StreamCondition::PolicyViolation);
    assert!(error.app.is_some_and(|app| app.is("stanza-too-big", ns::ERRORS)));
    assert_eq!(framer.partial.capacity(), 0);
    assert_eq!(framer.next(&mut &b"<a/>"[..]), Ok(None));
}

#[test]
fn b3_the_largest_element_fits_and_one_byte_more_does_not() {
    let limits = Limits { element_bytes: 300, ..Limits::c2s() };
    let element = format!("<a>{}</a>", "x".repeat(293));
    let all = |element: &str, cut| frames(limits, format!("{HEADER}{element}{element}").as_bytes(), cut);
    assert_eq!(all(&element, 1000).0.len(), 3);
    assert_eq!(all(&element, 1).0.len(), 3);
    assert_eq!(all(&element.replace("<a>", "<a>y"), 1000).0.len(), 1);
    assert_eq!(all(&element.replace("<a>", "<a>y"), 1).0.len(), 1);
}

#[test]
fn b2_an_idle_framer_owns_no_memory() {
    let mut framer = Framer::new(Limits::c2s());
    framer.next(&mut HEADER.as_bytes()).unwrap();
    assert!(framer.is_idle());
    framer.next(&mut &b"<message>"[..]).unwrap();
    assert!(!framer.is_idle());
    let Ok(Some(Frame::Element(bytes))) = framer.next(&mut &b"</message>"[..]) else { panic!("no element") };
    assert_eq!(bytes.len(), 19);
    assert!(framer.is_idle());
    assert_eq!(framer.partial.capacity(), 0);
    assert!(size_of::<Framer>() <= 152, "{}", size_of::<Framer>());
}

#[test]
fn b2_before_authentication_everything_counts() {
    let spaces = " ".repeat(70_000);
    assert_eq!(error(Limits::pre_auth(), spaces.as_bytes()).condition, StreamCondition::PolicyViolation);
    let elements = "<a/>".repeat(17_000);
    assert_eq!(error(Limits::pre_auth(), elements.as_bytes()).condition, StreamCondition::PolicyViolation);
    // Even before the header, and whatever the limits.
    let (_, error) = frames(Limits::c2s(), " ".repeat(300_000).as_bytes(), 10_000);
    assert_eq!(error.map(|e| e.condition), Some(StreamCondition::PolicyViolation));
    // Restarting the stream does not give new room, authenticating does.
    let mut framer = Framer::new(Limits::pre_auth());
    framer.next(&mut HEADER.as_bytes()).unwrap();
    framer.next(&mut " ".repeat(60_000).as_bytes()).unwrap();
    framer.reset();
    assert!(framer.next(&mut " ".repeat(9_000).as_bytes()).is_err());
    let mut framer = Framer::new(Limits::pre_auth());
    framer.next(&mut HEADER.as_bytes()).unwrap();
    framer.next(&mut " ".repeat(60_000).as_bytes()).unwrap();
    framer.set_limits(Limits::c2s());
    assert_eq!(framer.next(&mut " ".repeat(90_000).as_bytes()), Ok(Some(Frame::Whitespace)));
}

#[test]
fn b4_tags_are_bounded_while_they_are_read() {
    let attributes: String = (0..10_000).map(|n| format!(" a{n}=''")).collect();
    let declarations: String = (0..10_000).map(|n| format!(" xmlns:a{n}='u'")).collect();
    let limits = Limits::s2s();
    for (input, text) in [
        (format!("<a{attributes}/>"), "too many attributes"),
        (format!("<a{declarations}/>"), "too many namespace declarations"),
        (format!("<{}", "a".repeat(65_536)), "name is too long"),
        (format!("<a></{}", "a".repeat(65_536)), "name is too long"),
        (format!("<a {}", "a".repeat(65_536)), "name is too long"),
        (format!("<a b='{}", "a".repeat(65_536)), "attribute value is too long"),
        (format!("<a xmlns='{}", "a".repeat(513)), "namespace name is too long"),
        (format!("<a xmlns:b='{}", "a".repeat(513)), "namespace name is too long"),
    ] {
        let error = error(limits, input.as_bytes());
        assert_eq!((error.condition, error.text.as_deref()), (StreamCondition::PolicyViolation, Some(text)));
    }
    // An attribute that only begins like a declaration is none.
    let long = format!("{HEADER}<a xmlnsx='{0}' xmln='{0}'/>", "a".repeat(600));
    assert_eq!(frames(limits, long.as_bytes(), 5).0.len(), 2);
}

#[test]
fn b5_depth_and_number_of_elements_are_bounded() {
    let deep = error(Limits::c2s(), "<a>".repeat(10_000).as_bytes());
    assert_eq!(deep.text.as_deref(), Some("elements are nested too deep"));
    let many = error(Limits::c2s(), format!("<a>{}", "<b/>".repeat(100_000)).as_bytes());
    assert_eq!(many.text.as_deref(), Some("too many elements"));
    check(
        &format!("{HEADER}{}{}", "<a>".repeat(64), "</a>".repeat(64)),
        &["header", &format!("{}{}", "<a>".repeat(64), "</a>".repeat(64))],
    );
    assert_eq!(error(Limits::pre_auth(), "<a>".repeat(9).as_bytes()).condition, StreamCondition::PolicyViolation);
}

#[test]
fn b1_what_xmpp_does_without_is_refused_at_once() {
    use StreamCondition::{NotWellFormed, RestrictedXml, UnsupportedEncoding};
    for bad in [
        "<!-- x",
        "<a><!--",
        "<!DOCTYPE",
        "<a><!DOCTYPE",
        "<?php",
        "<a><?",
        "<![CDATA[",
        "<a><![CDAXA",
        "<?xml version='1.0'?>",
    ] {
        assert_eq!(condition(bad), RestrictedXml, "{bad}");
    }
    for (bad, condition) in [
        (&b"<!DOCTYPE lolz"[..], RestrictedXml),
        (b"<?xml version='1.0'?><!DOCTYPE", RestrictedXml),
        (b"<?xml version='1.0'?><?xml version='1.0'?>", RestrictedXml),
        (b"<!-- x -->", RestrictedXml),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?>", UnsupportedEncoding),
        (b"\xFF\xFE<\0", UnsupportedEncoding),
        (b"\xFE\xFF\0<", UnsupportedEncoding),
        (b"<\0?\0", UnsupportedEncoding),
        (b"\0<\0?", UnsupportedEncoding),
        (b"\xEF\xBB\xBF<?xml version='1.0'?>", NotWellFormed),
        (b"GET / HTTP/1.1\r\n", NotWellFormed),
        (b"\x16\x03\x01\x02", NotWellFormed),
        (b"<stream:stream a='\xC0\x80' >", UnsupportedEncoding),
    ] {
        for cut in [1, 1000] {
            let (_, error) = frames(Limits::pre_auth(), bad, cut);
            assert_eq!(error.map(|e| e.condition), Some(condition), "{}", String::from_utf8_lossy(bad));
        }
    }
}

#[test]
fn malformed_tags_are_refused() {
    for bad in [
        "<>",
        "< a>",
        "<a b>",
        "<a b=c>",
        "<a b='1'c='2'>",
        "<a b='<'",
        "<a/ >",
        "<a=''>",
        "<a ='x'>",
        "<a b='1'/b",
        "<a></a b='1'>",
        "<a></ a>",
        "<a></a/>",
        "</a>",
        "</stream:stream x>",
        "</>",
        "<a<b>",
        "<a&b>",
        "<a b!='x'>",
        "<a?>",
        "<'a'>",
    ] {
        assert_eq!(condition(bad), StreamCondition::NotWellFormed, "{bad}");
    }
    assert_eq!(condition("text"), StreamCondition::BadFormat);
    assert_eq!(condition(" \u{FEFF}<a/>"), StreamCondition::BadFormat);
    let empty = HEADER.replace('>', "/>");
    assert_eq!(frames(Limits::c2s(), empty.as_bytes(), 9).1.map(|e| e.condition), Some(StreamCondition::BadFormat));
}

#[test]
fn a_whole_frame_is_one_element() {
    let check = |text: &str| Framer::check_whole(text.as_bytes(), Limits::pre_auth()).map_err(|e| e.condition);
    assert_eq!(check("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a'/>"), Ok(()));
    assert_eq!(check("<a><b/></a>"), Ok(()));
    for bad in ["", " <a/>", "<a/> ", "<a/><b/>", "<a>", "</a>", "text"] {
        assert_eq!(check(bad), Err(StreamCondition::NotWellFormed), "{bad}");
    }
    for bad in ["<?xml version='1.0'?><a/>", "<!DOCTYPE a><a/>", "<![CDATA[]]>"] {
        assert_eq!(check(bad), Err(StreamCondition::RestrictedXml), "{bad}");
    }
    assert_eq!(check(&"<a>".repeat(9)), Err(StreamCondition::PolicyViolation));
    assert_eq!(check(&format!("<a>{}</a>", "x".repeat(20_000))), Err(StreamCondition::PolicyViolation));
}
