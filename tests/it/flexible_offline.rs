//! XEP-0013: what waits is counted, listed, looked at and removed, and comes by itself to nobody meanwhile.

use std::time::Duration;

use rookery_core::roster::Subscription;
use rookery_core::store::{StoreError, TailStore};
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

use crate::outside;
use crate::world::{Client, World, bodies, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";
const NOTHING: [&str; 0] = [];

/// Romeo is away, and these messages wait for him.
async fn waiting(messages: &[&str]) -> (World, Client) {
    let world = World::new(&[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    for body in messages {
        juliet.send(&chat(ROMEO, body)).await;
    }
    (world, juliet)
}

fn chat(to: &str, body: &str) -> String {
    format!("<message type='chat' to='{to}'><body>{body}</body></message>")
}

/// How much waits when all that was taken is on disk.
async fn on_disk(world: &World) -> usize {
    let account = world.server.account(&jid(ROMEO)).await.unwrap().unwrap();
    world.server.recorded(&account).await.unwrap();
    world.store.tail(&jid(ROMEO), 0, u64::MAX, 1000).await.unwrap().len()
}

impl Client {
    async fn about_node(&self, ns: &str) -> Element {
        let answer =
            self.iq("get", "", &format!("<query xmlns='{ns}' node='http://jabber.org/protocol/offline'/>")).await;
        assert!(answer.contains("type='result'"), "{answer}");
        let iq: Element = answer.replacen("<iq", "<iq xmlns='jabber:client'", 1).parse().unwrap();
        let query = iq.find("query", ns).unwrap().clone();
        assert_eq!(query.get("node"), Some(ns::OFFLINE));
        query
    }

    async fn count(&self) -> String {
        let info = self.about_node(ns::DISCO_INFO).await;
        let form = info.find("x", ns::X_DATA).unwrap();
        let field = form.elements().find(|field| field.get("var") == Some("number_of_messages")).unwrap();
        field.elements().next().unwrap().content()
    }

    /// The nodes, in the order in which they are listed.
    async fn nodes(&self) -> Vec<String> {
        let items = self.about_node(ns::DISCO_ITEMS).await;
        let node = |item: &Element| {
            assert_eq!((item.get("jid"), item.get("name")), (Some(ROMEO), Some("juliet@localhost/balcony")));
            item.get("node").unwrap().to_owned()
        };
        items.elements().map(node).collect()
    }

    async fn offline(&self, kind: &str, inside: &str) -> String {
        self.iq(kind, "", &format!("<offline xmlns='http://jabber.org/protocol/offline'>{inside}</offline>")).await
    }

    async fn with_nodes(&self, kind: &str, action: &str, nodes: &[String]) -> String {
        let items: String = nodes.iter().map(|node| format!("<item action='{action}' node='{node}'/>")).collect();
        self.offline(kind, &items).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_counted_listed_looked_at_and_removed() {
    let (world, _juliet) = waiting(&["one", "two", "three"]).await;
    let romeo = world.bind(ROMEO, "orchard").await;
    assert_eq!(romeo.count().await, "3");
    let nodes = romeo.nodes().await;
    assert!(nodes.len() == 3 && nodes.is_sorted(), "{nodes:?}");
    let got = romeo.with_nodes("get", "view", &nodes[1..2]).await;
    let (message, result) = got.split_once("</message>").unwrap();
    assert!(message.starts_with("<message type='chat' to='romeo@localhost' from='juliet@localhost/balcony'"), "{got}");
    let node = &nodes[1];
    assert!(
        message
            .contains(&format!("<body>two</body><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@localhost' id='{node}'/>")),
        "{got}"
    );
    assert!(message.contains("<delay xmlns='urn:xmpp:delay' from='localhost' stamp='"), "{got}");
    assert!(
        message
            .ends_with(&format!("<offline xmlns='http://jabber.org/protocol/offline'><item node='{node}'/></offline>")),
        "{got}"
    );
    assert_eq!(result, "<iq type='result' to='romeo@localhost/orchard' id='q'/>");
    // Looked at again, in the order of the messages, each once.
    let asked = [nodes[2].clone(), nodes[0].clone(), nodes[2].clone()];
    assert_eq!(bodies(&romeo.with_nodes("get", "view", &asked).await), ["one", "three"]);
    assert_eq!(bodies(&romeo.offline("get", "<fetch/>").await), ["one", "two", "three"]);
    let removed = romeo.with_nodes("set", "remove", &[nodes[2].clone(), nodes[0].clone()]).await;
    assert_eq!(
        (removed.as_str(), on_disk(&world).await),
        ("<iq type='result' to='romeo@localhost/orchard' id='q'/>", 1)
    );
    assert_eq!((romeo.count().await.as_str(), romeo.nodes().await), ("1", nodes[1..2].to_vec()));
    assert!(romeo.offline("set", "<purge/>").await.contains("type='result'"));
    assert_eq!((on_disk(&world).await, romeo.count().await.as_str(), romeo.nodes().await), (0, "0", vec![]));
    for empty in [romeo.offline("get", "<fetch/>").await, romeo.offline("set", "<purge/>").await] {
        assert_eq!(empty, "<iq type='result' to='romeo@localhost/orchard' id='q'/>");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_there_before_they_are_on_disk_and_after() {
    let (world, juliet) = waiting(&[]).await;
    let bodies_of: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    let romeo = world.bind(ROMEO, "orchard").await;
    for body in &bodies_of[..240] {
        juliet.send(&chat(ROMEO, body)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(on_disk(&world).await, 240);
    for body in &bodies_of[240..] {
        juliet.send(&chat(ROMEO, body)).await;
    }
    assert_eq!(romeo.count().await, "250");
    let nodes = romeo.nodes().await;
    assert!(nodes.len() == 250 && nodes.is_sorted());
    assert_eq!(bodies(&romeo.offline("get", "<fetch/>").await), bodies_of);
    let odd: Vec<String> = nodes.iter().step_by(2).cloned().collect();
    assert!(romeo.with_nodes("set", "remove", &odd).await.contains("type='result'"));
    assert_eq!((on_disk(&world).await, romeo.count().await.as_str()), (125, "125"));
    assert!(romeo.offline("set", "<purge/>").await.contains("type='result'"));
    assert_eq!(on_disk(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_is_sent_what_is_new_alone_and_so_are_the_others_meanwhile() {
    for asked in ["count", "headers", "fetch"] {
        let (world, juliet) = waiting(&["one"]).await;
        let orchard = world.bind(ROMEO, "orchard").await;
        match asked {
            "count" => assert_eq!(orchard.count().await, "1"),
            "headers" => assert_eq!(orchard.nodes().await.len(), 1),
            _ => assert_eq!(bodies(&orchard.offline("get", "<fetch/>").await), ["one"]),
        }
        let garden = world.bind(ROMEO, "garden").await;
        for client in [&orchard, &garden] {
            client.send("<presence/>").await;
            world.settle().await;
            assert_eq!(client.bodies(), NOTHING, "{asked}");
        }
        juliet.send(&chat(ROMEO, "two")).await;
        assert_eq!((orchard.bodies(), garden.bodies()), (vec!["two".to_owned()], vec!["two".to_owned()]));
        assert_eq!(orchard.nodes().await.len(), 1, "what comes in the session is not in the mailbox");
        // It stays for later, and for whoever does not ask.
        orchard.leave().await;
        world.settle().await;
        assert_eq!(garden.bodies(), NOTHING);
        let street = world.bind(ROMEO, "street").await;
        street.send("<presence/>").await;
        world.settle().await;
        assert_eq!(street.bodies(), ["one"], "{asked}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(on_disk(&world).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_to_a_client_is_not_in_the_mailbox() {
    let (world, juliet) = waiting(&["one"]).await;
    let orchard = world.login_resumable(ROMEO, "orchard").await;
    world.settle().await;
    assert_eq!(orchard.bodies(), ["one"]);
    juliet.send(&chat("romeo@localhost/orchard", "two")).await;
    let garden = world.bind(ROMEO, "garden").await;
    assert_eq!((garden.count().await.as_str(), garden.nodes().await.len()), ("0", 0));
    assert!(garden.offline("set", "<purge/>").await.contains("type='result'"));
    assert_eq!(orchard.bodies(), ["two"], "purged is what waits");
    // A connection that is lost does not acknowledge: the message that was for all waits, the one for the resource does too.
    orchard.cut().await;
    assert_eq!(bodies(&garden.offline("get", "<fetch/>").await), ["one"]);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(bodies(&garden.offline("get", "<fetch/>").await), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (world, _juliet) = waiting(&["one", "two"]).await;
    let romeo = world.bind(ROMEO, "orchard").await;
    let nodes = romeo.nodes().await;
    let (one, zero) = (&nodes[0], format!("0{}", nodes[0]));
    for node in ["1", "x", "", "-1", "18446744073709551615", "9223372036854775808", "99999999999999999999", &zero] {
        for (kind, action) in [("get", "view"), ("set", "remove")] {
            let got = romeo.with_nodes(kind, action, &[one.clone(), node.to_owned()]).await;
            assert!(got.contains("<item-not-found") && !got.contains("<body>"), "{node}: {got}");
        }
    }
    for (kind, inside) in [
        ("get", String::new()),
        ("get", "<item action='view'/>".to_owned()),
        ("get", format!("<item action='remove' node='{one}'/>")),
        ("get", format!("<item action='view' xmlns='urn:x' node='{one}'/>")),
        ("get", "<purge/>".to_owned()),
        ("set", "<fetch/>".to_owned()),
        ("set", format!("<item action='view' node='{one}'/>")),
        ("set", format!("<item action='remove' node='{one}'/><item/>")),
    ] {
        let got = romeo.offline(kind, &inside).await;
        assert!(got.contains("<bad-request"), "{inside}: {got}");
    }
    assert_eq!((romeo.count().await.as_str(), on_disk(&world).await), ("2", 2));
    let got = romeo.iq("get", "", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>").await;
    assert!(got.contains("<item-not-found"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn a5_c8_the_messages_of_others_are_forbidden_whether_they_exist_or_not() {
    let (world, juliet) = waiting(&["one"]).await;
    world.befriend(ROMEO, JULIET).await;
    let node = "http://jabber.org/protocol/offline";
    for to in [ROMEO, "nobody@localhost", "romeo@localhost/orchard"] {
        for (kind, payload) in [
            ("get", format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>")),
            ("get", format!("<query xmlns='http://jabber.org/protocol/disco#items' node='{node}'/>")),
            ("get", format!("<offline xmlns='{node}'><fetch/></offline>")),
            ("set", format!("<offline xmlns='{node}'><purge/></offline>")),
        ] {
            let got = juliet.iq(kind, to, &payload).await;
            assert!(got.contains("<forbidden"), "{to}: {got}");
        }
    }
    assert_eq!(on_disk(&world).await, 1);
}

#[tokio::test]
async fn c8_from_other_servers_contacts_are_forbidden_and_strangers_learn_nothing() {
    let world = outside::world(&[ROMEO]).await;
    world.set_contact(ROMEO, "nurse@outside.example", Subscription::From).await;
    for payload in [
        "<offline xmlns='http://jabber.org/protocol/offline'><fetch/></offline>",
        "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/offline'/>",
    ] {
        for (from, to, condition) in [
            ("nurse", ROMEO, "forbidden"),
            ("mallory", ROMEO, "service-unavailable"),
            ("mallory", "nobody@localhost", "service-unavailable"),
        ] {
            world
                .route(&format!("<iq type='get' id='1' from='{from}@outside.example/x' to='{to}'>{payload}</iq>"))
                .await;
            assert_eq!(outside::seen(), [format!("error 1 {condition}")], "{from} to {to}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sender_marks_as_collected_is_not_so() {
    let (world, juliet) = waiting(&[]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    juliet.send(&format!("<message type='chat' to='{ROMEO}'><body>x</body><o:offline xmlns:o='http://jabber.org/protocol/offline'><o:item node='1'/></o:offline></message>")).await;
    let got = romeo.read();
    assert!(got.contains("<body>x</body>") && !got.contains("offline"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_the_database_does_not_take_is_no_removal() {
    let (world, _juliet) = waiting(&["one", "two"]).await;
    let romeo = world.bind(ROMEO, "orchard").await;
    let nodes = romeo.nodes().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.store.fail(Some(StoreError::Unavailable("down".to_owned())));
    let got = romeo.offline("set", "<purge/>").await;
    assert!(got.contains("type='wait'"), "{got}");
    world.store.fail(None);
    assert_eq!(romeo.nodes().await, nodes);
    // It has begun, and the database does not come to it: the client is told, and it is done when the database is back.
    world.store.pause_commits();
    let node = &nodes[0];
    romeo.send(&format!("<iq type='set' id='1'><offline xmlns='http://jabber.org/protocol/offline'><item action='remove' node='{node}'/></offline></iq>")).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let got = romeo.read();
    assert!(got.contains("type='wait'"), "{got}");
    world.store.resume_commits();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((romeo.nodes().await, on_disk(&world).await), (nodes[1..].to_vec(), 1));
}

#[tokio::test(start_paused = true)]
async fn all_of_a_large_mailbox_comes_to_who_reads_and_no_more_than_fits_to_who_does_not() {
    let conf = "[host.localhost]\n[limits]\nstanza = \"10000 B\"\noutbox = \"16 KiB\"\n";
    let world = World::with_conf(conf, &[ROMEO, JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let body = "x".repeat(3000);
    for _ in 0..30 {
        juliet.send(&chat(ROMEO, &body)).await;
    }
    let romeo = world.bind(ROMEO, "orchard").await;
    let fetch = "<iq type='get' id='1'><offline xmlns='http://jabber.org/protocol/offline'><fetch/></offline></iq>";
    for _ in 0..50 {
        romeo.send(fetch).await;
    }
    world.settle().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    romeo.send(fetch).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!romeo.session.is_overfull() && !romeo.session.has_room());
    let mut got = String::new();
    let mut answers = 0;
    while answers < 51 {
        let more = romeo.next().await;
        answers += more.matches("<iq ").count();
        got.push_str(&more);
    }
    assert_eq!(got.matches("<body>").count(), 50 * 30);
    assert_eq!((got.matches("type='result'").count(), got.matches("<resource-constraint").count()), (50, 1));
}
