//! Sessions that outlive the server (XEP-0198 §5): it ends, starts again on the same database, and they go on.

use std::time::{Duration, SystemTime};

use rookery_core::store::{AccountStore, SessionStore, StoreError, TailStore};
use rookery_xmpp::sasl::Credentials;

use crate::world::{Client, World, bodies, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";
const BOTH: &[&str] = &[ROMEO, JULIET];

fn chat(to: &str, body: &str) -> String {
    format!("<message type='chat' to='{to}' id='{body}'><body>{body}</body></message>")
}

fn ack(h: u32) -> String {
    format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")
}

/// The count that a client is told when it resumes, and the rest of what it reads.
fn resumed(client: &Client) -> (u32, String) {
    let read = client.read();
    let (resumed, rest) = read.split_once("/>").unwrap();
    assert!(resumed.starts_with("<resumed "), "{read}");
    let h = resumed.split(" h='").nth(1).unwrap().split('\'').next().unwrap();
    (h.parse().unwrap(), rest.to_owned())
}

/// What a client reads, up to this.
async fn read_until(client: &Client, mut read: String, text: &str) -> String {
    for _ in 0..1000 {
        if read.contains(text) {
            return read;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        read += &client.read();
    }
    panic!("no {text} in {read}");
}

async fn waiting(world: &World, user: &str) -> u64 {
    world.store.tail_size(&jid(user)).await.unwrap().messages
}

/// Waits until what a client has sent is on disk.
async fn handled(client: &Client, h: u32) {
    for _ in 0..10_000 {
        if client.session.handled() == Some(h) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{:?} are handled, and not {h}", client.session.handled());
}

/// Waits until nothing of the user's waits in the database.
async fn delivered(world: &World, user: &str) {
    for _ in 0..1000 {
        if waiting(world, user).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} messages wait still", waiting(world, user).await);
}

#[tokio::test]
async fn t11_what_is_not_acknowledged_goes_out_again_on_both_sides() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    for body in ["one", "two", "three"] {
        romeo.send(&chat(JULIET, body)).await;
    }
    romeo.send("<message type='headline' to='juliet@localhost/balcony'><body>news</body></message>").await;
    assert_eq!(juliet.bodies(), ["one", "two", "three", "news"]);
    juliet.send(&ack(1)).await;
    juliet.cut().await;
    romeo.send(&chat(JULIET, "five")).await;
    juliet.send(&chat(ROMEO, "sent on the old connection, and handled")).await;
    let (romeos, juliets) = (romeo.id(), juliet.id());

    let world = world.restart().await;
    let juliet = world.resume(JULIET, &juliets, 2).await.unwrap();
    let (h, rest) = resumed(&juliet);
    assert_eq!(h, 1);
    assert_eq!(bodies(&rest), ["three", "news", "five"]);
    juliet.send(&ack(5)).await;
    delivered(&world, JULIET).await;
    assert_eq!(juliet.read(), "");

    let romeo = world.resume(ROMEO, &romeos, 0).await.unwrap();
    let (h, rest) = resumed(&romeo);
    assert_eq!((h, bodies(&rest)), (5, vec!["sent on the old connection, and handled".to_owned()]));
    // The counts go on.
    romeo.send(&chat(JULIET, "six")).await;
    assert_eq!(juliet.bodies(), ["six"]);
    juliet.send(&ack(6)).await;
    handled(&romeo, 6).await;
    romeo.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert!(romeo.read().contains("<a xmlns='urn:xmpp:sm:3' h='6'/>"));
    let another = world.login(JULIET, "chamber").await;
    assert_eq!(another.read(), "");
}

#[tokio::test]
async fn t11_a_session_outlives_one_end_after_the_other() {
    let mut world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let id = juliet.id();
    romeo.send(&chat(JULIET, "one")).await;
    for number in 0..4 {
        world = world.restart().await;
        if number % 2 == 1 {
            // In the runs between nobody asks for her.
            let romeo = world.login(ROMEO, "orchard").await;
            romeo.send(&chat(JULIET, &format!("in run {number}"))).await;
        }
        if number == 2 {
            world.server.bring_all_back().await;
        }
    }
    let juliet = world.resume(JULIET, &id, 0).await.unwrap();
    assert_eq!(bodies(&resumed(&juliet).1), ["one", "in run 1", "in run 3"]);
    juliet.send(&ack(3)).await;
    delivered(&world, JULIET).await;
    // Resumed and ended anew.
    romeo.cut().await;
    let world = world.restart().await;
    assert_eq!(waiting(&world, JULIET).await, 0);
    let juliet = world.resume(JULIET, &id, 3).await.unwrap();
    assert_eq!(resumed(&juliet), (0, String::new()));
}

#[tokio::test]
async fn a14_nobody_resumes_what_is_another_users() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let id = juliet.id();
    let world = world.restart().await;
    let refused = world.resume(ROMEO, &id, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found") && !refused.contains(" h="), "{refused}");
    let refused = world.resume(JULIET, "another id", 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found"), "{refused}");
    let refused = world.resume(JULIET, &id, 1).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("handled-count-too-high"), "{refused}");
    assert_eq!(resumed(&world.resume(JULIET, &id, 0).await.unwrap()).0, 0);
}

#[tokio::test]
async fn t11_a_killed_server_leaves_no_session_and_loses_no_message() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let id = juliet.id();
    let world = world.restart().await;
    let juliet = world.resume(JULIET, &id, 0).await.unwrap();
    resumed(&juliet);
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat(JULIET, "hi")).await;
    let first = juliet.read();
    assert_eq!(bodies(&first), ["hi"]);
    while waiting(&world, JULIET).await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let world = world.start_again().await;
    assert!(world.store.saved_accounts().await.unwrap().is_empty());
    assert!(world.resume(JULIET, &id, 1).await.map(|_| ()).unwrap_err().contains("item-not-found"));
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.send("<presence/>").await;
    let second = read_until(&juliet, String::new(), "</message>").await;
    let stanza_id = |xml: &str| xml.split("<stanza-id").nth(1).unwrap().split('>').next().unwrap().to_owned();
    assert_eq!(stanza_id(&first), stanza_id(&second));
}

