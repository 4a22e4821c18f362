//! RFC 6121 §4: presence.

use std::fmt::Write;
use std::time::Duration;

use rookery_core::roster::{RosterItem, Subscription};
use rookery_core::store::{RosterChange, RosterStore};

use crate::outside;
use crate::world::{Client, World, jid};

const JULIET: &str = "juliet@localhost";
const ROMEO: &str = "romeo@localhost";
const NURSE: &str = "nurse@localhost";

const GONE: &str = "<presence type='unavailable'/>";

fn directed(to: &str) -> String {
    format!("<presence to='{to}'/>")
}

/// Romeo sees Juliet, Juliet sees the nurse, and nobody sees anybody else. All are there with one resource.
async fn verona() -> (World, Client, Client, Client) {
    let world = World::new(&[JULIET, ROMEO, NURSE]).await;
    let romeo = world.interested(ROMEO, "orchard").await;
    let juliet = world.interested(JULIET, "balcony").await;
    let nurse = world.interested(NURSE, "kitchen").await;
    world.subscribe(&romeo, &juliet).await;
    world.subscribe(&juliet, &nurse).await;
    (world, romeo, juliet, nurse)
}

#[tokio::test]
async fn initial_presence_goes_to_subscribers_and_own_resources_and_asks_contacts() {
    let (world, romeo, balcony, nurse) = verona().await;
    let second = world.login(ROMEO, "second").await;
    let unavailable = world.bind(ROMEO, "unavailable").await;
    nurse.send("<presence><show>away</show><status>Cooking</status></presence>").await;
    for client in [&romeo, &balcony, &nurse, &second] {
        client.read();
    }
    let chamber = world.bind(JULIET, "chamber").await;
    let mut told = chamber.says("<presence><show>dnd</show></presence>").await;
    told.sort();
    assert_eq!(
        told,
        [
            "available juliet@localhost/balcony -> juliet@localhost/chamber",
            "available juliet@localhost/chamber -> juliet@localhost dnd",
            "available nurse@localhost/kitchen -> juliet@localhost/chamber away 'Cooking'",
        ]
    );
    for client in [&romeo, &second] {
        assert_eq!(client.told(), ["available juliet@localhost/chamber -> romeo@localhost dnd"]);
    }
    assert_eq!(balcony.told(), ["available juliet@localhost/chamber -> juliet@localhost dnd"]);
    assert!(nurse.told().is_empty(), "juliet sees the nurse, and not the other way");
    assert!(unavailable.told().is_empty());
}

#[tokio::test]
async fn a_contact_that_is_away_is_told_so() {
    let (world, _, _, nurse) = verona().await;
    nurse.leave().await;
    let told = world.bind(JULIET, "chamber").await.says("<presence/>").await;
    assert!(told.contains(&"unavailable nurse@localhost -> juliet@localhost/chamber".to_owned()), "{told:?}");
}

#[tokio::test]
async fn subsequent_presence_is_broadcast_and_asks_nobody() {
    let (world, romeo, balcony, _) = verona().await;
    let chamber = world.login(JULIET, "chamber").await;
    romeo.read();
    balcony.read();
    let told = balcony.says("<presence><show>xa</show><status>Later</status></presence>").await;
    assert_eq!(told, ["available juliet@localhost/balcony -> juliet@localhost xa 'Later'"]);
    assert_eq!(chamber.told(), ["available juliet@localhost/balcony -> juliet@localhost xa 'Later'"]);
    assert_eq!(romeo.told(), ["available juliet@localhost/balcony -> romeo@localhost xa 'Later'"]);
}

#[tokio::test]
async fn unavailable_presence_is_broadcast_in_the_clients_own_words() {
    let (world, romeo, balcony, _) = verona().await;
    let chamber = world.login(JULIET, "chamber").await;
    romeo.read();
    balcony.read();
    let told = balcony.says("<presence type='unavailable'><status>Good night</status></presence>").await;
    assert_eq!(told, ["unavailable juliet@localhost/balcony -> juliet@localhost/balcony 'Good night'"]);
    assert_eq!(chamber.told(), ["unavailable juliet@localhost/balcony -> juliet@localhost 'Good night'"]);
    assert_eq!(romeo.told(), ["unavailable juliet@localhost/balcony -> romeo@localhost 'Good night'"]);
    // Once; and the end of the session says it no second time.
    assert!(balcony.says(GONE).await.is_empty());
    balcony.leave().await;
    assert!(romeo.told().is_empty());
}

