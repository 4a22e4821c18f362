//! Components (XEP-0114): the header, the handshake, and who is not let in.

use super::*;

const COMPONENT: &str = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' \
                         to='irc.localhost'>";

fn listener() -> Config {
    Config { starttls: false, require_tls: false, limits: Limits::s2s(), ..config(Kind::Component) }
}

/// A stream whose component must know `secret`, after the component's header; and its id.
fn opened() -> (Stream, String) {
    let now = Instant::now();
    let mut stream = Stream::receiving(Arc::new(listener()), now);
    assert_eq!(feed(&mut stream, COMPONENT), COMPONENT.len());
    let Some(Event::Opened(opened)) = stream.poll_event() else { panic!("not opened") };
    assert_eq!((opened.to.as_str(), opened.phase), ("irc.localhost", Phase::BeforeAuth));
    stream.handle_component(Ok(Secret::new(b"secret")));
    let header = written(&mut stream);
    let id = header.split("id='").nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();
    assert_eq!(
        header,
        format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' id='{id}' from='irc.localhost'>"
        )
    );
    (stream, id)
}

fn feed(stream: &mut Stream, xml: &str) -> usize {
    stream.handle_input(Instant::now(), xml.as_bytes())
}

fn written(stream: &mut Stream) -> String {
    let mut written = Vec::new();
    while let Some(bytes) = stream.poll_transmit() {
        written.extend_from_slice(&bytes);
    }
    String::from_utf8(written).unwrap()
}

