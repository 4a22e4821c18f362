//! What attackers send: one test for each weakness that some server had.

use super::*;

#[test]
fn a2_nothing_is_evaluated_that_was_not_offered() {
    let mut side = Side::receiving(config(Kind::C2s));
    side.feed(HEADER);
    let answer = side.feed(&plain("user", "pencil"));
    assert!(answer.contains("<encryption-required/>"), "{answer}");
    let mut side = Side::receiving(direct());
    side.feed(HEADER);
    for mechanism in ["EXTERNAL", "ANONYMOUS", "SCRAM-SHA-256-PLUS", "plain", ""] {
        let answer = side.feed(&auth(mechanism, "\0user\0pencil"));
        assert!(answer.contains("<invalid-mechanism/>"), "{mechanism}: {answer}");
    }
    assert!(!side.has("lookup") && !side.has("authenticated"));
    // In the clear, and without the duty to encrypt, PLAIN still is not there.
    let mut side = Side::receiving(Config { require_tls: false, ..config(Kind::C2s) });
    assert!(!side.feed(HEADER).contains("PLAIN"));
    assert!(side.feed(&plain("user", "pencil")).contains("<invalid-mechanism/>"));
}

#[test]
fn a1_the_stream_is_that_of_the_account_that_authenticated() {
    let mut side = Side::receiving(direct());
    side.feed(HEADER);
    let answer = side.feed(&auth("PLAIN", "other@localhost\0user\0pencil"));
    assert!(answer.contains("<invalid-authzid/>"), "{answer}");
    side.feed(&auth("PLAIN", "user@localhost\0USER\0pencil"));
    assert_eq!(side.last(), "authenticated user@localhost PLAIN");
}

#[test]
fn a3_the_host_stays_after_authentication() {
    let authenticated = || {
        let mut side = Side::receiving(direct());
        side.feed(&format!("{HEADER}{}", plain("user", "pencil")));
        side
    };
    let mut side = authenticated();
    let answer = side.feed(&HEADER.replace("localhost", "example.org"));
    assert!(!answer.contains("features"), "{answer}");
    assert_eq!(side.last(), "closed by us: not-authorized");
    // The same host in another spelling is the same host; another `from` is not the same user.
    let mut side = authenticated();
    assert!(side.feed(&HEADER.replace("localhost", "LocalHost")).contains("<bind "));
    let mut side = authenticated();
    assert!(side.feed(&HEADER.replace(" to=", " from='User@localhost/desk' to=")).contains("<bind "));
    let mut side = authenticated();
    side.feed(&HEADER.replace(" to=", " from='other@localhost' to="));
    assert_eq!(side.last(), "closed by us: invalid-from");
}

