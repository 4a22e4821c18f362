//! A message to another server that its sender sends again goes there once, unless the first one came back (design:
//! "resending is harmless"; XEP-0198 §5). What is between accounts of the server itself is in `resend.rs`.

use std::time::Duration;

use rookery_core::remote::Failure;
use rookery_core::store::{AccountStore, StoreError, TailStore};
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::sasl::Credentials;

use crate::remote::{Net, Stream, on_disk, until_handled, until_on_disk};
use crate::world::{Client, World, jid};

const ROMEO: &str = "romeo@localhost";
const FAR: &str = "far.example";

/// The name is part of the message's id, which is as unique as clients' ids are.
fn chat(name: &str) -> String {
    format!("<message type='chat' to='juliet@far.example' id='{name}-5f3dbc5e-e1d3'><body>{name}</body></message>")
}

fn error(name: &str, from: &str) -> String {
    format!(
        "<message type='error' from='{from}' to='romeo@localhost/orchard' id='{name}-5f3dbc5e-e1d3'>\
         <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
    )
}

fn nowhere() -> Failure {
    Failure { definite: true, condition: Condition::RemoteServerNotFound, text: "There is no far.example.".to_owned() }
}

/// Romeo's connection and session are gone, and he is there again.
async fn back(world: &World, romeo: Client) -> Client {
    romeo.leave().await;
    world.login_resumable(ROMEO, "orchard").await
}

/// Romeo after a crash of the server, without what was not on disk.
async fn after_a_crash(world: &World) -> (World, Client) {
    let world = world.start_again().await;
    world.server.federate(std::sync::Arc::new(Net::default()));
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    (world, romeo)
}

/// Waits until Romeo's account knows so many messages on disk.
async fn until_known(world: &World, count: usize) {
    for _ in 0..10_000 {
        if world.store.seen(&jid(ROMEO), 0, u64::MAX, 99).await.unwrap().len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{:?} are known, and not {count}", world.store.seen(&jid(ROMEO), 0, u64::MAX, 99).await);
}

#[tokio::test]
async fn what_waits_or_has_gone_is_not_sent_again() {
    for archived in [true, false] {
        let world = if archived { World::new(&[ROMEO]).await } else { World::without_archive(&[ROMEO]).await };
        let _net = Net::of(&world);
        let romeo = world.login_resumable(ROMEO, "orchard").await;
        romeo.send(&chat("waits")).await;
        let romeo = back(&world, romeo).await;
        romeo.send(&chat("waits")).await;
        let stream = Stream::to(&world, FAR);
        assert_eq!(stream.read(), ["waits"]);
        let romeo = back(&world, romeo).await;
        romeo.send(&chat("waits")).await;
        assert!(stream.read().is_empty(), "a stream has it");
        stream.confirm();
        let romeo = back(&world, romeo).await;
        romeo.send(&chat("waits")).await;
        romeo.send(&chat("new")).await;
        assert_eq!(stream.read(), ["new"]);
        until_handled(&romeo, 2).await;
    }
}

#[tokio::test]
async fn what_is_said_twice_on_one_stream_goes_twice() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("yes")).await;
    romeo.send(&chat("yes")).await;
    assert_eq!(Stream::to(&world, FAR).read(), ["yes", "yes"]);
}

#[tokio::test]
async fn who_sends_again_waits_for_the_first() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    world.store.pause_commits();
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("one")).await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("one")).await;
    world.settle().await;
    assert_eq!(romeo.session.handled(), Some(0));
    world.store.resume_commits();
    until_handled(&romeo, 1).await;
    assert_eq!(on_disk(&world).await, 1);
}

#[tokio::test]
async fn it_is_known_after_a_crash_whether_it_waits_or_has_gone() {
    for archived in [true, false] {
        let world = if archived { World::new(&[ROMEO]).await } else { World::without_archive(&[ROMEO]).await };
        let _net = Net::of(&world);
        let romeo = world.login_resumable(ROMEO, "orchard").await;
        let stream = Stream::to(&world, FAR);
        // Its batch has not begun when the peer has it.
        romeo.send(&chat("quick")).await;
        assert_eq!(stream.read(), ["quick"]);
        stream.confirm();
        world.server.stored().await.unwrap();
        romeo.send(&chat("gone")).await;
        until_on_disk(&world, 1).await;
        assert_eq!(stream.read(), ["gone"]);
        stream.confirm();
        until_on_disk(&world, 0).await;
        romeo.send(&chat("waits")).await;
        until_on_disk(&world, 1).await;
        let (world, romeo) = after_a_crash(&world).await;
        for name in ["quick", "gone", "waits", "new"] {
            romeo.send(&chat(name)).await;
        }
        assert_eq!(Stream::to(&world, FAR).read(), ["waits", "new"]);
        until_handled(&romeo, 4).await;
    }
}

