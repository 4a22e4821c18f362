//! What one can do to the others of a room, or from outside of it, by sending much (security.md B14, B16).

use std::time::Duration;

use rookery_core::store::{RoomWrite, TailChange, TailStore};

use crate::rooms::{ROOM, garden};
use crate::world::{World, bodies, jid};

const TWO: &[&str] = &["romeo@localhost", "juliet@localhost"];
const ENTERED: &str = "<status code='110'/>";

#[tokio::test(start_paused = true)]
async fn b16_who_is_not_in_a_room_uses_up_nothing_of_its_rate() {
    let conf = "[host.localhost]\n[modules.muc]\nroom_rate = 1\nroom_burst = 10\n";
    let world = World::with_conf(conf, &["romeo@localhost", "juliet@localhost", "mute@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    romeo.configure(ROOM, &[("moderatedroom", "1")]).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let mute = world.login("mute@localhost", "x").await;
    mute.enter("mute").await;
    for number in 0..20 {
        // Neither who is outside nor who has no voice is heard.
        juliet.say("outside").await;
        juliet.send(&format!("<message to='{ROOM}/host' type='chat'><body>{number}</body></message>")).await;
        mute.say("without voice").await;
        world
            .route(&format!(
                "<message from='{number}@far.example/x' to='{ROOM}' type='groupchat'><body>x</body></message>"
            ))
            .await;
    }
    romeo.read();
    for number in 0..10 {
        romeo.say(&number.to_string()).await;
    }
    let got = romeo.read();
    assert!(!got.contains("<error"), "{got}");
    romeo.say("too much").await;
    assert!(romeo.read().contains("<policy-violation"));
}

#[tokio::test(start_paused = true)]
async fn b16_coming_and_going_has_a_rate_too() {
    let conf = "[host.localhost]\n[modules.muc]\nrate = 1\nburst = 10\n";
    let world = World::with_conf(conf, TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let mut refused = 0;
    for _ in 0..50 {
        let entered = juliet.enter("juliet").await;
        refused += entered.matches("<policy-violation").count();
        juliet.send(&format!("<presence type='unavailable' to='{ROOM}/juliet'/>")).await;
    }
    assert_eq!(refused, 40);
    let seen = romeo.read().matches("from='garden@conference.localhost/juliet'").count();
    assert_eq!(seen, 20);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(juliet.enter("juliet").await.contains(ENTERED));
}

#[tokio::test(start_paused = true)]
async fn b14_presence_of_a_room_ends_no_session_that_does_not_read() {
    let conf = "[host.localhost]\n[limits]\noutbox = \"16 KiB\"\n";
    let world = World::with_conf(conf, TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    let id = juliet.id();
    juliet.cut().await;
    let status = "x".repeat(4000);
    let mut told = 0;
    for number in 0..50 {
        romeo.send(&format!("<presence to='{ROOM}/host'><status>{number} {status}</status></presence>")).await;
        told += romeo.read().matches("<status code='333'/>").count();
    }
    assert_eq!(told, 1, "who lacks a presence is out of the room, and all know it");
    let juliet = world.resume("juliet@localhost", &id, 0).await.expect("the session goes on");
    assert!(juliet.read().contains("<status code='110'/><status code='333'/>"));
    assert!(juliet.enter("juliet").await.contains(ENTERED));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_a_room_is_lost_is_gone() {
    let world = World::new(TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    romeo.read();
    // A turn that breaks off: its task is dropped while it waits for the database.
    world.store.pause_commits();
    let kick = format!(
        "<iq type='set' id='a' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'>\
         <item affiliation='member' jid='benvolio@localhost'/></query></iq>"
    );
    assert!(tokio::time::timeout(Duration::from_millis(100), romeo.send(&kick)).await.is_err());
    world.store.resume_commits();
    tokio::time::sleep(Duration::from_secs(1)).await;
    juliet.send(&format!("<presence type='unavailable' to='{ROOM}/juliet'/>")).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let told = romeo.read();
    assert!(
        told.contains("from='garden@conference.localhost/juliet'") && told.contains("type='unavailable'"),
        "{told}"
    );
    romeo.say("alone").await;
    assert_eq!(bodies(&romeo.read()), ["alone"]);
}

#[tokio::test(start_paused = true)]
async fn rooms_go_from_memory_though_the_database_always_has_something_to_do() {
    let conf = "[host.localhost]\n[modules.muc]\nidle = \"1 minute\"\n";
    let world = World::with_conf(conf, TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    romeo.configure(ROOM, &[("persistentroom", "1")]).await;
    romeo.say("Here").await;
    romeo.send(&format!("<presence type='unavailable' to='{ROOM}/host'/>")).await;
    romeo.read();
    world.store.slow(Duration::from_millis(200));
    let server = world.server.clone();
    let traffic = tokio::spawn(async move {
        loop {
            let nothing = vec![RoomWrite::Value { name: "config", value: None }];
            server.store_room(&jid("nowhere@conference.localhost"), nothing, None);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(120)).await;
    traffic.abort();
    // What the database says meanwhile, only who reads it knows.
    let ban = RoomWrite::Person { jid: jid(TWO[1]), value: Some("<person affiliation='outcast'/>".into()) };
    world.store.commit(&[TailChange::Room { room: jid(ROOM), change: ban }]).await.unwrap();
    world.store.slow(Duration::ZERO);
    let juliet = world.login(TWO[1], "balcony").await;
    assert!(juliet.enter("juliet").await.contains("<forbidden"), "the room is in memory still");
}

#[tokio::test(start_paused = true)]
async fn b16_nobody_makes_more_rooms_than_are_allowed_while_the_database_is_slow() {
    let conf = "[host.localhost]\n[modules.muc]\nrooms_per_user = 2\n";
    let world = World::with_conf(conf, TWO).await;
    let romeo = world.login(TWO[0], "orchard").await;
    world.store.slow(Duration::from_secs(2));
    for number in 0..10 {
        let room = format!("room{number}@conference.localhost");
        romeo.send(&format!("<presence to='{room}/host'><x xmlns='http://jabber.org/protocol/muc'/></presence>")).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let got = romeo.read();
    assert_eq!((got.matches("<status code='201'/>").count(), got.matches("<not-allowed").count()), (2, 8), "{got}");
}