#[tokio::test]
async fn contacts_see_nothing_of_a_restart() {
    let world = World::new(&[ROMEO, JULIET, "nurse@localhost"]).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let nurse = world.login("nurse@localhost", "chamber").await;
    world.subscribe(&juliet, &romeo).await;
    world.subscribe(&nurse, &romeo).await;
    romeo.send("<presence><priority>-3</priority><show>dnd</show><status>wooing</status></presence>").await;
    juliet.read();
    let (romeos, juliets, handled) = (romeo.id(), juliet.id(), juliet.session.handled().unwrap());

    let world = world.restart().await;
    // Whoever comes anew learns who is there.
    let nurse = world.bind("nurse@localhost", "chamber").await;
    nurse.send("<presence/>").await;
    let seen = nurse.read();
    assert!(seen.contains("<status>wooing</status>") && seen.contains("romeo@localhost/orchard"), "{seen}");
    let session = world.server.accounts.loaded(ROMEO).unwrap().session("orchard").unwrap();
    assert_eq!(session.priority(), Some(-3));
    // What is for a full JID finds it, what is for the account does not wake a negative priority.
    nurse.send(&chat("romeo@localhost/orchard", "to the orchard")).await;
    nurse.send(&chat(ROMEO, "to whom it may concern")).await;
    let romeo = world.resume(ROMEO, &romeos, 0).await.unwrap();
    let (_, read) = resumed(&romeo);
    assert!(!read.contains("unavailable"), "{read}");
    assert_eq!(bodies(&read), ["to the orchard"]);
    let juliet = world.resume(JULIET, &juliets, 0).await.unwrap();
    let (h, read) = resumed(&juliet);
    assert_eq!(h, handled);
    assert!(!read.contains("type='unavailable'"), "{read}");
    romeo.leave().await;
    let read = juliet.read();
    assert!(read.contains("type='unavailable'") && read.contains("from='romeo@localhost/orchard'"), "{read}");
    assert!(nurse.read().contains("type='unavailable'"));
}

