//! Streams between servers: EXTERNAL, dialback as nonzas, and the errors of stream headers.

use super::*;
use crate::{framer::Framer, ns};

fn servers() -> Pair {
    let peer = Peer {
        to: BareJid::new("b.example").unwrap(),
        from: Some(Jid::new("a.example").unwrap()),
        login: None,
        binding: Binding::Any,
    };
    let config = Config { limits: Limits::s2s(), ..config(Kind::S2s) };
    Pair::new(Side::initiating(config.clone(), peer), Side::receiving(config))
}

#[test]
fn a_certificate_opens_a_stream_between_servers() {
    let mut pair = servers();
    pair.server.external = vec![BareJid::new("a.example").unwrap()];
    pair.talk();
    assert!(pair.client.last().contains("<mechanism>EXTERNAL</mechanism>"), "{:?}", pair.client.log);
    pair.client.stream.authenticate_external();
    pair.talk();
    assert!(pair.server.has("authenticated a.example EXTERNAL"), "{:?}", pair.server.log);
    assert!(pair.client.stream.is_open() && pair.server.stream.is_open());
    pair.client.stream.send(&Element::new("message", ns::SERVER).attr("to", "x@b.example"));
    pair.talk();
    assert!(pair.server.last().starts_with("stanza <message"), "{:?}", pair.server.last());
}

#[test]
fn without_one_dialback_is_left_to_the_driver() {
    let mut pair = servers();
    pair.talk();
    assert!(pair.client.last().starts_with("features"), "{:?}", pair.client.log);
    assert!(pair.client.stream.id().is_some());
    assert_eq!(pair.client.stream.id(), pair.server.stream.id());
    pair.client.stream.send(&Element::new("result", ns::DIALBACK).text("key"));
    pair.talk();
    assert!(pair.server.last().starts_with("nonza <result xmlns='jabber:server:dialback'"), "{:?}", pair.server.log);
    pair.server.stream.established();
    pair.client.stream.established();
    assert!(pair.client.stream.is_open() && pair.server.stream.is_open());
    assert_eq!(pair.client.stream.id(), pair.server.stream.id());
    assert!(pair.client.stream.id().is_some());
}

#[test]
fn a_stranger_server_sends_no_stanza() {
    let mut pair = servers();
    pair.talk();
    pair.server.feed("<message xmlns='jabber:server' from='x@a.example' to='y@b.example'/>");
    assert_eq!(pair.server.last(), "closed by us: not-authorized");
}

const S2S: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                   xmlns:db='jabber:server:dialback' from='a.example' to='b.example'";

#[test]
fn a3_the_stream_of_a_server_stays_with_its_host() {
    let mut side = Side::receiving(Config { require_tls: true, ..config(Kind::S2s) });
    side.feed(&format!("{S2S} version='1.0'>{STARTTLS}"));
    side.feed(&format!("{} version='1.0'>", S2S.replace("to='b.example'", "to='example.org'")));
    assert_eq!(side.last(), "closed by us: not-authorized");

    let mut pair = servers();
    pair.server.external = vec![BareJid::new("a.example").unwrap()];
    pair.talk();
    pair.client.stream.authenticate_external();
    let auth = pair.client.written();
    pair.server.feed(&auth);
    let restart = format!("{} version='1.0'>", S2S.replace("from='a.example'", "from='example.org'"));
    pair.server.feed(&restart);
    assert_eq!(pair.server.last(), "closed by us: invalid-from", "who is authenticated is nobody else");
}

#[test]
fn a1_external_is_for_the_domain_of_the_header_and_no_other() {
    for (authzid, result) in [
        ("a.example", "authenticated a.example EXTERNAL"),
        ("", "authenticated a.example EXTERNAL"),
        ("A.example", "authenticated a.example EXTERNAL"),
        ("b.example", "failed  invalid-authzid"),
        ("sub.a.example", "failed  invalid-authzid"),
        ("u@a.example", "failed  invalid-authzid"),
        ("a.example/r", "failed  invalid-authzid"),
        ("a.example\0", "failed  invalid-authzid"),
    ] {
        let mut side = Side::receiving(Config { secured: true, ..config(Kind::S2s) });
        side.external = vec![BareJid::new("a.example").unwrap()];
        side.feed(&format!("{S2S} version='1.0'>"));
        side.feed(&auth("EXTERNAL", authzid));
        assert_eq!(side.last(), result, "{authzid}");
    }
}

#[test]
fn a2_external_is_taken_only_where_it_is_offered() {
    let mut side = Side::receiving(Config { secured: true, ..config(Kind::S2s) });
    let features = side.feed(&format!("{S2S} version='1.0'>"));
    assert!(!features.contains("EXTERNAL"), "{features}");
    side.feed(&auth("EXTERNAL", "a.example"));
    assert_eq!(side.last(), "failed  invalid-mechanism");
}

#[test]
fn without_encryption_there_is_nothing_unless_it_is_allowed_for_that_server() {
    let result = "<db:result from='a.example' to='b.example'>key</db:result>";
    for old in [false, true] {
        let header = if old { format!("{S2S}>") } else { format!("{S2S} version='1.0'>") };
        let mut side = Side::receiving(config(Kind::S2s));
        let answer = side.feed(&header);
        if old {
            assert_eq!(side.last(), "closed by us: unsupported-version");
        } else {
            assert!(answer.contains("<required/>"), "{answer}");
            side.feed(result);
            assert_eq!(side.last(), "closed by us: policy-violation");
        }

        let mut side = Side::receiving(config(Kind::S2s));
        side.plain = true;
        let answer = side.feed(&header);
        assert_eq!(answer.contains("version='1.0' xml:lang"), !old, "{answer}");
        assert_eq!(answer.contains("<stream:features>"), !old, "{answer}");
        assert!(!answer.contains("<required/>"), "{answer}");
        side.feed(result);
        assert!(side.last().starts_with("nonza <result"), "{:?}", side.log);
    }
}

