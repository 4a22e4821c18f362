//! RFC 6121 §3 and §4 between two servers: asking for presence, seeing it, and learning that somebody has gone.

use std::time::Duration;

use rookery_core::remote::Failure;
use rookery_core::roster::Subscription;
use rookery_xmpp::error::Condition;

use crate::verona::{BENVOLIO, CAPULET, JULIET, MONTAGUE, NURSE, ROMEO, Verona};
use crate::world::Client;

fn to(kind: &str, contact: &str) -> String {
    format!("<presence type='{kind}' to='{contact}'/>")
}

impl Verona {
    /// What a client is told once nothing is under way any more, a line a stanza.
    async fn told(&self, client: &Client) -> Vec<String> {
        self.settle().await;
        client.told()
    }
}

fn line(kind: &str, from: &str, to: &str) -> String {
    format!("{kind} {from} -> {to}")
}

#[tokio::test(start_paused = true)]
async fn a_subscription_from_its_request_to_its_end() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.send(&romeo, &to("subscribe", &format!("{JULIET}/balcony"))).await;
    assert_eq!(romeo.told(), [format!("push {JULIET} none ask")]);
    assert_eq!(juliet.told(), [line("subscribe", ROMEO, JULIET)]);
    verona.send(&juliet, &to("subscribed", ROMEO)).await;
    assert_eq!(juliet.told(), [format!("push {ROMEO} from")]);
    let seen = [line("subscribed", JULIET, ROMEO), format!("push {JULIET} to")];
    assert_eq!(romeo.told(), [&seen[..], &[line("available", &format!("{JULIET}/balcony"), ROMEO)]].concat());
    verona.send(&juliet, &to("subscribe", ROMEO)).await;
    verona.send(&romeo, &to("subscribed", JULIET)).await;
    assert_eq!(
        verona.told(&juliet).await,
        [
            format!("push {ROMEO} from ask"),
            line("subscribed", ROMEO, JULIET),
            format!("push {ROMEO} both"),
            line("available", &format!("{ROMEO}/orchard"), JULIET)
        ]
    );
    romeo.read();
    // She does not want to see him any more, then not to be seen either.
    verona.send(&juliet, &to("unsubscribe", ROMEO)).await;
    assert_eq!(juliet.told(), [format!("push {ROMEO} from"), line("unavailable", &format!("{ROMEO}/orchard"), JULIET)]);
    assert_eq!(romeo.told(), [line("unsubscribe", JULIET, ROMEO), format!("push {JULIET} to")]);
    verona.send(&juliet, &to("unsubscribed", ROMEO)).await;
    assert_eq!(juliet.told(), [format!("push {ROMEO} none")]);
    assert_eq!(
        romeo.told(),
        [
            line("unavailable", &format!("{JULIET}/balcony"), ROMEO),
            line("unsubscribed", JULIET, ROMEO),
            format!("push {JULIET} none")
        ]
    );
    assert_eq!(verona.wire.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_contact_is_told_by_both_words() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.befriend(&romeo, &juliet).await;
    let remove = format!(
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='{JULIET}' subscription='remove'/></query></iq>"
    );
    verona.send(&romeo, &remove).await;
    let got = juliet.told();
    for expected in [
        line("unavailable", &format!("{ROMEO}/orchard"), JULIET),
        line("unsubscribe", ROMEO, JULIET),
        line("unsubscribed", ROMEO, JULIET),
        format!("push {ROMEO} none"),
    ] {
        assert!(got.contains(&expected), "{expected} in {got:?}");
    }
    assert!(romeo.session.account.roster().get(JULIET).is_none());
}

