//! A room that many speak in at once: everybody sees one order, and nobody more or less than was said while they were there.

use std::sync::Arc;

use crate::rooms::{ROOM, garden};
use crate::world::{Client, World};

/// Who speaks, and how often.
const SPEAKERS: usize = 8;
const TIMES: usize = 50;

const CONF: &str = "[host.localhost]\n[limits]\noutbox = \"16 MiB\"\n[modules.muc]\nrate = 0\nroom_rate = 0\n";

/// The stanza-ids of the messages that somebody got, in their order.
fn ids(xml: &str) -> Vec<u64> {
    let after = xml.split("by='garden@conference.localhost' id='").skip(1);
    after.map(|rest| rest.split('\'').next().unwrap().parse().unwrap()).collect()
}

async fn crowd(world: &World) -> Vec<Arc<Client>> {
    let mut crowd = Vec::new();
    for number in 0..SPEAKERS {
        let client = world.login(&format!("user{number}@localhost"), "x").await;
        client.enter(&format!("user{number}")).await;
        crowd.push(Arc::new(client));
    }
    crowd.iter().for_each(|client| drop(client.read()));
    crowd
}

fn accounts() -> Vec<String> {
    (0..SPEAKERS).map(|number| format!("user{number}@localhost")).chain(["romeo@localhost".to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_sees_the_same_order() {
    let accounts = accounts();
    let world = World::with_conf(CONF, &accounts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let crowd = crowd(&world).await;
    romeo.read();
    let mut tasks = Vec::new();
    for client in &crowd {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..TIMES {
                client.say(&number.to_string()).await;
                tokio::task::yield_now().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Who has left a message with a busy room does not wait for it.
    let mut seen = String::new();
    while ids(&seen).len() < SPEAKERS * TIMES {
        seen += &romeo.read();
        tokio::task::yield_now().await;
    }
    let order = ids(&seen);
    assert!(order.is_sorted());
    assert_eq!(order.len(), SPEAKERS * TIMES);
    for client in &crowd {
        assert_eq!(ids(&client.read()), order);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_and_goes_gets_the_history_and_then_what_is_said() {
    let accounts = accounts();
    let world = World::with_conf(CONF, &accounts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let romeo = Arc::new(garden(&world, "romeo@localhost", "orchard").await);
    let crowd = crowd(&world).await;
    let mut tasks = Vec::new();
    for (number, client) in crowd.iter().enumerate() {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for turn in 0..20 {
                client.send(&format!("<presence type='unavailable' to='{ROOM}/user{number}'/>")).await;
                client.say(&format!("unheard {turn}")).await;
                let presence = format!(
                    "<presence to='{ROOM}/user{number}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='1000'/></x></presence>"
                );
                client.send(&presence).await;
                client.say(&format!("heard {turn}")).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // The last question is answered last.
    for client in crowd.iter().chain([&romeo]) {
        client.send(&format!("<iq type='get' id='last' to='{ROOM}'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
    }
    let mut last = String::new();
    for client in crowd.iter().chain([&romeo]) {
        let mut got = String::new();
        while !got.contains("id='last'") {
            got += &client.read();
            tokio::task::yield_now().await;
        }
        let unheard = got.split("<message ").filter(|message| message.contains("<body>unheard"));
        assert!(unheard.into_iter().all(|message| message.starts_with("type='error'")));
        // What comes behind the subject is in order, each once, and goes on where the history before it ends.
        let mut history = Vec::new();
        for visit in got.split("<subject/>") {
            let (old, new): (Vec<&str>, Vec<&str>) =
                visit.split("<message ").partition(|message| message.contains("<delay "));
            let new: Vec<u64> = new.iter().flat_map(|message| ids(message)).collect();
            history.extend(new);
            assert!(history.windows(2).all(|pair| pair[0] < pair[1]));
            history = old.iter().flat_map(|message| ids(message)).collect();
        }
        if Arc::ptr_eq(client, &romeo) {
            last = got;
        }
    }
    assert_eq!(ids(&last).len(), SPEAKERS * 20);
}