#[test]
fn we_go_on_with_a_server_from_before_xmpp_1_0_only_if_it_may_be_plain() {
    let peer = || Peer {
        to: BareJid::new("b.example").unwrap(),
        from: Some(Jid::new("a.example").unwrap()),
        login: None,
        binding: Binding::Any,
    };
    let answer = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                  xmlns:db='jabber:server:dialback' id='1'>";
    let mut side = Side::initiating(config(Kind::S2s), peer());
    side.feed(answer);
    assert_eq!(side.last(), "closed by us: unsupported-version");
    let mut side = Side::initiating(Config { require_tls: false, ..config(Kind::S2s) }, peer());
    side.feed(answer);
    assert_eq!(side.last(), "features <features xmlns='http://etherx.jabber.org/streams'/>");
    assert!(side.stream.peer_declares(ns::DIALBACK) && side.stream.id() == Some("1"));
}

#[test]
fn what_servers_say_is_written_as_old_ones_read_it() {
    let mut pair = servers();
    pair.talk();
    pair.client.stream.send(&Element::new("result", ns::DIALBACK).attr("from", "a.example").text("key"));
    assert_eq!(pair.client.written(), "<db:result from='a.example'>key</db:result>");
}

/// Stanzas of servers are in another namespace than those of clients, on the wire and nowhere else.
#[test]
fn stanzas_change_their_namespace_with_the_stream() {
    let stanzas = [
        "<message to='x@b.example'><body>hi</body></message>",
        "<message xmlns='jabber:server' to='x@b.example'><body>hi</body></message>",
        "<message to='x@b.example'><body xmlns='jabber:server'>hi</body></message>",
        "<s:message xmlns:s='jabber:server' to='x@b.example'><s:body>hi</s:body></s:message>",
    ];
    for xml in stanzas {
        let mut pair = servers();
        pair.server.external = vec![BareJid::new("a.example").unwrap()];
        pair.talk();
        pair.client.stream.authenticate_external();
        pair.talk();
        pair.server.feed(xml);
        let got = "stanza <message xmlns='jabber:client' to='x@b.example' xml:lang='en'><body>hi</body></message>";
        assert_eq!(pair.server.last(), got, "{xml}");
        let stanza: crate::stanza::Stanza =
            pair.server.last().strip_prefix("stanza ").and_then(|xml| xml.parse().ok()).unwrap();
        assert_eq!(stanza.find("body", ns::CLIENT).map(Element::content), Some("hi".to_owned()));
        let mut out = Vec::new();
        stanza.write(&mut out, None);
        let written = String::from_utf8(out).unwrap();
        assert!(!written.contains("xmlns"), "{written}");
    }
    // What is in the namespace of clients is no stanza between servers.
    let mut pair = servers();
    pair.server.external = vec![BareJid::new("a.example").unwrap()];
    pair.talk();
    pair.client.stream.authenticate_external();
    pair.talk();
    pair.server.feed("<message xmlns='jabber:client' to='x@b.example'/>");
    assert_eq!(pair.server.last(), "closed by us: unsupported-stanza-type");
}

#[test]
fn header_faults_have_their_names() {
    let good = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";
    assert_eq!(Side::receiving(direct()).feed(good).matches("<stream:stream").count(), 1);
    for (header, condition) in [
        (good.replace("jabber:client", "jabber:server"), "invalid-namespace"),
        (good.replace("etherx", "ether"), "invalid-namespace"),
        (good.replace("<stream:stream", "<stream:flow"), "bad-format"),
        (good.replace(" version='1.0'", ""), "unsupported-version"),
        (good.replace("1.0", "0.9"), "unsupported-version"),
        (good.replace("1.0", "one"), "unsupported-version"),
        (good.replace(" to='localhost'", ""), "improper-addressing"),
        (good.replace("localhost", "nowhere.example"), "host-unknown"),
        (good.replace("'localhost'", "'user@localhost'"), "host-unknown"),
        (good.replace("'localhost'", "'local host'"), "host-unknown"),
        (good.replace(" to=", " from='@x' to="), "improper-addressing"),
        (good.replace("localhost'", "localhost' to='localhost'"), "not-well-formed"),
        ("<!DOCTYPE x><x/>".to_owned(), "restricted-xml"),
        ("GET / HTTP/1.1\r\n".to_owned(), "not-well-formed"),
        ("<message/>".to_owned(), "bad-format"),
    ] {
        let mut side = Side::receiving(direct());
        let answer = side.feed(&header);
        assert_eq!(side.last(), format!("closed by us: {condition}"), "{header}");
        assert!(answer.starts_with("<?xml version='1.0'?><stream:stream xmlns='jabber:client'"), "{answer}");
        assert!(answer.contains(&format!("<stream:error><{condition} xmlns=")), "{answer}");
        assert!(answer.ends_with(END), "{answer}");
        // Whatever was wrong, the answer is a stream like any other.
        let mut rest = answer.as_bytes();
        let mut framer = Framer::new(Limits::c2s());
        while !rest.is_empty() {
            framer.next(&mut rest).unwrap();
        }
    }
    // Another minor version is as good; a newer major one gets ours.
    for version in ["1.1", "2.0", "01.0"] {
        let mut side = Side::receiving(direct());
        side.feed(&good.replace("1.0", version));
        assert_eq!(side.last(), "opened localhost BeforeAuth", "{version}");
    }
}
