//! XEP-0030: what is announced is answered, and what is answered is announced.

use std::collections::{BTreeMap, BTreeSet};

use rookery_xmpp::element::Element;

use crate::world::{Client, World};

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

/// A request that shows that a feature is there; none where nothing can be asked for.
type Proof = Option<(&'static str, &'static str)>;

const OFFLINE: &str = "http://jabber.org/protocol/offline";

/// What the server has, and whether it answers itself ("localhost") or the account for its user ("").
const SERVER: &[(&str, &str, Proof)] = &[
    ("http://jabber.org/protocol/caps", "", None),
    ("http://jabber.org/protocol/disco#info", "localhost", Some(("get", INFO))),
    ("http://jabber.org/protocol/disco#items", "localhost", Some(("get", ITEMS))),
    (OFFLINE, "", Some(("get", "<offline xmlns='http://jabber.org/protocol/offline'><fetch/></offline>"))),
    (OFFLINE, "", Some(("set", "<offline xmlns='http://jabber.org/protocol/offline'><purge/></offline>"))),
    ("jabber:iq:last", "localhost", Some(("get", "<query xmlns='jabber:iq:last'/>"))),
    ("jabber:iq:register", "localhost", Some(("get", "<query xmlns='jabber:iq:register'/>"))),
    ("jabber:iq:register", "", Some(("get", "<query xmlns='jabber:iq:register'/>"))),
    ("jabber:iq:roster", "", Some(("get", "<query xmlns='jabber:iq:roster'/>"))),
    ("jabber:iq:version", "localhost", Some(("get", "<query xmlns='jabber:iq:version'/>"))),
    ("msgoffline", "", None),
    ("urn:xmpp:blocking", "", Some(("get", "<blocklist xmlns='urn:xmpp:blocking'/>"))),
    ("urn:xmpp:blocking", "", Some(("set", "<block xmlns='urn:xmpp:blocking'><item jid='a@b'/></block>"))),
    ("urn:xmpp:blocking", "", Some(("set", "<unblock xmlns='urn:xmpp:blocking'/>"))),
    ("urn:xmpp:carbons:2", "", Some(("set", "<enable xmlns='urn:xmpp:carbons:2'/>"))),
    ("urn:xmpp:carbons:2", "", Some(("set", "<disable xmlns='urn:xmpp:carbons:2'/>"))),
    ("urn:xmpp:carbons:rules:0", "", None),
    ("urn:xmpp:ping", "localhost", Some(("get", "<ping xmlns='urn:xmpp:ping'/>"))),
    ("urn:xmpp:time", "localhost", Some(("get", "<time xmlns='urn:xmpp:time'/>"))),
];

const ACCOUNT: &[(&str, Proof)] = &[
    ("http://jabber.org/protocol/disco#info", Some(("get", INFO))),
    ("http://jabber.org/protocol/disco#items", Some(("get", ITEMS))),
    ("jabber:iq:last", Some(("get", "<query xmlns='jabber:iq:last'/>"))),
    ("urn:xmpp:fulltext:0", None),
    ("urn:xmpp:mam:2", Some(("get", "<query xmlns='urn:xmpp:mam:2'/>"))),
    ("urn:xmpp:mam:2#extended", Some(("get", "<metadata xmlns='urn:xmpp:mam:2'/>"))),
    ("urn:xmpp:mam:2#groupchat-field", None),
    ("urn:xmpp:ping", Some(("get", "<ping xmlns='urn:xmpp:ping'/>"))),
    ("urn:xmpp:sid:0", None),
];

/// What an account answers to its own user alone, though others may see that it is there.
const PRIVATE: &[&str] = &["urn:xmpp:mam:2", "urn:xmpp:mam:2#extended"];

async fn info(client: &Client, to: &str) -> Element {
    let iq: Element = client.iq("get", to, INFO).await.replacen("<iq", "<iq xmlns='jabber:client'", 1).parse().unwrap();
    assert_eq!(iq.get("type"), Some("result"));
    iq.find("query", "http://jabber.org/protocol/disco#info").unwrap().clone()
}

fn features(info: &Element) -> Vec<&str> {
    info.elements().filter(|child| child.name() == "feature").filter_map(|feature| feature.get("var")).collect()
}

async fn check(client: &Client, feature: &str, to: &str, (kind, payload): (&str, &str)) {
    let got = client.iq(kind, to, payload).await;
    assert!(got.contains("<iq type='result'"), "{feature} of {to:?}: {got}");
}