#[tokio::test]
async fn what_modules_keep_in_a_session_comes_back() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    romeo.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").await;
    romeo.send("<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>").await;
    romeo.send("<presence to='juliet@localhost/balcony'/>").await;
    romeo
        .send("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x' ver='unfit'/></presence>")
        .await;
    world.settle().await;
    let asked = romeo.read();
    let id = asked.split("<iq").find(|iq| iq.contains("disco#info")).unwrap();
    let id = id.split("id='").nth(1).unwrap().split('\'').next().unwrap();
    romeo
        .send(&format!(
            "<iq type='result' id='{id}' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'>\
             <identity category='client' type='pc' name='x'/><feature var='urn:xmpp:ping'/></query></iq>"
        ))
        .await;
    world.settle().await;
    let features = |world: &World| world.server.features_of(&"romeo@localhost/orchard".parse().unwrap());
    let before = features(&world).unwrap();
    let (h, id) = (romeo.session.handled().unwrap(), romeo.id());
    let stream = romeo.session.stream.clone();
    juliet.read();
    let juliets = juliet.id();

    let world = world.restart().await;
    let romeo = world.resume(ROMEO, &id, 0).await.unwrap();
    assert_eq!(resumed(&romeo).0, h);
    assert_eq!(features(&world).unwrap(), before);
    assert!(romeo.session.is_interested());
    assert_eq!((romeo.session.stream.peer, romeo.session.stream.secured), (stream.peer, stream.secured));
    romeo
        .send("<iq type='set' id='c'><block xmlns='urn:xmpp:blocking'><item jid='tybalt@localhost'/></block></iq>")
        .await;
    world.settle().await;
    assert!(romeo.read().contains("<block xmlns='urn:xmpp:blocking'>"));
    let juliet = world.resume(JULIET, &juliets, 0).await.unwrap();
    resumed(&juliet);
    romeo.leave().await;
    let read = juliet.read();
    assert!(read.contains("type='unavailable'") && read.contains("from='romeo@localhost/orchard'"), "{read}");
}

#[tokio::test]
async fn a_client_that_was_being_asked_what_it_can_do_is_asked_again() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo
        .send("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x' ver='v'/></presence>")
        .await;
    world.settle().await;
    assert!(romeo.read().contains("urn:x#v"));
    romeo.send(&ack(2)).await;
    let id = romeo.id();
    let world = world.restart().await;
    let romeo = world.resume(ROMEO, &id, 2).await.unwrap();
    world.settle().await;
    assert!(resumed(&romeo).1.contains("urn:x#v"));
}

#[tokio::test]
async fn a_session_that_cannot_be_resumed_ends_with_the_server() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    world.subscribe(&juliet, &romeo).await;
    world.server.stop().await;
    for client in [&romeo, &juliet] {
        let (_, error) = client.last_words().await;
        assert!(error.contains("<system-shutdown"), "{error}");
    }
    romeo.cut().await;
    assert!(romeo.session.is_closed());
    juliet.cut().await;
    assert!(juliet.session.is_detached());
    let id = juliet.id();
    world.server.finish().await;
    let world = world.start_again().await;
    assert_eq!(world.store.saved_accounts().await.unwrap(), [jid(JULIET)]);
    let juliet = world.resume(JULIET, &id, 0).await.unwrap();
    let (_, read) = resumed(&juliet);
    assert!(read.contains("type='unavailable'") && read.contains("from='romeo@localhost/orchard'"), "{read}");
}

#[tokio::test]
async fn a_client_that_leaves_while_the_server_ends_has_left() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let id = juliet.id();
    world.server.stop().await;
    juliet.leave().await;
    world.server.finish().await;
    let world = world.start_again().await;
    assert!(world.store.saved_accounts().await.unwrap().is_empty());
    let refused = world.resume(JULIET, &id, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found") && refused.contains(" h='0'"), "{refused}");
}

