//! RFC 6121 §2: the roster.

use std::sync::Arc;

use rookery_core::module::When;
use rookery_core::server::Server;
use rookery_core::store::{AccountStore, Store, StoreError};
use rookery_xmpp::ns;

use crate::world::{Client, World, jid};

const JULIET: &str = "juliet@localhost";
const ROMEO: &str = "romeo@localhost";

fn set(id: &str, item: &str) -> String {
    format!("<iq type='set' id='{id}'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
}

const GET: &str = "<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq>";

fn get_since(ver: &str) -> String {
    format!("<iq type='get' id='get'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>")
}

/// The version in the last roster result or push.
fn version(client: &Client) -> String {
    client.stanzas().last().unwrap().find("query", ns::ROSTER).unwrap().get("ver").unwrap().to_owned()
}

#[tokio::test]
async fn the_features_are_offered_beside_binding() {
    let world = World::new(&[]).await;
    let host = world.server.host("localhost").unwrap();
    let features = host.stream_features(&world.server, When::BeforeBind, true);
    assert!(features.iter().any(|feature| feature.is("ver", "urn:xmpp:features:rosterver")));
    assert!(features.iter().any(|feature| feature.is("sub", "urn:xmpp:features:pre-approval")));
    assert!(
        !host
            .stream_features(&world.server, When::BeforeAuth, true)
            .iter()
            .any(|feature| feature.is("ver", "urn:xmpp:features:rosterver"))
    );
}

#[tokio::test]
async fn an_empty_roster_is_an_empty_query() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.send(GET).await;
    let got = juliet.read();
    assert!(got.contains("<query xmlns='jabber:iq:roster' ver='"), "{got}");
    assert!(got.contains("type='result'") && got.contains("to='juliet@localhost/balcony'"), "{got}");
}

#[tokio::test]
async fn a_contact_is_added_and_pushed_to_interested_resources_only() {
    let world = World::new(&[JULIET]).await;
    let balcony = world.bind(JULIET, "balcony").await;
    let chamber = world.bind(JULIET, "chamber").await;
    let other = world.login(JULIET, "available-but-not-interested").await;
    for client in [&balcony, &chamber] {
        assert_eq!(client.says(GET).await, ["roster"]);
    }
    let told = balcony
        .says(&set(
            "1",
            "<item jid='nurse@localhost' name='Nurse'><group>Servants</group><group>Friends</group></item>",
        ))
        .await;
    let push = "push nurse@localhost none 'Nurse' [Servants] [Friends]";
    assert_eq!(told, [push, "result 1"]);
    let pushed = chamber.stanzas();
    assert_eq!(pushed[0].get("to"), Some("juliet@localhost/chamber"));
    assert_eq!(pushed.len(), 1);
    assert!(other.told().is_empty());
    assert_eq!(other.says(GET).await, ["roster nurse@localhost none 'Nurse' [Servants] [Friends]"]);
    // Answers to pushes are nobody's business.
    let id = pushed[0].get("id").unwrap();
    chamber.send(&format!("<iq type='result' id='{id}'/>")).await;
    chamber.send(&format!("<iq type='result' id='{id}' to='juliet@localhost'/>")).await;
    chamber
        .send(&format!(
            "<iq type='error' id='{id}'><error type='cancel'><service-unavailable xmlns='{}'/></error></iq>",
            ns::STANZAS
        ))
        .await;
    for client in [&balcony, &chamber, &other] {
        assert!(client.told().is_empty());
    }
}

#[tokio::test]
async fn a_set_to_the_own_bare_jid_is_the_same() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    let told = juliet.says("<iq type='set' id='1' to='juliet@localhost'><query xmlns='jabber:iq:roster'><item jid='nurse@localhost'/></query></iq>").await;
    assert_eq!(told, ["push nurse@localhost none", "result 1"]);
}