#[tokio::test(start_paused = true)]
async fn all_that_is_announced_is_answered() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let server = info(&romeo, "localhost").await;
    let identity = "<identity category='server' type='im' name='Rookery'/>";
    assert!(server.to_xml().contains(identity), "{}", server.to_xml());
    let expected: BTreeSet<&str> = SERVER.iter().map(|(feature, ..)| *feature).collect();
    assert_eq!(features(&server), Vec::from_iter(expected));
    for (feature, to, proof) in SERVER {
        if let Some(proof) = proof {
            check(&romeo, feature, to, *proof).await;
        }
    }
    let account = info(&romeo, "").await;
    assert!(account.to_xml().contains("<identity category='account' type='registered'/>"), "{}", account.to_xml());
    assert_eq!(features(&account), ACCOUNT.iter().map(|(feature, _)| *feature).collect::<Vec<_>>());
    world.befriend("juliet@localhost", "romeo@localhost").await;
    world.login("juliet@localhost", "balcony").await;
    romeo.read();
    assert_eq!(info(&romeo, "juliet@localhost").await, account, "contacts see the same");
    for (feature, proof) in ACCOUNT {
        for to in ["", "romeo@localhost", "juliet@localhost"] {
            if let Some(proof) = proof.filter(|_| to != "juliet@localhost" || !PRIVATE.contains(feature)) {
                check(&romeo, feature, to, proof).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_that_is_not_announced() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let mut asked = BTreeMap::new();
    let accounts = ACCOUNT.iter().map(|(feature, proof)| (*feature, "", *proof));
    for (feature, to, proof) in SERVER.iter().copied().chain(accounts) {
        for at in ["localhost", ""] {
            if let Some(proof) = proof {
                *asked.entry((at, feature, proof)).or_insert(false) |= at == to;
            }
        }
    }
    for ((to, feature, (kind, payload)), is_announced) in asked {
        let got = romeo.iq(kind, to, payload).await;
        assert_eq!(got.contains("type='result'"), is_announced, "{feature} of {to:?}: {got}");
    }
    for to in ["localhost", "", "romeo@localhost"] {
        for payload in
            ["<x xmlns='urn:example:unknown'/>", "<ping xmlns='urn:example:ping'/>", "<pong xmlns='urn:xmpp:ping'/>"]
        {
            for kind in ["get", "set"] {
                let got = romeo.iq(kind, to, payload).await;
                assert!(got.contains("service-unavailable"), "{got}");
            }
        }
        assert!(romeo.iq("set", to, "<ping xmlns='urn:xmpp:ping'/>").await.contains("service-unavailable"));
        for query in [INFO, ITEMS] {
            let got = romeo.iq("get", to, &query.replace("/>", " node='urn:example:node'/>")).await;
            assert!(got.contains("item-not-found"), "{got}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn contacts_of_the_conf_are_announced() {
    let conf = "[modules.disco]\nabuse = [\"mailto:abuse@example.org\", \"xmpp:abuse@example.org\"]\nstatus = [\"https://status.example.org\"]\n";
    let world = World::with_conf(conf, &["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let form = info(&romeo, "localhost").await.find("x", "jabber:x:data").unwrap().to_xml();
    assert_eq!(
        form,
        "<x xmlns='jabber:x:data' type='result'>\
         <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>\
         <field var='abuse-addresses' type='list-multi'><value>mailto:abuse@example.org</value><value>xmpp:abuse@example.org</value></field>\
         <field var='status-addresses' type='list-multi'><value>https://status.example.org</value></field></x>"
    );
    let of_rooms = info(&romeo, "conference.localhost").await.find("x", "jabber:x:data").unwrap().to_xml();
    assert_eq!(of_rooms, form, "whoever knows only the rooms finds them too");
    let conf = rookery_core::config::Conf::parse("[modules.disco]\nadmin = [\"admin\"]\n", "test.toml").unwrap();
    let database: std::sync::Arc<dyn rookery_core::store::Store> =
        std::sync::Arc::new(rookery_store::MemoryStore::new());
    let error = rookery_core::server::Server::start(conf, database, rookery_modules::ALL)
        .await
        .err()
        .expect("a fault")
        .to_string();
    assert!(error.contains("\"admin\" is no URI") && error.contains("test.toml:2"), "{error}");
}
