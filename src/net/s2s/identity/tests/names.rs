//! Which names prove which domains.

use std::process::Command;

use rcgen::{CustomExtension, DistinguishedName, DnType};
use rustls::pki_types::pem::PemObject;

use super::super::names::{By, MAX_NAMES, covers};
use super::super::*;
use super::authority::{Authority, San, alternative, dns, with_names};
use super::{faults, judged, nothing};
use crate::certificate::tests::Scratch;

fn prove(names: &[San<'_>], domain: &str) -> Option<By> {
    let names = Names::of_extension(&alternative(names)).expect("names");
    names.prove(&Reference::new(domain)?)
}

#[test]
fn a_wildcard_is_one_whole_label_with_two_behind_it() {
    for (name, domain, is_so) in [
        ("chat.example", "chat.example", true),
        ("Chat.EXAMPLE", "chat.example", true),
        ("chat.example", "CHAT.example", true),
        ("*.chat.example", "rooms.chat.example", true),
        ("*.chat.example", "xn--bcher-kva.chat.example", true),
        ("*.chat.example", "chat.example", false),
        ("*.chat.example", "a.rooms.chat.example", false),
        ("*.chat.example", ".chat.example", false),
        ("*.example", "chat.example", false),
        ("*", "chat.example", false),
        ("*.", "chat.example", false),
        ("*.*.example", "rooms.chat.example", false),
        ("rooms.*.example", "rooms.chat.example", false),
        ("r*.chat.example", "rooms.chat.example", false),
        ("*s.chat.example", "rooms.chat.example", false),
        ("**.chat.example", "rooms.chat.example", false),
        ("xn--*.chat.example", "xn--bcher-kva.chat.example", false),
        ("chat.example.", "chat.example", false),
        (".chat.example", "chat.example", false),
        ("chat..example", "chat.example", false),
        ("", "chat.example", false),
    ] {
        assert_eq!(prove(&[dns(name)], domain), is_so.then_some(By::Dns), "{name} for {domain}");
    }
    assert!(covers("*.a.example", "b.a.example") && !covers("*.a.example", "a.example"));
}

#[test]
fn srv_ids_and_xmpp_addresses_prove_their_domain() {
    let srv = |name: &str, domain| prove(&[San::Srv(name.as_bytes())], domain);
    assert_eq!(srv("_xmpp-server.chat.example", "chat.example"), Some(By::Srv));
    assert_eq!(srv("_xmpps-server.chat.example", "chat.example"), Some(By::Srv));
    assert_eq!(srv("_XMPP-Server.Chat.Example", "chat.example"), Some(By::Srv));
    for other in [
        "_xmpp-client.chat.example",
        "_xmpp-server.*.example",
        "_xmpp-server.*.chat.example",
        "chat.example",
        "_xmpp-server.",
    ] {
        assert_eq!(srv(other, "chat.example"), None, "{other}");
        assert_eq!(srv(other, "rooms.chat.example"), None, "{other}");
    }
    let address = |name: &str, domain| prove(&[San::XmppAddr(name.as_bytes())], domain);
    assert_eq!(address("chat.example", "chat.example"), Some(By::XmppAddr));
    assert_eq!(address("bücher.example", "bücher.example"), Some(By::XmppAddr));
    assert_eq!(address("bücher.example", "xn--bcher-kva.example"), Some(By::XmppAddr));
    for other in ["romeo@chat.example", "chat.example/orchard", "*.example", "*.chat.example", "", "chat.example\0"] {
        assert_eq!(address(other, "chat.example"), None, "{other:?}");
    }
    // The forms that everybody may issue are named first.
    let both = [San::XmppAddr(b"chat.example"), dns("chat.example")];
    assert_eq!(prove(&both, "chat.example"), Some(By::Dns));
}

#[test]
fn internationalised_domains_are_compared_as_a_labels() {
    for domain in ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example"] {
        assert_eq!(prove(&[dns("xn--bcher-kva.example")], domain), Some(By::Dns), "{domain}");
    }
    // A DNS-ID holds ASCII, whatever certificates there are that do not.
    assert_eq!(prove(&[dns("bücher.example")], "bücher.example"), None);
    assert_eq!(prove(&[dns("xn--bcher-kva.example")], "bucher.example"), None);
    // Cyrillic о.
    assert_eq!(prove(&[dns("chat-on.example")], "chat-оn.example"), None);
}

