//! Messages that are sent again after a lost connection or a crash are taken once, and count as handled when the first one
//! does (design: "resending is harmless"; XEP-0198 §5, XEP-0359 §5).

use std::time::Duration;

use rookery_core::store::{ArchiveQuery, ArchiveStore, Page, StoreError};

use crate::world::{Client, World, jid};

const BOTH: &[&str] = &["romeo@localhost", "juliet@localhost"];

/// The name is part of the message's id, which is as unique as clients' ids are.
fn chat(name: &str, body: &str) -> String {
    format!("<message type='chat' to='juliet@localhost' id='{name}-5f3dbc5e-e1d3'><body>{body}</body></message>")
}

async fn archive(world: &World, user: &str) -> Vec<String> {
    let query = ArchiveQuery {
        with: None,
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page: Page::First,
        max: 1000,
        count: false,
    };
    let page = world.store.archive_page(&jid(user), &query).await.unwrap().unwrap();
    let text = |stanza: &[u8]| String::from_utf8(stanza.to_vec()).unwrap();
    page.messages.iter().flat_map(|message| crate::world::bodies(&text(&message.stanza))).collect()
}

fn handled(client: &Client) -> u32 {
    client.session.handled().unwrap()
}

async fn committed() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_on_a_new_stream_arrives_once() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    committed().await;
    romeo.leave().await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    romeo.send(&chat("two", "second")).await;
    committed().await;
    assert_eq!(juliet.bodies(), ["first", "second"]);
    assert_eq!(handled(&romeo), 2);
    assert_eq!(archive(&world, "romeo@localhost").await, ["first", "second"]);
    assert_eq!(archive(&world, "juliet@localhost").await, ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn it_counts_as_handled_when_the_first_one_is_on_disk_and_not_before() {
    let world = World::new(BOTH).await;
    world.store.pause_commits();
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    romeo.leave().await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    committed().await;
    assert_eq!(handled(&romeo), 0);
    world.store.resume_commits();
    committed().await;
    assert_eq!(handled(&romeo), 1);
    assert_eq!(archive(&world, "juliet@localhost").await, ["first"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_known_after_a_crash_if_it_was_on_disk() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    committed().await;
    let world = world.start_again().await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    romeo.send(&chat("two", "second")).await;
    committed().await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    committed().await;
    assert_eq!(archive(&world, "romeo@localhost").await, ["first", "second"]);
    assert_eq!(archive(&world, "juliet@localhost").await, ["first", "second"]);
    drop(juliet);
}

/// Who gets much remembers no more than the last thousands; the database does.
#[tokio::test(start_paused = true)]
async fn who_has_had_much_since_takes_it_once() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    committed().await;
    romeo.leave().await;
    for round in 0..50 {
        for number in 0..100 {
            let id = format!("<origin-id xmlns='urn:xmpp:sid:0' id='{round}-{number}'/>");
            juliet.send(&format!("<message type='chat' to='juliet@localhost'><body>note</body>{id}</message>")).await;
        }
        juliet.read();
        committed().await;
    }
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    romeo.send(&chat("two", "second")).await;
    committed().await;
    assert_eq!(juliet.bodies(), ["second"]);
    assert_eq!(handled(&romeo), 2);
    assert_eq!(archive(&world, "romeo@localhost").await, ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_may_be_sent_again() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    world.store.fail(Some(StoreError::Full("no space".into())));
    romeo.send(&chat("one", "first")).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let told = romeo.read();
    assert!(told.contains("<message") && told.contains("type='error'") && told.contains("type='wait'"), "{told}");
    world.store.fail(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    romeo.leave().await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    committed().await;
    assert_eq!(archive(&world, "juliet@localhost").await, ["first"]);
    assert_eq!(archive(&world, "romeo@localhost").await, ["first"]);
}

#[tokio::test(start_paused = true)]
async fn an_id_alone_means_nothing_without_acknowledgements() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    for _ in 0..2 {
        let alarm = world.login("romeo@localhost", "cron").await;
        alarm.send(&chat("1", "the disk is full")).await;
        alarm.leave().await;
    }
    assert_eq!(juliet.bodies(), ["the disk is full", "the disk is full"]);
}

#[tokio::test(start_paused = true)]
async fn an_origin_id_is_known_whoever_sends_it_again() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let message = "<message type='chat' to='juliet@localhost'><body>once</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>";
    for resource in ["a", "b"] {
        world.login("romeo@localhost", resource).await.send(message).await;
    }
    assert_eq!(juliet.bodies(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_words_or_the_same_id_alone_are_not_the_same_message() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let one = world.login_resumable("romeo@localhost", "one").await;
    one.send(&chat("a", "yes")).await;
    one.send(&chat("a", "yes")).await;
    let two = world.login_resumable("romeo@localhost", "two").await;
    two.send(&chat("b", "yes")).await;
    two.send(&chat("a", "no")).await;
    assert_eq!(juliet.bodies(), ["yes", "yes", "yes", "no"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_to_oneself_is_archived_once_and_may_be_sent_again() {
    let world = World::new(BOTH).await;
    let message = "<message type='chat' to='romeo@localhost' id='n-5f3dbc5e-e1d3'><body>note</body></message>";
    for _ in 0..2 {
        let romeo = world.login_resumable("romeo@localhost", "orchard").await;
        romeo.send(message).await;
        committed().await;
        romeo.read();
        romeo.leave().await;
    }
    assert_eq!(archive(&world, "romeo@localhost").await, ["note"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_archived_is_not_acknowledged_before_it_is_on_disk() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("one", "first")).await;
    committed().await;
    // It is delivered at once, and even confirmed.
    assert_eq!(juliet.bodies(), ["first"]);
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    assert_eq!(handled(&romeo), 0);
    world.store.resume_commits();
    committed().await;
    assert_eq!(handled(&romeo), 1);
    // And it does not come again.
    juliet.leave().await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    committed().await;
    assert_eq!(juliet.bodies(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn t7_with_a_database_that_takes_nothing_new_messages_are_refused_after_ten_seconds() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    world.store.fail(Some(StoreError::Unavailable("gone".into())));
    romeo.send(&chat("one", "while it is new")).await;
    assert_eq!(juliet.bodies(), ["while it is new"]);
    tokio::time::sleep(Duration::from_secs(11)).await;
    romeo.send(&chat("two", "too late")).await;
    let told = romeo.read();
    assert!(told.contains("id='two-5f3dbc5e-e1d3'") && told.contains("type='wait'"), "{told}");
    assert_eq!(juliet.bodies(), Vec::<String>::new());
    // What needs no storage goes on.
    romeo.send("<message type='chat' to='juliet@localhost'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>").await;
    romeo.send("<message type='chat' to='juliet@localhost'><body>secret</body><no-store xmlns='urn:xmpp:hints'/></message>").await;
    let got = juliet.read();
    assert!(got.contains("composing") && got.contains("secret"), "{got}");
    // Two for these, and the refusal, wait behind the first, which is not on disk.
    assert_eq!(handled(&romeo), 0);
    world.store.fail(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(handled(&romeo), 4);
    romeo.send(&chat("two", "too late")).await;
    assert_eq!(juliet.bodies(), ["too late"]);
    committed().await;
    assert_eq!(archive(&world, "romeo@localhost").await, ["while it is new", "too late"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_the_same_id_and_words_is_not_the_message_again() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    let echo = world.login_resumable("juliet@localhost", "echo").await;
    romeo.send(&chat("one", "hello")).await;
    assert_eq!(echo.bodies(), ["hello"]);
    // As programs answer that take the message and turn its addresses round.
    echo.send("<message type='chat' to='romeo@localhost/orchard' id='one-5f3dbc5e-e1d3'><body>hello</body></message>")
        .await;
    assert_eq!(romeo.bodies(), ["hello"]);
    committed().await;
    assert_eq!(archive(&world, "romeo@localhost").await, ["hello", "hello"]);
    assert_eq!(archive(&world, "juliet@localhost").await, ["hello", "hello"]);
}

#[tokio::test(start_paused = true)]
async fn messages_without_text_are_told_apart_by_what_they_say() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let displayed = |of: &str| {
        format!(
            "<message type='chat' to='juliet@localhost' id='5f3dbc5e-e1d3'><displayed xmlns='urn:xmpp:chat-markers:0' id='{of}'/>\
             </message>"
        )
    };
    for of in ["a", "a", "b"] {
        let romeo = world.login_resumable("romeo@localhost", "orchard").await;
        romeo.send(&displayed(of)).await;
        romeo.leave().await;
    }
    let got = juliet.read();
    assert_eq!((got.matches(" id='a'/>").count(), got.matches(" id='b'/>").count()), (1, 1), "{got}");
}

#[tokio::test(start_paused = true)]
async fn a_stamp_that_is_put_on_what_is_sent_again_makes_no_other_message() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let reaction = "<reactions xmlns='urn:xmpp:reactions:0' id='a'><reaction>x</reaction></reactions>";
    for stamp in ["", "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"] {
        let romeo = world.login_resumable("romeo@localhost", "orchard").await;
        romeo
            .send(&format!("<message type='chat' to='juliet@localhost' id='5f3dbc5e-e1d3'>{reaction}{stamp}</message>"))
            .await;
        romeo.leave().await;
    }
    assert_eq!(juliet.read().matches("<reaction>").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_archive_what_waits_is_known_after_a_crash() {
    let world = World::without_archive(BOTH).await;
    for _ in 0..2 {
        let romeo = world.login_resumable("romeo@localhost", "orchard").await;
        romeo.send(&chat("one", "first")).await;
        committed().await;
        assert_eq!(handled(&romeo), 1);
    }
    let world = world.start_again().await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.send(&chat("one", "first")).await;
    committed().await;
    assert_eq!(handled(&romeo), 1);
    let juliet = world.login("juliet@localhost", "balcony").await;
    committed().await;
    assert_eq!(juliet.bodies(), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn programs_that_count_anew_whenever_they_start_are_heard() {
    let world = World::new(BOTH).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    for _ in 0..2 {
        let romeo = world.login_resumable("romeo@localhost", "orchard").await;
        romeo.send("<message type='chat' to='juliet@localhost' id='aab1a'><body>good morning</body></message>").await;
        romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await;
        committed().await;
        assert!(romeo.read().contains("h='1'"), "it was acknowledged");
        romeo.leave().await;
        assert_eq!(juliet.bodies(), ["good morning"]);
    }
    assert_eq!(archive(&world, "romeo@localhost").await, ["good morning", "good morning"]);
    assert_eq!(archive(&world, "juliet@localhost").await, ["good morning", "good morning"]);
}
