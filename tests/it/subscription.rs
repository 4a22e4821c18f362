//! RFC 6121 §3: the subscription handshake.

use std::sync::Arc;

use rookery_core::server::Server;
use rookery_core::store::Store;
use rookery_xmpp::ns;

use crate::outside;
use crate::world::{Client, World};

const JULIET: &str = "juliet@localhost";
const ROMEO: &str = "romeo@localhost";

fn to(kind: &str, contact: &str) -> String {
    format!("<presence type='{kind}' to='{contact}'/>")
}

async fn roster(client: &Client) -> String {
    client.read();
    client.says("<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq>").await.concat()
}

async fn remove(client: &Client, contact: &str) -> Vec<String> {
    client.says(&format!("<iq type='set' id='rm'><query xmlns='jabber:iq:roster'><item jid='{contact}' subscription='remove'/></query></iq>")).await
}

/// A romeo and a juliet, both interested and available.
async fn lovers(world: &World) -> (Client, Client) {
    (world.interested(ROMEO, "orchard").await, world.interested(JULIET, "balcony").await)
}

#[tokio::test]
async fn a_request_is_asked_approved_and_presence_flows() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, balcony) = lovers(&world).await;
    let chamber = world.login(JULIET, "chamber").await;
    chamber.send("<presence><show>away</show></presence>").await;
    let silent = world.bind(JULIET, "not-available").await;
    for client in [&balcony, &chamber, &silent] {
        client.read();
    }
    // To a full JID, and still: from bare JID to bare JID (§3.1.2).
    let asked = romeo
        .says("<presence type='subscribe' to='juliet@localhost/whatever' id='s1'><status>Hi</status></presence>")
        .await;
    assert_eq!(asked, ["push juliet@localhost none ask"]);
    // Available resources see the request, interested or not (§2.2, §3.1.3).
    for client in [&balcony, &chamber] {
        assert_eq!(client.told(), ["subscribe romeo@localhost -> juliet@localhost 'Hi'"]);
    }
    assert!(silent.told().is_empty());
    assert_eq!(roster(&balcony).await, "roster", "who only asks is no contact (§2.1.2.5)");

    let approved = balcony.says("<presence type='subscribed' to='romeo@localhost/orchard'/>").await;
    assert_eq!(approved, ["push romeo@localhost from"]);
    assert!(chamber.told().is_empty());
    // First the word, then the push, so that the client knows why (§3.1.6); then what there is to see (§3.1.5).
    let told = romeo.told();
    assert_eq!(told[..2], ["subscribed juliet@localhost -> romeo@localhost", "push juliet@localhost to"]);
    let mut seen = told[2..].to_vec();
    seen.sort();
    assert_eq!(
        seen,
        [
            "available juliet@localhost/balcony -> romeo@localhost",
            "available juliet@localhost/chamber -> romeo@localhost away"
        ]
    );
    // One way only.
    romeo.says("<presence><show>dnd</show></presence>").await;
    assert!(balcony.told().is_empty());
    chamber.send("<presence/>").await;
    assert_eq!(romeo.told(), ["available juliet@localhost/chamber -> romeo@localhost"]);
}

