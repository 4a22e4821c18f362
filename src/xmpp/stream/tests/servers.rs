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