#[tokio::test]
async fn a_resource_that_went_unavailable_hears_no_presence_until_it_comes_back() {
    let (world, romeo, juliet, _) = verona().await;
    romeo.send(GONE).await;
    romeo.read();
    juliet.send("<presence><show>away</show></presence>").await;
    assert!(romeo.told().is_empty());
    let told = romeo.says("<presence/>").await;
    assert!(
        told.contains(&"available juliet@localhost/balcony -> romeo@localhost/orchard away".to_owned()),
        "{told:?}"
    );
    drop(world);
}

#[tokio::test]
async fn a_session_that_ends_is_unavailable() {
    let (world, romeo, juliet, _) = verona().await;
    let chamber = world.login(JULIET, "chamber").await;
    romeo.read();
    juliet.leave().await;
    assert_eq!(romeo.told(), ["unavailable juliet@localhost/balcony -> romeo@localhost"]);
    assert_eq!(chamber.told(), ["unavailable juliet@localhost/balcony -> juliet@localhost"]);
    chamber.cut().await;
    assert_eq!(romeo.told(), ["unavailable juliet@localhost/chamber -> romeo@localhost"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_for_its_resumption_stays_available() {
    let (world, romeo, juliet, _) = verona().await;
    let phone = world.login_resumable(JULIET, "phone").await;
    romeo.read();
    phone.cut().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(romeo.told().is_empty());
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(romeo.told(), ["unavailable juliet@localhost/phone -> romeo@localhost"]);
    drop(juliet);
}

#[tokio::test]
async fn a_resource_that_is_taken_over_is_unavailable_first() {
    let (world, romeo, _, _) = verona().await;
    world.login(JULIET, "balcony").await;
    assert_eq!(
        romeo.told(),
        [
            "unavailable juliet@localhost/balcony -> romeo@localhost",
            "available juliet@localhost/balcony -> romeo@localhost"
        ]
    );
}

#[tokio::test]
async fn a_priority_that_is_no_priority_is_refused() {
    let (world, romeo, _, _) = verona().await;
    let chamber = world.bind(JULIET, "chamber").await;
    for priority in ["128", "-129", "1.5", "high", ""] {
        let told = chamber.says(&format!("<presence><priority>{priority}</priority></presence>")).await;
        assert_eq!(told.len(), 1, "{priority}");
        assert!(told[0].starts_with("error") && told[0].ends_with("bad-request"), "{told:?}");
    }
    assert!(romeo.told().is_empty() && !chamber.session.is_available());
    for priority in ["-128", "127", " 5 "] {
        chamber.send(&format!("<presence><priority>{priority}</priority></presence>")).await;
        assert_eq!(romeo.told().len(), 1);
    }
    assert_eq!(chamber.session.priority(), Some(5));
}

#[tokio::test]
async fn a_negative_priority_gets_presence_and_no_messages() {
    let (world, romeo, juliet, _) = verona().await;
    romeo.send("<presence><priority>-1</priority></presence>").await;
    romeo.read();
    juliet.send("<message type='chat' to='romeo@localhost'><body>for later</body></message>").await;
    juliet.send("<presence><show>away</show></presence>").await;
    assert_eq!(romeo.told(), ["available juliet@localhost/balcony -> romeo@localhost away"]);
    let mut told = romeo.says("<presence><priority>0</priority></presence>").await;
    world.settle().await;
    told.extend(romeo.told());
    assert!(told.contains(&"message for later".to_owned()), "{told:?}");
}

#[tokio::test]
async fn a_subscriber_probes_and_hears_all_resources() {
    let (world, _, balcony, _) = verona().await;
    let chamber = world.bind(JULIET, "chamber").await;
    chamber.send("<presence id='p1'><show>away</show><priority>-3</priority><c xmlns='urn:x'/></presence>").await;
    let romeo = world.bind(ROMEO, "second").await;
    romeo.send("<presence type='probe' to='juliet@localhost'/>").await;
    let stanzas = romeo.stanzas();
    assert_eq!(stanzas.len(), 2);
    let away = stanzas.iter().find(|stanza| stanza.get("from") == Some("juliet@localhost/chamber")).unwrap();
    assert!(
        away.get("to") == Some("romeo@localhost/second") && away.find("c", "urn:x").is_some(),
        "whole, as it was sent"
    );
    balcony.leave().await;
    chamber.send(GONE).await;
    romeo.read();
    assert_eq!(
        romeo.says("<presence type='probe' to='juliet@localhost'/>").await,
        ["unavailable juliet@localhost -> romeo@localhost/second"]
    );
}

#[tokio::test]
async fn c8_a_probe_of_a_stranger_tells_nothing_not_even_whether_there_is_an_account() {
    let (world, _, juliet, nurse) = verona().await;
    for probed in [JULIET, "nobody@localhost", "juliet@localhost/balcony"] {
        let raw = {
            nurse.send(&format!("<presence type='probe' to='{probed}'/>")).await;
            nurse.read()
        };
        assert_eq!(raw, "", "{probed}: 'unsubscribed' where nobody is subscribed is not shown");
    }
    drop((world, juliet));
    // Another server is told, and the same of all (§4.3.2).
    let world = outside::world(&[JULIET]).await;
    world.interested(JULIET, "balcony").await;
    for probed in [JULIET, "nobody@localhost"] {
        world.route(&format!("<presence type='probe' from='spy@outside.example/x' to='{probed}'/>")).await;
        assert_eq!(outside::seen(), [format!("unsubscribed {probed} -> spy@outside.example")]);
    }
}

#[tokio::test]
async fn contacts_elsewhere_are_probed_by_initial_presence_alone() {
    let world = outside::world(&[JULIET]).await;
    let juliet = world.interested(JULIET, "balcony").await;
    juliet.send("<presence type='subscribe' to='paris@outside.example'/>").await;
    world.route("<presence type='subscribed' from='paris@outside.example' to='juliet@localhost'/>").await;
    assert_eq!(outside::seen(), ["subscribe juliet@localhost -> paris@outside.example"]);
    juliet.send("<presence><show>away</show></presence>").await;
    assert!(outside::seen().is_empty());
    let second = world.login(JULIET, "chamber").await;
    let probe = "probe juliet@localhost/chamber -> paris@outside.example";
    assert_eq!(outside::seen(), [probe]);
    second.send(GONE).await;
    second.send("<presence/>").await;
    assert_eq!(outside::seen(), [probe], "and whenever the resource comes back");
}

#[tokio::test]
async fn directed_presence_reaches_one_and_is_taken_back_when_the_user_goes() {
    for goodbye in [true, false] {
        let (world, romeo, juliet, nurse) = verona().await;
        juliet.send(&directed("nurse@localhost/kitchen")).await;
        assert_eq!(nurse.told(), ["available juliet@localhost/balcony -> nurse@localhost/kitchen"]);
        // Later broadcasts are not for her.
        juliet.send("<presence><show>away</show></presence>").await;
        assert!(nurse.told().is_empty());
        romeo.read();
        if goodbye {
            juliet.send("<presence type='unavailable'><status>Bye</status></presence>").await;
            assert_eq!(nurse.told(), ["unavailable juliet@localhost/balcony -> nurse@localhost/kitchen 'Bye'"]);
            assert_eq!(romeo.told(), ["unavailable juliet@localhost/balcony -> romeo@localhost 'Bye'"]);
        } else {
            juliet.cut().await;
            assert_eq!(nurse.told(), ["unavailable juliet@localhost/balcony -> nurse@localhost/kitchen"]);
        }
        juliet.leave().await;
        assert!(nurse.told().is_empty(), "once");
        drop(world);
    }
}

#[tokio::test]
async fn directed_presence_that_the_user_takes_back_is_not_taken_back_again() {
    let (_world, _, juliet, nurse) = verona().await;
    juliet.send(&directed(NURSE)).await;
    juliet.send("<presence type='unavailable' to='nurse@localhost'/>").await;
    assert_eq!(
        nurse.told(),
        [
            "available juliet@localhost/balcony -> nurse@localhost",
            "unavailable juliet@localhost/balcony -> nurse@localhost"
        ]
    );
    juliet.leave().await;
    assert!(nurse.told().is_empty());
}

#[tokio::test]
async fn directed_presence_to_a_subscriber_is_taken_back_by_the_broadcast_alone() {
    let (_world, romeo, juliet, _) = verona().await;
    juliet.send("<presence to='romeo@localhost/orchard'><show>chat</show></presence>").await;
    assert_eq!(romeo.told(), ["available juliet@localhost/balcony -> romeo@localhost/orchard chat"]);
    juliet.leave().await;
    assert_eq!(romeo.told(), ["unavailable juliet@localhost/balcony -> romeo@localhost"]);
}

#[tokio::test]
async fn directed_presence_of_a_resource_that_never_was_available() {
    for goodbye in [true, false] {
        let (world, romeo, _, nurse) = verona().await;
        let hidden = world.bind(JULIET, "hidden").await;
        hidden.send(&directed(NURSE)).await;
        hidden.send(&directed(ROMEO)).await;
        nurse.read();
        romeo.read();
        if goodbye {
            hidden.send(GONE).await;
        }
        hidden.leave().await;
        assert_eq!(nurse.told(), ["unavailable juliet@localhost/hidden -> nurse@localhost"]);
        assert_eq!(
            romeo.told(),
            ["unavailable juliet@localhost/hidden -> romeo@localhost"],
            "no broadcast has told him"
        );
    }
}

#[tokio::test]
async fn directed_presence_lets_its_receiver_probe() {
    let (_world, _, juliet, nurse) = verona().await;
    juliet.send(&directed("nurse@localhost/kitchen")).await;
    nurse.read();
    assert_eq!(
        nurse.says("<presence type='probe' to='juliet@localhost'/>").await,
        ["available juliet@localhost/balcony -> nurse@localhost/kitchen"]
    );
}

#[tokio::test]
async fn b16_directed_presence_goes_to_five_hundred_at_most() {
    let (_world, _, juliet, nurse) = verona().await;
    for number in 0..500 {
        assert!(juliet.says(&directed(&format!("nobody@localhost/{number}"))).await.is_empty());
    }
    assert_eq!(juliet.says(&directed(NURSE)).await, ["error nurse@localhost resource-constraint"]);
    assert!(nurse.told().is_empty());
    assert!(juliet.says(&directed("nobody@localhost/7")).await.is_empty(), "those who have it may get it again");
    juliet.send("<presence type='unavailable' to='nobody@localhost/7'/>").await;
    juliet.send(&directed(NURSE)).await;
    assert_eq!(nurse.told().len(), 1);
}

#[tokio::test]
async fn presence_to_a_full_jid_reaches_that_resource_or_nobody() {
    let (world, romeo, juliet, _) = verona().await;
    let second = world.login(ROMEO, "second").await;
    romeo.read();
    for (kind, word) in [("", "available"), ("type='unavailable'", "unavailable")] {
        juliet.send(&format!("<presence {kind} to='romeo@localhost/second'/>")).await;
        assert_eq!(second.told(), [format!("{word} juliet@localhost/balcony -> romeo@localhost/second")]);
        for gone in ["romeo@localhost/gone", "nobody@localhost/x", "nobody@localhost", "localhost"] {
            assert!(juliet.says(&format!("<presence {kind} to='{gone}'/>")).await.is_empty());
        }
        assert!(romeo.told().is_empty());
    }
}

#[tokio::test]
async fn an_error_is_delivered_to_the_resource_that_it_names() {
    let (world, romeo, juliet, _) = verona().await;
    let error = |to: &str| {
        format!(
            "<presence type='error' from='romeo@remote.example' to='{to}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
        )
    };
    world.route(&error("juliet@localhost/balcony")).await;
    assert_eq!(juliet.told(), ["error romeo@remote.example gone"]);
    world.route(&error("juliet@localhost")).await;
    assert!(juliet.told().is_empty() && romeo.told().is_empty());
}

/// A thousand contacts are there, and each has much to say: more than an outbox holds. All of it reaches the client.
#[tokio::test]
async fn the_presence_of_a_full_roster_does_not_drown_the_client() {
    let world = World::new(&[JULIET]).await;
    let credentials = rookery_xmpp::sasl::Credentials::from_password("secret", 4096).unwrap();
    let both = |contact: &str| {
        RosterChange::Put(RosterItem { subscription: Subscription::Both, version: 1, ..RosterItem::new(jid(contact)) })
    };
    let status = "x".repeat(1000);
    let mut contacts = Vec::new();
    let mut clients = Vec::new();
    for number in 0..1000 {
        let contact = format!("c{number}@localhost");
        rookery_core::store::AccountStore::create_account(world.store.as_ref(), &jid(&contact), &credentials)
            .await
            .unwrap();
        world.store.change_roster(&jid(&contact), &[both(JULIET)]).await.unwrap();
        let client = world.bind(&contact, "x").await;
        client.send(&format!("<presence><status>{status}</status></presence>")).await;
        clients.push(client);
        contacts.push(both(&contact));
    }
    // The account is in memory by now; only the store knows of its contacts.
    let account = world.server.account(&jid(JULIET)).await.unwrap().unwrap();
    account.change_roster(|_, _| (contacts, ()), |()| ()).await.unwrap();
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.send("<presence/>").await;
    let mut seen = String::new();
    for _ in 0..200 {
        write!(seen, "{}", juliet.read()).unwrap();
        world.settle().await;
    }
    assert_eq!(seen.matches(&status).count(), 1000);
}
