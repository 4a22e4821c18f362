//! `rookery room`: the same words with and without a running server, and what those in a room see of it.

use rookery_core::control::rooms::{RoomReply, RoomRequest, Setting};
use rookery_core::control::{CommandCondition, CommandError};
use rookery_core::store::RoomStore;

use crate::commands::{Folder, Server};
use crate::rooms::{ROOM, garden};
use crate::world::{World, jid};

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";
const LOUNGE: &str = "lounge@conference.localhost";

/// What a command prints.
fn said(folder: &Folder, arguments: &[&str]) -> String {
    let (code, said) = folder.run(arguments, "");
    assert_eq!(code, 0, "{arguments:?}: {said}");
    said
}

#[test]
fn rooms_are_kept_with_and_without_a_server() {
    for live in [false, true] {
        let folder = Folder::new();
        let add = ["user", "add", ALICE, "--password", "secret"];
        assert_eq!(folder.run(&["room", "list"], "").0, 1, "there is no database yet");
        said(&folder, &add);
        let server = live.then(|| Server::start(&folder));
        let create =
            ["room", "create", "Lounge@conference.localhost", "--owner", ALICE, "roomname=The Lounge", "whois=anyone"];
        folder.check(&[
            (&["room", "list"], 0, ""),
            (&["room", "show", LOUNGE], 3, ""),
            (&["room", "create", LOUNGE, "--owner", "nobody@localhost"], 3, ""),
            (&["room", "create", LOUNGE, "--owner", ALICE, "persistentroom=false"], 2, ""),
            (&["room", "create", LOUNGE, "--owner", ALICE, "maxusers=-1"], 2, ""),
            (&create, 0, "lounge@conference.localhost made"),
            (&create, 4, ""),
            (&["room", "list", "example.org"], 2, ""),
            (&["room", "show", "lounge"], 2, ""),
            (&["room", "show", "lounge@localhost"], 2, ""),
            (&["room", "affiliation", LOUNGE], 0, "owner    alice@localhost"),
            (&["room", "affiliation", LOUNGE, BOB], 0, "none     bob@localhost"),
            (&["room", "affiliation", LOUNGE, BOB, "member"], 0, "member   bob@localhost"),
            (&["room", "affiliation", LOUNGE, BOB, "king"], 2, ""),
            (&["room", "affiliation", LOUNGE, "evil.example", "member"], 2, ""),
            (&["room", "affiliation", LOUNGE, "evil.example", "outcast", "--reason", "spam"], 0, "outcast  evil.example  (spam)"),
            (&["room", "affiliation", LOUNGE, ALICE, "none"], 4, ""),
            (
                &["room", "affiliation", LOUNGE, "--json"],
                0,
                r#"{"ok":{"room":"lounge@conference.localhost","people":[{"jid":"alice@localhost","affiliation":"owner"},{"jid":"bob@localhost","affiliation":"member"},{"jid":"evil.example","affiliation":"outcast","reason":"spam"}]}}"#,
            ),
            (&["room", "config", LOUNGE, "membersonly=perhaps"], 2, ""),
            (&["room", "config", LOUNGE, "members=true"], 2, ""),
            (&["room", "config", LOUNGE, "whois"], 2, ""),
            (&["room", "kick", LOUNGE, "nobody"], if live { 3 } else { 1 }, ""),
        ]);
        let set = [
            "room",
            "config",
            LOUNGE,
            "membersonly=true",
            "presencebroadcast=moderator,visitor",
            "roomsecret=open sesame",
        ];
        let config = said(&folder, &set);
        assert_eq!(config, said(&folder, &["room", "config", LOUNGE]));
        for line in
            ["roomname              = The Lounge", "membersonly           = true", "whois                 = anyone"]
        {
            assert!(config.contains(line), "{line}: {config}");
        }
        assert!(config.contains("= moderator,visitor ") && config.contains("passwordprotectedroom = true"), "{config}");
        assert!(!config.contains("sesame"), "{config}");
        said(&folder, &["room", "config", LOUNGE, "passwordprotectedroom=false", "roomname="]);
        let show = said(&folder, &["room", "show", LOUNGE]);
        assert!(show.starts_with("lounge@conference.localhost, made 20"), "{show}");
        assert!(
            show.contains("  passwordprotectedroom = false") && show.contains("  member   bob@localhost"),
            "{show}"
        );
        assert!(
            show.ends_with(if live { "nobody is in it" } else { "who is in it is known when the server runs" }),
            "{show}"
        );
        let list = if live { format!("{LOUNGE}  0 in it") } else { LOUNGE.to_owned() };
        folder.check(&[(&["room", "list"], 0, &list), (&["room", "list", "conference.localhost"], 0, &list)]);
        // What one has done the other finds.
        if let Some(server) = server {
            server.end();
            assert!(said(&folder, &["room", "show", LOUNGE]).contains("  member   bob@localhost"));
        } else {
            let server = Server::start(&folder);
            assert!(said(&folder, &["room", "show", LOUNGE]).contains("  member   bob@localhost"));
            server.end();
        }
        folder.check(&[
            (&["room", "destroy", LOUNGE, "--reason", "over"], 0, "lounge@conference.localhost removed"),
            (&["room", "destroy", LOUNGE], 3, ""),
            (&["room", "list"], 0, ""),
        ]);
    }
}

