//! Two servers: what their users say to each other, where it is kept, and what they may ask.

use std::time::Duration;

use rookery_core::remote::Failure;
use rookery_core::roster::Subscription;
use rookery_xmpp::error::Condition;

use crate::verona::{CAPULET, JULIET, NURSE, ROMEO, Verona};
use crate::world::{Client, bodies};

fn chat(to: &str, id: &str, body: &str) -> String {
    format!("<message type='chat' to='{to}' id='{id}'><body>{body}</body></message>")
}

/// All that is in the archive of a client's account, as it comes.
async fn archive(verona: &Verona, client: &Client) -> String {
    client.send("<iq type='set' id='a'><query xmlns='urn:xmpp:mam:2' queryid='a'/></iq>").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    verona.read(client).await
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_another_server_and_is_answered() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.send(&romeo, &chat(JULIET, "m1", "By love")).await;
    assert_eq!(juliet.bodies(), ["By love"]);
    verona.send(&juliet, &chat(&format!("{ROMEO}/orchard"), "m2", "Ay me")).await;
    assert_eq!(romeo.bodies(), ["Ay me"]);
    // Both sides have both, each with the other's address.
    for (client, peer) in [(&romeo, JULIET), (&juliet, ROMEO)] {
        let got = archive(&verona, client).await;
        assert_eq!(bodies(&got), ["By love", "Ay me"], "{got}");
        assert!(got.contains(peer), "{got}");
    }
    assert_eq!(verona.wire.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_comes_in_order() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let all: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    for (number, body) in all.iter().enumerate() {
        romeo.send(&chat(JULIET, &format!("message-{number}"), body)).await;
        if number % 50 == 20 {
            verona.wire.cut(CAPULET);
        } else if number % 50 == 40 {
            verona.wire.mend(CAPULET);
        }
        tokio::task::yield_now().await;
    }
    verona.wire.mend(CAPULET);
    verona.settle().await;
    // What was on its way when the wire was cut may come twice.
    let mut got = juliet.bodies();
    got.dedup();
    let first_of_each: Vec<_> = all.iter().filter_map(|body| got.iter().position(|other| other == body)).collect();
    assert!(first_of_each.len() == all.len() && first_of_each.is_sorted(), "{got:?}");
}

/// XEP-0280, both ways.
#[tokio::test(start_paused = true)]
async fn all_of_a_users_clients_have_the_conversation() {
    let verona = Verona::new().await;
    let (romeo, phone) = (verona.login(ROMEO, "orchard").await, verona.login(ROMEO, "phone").await);
    let juliet = verona.login(JULIET, "balcony").await;
    phone.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    romeo.read();
    phone.read();
    verona.send(&romeo, &chat(JULIET, "m1", "said")).await;
    verona.send(&juliet, &chat(&format!("{ROMEO}/orchard"), "m2", "answered")).await;
    assert_eq!(romeo.bodies(), ["answered"]);
    let got = phone.read();
    assert!(got.contains("<sent xmlns='urn:xmpp:carbons:2'") && got.contains("<received xmlns='urn:xmpp:carbons:2'"));
    assert_eq!(bodies(&got), ["said", "answered"]);
}

/// Copies that another server claims to have made are none (security.md C1), and nobody else gives ids in our users' names (C3).
#[tokio::test(start_paused = true)]
async fn c1_c3_another_server_does_not_speak_for_ours() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let inside = format!("<message xmlns='jabber:client' from='{NURSE}' to='{JULIET}'><body>forged</body></message>");
    let carbon = format!(
        "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{inside}</forwarded></received>"
    );
    let ids = format!(
        "<stanza-id xmlns='urn:xmpp:sid:0' by='{JULIET}' id='forged'/><stanza-id xmlns='urn:xmpp:sid:0' by='{ROMEO}' id='theirs'/>"
    );
    // What the other server's own guards would take out is routed behind them.
    verona.montague.route(&format!("<message from='{ROMEO}/orchard' to='{JULIET}'>{carbon}</message>")).await;
    verona
        .montague
        .route(&format!("<message from='{ROMEO}/orchard' to='{JULIET}'><body>x</body>{carbon}{ids}</message>"))
        .await;
    let got = verona.read(&juliet).await;
    assert_eq!(bodies(&got), ["x"]);
    assert!(!got.contains("forged") && !got.contains("carbons"), "{got}");
    // Of whoever has sent it, rooms above all, it is what it says.
    assert!(got.contains("id='theirs'") && got.matches(&format!("by='{JULIET}'")).count() == 1, "{got}");
    drop(romeo);
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_whoever_is_away() {
    let verona = Verona::new().await;
    let romeo = verona.login(ROMEO, "orchard").await;
    verona.send(&romeo, &chat(JULIET, "m1", "Wherefore")).await;
    assert_eq!(romeo.read(), "");
    let juliet = verona.of(JULIET).bind(JULIET, "balcony").await;
    juliet.send("<presence/>").await;
    let got = verona.read(&juliet).await;
    assert_eq!(bodies(&got), ["Wherefore"]);
    assert!(got.contains("urn:xmpp:delay") && got.contains(&format!("from='{ROMEO}/orchard'")), "{got}");
    // What must not be kept comes back.
    juliet.leave().await;
    verona
        .send(&romeo, &format!("<message type='groupchat' to='{JULIET}/balcony' id='g'><body>x</body></message>"))
        .await;
    assert_eq!(romeo.told(), [format!("error {JULIET}/balcony service-unavailable")]);
}

/// A client that has lost its connection sends again what has arrived already; so does a server.
#[tokio::test(start_paused = true)]
async fn what_is_sent_again_is_taken_once() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let again = format!(
        "<message type='chat' to='{JULIET}' id='m1'><body>once</body><origin-id xmlns='urn:xmpp:sid:0' id='origin-1'/></message>"
    );
    verona.send(&romeo, &again).await;
    romeo.leave().await;
    let romeo = verona.login(ROMEO, "orchard").await;
    verona.send(&romeo, &again).await;
    assert_eq!(juliet.bodies(), ["once"]);
    assert_eq!(bodies(&archive(&verona, &juliet).await), ["once"]);
    // Another stream of the same server, whose acknowledgement was lost with the first.
    let text = chat(JULIET, "3b9a52c4-1f5d-4f0e", "twice");
    verona.send(&romeo, &text).await;
    verona.wire.cut(CAPULET);
    verona.settle().await;
    verona.wire.mend(CAPULET);
    verona.settle().await;
    verona.montague.route(&text.replace("<message", &format!("<message from='{ROMEO}/orchard'"))).await;
    assert_eq!(verona.read(&juliet).await.matches("<body>twice</body>").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_delivered_comes_back_once() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.send(&romeo, &chat("nobody@capulet.example", "m", "x")).await;
    assert_eq!(romeo.told(), ["error nobody@capulet.example service-unavailable"]);
    verona.send(&romeo, &chat("friar@mantua.example", "m", "x")).await;
    assert_eq!(romeo.told(), ["error friar@mantua.example remote-server-not-found"]);
    for (kind, expected) in [("normal", 1), ("chat", 1), ("headline", 1), ("groupchat", 1), ("error", 0)] {
        verona
            .send(&romeo, &format!("<message type='{kind}' to='x@mantua.example' id='m'><body>x</body></message>"))
            .await;
        assert_eq!(romeo.told().len(), expected, "{kind}");
    }
    // Silence: both messages and questions come back in their time, and nothing of it arrives after all.
    verona.wire.cut(CAPULET);
    romeo.send(&chat(JULIET, "late", "late")).await;
    romeo.send(&format!("<iq type='get' id='i' to='{JULIET}/balcony'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(romeo.told(), ["error i remote-server-timeout"]);
    tokio::time::sleep(Duration::from_secs(250)).await;
    assert_eq!(romeo.told(), [format!("error {JULIET} remote-server-timeout")]);
    verona.wire.mend(CAPULET);
    assert_eq!(verona.read(&juliet).await, "");
}

/// A dead server is no other's trouble.
#[tokio::test(start_paused = true)]
async fn one_server_that_is_dead_slows_no_other() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let dead = Failure { definite: false, condition: Condition::RemoteServerTimeout, text: "refused".to_owned() };
    verona.wire.fail(CAPULET, dead);
    verona.send(&romeo, &chat(JULIET, "m", "waits")).await;
    assert_eq!(romeo.read(), "");
    verona.send(&romeo, &chat("benvolio@montague.example", "m", "x")).await;
    verona.wire.mend(CAPULET);
    assert_eq!(bodies(&verona.read(&juliet).await), ["waits"]);
}

/// What may be asked of accounts of another server, and by whom: the same error for everybody else and for nobody
/// (security.md A5, C8).
#[tokio::test(start_paused = true)]
async fn a5_c8_questions_to_accounts_of_another_server() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    let questions = [
        ("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"),
        ("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
        ("get", "<query xmlns='jabber:iq:last'/>"),
        ("get", "<ping xmlns='urn:xmpp:ping'/>"),
        ("get", "<query xmlns='jabber:iq:version'/>"),
        ("get", "<time xmlns='urn:xmpp:time'/>"),
        ("get", "<vCard xmlns='vcard-temp'/>"),
        ("get", "<query xmlns='jabber:iq:roster'/>"),
        ("set", "<query xmlns='jabber:iq:roster'><item jid='a@b'/></query>"),
        ("get", "<blocklist xmlns='urn:xmpp:blocking'/>"),
        ("set", "<block xmlns='urn:xmpp:blocking'><item jid='a@b'/></block>"),
        ("get", "<query xmlns='urn:xmpp:mam:2'/>"),
        ("set", "<query xmlns='urn:xmpp:mam:2'/>"),
        ("get", "<metadata xmlns='urn:xmpp:mam:2'/>"),
        ("get", "<prefs xmlns='urn:xmpp:mam:2'/>"),
        ("set", "<enable xmlns='urn:xmpp:carbons:2'/>"),
        ("get", "<query xmlns='jabber:iq:register'/>"),
        ("set", "<query xmlns='jabber:iq:register'><remove/></query>"),
        ("get", "<offline xmlns='http://jabber.org/protocol/offline'/>"),
        ("get", "<query xmlns='urn:test:unknown'/>"),
    ];
    for (kind, payload) in questions {
        let mut answers = Vec::new();
        for who in [JULIET, NURSE, "nobody@capulet.example", "nobody@capulet.example/x", "nurse@capulet.example/x"] {
            verona.send(&romeo, &format!("<iq type='{kind}' id='q' to='{who}'>{payload}</iq>")).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            answers.push(verona.read(&romeo).await.replace(who, "WHO"));
        }
        assert!(answers[0].contains("<service-unavailable"), "{payload}: {}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{payload}: {answers:#?}");
    }
    // Who sees her presence may ask some.
    verona.of(JULIET).set_contact(JULIET, ROMEO, Subscription::From).await;
    for (number, (kind, payload)) in questions.into_iter().enumerate() {
        verona.send(&romeo, &format!("<iq type='{kind}' id='q' to='{JULIET}'>{payload}</iq>")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let got = verona.read(&romeo).await;
        assert_eq!(got.contains("type='result'"), number < 4, "{payload}: {got}");
    }
    // What is for a client is the client's to answer.
    verona
        .send(&romeo, &format!("<iq type='get' id='q' to='{JULIET}/balcony'><query xmlns='jabber:iq:version'/></iq>"))
        .await;
    assert!(verona.read(&juliet).await.contains("jabber:iq:version"));
    verona
        .send(
            &juliet,
            &format!("<iq type='result' id='q' to='{ROMEO}/orchard'><query xmlns='jabber:iq:version'/></iq>"),
        )
        .await;
    assert!(verona.read(&romeo).await.contains("type='result'"));
    // Forged pushes do not get to a client (C2).
    let push = format!(
        "<iq type='set' id='p' to='{JULIET}/balcony'><query xmlns='jabber:iq:roster'><item jid='a@b'/></query></iq>"
    );
    verona.send(&romeo, &push).await;
    assert_eq!(juliet.read(), "");
    assert_eq!(romeo.told(), ["error p service-unavailable"]);
}

/// The server itself answers everybody.
#[tokio::test(start_paused = true)]
async fn a_server_answers_for_itself() {
    let verona = Verona::with_conf("[modules.disco]\nabuse = [\"mailto:abuse@verona.example\"]\n").await;
    let romeo = verona.login(ROMEO, "orchard").await;
    for (payload, expected) in [
        ("<query xmlns='http://jabber.org/protocol/disco#info'/>", "mailto:abuse@verona.example"),
        ("<query xmlns='http://jabber.org/protocol/disco#items'/>", "conference.capulet.example"),
        ("<query xmlns='jabber:iq:last'/>", "seconds="),
        ("<query xmlns='jabber:iq:version'/>", "<name>Rookery</name>"),
        ("<time xmlns='urn:xmpp:time'/>", "<tzo>"),
        ("<ping xmlns='urn:xmpp:ping'/>", "type='result'"),
    ] {
        verona.send(&romeo, &format!("<iq type='get' id='q' to='{CAPULET}'>{payload}</iq>")).await;
        let got = romeo.read();
        assert!(got.contains(expected) && got.contains(&format!("from='{CAPULET}'")), "{payload}: {got}");
    }
    verona.send(&romeo, &format!("<iq type='get' id='q' to='conference.{CAPULET}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")).await;
    assert!(romeo.read().contains("mailto:abuse@verona.example"));
    // It has no mailbox, and no accounts for strangers to make or change.
    verona.send(&romeo, &chat(CAPULET, "m", "x")).await;
    assert_eq!(romeo.told(), [format!("error {CAPULET} service-unavailable")]);
    for payload in [
        "<query xmlns='jabber:iq:register'/>",
        "<query xmlns='jabber:iq:register'><username>juliet</username><password>x</password></query>",
    ] {
        for kind in ["get", "set"] {
            verona.send(&romeo, &format!("<iq type='{kind}' id='q' to='{CAPULET}'>{payload}</iq>")).await;
            assert_eq!(romeo.told(), ["error q service-unavailable"]);
        }
    }
}

/// An account that is deleted says goodbye to its contacts elsewhere.
#[tokio::test(start_paused = true)]
async fn a_deleted_account_leaves_the_rosters_elsewhere() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.befriend(&romeo, &juliet).await;
    assert!(verona.montague.server.delete_account(&crate::world::jid(ROMEO)).await.unwrap());
    verona.settle().await;
    let subscription = juliet.session.account.roster().subscription(ROMEO);
    assert!(!subscription.is_to() && !subscription.is_from());
    verona.send(&juliet, &chat(ROMEO, "m", "x")).await;
    let got = juliet.told();
    assert!(got.contains(&format!("error {ROMEO} service-unavailable")), "{got:?}");
}

/// What was taken for another server and is not there yet goes on after a crash.
#[tokio::test(start_paused = true)]
async fn what_waits_for_another_server_outlives_a_crash() {
    let mut verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.wire.cut(CAPULET);
    for number in 0..20 {
        romeo.send(&chat(JULIET, &format!("message-{number}"), &number.to_string())).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    verona.kill_montague().await;
    verona.wire.mend(CAPULET);
    verona.settle().await;
    let all: Vec<_> = (0..20).map(|number: u32| number.to_string()).collect();
    assert_eq!(juliet.bodies(), all);
}