#[tokio::test]
async fn what_came_back_may_be_sent_again_after_a_crash_too() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("early")).await;
    romeo.send(&chat("late")).await;
    until_on_disk(&world, 2).await;
    let link = world.server.links_to(&jid(FAR)).remove(0);
    link.failed(nowhere());
    until_on_disk(&world, 0).await;
    assert_eq!(romeo.read().matches("<remote-server-not-found ").count(), 2);
    until_known(&world, 0).await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("early")).await;
    assert_eq!(Stream::carry(link).read(), ["early"]);
    until_on_disk(&world, 1).await;
    let (world, romeo) = after_a_crash(&world).await;
    romeo.send(&chat("early")).await;
    romeo.send(&chat("late")).await;
    assert_eq!(Stream::to(&world, FAR).read(), ["early", "late"], "the one is what waited");
}

#[tokio::test]
async fn what_came_back_at_once_may_be_sent_again() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("one")).await;
    world.server.links_to(&jid(FAR))[0].failed(nowhere());
    world.settle().await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("one")).await;
    assert_eq!(Stream::to(&world, FAR).read(), ["one"]);
    world.store.resume_commits();
    until_handled(&romeo, 1).await;
}

#[tokio::test]
async fn what_an_earlier_run_has_left_and_comes_back_may_be_sent_again() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("one")).await;
    until_on_disk(&world, 1).await;
    until_known(&world, 1).await;
    let (world, romeo) = after_a_crash(&world).await;
    romeo.leave().await;
    let link = world.server.links_to(&jid(FAR)).remove(0);
    // What an earlier run has left is in doubt: the peer says that it is not to be had.
    let stream = Stream::carry(link);
    let due = stream.link.next(stream.carrier).unwrap();
    stream.link.abandon(stream.carrier, due.ticket);
    until_on_disk(&world, 0).await;
    until_known(&world, 0).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("one")).await;
    assert_eq!(stream.read(), ["one"]);
}

