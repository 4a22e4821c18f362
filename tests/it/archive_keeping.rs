//! What becomes of archives in time: what is unread (XEP-0333), how long messages are kept, and how they become findable
//! by their words (XEP-0431).

use std::time::{Duration, SystemTime};

use rookery_core::ids;
use rookery_core::retention::{self, Keep};
use rookery_core::store::{ArchiveStore, Archived, Record, StoreError, TailChange, TailEntry, TailStore};

use crate::archive::{form, page};
use crate::commands::Folder;
use crate::world::{Client, World, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";
const NURSE: &str = "nurse@localhost";
const ALL: &[&str] = &[ROMEO, JULIET, NURSE];
const DAY: Duration = Duration::from_secs(86_400);

fn chat(to: &str, id: &str) -> String {
    format!("<message type='chat' to='{to}' id='{id}'><body>{id}</body></message>")
}

fn displayed(to: &str, id: &str) -> String {
    format!("<message type='chat' to='{to}'><displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/></message>")
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

impl World {
    async fn unread(&self, user: &str) -> Vec<(String, u64)> {
        pass(Duration::from_secs(1)).await;
        let account = self.server.account(&jid(user)).await.unwrap().unwrap();
        let conversations = self.server.conversations(&account).await.unwrap();
        conversations.into_iter().map(|one| (one.with.to_string(), one.unread)).collect()
    }

    /// Puts messages of this age into an archive.
    async fn archive(&self, user: &str, age: Duration, messages: usize) {
        let stamp = SystemTime::now() - age;
        let record = |number: usize| {
            let xml = format!("<message xmlns='jabber:client' from='{NURSE}'><body>old {number}</body></message>");
            TailChange::Append(Record {
                entry: TailEntry {
                    account: jid(user),
                    id: ids::at(stamp) + number as u64,
                    resource: None,
                    stamp,
                    stanza: xml.into_bytes().into(),
                },
                waits: false,
                archived: Some(Archived {
                    with: jid(NURSE),
                    resource: None,
                    sent: false,
                    counts: true,
                    message_id: None,
                }),
                digest: None,
            })
        };
        self.store.commit(&(0..messages).map(record).collect::<Vec<_>>()).await.unwrap();
    }

    async fn archived(&self, user: &str) -> usize {
        let client = self.bind(user, "counting").await;
        let count = client.query(&page("<max>0</max>")).await.set("count").unwrap().parse().unwrap();
        client.leave().await;
        count
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_unread_is_what_came_after_the_last_that_was_displayed() {
    let world = World::new(ALL).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let nurse = world.login(NURSE, "kitchen").await;
    let juliet = world.login(JULIET, "balcony").await;
    for id in ["1", "2", "3"] {
        romeo.send(&chat(JULIET, id)).await;
    }
    nurse.send(&chat(JULIET, "1")).await;
    // None of these is something to read.
    for inside in [
        "<received xmlns='urn:xmpp:receipts' id='x'/>",
        "<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>",
        "<body>new</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
        "<body>like</body><reactions xmlns='urn:xmpp:reactions:0' id='1'/>",
        "<active xmlns='http://jabber.org/protocol/chatstates'/>",
    ] {
        romeo.send(&format!("<message type='chat' to='{JULIET}'>{inside}</message>")).await;
    }
    let is = |romeos: u64, nurses: u64| vec![(NURSE.to_owned(), nurses), (ROMEO.to_owned(), romeos)];
    assert_eq!(world.unread(JULIET).await, is(3, 1));
    juliet.send(&displayed(ROMEO, "2")).await;
    assert_eq!(world.unread(JULIET).await, is(1, 1));
    // Places do not go back, and ids that are nobody's mean nothing (XEP-0333 §5).
    for (to, id) in [(ROMEO, "1"), (ROMEO, "unknown"), (JULIET, "3"), ("stranger@localhost", "1")] {
        juliet.send(&displayed(to, id)).await;
    }
    // In rooms other ids count, and what the contact has displayed is the contact's.
    juliet.send(&displayed(ROMEO, "3").replace("'chat'", "'groupchat'")).await;
    romeo.send(&displayed(JULIET, "3")).await;
    assert_eq!(world.unread(JULIET).await, is(1, 1));
    juliet.send(&displayed(&format!("{ROMEO}/orchard"), "3")).await;
    assert_eq!(world.unread(JULIET).await, is(0, 1));
    assert_eq!(world.unread(ROMEO).await, [], "what one sends is read");
    // A marker right behind its message.
    romeo.send(&chat(JULIET, "4")).await;
    romeo.send(&chat(JULIET, "5")).await;
    juliet.send(&displayed(ROMEO, "4")).await;
    juliet.send(&displayed(NURSE, "1")).await;
    assert_eq!(world.unread(JULIET).await, is(1, 0));
}

#[tokio::test(start_paused = true)]
async fn messages_go_when_their_time_is_over_and_the_accounts_own_word_goes_before_the_confs() {
    let world = World::with_conf("[host.localhost]\n[modules.archive]\nkeep = \"30 days\"\n", ALL).await;
    for user in ALL {
        world.archive(user, DAY * 100, 700).await;
        world.archive(user, DAY * 31, 10).await;
        world.archive(user, DAY * 29, 5).await;
        world.archive(user, DAY * 3, 1).await;
    }
    let store = world.store.as_ref();
    retention::set(store, &jid(JULIET), Some(Keep::Forever)).await.unwrap();
    retention::set(store, &jid(NURSE), Some(Keep::For(DAY * 7))).await.unwrap();
    assert_eq!(world.archived(ROMEO).await, 716);
    pass(Duration::from_secs(16 * 60)).await;
    for (user, expected) in [(ROMEO, 6), (JULIET, 716), (NURSE, 1)] {
        assert_eq!(world.archived(user).await, expected, "{user}");
    }
    // The oldest are gone, so that there is no hole.
    let oldest = store.archive_ends(&jid(ROMEO)).await.unwrap().unwrap().start;
    assert!(oldest.stamp >= SystemTime::now() - DAY * 30);
    retention::set(store, &jid(JULIET), None).await.unwrap();
    pass(Duration::from_secs(16 * 60)).await;
    assert_eq!(world.archived(JULIET).await, 6);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_ever_stays_and_what_still_waits_is_delivered_though_it_is_old() {
    let world = World::new(ALL).await;
    world.archive(ROMEO, DAY * 10_000, 3).await;
    retention::set(world.store.as_ref(), &jid(NURSE), Some(Keep::For(DAY))).await.unwrap();
    let stamp = SystemTime::now() - DAY * 3;
    let waiting = Record {
        entry: TailEntry {
            account: jid(NURSE),
            id: ids::at(stamp),
            resource: None,
            stamp,
            stanza: format!("<message xmlns='jabber:client' from='{ROMEO}'><body>late</body></message>")
                .into_bytes()
                .into(),
        },
        waits: true,
        archived: Some(Archived { with: jid(ROMEO), resource: None, sent: false, counts: true, message_id: None }),
        digest: None,
    };
    world.store.commit(&[TailChange::Append(waiting)]).await.unwrap();
    pass(Duration::from_secs(16 * 60)).await;
    assert_eq!(world.archived(ROMEO).await, 3);
    let nurse = world.bind(NURSE, "kitchen").await;
    nurse.send("<presence/>").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(nurse.bodies(), ["late"]);
}

fn search(words: &str) -> String {
    form(&[("{urn:xmpp:fulltext:0}fulltext", words)])
}

#[tokio::test(start_paused = true)]
async fn an_archive_becomes_findable_with_its_first_search() {
    let world = World::new(ALL).await;
    world.archive(ROMEO, DAY, 10_200).await;
    let romeo = world.bind(ROMEO, "orchard").await;
    let first = romeo.query(&(search("old") + &page("<max>10</max>"))).await;
    assert_eq!((first.fin().get("stable"), first.set("count").as_deref()), (None, Some("10200")));
    assert_eq!(romeo.query(&search("\"old 10100\"")).await.bodies(), ["old 10100"]);
    // For whoever has searched nothing, nothing was done.
    world.archive(NURSE, DAY * 2, 2).await;
    assert!(world.store.index_words(&jid(NURSE), 1).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn b16_a_search_that_takes_too_long_is_refused_and_what_it_has_done_stays() {
    let world = World::new(ALL).await;
    world.archive(ROMEO, DAY, 30_000).await;
    world.archive(NURSE, DAY, 3).await;
    let (romeo, again) = (world.bind(ROMEO, "orchard").await, world.bind(ROMEO, "garden").await);
    let nurse = world.bind(NURSE, "kitchen").await;
    world.store.slow(Duration::from_millis(500));
    for client in [&romeo, &again] {
        let start = tokio::time::Instant::now();
        assert_eq!(client.query(&search("old")).await.error(), ("wait".to_owned(), "resource-constraint".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    // Others come in between, with archives that are soon done.
    assert_eq!(nurse.query(&search("old 2")).await.bodies(), ["old 2"]);
    pass(Duration::from_secs(60)).await;
    let found = romeo.query(&(search("old") + &page("<max>0</max>"))).await;
    assert_eq!(found.set("count").as_deref(), Some("30000"));
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_is_findable_already_is_searched_beside_a_long_one_and_on_a_full_disk() {
    let world = World::new(ALL).await;
    world.archive(ROMEO, DAY, 30_000).await;
    for user in [NURSE, JULIET] {
        world.archive(user, DAY, 3).await;
        assert!(!world.store.index_words(&jid(user), 9).await.unwrap());
    }
    let romeo = world.bind(ROMEO, "orchard").await;
    let (nurse, juliet) = (world.bind(NURSE, "kitchen").await, world.bind(JULIET, "balcony").await);
    let time = async |client: &Client| {
        let start = tokio::time::Instant::now();
        assert_eq!(client.query(&search("old 2")).await.bodies(), ["old 2"]);
        start.elapsed()
    };
    world.store.slow(Duration::from_secs(2));
    let alone = time(&nurse).await;
    assert_eq!(romeo.query(&search("old")).await.error(), ("wait".to_owned(), "resource-constraint".to_owned()));
    // Steps go on all the time, and each takes two seconds.
    let beside = time(&juliet).await;
    assert!(!world.store.is_findable(&jid(ROMEO)).await.unwrap());
    assert!(beside < alone + Duration::from_millis(100), "{beside:?} and not {alone:?}");
    world.store.fail(Some(StoreError::Full("no space".to_owned())));
    time(&nurse).await;
}

#[tokio::test(start_paused = true)]
async fn a_search_that_the_database_breaks_off_is_gone_on_with_by_the_next() {
    let world = World::new(ALL).await;
    world.archive(ROMEO, DAY, 1200).await;
    let romeo = world.bind(ROMEO, "orchard").await;
    assert!(world.store.index_words(&jid(ROMEO), 700).await.unwrap());
    world.store.fail(Some(StoreError::Full("no space".to_owned())));
    assert_eq!(romeo.query(&search("old")).await.error(), ("wait".to_owned(), "resource-constraint".to_owned()));
    world.store.fail(None);
    let found = romeo.query(&(search("old") + &page("<max>0</max>"))).await;
    assert_eq!(found.set("count").as_deref(), Some("1200"));
}

#[test]
fn how_long_messages_are_kept_is_a_command_away() {
    let folder = Folder::new();
    let check = |arguments: &[&str], code, said: &str| {
        let found = folder.run(arguments, "secret\n");
        assert_eq!((found.0, found.1.as_str()), (code, said), "{arguments:?}");
    };
    check(&["user", "add", "alice@localhost", "--password-stdin"], 0, "alice@localhost made");
    check(&["user", "archive", "alice@localhost"], 0, "alice@localhost default");
    check(&["user", "archive", "alice@localhost", "--keep", "30d"], 0, "alice@localhost 30 days");
    check(&["user", "archive", "alice@localhost", "--json"], 0, r#"{"ok":{"jid":"alice@localhost","keep":"30 days"}}"#);
    check(&["user", "archive", "alice@localhost", "--keep", "forever"], 0, "alice@localhost forever");
    check(&["user", "archive", "alice@localhost", "--keep", "default"], 0, "alice@localhost default");
    check(&["user", "archive", "alice@localhost", "--keep", "for a while"], 2, "");
    check(&["user", "archive", "bob@localhost", "--keep", "forever"], 3, "");
}