#[tokio::test]
async fn an_update_replaces_name_and_groups_and_nothing_else() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (juliet, romeo) = (world.interested(JULIET, "balcony").await, world.interested(ROMEO, "orchard").await);
    world.subscribe(&juliet, &romeo).await;
    let told = juliet.says(&set("1", "<item jid='romeo@localhost' name='R' subscription='both' ask='subscribe' approved='true'><group>G</group></item>")).await;
    assert_eq!(told, ["push romeo@localhost to 'R' [G]", "result 1"]);
    assert_eq!(
        juliet.says(&set("2", "<item jid='romeo@localhost' subscription='none'/>")).await,
        ["push romeo@localhost to", "result 2"]
    );
    let told =
        juliet.says(&set("3", "<item jid='nurse@localhost' subscription='to' ask='subscribe' approved='true'/>")).await;
    assert_eq!(told, ["push nurse@localhost none", "result 3"], "a client does not say who is subscribed");
}

#[tokio::test]
async fn a_removal_is_pushed_and_an_unknown_contact_is_not_found() {
    let world = World::new(&[JULIET]).await;
    let (juliet, other) = (world.interested(JULIET, "balcony").await, world.interested(JULIET, "chamber").await);
    juliet.read();
    let remove = "<item jid='nurse@localhost' subscription='remove'/>";
    assert_eq!(juliet.says(&set("1", remove)).await, ["error 1 item-not-found"]);
    juliet.says(&set("2", "<item jid='nurse@localhost'/>")).await;
    assert_eq!(juliet.says(&set("3", remove)).await, ["push nurse@localhost remove", "result 3"]);
    assert_eq!(juliet.says(GET).await, ["roster"]);
    assert_eq!(other.told(), ["push nurse@localhost none", "push nurse@localhost remove"]);
}

#[tokio::test]
async fn a_wrong_set_is_refused_and_changes_nothing() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    let long = "x".repeat(1024);
    for (item, condition) in [
        ("<item jid='a@x.example'/><item jid='b@x.example'/>".to_owned(), "bad-request"),
        (String::new(), "bad-request"),
        ("<item jid='a@x.example'><group>g</group><group>g</group></item>".to_owned(), "bad-request"),
        ("<item jid='a@x.example'><group/></item>".to_owned(), "not-acceptable"),
        (format!("<item jid='a@x.example'><group>{long}</group></item>"), "not-acceptable"),
        (format!("<item jid='a@x.example' name='{long}'/>"), "not-acceptable"),
        ("<item jid='a@@x.example'/>".to_owned(), "jid-malformed"),
        ("<item jid='a@x.example/resource'/>".to_owned(), "bad-request"),
        ("<item name='nobody'/>".to_owned(), "bad-request"),
        ("<item jid='juliet@localhost'/>".to_owned(), "not-allowed"),
    ] {
        assert_eq!(juliet.says(&set("1", &item)).await, [format!("error 1 {condition}")], "{item}");
    }
    assert_eq!(juliet.says(GET).await, ["roster"]);
}

#[tokio::test]
async fn the_roster_holds_as_many_as_the_conf_says() {
    let world = World::with_conf("[limits]\nroster = 2\n[host.localhost]\n", &[JULIET, ROMEO]).await;
    let (juliet, romeo) = (world.interested(JULIET, "balcony").await, world.interested(ROMEO, "orchard").await);
    for contact in ["a", "b"] {
        assert_eq!(juliet.says(&set("1", &format!("<item jid='{contact}@localhost'/>"))).await.len(), 2);
    }
    assert_eq!(juliet.says(&set("2", "<item jid='c@localhost'/>")).await, ["error 2 resource-constraint"]);
    assert_eq!(
        juliet.says("<presence type='subscribe' to='romeo@localhost'/>").await,
        ["error romeo@localhost resource-constraint"]
    );
    assert!(romeo.told().is_empty());
    romeo.send("<presence type='subscribe' to='juliet@localhost'/>").await;
    assert_eq!(juliet.told(), ["subscribe romeo@localhost -> juliet@localhost"]);
    assert_eq!(
        juliet.says("<presence type='subscribed' to='romeo@localhost'/>").await,
        ["error romeo@localhost resource-constraint"]
    );
    // What is there can be changed, and makes room by going.
    assert_eq!(juliet.says(&set("3", "<item jid='a@localhost' name='A'/>")).await.len(), 2);
    assert_eq!(juliet.says(&set("4", "<item jid='a@localhost' subscription='remove'/>")).await.len(), 2);
    assert_eq!(juliet.says("<presence type='subscribed' to='romeo@localhost'/>").await, ["push romeo@localhost from"]);
}