#[test]
fn an_address_is_proven_by_an_address() {
    assert_eq!(prove(&[San::Address(&[192, 0, 2, 1])], "192.0.2.1"), Some(By::Address));
    assert_eq!(prove(&[San::Address(&[192, 0, 2, 2])], "192.0.2.1"), None);
    assert_eq!(prove(&[dns("192.0.2.1")], "192.0.2.1"), None);
    assert_eq!(prove(&[dns("*.0.2.1")], "192.0.2.1"), None);
    let six: [u8; 16] = "2001:db8::1".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    assert_eq!(prove(&[San::Address(&six)], "[2001:db8::1]"), Some(By::Address));
    assert_eq!(prove(&[San::Address(&six[..5])], "[2001:db8::1]"), None);
}

#[test]
fn a6_the_common_name_never_counts() {
    let authority = Authority::new("Test Root");
    let leaf = authority.issue(&[], |params| params.distinguished_name.push(DnType::CommonName, "chat.example"));
    let found = faults(judged(&[leaf], "chat.example", &authority.roots()));
    assert_eq!(found, [Fault::CommonNameOnly { domain: "chat.example".to_owned() }]);

    // Names beside it change nothing but the words.
    let leaf = authority.issue(&[dns("other.example")], |params| {
        params.distinguished_name.push(DnType::CommonName, "CHAT.example");
    });
    let found = faults(judged(&[leaf], "chat.example", &authority.roots()));
    assert_eq!(found, [Fault::CommonNameOnly { domain: "chat.example".to_owned() }]);
}

#[test]
fn a6_a_subject_that_reads_like_another_proves_nothing() {
    let authority = Authority::new("Test Root");
    for (kind, value) in [
        (DnType::OrganizationalUnitName, "CN=admin.example,"),
        (DnType::OrganizationalUnitName, "x, CN=admin.example"),
        (DnType::OrganizationName, "\", CN=admin.example, O=\""),
        (DnType::CommonName, "admin.example\0.chat.example"),
        (DnType::CommonName, "chat.example/CN=admin.example"),
        (DnType::CommonName, "chat.example\nCN=admin.example"),
    ] {
        let leaf = authority.issue(&[dns("chat.example")], |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(kind, value);
        });
        let chain = [leaf];
        assert!(judged(&chain, "chat.example", &authority.roots()).is_valid(), "{value:?}");
        let found = faults(judged(&chain, "admin.example", &authority.roots()));
        assert!(matches!(&found[..], [Fault::OtherNames { .. }]), "{value:?}: {found:?}");
    }
}

#[test]
fn a6_of_several_common_names_none_counts() {
    let dir = Scratch::new("multi-cn");
    let crt = dir.path("multi.crt");
    let done = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "3650"])
        .args(["-subj", "/CN=chat.example/CN=admin.example/O=x/CN=third.example"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "/dev/null", "-out"])
        .arg(&crt)
        .output()
        .expect("openssl runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let der = CertificateDer::from_pem_slice(&std::fs::read(&crt).expect("a file")).expect("a certificate");
    let mut roots = Roots::default();
    roots.add(&der).expect("a root");
    for domain in ["chat.example", "admin.example", "third.example"] {
        let chain = std::slice::from_ref(&der);
        let verdict = judge(chain, domain, &Trust::new(&roots, Role::Receiving), SystemTime::now());
        assert_eq!(faults(verdict), [Fault::CommonNameOnly { domain: domain.to_owned() }]);
    }
}

#[test]
fn a6_a_name_with_a_nul_or_other_strange_bytes_is_none() {
    for name in [
        &b"chat.example\0.evil.example"[..],
        b"chat.example\0",
        b"\0chat.example",
        b"evil.example\0chat.example",
        b"chat.example ",
        b" chat.example",
        b"chat.example\n",
        b"chat.example/",
        b"chat.example:5269",
        b"romeo@chat.example",
        b"chat.example,other.example",
        b"chat\xc0\xaeexample",
        b"\xff\xfe",
    ] {
        assert_eq!(prove(&[San::Dns(name)], "chat.example"), None, "{name:?}");
        assert_eq!(prove(&[San::XmppAddr(name)], "chat.example"), None, "{name:?}");
        let srv = [b"_xmpp-server.", name].concat();
        assert_eq!(prove(&[San::Srv(&srv)], "chat.example"), None, "{name:?}");
        // A good one beside it still counts.
        assert_eq!(prove(&[San::Dns(name), dns("chat.example")], "chat.example"), Some(By::Dns), "{name:?}");
    }
    // Bytes inside or behind the text's wrapping.
    for value in [&[0xa0, 0][..], &[0xa0, 2, 0x0c, 9], &[0xa0, 3, 0x0c, 1, b'x', 0], &[0x0c, 1, b'x'], &[0x80, 1, b'x']]
    {
        let kind = super::authority::der(6, &[0x2b, 6, 1, 5, 5, 7, 8, 5]);
        let other = super::authority::der(0xa0, &[&kind, value].concat());
        let names = Names::of_extension(&super::authority::der(0x30, &other)).expect("names");
        assert_eq!(names.shown(), Vec::<String>::new(), "{value:?}");
    }
}

