//! XEP-0077: who may make an account, change a password, and leave for good.

use std::net::IpAddr;

use rookery_core::module::{IqResult, PreAuthCall, When};
use rookery_core::roster::Subscription;
use rookery_core::session::StreamInfo;
use rookery_core::store::{AccountStore, KeyValueStore};
use rookery_xmpp::error::Condition;
use rookery_xmpp::sasl::Credentials;
use rookery_xmpp::stanza::IqType;

use crate::world::{Client, World, jid};

const OPEN: &str = "[modules.register]\nregistration = true\n";

async fn stranger(world: &World, secured: bool, peer: &str, kind: IqType, payload: &str) -> Option<IqResult> {
    let payload = format!("<query xmlns='jabber:iq:register'>{payload}</query>").parse().unwrap();
    let (server, host) = (world.server.clone(), world.server.host("localhost").unwrap());
    let peer: IpAddr = peer.parse().unwrap();
    world.server.pre_auth_iq(PreAuthCall { server, host, secured, peer, kind, payload }).await
}

async fn register(world: &World, peer: &str, name: &str, password: &str) -> Result<(), Condition> {
    let payload = format!("<username>{name}</username><password>{password}</password>");
    let result = stranger(world, true, peer, IqType::Set, &payload).await.expect("registration is on");
    result.map(|payload| assert!(payload.is_none())).map_err(|error| {
        assert!(error.text.is_some(), "{error:?}");
        error.condition
    })
}

async fn password(world: &World, user: &str) -> Credentials {
    world.store.credentials(&jid(user)).await.unwrap().expect("an account")
}

fn change(name: &str, password: &str) -> String {
    format!("<query xmlns='jabber:iq:register'><username>{name}</username><password>{password}</password></query>")
}

const REMOVE: &str = "<query xmlns='jabber:iq:register'><remove/></query>";

#[tokio::test]
async fn registration_is_off_unless_the_conf_says_so() {
    let world = World::new(&["romeo@localhost"]).await;
    assert!(stranger(&world, true, "192.0.2.1", IqType::Get, "").await.is_none());
    let host = world.server.host("localhost").unwrap();
    assert!(
        !world.server.stream_features(&host, When::BeforeAuth, true).iter().any(|feature| feature.name() == "register")
    );
}

#[tokio::test]
async fn a_stranger_registers_over_tls() {
    let world = World::with_conf(OPEN, &[]).await;
    let host = world.server.host("localhost").unwrap();
    let offered = |secured| {
        world
            .server
            .stream_features(&host, When::BeforeAuth, secured)
            .iter()
            .any(|feature| feature.is("register", "http://jabber.org/features/iq-register"))
    };
    assert!(offered(true) && !offered(false), "never over plaintext");
    let form = stranger(&world, true, "192.0.2.1", IqType::Get, "").await.unwrap().unwrap().unwrap().to_xml();
    assert_eq!(
        form,
        "<query xmlns='jabber:iq:register'><instructions>Choose a user name and a password.</instructions><username/><password/></query>"
    );
    assert_eq!(register(&world, "192.0.2.1", "Juliet", "r0m30").await, Ok(()));
    assert!(password(&world, "juliet@localhost").await.verify_password("r0m30"));
    assert_eq!(register(&world, "192.0.2.1", "juliet", "other").await, Err(Condition::Conflict));
    assert!(password(&world, "juliet@localhost").await.verify_password("r0m30"));
    let juliet = world.login("juliet@localhost", "balcony").await;
    assert_eq!(juliet.read(), "");
}

#[tokio::test]
async fn a21_nothing_goes_over_plaintext() {
    let world = World::with_conf(OPEN, &["romeo@localhost"]).await;
    for (kind, payload) in [(IqType::Get, ""), (IqType::Set, "<username>a</username><password>b</password>")] {
        let error = stranger(&world, false, "192.0.2.1", kind, payload).await.unwrap().unwrap_err();
        assert_eq!(error.condition, Condition::NotAuthorized);
    }
    assert!(!world.store.account_exists(&jid("a@localhost")).await.unwrap());
    let stream = StreamInfo { id: 1, peer: [127, 0, 0, 1].into(), secured: false };
    let session = world.server.bind(&jid("romeo@localhost"), Some("orchard"), stream).await.unwrap();
    let romeo = Client::over(&world, session);
    let got = romeo.iq("set", "localhost", &change("romeo", "canary")).await;
    assert!(got.contains("not-authorized") && !got.contains("canary"), "{got}");
    assert!(password(&world, "romeo@localhost").await.verify_password("secret"));
}

