//! XEP-0313 for rooms: who finds what was said in a room, and how much of who said it. What holds for every archive is
//! in `archive.rs`.

use std::time::{Duration, SystemTime};

use rookery_core::ids;
use rookery_core::store::{RoomRecord, RoomWrite, TailChange, TailStore};
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

use crate::archive::{form, page};
use crate::outside;
use crate::world::{Client, World, jid};

const ROOM: &str = "coven@conference.localhost";
const CRONE: &str = "crone1@localhost";
const WICCA: &str = "wiccarocks@localhost";
const HAG: &str = "hag66@localhost";
const EVERYBODY: &[&str] = &[CRONE, WICCA, HAG];

/// What a query to the room has brought.
#[derive(Default)]
struct Found {
    /// `<result/>`s, in the order in which they came.
    results: Vec<Element>,
    /// The answer to the query.
    end: Option<Element>,
    /// All of it as it came.
    raw: String,
}

impl Found {
    fn add(&mut self, read: &str) {
        self.raw += read;
        let all: Element = format!("<all xmlns='jabber:client'>{read}</all>").parse().unwrap();
        for element in all.elements() {
            match (element.name(), element.find("result", ns::MAM)) {
                ("message", Some(result)) => {
                    assert_eq!(element.get("from"), Some(ROOM), "{element}");
                    assert!(self.end.is_none(), "a result behind the end: {element}");
                    self.results.push(result.clone());
                }
                ("iq", _) if element.get("id") == Some("query") => self.end = Some(element.clone()),
                _ => {}
            }
        }
    }

    fn messages(&self) -> Vec<&Element> {
        self.results
            .iter()
            .map(|result| result.find("forwarded", ns::FORWARD).unwrap().find("message", ns::CLIENT).unwrap())
            .collect()
    }

    /// The bodies; of what has none, its first child's name.
    fn said(&self) -> Vec<String> {
        let said = |message: &&Element| match message.find("body", ns::CLIENT) {
            Some(body) => body.content(),
            None => message.elements().last().unwrap().name().to_owned(),
        };
        self.messages().iter().map(said).collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.results.iter().map(|result| result.get("id").unwrap()).collect()
    }

    fn fin(&self) -> &Element {
        self.end.as_ref().unwrap().find("fin", ns::MAM).unwrap_or_else(|| panic!("{}", self.raw))
    }

    fn is_complete(&self) -> bool {
        self.fin().get("complete") == Some("true")
    }

    fn set(&self, name: &str) -> Option<String> {
        self.fin().find("set", ns::RSM).unwrap().find(name, ns::RSM).map(Element::content)
    }

    /// The condition of an error.
    fn error(&self) -> &str {
        let error = self.end.as_ref().unwrap().find("error", ns::CLIENT).unwrap_or_else(|| panic!("{}", self.raw));
        error.elements().next().unwrap().name()
    }
}

impl Client {
    async fn join(&self, nick: &str) {
        self.send(&format!("<presence to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"))
            .await;
        let read = self.read();
        assert!(read.contains("<status code='110'/>"), "{read}");
    }