#[tokio::test]
async fn what_comes_while_the_server_ends_is_for_the_next() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    world.server.stop().await;
    // Romeo has not been told yet; Juliet's stream is about to be closed, and then is.
    for body in ["one", "two"] {
        romeo.send(&chat(JULIET, body)).await;
        romeo
            .send(&format!(
                "<iq type='get' to='juliet@localhost/balcony' id='{body}'><ping xmlns='urn:xmpp:ping'/></iq>"
            ))
            .await;
        juliet.session.drain(juliet.connection, &mut Vec::new(), 0, std::time::Instant::now());
    }
    let (romeos, juliets) = (romeo.id(), juliet.id());
    world.server.finish().await;
    let world = world.start_again().await;
    let romeo = world.resume(ROMEO, &romeos, 0).await.unwrap();
    assert_eq!(resumed(&romeo).0, 4);
    let juliet = world.resume(JULIET, &juliets, 0).await.unwrap();
    let read = read_until(&juliet, resumed(&juliet).1, "<body>two</body>").await;
    assert_eq!(bodies(&read), ["one", "two"]);
    assert_eq!(read.matches("<ping").count(), 2, "{read}");
}

#[tokio::test]
async fn a_resource_that_is_bound_anew_takes_the_sessions_place() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let id = juliet.id();
    romeo.send(&chat(JULIET, "hi")).await;
    assert_eq!(juliet.bodies(), ["hi"]);
    let world = world.restart().await;
    let juliet = world.bind(JULIET, "balcony").await;
    assert_eq!(juliet.session.account.sessions().len(), 1);
    juliet.send("<presence/>").await;
    let read = read_until(&juliet, String::new(), "<body>hi</body>").await;
    assert_eq!(bodies(&(read + &juliet.read())), ["hi"]);
    let refused = world.resume(JULIET, &id, 1).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found") && refused.contains(" h='0'"), "{refused}");
}

#[tokio::test]
async fn two_who_resume_at_once_are_one_after_the_other() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    romeo.send(&chat(JULIET, "hi")).await;
    assert_eq!(juliet.bodies(), ["hi"]);
    let id = juliet.id();
    let world = world.restart().await;
    let (one, two) = tokio::join!(world.resume(JULIET, &id, 0), world.resume(JULIET, &id, 0));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(std::ptr::eq(&*one.session, &*two.session));
    let last = if one.connection > two.connection { &one } else { &two };
    assert_eq!(last.session.connection(), last.connection);
    assert_eq!(bodies(&resumed(last).1), ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_as_long_as_it_would_have_and_a_minute_at_least() {
    let world = World::with_conf("limits.resume = \"10 minutes\"\n[host.localhost]\n", BOTH).await;
    let early = world.login_resumable(JULIET, "early").await;
    let late = world.login_resumable(JULIET, "late").await;
    let attached = world.login_resumable(JULIET, "attached").await;
    early.cut().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    late.cut().await;
    tokio::time::sleep(Duration::from_secs(295)).await;
    let world = world.restart().await;
    world.server.bring_all_back().await;
    let account = world.server.accounts.loaded(JULIET).unwrap();
    let there = || {
        let mut there: Vec<_> = account.sessions().iter().map(|session| session.jid.resource().to_owned()).collect();
        there.sort();
        there
    };
    for (seconds, expected) in [
        (58, vec!["attached", "early", "late"]),
        (3, vec!["attached", "late"]),
        (240, vec!["attached", "late"]),
        (5, vec!["attached"]),
        (290, vec!["attached"]),
        (10, vec![]),
    ] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        world.settle().await;
        assert_eq!(there(), expected, "after {seconds} s more");
    }
    drop((early, late, attached));
}