#[tokio::test]
async fn what_the_other_server_answers_with_an_error_may_be_sent_again() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let stream = Stream::to(&world, FAR);
    for name in ["one", "two", "three", "four"] {
        romeo.send(&chat(name)).await;
    }
    assert_eq!(stream.take(9).len(), 4);
    // The first before it is on disk, or its peer has confirmed it.
    world.route(&error("one", "juliet@far.example")).await;
    stream.confirm();
    until_known(&world, 3).await;
    world.route(&error("two", "juliet@far.example/balcony")).await;
    // Not an answer: somebody else's, and one for what was never sent.
    world.route(&error("three", "nurse@far.example")).await;
    world.route(&error("five", "juliet@far.example")).await;
    let romeo = back(&world, romeo).await;
    for name in ["one", "two", "three", "four"] {
        romeo.send(&chat(name)).await;
    }
    assert_eq!(stream.read(), ["one", "two"]);
    // Nobody has loaded the account when the error comes.
    stream.confirm();
    until_known(&world, 4).await;
    let (world, romeo) = after_a_crash(&world).await;
    romeo.leave().await;
    world.route(&error("three", "juliet@far.example")).await;
    until_known(&world, 3).await;
    let (world, romeo) = after_a_crash(&world).await;
    for name in ["one", "two", "three", "four"] {
        romeo.send(&chat(name)).await;
    }
    assert_eq!(Stream::to(&world, FAR).read(), ["three"]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_may_be_sent_again() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("one")).await;
    world.store.fail(Some(StoreError::Full("no space".into())));
    world.store.resume_commits();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(romeo.read().contains("<resource-constraint "));
    world.store.fail(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("one")).await;
    assert_eq!(Stream::to(&world, FAR).read(), ["one"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    until_known(&world, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_for_a_while_loses_nothing_that_is_to_be_known() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let stream = Stream::to(&world, FAR);
    for doubtful in [false, true] {
        let name = if doubtful { "came-through" } else { "did-not" };
        world.store.pause_commits();
        romeo.send(&chat(name)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stream.read(), [name]);
        // Confirmed while it is written, and the commit fails.
        stream.confirm();
        match doubtful {
            true => world.store.doubt(true),
            false => world.store.fail(Some(StoreError::Unavailable("no disk".into()))),
        }
        world.store.resume_commits();
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.store.doubt(false);
        world.store.fail(None);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    until_on_disk(&world, 0).await;
    until_known(&world, 2).await;
    let (world, romeo) = after_a_crash(&world).await;
    romeo.send(&chat("did-not")).await;
    romeo.send(&chat("came-through")).await;
    assert!(Stream::to(&world, FAR).read().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_for_long_holds_nothing_that_the_peer_has() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let stream = Stream::to(&world, FAR);
    world.store.fail(Some(StoreError::Unavailable("no disk".into())));
    for name in ["one", "two", "three"] {
        romeo.send(&chat(name)).await;
        assert_eq!(stream.read(), [name]);
        stream.confirm();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.server.stored().await.unwrap();
    world.store.fail(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    until_on_disk(&world, 0).await;
    until_known(&world, 0).await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("one")).await;
    assert!(stream.read().is_empty(), "it is known as long as the server runs");
}

#[tokio::test]
async fn who_sends_again_by_another_resource_is_told_of_the_failure() {
    for by_the_peer in [false, true] {
        let world = World::without_archive(&[ROMEO]).await;
        let _net = Net::of(&world);
        let romeo = world.login_resumable(ROMEO, "orchard").await;
        let stream = Stream::to(&world, FAR);
        romeo.send(&chat("one")).await;
        until_on_disk(&world, 1).await;
        assert_eq!(stream.take(9).len(), 1);
        romeo.leave().await;
        world.server.end_session(&romeo.session).await;
        let romeo = world.login_resumable(ROMEO, "balcony").await;
        romeo.send(&chat("one")).await;
        until_handled(&romeo, 1).await;
        assert!(stream.take(9).is_empty());
        romeo.read();
        if by_the_peer {
            stream.confirm();
            world.route(&error("one", "juliet@far.example")).await;
        } else {
            stream.refuse(&StanzaError::new(Condition::NotAcceptable));
        }
        until_on_disk(&world, 0).await;
        world.settle().await;
        let told = romeo.read();
        assert!(told.contains("type='error'") && told.contains("to='romeo@localhost/balcony'"), "{told}");
        let romeo = back(&world, romeo).await;
        romeo.send(&chat("one")).await;
        assert_eq!(stream.read(), ["one"]);
    }
}

#[tokio::test]
async fn what_is_refused_when_it_is_sent_again_leaves_the_first_known() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let block = |verb: &str| {
        format!(
            "<iq type='set' id='b'><{verb} xmlns='urn:xmpp:blocking'><item jid='juliet@far.example'/></{verb}></iq>"
        )
    };
    romeo.send(&chat("one")).await;
    romeo.send(&block("block")).await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("one")).await;
    assert!(romeo.read().contains("<not-acceptable "));
    romeo.send(&block("unblock")).await;
    let romeo = back(&world, romeo).await;
    romeo.send(&chat("one")).await;
    let stream = Stream::to(&world, FAR);
    assert_eq!(stream.read(), ["one"]);
}

#[tokio::test]
async fn in_rooms_who_speaks_is_a_session() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let stream = Stream::to(&world, FAR);
    let muc = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
    for (name, how) in
        [("room", "type='groupchat' to='cave@far.example'"), ("private", "type='chat' to='cave@far.example/hag'")]
    {
        let x = if name == "private" { muc } else { "" };
        let said = format!("<message {how} id='{name}-5f3dbc5e-e1d3'><body>{name}</body>{x}</message>");
        for (resource, goes) in [("orchard", true), ("orchard", false), ("balcony", true), ("balcony", false)] {
            let romeo = world.login_resumable(ROMEO, resource).await;
            romeo.send(&said).await;
            assert_eq!(stream.read().len(), usize::from(goes), "{name} by {resource}");
            stream.confirm();
            romeo.leave().await;
        }
    }
}

#[tokio::test]
async fn who_comes_by_the_name_of_a_deleted_account_knows_nothing() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("one")).await;
    let stream = Stream::to(&world, FAR);
    assert_eq!(stream.read(), ["one"]);
    let server = world.server.clone();
    let deleting = tokio::spawn(async move { server.delete_account(&jid(ROMEO)).await });
    world.settle().await;
    stream.confirm();
    world.store.resume_commits();
    assert!(deleting.await.unwrap().unwrap());
    world.server.stored().await.unwrap();
    world.store.create_account(&jid(ROMEO), &Credentials::from_password("secret", 4096).unwrap()).await.unwrap();
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("one")).await;
    assert_eq!(stream.read(), ["one"]);
    until_known(&world, 1).await;
}