#[tokio::test]
async fn a_request_waits_whole_and_comes_to_each_login_until_it_is_answered() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let romeo = world.interested(ROMEO, "orchard").await;
    romeo.send("<presence type='subscribe' to='juliet@localhost' id='x7'><status>Hi</status><nick xmlns='http://jabber.org/protocol/nick'>R &amp; M</nick></presence>").await;
    // On disk: another server gives it out.
    let database: Arc<dyn Store> = world.store.clone();
    let server = Server::start(world.server.conf().as_ref().clone(), database, rookery_modules::ALL).await.unwrap();
    let world = World { server, store: world.store.clone() };
    for resource in ["balcony", "chamber"] {
        let juliet = world.bind(JULIET, resource).await;
        juliet.send("<presence><priority>-5</priority></presence>").await;
        let stanzas = juliet.stanzas();
        let request = stanzas.iter().find(|stanza| stanza.get("type") == Some("subscribe")).unwrap();
        assert_eq!(
            (request.get("id"), request.get("from"), request.get("to")),
            (Some("x7"), Some(ROMEO), Some(JULIET))
        );
        assert_eq!(request.find("nick", "http://jabber.org/protocol/nick").unwrap().content(), "R & M");
        // Once a login, not with every presence.
        assert!(!juliet.says("<presence/>").await.concat().contains("subscribe"));
        // But again when the resource comes back.
        juliet.send("<presence type='unavailable'/>").await;
        assert!(juliet.says("<presence/>").await.concat().contains("subscribe"));
    }
    let juliet = world.login(JULIET, "garden").await;
    juliet.send(&to("subscribed", ROMEO)).await;
    let later = world.bind(JULIET, "later").await;
    assert!(!later.says("<presence/>").await.concat().contains("subscribe"));
    // The one who asked hears of it on the next login, by its roster.
    assert_eq!(roster(&world.bind(ROMEO, "orchard").await).await, "roster juliet@localhost to");
}

#[tokio::test]
async fn of_several_requests_one_is_shown() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    romeo.send("<presence type='subscribe' to='juliet@localhost'><status>first</status></presence>").await;
    romeo.send("<presence type='subscribe' to='juliet@localhost'><status>second</status></presence>").await;
    assert_eq!(juliet.told(), ["subscribe romeo@localhost -> juliet@localhost 'first'"]);
    let chamber = world.bind(JULIET, "chamber").await;
    let told = chamber.says("<presence/>").await;
    assert_eq!(told.iter().filter(|line| line.starts_with("subscribe ")).count(), 1, "{told:?}");
}

#[tokio::test]
async fn a_request_is_denied() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    romeo.says(&to("subscribe", JULIET)).await;
    assert_eq!(juliet.says(&to("unsubscribed", ROMEO)).await, ["subscribe romeo@localhost -> juliet@localhost"]);
    assert_eq!(romeo.told(), ["unsubscribed juliet@localhost -> romeo@localhost", "push juliet@localhost none"]);
    assert!(!world.bind(JULIET, "chamber").await.says("<presence/>").await.concat().contains("subscribe"));
    assert_eq!(roster(&juliet).await, "roster");
}

#[tokio::test]
async fn a_request_is_taken_back() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    romeo.says(&to("subscribe", JULIET)).await;
    assert_eq!(romeo.says(&to("unsubscribe", JULIET)).await, ["push juliet@localhost none"]);
    assert_eq!(
        juliet.told(),
        ["subscribe romeo@localhost -> juliet@localhost", "unsubscribe romeo@localhost -> juliet@localhost"]
    );
    assert!(!world.bind(JULIET, "chamber").await.says("<presence/>").await.concat().contains("subscribe"));
    // Approving now is approving before being asked.
    assert_eq!(juliet.says(&to("subscribed", ROMEO)).await[1..], ["push romeo@localhost none approved"]);
    assert!(romeo.told().is_empty());
}

#[tokio::test]
async fn who_is_subscribed_already_is_answered_by_the_server() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    world.subscribe(&romeo, &juliet).await;
    // As another server would whose user has lost the subscription.
    world.route("<presence type='subscribe' from='romeo@localhost' to='juliet@localhost'/>").await;
    assert!(juliet.told().is_empty());
    assert_eq!(
        romeo.told(),
        ["available juliet@localhost/balcony -> romeo@localhost"],
        "an answer that nobody waits for is not shown"
    );
    assert_eq!(roster(&juliet).await, "roster romeo@localhost from");
}

#[tokio::test]
async fn the_contact_cancels_the_subscription() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    world.subscribe(&romeo, &juliet).await;
    assert_eq!(juliet.says(&to("unsubscribed", ROMEO)).await, ["push romeo@localhost none"]);
    // Unavailable while romeo still expects to see her (§3.2.2); the word before the push (§3.2.3).
    let told = romeo.told();
    assert_eq!(
        told,
        [
            "unavailable juliet@localhost/balcony -> romeo@localhost",
            "unsubscribed juliet@localhost -> romeo@localhost",
            "push juliet@localhost none"
        ]
    );
    juliet.says("<presence><show>dnd</show></presence>").await;
    assert!(romeo.told().is_empty());
}