#[tokio::test]
async fn a_session_whose_time_is_over_ends_as_any_other() {
    let world = World::new(&[ROMEO, JULIET, "nurse@localhost"]).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    world.subscribe(&juliet, &romeo).await;
    let nurse = world.login("nurse@localhost", "chamber").await;
    nurse.send(&chat(ROMEO, "hurry")).await;
    assert_eq!(romeo.bodies(), ["hurry"]);
    let (romeos, juliets) = (romeo.id(), juliet.id());
    world.stop().await;
    let mut rows = world.store.take_sessions(&[jid(ROMEO)]).await.unwrap();
    rows[0].expires = SystemTime::now() - Duration::from_secs(1);
    world.store.save_sessions(&rows).await.unwrap();

    let world = world.start_again().await;
    world.server.bring_all_back().await;
    let refused = world.resume(ROMEO, &romeos, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found"), "{refused}");
    let romeo = world.bind(ROMEO, "orchard").await;
    let refused = world.resume(ROMEO, &romeos, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains(" h='1'"), "he had sent a presence for each: {refused}");
    romeo.send("<presence/>").await;
    read_until(&romeo, String::new(), "<body>hurry</body>").await;
    let juliet = world.resume(JULIET, &juliets, 0).await.unwrap();
    let read = resumed(&juliet).1;
    assert!(read.contains("type='unavailable'") && read.contains("from='romeo@localhost/orchard'"), "{read}");
}

#[tokio::test]
async fn a15_neither_a_deleted_account_nor_another_password_leaves_sessions() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    world.subscribe(&juliet, &romeo).await;
    let (romeos, juliets) = (romeo.id(), juliet.id());
    world.stop().await;
    let keys = Credentials::from_password("another", 4096).unwrap();
    assert!(world.store.set_credentials(&jid(ROMEO), &keys).await.unwrap());
    let world = world.start_again().await;
    let refused = world.resume(ROMEO, &romeos, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found"), "{refused}");
    let juliet = world.resume(JULIET, &juliets, 0).await.unwrap();
    read_until(&juliet, resumed(&juliet).1, "type='unavailable'").await;

    let world = world.restart().await;
    assert!(world.store.delete_account(&jid(JULIET)).await.unwrap());
    assert!(world.store.create_account(&jid(JULIET), &keys).await.unwrap());
    let refused = world.resume(JULIET, &juliets, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("item-not-found"), "{refused}");
    assert!(world.server.account(&jid(JULIET)).await.unwrap().unwrap().sessions().is_empty());
}

#[tokio::test]
async fn a15_an_account_that_is_deleted_before_its_session_is_back_takes_it_along() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    world.subscribe(&juliet, &romeo).await;
    let (romeos, juliets) = (romeo.id(), juliet.id());
    let world = world.restart().await;
    assert!(world.server.delete_account(&jid(ROMEO)).await.unwrap());
    assert!(world.resume(ROMEO, &romeos, 0).await.is_err());
    let juliet = world.resume(JULIET, &juliets, 0).await.unwrap();
    let read = resumed(&juliet).1;
    assert!(read.contains("type='unavailable'") && read.contains("from='romeo@localhost/orchard'"), "{read}");
}

#[tokio::test]
async fn what_another_resource_has_confirmed_is_owed_still_and_waits_no_more() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let phone = world.login_resumable(JULIET, "phone").await;
    let laptop = world.login_resumable(JULIET, "laptop").await;
    // The laptop's presence.
    assert_eq!(phone.read().matches("<presence").count(), 1);
    laptop.cut().await;
    romeo.send(&chat(JULIET, "one")).await;
    romeo.send(&chat(JULIET, "two")).await;
    assert_eq!(phone.bodies(), ["one", "two"]);
    phone.send(&ack(3)).await;
    delivered(&world, JULIET).await;
    let (phones, laptops) = (phone.id(), laptop.id());

    let world = world.restart().await;
    let laptop = world.resume(JULIET, &laptops, 0).await.unwrap();
    assert_eq!(bodies(&resumed(&laptop).1), ["one", "two"]);
    // It goes without having confirmed them, and nobody gets them again.
    laptop.leave().await;
    let phone = world.resume(JULIET, &phones, 3).await.unwrap();
    let read = resumed(&phone).1;
    assert!(bodies(&read).is_empty(), "{read}");
    assert_eq!(waiting(&world, JULIET).await, 0);
}

