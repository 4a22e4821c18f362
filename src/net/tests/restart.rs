//! Sessions that outlive the server, over true sockets (XEP-0198 §5): streams close, and others go on with the sessions.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use common::world::*;
use rookery_core::store::{SessionStore, TailStore};
use rookery_xmpp::jid::BareJid;

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
const END: &str = "</stream:stream>";
/// Rates that slow no test down.
const FAST: &str = "[limits]\nexempt = ['127.0.0.0/8']\nconnection_rate = '1 GiB'\nconnection_burst = '1 GiB'\n\
                    account_rate = '1 GiB'\naccount_burst = '1 GiB'\n";

fn chat(to: &str, body: &str) -> String {
    format!("<message to='{to}@chat.example' type='chat'><body>{body}</body></message>")
}

/// A client that can resume, and its id.
async fn resumable(world: &World, user: &str, resource: &str) -> (Talk, String) {
    let mut talk = world.login(user, resource).await;
    talk.say(&format!("<presence/>{ENABLE}")).await;
    let enabled = talk.hear(" max=").await;
    let id = enabled.split("<enabled").nth(1).and_then(|enabled| enabled.split(" id='").nth(1)?.split('\'').next());
    let id = id.expect("an id").to_owned();
    talk.hear("/>").await;
    (talk, id)
}

/// Ends the server and starts another on its database.
async fn restart(world: &mut World, name: &str) -> World {
    world.stop.take().expect("once").send(()).expect("running");
    (&mut world.task).await.expect("ended");
    world.server.finish().await;
    World::over(name, "", world.store.clone(), rookery_modules::ALL).await
}

async fn resume(world: &World, user: &str, id: &str, h: u32) -> Talk {
    let mut talk = world.connect().await;
    talk.authenticate(user).await;
    talk.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")).await;
    talk
}

#[tokio::test]
async fn t11_a_session_goes_on_where_it_was_however_its_stream_ended() {
    let mut world = World::new("goes-on").await;
    let (mut romeo, romeos) = resumable(&world, "romeo", "orchard").await;
    let (mut juliet, juliets) = resumable(&world, "juliet", "balcony").await;
    for body in ["one", "two", "three"] {
        romeo.say(&chat("juliet", body)).await;
        juliet.hear(&format!("<body>{body}</body>")).await;
    }
    juliet.hear("</message>").await;
    let told = tokio::spawn(async move {
        // The server leaves her stream unfinished, he just goes.
        let last = juliet.hear_out().await;
        assert!(!last.contains("stream:error") && !last.contains(END), "{last}");
    });
    drop(romeo);
    let world = restart(&mut world, "went-on").await;
    told.await.expect("told");

    let mut juliet = resume(&world, "juliet", &juliets, 1).await;
    let read = juliet.hear("<body>three</body>").await;
    assert!(read.contains("<resumed ") && read.contains(" h='0'") && read.contains("<body>two</body>"), "{read}");
    assert!(!read.contains("<body>one</body>"), "{read}");
    let mut romeo = resume(&world, "romeo", &romeos, 0).await;
    let read = romeo.hear("/>").await;
    assert!(read.contains("<resumed ") && read.contains(" h='3'"), "{read}");
    romeo.say(&chat("juliet", "four")).await;
    juliet.hear("<body>four</body>").await;
    juliet.say("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
    let user = BareJid::new("juliet@chat.example").expect("a JID");
    while world.store.tail_size(&user).await.expect("read").messages > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(world.store.saved_accounts().await.expect("read").is_empty());
}

#[tokio::test]
async fn t11_who_does_not_read_the_end_is_not_waited_for_and_lacks_nothing() {
    let mut world = World::with_conf("deaf", FAST).await;
    let mut romeo = world.login("romeo", "orchard").await;
    let (juliet, id) = resumable(&world, "juliet", "balcony").await;
    // More than sockets and outbox hold.
    let long = "x".repeat(100_000);
    for number in 0..60 {
        romeo.say(&chat("juliet", &format!("{number} {long}"))).await;
    }
    romeo.say("<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    romeo.hear("id='p'").await;
    let world = restart(&mut world, "deaf-no-more").await;
    drop(juliet);
    let mut juliet = resume(&world, "juliet", &id, 0).await;
    for number in 0..60_u32 {
        let read = juliet.hear("</message>").await;
        assert!(read.contains(&format!("<body>{number} x")), "{number}: {}", read.len());
        juliet.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", number + 1)).await;
    }
}

#[tokio::test]
async fn t11_one_who_begins_as_the_server_ends_is_told_so() {
    let mut world = World::new("begins").await;
    let (juliet, id) = resumable(&world, "juliet", "balcony").await;
    drop(juliet);
    let mut late = world.connect().await;
    late.authenticate("juliet").await;
    world.stop.take().expect("once").send(()).expect("running");
    late.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    let last = late.hear_out().await;
    assert!(last.contains("<system-shutdown") && last.ends_with(END), "{last}");
    (&mut world.task).await.expect("ended");
    world.server.finish().await;
    let world = World::over("began", "", world.store.clone(), rookery_modules::ALL).await;
    let mut juliet = resume(&world, "juliet", &id, 0).await;
    assert!(juliet.hear("/>").await.contains("<resumed "));
}
