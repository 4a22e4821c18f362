//! What of rooms outlasts the process, and a database that fails; who is in a room after a restart.

use std::time::Duration;

use rookery_core::store::{ArchiveQuery, ArchiveStore, Page, RoomStore, StoreError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::stanza::{PresenceType, Stanza};

use crate::rooms::{ROOM, garden};
use crate::world::{Client, World, bodies, jid};

const TWO: &[&str] = &["romeo@localhost", "juliet@localhost"];

/// The texts in the room's archive.
async fn archived(world: &World) -> Vec<String> {
    let query = ArchiveQuery {
        with: None,
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page: Page::First,
        max: 100,
        count: false,
    };
    let page = world.store.archive_page(&jid(ROOM), &query).await.unwrap().unwrap();
    page.messages.iter().flat_map(|message| bodies(&String::from_utf8_lossy(&message.stanza))).collect()
}

/// The stanza-ids in what somebody got.
fn ids(xml: &str) -> Vec<String> {
    let after = xml.split("by='garden@conference.localhost' id='").skip(1);
    after.filter_map(|rest| rest.split('\'').next()).map(str::to_owned).collect()
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn persistent_garden(world: &World) -> Client {
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    romeo.enter("host").await;
    let configured = romeo.configure(ROOM, &[("persistentroom", "1"), ("roomname", "The garden")]).await;
    assert!(configured.contains("type='result'"), "{configured}");
    romeo
}

#[tokio::test(start_paused = true)]
async fn a_message_counts_as_handled_when_it_is_on_disk() {
    let world = World::new(TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    a_while().await;
    let before = juliet.session.handled().unwrap();
    world.store.pause_commits();
    juliet.say("one").await;
    juliet
        .send(&format!(
            "<message to='{ROOM}' type='groupchat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
        ))
        .await;
    a_while().await;
    assert_eq!(bodies(&romeo.read()), ["one"], "it is delivered without waiting");
    assert_eq!(juliet.session.handled().unwrap(), before);
    world.store.resume_commits();
    a_while().await;
    assert_eq!(juliet.session.handled().unwrap(), before + 2);
    assert_eq!(archived(&world).await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_hears_nothing_before_it_enters_though_the_one_before_it_was_in() {
    let world = World::new(TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    a_while().await;
    // The room waits for the database, and the message and the leave wait for the room, in this order.
    world.store.pause_commits();
    let field = "<field var='muc#roomconfig_roomname'><value>Roses</value></field>";
    let form = format!("<x xmlns='jabber:x:data' type='submit'>{field}</x>");
    let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
    romeo.send(&format!("<iq type='set' id='name' to='{ROOM}'>{query}</iq>")).await;
    romeo.say("one").await;
    let next = world.login("juliet@localhost", "balcony").await;
    a_while().await;
    world.store.resume_commits();
    a_while().await;
    assert_eq!(bodies(&romeo.read()), ["one"]);
    assert_eq!(next.read(), "", "neither the message nor that the other has left");
    assert_eq!(bodies(&next.enter("juliet").await), ["one"], "the history has it");
    romeo.say("two").await;
    assert_eq!(bodies(&next.read()), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_the_address_of_a_rooms_maker_hears_nothing_before_it_enters() {
    let world = World::new(TWO).await;
    let _romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    a_while().await;
    world.store.pause_commits();
    // The room is at something that it waits for.
    juliet.send(&format!("<message to='{ROOM}' type='groupchat' id='s'><subject>Roses</subject></message>")).await;
    let maker = world.login("romeo@localhost", "street").await;
    maker.configure(ROOM, &[("roomname", "Roses")]).await;
    juliet.say("one").await;
    let next = world.login("romeo@localhost", "orchard").await;
    a_while().await;
    world.store.resume_commits();
    a_while().await;
    let heard = juliet.read();
    assert!(bodies(&heard).contains(&"one".to_owned()) && heard.contains("type='unavailable'"), "{heard}");
    assert_eq!(next.read(), "");
}

#[tokio::test(start_paused = true)]
async fn a_farewell_that_comes_late_puts_nobody_out_who_has_the_same_address() {
    let world = World::new(TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    let next = world.login("juliet@localhost", "balcony").await;
    next.enter("juliet").await;
    romeo.read();
    let farewell = |client: &Client| {
        let gone = Stanza::presence(PresenceType::Unavailable).from(client.session.jid.clone());
        world.server.route_of(&client.session, gone.to(Jid::new(ROOM).unwrap()))
    };
    farewell(&juliet).await;
    assert_eq!(romeo.read(), "");
    romeo.say("one").await;
    let heard = next.read();
    assert!(bodies(&heard) == ["one"] && !heard.contains("unavailable"), "{heard}");
    farewell(&next).await;
    assert!(romeo.read().contains("type='unavailable'"));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_gone_before_it_could_enter_brings_nobody_in() {
    let world = World::new(TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    for resumable in [false, true] {
        let juliet = match resumable {
            false => world.login("juliet@localhost", "balcony").await,
            true => world.login_resumable("juliet@localhost", "balcony").await,
        };
        a_while().await;
        romeo.read();
        // The room waits for the database; she is gone, and there anew, before it comes to her.
        world.store.pause_commits();
        romeo.configure(ROOM, &[("roomname", "Roses")]).await;
        juliet.enter("juliet").await;
        let said = format!("resumable: {resumable}");
        romeo.say(&said).await;
        let next = world.login("juliet@localhost", "balcony").await;
        a_while().await;
        world.store.resume_commits();
        a_while().await;
        let heard = romeo.read();
        assert_eq!(bodies(&heard), [&*said]);
        assert!(heard.contains("type='unavailable'"), "{heard}");
        assert_eq!(next.read(), "", "{said}");
        assert!(bodies(&next.enter("juliet").await).contains(&said));
        next.leave().await;
        a_while().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_says_before_going_is_heard() {
    let world = World::new(TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    a_while().await;
    romeo.read();
    // The room is busy, and learns that she is not there any more before it comes to what she has said.
    world.store.pause_commits();
    romeo.configure(ROOM, &[("roomname", "Roses")]).await;
    romeo.say("Stay").await;
    juliet.say("Good night").await;
    juliet.leave().await;
    a_while().await;
    world.store.resume_commits();
    a_while().await;
    let heard = romeo.read();
    assert_eq!(bodies(&heard), ["Stay", "Good night"]);
    assert!(heard.contains("type='unavailable'"), "{heard}");
    romeo.say("Gone").await;
    assert_eq!(bodies(&romeo.read()), ["Gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_comes_back_with_all_that_is_its() {
    let world = World::new(&["romeo@localhost", "juliet@localhost", "tybalt@localhost"]).await;
    let romeo = persistent_garden(&world).await;
    romeo.send(&format!("<message to='{ROOM}' type='groupchat'><subject>Roses</subject></message>")).await;
    romeo.say("What light").await;
    romeo
        .send(&format!(
            "<iq type='set' id='ban' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'>\
             <item affiliation='outcast' jid='tybalt@localhost'/></query></iq>"
        ))
        .await;
    a_while().await;
    romeo.leave().await;
    let world = world.restart().await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.send("<iq type='get' id='d' to='conference.localhost'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>").await;
    assert!(juliet.read().contains("name='The garden'"));
    let entered = juliet.enter("juliet").await;
    assert_eq!(bodies(&entered), ["What light"]);
    assert!(entered.contains("<subject>Roses</subject>"), "{entered}");
    assert!(!entered.contains("romeo@localhost"), "nobody learns who has said it: {entered}");
    let tybalt = world.login("tybalt@localhost", "street").await;
    assert!(tybalt.enter("tybalt").await.contains("<forbidden"));
    let romeo = world.login("romeo@localhost", "orchard").await;
    assert!(romeo.enter("host").await.contains("affiliation='owner'"));
}

#[tokio::test(start_paused = true)]
async fn who_resumes_after_a_restart_is_in_the_room_still() {
    let world = World::new(&["romeo@localhost", "juliet@localhost", "nurse@localhost"]).await;
    let romeo = persistent_garden(&world).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    let nurse = world.login("nurse@localhost", "chamber").await;
    nurse.enter("nurse").await;
    a_while().await;
    romeo.read();
    juliet.read();
    world.server.stop().await;
    let last = nurse.read();
    assert!(last.contains("<status code='332'/>"), "whose session ends is told that the service does: {last}");
    world.server.finish().await;
    let ids = [("romeo@localhost", romeo.id()), ("juliet@localhost", juliet.id())];
    let world = world.start_again().await;
    world.settle().await;
    let mut resumed = Vec::new();
    for (user, id) in &ids {
        let client = world.resume(user, id, 1).await.unwrap();
        resumed.push((client.read(), client));
    }
    let [(_, romeo), (_, juliet)] = &resumed[..] else { panic!() };
    juliet.say("Still here").await;
    assert_eq!(romeo.bodies(), ["Still here"]);
    assert_eq!(juliet.bodies(), ["Still here"]);
    let nurse = world.login("nurse@localhost", "chamber").await;
    let entered = nurse.enter("nurse").await;
    assert!(entered.contains("/host'") && entered.contains("/juliet'"), "{entered}");
}

#[tokio::test(start_paused = true)]
async fn who_was_away_before_a_restart_is_so_after_it() {
    let world = World::new(TWO).await;
    let _romeo = persistent_garden(&world).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    juliet.send(&format!("<presence to='{ROOM}/juliet'><show>away</show><status>asleep</status></presence>")).await;
    juliet.send(&format!("<presence to='{ROOM}/capulet'><show>dnd</show><status>awake</status></presence>")).await;
    juliet.send(&format!("<presence to='{ROOM}/capulet'><show>xa</show><status>gone</status></presence>")).await;
    let world = world.restart().await;
    world.settle().await;
    let other = world.login("romeo@localhost", "street").await;
    let entered = other.enter("host").await;
    assert!(entered.contains("/capulet'") && !entered.contains("/juliet'"), "{entered}");
    assert!(entered.contains("<show>xa</show>") && entered.contains("<status>gone</status>"), "{entered}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_server_leaves_no_ghosts() {
    let world = World::new(TWO).await;
    let romeo = persistent_garden(&world).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    juliet.say("one").await;
    a_while().await;
    assert_eq!(world.store.visited_rooms(&jid("conference.localhost")).await.unwrap(), [jid(ROOM)]);
    drop(romeo);
    let killed = world;
    let world = killed.start_again().await;
    // Somebody is back under the same address before the room is looked into.
    let juliet = world.login("juliet@localhost", "balcony").await;
    world.settle().await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let entered = romeo.enter("host").await;
    assert!(
        !entered.contains("/juliet' type") && !entered.contains("garden@conference.localhost/juliet'><x"),
        "{entered}"
    );
    assert_eq!(bodies(&entered), ["one"]);
    romeo.say("two").await;
    assert_eq!(juliet.bodies(), Vec::<String>::new());
    a_while().await;
    assert_eq!(world.store.room(&jid(ROOM)).await.unwrap().unwrap().visits.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_room_does_not_outlive_a_killed_server() {
    let world = World::new(TWO).await;
    let _romeo = garden(&world, "romeo@localhost", "orchard").await;
    a_while().await;
    assert!(world.store.room(&jid(ROOM)).await.unwrap().is_some());
    let world = world.start_again().await;
    a_while().await;
    assert!(world.store.room(&jid(ROOM)).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_sent_again_is_taken_once_after_a_crash_too() {
    let world = World::new(TWO).await;
    let romeo = persistent_garden(&world).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    juliet.say_as("5f3dbc5e-e1d3", "one").await;
    // On one stream it is another message.
    juliet.say_as("5f3dbc5e-e1d3", "one").await;
    a_while().await;
    let first = ids(&juliet.read());
    assert_eq!(first.len(), 2);
    drop((romeo, juliet));
    let world = world.start_again().await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    romeo.enter("host").await;
    juliet.enter("juliet").await;
    romeo.read();
    juliet.say_as("5f3dbc5e-e1d3", "one").await;
    let again = ids(&juliet.read());
    assert_eq!(again, first[1..], "it comes back to its sender alone, under its id");
    assert_eq!(romeo.bodies(), Vec::<String>::new());
    assert_eq!(archived(&world).await, ["one", "one"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_again_waits_for_the_first() {
    let world = World::new(TWO).await;
    let _romeo = persistent_garden(&world).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    a_while().await;
    world.store.pause_commits();
    juliet.say_as("5f3dbc5e-e1d3", "one").await;
    let other = world.login_resumable("juliet@localhost", "garden").await;
    other.enter("juliet").await;
    let before = other.session.handled().unwrap();
    other.say_as("5f3dbc5e-e1d3", "one").await;
    a_while().await;
    assert_eq!(other.session.handled().unwrap(), before);
    world.store.resume_commits();
    a_while().await;
    assert_eq!(other.session.handled().unwrap(), before + 1);
    assert_eq!(archived(&world).await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_database_refuses_messages_and_lets_presence_live() {
    let world = World::new(TWO).await;
    let romeo = persistent_garden(&world).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    a_while().await;
    romeo.read();
    juliet.read();
    let before = juliet.session.handled().unwrap();
    world.store.fail(Some(StoreError::Unavailable("gone".to_owned())));
    juliet.say("before anybody knows").await;
    assert_eq!(romeo.bodies(), ["before anybody knows"]);
    tokio::time::sleep(Duration::from_secs(12)).await;
    juliet.say("now").await;
    let refused = juliet.read();
    assert!(refused.contains("<error type='wait'><resource-constraint"), "{refused}");
    assert_eq!(romeo.bodies(), Vec::<String>::new());
    // What nobody stores is said all the same.
    juliet
        .send(&format!(
            "<message to='{ROOM}' type='groupchat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
        ))
        .await;
    juliet.send(&format!("<presence to='{ROOM}/juliet'><show>away</show></presence>")).await;
    let got = romeo.read();
    assert!(got.contains("<composing") && got.contains("<show>away</show>"), "{got}");
    // What the room must not do before it is stored is refused at once.
    romeo
        .send(&format!(
            "<iq type='set' id='ban' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'>\
             <item affiliation='outcast' jid='juliet@localhost'/></query></iq>"
        ))
        .await;
    assert!(romeo.read().contains("<error type='wait'"));
    assert_eq!(juliet.session.handled().unwrap(), before);
    world.store.fail(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(juliet.session.handled().unwrap(), before + 4);
    assert_eq!(archived(&world).await, ["before anybody knows"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_database_may_have_stored_is_undone() {
    let world = World::new(TWO).await;
    let romeo = persistent_garden(&world).await;
    a_while().await;
    world.store.doubt(true);
    let ban = format!(
        "<iq type='set' id='ban' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'>\
         <item affiliation='outcast' jid='juliet@localhost'/></query></iq>"
    );
    let destroy = format!(
        "<iq type='set' id='end' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query></iq>"
    );
    for request in [ban, destroy] {
        let send = romeo.send(&request);
        assert!(tokio::time::timeout(Duration::from_secs(1), send).await.is_ok(), "it keeps its client from nothing");
        tokio::time::sleep(Duration::from_secs(12)).await;
        let answer = romeo.read();
        assert!(answer.contains("<error type='wait'"), "{answer}");
        world.store.doubt(false);
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.store.doubt(true);
    }
    world.store.doubt(false);
    romeo.say("Still there").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(archived(&world).await, ["Still there"]);
    let world = world.start_again().await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let entered = juliet.enter("juliet").await;
    assert!(entered.contains("role='participant'"), "{entered}");
    assert_eq!(bodies(&entered), ["Still there"]);
}

#[tokio::test(start_paused = true)]
async fn many_rooms_go_from_memory_and_come_back() {
    let world =
        World::with_conf("[host.localhost]\n[modules.muc]\nrooms_per_user = 60\nidle = \"1 minute\"\n", TWO).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let room = |number: usize| format!("room{number}@conference.localhost");
    for number in 0..60 {
        romeo.enter_at(&room(number), "host").await;
        romeo.configure(&room(number), &[("persistentroom", "1")]).await;
        romeo.send(&format!("<message to='{}' type='groupchat'><body>{number}</body></message>", room(number))).await;
        romeo.send(&format!("<presence type='unavailable' to='{}/host'/>", room(number))).await;
        romeo.read();
    }
    let one_more = romeo.enter_at("one-more@conference.localhost", "host").await;
    assert!(one_more.contains("<not-allowed"), "{one_more}");
    tokio::time::sleep(Duration::from_secs(120)).await;
    for number in 0..60 {
        let entered = romeo.enter_at(&room(number), "host").await;
        assert_eq!(bodies(&entered), [number.to_string()]);
    }
    romeo
        .send(&format!("<iq type='set' id='end' to='{}'><query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query></iq>", room(7)))
        .await;
    romeo.read();
    assert!(romeo.enter_at("one-more@conference.localhost", "host").await.contains("201"));
}