#[test]
fn a17_nothing_in_the_clear_outlives_starttls() {
    for behind in ["<presence/>", " ", "\n", "<", "<presence", HEADER] {
        let mut side = Side::receiving(config(Kind::C2s));
        side.feed(HEADER);
        let answer = side.feed(&format!("{STARTTLS}{behind}"));
        assert!(!answer.contains("proceed"), "{behind:?}: {answer}");
        assert_eq!(side.last(), "closed by us: policy-violation", "{behind:?}");
    }
    // In a segment of its own, before the handshake is done.
    let mut stream = Stream::receiving(Arc::new(config(Kind::C2s)), Instant::now());
    let now = Instant::now();
    assert_eq!(stream.handle_input(now, HEADER.as_bytes()), HEADER.len());
    assert!(matches!(stream.poll_event(), Some(Event::Opened(_))));
    stream.handle_host(Ok(Host::default()));
    assert_eq!(stream.handle_input(now, STARTTLS.as_bytes()), STARTTLS.len());
    assert!(matches!(stream.poll_event(), Some(Event::StartTls)));
    assert!(
        stream
            .poll_transmit()
            .is_some_and(|bytes| { bytes.ends_with(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>") })
    );
    assert_eq!(stream.handle_input(now, b"<auth/>"), 7);
    assert!(matches!(stream.poll_event(), Some(Event::Closed(Ending::ByUs(Some(_))))));
    assert_eq!(stream.poll_transmit(), None, "nothing more in the clear");
    stream.handle_tls(now, TlsInfo::default());
    assert_eq!(stream.handle_input(now, HEADER.as_bytes()), HEADER.len());
    assert!(stream.poll_event().is_none());
}

#[test]
fn a17_nothing_but_starttls_before_tls() {
    for early in [
        "<presence/>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<resume xmlns='urn:xmpp:sm:3'/>",
        BIND,
    ] {
        let mut side = Side::receiving(config(Kind::C2s));
        side.register = true;
        side.feed(&format!("{HEADER}{early}"));
        assert_eq!(side.last(), "closed by us: policy-violation", "{early}");
    }
    // Nor twice, nor inside TLS.
    let mut side = Side::receiving(config(Kind::C2s));
    side.feed(&format!("{HEADER}{STARTTLS}"));
    let answer = side.feed(&format!("{HEADER}{STARTTLS}"));
    assert!(answer.ends_with("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"), "{answer}");
    assert_eq!(side.last(), "closed by us");
}

#[test]
fn b11_there_is_no_compression() {
    let compress = "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>";
    let failure = "<failure xmlns='http://jabber.org/protocol/compress'><unsupported-method/></failure>";
    for mut side in [Side::receiving(config(Kind::C2s)), Side::receiving(direct()), Side::open()] {
        if !side.stream.is_open() {
            assert!(!side.feed(HEADER).contains("compress"));
        }
        assert_eq!(side.feed(compress), failure);
        assert!(!side.last().starts_with("closed"));
    }
}

#[test]
fn b2_a_stranger_costs_little() {
    let mut side = Side::receiving(direct());
    side.feed(HEADER);
    let limits = Limits::pre_auth();
    let most = usize::try_from(limits.element_bytes).unwrap();
    // An element that never ends.
    side.feed(&format!("<a b='{}", "x".repeat(most)));
    assert_eq!(side.last(), "closed by us: policy-violation");
    assert!(side.stream.framer.is_idle());
    // Many that do.
    let mut side = Side::receiving(Config { auth_attempts: u8::MAX, ..direct() });
    side.feed(HEADER);
    let mut fed = 0;
    while !side.last().starts_with("closed") {
        let attempt = auth("PLAIN", &"x".repeat(most / 2));
        fed += attempt.len();
        side.feed(&attempt);
        assert!(fed <= 2 * 64 * 1024);
    }
    assert_eq!(side.last(), "closed by us: policy-violation");
    // A failed login keeps no state of itself.
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}{}", plain("user", "wrong")));
    let negotiation = side.stream.negotiation.as_ref().unwrap();
    assert!(negotiation.exchange.is_none() && negotiation.user.is_none());
    assert!(side.stream.framer.is_idle());
}

#[test]
fn b14_a_slow_header_is_not_waited_for() {
    let mut side = Side::receiving(direct());
    for byte in HEADER.as_bytes().iter().take(9) {
        side.wait(SECOND);
        side.feed_bytes(&[*byte]);
        assert!(!side.has("closed"));
    }
    side.wait(SECOND);
    assert_eq!(side.last(), "closed by us: connection-timeout");
    assert!(side.written().starts_with("<?xml version='1.0'?><stream:stream "));
}

#[test]
fn b14_whitespace_and_failures_buy_no_time() {
    let mut side = Side::receiving(direct());
    side.feed(HEADER);
    for second in 1..60 {
        side.wait(SECOND);
        side.feed(if second % 20 == 0 {
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='X'/>"
        } else {
            " \n"
        });
        assert!(!side.has("closed"), "after {second} s");
    }
    side.wait(SECOND);
    assert_eq!(side.last(), "closed by us: connection-timeout");
    // Neither does being authenticated, without a resource.
    let mut side = Side::receiving(direct());
    side.wait(9 * SECOND);
    side.feed(&format!("{HEADER}{}", plain("user", "pencil")));
    side.wait(9 * SECOND);
    side.feed(HEADER);
    side.wait(42 * SECOND);
    assert_eq!(side.last(), "closed by us: connection-timeout");
    // Nor does a client that does not even restart the stream.
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}{}", plain("user", "pencil")));
    side.wait(10 * SECOND);
    assert_eq!(side.last(), "closed by us: connection-timeout");
}

#[test]
fn b14_a_stalled_handshake_ends_in_ten_seconds() {
    let now = Instant::now();
    let mut stream = Stream::receiving(Arc::new(config(Kind::C2s)), now);
    stream.handle_input(now, HEADER.as_bytes());
    stream.poll_event();
    stream.handle_host(Ok(Host::default()));
    stream.handle_input(now, STARTTLS.as_bytes());
    stream.poll_event();
    stream.poll_transmit();
    assert_eq!(stream.poll_timeout(), Some(now + 10 * SECOND));
    stream.handle_timeout(now + 10 * SECOND);
    assert!(matches!(stream.poll_event(), Some(Event::Closed(Ending::ByUs(Some(_))))));
    assert_eq!(stream.poll_transmit(), None);
}

#[test]
fn b14_an_open_stream_has_no_deadline() {
    let mut side = Side::open();
    side.wait(86_400 * SECOND);
    side.feed("<message/>");
    assert_eq!(side.last(), "stanza <message xmlns='jabber:client'/>");
}

#[test]
fn a20_what_is_logged_of_a_login_holds_no_password() {
    let mut side = Side::receiving(direct());
    side.holds_keys = true;
    side.feed(&format!("{HEADER}{}", plain("user", "canary-pw")));
    assert!(side.stream.is_busy());
    assert!(!format!("{:?}", side.stream).contains("canary-pw"));
    let client = Side::initiating(direct(), peer("canary-pw"));
    assert!(!format!("{:?}", client.stream).contains("canary-pw"));
}

#[test]
fn a14_no_answer_out_of_turn_opens_a_stream() {
    let mut side = Side::receiving(config(Kind::C2s));
    side.feed(HEADER);
    let now = side.now;
    side.stream.handle_tls(now, TlsInfo::default());
    assert!(!side.stream.is_secured(), "no handshake was asked for");
    side.stream.established();
    side.stream.handle_keys(now, Ok(keys("user@localhost")));
    side.stream.handle_bind(Err(Condition::Conflict.into()));
    assert!(!side.stream.is_open());
    assert_eq!(side.written(), "");
    // Resuming before authentication does not even reach the driver.
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>"));
    assert_eq!(side.last(), "closed by us: not-authorized");
    assert!(!side.has("nonza"));
}

#[test]
fn stanzas_in_the_middle_of_sasl_end_the_stream() {
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}{}<presence/>", auth("SCRAM-SHA-1", "n,,n=user,r=x")));
    assert_eq!(side.last(), "closed by us: not-authorized");
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"));
    assert_eq!(side.last(), "failed  malformed-request");
    assert!(!side.stream.is_open());
}

#[test]
fn a_pipelining_client_keeps_its_order() {
    let mut side = Side::receiving(direct());
    let stanzas: String = (0..50).map(|n| format!("<message id='{n}'/>")).collect();
    side.feed(&format!("{HEADER}{}{HEADER}{BIND}{stanzas}{END}", plain("user", "pencil")));
    let ids: Vec<_> = side.log.iter().filter(|line| line.starts_with("stanza")).cloned().collect();
    assert_eq!(ids.len(), 50);
    for (n, line) in ids.iter().enumerate() {
        assert!(line.contains(&format!("id='{n}'")), "{line}");
    }
    assert_eq!(side.last(), "closed by peer");
}