#[tokio::test]
async fn names_and_passwords_that_will_not_do() {
    let conf = "[modules.register]\nregistration = true\nreserved = [\"Support\"]\nshortest_name = 2\nlongest_name = 8\nper_address = 2\n";
    let world = World::with_conf(conf, &[]).await;
    for name in ["", "a", "a b", "a@b", "a/b", "&lt;a&gt;", "support", "SUPPORT", "ninechars", "\u{1680}ab"] {
        assert_eq!(register(&world, "192.0.2.1", name, "secret").await, Err(Condition::NotAcceptable), "{name:?}");
    }
    for password in ["", "a\u{7f}b", &"x".repeat(1025)] {
        assert_eq!(
            register(&world, "192.0.2.1", "juliet", password).await,
            Err(Condition::NotAcceptable),
            "{password:?}"
        );
    }
    for payload in ["", "<username>juliet</username>", "<password>x</password>"] {
        let error = stranger(&world, true, "192.0.2.1", IqType::Set, payload).await.unwrap().unwrap_err();
        assert_eq!(error.condition, Condition::NotAcceptable);
    }
    let error = stranger(&world, true, "192.0.2.1", IqType::Set, "<remove/>").await.unwrap().unwrap_err();
    assert_eq!(error.condition, Condition::UnexpectedRequest);
    assert_eq!(register(&world, "192.0.2.1", "juliet", "secret").await, Ok(()), "these hardly count");
}

#[tokio::test]
async fn an_address_and_all_together_register_so_many() {
    let conf = "[modules.register]\nregistration = true\nper_address = 1\nin_all = 3\n";
    let world = World::with_conf(conf, &[]).await;
    assert_eq!(register(&world, "192.0.2.1", "a", "secret").await, Ok(()));
    assert_eq!(register(&world, "192.0.2.1", "b", "secret").await, Err(Condition::ResourceConstraint));
    assert_eq!(register(&world, "127.0.0.1", "b", "secret").await, Ok(()), "exempt");
    assert_eq!(register(&world, "127.0.0.1", "c", "secret").await, Ok(()), "exempt");
    assert_eq!(
        register(&world, "127.0.0.1", "d", "secret").await,
        Err(Condition::ResourceConstraint),
        "but for the total"
    );
}

#[tokio::test]
async fn users_change_their_own_passwords() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let got = romeo.iq("get", "", "<query xmlns='jabber:iq:register'/>").await;
    assert!(
        got.contains("<query xmlns='jabber:iq:register'><registered/><username>romeo</username><password/></query>"),
        "{got}"
    );
    for (to, new) in [("localhost", "first"), ("", "second"), ("romeo@localhost", "third")] {
        let got = romeo.iq("set", to, &change("Romeo", new)).await;
        assert!(got.contains("type='result'"), "{got}");
        assert!(password(&world, "romeo@localhost").await.verify_password(new));
    }
    for (payload, condition) in [
        (change("juliet", "canary"), "not-allowed"),
        (change("", "canary"), "bad-request"),
        (change("romeo", ""), "bad-request"),
        (change("romeo", "canary\u{7f}"), "not-acceptable"),
    ] {
        let got = romeo.iq("set", "localhost", &payload).await;
        assert!(got.contains(condition) && !got.contains("canary"), "{got}");
    }
    let got = romeo.iq("set", "juliet@localhost", &change("juliet", "canary")).await;
    assert!(got.contains("service-unavailable") && !got.contains("canary"), "{got}");
    assert!(password(&world, "juliet@localhost").await.verify_password("secret"));
    assert!(password(&world, "romeo@localhost").await.verify_password("third"));
    romeo.leave().await;

    let world =
        World::with_conf("[modules.register]\npassword_change = false\nremoval = false\n", &["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    assert!(
        romeo.iq("set", "localhost", &change("romeo", "new")).await.contains("service-unavailable"),
        "nothing is announced"
    );
    let world = World::with_conf("[modules.register]\npassword_change = false\n", &["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    assert!(romeo.iq("set", "localhost", &change("romeo", "new")).await.contains("not-allowed"));
}

#[tokio::test]
async fn a_user_who_leaves_takes_everything_along() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    world.befriend("romeo@localhost", "juliet@localhost").await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let other = world.login_resumable("romeo@localhost", "phone").await;
    other.cut().await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    romeo.read();
    assert!(
        romeo
            .iq("set", "", "<query xmlns='jabber:iq:register'><remove/><username>romeo</username></query>")
            .await
            .contains("bad-request")
    );
    assert!(
        romeo
            .iq("set", "", "<block xmlns='urn:xmpp:blocking'><item jid='x@y'/></block>")
            .await
            .contains("type='result'")
    );
    romeo.send(&format!("<iq type='set' id='bye'>{REMOVE}</iq>")).await;
    let (got, close) = romeo.last_words().await;
    assert!(got.contains("<iq type='result'") && got.contains("id='bye'"), "{got}");
    assert!(close.contains("not-authorized"), "{close}");
    assert!(other.session.is_closed());
    romeo.leave().await;
    world.settle().await;
    assert!(!world.store.account_exists(&jid("romeo@localhost")).await.unwrap());
    assert_eq!(world.store.values(&jid("romeo@localhost"), "blocking").await.unwrap(), []);
    assert_eq!(
        world.store.values(&jid("romeo@localhost"), "last").await.unwrap(),
        [],
        "c8: nothing for the next of that name"
    );
    let got = juliet.read();
    assert!(got.contains("<presence type='unavailable'") && got.contains("from='romeo@localhost/orchard'"), "{got}");
}

#[tokio::test]
async fn a_session_of_a_deleted_account_can_do_nothing_more() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    assert!(world.server.delete_account(&jid("romeo@localhost")).await.unwrap());
    let stanza =
        rookery_xmpp::stanza::Stanza::message(rookery_xmpp::stanza::MessageType::Chat).to(jid("juliet@localhost"));
    assert!(world.server.accept(&romeo.session, stanza, None).await.is_err());
    assert_eq!(juliet.read(), "");
}