#[tokio::test]
async fn a5_c8_the_rosters_of_others_are_forbidden_whether_they_exist_or_not() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (juliet, romeo) = (world.interested(JULIET, "balcony").await, world.interested(ROMEO, "orchard").await);
    for to in [ROMEO, "nobody@localhost", "romeo@localhost/orchard", "romeo@localhost/gone"] {
        for (kind, item) in [("get", ""), ("set", "<item jid='nurse@localhost'/>")] {
            let told = juliet
                .says(&format!(
                    "<iq type='{kind}' id='1' to='{to}'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
                ))
                .await;
            assert_eq!(told, ["error 1 forbidden"], "{to}");
        }
    }
    assert!(romeo.told().is_empty());
    assert_eq!(romeo.says(GET).await, ["roster"]);
}

#[tokio::test]
async fn c2_a_roster_push_of_somebody_else_never_reaches_a_client() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    let payload = "<query xmlns='jabber:iq:roster'><item jid='mallory@remote.example' subscription='both'/></query>";
    let mallory = world.login(ROMEO, "orchard").await;
    mallory.send(&format!("<iq type='set' id='1' to='juliet@localhost/balcony'>{payload}</iq>")).await;
    let own = world.login(JULIET, "chamber").await;
    own.send(&format!("<iq type='set' id='1' to='juliet@localhost/balcony'>{payload}</iq>")).await;
    juliet.read();
    for from in ["mallory@remote.example/x", "mallory@remote.example", "remote.example", "localhost"] {
        for to in ["juliet@localhost/balcony", "juliet@localhost"] {
            world.route(&format!("<iq type='set' id='1' from='{from}' to='{to}'>{payload}</iq>")).await;
        }
    }
    assert!(juliet.told().is_empty());
    assert_eq!(juliet.says(GET).await, ["roster"]);
}

#[tokio::test]
async fn a_client_with_the_current_version_gets_an_empty_result() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    juliet.send(&set("1", "<item jid='nurse@localhost'/>")).await;
    juliet.read();
    juliet.send(GET).await;
    let ver = version(&juliet);
    let again = world.bind(JULIET, "chamber").await;
    assert_eq!(again.says(&get_since(&ver)).await, ["result get"]);
    juliet.send(&set("2", "<item jid='tybalt@localhost'/>")).await;
    assert_eq!(again.told(), ["push tybalt@localhost none"], "it is interested all the same");
}

#[tokio::test]
async fn a_client_that_was_away_gets_what_it_missed_in_order() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    for contact in ["a", "b", "c", "d"] {
        juliet.send(&set("1", &format!("<item jid='{contact}@localhost'/>"))).await;
    }
    juliet.read();
    juliet.send(GET).await;
    let ver = version(&juliet);
    for item in [
        "<item jid='b@localhost' name='first'/>",
        "<item jid='a@localhost' subscription='remove'/>",
        "<item jid='b@localhost' name='B'/>",
        "<item jid='e@localhost'/>",
        "<item jid='d@localhost' subscription='remove'/>",
        "<item jid='d@localhost' name='back'/>",
    ] {
        juliet.send(&set("2", item)).await;
    }
    let now = version_of_roster(&juliet).await;
    let again = world.bind(JULIET, "chamber").await;
    let want = [
        "result get",
        "push a@localhost remove",
        "push b@localhost none 'B'",
        "push e@localhost none",
        "push d@localhost none 'back'",
    ];
    again.send(&get_since(&ver)).await;
    let stanzas = again.stanzas();
    let last = stanzas.last().unwrap().find("query", ns::ROSTER).unwrap().get("ver").unwrap();
    assert_eq!(last, now, "the last push brings the client up to date");
    let other = world.bind(JULIET, "other").await;
    assert_eq!(other.says(&get_since(&ver)).await, want);
    assert_eq!(other.says(&get_since(&now)).await, ["result get"]);
}

async fn version_of_roster(client: &Client) -> String {
    client.read();
    client.send(GET).await;
    version(client)
}