/// §3.1.3: it is kept whole, and comes with each login until it is answered, over a restart too.
#[tokio::test(start_paused = true)]
async fn a_request_waits_whole_for_whoever_is_away() {
    let mut verona = Verona::new().await;
    let juliet = verona.login(JULIET, "balcony").await;
    let nick = "<nick xmlns='http://jabber.org/protocol/nick'>Juliet</nick><status>O gentle Romeo</status>";
    verona.send(&juliet, &format!("<presence type='subscribe' to='{ROMEO}'>{nick}</presence>")).await;
    for _ in 0..2 {
        let romeo = verona.of(ROMEO).interested(ROMEO, "orchard").await;
        drop(romeo);
        let again = verona.of(ROMEO).bind(ROMEO, "phone").await;
        again.send("<presence/>").await;
        let got = verona.read(&again).await;
        assert!(got.contains(nick) && got.contains("type='subscribe'"), "{got}");
        again.leave().await;
    }
    verona.kill_montague().await;
    let romeo = verona.of(ROMEO).bind(ROMEO, "orchard").await;
    romeo.send("<presence/>").await;
    let got = verona.read(&romeo).await;
    assert!(got.contains(nick), "{got}");
    verona.send(&romeo, &to("subscribed", JULIET)).await;
    let later = verona.of(ROMEO).bind(ROMEO, "later").await;
    later.send("<presence/>").await;
    let got = verona.read(&later).await;
    assert!(!got.contains("subscribe"), "{got}");
    assert!(juliet.session.account.roster().subscription(ROMEO).is_to());
}

/// §3.1.2: a request that was lost is sent again by the next resource that comes.
#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_get_through_is_told_of_and_sent_again() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let failure = Failure { definite: true, condition: Condition::RemoteServerNotFound, text: "gone".to_owned() };
    verona.wire.fail(CAPULET, failure);
    verona.send(&romeo, &to("subscribe", JULIET)).await;
    assert_eq!(romeo.told(), [format!("push {JULIET} none ask"), format!("error {JULIET} remote-server-not-found")]);
    assert_eq!(juliet.told(), [""; 0]);
    verona.wire.mend(CAPULET);
    romeo.leave().await;
    verona.login(ROMEO, "orchard").await;
    assert_eq!(verona.told(&juliet).await, [line("subscribe", ROMEO, JULIET)]);
}

/// Whatever two users of two servers say, in the end both rosters agree on who sees whom.
#[tokio::test(start_paused = true)]
async fn both_rosters_agree_whatever_is_said() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let mut dice: u64 = 6121;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) % sides
    };
    for number in 0..150 {
        for _ in 0..=roll(3) {
            let (speaker, other) = if roll(2) == 0 { (&romeo, JULIET) } else { (&juliet, ROMEO) };
            match roll(6) {
                0 | 1 => speaker.send(&to("subscribe", other)).await,
                2 => speaker.send(&to("subscribed", other)).await,
                3 => speaker.send(&to("unsubscribe", other)).await,
                4 => speaker.send(&to("unsubscribed", other)).await,
                _ => {
                    let item = format!("<item jid='{other}' subscription='remove'/>");
                    speaker
                        .send(&format!("<iq type='set' id='r'><query xmlns='jabber:iq:roster'>{item}</query></iq>"))
                        .await;
                }
            }
            verona.settle().await;
        }
        romeo.read();
        juliet.read();
        let (hers, his) = (juliet.session.account.roster(), romeo.session.account.roster());
        let (she, he) = (hers.subscription(ROMEO), his.subscription(JULIET));
        assert_eq!((she.is_to(), she.is_from()), (he.is_from(), he.is_to()), "after {number}");
        let asks = |roster: &rookery_core::roster::Roster, contact| roster.get(contact).is_some_and(|item| item.ask);
        assert_eq!(asks(&hers, ROMEO), his.is_requested_by(JULIET), "after {number}");
        assert_eq!(asks(&his, JULIET), hers.is_requested_by(ROMEO), "after {number}");
    }
    assert_eq!(verona.wire.refused(), [""; 0]);
}