#[tokio::test]
async fn a_session_that_was_behind_reads_on_where_it_was() {
    let conf = "limits.outbox = \"16 KiB\"\n[host.localhost]\n";
    let world = World::with_conf(conf, BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let long = "x".repeat(1000);
    for number in 0..200 {
        romeo.send(&format!("<message type='chat' to='{JULIET}'><body>{number} {long}</body></message>")).await;
        if number == 20 {
            juliet.read();
        }
        if number == 40 {
            juliet.cut().await;
        }
    }
    let id = juliet.id();
    let world = world.restart().await;
    let juliet = world.resume(JULIET, &id, 5).await.unwrap();
    let (_, mut read) = resumed(&juliet);
    let mut h = 5;
    for _ in 0..2000 {
        let count = bodies(&read).len();
        if count >= 195 {
            break;
        }
        if h != 5 + count {
            h = 5 + count;
            juliet.send(&ack(u32::try_from(h).unwrap())).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        read += &juliet.read();
    }
    let got: Vec<_> = bodies(&read).iter().map(|body| body.split(' ').next().unwrap().to_owned()).collect();
    let expected: Vec<_> = (5..200).map(|number: u32| number.to_string()).collect();
    assert_eq!(got, expected);
    juliet.send(&ack(200)).await;
    delivered(&world, JULIET).await;
}

#[tokio::test]
async fn receipts_that_are_in_flight_are_waited_for() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat(JULIET, "hi")).await;
    assert_eq!(romeo.session.handled(), Some(0));
    let id = romeo.id();
    world.server.stop().await;
    tokio::join!(world.server.finish(), async {
        world.store.commits_held(1).await;
        world.store.resume_commits();
    });
    let world = world.start_again().await;
    assert_eq!(resumed(&world.resume(ROMEO, &id, 0).await.unwrap()).0, 1);
    assert_eq!(waiting(&world, JULIET).await, 1);
}

#[tokio::test(start_paused = true)]
async fn t8_a_database_that_takes_nothing_does_not_hold_the_end_up() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    world.store.fail(Some(StoreError::Unavailable("down".into())));
    romeo.send(&chat(JULIET, "hi")).await;
    let id = juliet.id();
    let start = tokio::time::Instant::now();
    world.stop().await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    world.store.fail(None);
    let world = world.start_again().await;
    assert!(world.resume(JULIET, &id, 0).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_before_its_sessions_are_back_leaves_them_to_the_next() {
    let world = World::new(BOTH).await;
    let (romeo, juliet) =
        (world.login_resumable(ROMEO, "orchard").await, world.login_resumable(JULIET, "balcony").await);
    let (romeos, juliets) = (romeo.id(), juliet.id());
    let mut world = world.restart().await;
    world.store.slow(Duration::from_millis(100));
    for _ in 0..3 {
        // Time enough to take the rows, and not to load an account.
        let enough = tokio::time::timeout(Duration::from_millis(150), world.server.bring_all_back());
        enough.await.expect_err("not done");
        assert!(world.store.saved_accounts().await.unwrap().is_empty());
        assert!(world.server.accounts.all().is_empty());
        world = world.restart().await;
    }
    for (user, id) in [(ROMEO, romeos), (JULIET, juliets)] {
        assert_eq!(resumed(&world.resume(user, &id, 0).await.unwrap()).0, 0);
    }
}

#[tokio::test]
async fn what_a_session_held_that_has_not_come_back_is_for_the_others() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let phone = world.login_resumable(JULIET, "phone").await;
    let laptop = world.login_resumable(JULIET, "laptop").await;
    phone.read();
    romeo.send(&chat("juliet@localhost/laptop", "for the laptop")).await;
    romeo.send(&chat(JULIET, "for both")).await;
    assert_eq!(phone.bodies(), ["for both"]);
    laptop.cut().await;
    let id = phone.id();
    world.stop().await;
    let mut rows = world.store.take_sessions(&[jid(JULIET)]).await.unwrap();
    rows.iter_mut().filter(|row| row.jid.resource() == "laptop").for_each(|row| row.state = b"\xff".to_vec());
    world.store.save_sessions(&rows).await.unwrap();
    let world = world.start_again().await;
    let phone = world.resume(JULIET, &id, 1).await.unwrap();
    let read = read_until(&phone, resumed(&phone).1, "<body>for the laptop</body>").await;
    assert_eq!(bodies(&read), ["for both", "for the laptop"]);
}

#[tokio::test]
async fn rows_that_cannot_be_read_now_are_read_later() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let id = juliet.id();
    let world = world.restart().await;
    world.store.fail(Some(StoreError::Unavailable("down".into())));
    let refused = world.resume(JULIET, &id, 0).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("resource-constraint"), "{refused}");
    world.store.fail(None);
    assert_eq!(resumed(&world.resume(JULIET, &id, 0).await.unwrap()).0, 0);
}

