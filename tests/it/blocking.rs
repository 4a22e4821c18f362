//! XEP-0191: the list, the pushes, and what passes.

use rookery_core::roster::Subscription;
use rookery_core::store::{KeyValueStore, StoreError};

use crate::world::{Client, World, jid};

async fn block(client: &Client, jids: &[&str]) -> String {
    let items: String = jids.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
    client.iq("set", "", &format!("<block xmlns='urn:xmpp:blocking'>{items}</block>")).await
}

async fn unblock(client: &Client, jids: &[&str]) -> String {
    let items: String = jids.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
    client.iq("set", "", &format!("<unblock xmlns='urn:xmpp:blocking'>{items}</unblock>")).await
}

async fn list(client: &Client) -> String {
    let got = client.iq("get", "", "<blocklist xmlns='urn:xmpp:blocking'/>").await;
    got.split_once('>').unwrap().1.to_owned()
}

async fn verona() -> (World, Client, Client) {
    let world = World::new(&["romeo@localhost", "juliet@localhost", "nurse@localhost"]).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    (world, romeo, juliet)
}

#[tokio::test(start_paused = true)]
async fn the_list_is_kept_on_disk_and_comes_back() {
    let (world, _, juliet) = verona().await;
    assert_eq!(list(&juliet).await, "<blocklist xmlns='urn:xmpp:blocking'/></iq>");
    block(&juliet, &["Romeo@localhost", "iago@shakespeare.lit/venice", "montague.example"]).await;
    let expected = "<blocklist xmlns='urn:xmpp:blocking'><item jid='iago@shakespeare.lit/venice'/>\
                    <item jid='montague.example'/><item jid='romeo@localhost'/></blocklist></iq>";
    assert_eq!(list(&juliet).await, expected);
    juliet.leave().await;
    drop(juliet);
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert!(world.server.accounts.loaded("juliet@localhost").is_none(), "let go, so that it is loaded anew");
    let juliet = world.login("juliet@localhost", "balcony").await;
    assert_eq!(list(&juliet).await, expected);
    unblock(&juliet, &["montague.example", "never@blocked.example"]).await;
    juliet.read();
    assert_eq!(world.store.values(&jid("juliet@localhost"), "blocking").await.unwrap().len(), 2);
    unblock(&juliet, &[]).await;
    juliet.read();
    assert_eq!(list(&juliet).await, "<blocklist xmlns='urn:xmpp:blocking'/></iq>");
    assert!(world.store.values(&jid("juliet@localhost"), "blocking").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn changes_are_pushed_to_resources_that_asked_for_the_list() {
    let (world, romeo, juliet) = verona().await;
    let chamber = world.login("juliet@localhost", "chamber").await;
    juliet.read();
    list(&juliet).await;
    for answer in [
        block(&chamber, &["romeo@localhost"]).await,
        unblock(&chamber, &["romeo@localhost"]).await,
        unblock(&chamber, &[]).await,
    ] {
        assert_eq!(answer, "<iq type='result' to='juliet@localhost/chamber' id='q'/>");
    }
    let pushes = juliet.read();
    for expected in [
        "<block xmlns='urn:xmpp:blocking'><item jid='romeo@localhost'/></block>",
        "<unblock xmlns='urn:xmpp:blocking'><item jid='romeo@localhost'/></unblock>",
        "<unblock xmlns='urn:xmpp:blocking'/>",
    ] {
        assert!(pushes.contains(expected), "{pushes}");
    }
    assert_eq!(pushes.matches("<iq type='set'").count(), 3, "{pushes}");
    assert_eq!(pushes.matches("to='juliet@localhost/balcony'").count(), 3, "{pushes}");
    assert_eq!(chamber.read(), "", "has not asked");
    // The answer to a push goes nowhere.
    let id = pushes.split_once("id='").unwrap().1.split_once('\'').unwrap().0;
    juliet.send(&format!("<iq type='result' id='{id}'/>")).await;
    assert_eq!((juliet.read(), romeo.read()), (String::new(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let world = World::with_conf("[modules.blocking]\nitems = 2\n", &["juliet@localhost", "romeo@localhost"]).await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    assert!(block(&juliet, &[]).await.contains("bad-request"));
    assert!(block(&juliet, &["romeo@localhost", "@"]).await.contains("jid-malformed"));
    for own in ["juliet@localhost", "juliet@localhost/chamber"] {
        assert!(block(&juliet, &["romeo@localhost", own]).await.contains("not-acceptable"), "{own}");
    }
    assert!(juliet.iq("set", "", "<block xmlns='urn:xmpp:blocking'><item/></block>").await.contains("bad-request"));
    assert!(block(&juliet, &["a@x", "b@x", "c@x"]).await.contains("resource-constraint"));
    assert!(block(&juliet, &["a@x", "b@x"]).await.contains("type='result'"));
    assert!(block(&juliet, &["a@x", "b@x"]).await.contains("type='result'"), "blocked already");
    assert!(block(&juliet, &["c@x"]).await.contains("resource-constraint"));
    let romeo = world.login("romeo@localhost", "orchard").await;
    for (kind, payload) in [("get", "blocklist"), ("set", "unblock")] {
        let got = romeo.iq(kind, "juliet@localhost", &format!("<{payload} xmlns='urn:xmpp:blocking'/>")).await;
        assert!(got.contains("service-unavailable"), "{got}");
    }
    assert!(list(&juliet).await.contains("a@x"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_stored_is_not_in_force() {
    let (world, romeo, juliet) = verona().await;
    world.store.fail(Some(StoreError::Full("no space left".to_owned())));
    assert!(block(&juliet, &["romeo@localhost"]).await.contains("type='wait'"));
    world.store.fail(None);
    romeo.send("<message type='chat' to='juliet@localhost'><body>x</body></message>").await;
    assert_eq!(juliet.bodies(), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn c8_nothing_from_a_blocked_contact_comes_through_and_it_seems_offline() {
    let (world, romeo, juliet) = verona().await;
    world.befriend("romeo@localhost", "juliet@localhost").await;
    block(&juliet, &["romeo@localhost"]).await;
    romeo.read();
    for kind in ["chat", "normal"] {
        let got =
            romeo.ask(&format!("<message type='{kind}' to='juliet@localhost' id='1'><body>x</body></message>")).await;
        assert!(got.starts_with("<message type='error'") && got.contains("from='juliet@localhost'"), "{got}");
        assert!(
            got.contains(
                "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
            ),
            "{got}"
        );
    }
    for to in ["juliet@localhost", "juliet@localhost/balcony", "juliet@localhost/gone"] {
        for (kind, payload) in [
            ("get", "<ping xmlns='urn:xmpp:ping'/>"),
            ("set", "<x xmlns='urn:example:x'/>"),
            ("get", "<query xmlns='jabber:iq:last'/>"),
        ] {
            let got = romeo.iq(kind, to, payload).await;
            assert!(got.contains("<service-unavailable"), "{got}");
        }
        for silent in [
            "<message type='headline' to='TO'><body>x</body></message>",
            "<message type='groupchat' to='TO'><body>x</body></message>",
            "<message type='error' to='TO'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
            "<iq type='result' id='1' to='TO'/>",
            "<iq type='error' id='1' to='TO'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
            "<presence to='TO'/>",
            "<presence to='TO' type='unavailable'/>",
            "<presence to='TO' type='probe'/>",
        ] {
            romeo.send(&silent.replace("TO", to)).await;
            world.settle().await;
            assert_eq!(romeo.read(), "", "{silent}");
        }
    }
    for kind in ["subscribe", "subscribed", "unsubscribe", "unsubscribed"] {
        world.route(&format!("<presence type='{kind}' from='romeo@localhost' to='juliet@localhost'/>")).await;
    }
    world.settle().await;
    assert_eq!((juliet.read(), romeo.read()), (String::new(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn what_the_user_sends_to_a_blocked_contact_is_returned() {
    let (_world, romeo, juliet) = verona().await;
    block(&juliet, &["romeo@localhost"]).await;
    for stanza in [
        "<message type='chat' id='1' to='romeo@localhost'><body>x</body></message>",
        "<iq type='get' id='1' to='romeo@localhost/orchard'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<presence id='1' to='romeo@localhost/orchard'/>",
        "<presence id='1' type='subscribe' to='romeo@localhost'/>",
    ] {
        let got = juliet.ask(stanza).await;
        assert!(got.contains("type='error'") && got.contains("id='1'"), "{got}");
        assert!(
            got.contains("<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><blocked xmlns='urn:xmpp:blocking:errors'/></error>"),
            "{got}"
        );
    }
    juliet.send("<message type='error' to='romeo@localhost'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>").await;
    juliet.send("<iq type='result' id='1' to='romeo@localhost/orchard'/>").await;
    assert_eq!((juliet.read(), romeo.read()), (String::new(), String::new()));
    unblock(&juliet, &["romeo@localhost"]).await;
    juliet.send("<message type='chat' to='romeo@localhost'><body>y</body></message>").await;
    assert_eq!(romeo.bodies(), ["y"]);
}

#[tokio::test(start_paused = true)]
async fn a_contact_sees_the_user_go_when_blocked_and_come_when_unblocked() {
    let (world, romeo, juliet) = verona().await;
    world.befriend("romeo@localhost", "juliet@localhost").await;
    let chamber = world.login("juliet@localhost", "chamber").await;
    let nurse = world.login("nurse@localhost", "kitchen").await;
    for client in [&romeo, &juliet] {
        client.read();
    }
    block(&juliet, &["romeo@localhost"]).await;
    let got = romeo.read();
    for resource in ["balcony", "chamber"] {
        assert!(
            got.contains(&format!(
                "<presence type='unavailable' to='romeo@localhost' from='juliet@localhost/{resource}'/>"
            )),
            "{got}"
        );
    }
    assert_eq!(nurse.read(), "");
    // Nothing of what comes after reaches the contact.
    chamber.send("<presence><show>away</show></presence>").await;
    chamber.send("<presence type='unavailable'/>").await;
    chamber.send("<presence><show>dnd</show></presence>").await;
    assert_eq!(romeo.read(), "");
    romeo.send("<presence><status>alone</status></presence>").await;
    assert!(!juliet.read().contains("alone"));
    romeo.read();
    let got_back = unblock(&juliet, &[]).await + &juliet.read();
    let got = romeo.read();
    assert!(got.contains("from='juliet@localhost/balcony'") && got.contains("<show>dnd</show>"), "{got}");
    assert_eq!(got.matches("<presence").count(), 2, "{got}");
    assert!(got_back.contains("alone"), "the contact's presence comes back too");
}

#[tokio::test(start_paused = true)]
async fn strangers_and_those_who_do_not_see_the_user_are_told_nothing() {
    let (world, romeo, juliet) = verona().await;
    world.set_contact("juliet@localhost", "romeo@localhost", Subscription::To).await;
    block(&juliet, &["romeo@localhost", "nurse@localhost"]).await;
    assert_eq!(romeo.read(), "");
    juliet.read();
    unblock(&juliet, &["romeo@localhost"]).await;
    let got = romeo.read();
    assert!(!got.contains("from='juliet@localhost/balcony'"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn directed_presence_is_taken_back_from_whom_is_blocked() {
    let (_world, romeo, juliet) = verona().await;
    juliet.send("<presence to='romeo@localhost/orchard'/>").await;
    romeo.read();
    block(&juliet, &["romeo@localhost/orchard"]).await;
    assert_eq!(
        romeo.read(),
        "<presence type='unavailable' to='romeo@localhost/orchard' from='juliet@localhost/balcony'/>"
    );
    juliet.leave().await;
    assert_eq!(romeo.read(), "", "told already");
}

#[tokio::test(start_paused = true)]
async fn the_own_resources_and_the_own_server_are_never_blocked() {
    let (world, romeo, juliet) = verona().await;
    let chamber = world.login("juliet@localhost", "chamber").await;
    juliet.read();
    assert!(block(&juliet, &["localhost"]).await.contains("type='result'"));
    assert!(juliet.iq("get", "localhost", "<ping xmlns='urn:xmpp:ping'/>").await.contains("type='result'"));
    assert!(
        juliet.iq("get", "", "<query xmlns='http://jabber.org/protocol/disco#info'/>").await.contains("type='result'")
    );
    juliet.send("<message type='chat' to='juliet@localhost/chamber'><body>note</body></message>").await;
    assert_eq!(chamber.bodies(), ["note"]);
    juliet.send("<presence><show>away</show></presence>").await;
    assert!(chamber.read().contains("away"));
    assert!(
        romeo
            .ask("<message type='chat' to='juliet@localhost'><body>x</body></message>")
            .await
            .contains("service-unavailable")
    );
}