/// §4.2.2, §4.3: initial presence goes to subscribers and asks contacts; each is answered whole, with caps.
#[tokio::test(start_paused = true)]
async fn a_login_is_seen_and_sees() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.befriend(&romeo, &juliet).await;
    romeo.leave().await;
    let caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:test' ver='x'/>";
    verona.send(&juliet, &format!("<presence><show>dnd</show>{caps}</presence>")).await;
    juliet.read();
    let romeo = verona.of(ROMEO).interested(ROMEO, "orchard").await;
    let got = verona.read(&romeo).await;
    assert!(got.contains(&format!("from='{JULIET}/balcony'")) && got.contains(caps) && got.contains("dnd"), "{got}");
    assert_eq!(juliet.told(), [line("available", &format!("{ROMEO}/orchard"), JULIET)]);
    // The same to a full JID alone, and to nobody who is not available.
    let unavailable = verona.of(ROMEO).bind(ROMEO, "attic").await;
    verona.send(&juliet, "<presence/>").await;
    assert_eq!(unavailable.told(), [""; 0]);
    assert_eq!(romeo.told(), [line("available", &format!("{JULIET}/balcony"), ROMEO)]);
    juliet.leave().await;
    assert_eq!(verona.told(&romeo).await, [line("unavailable", &format!("{JULIET}/balcony"), ROMEO)]);
}

/// §4.3.2: whoever is not subscribed learns nothing, and not even whether there is an account.
#[tokio::test(start_paused = true)]
async fn a5_c8_probes_of_strangers_and_of_nobody_are_answered_alike() {
    let verona = Verona::new().await;
    let _juliet = verona.login(JULIET, "balcony").await;
    let romeo = verona.login(ROMEO, "orchard").await;
    // He believes to be subscribed; her server knows better.
    for name in ["juliet", "nobody", "nurse"] {
        let contact = format!("{name}@{CAPULET}");
        verona.of(ROMEO).set_contact(ROMEO, &contact, Subscription::To).await;
        verona.send(&romeo, "<presence type='unavailable'/>").await;
        romeo.read();
        verona.send(&romeo, "<presence/>").await;
        let got: Vec<_> = romeo.told().into_iter().filter(|line| line.contains(&contact)).collect();
        assert_eq!(got, [line("unsubscribed", &contact, ROMEO), format!("push {contact} none")]);
    }
}

/// §4.6: directed presence, taken back at the end of the session.
#[tokio::test(start_paused = true)]
async fn directed_presence_is_taken_back() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.send(&romeo, &format!("<presence to='{JULIET}/balcony'/>")).await;
    assert_eq!(juliet.told(), [line("available", &format!("{ROMEO}/orchard"), &format!("{JULIET}/balcony"))]);
    romeo.leave().await;
    assert_eq!(
        verona.told(&juliet).await,
        [line("unavailable", &format!("{ROMEO}/orchard"), &format!("{JULIET}/balcony"))]
    );
}

/// What comes back from where nobody is needs not be taken back.
#[tokio::test(start_paused = true)]
async fn an_error_ends_directed_presence() {
    let verona = Verona::new().await;
    let romeo = verona.login(ROMEO, "orchard").await;
    let there = |romeo: &Client| {
        romeo.session.with(verona.montague.server.directed, |directed| directed.len()).unwrap_or_default()
    };
    verona.send(&romeo, "<presence to='friar@mantua.example/cell'/>").await;
    assert_eq!(romeo.told(), ["error friar@mantua.example/cell remote-server-not-found"]);
    assert_eq!(there(&romeo), 0);
    // A server that is only late may have got it.
    verona.wire.cut(CAPULET);
    romeo.send(&format!("<presence to='{JULIET}/balcony'/>")).await;
    tokio::time::sleep(Duration::from_secs(310)).await;
    assert_eq!(verona.told(&romeo).await, [format!("error {JULIET}/balcony remote-server-timeout")]);
    assert_eq!(there(&romeo), 1);
}