#[test]
fn without_rooms_there_are_no_commands() {
    let folder = Folder::new();
    let conf = std::fs::read_to_string(folder.0.join("rookery.toml")).unwrap();
    std::fs::write(folder.0.join("rookery.toml"), conf + "[modules.muc]\nenabled = false\n").unwrap();
    said(&folder, &["user", "add", ALICE, "--password", "secret"]);
    let (code, said) = folder.run(&["room", "show", LOUNGE, "--json"], "");
    assert_eq!((code, said.contains("the conf has the module \\\"muc\\\" off")), (2, true), "{said}");
    folder.check(&[(&["room", "list"], 0, "")]);
}

impl World {
    async fn command(&self, request: RoomRequest) -> Result<RoomReply, CommandError> {
        self.server.command_rooms(request).await
    }
}

fn room() -> String {
    ROOM.to_owned()
}

fn because() -> Option<String> {
    Some("because".to_owned())
}

#[tokio::test(start_paused = true)]
async fn those_in_a_room_see_what_an_admin_does() {
    let world = World::new(&[ALICE, BOB]).await;
    let (alice, bob) = (garden(&world, ALICE, "desk").await, world.login(BOB, "phone").await);
    bob.enter("bob").await;
    alice.read();

    let config = vec![Setting { name: "moderatedroom".into(), values: vec!["true".into()], label: String::new() }];
    world.command(RoomRequest::Config { room: room(), config }).await.unwrap();
    assert!(bob.read().contains("<status code='104'/>"));

    let affiliation = |who: &str, affiliation: &str| RoomRequest::Affiliation {
        room: room(),
        jid: Some(who.to_owned()),
        affiliation: Some(affiliation.to_owned()),
        reason: because(),
    };
    world.command(affiliation(BOB, "admin")).await.unwrap();
    let read = bob.read();
    assert!(read.contains("affiliation='admin'") && read.contains("<reason>because</reason>"), "{read}");
    assert!(!read.contains("<actor"), "{read}");
    let RoomReply::Room(details) = world.command(RoomRequest::Show { room: room() }).await.unwrap() else { panic!() };
    let inside: Vec<(String, Vec<String>, String)> =
        details.occupants.unwrap().into_iter().map(|one| (one.nick, one.jids, one.role)).collect();
    assert_eq!(
        inside,
        [
            ("host".to_owned(), vec!["alice@localhost/desk".to_owned()], "moderator".to_owned()),
            ("bob".to_owned(), vec!["bob@localhost/phone".to_owned()], "moderator".to_owned())
        ]
    );
    let RoomReply::Rooms { rooms } = world.command(RoomRequest::List { service: None }).await.unwrap() else {
        panic!()
    };
    assert_eq!((rooms[0].room.as_str(), rooms[0].occupants), (ROOM, Some(2)));

    // Admins and owners of the room are no safer from the server's admin than others.
    alice.read();
    let kick = RoomRequest::Kick { room: room(), nick: "host".into(), reason: because() };
    world.command(kick.clone()).await.unwrap();
    let read = alice.read();
    assert!(read.contains("<status code='307'/>") && read.contains("<status code='110'/>"), "{read}");
    assert!(bob.read().contains("<status code='307'/>"));
    let error = world.command(kick).await.unwrap_err();
    assert_eq!(error.condition, CommandCondition::ItemNotFound);
    assert!(
        error.text.starts_with("nobody in garden@conference.localhost has the nickname \"host\""),
        "{}",
        error.text
    );

    assert!(alice.enter("host").await.contains("<status code='110'/>"));
    world.command(affiliation(BOB, "outcast")).await.unwrap();
    assert!(bob.read().contains("<status code='301'/>"));
    assert!(bob.enter("bob").await.contains("<forbidden"));

    let destroy = RoomRequest::Destroy { room: room(), alternate: Some(LOUNGE.into()), reason: because() };
    world.command(destroy.clone()).await.unwrap();
    let read = alice.read();
    assert!(read.contains("<destroy jid='lounge@conference.localhost'><reason>because</reason></destroy>"), "{read}");
    assert!(world.store.room(&jid(ROOM)).await.unwrap().is_none());
    assert_eq!(world.command(destroy).await.unwrap_err().text, format!("there is no room {ROOM}"));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_an_admin_makes_is_there_for_its_owner() {
    let world = World::new(&[ALICE, BOB]).await;
    let name =
        vec![Setting { name: "muc#roomconfig_roomname".into(), values: vec!["Garden".into()], label: String::new() }];
    let create = RoomRequest::Create { room: room(), owner: ALICE.into(), config: name };
    world.command(create.clone()).await.unwrap();
    assert_eq!(world.command(create).await.unwrap_err().condition, CommandCondition::Conflict);
    let items = world.login(BOB, "phone").await;
    items.send("<iq type='get' id='1' to='conference.localhost'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>").await;
    assert!(items.read().contains("name='Garden'"));
    let world = world.restart().await;
    let alice = world.login(ALICE, "desk").await;
    let read = alice.enter("host").await;
    assert!(read.contains("affiliation='owner'") && !read.contains("<status code='201'/>"), "{read}");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_ends_by_a_command_has_carried_it_out() {
    let world = World::new(&[ALICE]).await;
    let alice = garden(&world, ALICE, "desk").await;
    let kick = RoomRequest::Kick { room: room(), nick: "host".into(), reason: None };
    assert_eq!(world.command(kick).await, Ok(RoomReply::Done { room: room() }));
    assert!(alice.read().contains("<status code='307'/>"));
    let show = world.command(RoomRequest::Show { room: room() }).await;
    assert_eq!(show.unwrap_err().condition, CommandCondition::ItemNotFound);
}

/// What an admin asks is asked in the service's name; nobody else can speak in it.
#[tokio::test(start_paused = true)]
async fn c4_nobody_else_speaks_for_the_service() {
    let world = World::new(&[ALICE, BOB]).await;
    let alice = garden(&world, ALICE, "desk").await;
    let make_owner =
        format!("<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='{BOB}' affiliation='owner'/></query>");
    for from in ["conference.localhost", "conference.localhost/x", "other@conference.localhost"] {
        world.route(&format!("<iq type='set' id='1' from='{from}' to='{ROOM}'>{make_owner}</iq>")).await;
    }
    world.settle().await;
    assert_eq!(alice.read(), "");
    let people = RoomRequest::Affiliation { room: room(), jid: None, affiliation: None, reason: None };
    let RoomReply::People { people, .. } = world.command(people).await.unwrap() else { panic!() };
    assert_eq!(people.iter().map(|one| one.jid.as_str()).collect::<Vec<_>>(), [ALICE]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_waits_for_its_configuration_is_its_makers() {
    let world = World::new(&[ALICE]).await;
    let alice = world.login(ALICE, "desk").await;
    alice.enter("host").await;
    let destroy = RoomRequest::Destroy { room: room(), alternate: None, reason: None };
    let error = world.command(destroy).await.unwrap_err();
    assert_eq!(error.text, format!("{ROOM} waits for the one who has made it to configure it"));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_is_said_to() {
    let world = World::new(&[ALICE]).await;
    let alice = garden(&world, ALICE, "desk").await;
    world.server.stored().await.unwrap();
    world.store.fail(Some(rookery_core::store::StoreError::Unavailable("gone".into())));
    let destroy = RoomRequest::Destroy { room: room(), alternate: None, reason: None };
    let error = world.command(destroy).await.unwrap_err();
    assert_eq!(error.condition, CommandCondition::ServiceUnavailable, "{}", error.text);
    world.store.fail(None);
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert!(!alice.read().contains("<destroy"));
    assert!(world.store.room(&jid(ROOM)).await.unwrap().is_some());
}