#[tokio::test]
async fn a_version_that_nobody_knows_brings_the_whole_roster() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    juliet.send(&set("1", "<item jid='nurse@localhost'/>")).await;
    let ver = version_of_roster(&juliet).await;
    let future = format!("{}9", ver);
    for ver in ["", "0", "what", "1-", "-1", "99-0", &future] {
        assert_eq!(juliet.says(&get_since(ver)).await, ["roster nurse@localhost none"], "{ver}");
    }
    // The account is made anew: its versions are not the old one's, though they count the same.
    world.server.delete_account(&jid(JULIET)).await.unwrap();
    let keys = rookery_xmpp::sasl::Credentials::from_password("other", 4096).unwrap();
    assert!(world.store.create_account(&jid(JULIET), &keys).await.unwrap());
    let heir = world.bind(JULIET, "balcony").await;
    heir.send(&set("1", "<item jid='tybalt@localhost'/>")).await;
    heir.read();
    assert_eq!(heir.says(&get_since(&ver)).await, ["roster tybalt@localhost none"]);
}

#[tokio::test]
async fn a_failing_store_refuses_the_change_and_tells_nobody() {
    let world = World::new(&[JULIET, ROMEO]).await;
    let (juliet, romeo) = (world.interested(JULIET, "balcony").await, world.interested(ROMEO, "orchard").await);
    world.store.fail(Some(StoreError::Full("no space left".to_owned())));
    assert_eq!(juliet.says(&set("1", "<item jid='nurse@localhost'/>")).await, ["error 1 resource-constraint"]);
    assert_eq!(
        juliet.says("<presence type='subscribe' to='romeo@localhost'/>").await,
        ["error romeo@localhost resource-constraint"]
    );
    assert!(romeo.told().is_empty());
    world.store.fail(None);
    assert_eq!(juliet.says(GET).await, ["roster"]);
    assert_eq!(
        juliet.says(&set("2", "<item jid='nurse@localhost'/>")).await,
        ["push nurse@localhost none", "result 2"]
    );
}

#[tokio::test]
async fn the_roster_outlives_the_server() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    juliet.send(&set("1", "<item jid='nurse@localhost' name='Nurse'><group>G</group></item>")).await;
    juliet.send("<presence type='subscribe' to='romeo@remote.example'/>").await;
    juliet.send("<presence type='subscribed' to='tybalt@remote.example'/>").await;
    let ver = version_of_roster(&juliet).await;
    let database: Arc<dyn Store> = world.store.clone();
    let server = Server::start(world.server.conf().as_ref().clone(), database, rookery_modules::ALL).await.unwrap();
    let world = World { server, store: world.store.clone() };
    let juliet = world.bind(JULIET, "balcony").await;
    let whole =
        "roster nurse@localhost none 'Nurse' [G], romeo@remote.example none ask, tybalt@remote.example none approved";
    assert_eq!(juliet.says(GET).await, [whole]);
    assert_eq!(juliet.says(&get_since(&ver)).await, ["result get"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_come_in_the_order_of_versions_and_no_roster_is_older_than_a_push_before_it() {
    let world = Arc::new(World::new(&[JULIET]).await);
    let writers: Vec<Client> =
        [world.bind(JULIET, "one").await, world.bind(JULIET, "two").await, world.bind(JULIET, "three").await].into();
    let reader = world.bind(JULIET, "reader").await;
    let writing = writers.into_iter().enumerate().map(|(writer, client)| {
        tokio::spawn(async move {
            for number in 0..50 {
                client
                    .send(&set("1", &format!("<item jid='c{}@localhost' name='{writer} {number}'/>", number % 7)))
                    .await;
                client.read();
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    let mut last = 0;
    while !writing.iter().all(tokio::task::JoinHandle::is_finished) || last < 150 {
        reader.send(GET).await;
        for stanza in reader.stanzas() {
            let ver = stanza.find("query", ns::ROSTER).unwrap().get("ver").unwrap();
            let number: u64 = ver.split_once('-').unwrap().1.parse().unwrap();
            assert!(number >= last, "{number} after {last}");
            last = number;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(last, 150);
}
