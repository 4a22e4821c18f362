//! Rooms as a service (XEP-0045): made, entered, talked in and left, with the database behind them.

use crate::world::{Client, World};

/// The room of these tests.
pub(crate) const ROOM: &str = "garden@conference.localhost";

impl Client {
    /// Enters the room of these tests; gives what that brings.
    pub(crate) async fn enter(&self, nick: &str) -> String {
        self.enter_at(ROOM, nick).await
    }

    /// Enters a room.
    pub(crate) async fn enter_at(&self, room: &str, nick: &str) -> String {
        self.send(&format!("<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"))
            .await;
        self.read()
    }

    /// Accepts the default configuration of a room that it has made.
    pub(crate) async fn accept_defaults(&self, room: &str) {
        self.send(&format!(
            "<iq type='set' id='own' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'>\
             <x xmlns='jabber:x:data' type='submit'/></query></iq>"
        ))
        .await;
        let answer = self.read();
        assert!(answer.contains("type='result'"), "{answer}");
    }

    /// The same with a configuration.
    pub(crate) async fn configure(&self, room: &str, fields: &[(&str, &str)]) -> String {
        let fields: String = fields
            .iter()
            .map(|(name, value)| format!("<field var='muc#roomconfig_{name}'><value>{value}</value></field>"))
            .collect();
        self.send(&format!(
            "<iq type='set' id='own' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'>\
             <x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
             <value>http://jabber.org/protocol/muc#roomconfig</value></field>{fields}</x></query></iq>"
        ))
        .await;
        self.read()
    }

    /// Says something to all in the room of these tests.
    pub(crate) async fn say(&self, text: &str) {
        self.say_as(text, text).await;
    }

    /// The same under an id.
    pub(crate) async fn say_as(&self, id: &str, text: &str) {
        self.send(&format!("<message to='{ROOM}' type='groupchat' id='{id}'><body>{text}</body></message>")).await;
    }
}

/// A room with its maker in it, who is called host, and configured as by default.
pub(crate) async fn garden(world: &World, user: &str, resource: &str) -> Client {
    let maker = world.login(user, resource).await;
    let entered = maker.enter("host").await;
    assert!(entered.contains("<status code='201'/>"), "{entered}");
    maker.accept_defaults(ROOM).await;
    maker
}

