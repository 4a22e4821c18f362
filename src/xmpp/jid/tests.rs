//! What addresses must and must not be: the examples of RFC 7622 §3.5, and whatever could make two of them look equal.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::{BareJid, FullJid, Jid, JidError, Part, prep};

fn check(text: &str, local: Option<&str>, domain: &str, resource: Option<&str>) {
    let jid = Jid::new(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(jid.localpart(), local, "{text:?}");
    assert_eq!(jid.domainpart(), domain, "{text:?}");
    assert_eq!(jid.resourcepart(), resource, "{text:?}");
    assert_eq!(Jid::new(jid.as_str()).as_ref(), Ok(&jid), "{text:?} is prepared only once");
    assert_eq!(Jid::from_parts(local, domain, resource).as_ref(), Ok(&jid));
    assert_eq!(jid.bare().with_resource("r").unwrap().bare(), jid.bare());
    assert_eq!(jid.bare_str(), jid.bare().as_str());
    assert_eq!(jid.domain().as_str(), domain);
    assert_eq!(jid.domain().domainpart(), domain);
    assert_eq!(jid.is_bare(), resource.is_none());
    assert_eq!(jid.full().is_some(), resource.is_some());
}

fn refused(text: &str, error: JidError) {
    assert_eq!(Jid::new(text), Err(error), "{text:?}");
}

#[test]
fn parts_of_rfc_7622_examples() {
    check("juliet@example.com", Some("juliet"), "example.com", None);
    check("juliet@example.com/foo", Some("juliet"), "example.com", Some("foo"));
    check("juliet@example.com/foo bar", Some("juliet"), "example.com", Some("foo bar"));
    check("juliet@example.com/foo@bar", Some("juliet"), "example.com", Some("foo@bar"));
    check("foo\\20bar@example.com", Some("foo\\20bar"), "example.com", None);
    check("fussball@example.com", Some("fussball"), "example.com", None);
    check("fu\u{df}ball@example.com", Some("fu\u{df}ball"), "example.com", None);
    check("\u{3c0}@example.com", Some("\u{3c0}"), "example.com", None);
    check("\u{3a3}@example.com/foo", Some("\u{3c3}"), "example.com", Some("foo"));
    check("\u{3c3}@example.com/foo", Some("\u{3c3}"), "example.com", Some("foo"));
    check("\u{3c2}@example.com/foo", Some("\u{3c2}"), "example.com", Some("foo"));
    check("king@example.com/\u{265a}", Some("king"), "example.com", Some("\u{265a}"));
    check("example.com", None, "example.com", None);
    check("example.com/foobar", None, "example.com", Some("foobar"));
    check("a.example.com/b@example.net", None, "a.example.com", Some("b@example.net"));
    check("a.example.com/b/c", None, "a.example.com", Some("b/c"));
}

#[test]
fn refused_by_rfc_7622_examples() {
    refused("\"juliet\"@example.com", JidError::Forbidden(Part::Local));
    refused("foo bar@example.com", JidError::Forbidden(Part::Local));
    refused("@example.com/", JidError::Empty(Part::Local));
    refused("example.com/", JidError::Empty(Part::Resource));
    refused("henry\u{2163}@example.com", JidError::Forbidden(Part::Local));
    refused("\u{265a}@example.com", JidError::Forbidden(Part::Local));
    refused("juliet@", JidError::Empty(Part::Domain));
    refused("/foobar", JidError::Empty(Part::Domain));
    refused("", JidError::Empty(Part::Domain));
    refused("a@b@c", JidError::Forbidden(Part::Domain));
    for c in "\"&':<>@".chars() {
        refused(
            &format!("a{c}b@example.org"),
            if c == '@' { JidError::Forbidden(Part::Domain) } else { JidError::Forbidden(Part::Local) },
        );
    }
    // The fullwidth at sign narrows to one.
    refused("a\u{ff20}b@example.org", JidError::Forbidden(Part::Local));
    refused("a\0@example.org", JidError::Forbidden(Part::Local));
    refused("a@example.org/\n", JidError::Forbidden(Part::Resource));
    refused("a@exa mple.org", JidError::Forbidden(Part::Domain));
    refused("a@example.org\u{ff0f}b", JidError::Forbidden(Part::Domain));
}

#[test]
fn case_and_width() {
    check("JULIET@Example.COM/Balcony", Some("juliet"), "example.com", Some("Balcony"));
    check("\u{ff2a}uliet@\u{ff25}xample.com", Some("juliet"), "example.com", None);
    check("a@STRASSE.example", Some("a"), "strasse.example", None);
    check("a@Stra\u{df}e.example", Some("a"), "stra\u{df}e.example", None);
    check("a@xn--strae-oqa.example", Some("a"), "stra\u{df}e.example", None);
    check("a@XN--STRAE-OQA.EXAMPLE", Some("a"), "stra\u{df}e.example", None);
    check("a@B\u{dc}CHER.example", Some("a"), "b\u{fc}cher.example", None);
    // Decomposed and composed are one.
    check("u\u{308}@bu\u{308}cher.example/u\u{308}", Some("\u{fc}"), "b\u{fc}cher.example", Some("\u{fc}"));
    check("a@b/\u{a0}x", Some("a"), "b", Some(" x"));
    // Scripts and emoji of Unicode later than 6.3.
    check("\u{13a0}@b/\u{1f98a}", Some("\u{ab70}"), "b", Some("\u{1f98a}"));
}

#[test]
fn a22_punycode_that_says_ascii_is_no_domain() {
    for text in [
        "xn--example-.org",
        "XN--EXAMPLE-.org",
        "xn--.org",
        "xn--a.org",
        "xn--a-.org",
        "xn---.org",
        "xn--example.org-",
        "xn--bcher-kva-.example",
        "xn--xn--a-ecp.ru",
        "xn--0.pt",
        "xn--a-yoc.example",
        "ab--cd.example",
    ] {
        assert!(Jid::new(text).is_err(), "{text} must be refused");
    }
}

#[test]
fn a22_empty_labels_and_dots() {
    check("a@example.org.", Some("a"), "example.org", None);
    check("a@example.org./r", Some("a"), "example.org", Some("r"));
    check("a@example\u{3002}org", Some("a"), "example.org", None);
    for text in [
        "a@.",
        "a@..",
        "a@example.org..",
        "a@example..org",
        "a@.example.org",
        "a@example.org\u{3002}",
        "a@example.org\u{3002}.",
        "a@\u{ff0e}example.org",
        "a@example\u{ff61}\u{ff61}org",
    ] {
        assert!(Jid::new(text).is_err(), "{text:?} must be refused");
    }
}

#[test]
fn a22_labels_are_ldh() {
    for text in
        ["-a.org", "a-.org", "a_b.org", "a!.org", "[example.org]", "a:5222", "a b", "\u{200b}a.org/", "a%2e.org"]
    {
        assert!(Jid::new(text).is_err(), "{text:?} must be refused");
    }
    check("a-b.c0.org", None, "a-b.c0.org", None);
    check("localhost", None, "localhost", None);
    check("\u{fc}--a.example", None, "\u{fc}--a.example", None);
}

#[test]
fn a22_ip_literals_have_one_form() {
    check("a@192.0.2.1/r", Some("a"), "192.0.2.1", Some("r"));
    check("a@\u{ff11}92.0.2.1", Some("a"), "192.0.2.1", None);
    check("[::1]", None, "[::1]", None);
    check("a@[2001:DB8:0:0::1]/r", Some("a"), "[2001:db8::1]", Some("r"));
    for text in [
        "192.0.2.01",
        "192.0.2.256",
        "127.1",
        "1",
        "0x7f.1",
        "[::1",
        "[::1%eth0]",
        "[fe80::1%25lo]",
        "[]",
        "[1.2.3.4]",
        "::1",
    ] {
        assert!(Jid::new(text).is_err(), "{text:?} must be refused");
    }
}

#[test]
fn a22_unassigned_code_points_are_refused() {
    for c in ['\u{378}', '\u{e0080}', '\u{ffff}', '\u{e000}'] {
        refused(&format!("{c}@b"), JidError::Forbidden(Part::Local));
        refused(&format!("a@{c}"), JidError::Forbidden(Part::Domain));
        refused(&format!("a@b/{c}"), JidError::Forbidden(Part::Resource));
    }
}

#[test]
fn a22_length_is_that_of_the_prepared_part() {
    let long = |count: usize| "a".repeat(count);
    let label = long(63);
    check(&format!("{}@b/{}", long(1023), long(1023)), Some(&long(1023)), "b", Some(&long(1023)));
    refused(&format!("{}@b", long(1024)), JidError::TooLong(Part::Local));
    refused(&format!("a@b/{}", long(1024)), JidError::TooLong(Part::Resource));
    refused(&format!("a@b/{}", "\u{e9}".repeat(512)), JidError::TooLong(Part::Resource));
    check(&format!("{}@b", "\u{ff41}".repeat(1023)), Some(&long(1023)), "b", None);
    refused(&format!("{}@b", "\u{ff41}".repeat(1024)), JidError::TooLong(Part::Local));
    let domain = vec![label.as_str(); 15].join(".");
    check(&format!("{domain}.{label}"), None, &format!("{domain}.{label}"), None);
    refused(&format!("{domain}.{label}.a"), JidError::TooLong(Part::Domain));
    refused(&long(64), JidError::TooLong(Part::Domain));
    refused(&"\u{fc}".repeat(64), JidError::TooLong(Part::Domain));
    refused(&long(1_000_000), JidError::TooLong(Part::Domain));
}

/// One code point alone, everywhere: whatever is accepted is stable.
#[test]
fn a22_each_code_point_is_prepared_once() {
    for c in (0..=0x10_ffff).filter_map(char::from_u32) {
        let mut buffer = [0; 4];
        let text: &str = c.encode_utf8(&mut buffer);
        for prepare in [prep::local, prep::domain, prep::resource] {
            if let Ok(once) = prepare(text) {
                assert_eq!(prepare(&once).as_deref(), Ok(&*once), "U+{:04X}", u32::from(c));
            }
        }
    }
}

#[test]
fn maps_are_asked_with_text() {
    let mut map = HashMap::new();
    map.insert(BareJid::new("Juliet@capulet.lit").unwrap(), 1);
    assert_eq!(map.get("juliet@capulet.lit"), Some(&1));
    assert_eq!(map.get(Jid::new("juliet@capulet.lit/balcony").unwrap().bare_str()), Some(&1));
    assert_eq!(map.get(&Jid::new("juliet@capulet.lit").unwrap()), Some(&1));
    let mut set = BTreeSet::new();
    set.insert(FullJid::new("a@b/c").unwrap());
    assert!(set.contains("a@b/c"));
}

#[test]
fn bare_and_full_are_checked() {
    assert_eq!(BareJid::new("a@b/c"), Err(JidError::NotBare));
    assert_eq!(FullJid::new("a@b"), Err(JidError::NotFull));
    let full = FullJid::new("a@b/c").unwrap();
    assert_eq!(full.resource(), "c");
    assert_eq!(full, Jid::new("A@B./c").unwrap());
    assert_ne!(full.bare(), full);
    assert_eq!(BareJid::new("a@b").unwrap().with_resource(""), Err(JidError::Empty(Part::Resource)));
    assert_eq!(size_of::<Jid>(), 24);
    assert_eq!(size_of::<Option<FullJid>>(), 24);
}

/// Characters that have been trouble somewhere: separators, widths, dots, joiners, marks, right-to-left, Punycode.
fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(
        "@/.@/.aAzZ09-_xn--[]: \u{3002}\u{ff0e}\u{ff20}\u{ff41}\u{ff76}\u{ff9e}\u{df}\u{130}\u{131}\u{3a3}\u{3c2}\u{345}\u{301}\u{308}\u{200c}\u{200d}\u{94d}\u{915}\u{5d0}\u{627}\u{661}\u{6f1}\u{b7}l\u{1e9e}\u{212a}\u{212b}\u{ac00}\u{1100}\u{13a0}\u{1f88}\u{3000}\u{fe0f}\u{10fffd}"
            .chars()
            .collect::<Vec<_>>(),
    );
    prop_oneof![
        any::<String>(),
        prop::collection::vec(odd, 0..12).prop_map(String::from_iter),
        "[a-zA-Z]{1,4}@(xn--[a-z0-9-]{1,12}|[a-z]{1,3})\\.[a-z]{1,3}(/\\PC{0,6})?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a22_prepared_is_prepared(text in text()) {
        if let Ok(jid) = Jid::new(&text) {
            check(jid.as_str(), jid.localpart(), jid.domainpart(), jid.resourcepart());
        }
    }

    #[test]
    fn a22_every_part_is_prepared_once(text in text()) {
        for prepare in [prep::local, prep::domain, prep::resource] {
            if let Ok(once) = prepare(&text) {
                let twice = prepare(&once);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }
    }
}