#[tokio::test]
async fn the_user_unsubscribes() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    world.subscribe(&romeo, &juliet).await;
    world.subscribe(&juliet, &romeo).await;
    let told = romeo.says(&to("unsubscribe", JULIET)).await;
    assert_eq!(told, ["push juliet@localhost from", "unavailable juliet@localhost/balcony -> romeo@localhost"]);
    assert_eq!(juliet.told(), ["unsubscribe romeo@localhost -> juliet@localhost", "push romeo@localhost to"]);
    // The other way stays.
    romeo.says("<presence><show>away</show></presence>").await;
    assert_eq!(juliet.told(), ["available romeo@localhost/orchard -> juliet@localhost away"]);
}

#[tokio::test]
async fn who_is_approved_before_asking_is_not_asked_about() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    assert_eq!(juliet.says(&to("subscribed", ROMEO)).await, ["push romeo@localhost none approved"]);
    assert!(romeo.told().is_empty(), "not routed (§3.4.2)");
    assert_eq!(
        romeo.says(&to("subscribe", JULIET)).await,
        [
            "push juliet@localhost none ask",
            "subscribed juliet@localhost -> romeo@localhost",
            "push juliet@localhost to",
            "available juliet@localhost/balcony -> romeo@localhost"
        ]
    );
    assert_eq!(juliet.told(), ["push romeo@localhost from"]);
    // The approval was for one subscription.
    romeo.says(&to("unsubscribe", JULIET)).await;
    romeo.says(&to("subscribe", JULIET)).await;
    assert_eq!(juliet.told().last().unwrap(), "subscribe romeo@localhost -> juliet@localhost");
}

#[tokio::test]
async fn an_approval_is_taken_back_before_it_is_used() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    juliet.says(&to("subscribed", ROMEO)).await;
    assert_eq!(juliet.says(&to("unsubscribed", ROMEO)).await, ["push romeo@localhost none"]);
    assert!(romeo.told().is_empty(), "not routed (§3.2.2)");
    romeo.says(&to("subscribe", JULIET)).await;
    assert_eq!(juliet.told(), ["subscribe romeo@localhost -> juliet@localhost"]);
}

#[tokio::test]
async fn subscribed_where_the_contact_sees_the_user_already_is_ignored() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    world.subscribe(&romeo, &juliet).await;
    assert!(juliet.says(&to("subscribed", ROMEO)).await.is_empty());
    assert!(romeo.told().is_empty());
}

#[tokio::test]
async fn removing_a_contact_ends_the_subscriptions_both_ways() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    world.subscribe(&romeo, &juliet).await;
    world.subscribe(&juliet, &romeo).await;
    let told = remove(&juliet, ROMEO).await;
    assert_eq!(
        told,
        ["push romeo@localhost remove", "unavailable romeo@localhost/orchard -> juliet@localhost", "result rm"]
    );
    assert_eq!(
        romeo.told(),
        [
            "unavailable juliet@localhost/balcony -> romeo@localhost",
            "unsubscribe juliet@localhost -> romeo@localhost",
            "push juliet@localhost to",
            "unsubscribed juliet@localhost -> romeo@localhost",
            "push juliet@localhost none"
        ]
    );
}

#[tokio::test]
async fn removing_a_contact_of_one_way_ends_that_way() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    world.subscribe(&romeo, &juliet).await;
    remove(&romeo, JULIET).await;
    assert_eq!(juliet.told(), ["unsubscribe romeo@localhost -> juliet@localhost", "push romeo@localhost none"]);
    world.subscribe(&romeo, &juliet).await;
    remove(&juliet, ROMEO).await;
    let told = romeo.told();
    assert_eq!(told[1..], ["unsubscribed juliet@localhost -> romeo@localhost", "push juliet@localhost none"]);
    assert!(told[0].starts_with("unavailable"));
}

