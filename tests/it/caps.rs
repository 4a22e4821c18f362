//! XEP-0115: clients are asked what they can do, once for each verification string that fits.

use std::time::Duration;

use rookery_xmpp::caps::{Hash, hash};
use rookery_xmpp::element::Element;

use crate::world::{Client, World, jid};

const INFO: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/><feature var='http://jabber.org/protocol/caps'/>\
                    <feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/>\
                    <feature var='http://jabber.org/protocol/muc'/>";
/// The example of XEP-0115 §5.2.
const VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";

fn presence(node: &str, hash: &str, ver: &str) -> String {
    format!("<presence><c xmlns='http://jabber.org/protocol/caps' hash='{hash}' node='{node}' ver='{ver}'/></presence>")
}

/// The id of the server's question in what a client has read.
fn question(got: &str, node: &str) -> Option<String> {
    let (_, iq) = got.split_once("<iq type='get'")?;
    assert!(iq.contains(&format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>")), "{got}");
    assert!(iq.contains("from='localhost'"), "{got}");
    Some(iq.split_once("id='")?.1.split_once('\'')?.0.to_owned())
}

async fn says(client: &Client, id: &str, info: &str) {
    client.send(&format!("<iq type='result' id='{id}' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'>{info}</query></iq>")).await;
}

fn can(world: &World, client: &Client, feature: &str) -> Option<bool> {
    world.server.caps.features(&client.session).map(|features| features.has(feature))
}

async fn verona() -> (World, Client, Client) {
    let world = World::new(&["romeo@localhost", "juliet@localhost"]).await;
    let romeo = world.bind("romeo@localhost", "orchard").await;
    let juliet = world.bind("juliet@localhost", "balcony").await;
    (world, romeo, juliet)
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_once_and_its_word_holds_for_all_that_say_the_same() {
    let (world, romeo, juliet) = verona().await;
    romeo.send(&presence("http://exodus", "sha-1", VER)).await;
    world.settle().await;
    let id = question(&romeo.read(), &format!("http://exodus#{VER}")).expect("a question");
    assert_eq!(can(&world, &romeo, "http://jabber.org/protocol/muc"), None);
    says(&romeo, &id, INFO).await;
    world.settle().await;
    assert_eq!(can(&world, &romeo, "http://jabber.org/protocol/muc"), Some(true));
    assert_eq!(can(&world, &romeo, "urn:xmpp:jingle:1"), Some(false));
    assert_eq!(romeo.read(), "", "the answer goes no further");
    let full = romeo.session.jid.clone().into();
    assert!(world.server.features_of(&full).is_some_and(|features| features.has("http://jabber.org/protocol/muc")));

    juliet.send(&presence("http://another-node", "sha-1", VER)).await;
    world.settle().await;
    assert_eq!(question(&juliet.read(), ""), None, "known");
    assert_eq!(can(&world, &juliet, "http://jabber.org/protocol/muc"), Some(true));
    romeo.read();
    romeo.send(&presence("http://exodus", "sha-1", VER)).await;
    world.settle().await;
    assert_eq!(question(&romeo.read(), ""), None);
}

#[tokio::test(start_paused = true)]
async fn c7_a_string_that_does_not_fit_is_believed_of_that_session_alone() {
    let (world, romeo, juliet) = verona().await;
    romeo.send(&presence("http://exodus", "sha-1", VER)).await;
    world.settle().await;
    let id = question(&romeo.read(), &format!("http://exodus#{VER}")).unwrap();
    says(&romeo, &id, "<identity category='client' type='pc'/><feature var='urn:example:poison'/>").await;
    world.settle().await;
    assert_eq!(can(&world, &romeo, "urn:example:poison"), Some(true));
    juliet.send(&presence("http://exodus", "sha-1", VER)).await;
    world.settle().await;
    assert_eq!(can(&world, &juliet, "urn:example:poison"), None);
    let id = question(&juliet.read(), &format!("http://exodus#{VER}")).expect("asked itself");
    says(&juliet, &id, INFO).await;
    world.settle().await;
    assert_eq!(can(&world, &juliet, "http://jabber.org/protocol/muc"), Some(true));
    assert_eq!(can(&world, &romeo, "urn:example:poison"), Some(true), "its own matter");
}

#[tokio::test(start_paused = true)]
async fn c7_the_hash_function_is_part_of_the_key_and_unknown_ones_are_remembered_for_nobody() {
    let (world, romeo, juliet) = verona().await;
    for (name, client) in [("md5", &romeo), ("md5", &juliet)] {
        client.send(&presence("http://exodus", name, VER)).await;
        world.settle().await;
        let id = question(&client.read(), &format!("http://exodus#{VER}")).expect("a question");
        says(client, &id, INFO).await;
        world.settle().await;
        assert_eq!(can(&world, client, "http://jabber.org/protocol/muc"), Some(true));
    }
    let query: Element =
        format!("<query xmlns='http://jabber.org/protocol/disco#info'>{INFO}</query>").parse().unwrap();
    let ver = hash(&query, Hash::Sha256).unwrap();
    romeo.send(&presence("http://exodus", "sha-256", &ver)).await;
    world.settle().await;
    let id = question(&romeo.read(), &format!("http://exodus#{ver}")).expect("a question");
    says(&romeo, &id, INFO).await;
    juliet.send(&presence("http://exodus", "sha-256", &ver)).await;
    world.settle().await;
    assert_eq!(question(&juliet.read(), ""), None);
    // Without a hash nothing can be verified, and nothing is asked.
    let legacy = world.login("romeo@localhost", "old").await;
    legacy.send("<presence><c xmlns='http://jabber.org/protocol/caps' node='http://old' ver='1.0'/></presence>").await;
    world.settle().await;
    assert_eq!(question(&legacy.read(), ""), None);
}

#[tokio::test(start_paused = true)]
async fn c2_only_the_client_that_was_asked_can_answer_with_the_id_and_the_address() {
    let (world, romeo, juliet) = verona().await;
    romeo.send(&presence("http://exodus", "sha-1", VER)).await;
    world.settle().await;
    let id = question(&romeo.read(), &format!("http://exodus#{VER}")).unwrap();
    assert!(id.len() >= 22, "random: {id}");
    says(&juliet, &id, INFO).await;
    says(&romeo, "1", INFO).await;
    romeo
        .send(&format!(
            "<iq type='result' id='{id}'><query xmlns='http://jabber.org/protocol/disco#info'>{INFO}</query></iq>"
        ))
        .await;
    let get =
        format!("<iq type='get' id='{id}' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    assert!(romeo.ask(&get).await.contains("type='result'"), "a request with the id is a request");
    world.settle().await;
    assert_eq!(can(&world, &romeo, "http://jabber.org/protocol/muc"), None);
    says(&romeo, &id, INFO).await;
    world.settle().await;
    assert_eq!(can(&world, &romeo, "http://jabber.org/protocol/muc"), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_changes_while_it_is_asked_is_asked_again() {
    let (world, romeo, _) = verona().await;
    romeo.send(&presence("http://exodus", "sha-1", "first")).await;
    world.settle().await;
    let id = question(&romeo.read(), "http://exodus#first").unwrap();
    romeo.send(&presence("http://exodus", "sha-1", "second")).await;
    romeo.send(&presence("http://exodus", "sha-1", VER)).await;
    world.settle().await;
    assert_eq!(question(&romeo.read(), ""), None, "one question at a time");
    romeo.send(&format!("<iq type='error' id='{id}' to='localhost'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")).await;
    world.settle().await;
    let id = question(&romeo.read(), &format!("http://exodus#{VER}")).expect("the latest");
    says(&romeo, &id, INFO).await;
    world.settle().await;
    assert_eq!(can(&world, &romeo, "http://jabber.org/protocol/muc"), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_or_goes_is_forgotten() {
    let (world, romeo, juliet) = verona().await;
    for client in [&romeo, &juliet] {
        client.send(&presence("http://exodus", "sha-1", VER)).await;
    }
    world.settle().await;
    let id = question(&romeo.read(), &format!("http://exodus#{VER}")).unwrap();
    juliet.leave().await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    says(&romeo, &id, INFO).await;
    world.settle().await;
    assert_eq!(can(&world, &romeo, "http://jabber.org/protocol/muc"), None, "too late");
    assert!(
        world.server.accounts.loaded("juliet@localhost").is_none_or(|account| account.jid == jid("juliet@localhost"))
    );
}