#[tokio::test]
async fn c8_the_name_of_a_deleted_account_is_not_given_away_in_band() {
    let world = World::with_conf(OPEN, &["romeo@localhost", "juliet@localhost"]).await;
    world.set_contact("juliet@localhost", "romeo@localhost", Subscription::Both).await;
    assert!(world.server.delete_account(&jid("romeo@localhost")).await.unwrap());
    let taken = register(&world, "192.0.2.1", "romeo", "secret").await;
    assert_eq!(taken, register(&world, "192.0.2.1", "juliet", "secret").await, "a5: as if it were in use");
    assert_eq!(taken, Err(Condition::Conflict));
    // The admin may.
    assert!(
        world.store.create_account(&jid("romeo@localhost"), &password(&world, "juliet@localhost").await).await.unwrap()
    );
    assert!(!world.server.delete_account(&jid("nobody@localhost")).await.unwrap());
    assert_eq!(register(&world, "192.0.2.1", "nobody", "secret").await, Ok(()));

    let world =
        World::with_conf("[modules.register]\nregistration = true\ndeleted_names = \"0s\"\n", &["romeo@localhost"])
            .await;
    world.server.delete_account(&jid("romeo@localhost")).await.unwrap();
    assert_eq!(register(&world, "192.0.2.1", "romeo", "secret").await, Ok(()));
    let domain = jid("localhost");
    assert_eq!(world.store.values(&domain, "tombstones").await.unwrap().len(), 1);
    world.server.forget_deleted(&domain, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(world.store.values(&domain, "tombstones").await.unwrap(), []);
}

#[tokio::test]
async fn a15_a_new_password_ends_the_sessions_that_came_by_the_old_one() {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let phone = world.login_resumable("romeo@localhost", "phone").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    romeo.read();
    assert!(romeo.iq("set", "localhost", &change("romeo", "new")).await.contains("type='result'"));
    let (_, close) = phone.last_words().await;
    assert!(close.contains("<reset"), "{close}");
    // Whoever resumes it has to know the new password first.
    phone.cut().await;
    assert!(phone.session.is_detached());
    for client in [&romeo, &juliet] {
        client.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        assert!(client.read().contains("id='p'"));
    }
}

#[tokio::test]
async fn b14_one_password_of_an_account_is_computed_at_a_time() {
    let world = World::new(&["romeo@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    for number in 0..50 {
        let payload = change("romeo", &format!("new{number}"));
        romeo.send(&format!("<iq type='set' id='c{number}' to='localhost'>{payload}</iq>")).await;
    }
    let got = romeo.read();
    assert_eq!(got.matches("<resource-constraint").count(), 49, "{got}");
    while password(&world, "romeo@localhost").await.verify_password("secret") {
        tokio::task::yield_now().await;
    }
    assert!(password(&world, "romeo@localhost").await.verify_password("new0"));
    world.settle().await;
    assert!(romeo.iq("set", "localhost", &change("romeo", "last")).await.contains("type='result'"));
}
