//! The group commit where it meets accounts that go, databases that fail, and queries that wait for it.

use std::time::Duration;

use rookery_core::store::{AccountStore, StoreError, TailStore};
use rookery_xmpp::sasl::Credentials;

use crate::world::{Client, World, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";
const PARIS: &str = "paris@localhost";
const NURSE: &str = "nurse@localhost";
const ALL: &[&str] = &[ROMEO, JULIET, PARIS, NURSE];

fn chat(to: &str, body: &str) -> String {
    let id = body.get(..10).unwrap_or(body);
    format!("<message type='chat' to='{to}' id='{id}'><body>{body}</body></message>")
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn committed() {
    pass(Duration::from_millis(200)).await;
}

async fn handled(client: &Client, h: u32) {
    for _ in 0..10_000 {
        if client.session.handled() == Some(h) {
            return;
        }
        pass(Duration::from_millis(1)).await;
    }
    panic!("{:?} are handled, and not {h}", client.session.handled());
}

#[tokio::test(start_paused = true)]
async fn what_comes_later_and_needs_no_disk_does_not_stand_for_what_came_before() {
    let world = World::new(ALL).await;
    let (romeo, juliet) = (world.login(ROMEO, "a").await, world.login(JULIET, "a").await);
    let (paris, nurse) = (world.login(PARIS, "a").await, world.login(NURSE, "a").await);
    for client in [&paris, &nurse] {
        client.send("<iq type='set' id='p'><prefs xmlns='urn:xmpp:mam:2' default='never'/></iq>").await;
        committed().await;
        assert!(client.read().contains("type='result'"));
    }
    world.store.fail(Some(StoreError::Full("no space".into())));
    romeo.send(&chat(JULIET, "one")).await;
    assert_eq!(juliet.bodies(), ["one"]);
    let recorded = tokio::spawn({
        let (server, account) = (world.server.clone(), juliet.session.account.clone());
        async move { server.recorded(&account).await }
    });
    world.settle().await;
    for body in ["two", "three", "four"] {
        paris.send(&chat(NURSE, body)).await;
        assert_eq!(nurse.bodies(), [body]);
    }
    pass(Duration::from_secs(5)).await;
    assert!(!recorded.is_finished(), "the message is not on disk");
    world.store.fail(None);
    pass(Duration::from_secs(2)).await;
    assert!(recorded.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn c8_whoever_gets_the_name_of_a_deleted_account_does_not_find_what_was_being_written_for_it() {
    let world = World::new(ALL).await;
    let romeo = world.login_resumable(ROMEO, "a").await;
    world.store.pause_commits();
    romeo.send(&chat(JULIET, "one")).await;
    world.store.commits_held(1).await;
    assert!(world.server.delete_account(&jid(JULIET)).await.unwrap());
    let credentials = Credentials::from_password("other", 4096).unwrap();
    assert!(world.store.create_account(&jid(JULIET), &credentials).await.unwrap());
    world.store.resume_commits();
    committed().await;
    assert_eq!(world.store.tail(&jid(JULIET), 0, u64::MAX, 10).await.unwrap(), []);
    let juliet = world.login(JULIET, "a").await;
    assert!(juliet.query("").await.bodies().is_empty());
    assert_eq!(juliet.bodies(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_database_that_has_recovered_is_used_though_nothing_is_left_to_try_it_with() {
    let world = World::new(ALL).await;
    let romeo = world.login(ROMEO, "a").await;
    let paris = world.login_resumable(PARIS, "a").await;
    world.store.fail(Some(StoreError::Full("no space".into())));
    // For his own archive alone: nobody takes it.
    romeo.send(&chat("mercutio@localhost", "one")).await;
    pass(Duration::from_millis(100)).await;
    world.store.fail(None);
    assert!(world.server.delete_account(&jid(ROMEO)).await.unwrap());
    pass(Duration::from_secs(20)).await;
    paris.send(&chat(JULIET, "two")).await;
    committed().await;
    assert_eq!(paris.read(), "");
    assert_eq!(world.store.tail(&jid(JULIET), 0, u64::MAX, 10).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_database_goes_there_in_pieces_that_it_can_take() {
    let world = World::new(ALL).await;
    let (romeo, juliet) = (world.login_resumable(ROMEO, "a").await, world.login(JULIET, "a").await);
    world.store.pause_commits();
    romeo.send(&chat(JULIET, "0")).await;
    world.store.commits_held(1).await;
    let long = "x".repeat(200_000);
    for number in 1..=100 {
        romeo.send(&chat(JULIET, &format!("{number:010}{long}"))).await;
        juliet.read();
    }
    let before = world.store.commits();
    world.store.resume_commits();
    handled(&romeo, 101).await;
    // Twice 20 MB.
    let commits = world.store.commits() - before;
    assert!((9..50).contains(&commits), "{commits} commits");
}

#[tokio::test(start_paused = true)]
async fn a_message_and_its_result_that_a_session_has_not_confirmed_are_one_message_to_the_next() {
    let world = World::new(ALL).await;
    let romeo = world.login_resumable(ROMEO, "a").await;
    let phone = world.login_resumable(JULIET, "phone").await;
    romeo.send(&chat(JULIET, "one")).await;
    handled(&romeo, 1).await;
    assert_eq!(phone.query("").await.bodies(), ["one"]);
    assert_eq!(phone.query("").await.bodies(), ["one"]);
    let laptop = world.login(JULIET, "laptop").await;
    committed().await;
    assert_eq!(laptop.bodies(), Vec::<String>::new(), "the phone has it");
    phone.leave().await;
    committed().await;
    assert_eq!(laptop.bodies(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn an_account_is_let_go_though_a_resource_had_copies_of_what_waits() {
    let world = World::new(ALL).await;
    let romeo = world.login_resumable(ROMEO, "a").await;
    let tablet = world.bind(JULIET, "tablet").await;
    tablet.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    tablet.send("<presence><priority>-1</priority></presence>").await;
    tablet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    tablet.read();
    for body in ["one", "two"] {
        romeo.send(&chat(JULIET, body)).await;
    }
    handled(&romeo, 2).await;
    // One of them is confirmed.
    assert_eq!(tablet.bodies(), ["one", "two"]);
    tablet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    tablet.leave().await;
    drop(tablet);
    pass(Duration::from_secs(300)).await;
    assert!(world.server.accounts.loaded(JULIET).is_none(), "the account is in memory still");
    let juliet = world.login(JULIET, "phone").await;
    committed().await;
    assert_eq!(juliet.bodies(), ["one", "two"]);
}
