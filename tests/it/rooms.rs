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