/// A server that is killed cannot say who has gone with it; the next one does.
#[tokio::test(start_paused = true)]
async fn those_who_went_with_a_crash_are_said_to_be_gone() {
    let mut verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let (benvolio, nurse) = (verona.login(BENVOLIO, "street").await, verona.login(NURSE, "chamber").await);
    verona.befriend(&romeo, &juliet).await;
    verona.send(&romeo, "<presence/>").await;
    verona.send(&benvolio, &format!("<presence to='{NURSE}/chamber'/>")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    juliet.read();
    nurse.read();
    verona.kill_montague().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(verona.told(&juliet).await, [line("unavailable", &format!("{ROMEO}/orchard"), JULIET)]);
    assert_eq!(
        verona.told(&nurse).await,
        [line("unavailable", &format!("{BENVOLIO}/street"), &format!("{NURSE}/chamber"))]
    );
    // It is said once.
    tokio::time::sleep(Duration::from_secs(5)).await;
    verona.kill_montague().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(verona.told(&juliet).await, [""; 0]);
}

/// Who resumes after an orderly restart has never been away; who could not is gone.
#[tokio::test(start_paused = true)]
async fn a_restart_is_not_seen_by_others() {
    let mut verona = Verona::new().await;
    let romeo = verona.login(ROMEO, "orchard").await;
    let juliet = verona.login(JULIET, "balcony").await;
    verona.befriend(&romeo, &juliet).await;
    romeo.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    assert!(romeo.read().starts_with("<enabled"));
    verona.send(&romeo, "<presence/>").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    juliet.read();
    verona.montague.stop().await;
    verona.kill_montague().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(verona.told(&juliet).await, [""; 0]);
    // Nobody resumes it: it ends in its time.
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(verona.told(&juliet).await, [line("unavailable", &format!("{ROMEO}/orchard"), JULIET)]);
}

/// Blocking a user or a whole domain of another server (XEP-0191).
#[tokio::test(start_paused = true)]
async fn who_is_blocked_sees_nobody_and_reaches_nobody() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.befriend(&romeo, &juliet).await;
    for blocked in [ROMEO, MONTAGUE] {
        let item = format!("<item jid='{blocked}'/>");
        verona
            .send(&juliet, &format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{item}</block></iq>"))
            .await;
        juliet.read();
        assert_eq!(romeo.told(), [line("unavailable", &format!("{JULIET}/balcony"), ROMEO)], "{blocked}");
        verona.send(&romeo, &format!("<message type='chat' to='{JULIET}' id='m'><body>x</body></message>")).await;
        assert_eq!(romeo.told(), [format!("error {JULIET} service-unavailable")]);
        verona
            .send(&romeo, &format!("<iq type='get' to='{JULIET}/balcony' id='i'><ping xmlns='urn:xmpp:ping'/></iq>"))
            .await;
        assert_eq!(romeo.told(), ["error i service-unavailable"]);
        for silent in ["<presence><show>xa</show></presence>".to_owned(), to("subscribe", JULIET)] {
            verona.send(&romeo, &silent).await;
        }
        romeo.read();
        verona.send(&juliet, &format!("<message to='{ROMEO}' id='m'><body>x</body></message>")).await;
        assert_eq!(juliet.told(), [format!("error {ROMEO} not-acceptable")], "{blocked}");
        verona
            .send(&juliet, &format!("<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'>{item}</unblock></iq>"))
            .await;
        let got = juliet.told();
        assert!(got.contains(&format!("available {ROMEO}/orchard -> {JULIET}/balcony xa")), "{got:?}");
        romeo.read();
    }
}

/// Nothing that is sent back is sent back again.
#[tokio::test(start_paused = true)]
async fn c9_errors_end_where_they_arrive() {
    let verona = Verona::new().await;
    let romeo = verona.login(ROMEO, "orchard").await;
    let error = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for to in [
        JULIET,
        "nobody@capulet.example",
        "juliet@capulet.example/nowhere",
        CAPULET,
        "conference.capulet.example",
        "room@conference.capulet.example",
        "room@conference.capulet.example/nick",
    ] {
        let before = verona.wire.carried();
        for kind in ["message", "presence", "iq"] {
            verona.send(&romeo, &format!("<{kind} type='error' id='e' to='{to}'>{error}</{kind}>")).await;
        }
        verona.send(&romeo, &format!("<iq type='result' id='e' to='{to}'/>")).await;
        assert_eq!(verona.wire.carried() - before, 4, "{to}");
        assert_eq!(romeo.told(), [""; 0], "{to}");
    }
}
