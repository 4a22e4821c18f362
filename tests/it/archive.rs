//! XEP-0313 where scripts do not reach: while messages come in, while nobody reads, while the database fails, and a
//! thousand messages long. What the rules are is in the scenarios.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rookery_core::store::{ArchiveQuery, ArchiveStore, Page, StoreError, TailStore};
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

use crate::world::{Client, World, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";
const BOTH: &[&str] = &[ROMEO, JULIET];

/// What a query has brought.
#[derive(Default)]
pub(crate) struct Found {
    /// The results, in the order in which they came: id and body.
    pub(crate) results: Vec<(u64, String)>,
    /// The bodies of messages that came between them.
    pub(crate) between: Vec<String>,
    /// The result or the error.
    pub(crate) end: Option<Element>,
}

impl Found {
    pub(crate) fn bodies(&self) -> Vec<&str> {
        self.results.iter().map(|(_, body)| body.as_str()).collect()
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.results.iter().map(|(id, _)| *id).collect()
    }

    pub(crate) fn fin(&self) -> &Element {
        let end = self.end.as_ref().unwrap();
        end.find("fin", ns::MAM).unwrap_or_else(|| panic!("no end of a page: {}", end.to_xml()))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.fin().get("complete") == Some("true")
    }

    /// `first`, `last` or `count`.
    pub(crate) fn set(&self, name: &str) -> Option<String> {
        self.fin().find("set", ns::RSM).unwrap().find(name, ns::RSM).map(Element::content)
    }

    /// The conditions of an error: its type and its name.
    pub(crate) fn error(&self) -> (String, String) {
        let end = self.end.as_ref().unwrap();
        let error = end.find("error", ns::CLIENT).unwrap_or_else(|| panic!("no error: {}", end.to_xml()));
        let condition = error.elements().next().unwrap().name().to_owned();
        (error.get("type").unwrap().to_owned(), condition)
    }

    fn add(&mut self, read: &str) {
        for element in elements(read) {
            match (element.name(), element.find("result", ns::MAM)) {
                ("message", Some(result)) => {
                    let message = result.find("forwarded", ns::FORWARD).unwrap().find("message", ns::CLIENT).unwrap();
                    let body = message.find("body", ns::CLIENT).map(Element::content).unwrap_or_default();
                    self.results.push((result.get("id").unwrap().parse().unwrap(), body));
                }
                ("message", None) => self.between.extend(element.find("body", ns::CLIENT).map(Element::content)),
                ("iq", _) if element.get("id") == Some("query") => self.end = Some(element),
                _ => {}
            }
        }
    }
}

fn elements(read: &str) -> Vec<Element> {
    let all: Element = format!("<all xmlns='jabber:client'>{read}</all>").parse().unwrap();
    all.elements().cloned().collect()
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let field = |(var, value): &(&str, &str)| format!("<field var='{var}'><value>{value}</value></field>");
    let fields: String = [("FORM_TYPE", ns::MAM)].iter().chain(fields).map(field).collect();
    format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>")
}

pub(crate) fn page(children: &str) -> String {
    format!("<set xmlns='http://jabber.org/protocol/rsm'>{children}</set>")
}

fn chat(to: &str, body: &str) -> String {
    let id = body.split(' ').next().unwrap_or_default();
    format!("<message type='chat' to='{to}' id='{id}'><body>{body}</body></message>")
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

impl Client {
    async fn begin_query(&self, inside: &str) {
        self.send(&format!("<iq type='set' id='query'><query xmlns='urn:xmpp:mam:2'>{inside}</query></iq>")).await;
    }

    async fn found(&self) -> Found {
        let mut found = Found::default();
        for _ in 0..100_000 {
            found.add(&self.read());
            if found.end.is_some() {
                return found;
            }
            pass(Duration::from_millis(1)).await;
        }
        panic!("the query is not answered");
    }

    /// Queries its archive.
    pub(crate) async fn query(&self, inside: &str) -> Found {
        self.begin_query(inside).await;
        self.found().await
    }
}

#[tokio::test(start_paused = true)]
async fn a5_the_archives_of_others_look_like_those_of_nobody() {
    let world = World::new(BOTH).await;
    world.befriend(ROMEO, JULIET).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login(JULIET, "balcony").await;
    juliet.send(&chat(ROMEO, "one")).await;
    romeo.read();
    let prefs = "<prefs xmlns='urn:xmpp:mam:2' default='always'/>";
    for (kind, payload) in [
        ("set", "<query xmlns='urn:xmpp:mam:2'/>"),
        ("get", "<query xmlns='urn:xmpp:mam:2'/>"),
        ("get", "<metadata xmlns='urn:xmpp:mam:2'/>"),
        ("get", "<prefs xmlns='urn:xmpp:mam:2'/>"),
        ("set", prefs),
    ] {
        let of = |user: &str| format!("<iq type='{kind}' id='1' to='{user}'>{payload}</iq>");
        let hers = romeo.ask(&of(JULIET)).await;
        let nobodys = romeo.ask(&of("nobody@localhost")).await;
        assert!(hers.contains("<service-unavailable"), "{hers}");
        assert_eq!(hers.replace(JULIET, "nobody@localhost"), nobodys);
    }
    assert!(juliet.query("").await.is_complete());
}

/// Three short connections look like a client that cannot bear a stanza. Its sender was told that it is safe, and may have gone.
#[tokio::test(start_paused = true)]
async fn b9_what_a_client_cannot_bear_stays_in_the_archive() {
    for is_read_back in [false, true] {
        let mut world = World::new(BOTH).await;
        let romeo = world.login_resumable(ROMEO, "orchard").await;
        let send = async || {
            romeo.send(&chat(JULIET, "poison")).await;
            pass(Duration::from_secs(1)).await;
        };
        if is_read_back {
            send().await;
            world = world.restart().await;
        }
        let juliet = world.bind(JULIET, "balcony").await;
        juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
        juliet.send("<presence/>").await;
        pass(Duration::from_secs(1)).await;
        let mut got = juliet.bodies();
        juliet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
        if !is_read_back {
            send().await;
            got = juliet.bodies();
        }
        for _ in 0..3 {
            assert_eq!(got, ["poison"]);
            juliet.cut().await;
            let resumed = world.server.resume(&juliet.session, 1, |h| format!("<resumed h='{h}'/>").into()).await;
            assert!(resumed.is_ok());
            pass(Duration::from_secs(1)).await;
            got = juliet.bodies();
        }
        assert!(got.is_empty());
        assert!(!romeo.read().contains("error"));
        assert!(world.store.tail(&jid(JULIET), 0, u64::MAX, 10).await.unwrap().is_empty());
        let phone = world.login(JULIET, "phone").await;
        assert!(phone.bodies().is_empty());
        assert_eq!(phone.query("").await.set("count").as_deref(), Some("1"));
    }
}

/// Nobody is left to deliver it to, and its sender was told that it is safe.
#[tokio::test(start_paused = true)]
async fn what_a_session_leaves_behind_stays_in_the_archive_where_nothing_waits_for_anybody() {
    let world = World::with_conf("[host.localhost]\n[modules.offline]\nenabled = false\n", BOTH).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    romeo.send(&chat(JULIET, "one")).await;
    pass(Duration::from_secs(1)).await;
    juliet.leave().await;
    pass(Duration::from_secs(1)).await;
    assert!(!romeo.read().contains("error"));
    let phone = world.login(JULIET, "phone").await;
    assert!(phone.bodies().is_empty());
    assert_eq!(phone.query("").await.set("count").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn c1_results_that_somebody_else_sends_are_not_archived() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let inner =
        "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>x</body></message></forwarded>";
    for name in ["mam:result xmlns:mam", "result xmlns"] {
        let close = name.split(' ').next().unwrap();
        let result = format!("<{name}='urn:xmpp:mam:2' id='1'>{inner}</{close}><body>y</body>");
        world
            .route(&format!("<message from='coven@chat.example' to='romeo@localhost/orchard'>{result}</message>"))
            .await;
    }
    romeo.read();
    assert_eq!(romeo.query("").await.set("count").as_deref(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn c1_results_that_somebody_else_sends_are_for_the_session_that_has_asked_alone() {
    let world = World::new(BOTH).await;
    let phone = world.login(ROMEO, "phone").await;
    phone.iq("set", "", "<enable xmlns='urn:xmpp:carbons:2'/>").await;
    let romeo = world.login(ROMEO, "orchard").await;
    phone.read();
    let result = "<result xmlns='urn:xmpp:mam:2' id='1'><forwarded xmlns='urn:xmpp:forward:0'>\
                  <message xmlns='jabber:client'><body>x</body></message></forwarded></result>";
    let send = |to: &'static str, inside: &str| {
        let message = format!("<message type='chat' from='coven@chat.example' to='{to}'>{result}{inside}</message>");
        let world = &world;
        async move { world.route(&message).await }
    };
    for inside in ["", "<body>y</body>", "<store xmlns='urn:xmpp:hints'/>"] {
        send("romeo@localhost/orchard", inside).await;
        assert_eq!((romeo.read().matches("<result").count(), phone.read()), (1, String::new()), "{inside}");
    }
    romeo.leave().await;
    phone.leave().await;
    send(ROMEO, "<store xmlns='urn:xmpp:hints'/>").await;
    world.settle().await;
    assert_eq!(world.store.tail(&jid(ROMEO), 0, u64::MAX, 10).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn texts_are_made_findable_for_those_who_search() {
    for search in [true, false] {
        let conf = format!("[host.localhost]\n[modules.archive]\nsearch = {search}\n");
        let world = World::with_conf(&conf, BOTH).await;
        let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
        romeo.send(&chat(JULIET, "wherefore")).await;
        juliet.send(&chat(ROMEO, "art thou")).await;
        assert_eq!(romeo.query("").await.bodies(), ["wherefore", "art thou"]);
        let everything = ArchiveQuery {
            with: None,
            start: None,
            end: None,
            after_id: None,
            before_id: None,
            ids: Vec::new(),
            words: Some("thou".into()),
            page: Page::First,
            max: 10,
            count: false,
        };
        let words = form(&[("{urn:xmpp:fulltext:0}fulltext", "thou")]);
        assert_eq!(romeo.query(&words).await.end.unwrap().get("type") == Some("result"), search);
        for (user, found) in [(ROMEO, search), (JULIET, false)] {
            let page = world.store.archive_page(&jid(user), &everything).await.unwrap().unwrap();
            assert_eq!(page.messages.len(), usize::from(found), "{user}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b16_who_asks_for_what_takes_long_leaves_time_to_others() {
    let world = World::new(BOTH).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        clients.push(world.login(ROMEO, &number.to_string()).await);
    }
    world.store.slow(Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    for _ in 0..10 {
        for client in &clients {
            client.begin_query("").await;
        }
        for client in &clients {
            assert!(client.found().await.is_complete());
        }
    }
    let time = start.elapsed();
    assert!(time >= Duration::from_secs(150), "50 queries of a second each in {time:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_a_moment_ago_is_found() {
    let world = World::new(BOTH).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    for number in 0..20 {
        let body = number.to_string();
        romeo.send(&chat(JULIET, &body)).await;
        for client in [&romeo, &juliet] {
            let last = client.query(&page("<max>1</max><before/>")).await;
            assert_eq!(last.bodies(), [body.as_str()]);
            assert_eq!(last.set("count"), Some((number + 1).to_string()));
        }
        let metadata = romeo.iq("get", "", "<metadata xmlns='urn:xmpp:mam:2'/>").await;
        let newest = romeo.query(&page("<max>1</max><before/>")).await.ids()[0];
        assert!(metadata.contains(&format!("<end id='{newest}'")), "{metadata}");
    }
}

#[tokio::test(start_paused = true)]
async fn results_keep_their_order_while_messages_arrive() {
    let world = World::new(BOTH).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    for number in 0..120 {
        romeo.send(&chat(JULIET, &number.to_string())).await;
    }
    juliet.read();
    world.store.slow(Duration::from_millis(100));
    juliet.begin_query(&page("<max>250</max>")).await;
    let mut found = Found::default();
    for number in 120..200 {
        romeo.send(&chat(JULIET, &number.to_string())).await;
        found.add(&juliet.read());
        pass(Duration::from_millis(10)).await;
    }
    while found.end.is_none() {
        found.add(&juliet.read());
        pass(Duration::from_millis(10)).await;
    }
    let whole: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    assert!(found.bodies().len() >= 120, "{}", found.bodies().len());
    assert!(whole.iter().zip(found.bodies()).all(|(number, body)| number == body), "{:?}", found.bodies());
    assert_eq!(found.between, whole[120..], "what came meanwhile came in its order, and none of it is missing");
    assert!(found.ids().windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_acknowledged_is_delivered_and_one_that_is_not_is_not() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    for body in ["one", "two", "three"] {
        romeo.send(&chat(JULIET, body)).await;
    }
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
    juliet.read();
    assert_eq!(juliet.query("").await.bodies(), ["one", "two", "three"]);
    // Two results of three, then she is gone.
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='2'/>").await;
    juliet.cut().await;
    pass(Duration::from_secs(1)).await;
    let phone = world.bind(JULIET, "phone").await;
    phone.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(phone.bodies(), ["three"]);
    assert_eq!(phone.query("").await.bodies(), ["one", "two", "three"]);
    pass(Duration::from_secs(1)).await;
    let tablet = world.login(JULIET, "tablet").await;
    pass(Duration::from_secs(1)).await;
    assert!(tablet.bodies().is_empty(), "it waits for nobody any more");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_slow_gets_all_of_it_and_is_answered_meanwhile() {
    let world = World::with_conf("[limits]\noutbox = \"64 KiB\"\n", BOTH).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.bind(JULIET, "balcony").await);
    let long = "x".repeat(10_000);
    for number in 0..60 {
        romeo.send(&chat(JULIET, &format!("{number} {long}"))).await;
    }
    pass(Duration::from_secs(1)).await;
    juliet.begin_query("").await;
    pass(Duration::from_secs(10)).await;
    let mut buffer = Vec::new();
    let drain = |buffer: &mut Vec<u8>, budget| {
        juliet.session.drain(juliet.connection, buffer, budget, Instant::now()).unwrap().more
    };
    // Whatever she has asked for, no more than her outbox is in memory for her; a ping is answered behind that.
    juliet.send("<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    while drain(&mut buffer, 1) {}
    let waited = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
    assert!(waited.len() < 80 << 10, "{} bytes waited", waited.len());
    assert!(waited.contains("id='ping'"));
    let mut found = Found::default();
    found.add(&waited);
    for _ in 0..10_000 {
        drain(&mut buffer, 1);
        if found.end.is_some() {
            break;
        }
        found.add(&String::from_utf8(std::mem::take(&mut buffer)).unwrap());
        pass(Duration::from_millis(50)).await;
    }
    let numbers: Vec<&str> = found.bodies().iter().filter_map(|body| body.split(' ').next()).collect();
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    assert!(!found.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_query_ends_with_its_session() {
    let world = World::with_conf("[limits]\noutbox = \"64 KiB\"\n", BOTH).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.bind(JULIET, "balcony").await);
    let long = "x".repeat(10_000);
    for number in 0..60 {
        romeo.send(&chat(JULIET, &format!("{number} {long}"))).await;
    }
    for _ in 0..10 {
        juliet.begin_query("").await;
    }
    pass(Duration::from_secs(10)).await;
    juliet.cut().await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(std::sync::Arc::strong_count(&juliet.session), 1, "nothing goes on for a session that has ended");
    // What it had not got waits for the next.
    let phone = world.bind(JULIET, "phone").await;
    assert_eq!(phone.query(&page("<max>0</max>")).await.set("count").as_deref(), Some("60"));
    phone.send("<presence/>").await;
    let mut bodies = Vec::new();
    for _ in 0..1000 {
        bodies.extend(phone.bodies());
        pass(Duration::from_millis(10)).await;
    }
    assert_eq!(bodies.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn b14_queries_are_few_at_once_and_slowed_down() {
    let world = World::new(BOTH).await;
    let juliet = world.login(JULIET, "balcony").await;
    world.store.slow(Duration::from_millis(100));
    for _ in 0..11 {
        juliet.begin_query("").await;
    }
    let refused = juliet.found().await;
    assert_eq!(refused.error(), ("wait".to_owned(), "resource-constraint".to_owned()));
    for _ in 0..10 {
        assert!(juliet.found().await.is_complete(), "the others are answered, one after the other");
    }
    world.store.slow(Duration::ZERO);
    pass(Duration::from_secs(60)).await;
    let start = tokio::time::Instant::now();
    for _ in 0..100 {
        juliet.query("").await;
    }
    // Fifty at once and five a second.
    let took = start.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_is_an_error_to_try_again_after() {
    let world = World::new(BOTH).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    romeo.send(&chat(JULIET, "one")).await;
    juliet.read();
    pass(Duration::from_secs(1)).await;
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let wait = ("wait".to_owned(), "resource-constraint".to_owned());

    world.store.fail(Some(StoreError::Unavailable("gone".to_owned())));
    assert_eq!(juliet.query("").await.error(), wait);
    for payload in ["<metadata xmlns='urn:xmpp:mam:2'/>"] {
        let got = juliet.iq("get", "", payload).await;
        assert!(got.contains("type='wait'"), "{got}");
    }
    let got = juliet.iq("set", "", "<prefs xmlns='urn:xmpp:mam:2' default='never'/>").await;
    assert!(got.contains("type='wait'"), "{got}");
    let got = juliet.iq("get", "", "<prefs xmlns='urn:xmpp:mam:2'/>").await;
    assert!(got.contains("default='always'"), "what could not be stored does not hold: {got}");
    world.store.fail(None);
    assert_eq!(juliet.query("").await.bodies(), ["one"]);

    // One that does not answer: pings do.
    world.store.pause_commits();
    romeo.send(&chat(JULIET, "two")).await;
    juliet.read();
    juliet.begin_query("").await;
    pass(Duration::from_secs(9)).await;
    assert!(juliet.iq("get", "", ping).await.contains("type='result'"));
    assert_eq!(juliet.found().await.error(), wait);
    world.store.resume_commits();
    assert_eq!(juliet.query("").await.bodies(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_messages_in_pages_are_the_whole_both_ways() {
    let world = World::new(BOTH).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    for number in 0..500 {
        romeo.send(&chat(JULIET, &number.to_string())).await;
        juliet.send(&chat(ROMEO, &format!("re {number}"))).await;
    }
    let mut whole = Found::default();
    for max in [250, 97, 7] {
        let mut pages = Vec::new();
        let mut after = String::new();
        loop {
            let found = juliet.query(&page(&format!("<max>{max}</max>{after}"))).await;
            after = format!("<after>{}</after>", found.set("last").unwrap());
            let done = found.is_complete();
            assert_eq!(found.results.len(), if done { 1000 - pages.len() } else { max });
            pages.extend(found.results);
            if done {
                break;
            }
        }
        if whole.results.is_empty() {
            whole.results = pages;
            let expected: BTreeSet<String> =
                (0..500).flat_map(|number| [number.to_string(), format!("re {number}")]).collect();
            assert_eq!(whole.results.iter().map(|(_, body)| body.clone()).collect::<BTreeSet<_>>(), expected);
        } else {
            assert_eq!(pages, whole.results, "forwards by {max}");
        }
        let mut pages = Vec::new();
        let mut before = "<before/>".to_owned();
        loop {
            let found = juliet.query(&format!("{}<flip-page/>", page(&format!("<max>{max}</max>{before}")))).await;
            before = format!("<before>{}</before>", found.set("first").unwrap());
            let done = found.is_complete();
            pages.extend(found.results);
            if done {
                break;
            }
        }
        pages.reverse();
        assert_eq!(pages, whole.results, "backwards by {max}");
    }
    // A conversation of two is the same from both ends.
    let (mut his, mut after) = (Vec::new(), String::new());
    while his.len() < 1000 {
        let found =
            romeo.query(&format!("{}{}", form(&[("with", JULIET)]), page(&format!("<max>250</max>{after}")))).await;
        after = format!("<after>{}</after>", found.set("last").unwrap());
        his.extend(found.results);
    }
    assert_eq!(
        his.iter().map(|(_, body)| body).collect::<Vec<_>>(),
        whole.results.iter().map(|(_, body)| body).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn b15_a_page_of_large_messages_ends_early_and_the_next_goes_on() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let long = "x".repeat(200_000);
    for number in 0..20 {
        romeo.send(&chat(JULIET, &format!("{number} {long}"))).await;
        romeo.read();
    }
    for (mut edge, next) in [(String::new(), "last"), ("<before/>".to_owned(), "first")] {
        let (mut numbers, mut pages) = (BTreeSet::new(), 0);
        loop {
            let found = romeo.query(&page(&edge)).await;
            assert!(found.results.len() <= 5, "{} at once", found.results.len());
            numbers.extend(found.bodies().iter().filter_map(|body| body.split(' ').next()).map(str::to_owned));
            pages += 1;
            if found.is_complete() {
                break;
            }
            let id = found.set(next).unwrap();
            edge = if next == "last" { format!("<after>{id}</after>") } else { format!("<before>{id}</before>") };
        }
        assert_eq!((numbers.len(), pages), (20, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn preferences_survive_a_restart_and_go_with_the_account() {
    let world = World::new(BOTH).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let prefs = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>a@b</jid></always><never/></prefs>";
    assert!(romeo.iq("set", "", prefs).await.contains(prefs));
    romeo.send(&chat(ROMEO, "a note")).await;
    pass(Duration::from_secs(1)).await;
    let world = world.start_again().await;
    let romeo = world.login(ROMEO, "orchard").await;
    let get = "<prefs xmlns='urn:xmpp:mam:2'/>";
    assert!(romeo.iq("get", "", get).await.contains(prefs));
    assert_eq!(romeo.query("").await.bodies(), ["a note"]);

    assert!(world.server.delete_account(&jid(ROMEO)).await.unwrap());
    let credentials = rookery_xmpp::sasl::Credentials::from_password("secret", 4096).unwrap();
    assert!(
        rookery_core::store::AccountStore::create_account(world.store.as_ref(), &jid(ROMEO), &credentials)
            .await
            .unwrap()
    );
    let next = world.login(ROMEO, "orchard").await;
    assert!(next.iq("get", "", get).await.contains("default='always'"));
    assert_eq!(next.query("").await.set("count").as_deref(), Some("0"), "the archive of who had the name before");
}