#[tokio::test]
async fn removing_a_contact_takes_a_request_back_and_denies_one() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    romeo.says(&to("subscribe", JULIET)).await;
    remove(&romeo, JULIET).await;
    assert_eq!(juliet.told().last().unwrap(), "unsubscribe romeo@localhost -> juliet@localhost");
    // And where the contact has asked.
    romeo.says(&to("subscribe", JULIET)).await;
    juliet.says(&to("subscribe", ROMEO)).await;
    romeo.read();
    remove(&juliet, ROMEO).await;
    assert_eq!(roster(&romeo).await, "roster juliet@localhost none");
    assert!(!world.bind(JULIET, "chamber").await.says("<presence/>").await.concat().contains("subscribe"));
}

#[tokio::test]
async fn words_that_nobody_asked_for_change_nothing_and_are_not_shown() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (_, juliet) = lovers(&world).await;
    for kind in ["subscribed", "unsubscribe", "unsubscribed"] {
        for from in ["mallory@remote.example", "mallory@remote.example/x"] {
            world.route(&format!("<presence type='{kind}' from='{from}' to='juliet@localhost'/>")).await;
        }
    }
    assert!(juliet.told().is_empty());
    assert_eq!(roster(&juliet).await, "roster");
}

#[tokio::test]
async fn a_request_of_another_server_is_shown_from_the_bare_jid() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    world.route("<presence type='subscribe' from='romeo@remote.example/orchard' to='juliet@localhost/balcony'/>").await;
    assert_eq!(juliet.told(), ["subscribe romeo@remote.example -> juliet@localhost"]);
    let told = juliet.says(&to("subscribed", "romeo@remote.example")).await;
    // Her presence has gone out as well, and come back.
    assert_eq!(told, ["push romeo@remote.example from", "error romeo@remote.example remote-server-not-found"]);
}

#[tokio::test]
async fn a_request_to_a_server_that_is_not_there_is_told_and_tried_again() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    let told = juliet.says(&to("subscribe", "romeo@remote.example")).await;
    assert_eq!(told, ["push romeo@remote.example none ask", "error romeo@remote.example remote-server-not-found"]);
    assert_eq!(roster(&juliet).await, "roster romeo@remote.example none ask", "an error is no answer");
    // The repetition at the next login is the server's own affair.
    let later = world.bind(JULIET, "chamber").await;
    assert!(!later.says("<presence/>").await.concat().contains("error"));
}

#[tokio::test]
async fn a_request_that_was_lost_is_repeated_by_the_first_resource_that_comes() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    romeo.says(&to("subscribe", JULIET)).await;
    // Juliet's side forgets, as if it had been lost on the way.
    juliet.read();
    world.route("<presence type='unsubscribe' from='romeo@localhost' to='juliet@localhost'/>").await;
    juliet.read();
    world.interested(ROMEO, "second").await;
    assert!(juliet.told().is_empty(), "another resource is there");
    romeo.says("<presence type='unavailable'/>").await;
    let others = world.server.account(&crate::world::jid(ROMEO)).await.unwrap().unwrap().sessions();
    for other in others.iter().filter(|other| other.is_available()) {
        world.server.end_session(other).await;
    }
    romeo.says("<presence/>").await;
    assert_eq!(juliet.told(), ["subscribe romeo@localhost -> juliet@localhost"]);
}

#[tokio::test]
async fn a5_a_request_to_nobody_and_to_somebody_who_is_away_look_the_same() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    for contact in [ROMEO, "nobody@localhost"] {
        for (kind, item) in [("subscribe", "none ask"), ("unsubscribe", "none")] {
            assert_eq!(juliet.says(&to(kind, contact)).await, [format!("push {contact} {item}")]);
        }
    }
}

#[tokio::test]
async fn a_word_to_nobody_is_a_bad_request_and_to_oneself_is_none() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    for kind in ["subscribe", "subscribed", "unsubscribe", "unsubscribed"] {
        assert_eq!(juliet.says(&format!("<presence type='{kind}'/>")).await, ["error  bad-request"]);
        for own in [JULIET, "juliet@localhost/balcony"] {
            assert!(juliet.says(&to(kind, own)).await.is_empty());
        }
    }
    assert_eq!(roster(&juliet).await, "roster");
}

