//! Logins that go well, logins that do not, and what an open stream does by itself.

use super::*;
use crate::{ns, sasl::Mechanism};

fn log_in(mechanism: Mechanism, password: &str, direct_tls: bool, seed: u64) -> Pair {
    let mut wanted = peer(password);
    if let Some(login) = &mut wanted.login {
        login.only = Some(mechanism);
    }
    let config = if direct_tls { direct() } else { config(Kind::C2s) };
    let mut server = Side::receiving(config.clone());
    let mut client = Side::initiating(Config { pre_auth: Limits::c2s(), ..config }, wanted);
    (server.seed, client.seed) = (seed, seed.wrapping_mul(31));
    if direct_tls {
        server.stream.handle_tls(server.now, TlsInfo { bindings: bindings() });
        client.stream.handle_tls(client.now, TlsInfo { bindings: bindings() });
    }
    let mut pair = Pair::new(client, server);
    pair.talk();
    pair
}

#[test]
fn every_mechanism_logs_in_however_the_bytes_are_cut() {
    for mechanism in Mechanism::ALL.into_iter().filter(|mechanism| *mechanism != Mechanism::External) {
        for direct_tls in [false, true] {
            for seed in 0..12 {
                let pair = log_in(mechanism, "pencil", direct_tls, seed);
                assert!(pair.client.stream.is_open() && pair.server.stream.is_open(), "{:?}", pair.server.log);
                let authenticated = format!("authenticated user@localhost {mechanism}");
                assert!(pair.client.has(&authenticated) && pair.server.has(&authenticated), "{:?}", pair.server.log);
                assert_eq!(pair.client.last(), "bound user@localhost/r");
                assert_eq!(pair.server.has("starttls"), !direct_tls);
            }
        }
    }
}

#[test]
fn stanzas_flow_and_the_stream_ends_in_peace() {
    let mut pair = log_in(Mechanism::ScramSha256Plus, "pencil", false, 5);
    pair.client.stream.send(&Element::new("presence", ns::CLIENT));
    pair.talk();
    assert_eq!(pair.server.last(), "stanza <presence xmlns='jabber:client' xml:lang='en'/>");
    let now = pair.client.now;
    pair.client.stream.close(now, None);
    pair.talk();
    pair.client.drive();
    assert_eq!(pair.server.last(), "closed by peer");
    assert_eq!(pair.client.last(), "closed by us");
}

#[test]
fn a_wrong_password_does_not_log_in() {
    for mechanism in [Mechanism::ScramSha256Plus, Mechanism::ScramSha1, Mechanism::Plain] {
        let pair = log_in(mechanism, "pen", false, 0);
        assert!(pair.server.has("failed user@localhost not-authorized"), "{:?}", pair.server.log);
        assert!(!pair.server.has("authenticated") && !pair.client.has("authenticated"));
        assert!(pair.client.has("failed  not-authorized"), "{:?}", pair.client.log);
    }
}