#[tokio::test(start_paused = true)]
async fn a_room_is_made_entered_talked_in_and_left() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let entered = juliet.enter("juliet").await;
    assert!(entered.contains("from='garden@conference.localhost/host'"), "{entered}");
    assert!(entered.contains("<status code='110'/>") && entered.ends_with("<subject/></message>"), "{entered}");
    assert!(romeo.read().contains("from='garden@conference.localhost/juliet'"));

    juliet.say("How camest thou hither").await;
    let (to_romeo, to_juliet) = (romeo.read(), juliet.read());
    for got in [&to_romeo, &to_juliet] {
        assert!(got.contains("from='garden@conference.localhost/juliet'"), "{got}");
        assert!(got.contains("<stanza-id xmlns='urn:xmpp:sid:0' by='garden@conference.localhost'"), "{got}");
    }
    assert!(!to_romeo.contains("juliet@localhost"), "{to_romeo}");
    assert!(to_romeo.contains("to='romeo@localhost/orchard'") && to_juliet.contains("to='juliet@localhost/balcony'"));

    juliet.send(&format!("<presence type='unavailable' to='{ROOM}/juliet'/>")).await;
    assert!(juliet.read().contains("type='unavailable'"));
    assert!(romeo.read().contains("type='unavailable'"));
    romeo.say("By love").await;
    assert_eq!((romeo.bodies(), juliet.bodies()), (vec!["By love".to_owned()], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_leaves() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    for leave in ["close", "unavailable", "cut"] {
        juliet_enters(&world, &romeo).await;
        let juliet =
            Client::over(&world, world.server.accounts.loaded("juliet@localhost").unwrap().session("garden").unwrap());
        match leave {
            "close" => juliet.leave().await,
            "unavailable" => juliet.send("<presence type='unavailable'/>").await,
            _ => juliet.cut().await,
        }
        let told = romeo.read();
        assert!(
            told.contains("from='garden@conference.localhost/juliet'") && told.contains("type='unavailable'"),
            "{leave}: {told}"
        );
        if leave == "unavailable" {
            juliet.leave().await;
        }
    }
    drop(juliet);
}

async fn juliet_enters(world: &World, romeo: &Client) {
    let juliet = world.login("juliet@localhost", "garden").await;
    juliet.enter("juliet").await;
    assert!(romeo.read().contains("from='garden@conference.localhost/juliet'"));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_reached_is_taken_out() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    // There is no way to this server: what the room sends comes back while the room is busy sending it.
    for nick in ["one", "two"] {
        world
            .route(&format!(
                "<presence from='{nick}@far.example/x' to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            ))
            .await;
        let told = romeo.read();
        assert!(told.contains(&format!("{ROOM}/{nick}")) && told.contains("<status code='333'/>"), "{told}");
    }
    romeo.say("alone").await;
    assert_eq!(romeo.bodies(), ["alone"]);
}

#[tokio::test(start_paused = true)]
async fn blocking_holds_in_rooms() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    let block = |what: &str| {
        format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='{what}'/></block></iq>")
    };
    juliet.send(&block(&format!("{ROOM}/host"))).await;
    juliet.read();
    romeo.read();
    romeo.say("unheard").await;
    romeo.send(&format!("<presence to='{ROOM}/host'><show>away</show></presence>")).await;
    juliet.say("heard").await;
    assert_eq!(juliet.read().matches("garden@conference.localhost/host").count(), 0);
    assert!(romeo.bodies().contains(&"heard".to_owned()), "who is blocked is not thrown out");
    // With the whole room one leaves it.
    juliet.send(&block(ROOM)).await;
    assert!(romeo.read().contains("type='unavailable'"));
    romeo.say("gone").await;
    assert_eq!(juliet.bodies(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_taken_out_and_told() {
    let conf = "[host.localhost]\n[limits]\noutbox = \"16 KiB\"\n[modules.muc]\nburst = 1000\n";
    let world = World::with_conf(conf, &["romeo@localhost", "juliet@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    let id = juliet.id();
    juliet.cut().await;
    let (text, mut told) = ("x".repeat(1000), 0);
    for number in 0..40 {
        romeo.say_as(&number.to_string(), &text).await;
        told += romeo.read().matches("<status code='333'/>").count();
    }
    assert_eq!(told, 1);
    let juliet = world.resume("juliet@localhost", &id, 0).await.unwrap();
    let got = juliet.read();
    let bodies = got.matches("<body>").count();
    assert!((10..20).contains(&bodies), "{bodies}");
    assert!(got.contains("<status code='110'/><status code='333'/>"));
}

#[tokio::test(start_paused = true)]
async fn a_large_room_may_be_entered_whatever_a_client_has_room_for() {
    let conf = "[host.localhost]\n[limits]\noutbox = \"16 KiB\"\n";
    let world = World::with_conf(conf, &["romeo@localhost", "juliet@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let text = "x".repeat(3000);
    for number in 0..20 {
        romeo.say_as(&number.to_string(), &text).await;
        romeo.read();
    }
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.send(&format!("<presence to='{ROOM}/juliet'><x xmlns='http://jabber.org/protocol/muc'/></presence>")).await;
    // What is said while she reads does not throw her out.
    romeo.say("Welcome").await;
    let got = juliet.read();
    assert_eq!(crate::world::bodies(&got).len(), 21);
    assert!(!juliet.session.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_new_conf_does_not_empty_the_rooms() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let conf =
        rookery_core::config::Conf::parse("[host.localhost]\n[modules.muc]\ncreate = \"admins\"\n", "t").unwrap();
    world.server.reload(conf, rookery_modules::ALL).unwrap();
    world.server.begin().await.unwrap();
    let juliet = world.login("juliet@localhost", "balcony").await;
    assert!(juliet.enter("juliet").await.contains("garden@conference.localhost/host"));
    juliet.say("Here").await;
    assert!(romeo.bodies().contains(&"Here".to_owned()));
    assert!(juliet.enter_at("other@conference.localhost", "juliet").await.contains("<not-allowed"));
}

#[tokio::test(start_paused = true)]
async fn the_conf_says_who_is_shown_in_large_rooms() {
    for (thin_to, is_shown) in [("moderators", true), ("none", false)] {
        let conf = format!("[host.localhost]\n[modules.muc]\nthin_from = 1\nthin_to = \"{thin_to}\"\n");
        let world = World::with_conf(&conf, &["romeo@localhost", "juliet@localhost"]).await;
        let romeo = garden(&world, "romeo@localhost", "orchard").await;
        romeo
            .send(&format!(
                "<iq type='set' id='a' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#admin'>\
                 <item affiliation='admin' jid='juliet@localhost'/></query></iq>"
            ))
            .await;
        romeo.read();
        let juliet = world.login("juliet@localhost", "balcony").await;
        assert!(juliet.enter("juliet").await.contains("role='moderator'"));
        assert_eq!(romeo.read().contains("/juliet'"), is_shown, "{thin_to}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_is_allowed_is_refused() {
    let conf = "[host.localhost]\n[modules.muc]\nrate = 1\nburst = 3\n";
    let world = World::with_conf(conf, &["romeo@localhost"]).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    for number in 0..5 {
        romeo.say(&number.to_string()).await;
    }
    let got = romeo.read();
    assert_eq!(crate::world::bodies(&got).len(), 5);
    assert_eq!(got.matches("<error type='wait'").count(), 2, "{got}");
}
