//! Nothing acknowledged is lost: the tail, the acknowledgements that wait for it, and RFC 6121 §8.5.

use std::time::Duration;

use rookery_core::store::{StoreError, TailStore};

use crate::world::{World, bodies, jid};

fn chat(to: &str, body: &str) -> String {
    format!("<message type='chat' to='{to}' id='{body}'><body>{body}</body></message>")
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_all_resources_that_are_not_negative() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let balcony = world.login("juliet@localhost", "balcony").await;
    let chamber = world.login("juliet@localhost", "chamber").await;
    let hidden = world.bind("juliet@localhost", "hidden").await;
    hidden.send("<presence><priority>-1</priority></presence>").await;
    for client in [&balcony, &chamber, &hidden] {
        client.read();
    }
    romeo.send(&chat("juliet@localhost", "one")).await;
    let got = balcony.read();
    assert!(got.starts_with("<message"), "got {got}");
    assert!(got.contains("from='romeo@localhost/orchard'"), "got {got}");
    assert!(got.contains("<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@localhost'"), "got {got}");
    assert_eq!(chamber.bodies(), ["one"]);
    assert_eq!(hidden.read(), "");
    romeo.send(&chat("juliet@localhost/hidden", "two")).await;
    assert_eq!(hidden.bodies(), ["two"]);
    assert_eq!(balcony.read(), "");
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_in_time_never_touches_the_disk() {
    let world = World::without_archive(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let before = world.store.commits();
    for number in 0..100 {
        romeo.send(&chat("juliet@localhost", &number.to_string())).await;
        assert_eq!(juliet.bodies(), [number.to_string()]);
    }
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.store.commits(), before);
}

#[tokio::test(start_paused = true)]
async fn an_offline_message_is_acknowledged_after_the_commit_and_delivered_once_with_its_time() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("juliet@localhost", "one")).await;
    romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(romeo.read(), "<a xmlns='urn:xmpp:sm:3' h='0'/>", "not on disk, so not counted; but answered");
    world.store.resume_commits();
    pass(Duration::from_secs(1)).await;
    assert_eq!(romeo.read(), "<a xmlns='urn:xmpp:sm:3' h='1'/>", "the rest comes unasked");

    let juliet = world.bind("juliet@localhost", "balcony").await;
    juliet.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    let got = juliet.read();
    assert_eq!(bodies(&got), ["one"]);
    assert!(got.contains("<delay xmlns='urn:xmpp:delay' from='localhost' stamp='"), "got {got}");
    pass(Duration::from_secs(1)).await;
    assert!(world.store.tail(&jid("juliet@localhost"), 0, u64::MAX, 10).await.unwrap().is_empty());
    let second = world.bind("juliet@localhost", "chamber").await;
    second.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    assert!(second.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_confirmed_is_acknowledged_though_the_disk_hangs() {
    let world = World::without_archive(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    world.store.pause_commits();
    romeo.send(&chat("juliet@localhost", "one")).await;
    assert_eq!(juliet.bodies(), ["one"]);
    romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(romeo.read(), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
}

#[tokio::test(start_paused = true)]
async fn a_detached_session_keeps_its_messages_and_gets_them_on_resumption() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    assert_eq!(juliet.bodies(), ["one"], "written, but not acknowledged");
    juliet.cut().await;
    romeo.send(&chat("juliet@localhost", "two")).await;
    pass(Duration::from_secs(5)).await;
    let connection = world.server.resume(&juliet.session, 0, |h| format!("<resumed h='{h}'/>").into()).await.unwrap();
    assert_ne!(connection, juliet.connection);
    let got = juliet.read();
    assert!(got.starts_with("<resumed h='0'/>"), "got {got}");
    assert_eq!(bodies(&got), ["one", "two"]);
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='2'/>").await;
    pass(Duration::from_secs(5)).await;
    assert!(world.store.tail(&jid("juliet@localhost"), 0, u64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_detached_session_that_is_flooded_with_presence_loses_no_message() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.cut().await;
    let status = "x".repeat(10_000);
    for _ in 0..100 {
        romeo.send(&format!("<presence to='juliet@localhost'><status>{status}</status></presence>")).await;
    }
    romeo.send(&chat("juliet@localhost", "one")).await;
    pass(Duration::from_secs(5)).await;
    world.server.resume(&juliet.session, 0, |h| format!("<resumed h='{h}'/>").into()).await.unwrap();
    romeo.send(&chat("juliet@localhost", "two")).await;
    let (mut got, mut handled) = (Vec::new(), 0);
    for _ in 0..10 {
        let xml = juliet.read();
        handled += xml.matches("</presence>").count() + xml.matches("</message>").count();
        got.extend(bodies(&xml));
        juliet.send(&format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>")).await;
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(got, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_resumed_in_time_leaves_its_messages_to_the_next_login() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    juliet.read();
    juliet.cut().await;
    romeo.send(&chat("juliet@localhost", "two")).await;
    pass(Duration::from_secs(601)).await;
    assert!(juliet.session.is_closed());
    let juliet = world.bind("juliet@localhost", "chamber").await;
    juliet.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(juliet.bodies(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_resumption_that_counts_backwards_leaves_no_session_behind() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    juliet.read();
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    romeo.send(&chat("juliet@localhost", "two")).await;
    assert!(world.server.resume(&juliet.session, 0, |_| Default::default()).await.is_err());
    juliet.cut().await;
    assert!(juliet.session.is_detached(), "without a connection it waits as any other");
    pass(Duration::from_secs(601)).await;
    assert!(juliet.session.is_closed());
    let juliet = world.login("juliet@localhost", "chamber").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(juliet.bodies(), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_anew_gets_what_its_lost_session_holds() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let lost = world.login_resumable("juliet@localhost", "phone").await;
    lost.cut().await;
    for body in ["one", "two"] {
        romeo.send(&chat("juliet@localhost", body)).await;
    }
    let juliet = world.bind("juliet@localhost", "other").await;
    juliet.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(juliet.bodies(), ["one", "two"]);
    // The lost session ends: what it held has been delivered meanwhile.
    pass(Duration::from_secs(601)).await;
    assert!(juliet.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_resource_bound_again_takes_over() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let old = world.login_resumable("juliet@localhost", "phone").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    old.read();
    let new = world.bind("juliet@localhost", "phone").await;
    new.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    assert!(old.session.is_closed());
    assert_eq!(new.bodies(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_refuses_what_only_it_could_keep_and_no_more() {
    let world = World::without_archive(&["romeo@localhost", "juliet@localhost", "nurse@localhost"]).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    // The nurse is in memory, so that only the write fails.
    let nurse = world.login("nurse@localhost", "kitchen").await;
    nurse.leave().await;
    world.store.fail(Some(StoreError::Full("no space left".to_owned())));
    romeo.send(&chat("nurse@localhost", "kept by nobody")).await;
    romeo.send(&chat("juliet@localhost", "delivered")).await;
    assert_eq!(juliet.bodies(), ["delivered"]);
    romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(romeo.read(), "<a xmlns='urn:xmpp:sm:3' h='0'/>");
    pass(Duration::from_secs(15)).await;
    let got = romeo.read();
    assert!(
        got.contains("<message") && got.contains("type='error'") && got.contains("id='kept by nobody'"),
        "got {got}"
    );
    assert!(got.contains("type='wait'"), "got {got}");
    assert!(got.contains("<a xmlns='urn:xmpp:sm:3' h='2'/>"), "its fate is known, so it counts: {got}");
    // Now that failures are known, the next one is told at once.
    romeo.send(&chat("nurse@localhost", "next")).await;
    assert!(romeo.read().contains("type='wait'"));
    world.store.fail(None);
    pass(Duration::from_secs(5)).await;
    romeo.send(&chat("juliet@localhost", "x")).await;
    juliet.read();
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_all_in_order_from_the_tail() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let long = "x".repeat(4000);
    let numbers: Vec<String> = (0..500).map(|number| format!("{number} {long}")).collect();
    for body in &numbers {
        romeo.send(&format!("<message type='chat' to='juliet@localhost'><body>{body}</body></message>")).await;
    }
    let mut got = Vec::new();
    for _ in 0..200 {
        got.extend(juliet.bodies());
        pass(Duration::from_millis(100)).await;
    }
    assert_eq!(got.len(), numbers.len());
    assert_eq!(got, numbers);
}

/// Hundreds come back at once when a server or a network does. They read what waits for them in turns, and who waits for a turn
/// has not run out of time.
#[tokio::test(start_paused = true)]
async fn who_come_back_at_once_read_their_tails_in_turns() {
    let users: Vec<String> = (0..40).map(|n| format!("u{n}@localhost")).collect();
    let world = World::new(&users.iter().map(String::as_str).chain(["romeo@localhost"]).collect::<Vec<_>>()).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let mut back = Vec::new();
    for user in &users {
        romeo.send(&chat(user, "one")).await;
        back.push(world.bind(user, "phone").await);
    }
    pass(Duration::from_secs(1)).await;
    world.store.slow(Duration::from_secs(1));
    let before = world.store.tails().all;
    for user in &back {
        user.send("<presence/>").await;
    }
    pass(Duration::from_secs(60)).await;
    assert!(back.iter().all(|user| user.bodies() == ["one"]));
    let tails = world.store.tails();
    assert_eq!((tails.all - before, tails.most), (back.len(), world.store.tail_readers()), "each once");
}

#[tokio::test(start_paused = true)]
async fn messages_to_a_full_jid_that_is_gone() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost/gone", "chat goes to the others")).await;
    assert_eq!(juliet.bodies(), ["chat goes to the others"]);
    for kind in ["normal", "groupchat"] {
        romeo.send(&format!("<message type='{kind}' to='juliet@localhost/gone'><body>x</body></message>")).await;
        assert!(romeo.read().contains("service-unavailable"), "{kind}");
    }
    for kind in ["headline", "error"] {
        romeo.send(&format!("<message type='{kind}' to='juliet@localhost/gone'><body>x</body></message>")).await;
        assert_eq!(romeo.read(), "", "{kind}");
    }
    assert_eq!(juliet.read(), "");
}

#[tokio::test(start_paused = true)]
async fn errors_are_never_answered_with_errors() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    for to in ["nobody@localhost", "localhost", "romeo@remote.example", "romeo@localhost/gone"] {
        romeo.send(&format!("<message type='error' to='{to}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")).await;
        romeo.send(&format!("<iq type='error' id='1' to='{to}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")).await;
        romeo.send(&format!("<iq type='result' id='1' to='{to}'/>")).await;
        assert_eq!(romeo.read(), "", "{to}");
    }
    romeo.send(&chat("romeo@remote.example", "x")).await;
    assert!(romeo.read().contains("remote-server-not-found"));
}

#[tokio::test(start_paused = true)]
async fn c3_forged_stanza_ids_are_taken_out_in_every_spelling() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    romeo
        .send(
            "<message type='chat' to='juliet@localhost'><stanza-id xmlns='urn:xmpp:sid:0' by='juliet@localhost' id='forged'/>\
             <body>x</body><s:stanza-id xmlns:s='urn:xmpp:sid:0' by='juliet@localhost' id='forged'/>\
             <received xmlns='urn:xmpp:carbons:2'/></message>",
        )
        .await;
    let got = juliet.read();
    assert!(!got.contains("forged") && !got.contains("carbons"), "got {got}");
    assert_eq!(got.matches("urn:xmpp:sid:0").count(), 1, "got {got}");
}

#[tokio::test(start_paused = true)]
async fn c3_other_servers_give_no_ids_in_an_accounts_name() {
    let world = World::new(&["juliet@localhost"]).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let id = |name: &str, by: &str| format!("<{name}='urn:xmpp:sid:0' {by} id='forged'/>");
    let (plain, prefixed) = ("stanza-id xmlns", "s:stanza-id xmlns:s");
    let forged: String = ["by='juliet@localhost'", "by=' Juliet@LOCALHOST '", "by='juliet&#64;localhost/balcony'", ""]
        .into_iter()
        .flat_map(|by| [id(plain, by), id(prefixed, by)])
        .collect();
    let theirs = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@chat.example' id='theirs'/>";
    for (kind, own) in [("chat", 1), ("groupchat", 0), ("headline", 0)] {
        let message = format!(
            "<message type='{kind}' from='room@chat.example/nurse' to='juliet@localhost/balcony'>{forged}<body>x</body>\
             {theirs}</message>"
        );
        world.route(&message).await;
        let got = juliet.read();
        assert!(!got.contains("forged") && got.contains("id='theirs'"), "{got}");
        assert_eq!(got.matches("by='juliet@localhost'").count(), own, "{got}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_eleventh_resource_is_refused_and_a_detached_one_makes_room() {
    let world = World::new(&["juliet@localhost"]).await;
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(world.login_resumable("juliet@localhost", &number.to_string()).await);
    }
    let stream = || rookery_core::session::StreamInfo { id: 99, peer: [127, 0, 0, 1].into(), secured: true };
    assert!(world.server.bind(&jid("juliet@localhost"), Some("eleventh"), stream()).await.is_err());
    clients[3].cut().await;
    assert!(world.server.bind(&jid("juliet@localhost"), Some("eleventh"), stream()).await.is_ok());
    assert!(clients[3].session.is_closed());
}