#[test]
fn the_fifth_failure_closes_the_stream() {
    let mut side = Side::receiving(direct());
    side.feed(HEADER);
    for _ in 0..4 {
        let answer = side.feed(&plain("user", "wrong"));
        assert_eq!(answer, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    }
    let answer = side.feed(&plain("user", "wrong"));
    let place = |text: &str| answer.find(text).unwrap_or_else(|| panic!("{text} is not in {answer}"));
    assert!(place("<not-authorized/>") < place("<policy-violation "));
    assert!(answer.ends_with(END));
    assert_eq!(side.last(), "closed by us: policy-violation");
    assert_eq!(side.feed(&plain("user", "pencil")), "");
    assert!(!side.has("authenticated"));
}

#[test]
fn a_failure_leaves_room_for_another_try() {
    let mut side = Side::receiving(direct());
    side.feed(HEADER);
    side.feed(&plain("user", "wrong"));
    side.feed(&auth("SCRAM-SHA-1", "n,,n=user,r=x"));
    let aborted = side.feed("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(aborted.contains("<aborted/>"), "{aborted}");
    assert!(side.feed(&plain("user", "pencil")).starts_with("<success"));
    assert_eq!(side.last(), "authenticated user@localhost PLAIN");
}

#[test]
fn a_failing_account_store_is_no_wrong_password() {
    let mut side = Side::receiving(direct());
    side.holds_keys = true;
    side.feed(&format!("{HEADER}{}", plain("user", "pencil")));
    assert!(side.stream.is_busy());
    assert_eq!(side.stream.handle_input(side.now, b"<x/>"), 0);
    let now = side.now;
    side.stream.handle_keys(now, Err(()));
    side.drive();
    assert!(side.written().contains("<temporary-auth-failure/>"));
    assert_eq!(side.last(), "failed user@localhost temporary-auth-failure");
}

#[test]
fn features_are_those_of_the_phase() {
    let mut side = Side::receiving(config(Kind::C2s));
    side.features.push(Element::new("limits", ns::STREAM_LIMITS));
    let first = side.feed(HEADER);
    assert!(
        first.contains(
            "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
         <limits xmlns='urn:xmpp:stream-limits:0'/></stream:features>"
        ),
        "{first}"
    );
    assert_eq!(side.feed(STARTTLS), "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let second = side.feed(HEADER);
    assert!(
        second.contains(
            "<stream:features><sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
         <channel-binding type='tls-server-end-point'/></sasl-channel-binding>\
         <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256-PLUS</mechanism>"
        ),
        "{second}"
    );
    side.feed(&plain("user", "pencil"));
    let third = side.feed(HEADER);
    assert!(
        third.contains(
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
         <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>"
        ),
        "{third}"
    );
    assert!(!third.contains("mechanism"));
    let headers = [first, second, third];
    let ids: std::collections::HashSet<_> =
        headers.iter().map(|header| header.split(" id='").nth(1).and_then(|rest| rest.split('\'').next())).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_resource_is_bound_or_refused() {
    let ready = || {
        let mut side = Side::receiving(direct());
        side.feed(&format!("{HEADER}{}{HEADER}", plain("user", "pencil")));
        side
    };
    let ask = |resource: &str| {
        format!("<iq type='set' id='1'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>", ns::BIND)
    };
    let mut side = ready();
    let answer = side.feed(&ask("desk"));
    assert!(answer.contains("<jid>user@localhost/desk</jid>") && answer.contains("id='1'"), "{answer}");
    assert!(side.stream.is_open());
    let mut side = ready();
    assert!(side.feed(&ask("a&#x7;b".replace("&#x7;", "\u{85}").as_str())).contains("<bad-request "));
    assert!(!side.stream.is_open());
    assert!(side.feed(BIND).contains("<jid>user@localhost/r</jid>"));
    for stanza in ["<presence/>", "<message to='other@localhost'/>", "<iq type='get' id='1'><q xmlns='x'/></iq>"] {
        let mut side = ready();
        side.feed(stanza);
        assert_eq!(side.last(), "closed by us: not-authorized", "{stanza}");
    }
}

#[test]
fn a_session_may_be_resumed_in_place_of_binding() {
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}{}{HEADER}<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>", plain("user", "pencil")));
    assert_eq!(side.last(), "nonza <resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>");
    side.stream.send(&Element::new("resumed", ns::SM));
    side.stream.established();
    side.feed("<message/>");
    assert_eq!(side.last(), "stanza <message xmlns='jabber:client'/>");
}

#[test]
fn an_open_stream_answers_for_itself_alone() {
    let mut side = Side::open();
    side.feed("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    assert!(side.last().starts_with("answered <iq") && side.last().contains("type='result'"), "{}", side.last());
    side.feed(BIND);
    assert!(side.last().starts_with("answered <iq") && side.last().contains("<not-allowed "), "{}", side.last());
    // To somebody else it is theirs to answer.
    side.feed("<iq type='set' id='s' to='x@example.org'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    assert!(side.last().starts_with("stanza "), "{}", side.last());
    side.feed("<iq type='set' id='s' to='localhost'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    assert!(side.last().starts_with("answered "), "{}", side.last());
    side.feed("<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert!(side.last().starts_with("answered"), "{}", side.last());
    side.feed("<r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(side.last(), "nonza <r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(side.feed("   \n "), "");
    side.feed("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>");
    assert_eq!(side.last(), "closed by peer: conflict", "the prefix is the header's");
}

#[test]
fn what_is_no_stanza_of_this_stream_ends_it() {
    for element in [
        "<letter/>",
        "<message xmlns='jabber:server'/>",
        "<message xmlns=''/>",
        STARTTLS,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
        "<stream:features/>",
    ] {
        let mut side = Side::open();
        side.feed(element);
        assert_eq!(side.last(), "closed by us: unsupported-stanza-type", "{element}");
    }
}

#[test]
fn registration_passes_when_the_host_has_it() {
    let iq = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>";
    let mut side = Side::receiving(direct());
    side.feed(&format!("{HEADER}{iq}"));
    assert_eq!(side.last(), "closed by us: not-authorized");
    let mut side = Side::receiving(direct());
    side.register = true;
    side.feed(&format!("{HEADER}{iq}"));
    assert!(side.last().starts_with("pre-auth <iq"), "{}", side.last());
    side.feed("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    assert_eq!(side.last(), "closed by us: not-authorized");
}

#[test]
fn the_end_is_answered_in_every_state() {
    for before in [HEADER.to_owned(), format!("{HEADER}{}", plain("user", "wrong"))] {
        let mut side = Side::receiving(direct());
        side.feed(&before);
        assert_eq!(side.feed(END), END);
        assert_eq!(side.last(), "closed by peer");
    }
    let mut side = Side::open();
    let now = side.now;
    side.stream.close(now, None);
    assert_eq!(side.written(), END);
    side.feed("<message/>");
    assert_eq!(side.last(), "stanza <message xmlns='jabber:client'/>", "what was on its way is not lost");
    side.wait(5 * SECOND);
    assert_eq!(side.last(), "closed by us");
    assert_eq!(side.written(), "");
}