#[tokio::test(start_paused = true)]
async fn who_wanted_copies_gets_them_after_a_restart() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let phone = world.login_resumable("romeo@localhost", "phone").await;
    phone.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    phone.read();
    let id = phone.session.resumption_id().unwrap();
    let world = world.restart().await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let desk = world.login("romeo@localhost", "desk").await;
    juliet.send("<message type='chat' to='romeo@localhost/desk'><body>hark</body></message>").await;
    assert_eq!(desk.bodies(), ["hark"]);
    let phone = world.resume("romeo@localhost", &id, 1).await.unwrap();
    let got = phone.read();
    assert!(got.contains("<received xmlns='urn:xmpp:carbons:2'>") && got.contains("hark"), "{got}");
}

#[tokio::test]
async fn t11_copies_at_the_end_are_sent_after_the_start() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let phone = world.login_resumable(JULIET, "phone").await;
    let laptop = world.login_resumable(JULIET, "laptop").await;
    laptop.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    assert!(laptop.read().contains("type='result'"));
    laptop.send(&ack(1)).await;
    // The streams are about to be closed, and somebody is faster.
    world.server.stop().await;
    romeo.send(&chat("juliet@localhost/phone", "one")).await;
    world.server.finish().await;
    let world = world.start_again().await;
    let (phone, laptop) = (world.resume(JULIET, &phone.id(), 0).await, world.resume(JULIET, &laptop.id(), 1).await);
    assert_eq!(bodies(&resumed(&phone.unwrap()).1), ["one"]);
    let copy = resumed(&laptop.expect("a session that goes on")).1;
    assert!(copy.contains("<received ") && bodies(&copy) == ["one"], "{copy}");
}

#[tokio::test]
async fn t11_a_client_that_collects_what_waits_is_not_sent_it_after_the_start() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat(JULIET, "one")).await;
    handled(&romeo, 1).await;
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.session.collect_mail();
    juliet.send("<presence/>").await;
    juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    assert_eq!(juliet.bodies(), Vec::<String>::new());
    let world = world.restart().await;
    let juliet = world.resume(JULIET, &juliet.id(), 0).await.unwrap();
    for _ in 0..20 {
        assert_eq!(juliet.bodies(), Vec::<String>::new());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.server.mail_count(&juliet.session), 1);
}

#[tokio::test]
async fn t11_what_a_session_held_that_cannot_be_read_goes_to_those_that_can() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let phone = world.login_resumable(JULIET, "phone").await;
    let laptop = world.login_resumable(JULIET, "laptop").await;
    romeo.send(&chat("juliet@localhost/phone", "one")).await;
    handled(&romeo, 1).await;
    assert_eq!(phone.bodies(), ["one"]);
    world.stop().await;
    let mut rows = world.store.take_sessions(&[jid(JULIET)]).await.unwrap();
    let of_phone = rows.iter_mut().find(|row| row.jid.resource() == "phone").unwrap();
    of_phone.state.push(0);
    world.store.save_sessions(&rows).await.unwrap();
    let world = world.start_again().await;
    let laptop = world.resume(JULIET, &laptop.id(), 0).await.unwrap();
    let read = read_until(&laptop, String::new(), "</message>").await;
    assert_eq!(bodies(&read), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_comes_while_the_server_ends_is_there_after_the_start() {
    let world = World::new(BOTH).await;
    let phone = world.login_resumable(ROMEO, "phone").await;
    phone.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    phone.read();
    let _desk = world.login(ROMEO, "desk").await;
    let juliet = world.login(JULIET, "balcony").await;
    world.server.stop().await;
    juliet.send(&chat("romeo@localhost/desk", "hark")).await;
    let (read, _) = phone.last_words().await;
    assert!(read.contains("hark"), "{read}");
    phone.cut().await;
    assert!(phone.session.is_detached());
    let id = phone.id();
    world.server.finish().await;
    let world = world.start_again().await;
    let phone = world.resume(ROMEO, &id, 1).await.unwrap();
    let (_, read) = resumed(&phone);
    assert!(read.contains("<received xmlns='urn:xmpp:carbons:2'>") && read.contains("hark"), "{read}");
}