#[test]
fn a6_names_and_parts_of_a_subject_are_counted() {
    let authority = Authority::new("Test Root");
    let names: Vec<String> = (0..=MAX_NAMES).map(|n| format!("n{n}.example")).collect();
    let sans: Vec<_> = names.iter().map(|name| dns(name)).collect();
    let most = authority.issue(&sans[..MAX_NAMES], nothing);
    assert!(judged(&[most], "n7.example", &authority.roots()).is_valid());
    let more = authority.issue(&sans, nothing);
    let found = faults(judged(&[more], "n7.example", &authority.roots()));
    assert_eq!(found, [Fault::TooMany { what: "names", count: MAX_NAMES + 1, limit: MAX_NAMES }]);

    let subject = authority.issue(&sans[..1], |params| {
        for n in 0..=MAX_NAMES as u64 {
            params.distinguished_name.push(DnType::from_oid(&[1, 3, 6, 1, 4, 1, 99999, n]), "x");
        }
    });
    let found = faults(judged(&[subject], "n0.example", &authority.roots()));
    assert!(matches!(&found[..], [Fault::TooMany { what: "parts in its subject", .. }]), "{found:?}");
}

#[test]
fn a6_two_lists_of_names_are_none() {
    let authority = Authority::new("Test Root");
    let twice = authority.issue(&[dns("chat.example")], |params| with_names(params, &[dns("admin.example")]));
    for domain in ["chat.example", "admin.example"] {
        let found = faults(judged(std::slice::from_ref(&twice), domain, &authority.roots()));
        assert!(found.iter().any(|fault| matches!(fault, Fault::Unreadable(_))), "{found:?}");
    }
    let broken = authority.issue(&[], |params| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 5, 1]));
    });
    let found = faults(judged(&[broken], "chat.example", &authority.roots()));
    assert!(found.iter().any(|fault| matches!(fault, Fault::Unreadable(_))), "{found:?}");
}

#[test]
fn a10_valid_for_one_domain_is_valid_for_no_other() {
    let authority = Authority::new("Test Root");
    let leaf = authority
        .issue(&[dns("x.example"), San::Srv(b"_xmpp-server.x.example"), San::XmppAddr(b"x.example")], |params| {
            params.distinguished_name.push(DnType::CommonName, "y.example")
        });
    let chain = [leaf];
    assert!(judged(&chain, "x.example", &authority.roots()).is_valid());
    for other in [
        "y.example",
        "example",
        "sub.x.example",
        "x.example.",
        "x.example.org",
        "xx.example",
        "x.example\0",
        "x-example",
        "х.example",
        "_xmpp-server.x.example",
        "*.example",
        "",
        ".",
        "romeo@x.example",
        "x.example/r",
        "x.example y.example",
    ] {
        assert!(!judged(&chain, other, &authority.roots()).is_valid(), "{other:?}");
    }
}

#[test]
fn names_are_told_in_few_and_clean_words() {
    let authority = Authority::new("Test Root");
    let names: Vec<String> = (0..12).map(|n| format!("n{n}.example")).collect();
    let sans: Vec<_> = names.iter().map(|name| dns(name)).collect();
    let found = faults(judged(&[authority.issue(&sans, nothing)], "chat.example", &authority.roots()));
    assert_eq!(
        found[0].to_string(),
        "is for n0.example, n1.example, n2.example, n3.example, n4.example and 7 more, not for chat.example"
    );
    let none = authority.issue(&[], nothing);
    let found = faults(judged(&[none], "chat.example", &authority.roots()));
    assert_eq!(found, [Fault::NoNames { domain: "chat.example".to_owned() }]);

    // What a stranger calls himself does not reach a terminal as it is.
    let stranger = Authority::new(&format!("\u{1b}[2J\u{202e}{}", "long ".repeat(100)));
    let leaf = stranger.issue(&[dns("chat.example")], nothing);
    let words = judged(&[leaf], "chat.example", &authority.roots()).to_string();
    assert!(!words.chars().any(|c| c.is_control() || c == '\u{202e}') && words.len() < 300, "{words}");
}