    /// Makes the room, with these fields of its configuration.
    async fn make_room(&self, nick: &str, fields: &[(&str, &str)]) {
        self.join(nick).await;
        let field =
            |(var, value): &(&str, &str)| format!("<field var='muc#roomconfig_{var}'><value>{value}</value></field>");
        let fields: String = fields.iter().map(field).collect();
        let form = format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
             <value>http://jabber.org/protocol/muc#roomconfig</value></field>{fields}</x>"
        );
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
        let answer = self.to_room("set", &query).await;
        assert!(answer.contains("type='result'"), "{answer}");
    }

    async fn to_room(&self, kind: &str, payload: &str) -> String {
        self.ask(&format!("<iq type='{kind}' id='room' to='{ROOM}'>{payload}</iq>")).await
    }

    async fn tell(&self, text: &str) {
        let message = format!("<message type='groupchat' to='{ROOM}' id='{text}'><body>{text}</body></message>");
        self.send(&message).await;
        self.read();
    }

    async fn set_affiliation(&self, who: &str, affiliation: &str) {
        let item = format!("<item jid='{who}' affiliation='{affiliation}'/>");
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
        let answer = self.to_room("set", &query).await;
        assert!(answer.contains("type='result'"), "{answer}");
    }

    async fn begin_room_query(&self, inside: &str) {
        let query = format!("<query xmlns='urn:xmpp:mam:2' queryid='q'>{inside}</query>");
        self.send(&format!("<iq type='set' id='query' to='{ROOM}'>{query}</iq>")).await;
    }

    /// Queries the room's archive.
    async fn room_query(&self, inside: &str) -> Found {
        self.begin_room_query(inside).await;
        let mut found = Found::default();
        for _ in 0..100_000 {
            found.add(&self.read());
            if found.end.is_some() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the query is not answered: {}", found.raw);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_in_a_room_is_found_in_its_order() {
    let world = World::new(EVERYBODY).await;
    let (crone, wicca) = (world.login(CRONE, "desktop").await, world.login(WICCA, "laptop").await);
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    wicca.join("secondwitch").await;
    for number in 0..120 {
        let speaker = if number % 2 == 0 { &crone } else { &wicca };
        speaker.tell(&number.to_string()).await;
        // Private messages are not for the archive.
        if number % 40 == 0 {
            let private = format!("<message type='chat' to='{ROOM}/secondwitch'><body>psst</body></message>");
            crone.send(&private).await;
            wicca.read();
        }
    }
    let all: Vec<String> = (0..120).map(|number| number.to_string()).collect();

    let first = wicca.room_query("").await;
    assert_eq!(first.said(), all[..50]);
    assert_eq!((first.is_complete(), first.set("count").as_deref()), (false, Some("120")));
    let last = first.set("last").unwrap();
    let second = wicca.room_query(&page(&format!("<max>100</max><after>{last}</after>"))).await;
    assert_eq!(second.said(), all[50..]);
    assert!(second.is_complete());
    let newest = crone.room_query(&page("<max>3</max><before/>")).await;
    assert_eq!(newest.said(), all[117..]);
    let before = newest.set("first").unwrap();
    let flipped = page(&format!("<max>3</max><before>{before}</before>")) + "<flip-page/>";
    assert_eq!(crone.room_query(&flipped).await.said(), ["116", "115", "114"]);
    let ids: String = newest.ids().iter().map(|id| format!("<value>{id}</value>")).collect();
    let by_ids = form(&[]).replace("</x>", &format!("<field var='ids'>{ids}</field></x>"));
    assert_eq!(crone.room_query(&by_ids).await.said(), all[117..]);
    let between = form(&[("after-id", newest.ids()[0]), ("before-id", newest.ids()[2])]);
    assert_eq!(crone.room_query(&between).await.said(), ["118"]);
    assert_eq!(crone.room_query(&form(&[("after-id", "7")])).await.error(), "item-not-found");
    assert_eq!(crone.room_query(&form(&[("include-groupchat", "true")])).await.error(), "feature-not-implemented");

    let of = |who: &str| form(&[("with", who)]);
    let even: Vec<&String> = all.iter().step_by(2).take(50).collect();
    assert_eq!(wicca.room_query(&of(&format!("{ROOM}/firstwitch"))).await.said().iter().collect::<Vec<_>>(), even);
    assert_eq!(wicca.room_query(&of(ROOM)).await.set("count").as_deref(), Some("120"));
    assert_eq!(wicca.room_query(&of(&format!("{ROOM}/nobody"))).await.said().len(), 0);
    let found = wicca.room_query(&form(&[("{urn:xmpp:fulltext:0}fulltext", "77")])).await;
    assert_eq!(found.said(), ["77"]);

    let metadata = wicca.to_room("get", "<metadata xmlns='urn:xmpp:mam:2'/>").await;
    assert!(metadata.contains(&format!("<end id='{}'", newest.ids()[2])), "{metadata}");
    let form = wicca.to_room("get", "<query xmlns='urn:xmpp:mam:2'/>").await;
    assert!(form.contains("fulltext") && !form.contains("groupchat"), "{form}");
    assert!(wicca.to_room("get", "<prefs xmlns='urn:xmpp:mam:2'/>").await.contains("service-unavailable"));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_as_the_room_has_sent_it() {
    let world = World::new(EVERYBODY).await;
    let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
    crone.make_room("firstwitch", &[]).await;
    hag.join("thirdwitch").await;
    crone.send(&format!("<message type='groupchat' to='{ROOM}' id='s'><subject>Fire</subject></message>")).await;
    let forged = "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='forged@localhost/x'/></x>";
    crone.send(&format!("<message type='groupchat' to='{ROOM}' id='m'><body>Hi</body>{forged}</message>")).await;
    let live: Element = format!("<all xmlns='jabber:client'>{}</all>", hag.read()).parse().unwrap();
    let live: Vec<&Element> = live.elements().collect();
    let found = hag.room_query("").await;
    // §6.1.2: changes of the subject, too.
    assert_eq!(found.results.len(), 2, "{}", found.raw);
    for (archived, live) in found.messages().iter().zip(live) {
        assert_eq!((archived.get("to"), archived.get("from")), (None, live.get("from")));
        assert_eq!((archived.get("type"), archived.get("id")), (Some("groupchat"), live.get("id")));
        let children = |of: &Element| of.elements().map(Element::to_xml).collect::<Vec<_>>();
        assert_eq!(children(archived), children(live));
    }
    let id = found.messages()[1].find("stanza-id", ns::SID).unwrap().get("id");
    assert_eq!(id, Some(found.ids()[1]));
    assert!(found.messages()[1].find("occupant-id", ns::OCCUPANT_ID).is_some());
}

#[tokio::test(start_paused = true)]
async fn c5_who_may_not_see_real_addresses_finds_none() {
    for (whois, sees) in [("moderators", false), ("anyone", true)] {
        let world = World::new(EVERYBODY).await;
        let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
        let outsider = world.login(WICCA, "laptop").await;
        crone.make_room("firstwitch", &[("whois", whois), ("persistentroom", "1")]).await;
        hag.join("thirdwitch").await;
        crone.tell("one").await;
        hag.tell("two").await;
        for (client, sees) in [(&crone, true), (&hag, sees), (&outsider, sees)] {
            let everything = client.room_query("").await;
            assert_eq!(everything.said(), ["one", "two"]);
            let real = everything.messages()[0].find("x", ns::MUC_USER).map(|x| x.find("item", ns::MUC_USER).unwrap());
            let real = real.and_then(|item| item.get("jid"));
            assert_eq!(real, sees.then_some("crone1@localhost/desktop"));
            assert_eq!(
                everything.raw.contains("hag66@localhost/pda"),
                sees || client.session.jid.as_str().starts_with("hag")
            );
            // §4.1.1: nor do they find out by asking whose a message is.
            for (who, whose) in [(HAG, "two"), (CRONE, "one"), ("crone1@localhost/desktop", "one")] {
                let theirs = client.room_query(&form(&[("with", who)])).await.said();
                assert_eq!(theirs, if sees { vec![whose] } else { Vec::new() }, "{who}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_person_are_found_under_any_nickname() {
    let world = World::new(EVERYBODY).await;
    let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
    crone.make_room("firstwitch", &[]).await;
    hag.join("thirdwitch").await;
    for number in 0..300 {
        if number % 100 == 50 {
            hag.send(&format!("<presence to='{ROOM}/nick{number}'/>")).await;
            hag.tell(&format!("hag{number}")).await;
        }
        crone.tell(&number.to_string()).await;
    }
    let with = form(&[("with", HAG)]);
    assert_eq!(crone.room_query(&with).await.said(), ["hag50", "hag150", "hag250"]);
    let first = crone.room_query(&(with.clone() + &page("<max>2</max>"))).await;
    assert_eq!((first.said(), first.is_complete()), (vec!["hag50".to_owned(), "hag150".to_owned()], false));
    let after = first.set("last").unwrap();
    let second = crone.room_query(&(with.clone() + &page(&format!("<max>2</max><after>{after}</after>")))).await;
    assert_eq!((second.said(), second.is_complete()), (vec!["hag250".to_owned()], true));
    let last = crone.room_query(&(with + &page("<max>2</max><before/>"))).await;
    assert_eq!(last.said(), ["hag150", "hag250"]);
}

#[tokio::test(start_paused = true)]
async fn access_follows_membership() {
    let world = World::new(EVERYBODY).await;
    let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
    crone.make_room("firstwitch", &[("persistentroom", "1"), ("membersonly", "1")]).await;
    crone.tell("one").await;
    let metadata = "<metadata xmlns='urn:xmpp:mam:2'/>";
    for (affiliation, may) in [("none", false), ("member", true), ("outcast", false), ("admin", true)] {
        if affiliation != "none" {
            crone.set_affiliation(HAG, affiliation).await;
        }
        hag.read();
        let found = hag.room_query("").await;
        assert_eq!(found.results.len(), usize::from(may), "{affiliation}");
        assert!(may || found.error() == "forbidden", "{affiliation}");
        assert_eq!(hag.to_room("get", metadata).await.contains("forbidden"), !may, "{affiliation}");
        assert_eq!(hag.to_room("get", "<query xmlns='urn:xmpp:mam:2'/>").await.contains("forbidden"), !may);
    }
    // Being in another room is of no help, nor is a room that is not there.
    let other = "<iq type='set' id='query' to='other@conference.localhost'><query xmlns='urn:xmpp:mam:2'/></iq>";
    assert!(hag.ask(other).await.contains("item-not-found"));
    crone.set_affiliation(HAG, "none").await;
    hag.send("<presence to='other@conference.localhost/x'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
        .await;
    hag.read();
    assert_eq!(hag.room_query("").await.error(), "forbidden");
}

#[tokio::test(start_paused = true)]
async fn who_is_put_out_while_they_wait_finds_nothing() {
    let world = World::new(EVERYBODY).await;
    let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    for number in 0..10 {
        crone.tell(&number.to_string()).await;
    }
    world.store.slow(Duration::from_secs(1));
    for number in 0..2 {
        let query = format!("<iq type='set' id='{number}' to='{ROOM}'><query xmlns='urn:xmpp:mam:2'/></iq>");
        hag.send(&query).await;
    }
    crone.set_affiliation(HAG, "outcast").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let read = hag.read();
    assert!(read.contains("<forbidden"), "the second query was answered: {read}");
}

#[tokio::test(start_paused = true)]
async fn results_are_for_the_session_that_has_asked_alone() {
    let world = World::new(EVERYBODY).await;
    let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
    let another = world.login(HAG, "phone").await;
    another.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    crone.tell("one").await;
    another.read();
    assert_eq!(hag.room_query("").await.said(), ["one"]);
    assert_eq!(another.read(), "");
    // Who leaves while their query waits is owed nothing, and nobody else gets it.
    world.store.slow(Duration::from_secs(1));
    hag.begin_room_query("").await;
    hag.leave().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(another.read().matches("urn:xmpp:mam:2").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_is_a_tombstone() {
    let world = World::new(EVERYBODY).await;
    let (crone, hag) = (world.login(CRONE, "desktop").await, world.login(HAG, "pda").await);
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    hag.join("thirdwitch").await;
    hag.tell("mine").await;
    hag.tell("spam").await;
    crone.read();
    let ids = hag.room_query("").await;
    let retract = format!("<retract xmlns='urn:xmpp:message-retract:1' id='{}'/>", ids.ids()[0]);
    hag.send(&format!("<message type='groupchat' to='{ROOM}' id='r'>{retract}<body>gone</body></message>")).await;
    let moderate = format!(
        "<moderate xmlns='urn:xmpp:message-moderate:1' id='{}'><retract xmlns='urn:xmpp:message-retract:1'/></moderate>",
        ids.ids()[1]
    );
    assert!(crone.to_room("set", &moderate).await.contains("type='result'"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    hag.read();
    let found = hag.room_query("").await;
    assert!(!found.raw.contains("<body>mine") && !found.raw.contains("<body>spam"), "{}", found.raw);
    assert_eq!(found.said()[..2], ["retracted", "retracted"]);
    assert_eq!(found.ids()[..2], ids.ids()[..]);
    let moderated = found.messages()[1].find("retracted", ns::RETRACT).unwrap();
    assert!(moderated.find("moderated", ns::MODERATE).is_some(), "{moderated}");
    assert_eq!(found.messages()[0].get("from"), Some("coven@conference.localhost/thirdwitch"));
    let words = hag.room_query(&form(&[("{urn:xmpp:fulltext:0}fulltext", "spam")])).await;
    assert_eq!(words.results.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_room_without_archive_has_none() {
    let world = World::new(EVERYBODY).await;
    let crone = world.login(CRONE, "desktop").await;
    crone.make_room("firstwitch", &[("enablearchiving", "0")]).await;
    crone.tell("one").await;
    assert_eq!(crone.room_query("").await.error(), "service-unavailable");
    let info = crone.to_room("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>").await;
    assert!(!info.contains("urn:xmpp:mam:2"), "{info}");
}

#[tokio::test(start_paused = true)]
async fn the_archive_survives_a_restart_and_the_room_goes_with_it() {
    let world = World::new(EVERYBODY).await;
    let crone = world.login(CRONE, "desktop").await;
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    crone.tell("one").await;
    let world = world.restart().await;
    let crone = world.login(CRONE, "desktop").await;
    assert_eq!(crone.room_query("").await.said(), ["one"]);
    let destroy = "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>";
    assert!(crone.to_room("set", destroy).await.contains("type='result'"));
    assert_eq!(crone.room_query("").await.error(), "item-not-found");
    crone.make_room("firstwitch", &[]).await;
    assert_eq!(crone.room_query("").await.results.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn b16_who_asks_rooms_for_what_takes_long_leaves_time_to_others() {
    let world = World::new(EVERYBODY).await;
    let crone = world.login(CRONE, "desktop").await;
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    crone.tell("one").await;
    let mut clients = Vec::new();
    for number in 0..5 {
        clients.push(world.login(HAG, &number.to_string()).await);
    }
    world.store.slow(Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    for _ in 0..10 {
        for client in &clients {
            client.begin_room_query("").await;
        }
        for client in &clients {
            let mut found = Found::default();
            while found.end.is_none() {
                found.add(&client.read());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(found.is_complete());
        }
    }
    let time = start.elapsed();
    assert!(time >= Duration::from_secs(150), "50 queries of a second each in {time:?}");
    // More than a few at once are refused, as for accounts.
    for number in 0..20 {
        let query = format!("<iq type='set' id='{number}' to='{ROOM}'><query xmlns='urn:xmpp:mam:2'/></iq>");
        clients[0].send(&query).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let read = clients[0].read();
    assert_eq!(read.matches("<resource-constraint").count(), 10, "{read}");
}

/// A message that was said in the room at this time, the first of that moment or one behind it.
fn said_at(stamp: SystemTime, place: u64, body: &str) -> TailChange {
    let message =
        format!("<message xmlns='jabber:client' type='groupchat' from='{ROOM}/x'><body>{body}</body></message>");
    let record = RoomRecord {
        id: ids::at(stamp) + place,
        stamp,
        stanza: message.into_bytes().into(),
        nick: Some("x".into()),
        message_id: None,
        history: true,
        archived: true,
        digest: None,
    };
    TailChange::Room { room: jid(ROOM), change: RoomWrite::Message(record) }
}

#[tokio::test(start_paused = true)]
async fn old_messages_go_when_the_conf_says_so() {
    let conf = "[host.localhost]\n[modules.muc]\narchive_keep = \"30 days\"\n";
    let world = World::with_conf(conf, EVERYBODY).await;
    let crone = world.login(CRONE, "desktop").await;
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    crone.tell("one").await;
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 86_400);
    world.store.commit(&[said_at(long_ago, 0, "old")]).await.unwrap();
    assert_eq!(crone.room_query("").await.said(), ["old", "one"]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(crone.room_query("").await.said(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_long_becomes_findable_while_those_who_search_are_told_to_wait() {
    let world = World::new(EVERYBODY).await;
    let crone = world.login(CRONE, "desktop").await;
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let old: Vec<_> = (0..20_000).map(|place| said_at(yesterday, place, &format!("thrice {place}"))).collect();
    world.store.commit(&old).await.unwrap();
    crone.tell("thrice").await;
    let search = form(&[("{urn:xmpp:fulltext:0}fulltext", "thrice")]) + &page("<max>1</max><before/>");
    world.store.slow(Duration::from_secs(1));
    assert_eq!(crone.room_query(&search).await.error(), "resource-constraint");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let found = crone.room_query(&search).await;
    assert_eq!((found.said(), found.set("count").as_deref()), (vec!["thrice".to_owned()], Some("20001")));
    // What is taken back is not found, and what is said next is.
    let id = found.ids()[0].to_owned();
    world.store.slow(Duration::ZERO);
    crone.send(&format!(
        "<message type='groupchat' to='{ROOM}' id='gone'><retract xmlns='urn:xmpp:message-retract:1' id='{id}'/></message>"
    )).await;
    crone.tell("thrice mewed").await;
    assert_eq!(crone.room_query(&search).await.said(), ["thrice mewed"]);
    let count = form(&[("{urn:xmpp:fulltext:0}fulltext", "thrice")]) + &page("<max>0</max>");
    assert_eq!(crone.room_query(&count).await.set("count").as_deref(), Some("20001"));
}

#[tokio::test(start_paused = true)]
async fn people_of_other_servers_get_results_by_the_way_of_all_stanzas() {
    let world = outside::world(EVERYBODY).await;
    let crone = world.login(CRONE, "desktop").await;
    crone.make_room("firstwitch", &[("persistentroom", "1")]).await;
    for number in 0..3 {
        crone.tell(&number.to_string()).await;
    }
    outside::seen();
    let query = |id: usize| {
        let query = "<query xmlns='urn:xmpp:mam:2' queryid='q'/>";
        format!("<iq type='set' id='{id}' from='macbeth@outside.example/castle' to='{ROOM}'>{query}</iq>")
    };
    world.route(&query(0)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut found = Found::default();
    for stanza in outside::whole() {
        assert_eq!(stanza.get("to"), Some("macbeth@outside.example/castle"));
        found.add(&stanza.to_xml().replace("id='0'", "id='query'"));
    }
    assert_eq!(found.said(), ["0", "1", "2"]);
    assert!(found.is_complete() && !found.raw.contains("crone1"), "{}", found.raw);
    // One person's queries are bounded there, too.
    world.store.slow(Duration::from_secs(1));
    for id in 0..20 {
        world.route(&query(id)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let seen = outside::seen();
    assert_eq!(seen.iter().filter(|line| line.contains("resource-constraint")).count(), 10, "{seen:?}");
    crone.set_affiliation("outside.example", "outcast").await;
    world.route(&query(0)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(outside::seen().iter().any(|line| line.contains("forbidden")));
}
