//! XEP-0280: what is copied, to whom, and what is not. The rules of §6.1 by message are in `modules/carbons/rules.rs`.

use std::sync::Arc;

use rookery_core::module::{Cx, Entry, Fault, Flow, Hooks, Module, Setup, Stage, Way, Xep};
use rookery_core::store::TailStore;
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

use crate::world::{Client, World, bodies, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";

impl World {
    /// Binds a resource, sends initial presence, and asks for copies.
    async fn carbons(&self, user: &str, resource: &str) -> Client {
        let client = self.login(user, resource).await;
        client.enable().await;
        client
    }

    /// The same with presence of this priority.
    async fn carbons_with(&self, user: &str, resource: &str, priority: i8) -> Client {
        let client = self.bind(user, resource).await;
        client.enable().await;
        client.send(&format!("<presence><priority>{priority}</priority></presence>")).await;
        client.read();
        client
    }
}

impl Client {
    async fn enable(&self) {
        let answer = self.iq("set", "", "<enable xmlns='urn:xmpp:carbons:2'/>").await;
        assert!(answer.contains("type='result'"), "{answer}");
    }

    /// What the client gets, a line a message: `one`, `sent one`, `received one`, with the body or the first child's name.
    fn got(&self) -> Vec<String> {
        self.stanzas().iter().filter(|stanza| stanza.name() == "message").map(|stanza| self.line(stanza)).collect()
    }

    fn line(&self, message: &Element) -> String {
        for name in ["sent", "received"] {
            let Some(wrapper) = message.find(name, ns::CARBONS) else { continue };
            let account = self.session.account.jid.as_str();
            assert_eq!((message.get("from"), message.get("to")), (Some(account), Some(self.session.jid.as_str())));
            assert_eq!((message.elements().count(), wrapper.elements().count()), (1, 1), "{message:?}");
            let forwarded = wrapper.find("forwarded", ns::FORWARD).unwrap();
            assert_eq!(forwarded.elements().count(), 1, "{message:?}");
            let inner = forwarded.find("message", ns::CLIENT).unwrap();
            assert_eq!(message.get("type"), inner.get("type"));
            return format!("{name} {}", what(inner));
        }
        what(message)
    }
}

fn what(message: &Element) -> String {
    if message.get("type") == Some("error") {
        return "error".to_owned();
    }
    match message.find("body", ns::CLIENT) {
        Some(body) => body.content(),
        None => message.elements().next().map_or(String::new(), |child| child.name().to_owned()),
    }
}

fn chat(to: &str, body: &str) -> String {
    format!("<message type='chat' id='{body}' to='{to}'><body>{body}</body></message>")
}

const NOTHING: [&str; 0] = [];

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_conversation_reach_all_that_have_asked() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let orchard = world.login(ROMEO, "orchard").await;
    let (garden, street) = (world.carbons(ROMEO, "garden").await, world.carbons(ROMEO, "street").await);
    let juliet = world.carbons(JULIET, "balcony").await;
    for client in [&orchard, &garden] {
        client.read();
    }
    orchard.send(&chat("juliet@localhost/balcony", "one")).await;
    assert_eq!((juliet.got(), orchard.got()), (vec!["one".to_owned()], vec![]));
    assert_eq!((garden.got(), street.got()), (vec!["sent one".to_owned()], vec!["sent one".to_owned()]));
    juliet.send(&chat("romeo@localhost/orchard", "two")).await;
    assert_eq!(orchard.got(), ["two"]);
    assert_eq!((garden.got(), street.got()), (vec!["received two".to_owned()], vec!["received two".to_owned()]));
    garden.send(&chat(JULIET, "three")).await;
    assert_eq!(juliet.got(), ["three"]);
    assert_eq!((orchard.got(), garden.got(), street.got()), (vec![], vec![], vec!["sent three".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn the_copy_is_the_message_to_the_byte_with_the_id_that_the_account_has_for_it() {
    let world = World::without_archive(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    orchard.read();
    let juliet = world.login(JULIET, "balcony").await;
    let inside = "<body>a &amp; b</body><thread>t</thread><x xmlns=\"urn:x\"><y xmlns='' z='&quot;'/></x>";
    orchard.send(&format!("<message id='1' xml:lang='it' to='{JULIET}'>{inside}</message>")).await;
    let copied = garden.read();
    assert_eq!(
        copied,
        format!(
            "<message to='romeo@localhost/garden' from='romeo@localhost'><sent xmlns='urn:xmpp:carbons:2'>\
             <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='juliet@localhost' \
             from='romeo@localhost/orchard' id='1' xml:lang='it'>{inside}</message></forwarded></sent></message>"
        )
    );
    juliet.read();
    juliet.send(&format!("<message type='chat' id='2' to='romeo@localhost/orchard'>{inside}</message>")).await;
    let got = orchard.read();
    let (_, inner) = got.split_once(inside).unwrap();
    assert!(inner.starts_with("<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@localhost' id='"), "{inner}");
    assert_eq!(
        garden.read(),
        format!(
            "<message type='chat' to='romeo@localhost/garden' from='romeo@localhost'><received xmlns='urn:xmpp:carbons:2'>\
             <forwarded xmlns='urn:xmpp:forward:0'>{}</forwarded></received></message>",
            got.replacen("<message", "<message xmlns='jabber:client'", 1)
        )
    );
}

/// Has each message archived.
struct Everything;

impl Module for Everything {
    const NAME: &'static str = "everything";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.message(Way::Outgoing, Stage::Archive, Self::archive);
    }
}

impl Everything {
    fn archive(self: &Arc<Self>, cx: &Cx<'_>, _: &mut Stanza) -> Flow {
        cx.archive();
        Flow::Next
    }
}

#[tokio::test(start_paused = true)]
async fn the_copy_of_what_is_sent_names_its_place_in_the_archive_and_the_message_does_not() {
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Everything>()]).collect();
    let world = World::with_modules("[host.localhost]\n", &[ROMEO, JULIET], &modules).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    let juliet = world.login(JULIET, "balcony").await;
    orchard.send(&chat(JULIET, "one")).await;
    let own = |xml: &str| xml.matches("<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@localhost' id='").count();
    assert_eq!((own(&garden.read()), own(&juliet.read())), (1, 0));
    orchard
        .send(&format!(
            "<message type='chat' to='{JULIET}'><active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        ))
        .await;
    assert_eq!(own(&garden.read()), 0, "not archived");
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_message_twice() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.carbons(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    let cellar = world.carbons_with(ROMEO, "cellar", -1).await;
    let bound = world.bind(ROMEO, "bound").await;
    bound.enable().await;
    let all = [&orchard, &garden, &cellar, &bound];
    let got = || all.map(|client| client.got().join("+"));
    got();
    let juliet = world.login(JULIET, "balcony").await;
    // To the bare JID: both reachable resources get it, the others a copy, available or not.
    juliet.send(&chat(ROMEO, "fork")).await;
    assert_eq!(got(), ["fork", "fork", "received fork", "received fork"]);
    juliet.send(&chat("romeo@localhost/garden", "full")).await;
    assert_eq!(got(), ["received full", "full", "received full", "received full"]);
    // A full JID that has gone is the bare JID (RFC 6121 §8.5.3.2.1).
    juliet.send(&chat("romeo@localhost/gone", "gone")).await;
    assert_eq!(got(), ["gone", "gone", "received gone", "received gone"]);
    // Notes to oneself, and from one's own resource to another.
    orchard.send(&chat(ROMEO, "note")).await;
    assert_eq!(got(), ["note", "note", "received note", "received note"]);
    cellar.send(&chat(ROMEO, "deep")).await;
    assert_eq!(got(), ["deep", "deep", "", "received deep"]);
    orchard.send(&chat("romeo@localhost/garden", "self")).await;
    assert_eq!(got(), ["", "self", "received self", "received self"]);
    orchard.send(&chat("romeo@localhost/orchard", "mirror")).await;
    assert_eq!(got(), ["mirror", "received mirror", "received mirror", "received mirror"]);
}

#[tokio::test(start_paused = true)]
async fn no_copy_overtakes_what_waits_for_the_first_presence() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let balcony = world.login(JULIET, "balcony").await;
    let early = world.bind(ROMEO, "early").await;
    early.enable().await;
    balcony.send(&chat(ROMEO, "zero")).await;
    assert_eq!(early.got(), ["received zero"], "nothing waits before it");
    let late = world.bind(ROMEO, "late").await;
    late.enable().await;
    balcony.send(&chat(ROMEO, "one")).await;
    assert_eq!(early.got(), ["received one"], "it has a copy of the one before");
    assert_eq!(late.got(), NOTHING, "it waits for its turn");
    late.send("<presence/>").await;
    world.settle().await;
    assert_eq!(late.got(), ["zero", "one"]);
}

#[tokio::test(start_paused = true)]
async fn asking_twice_is_asking_once_and_can_be_taken_back() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    orchard.read();
    world.login(JULIET, "balcony").await;
    garden.enable().await;
    orchard.send(&chat(JULIET, "one")).await;
    assert_eq!(garden.got(), ["sent one"]);
    for _ in 0..2 {
        let answer = garden.iq("set", ROMEO, "<disable xmlns='urn:xmpp:carbons:2'/>").await;
        assert!(answer.contains("type='result'"), "{answer}");
        orchard.send(&chat(JULIET, "two")).await;
        assert_eq!(garden.got(), NOTHING);
    }
    garden.enable().await;
    orchard.send(&chat(JULIET, "three")).await;
    assert_eq!(garden.got(), ["sent three"]);
    for to in [JULIET, "nobody@localhost"] {
        for name in ["enable", "disable"] {
            let answer = garden.iq("set", to, &format!("<{name} xmlns='urn:xmpp:carbons:2'/>")).await;
            assert!(answer.contains("<service-unavailable"), "{answer}");
        }
    }
    let answer = garden.iq("get", "", "<enable xmlns='urn:xmpp:carbons:2'/>").await;
    assert!(answer.contains("<service-unavailable"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn copies_wait_for_a_session_that_is_to_be_resumed() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.login_resumable(ROMEO, "garden").await);
    garden.enable().await;
    world.login(JULIET, "balcony").await;
    garden.cut().await;
    orchard.send(&chat(JULIET, "one")).await;
    assert!(garden.session.is_detached());
    assert_eq!(garden.got(), ["sent one"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_without_room_for_copies_ends_and_says_why() {
    let conf = "[host.localhost]\n[limits]\nstanza = \"10000 B\"\noutbox = \"16 KiB\"\n";
    let world = World::with_conf(conf, &[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    world.login(JULIET, "balcony").await;
    let body = "x".repeat(8000);
    for _ in 0..8 {
        orchard.send(&format!("<message type='chat' to='{JULIET}'><body>{body}</body></message>")).await;
    }
    let (before, error) = garden.last_words().await;
    assert_eq!(before.matches("<sent ").count(), 4, "as many as twice the outbox holds, and the one that goes over it");
    assert!(error.contains("resource-constraint"), "{error}");
    assert!(!orchard.session.is_closed());
}

// ---- what is copied ---------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn chat_states_receipts_and_markers_are_copied_and_headlines_and_rooms_are_not() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    orchard.read();
    let juliet = world.login(JULIET, "balcony").await;
    for (kind, inside, copied) in [
        ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", true),
        ("chat", "<gone xmlns='http://jabber.org/protocol/chatstates'/>", true),
        ("normal", "<received xmlns='urn:xmpp:receipts' id='1'/>", true),
        ("normal", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", true),
        ("normal", "<x xmlns='jabber:x:conference' jid='room@rooms.example'/>", true),
        ("normal", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", false),
        ("headline", "<body>news</body>", false),
        ("groupchat", "<body>all</body>", false),
    ] {
        for to in ["juliet@localhost/balcony", "romeo@localhost/orchard"] {
            let (from, is_sent) = if to.starts_with("juliet") { (&orchard, true) } else { (&juliet, false) };
            from.send(&format!("<message type='{kind}' to='{to}'>{inside}</message>")).await;
            let gets = if is_sent { juliet.got() } else { orchard.got() };
            assert_eq!(gets.len(), 1, "{kind} {inside}");
            let expected = format!("{} {}", if is_sent { "sent" } else { "received" }, gets.join(""));
            assert_eq!(garden.got(), if copied { vec![expected] } else { vec![] }, "{kind} {inside}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn private_messages_reach_whom_they_are_for_marked_as_they_were() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.carbons(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    let (balcony, chamber) = (world.carbons(JULIET, "balcony").await, world.carbons(JULIET, "chamber").await);
    for client in [&orchard, &balcony] {
        client.read();
    }
    for mark in ["<private xmlns='urn:xmpp:carbons:2'/>", "<no-copy xmlns='urn:xmpp:hints'/>"] {
        orchard
            .send(&format!("<message type='chat' to='juliet@localhost/balcony'><body>x</body>{mark}</message>"))
            .await;
        let got = balcony.read();
        assert!(got.contains(&format!("<body>x</body>{mark}")), "{got}");
        assert_eq!((garden.got(), chamber.got()), (vec![], vec![]));
    }
    // To a bare JID the fork is as it is without (§9).
    orchard
        .send(
            "<message type='chat' to='juliet@localhost'><body>y</body><private xmlns='urn:xmpp:carbons:2'/></message>",
        )
        .await;
    assert_eq!((garden.got(), balcony.got(), chamber.got()), (vec![], vec!["y".to_owned()], vec!["y".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_nobody_is_copied_to_those_who_never_get_it_themselves() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let cellar = world.carbons_with(ROMEO, "cellar", -1).await;
    juliet.send(&chat(ROMEO, "one")).await;
    juliet
        .send(&format!(
            "<message type='chat' to='{ROMEO}'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
        ))
        .await;
    assert_eq!(cellar.got(), ["received one", "received composing"]);
    // What its sender is told was not delivered is not copied either.
    let refused =
        format!("<message type='chat' to='{ROMEO}'><body>two</body><no-store xmlns='urn:xmpp:hints'/></message>");
    assert!(juliet.ask(&refused).await.contains("<service-unavailable"));
    juliet.send("<message to='romeo@localhost/gone'><body>three</body></message>").await;
    assert!(juliet.read().contains("<service-unavailable"));
    assert_eq!(cellar.got(), NOTHING);
    // The message waits for a resource that takes it all the same.
    let orchard = world.login(ROMEO, "orchard").await;
    world.settle().await;
    assert_eq!(orchard.got(), ["one"]);
}

// ---- copies and the tail ----------------------------------------------------------------------------------------------

/// Waits until what is settled is on disk; how much waits there still.
async fn left(world: &World, user: &str) -> usize {
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.store.tail(&jid(user), 0, u64::MAX, 100).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn what_is_there_as_a_copy_does_not_come_again_when_the_first_resource_goes() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    for is_read in [true, false] {
        let (orchard, garden) = (world.login_resumable(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
        let cellar = world.carbons_with(ROMEO, "cellar", -1).await;
        let all = [&orchard, &garden, &cellar];
        all.iter().for_each(|client| drop(client.got()));
        juliet.send(&chat("romeo@localhost/orchard", "one")).await;
        if is_read {
            assert_eq!(garden.got(), ["received one"]);
        }
        orchard.leave().await;
        world.settle().await;
        assert_eq!(garden.got(), if is_read { vec![] } else { vec!["received one".to_owned()] });
        assert_eq!(cellar.got(), ["received one"]);
        assert_eq!(left(&world, ROMEO).await, 0);
        garden.leave().await;
        cellar.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_not_confirmed_is_no_delivery() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let (orchard, garden) =
        (world.login_resumable(ROMEO, "orchard").await, world.login_resumable(ROMEO, "garden").await);
    garden.enable().await;
    garden.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    juliet.send(&chat("romeo@localhost/orchard", "one")).await;
    assert_eq!(garden.got(), ["received one"]);
    for client in [&orchard, &garden] {
        client.leave().await;
    }
    assert_eq!(left(&world, ROMEO).await, 1);
    let orchard = world.login(ROMEO, "orchard").await;
    assert_eq!(bodies(&orchard.next().await), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_a_copy_before_being_available_does_not_find_the_message_in_the_tail() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    for (before, with_acks) in
        [("", false), ("", true), ("<priority>-1</priority>", false), ("<priority>-1</priority>", true)]
    {
        let romeo = world.bind(ROMEO, "orchard").await;
        if with_acks {
            romeo.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
        }
        romeo.enable().await;
        if !before.is_empty() {
            romeo.send(&format!("<presence>{before}</presence>")).await;
        }
        romeo.read();
        for body in ["one", "two"] {
            juliet.send(&chat(ROMEO, body)).await;
        }
        let got = romeo.read();
        assert_eq!((bodies(&got), got.matches("<received ").count()), (vec!["one".to_owned(), "two".to_owned()], 2));
        assert_eq!(left(&world, ROMEO).await, 2, "it waits for who stands for the account");
        if with_acks {
            let sent = 3 + usize::from(!before.is_empty());
            romeo.send(&format!("<a xmlns='urn:xmpp:sm:3' h='{sent}'/>")).await;
        }
        romeo.send("<presence/>").await;
        world.settle().await;
        assert_eq!(romeo.bodies(), NOTHING);
        assert_eq!(left(&world, ROMEO).await, 0);
        juliet.send(&chat(ROMEO, "three")).await;
        assert_eq!(romeo.bodies(), ["three"]);
        romeo.leave().await;
        let next = world.login(ROMEO, "orchard").await;
        world.settle().await;
        next.read();
        next.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn copies_on_their_way_keep_the_message_from_no_other_resource() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let cellar = world.carbons_with(ROMEO, "cellar", -1).await;
    cellar.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
    juliet.send(&chat(ROMEO, "one")).await;
    assert_eq!(cellar.got(), ["received one"]);
    let orchard = world.bind(ROMEO, "orchard").await;
    orchard.send("<presence/>").await;
    world.settle().await;
    assert_eq!(orchard.bodies(), ["one"]);
    assert_eq!(left(&world, ROMEO).await, 0);
    cellar.send("<presence/>").await;
    world.settle().await;
    assert_eq!(cellar.bodies(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_outlives_the_server_gets_copies_still_and_knows_what_it_has() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let garden = world.bind(ROMEO, "garden").await;
    garden.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    garden.enable().await;
    garden.send("<presence to='room@rooms.example/ro'><x xmlns='http://jabber.org/protocol/muc'/></presence>").await;
    juliet.send(&chat(ROMEO, "one")).await;
    assert_eq!(bodies(&garden.read()), ["one"]);
    garden.send("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    juliet.send(&chat(ROMEO, "two")).await;
    assert_eq!(left(&world, ROMEO).await, 2);
    garden.cut().await;
    let world = world.restart().await;
    let juliet = world.login(JULIET, "balcony").await;
    let orchard = world.bind(ROMEO, "orchard").await;
    let garden = Client::over(&world, orchard.session.account.session("garden").unwrap());
    orchard.send(&chat("juliet@localhost/balcony", "three")).await;
    orchard.send(&chat("room@rooms.example/ju", "psst")).await;
    juliet.send(&chat("romeo@localhost/orchard", "four")).await;
    assert_eq!(garden.got(), ["received two", "sent three", "sent psst", "received error", "received four"]);
    garden.send("<presence/>").await;
    world.settle().await;
    assert_eq!(garden.bodies(), NOTHING);
    orchard.enable().await;
    orchard.read();
    garden.send(&chat("room@rooms.example/ju", "psst")).await;
    assert_eq!(orchard.got(), ["received error"], "it is not in the room");
}

// ---- errors -----------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn errors_are_copied_if_the_message_they_came_of_was() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    orchard.read();
    let juliet = world.login(JULIET, "balcony").await;
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    let answer = |id: &str| format!("<message type='error' id='{id}' to='romeo@localhost/orchard'>{error}</message>");
    // The server's own.
    orchard.send(&chat("nobody@localhost", "one")).await;
    assert_eq!(orchard.got(), ["error"]);
    assert_eq!(garden.got(), ["sent one", "received error"]);
    // The recipient's.
    orchard.send(&chat(JULIET, "two")).await;
    orchard.send(&format!("<message id='three' to='{JULIET}'><x xmlns='urn:x'/></message>")).await;
    garden.read();
    juliet.read();
    juliet.send(&answer("two")).await;
    assert_eq!((orchard.got(), garden.got()), (vec!["error".to_owned()], vec!["received error".to_owned()]));
    for id in ["three", "four", "one"] {
        juliet.send(&answer(id)).await;
        assert_eq!((orchard.got(), garden.got()), (vec!["error".to_owned()], vec![]), "{id}");
    }
    // The user's own, for what has been received.
    juliet.send(&chat("romeo@localhost/orchard", "five")).await;
    garden.read();
    orchard.send(&format!("<message type='error' id='five' to='juliet@localhost/balcony'>{error}</message>")).await;
    assert_eq!((juliet.got(), garden.got()), (vec!["error".to_owned()], vec!["sent error".to_owned()]));
    // Though the resource that it was for has gone.
    orchard.read();
    orchard.send(&chat(JULIET, "six")).await;
    orchard.leave().await;
    juliet.send(&answer("six")).await;
    assert_eq!(garden.got(), ["sent six", "received error"]);
}

#[tokio::test(start_paused = true)]
async fn c1_an_error_for_a_copy_goes_to_nobody() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.carbons(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    orchard.read();
    let juliet = world.carbons(JULIET, "balcony").await;
    juliet.send(&chat("romeo@localhost/orchard", "one")).await;
    let copy = garden.read();
    let inside = copy.split_once('>').unwrap().1.strip_suffix("</message>").unwrap();
    let error = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    orchard.read();
    for id in ["", " id='one'"] {
        for payload in [inside, ""] {
            garden.send(&format!("<message type='error'{id} to='{ROMEO}'>{payload}{error}</message>")).await;
            assert_eq!((orchard.got(), garden.got(), juliet.got()), (vec![], vec![], vec![]));
        }
    }
}

// ---- rooms ------------------------------------------------------------------------------------------------------------

const JOIN: &str = "<presence to='room@rooms.example/TO'><x xmlns='http://jabber.org/protocol/muc'/></presence>";

#[tokio::test(start_paused = true)]
async fn private_messages_of_rooms_go_to_those_who_share_the_nickname() {
    let world = World::new(&[ROMEO]).await;
    let (orchard, garden) = (world.carbons(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    let (street, square) = (world.carbons(ROMEO, "street").await, world.carbons(ROMEO, "square").await);
    for (client, nick) in [(&orchard, "ro"), (&garden, "ro"), (&street, "other")] {
        client.send(&JOIN.replace("TO", nick)).await;
    }
    let got = || [&orchard, &garden, &street, &square].map(|client| client.got().join("+"));
    got();
    let private = |kind: &str, mark: &str| {
        format!("<message type='{kind}' id='1' to='room@rooms.example/ju'><body>psst</body>{mark}</message>")
    };
    let mark = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
    for mark in [mark, ""] {
        orchard.send(&private("chat", mark)).await;
        // Nobody knows the way to that room.
        assert_eq!(got(), ["error", "sent psst+received error", "received error", "received error"]);
    }
    // Of a room that the sender is not known to be in, who shares it is not known either.
    square.send(&private("normal", mark)).await;
    let everybody = "sent psst+received error";
    assert_eq!(got(), [everybody, everybody, everybody, "error"]);
    // Another nickname; and then the room is left.
    garden.send("<presence to='room@rooms.example/ga'/>").await;
    street.send(&JOIN.replace("TO", "ro")).await;
    got();
    orchard.send(&private("chat", "")).await;
    assert_eq!(got()[1..3], ["received error", "sent psst+received error"]);
    orchard.send("<presence type='unavailable' to='room@rooms.example/ro'/>").await;
    got();
    orchard.send(&private("chat", "")).await;
    assert_eq!(got()[1..], [everybody, everybody, everybody]);
    // A room that does not let a client in is no room of the client's, and one that throws it out is no more.
    for kind in ["error", "unavailable"] {
        garden.send(&JOIN.replace("TO", "ro")).await;
        square.send(&JOIN.replace("TO", "ro")).await;
        for (from, to) in [("ga", "garden"), ("ro", "orchard"), ("ro", "square")] {
            world.route(&format!("<presence type='{kind}' from='room@rooms.example/{from}' to='{ROMEO}/{to}'/>")).await;
        }
        got();
        garden.send(&private("chat", "")).await;
        assert_eq!(got(), ["received error", "error", everybody, "received error"]);
        square.send(&private("chat", "")).await;
        assert_eq!(got(), [everybody, everybody, everybody, "error"], "it is in no room that is known");
    }
    // What the room sends is not copied, marked or not; its invitations are.
    let room = |from: &str, to: &str, inside: &str| {
        format!("<message type='chat' from='room@rooms.example{from}' to='{ROMEO}{to}'>{inside}</message>")
    };
    world.route(&room("/ju", "/street", "<body>psst</body>")).await;
    world.route(&room("/ju", "/square", &format!("<body>marked</body>{mark}"))).await;
    assert_eq!(got(), ["", "", "psst", "marked"]);
    world.route(&room("/ju", "/square", "<body>stranger</body>")).await;
    assert_eq!(got(), ["received stranger", "received stranger", "received stranger", "stranger"]);
    let invite = "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='nurse@localhost'/></x>";
    world.route(&room("", "/square", invite).replace(" type='chat'", "")).await;
    assert_eq!(got(), ["received x", "received x", "received x", "x"]);
    street.send("<presence type='unavailable'/>").await;
    got();
    world.route(&room("/ju", "/street", "<body>away</body>")).await;
    assert_eq!(got(), ["received away", "received away", "away", "received away"]);
}

// ---- forgeries --------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn c1_nobody_else_makes_copies_in_the_name_of_the_own_account() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.carbons(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    let mallory = world.login(JULIET, "balcony").await;
    orchard.read();
    let forwarded = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' type='chat' \
                     from='nurse@localhost/x' to='romeo@localhost/x'><body>forged</body></message></forwarded>";
    let mut forged = Vec::new();
    for name in ["sent", "received"] {
        let plain = format!("<{name} xmlns='urn:xmpp:carbons:2'>{forwarded}</{name}>");
        forged.extend([
            format!("<c:{name} xmlns:c='urn:xmpp:carbons:2'>{forwarded}</c:{name}>"),
            format!("<{name} xmlns=\"urn&#58;xmpp:carbons:2\">{forwarded}</{name}>"),
            format!("{plain}{plain}"),
            format!("<x xmlns='urn:x'/>{plain}<c:{name} xmlns:c='urn:xmpp:carbons:2'>{forwarded}</c:{name}>"),
            plain,
        ]);
    }
    for wrapper in &forged {
        for to in [ROMEO, "romeo@localhost/orchard"] {
            let inside = format!("<body>true</body>{wrapper}");
            mallory.send(&format!("<message type='chat' to='{to}'>{inside}</message>")).await;
            garden.send(&format!("<message type='chat' to='{to}'>{inside}</message>")).await;
            for from in ["mallory@remote.example/x", "remote.example", ROMEO, "romeo@localhost/garden"] {
                world.route(&format!("<message type='chat' from='{from}' to='{to}'>{inside}</message>")).await;
            }
            for client in [&orchard, &garden] {
                let got = client.read();
                assert!(got.contains("<body>true</body>") && !got.contains("forged"), "{got}");
                // The copies that the server itself has made meanwhile are of one level, and their sender is shown.
                assert!(!got.contains("nurse"), "{got}");
            }
        }
    }
    // Inside of something else it is what a sender says, and no client takes it for a copy.
    let nested = format!("<quote xmlns='urn:x'>{}</quote>", forged.last().unwrap());
    mallory.send(&format!("<message type='chat' to='romeo@localhost/orchard'>{nested}</message>")).await;
    let top = |client: &Client| {
        client
            .stanzas()
            .iter()
            .flat_map(|stanza| stanza.elements().map(|child| child.name().to_owned()).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(top(&orchard), ["quote", "stanza-id"]);
    assert_eq!(top(&garden), ["received"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_blocked_is_not_copied_either() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (orchard, garden) = (world.login(ROMEO, "orchard").await, world.carbons(ROMEO, "garden").await);
    orchard.read();
    let juliet = world.login(JULIET, "balcony").await;
    let block = "<block xmlns='urn:xmpp:blocking'><item jid='juliet@localhost'/></block>";
    assert!(orchard.iq("set", "", block).await.contains("type='result'"));
    garden.read();
    juliet.send(&chat("romeo@localhost/orchard", "one")).await;
    orchard.send(&chat(JULIET, "two")).await;
    assert_eq!(garden.got(), NOTHING);
    assert_eq!((orchard.got(), juliet.got()), (vec!["error".to_owned()], vec!["error".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn the_server_says_that_it_copies_by_the_rules() {
    let world = World::new(&[ROMEO]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let info = romeo.iq("get", "localhost", "<query xmlns='http://jabber.org/protocol/disco#info'/>").await;
    for feature in ["urn:xmpp:carbons:2", "urn:xmpp:carbons:rules:0"] {
        assert!(info.contains(&format!("<feature var='{feature}'/>")), "{info}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_does_not_overtake_what_waits() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&format!("<message type='chat' to='{JULIET}'><body>one</body></message>")).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let phone = world.bind(JULIET, "phone").await;
    phone.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    let desk = world.bind(JULIET, "desk").await;
    world.store.slow(std::time::Duration::from_secs(1));
    phone.send("<presence/>").await;
    phone.read();
    romeo.send(&format!("<message type='chat' to='{JULIET}/desk'><body>two</body></message>")).await;
    assert_eq!(desk.bodies(), ["two"]);
    assert!(phone.bodies().is_empty());
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let got = phone.read();
    assert_eq!(bodies(&got), ["one", "two"], "{got}");
    assert!(got.contains("urn:xmpp:carbons:2"), "{got}");
}