#[tokio::test]
async fn b16_requests_that_wait_are_bounded_in_number_and_size() {
    let world = World::with_conf("[limits]\nroster = 3\n[host.localhost]\n", &[JULIET]).await;
    let long = "x".repeat(20_000);
    for number in 0..5 {
        world.route(&format!("<presence type='subscribe' from='m{number}@remote.example' to='juliet@localhost'><status>{long}</status></presence>")).await;
    }
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.send("<presence/>").await;
    let requests: Vec<_> =
        juliet.stanzas().into_iter().filter(|stanza| stanza.get("type") == Some("subscribe")).collect();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.find("status", ns::CLIENT).is_none()));
}

/// Two users who say whatever comes to their minds agree in the end on who sees whom.
#[tokio::test]
async fn both_rosters_agree_whatever_is_said() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (romeo, juliet) = lovers(&world).await;
    let mut dice: u64 = 6121;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) % sides
    };
    for number in 0..500 {
        let (speaker, other) = if roll(2) == 0 { (&romeo, JULIET) } else { (&juliet, ROMEO) };
        match roll(6) {
            0 | 1 => speaker.send(&to("subscribe", other)).await,
            2 => speaker.send(&to("subscribed", other)).await,
            3 => speaker.send(&to("unsubscribe", other)).await,
            4 => speaker.send(&to("unsubscribed", other)).await,
            _ => drop(remove(speaker, other).await),
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
}

#[tokio::test]
async fn what_leaves_the_server_is_from_bare_to_bare_and_in_order() {
    let world = outside::world(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    let paris = "paris@outside.example";
    let hears = |kind: &str| format!("<presence type='{kind}' from='{paris}/x' to='juliet@localhost'/>");
    let (subscribe, available) =
        (format!("subscribe juliet@localhost -> {paris}"), format!("available juliet@localhost/balcony -> {paris}"));
    let (subscribed, unavailable) =
        (format!("subscribed juliet@localhost -> {paris}"), format!("unavailable juliet@localhost/balcony -> {paris}"));
    let (unsubscribe, unsubscribed) =
        (format!("unsubscribe juliet@localhost -> {paris}"), format!("unsubscribed juliet@localhost -> {paris}"));

    juliet.send(&to("subscribe", "paris@outside.example/x")).await;
    assert_eq!(outside::seen(), [subscribe.as_str()]);
    // Routed again, though nothing changes (Appendix A.2.1).
    juliet.send(&to("subscribe", paris)).await;
    assert_eq!(outside::seen(), [subscribe.as_str()]);
    world.route(&hears("subscribe")).await;
    assert!(outside::seen().is_empty(), "nobody approves in her name (§3.1.3)");
    juliet.send(&to("subscribed", paris)).await;
    assert_eq!(outside::seen(), [subscribed.as_str(), &available]);
    // The other server has lost it: the answer comes at once.
    world.route(&hears("subscribe")).await;
    assert_eq!(outside::seen(), [subscribed.as_str(), &available]);
    world.route(&hears("unsubscribe")).await;
    assert_eq!(outside::seen(), [unavailable.as_str()]);
    // Approved before being asked: an answer, and what there is to see.
    juliet.send(&to("subscribed", paris)).await;
    assert!(outside::seen().is_empty());
    world.route(&hears("subscribe")).await;
    assert_eq!(outside::seen(), [subscribed.as_str(), &available]);
    juliet.send(&to("unsubscribed", paris)).await;
    assert_eq!(outside::seen(), [unavailable.as_str(), &unsubscribed]);
    juliet.send(&to("unsubscribe", paris)).await;
    assert_eq!(outside::seen(), [unsubscribe.as_str()]);

    juliet.send(&to("subscribed", paris)).await;
    world.route(&hears("subscribe")).await;
    juliet.send(&to("subscribe", paris)).await;
    world.route(&hears("subscribed")).await;
    outside::seen();
    remove(&juliet, paris).await;
    assert_eq!(outside::seen(), [unavailable.as_str(), &unsubscribe, &unsubscribed]);
}
