//! What the server answers about itself and its accounts: XEP-0092, XEP-0202, XEP-0012, XEP-0199, XEP-0478.

use rookery_core::module::When;
use rookery_core::roster::Subscription;
use rookery_core::store::KeyValueStore;

use crate::world::{World, jid};

const VERSION: &str = "<query xmlns='jabber:iq:version'/>";
const LAST: &str = "<query xmlns='jabber:iq:last'/>";
const UNAVAILABLE: &str =
    "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";

#[tokio::test(start_paused = true)]
async fn the_version_is_told_without_the_system_unless_the_conf_says_so() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        romeo.iq("get", "localhost", VERSION).await,
        format!(
            "<iq type='result' to='romeo@localhost/orchard' from='localhost' id='q'>\
             <query xmlns='jabber:iq:version'><name>Rookery</name><version>{version}</version></query></iq>"
        )
    );
    let world = World::with_conf("[modules.version]\nshow_os = true\n", &["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    assert!(romeo.iq("get", "localhost", VERSION).await.contains(&format!("<os>{}</os>", std::env::consts::OS)));
}

#[tokio::test(start_paused = true)]
async fn the_time_is_utc() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let got = romeo.iq("get", "localhost", "<time xmlns='urn:xmpp:time'/>").await;
    let (_, utc) = got.split_once("<tzo>+00:00</tzo><utc>").expect("the zone");
    let (utc, _) = utc.split_once("</utc>").expect("the time");
    assert!(utc.ends_with('Z') && rookery_xmpp::datetime::parse(utc).is_some(), "{utc}");
}

#[tokio::test(start_paused = true)]
async fn the_server_says_how_long_it_is_up() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let got = romeo.iq("get", "localhost", LAST).await;
    assert!(got.contains("<query xmlns='jabber:iq:last' seconds='"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn subscribers_learn_when_a_user_left_and_what_it_said() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    world.befriend("romeo@localhost", "juliet@localhost").await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    assert!(romeo.iq("get", "juliet@localhost", LAST).await.contains("item-not-found"), "never here");
    let balcony = world.login("juliet@localhost", "balcony").await;
    let chamber = world.login("juliet@localhost", "chamber").await;
    romeo.read();
    assert!(romeo.iq("get", "juliet@localhost", LAST).await.contains("seconds='0'"));
    balcony.send("<presence type='unavailable'><status>not the last</status></presence>").await;
    romeo.read();
    assert!(romeo.iq("get", "juliet@localhost", LAST).await.contains("<query xmlns='jabber:iq:last' seconds='0'/>"));
    chamber.send("<presence type='unavailable'><status>Heading &lt;Home&gt;</status></presence>").await;
    romeo.read();
    let past = format!("{}\nHeading <Home>", std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() - 903);
    let stored = world.store.value(&jid("juliet@localhost"), "last", "logout").await.unwrap().unwrap();
    assert!(String::from_utf8(stored).unwrap().ends_with("\nHeading <Home>"));
    world
        .store
        .set_values(&jid("juliet@localhost"), "last", &[("logout".to_owned(), Some(past.into_bytes()))])
        .await
        .unwrap();
    let got = romeo.iq("get", "juliet@localhost", LAST).await;
    assert!(
        got.contains("seconds='903'>Heading &lt;Home&gt;</query>") || got.contains("seconds='904'>Heading"),
        "{got}"
    );
    // The user itself may ask too.
    balcony.read();
    assert!(balcony.iq("get", "", LAST).await.contains("seconds='90"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_a_logout() {
    let world = World::new(&["juliet@localhost"]).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.cut().await;
    assert!(world.store.value(&jid("juliet@localhost"), "last", "logout").await.unwrap().unwrap().ends_with(b"\n"));
}

#[tokio::test(start_paused = true)]
async fn c8_strangers_learn_nothing_and_cannot_tell_accounts_that_exist() {
    let world = World::new(&["iago@localhost", "juliet@localhost"]).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    let iago = world.login("iago@localhost", "venice").await;
    // Whom the user is subscribed to is a stranger all the same.
    world.set_contact("juliet@localhost", "iago@localhost", Subscription::To).await;
    for payload in [
        LAST,
        "<ping xmlns='urn:xmpp:ping'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<blocklist xmlns='urn:xmpp:blocking'/>",
        "<query xmlns='jabber:iq:register'/>",
        VERSION,
        "<time xmlns='urn:xmpp:time'/>",
    ] {
        let known = iago.iq("get", "juliet@localhost", payload).await;
        assert!(known.ends_with(UNAVAILABLE), "{known}");
        let unknown = iago.iq("get", "nobody@localhost", payload).await;
        assert_eq!(known.replace("juliet", "nobody"), unknown);
    }
    let idle = iago.iq("get", "juliet@localhost/balcony", LAST).await;
    assert!(idle.ends_with(UNAVAILABLE), "{idle}");
    assert_eq!(idle.replace("juliet", "nobody"), iago.iq("get", "nobody@localhost/balcony", LAST).await);
    assert_eq!(juliet.read(), "");
    // Directed presence shows the resource, so its idle time may be asked for.
    juliet.send("<presence to='iago@localhost/venice'/>").await;
    iago.read();
    iago.send(&format!("<iq type='get' id='q' to='juliet@localhost/balcony'>{LAST}</iq>")).await;
    assert!(juliet.read().contains("jabber:iq:last"));
}

#[tokio::test(start_paused = true)]
async fn the_stream_features_announce_limits_and_capabilities() {
    let conf = "[limits]\npre_auth_element = \"9 KiB\"\nstanza = \"100 KiB\"\n";
    let world = World::with_conf(conf, &["romeo@localhost"]).await;
    let host = world.server.host("localhost").unwrap();
    let features = |when| {
        world.server.stream_features(&host, when, true).iter().map(|feature| feature.to_xml()).collect::<Vec<_>>()
    };
    assert_eq!(
        features(When::BeforeAuth),
        ["<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>9216</max-bytes></limits>"]
    );
    let bound = features(When::BeforeBind);
    assert!(
        bound.contains(&"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>102400</max-bytes></limits>".to_owned()),
        "{bound:?}"
    );
    let ver = host.caps().unwrap();
    let caps =
        format!("<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x-rookery:server' ver='{ver}'/>");
    assert!(bound.contains(&caps), "{bound:?}");
    let romeo = world.login("romeo@localhost", "orchard").await;
    let query = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='urn:x-rookery:server#{ver}'/>");
    assert!(romeo.iq("get", "localhost", &query).await.contains("<feature var='urn:xmpp:ping'/>"));
}

#[tokio::test(start_paused = true)]
async fn the_modules_options_in_the_conf_as_shipped_are_options() {
    let (_, modules) = include_str!("../../conf/rookery.toml").split_once("\n[modules]\n").unwrap();
    let conf: String = modules
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(conf.contains("[modules.register]\nenabled = true\nregistration = false\n"), "{conf}");
    let world = World::with_conf(&conf, &["romeo@localhost"]).await;
    let (shipped, default) =
        (world.server.host("localhost").unwrap(), World::new(&[]).await.server.host("localhost").unwrap());
    assert_eq!(shipped.info(), default.info());
}