fn proof(id: &str, secret: &str) -> String {
    use sha1::{Digest, Sha1};
    let digest = Sha1::digest(format!("{id}{secret}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<handshake>{digits}</handshake>")
}

fn closed_with(stream: &mut Stream) -> StreamCondition {
    match stream.poll_event() {
        Some(Event::Closed(Ending::ByUs(Some(error)))) => error.condition,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_knows_the_secret_comes_in() {
    for capitals in [false, true] {
        let (mut stream, id) = opened();
        let mut proof = proof(&id, "secret");
        if capitals {
            let digits = proof.trim_start_matches("<handshake>").trim_end_matches("</handshake>").to_uppercase();
            proof = format!("<handshake>{digits}</handshake>");
        }
        assert_eq!(feed(&mut stream, &proof), proof.len());
        // Nothing is taken before the driver has judged.
        assert_eq!(feed(&mut stream, "<presence/>"), 0);
        assert!(matches!(stream.poll_event(), Some(Event::Handshake { right: true })));
        stream.handle_handshake(Ok(()));
        assert_eq!(written(&mut stream), "<handshake/>");
        assert!(stream.is_open() && stream.poll_timeout().is_none());
        feed(&mut stream, "<message from='a@irc.localhost' to='b@localhost'><body>x</body></message>");
        let Some(Event::Stanza(stanza)) = stream.poll_event() else { panic!("no stanza") };
        assert_eq!(
            stanza.to_xml(),
            "<message xmlns='jabber:client' to='b@localhost' from='a@irc.localhost'><body>x</body></message>"
        );
        // Once is enough.
        feed(&mut stream, &proof);
        assert_eq!(closed_with(&mut stream), StreamCondition::UnsupportedStanzaType);
    }
}

/// security.md A4, A12: whatever is wrong with it, the answer is the same, and a careless driver lets nobody in.
#[test]
fn a12_a_wrong_handshake_is_refused() {
    let (_, other_id) = opened();
    let wrong = |id: &str| {
        let right = proof(id, "secret");
        let digits = right.trim_start_matches("<handshake>").trim_end_matches("</handshake>").to_owned();
        vec![
            proof(id, "secrets"),
            proof(id, ""),
            proof(&other_id, "secret"),
            "<handshake/>".to_owned(),
            "<handshake>secret</handshake>".to_owned(),
            format!("<handshake>{}</handshake>", digits.get(..39).unwrap()),
            format!("<handshake>{digits}0</handshake>"),
            format!("<handshake>{}</handshake>", "0".repeat(40)),
        ]
    };
    for nth in 0..wrong("").len() {
        let (mut stream, id) = opened();
        feed(&mut stream, &wrong(&id)[nth]);
        assert!(matches!(stream.poll_event(), Some(Event::Handshake { right: false })));
        stream.handle_handshake(Ok(()));
        assert_eq!(closed_with(&mut stream), StreamCondition::NotAuthorized);
        let said = written(&mut stream);
        assert!(said.starts_with("<stream:error><not-authorized ") && said.ends_with(END), "{said}");
    }
}

/// security.md A12: nothing but the handshake is heard before it.
#[test]
fn a12_nothing_is_heard_before_the_handshake() {
    for early in [
        "<message from='a@irc.localhost' to='b@localhost'/>",
        "<iq type='get' id='1' from='irc.localhost' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<handshake xmlns='urn:other'>x</handshake>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
        "<db:result xmlns:db='jabber:server:dialback' from='a.example' to='localhost'>key</db:result>",
    ] {
        let (mut stream, _) = opened();
        feed(&mut stream, early);
        assert_eq!(closed_with(&mut stream), StreamCondition::NotAuthorized, "{early}");
    }
}

#[test]
fn a_component_that_is_not_known_has_its_answer_behind_a_header() {
    for (header, condition) in [
        (COMPONENT.to_owned(), StreamCondition::HostUnknown),
        (COMPONENT.replace(" to='irc.localhost'", ""), StreamCondition::ImproperAddressing),
        (COMPONENT.replace("irc.localhost", "a@irc.localhost"), StreamCondition::HostUnknown),
        (COMPONENT.replace("jabber:component:accept", "jabber:client"), StreamCondition::InvalidNamespace),
        (COMPONENT.replace("jabber:component:accept", "jabber:component:connect"), StreamCondition::InvalidNamespace),
        (COMPONENT.replace("jabber:component:accept", "urn:other"), StreamCondition::InvalidNamespace),
    ] {
        let mut stream = Stream::receiving(Arc::new(listener()), Instant::now());
        feed(&mut stream, &header);
        let event = stream.poll_event();
        if let Some(Event::Opened(_)) = event {
            stream.handle_component(Err(StreamCondition::HostUnknown.into()));
            assert_eq!(closed_with(&mut stream), condition, "{header}");
        } else {
            let Some(Event::Closed(Ending::ByUs(Some(error)))) = event else { panic!("{event:?}") };
            assert_eq!(error.condition, condition, "{header}");
        }
        let said = written(&mut stream);
        assert!(said.starts_with("<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept'"), "{said}");
        assert!(said.ends_with(END), "{said}");
    }
}

#[test]
fn a_component_has_a_minute_in_all() {
    let (mut stream, _) = opened();
    let now = Instant::now();
    stream.handle_timeout(now + 50 * SECOND);
    assert!(stream.poll_event().is_none());
    stream.handle_timeout(now + 70 * SECOND);
    assert_eq!(closed_with(&mut stream), StreamCondition::ConnectionTimeout);
}

/// security.md B2: what a stranger may send is bounded as on any stream; a component's stanzas are as large as servers'.
#[test]
fn limits_are_those_of_strangers_before_the_handshake() {
    let (mut stream, id) = opened();
    feed(&mut stream, &format!("<handshake>{}</handshake>", "x".repeat(20_000)));
    assert_eq!(closed_with(&mut stream), StreamCondition::PolicyViolation);
    assert!(!id.is_empty());

    let (mut stream, id) = opened();
    feed(&mut stream, &proof(&id, "secret"));
    stream.poll_event();
    stream.handle_handshake(Ok(()));
    let message = |bytes: usize| format!("<message to='b@localhost'><body>{}</body></message>", "x".repeat(bytes));
    feed(&mut stream, &message(500_000));
    assert!(matches!(stream.poll_event(), Some(Event::Stanza(_))));
    feed(&mut stream, &message(600_000));
    assert_eq!(closed_with(&mut stream), StreamCondition::PolicyViolation);
}
