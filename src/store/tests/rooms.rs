//! What rooms must be on every database (XEP-0045): what they are made of, their messages, and that nothing of them comes
//! back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rookery_core::store::{
    ArchiveQuery, Archived, ArchivedMessage, KEPT_HISTORY, LONGEST_VISIT, Page, Record, RoomRecord, RoomWrite, Seen,
    Store, StoredRoom, TailChange, TailEntry,
};
use rookery_xmpp::jid::{FullJid, Jid};

use super::{append, archive, ids, jid, keys};

/// As `suite!`, for the tests of this file.
macro_rules! rooms_suite {
    ($open:path) => {
        crate::tests::suite::suite!(@ $open, rooms:
            a_room_is_made_of_what_was_put,
            rooms_are_listed_by_address,
            changes_of_a_room_that_is_not_there_are_passed_over,
            rooms_and_accounts_share_no_name,
            a_message_of_a_room_is_in_its_archive,
            nobody_finds_the_messages_of_a_room_in_an_account,
            history_is_the_newest_of_what_is_history,
            history_beside_the_archive_is_kept_short,
            a_message_that_is_taken_back_keeps_its_place,
            c8_a_room_of_the_same_name_finds_nothing_of_the_old_one,
            c8_a_room_that_is_made_anew_within_a_batch_finds_nothing_of_the_old_one,
            a_batch_of_rooms_that_comes_twice_is_stored_once,
            the_messages_of_a_destroyed_room_go_bit_by_bit,
            what_is_old_of_rooms_expires,
            a_busy_room_fits_in_a_batch,
            the_longest_addresses_fit,
        );
        crate::tests::suite::suite!(@ $open, random_rooms: random_rooms_are_as_in_memory,);
    };
}

pub(crate) use rooms_suite;

pub(super) const SERVICE: &str = "rooms.x.example";
pub(super) const CAVE: &str = "cave@rooms.x.example";
pub(super) const HEATH: &str = "heath@rooms.x.example";
const ALICE: &str = "alice@x.example";

pub(super) fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000 + second)
}

fn change(room: &str, change: RoomWrite) -> TailChange {
    TailChange::Room { room: jid(room), change }
}

pub(super) fn create(room: &str, second: u64) -> TailChange {
    change(room, RoomWrite::Create { service: jid(SERVICE), created: at(second) })
}

pub(super) fn destroy(room: &str) -> TailChange {
    change(room, RoomWrite::Destroy)
}

pub(super) fn value(room: &str, name: &'static str, value: Option<&'static str>) -> TailChange {
    change(room, RoomWrite::Value { name, value: value.map(Into::into) })
}

pub(super) fn person(room: &str, who: &str, value: Option<&'static str>) -> TailChange {
    change(room, RoomWrite::Person { jid: jid(who), value: value.map(Into::into) })
}

pub(super) fn visit(room: &str, who: &str, value: Option<&'static str>) -> TailChange {
    change(room, RoomWrite::Visit { jid: FullJid::new(who).unwrap(), value: value.map(Into::into) })
}

pub(super) fn said(id: u64, nick: &str, body: &str) -> RoomRecord {
    RoomRecord {
        id,
        stamp: at(id % 1_000_000),
        stanza: format!("<message xmlns='jabber:client' id='m{id}'><body>{body}</body></message>").into(),
        nick: Some(nick.into()),
        message_id: Some(format!("m{id}").into()),
        history: true,
        archived: true,
        digest: Some(id ^ 0xDEAD_BEEF_0000_0000),
    }
}

/// What is history beside the archive.
fn beside(id: u64, body: &str) -> RoomRecord {
    RoomRecord { archived: false, ..said(id, "witch", body) }
}

pub(super) fn say(room: &str, record: RoomRecord) -> TailChange {
    change(room, RoomWrite::Message(record))
}

pub(super) fn all() -> ArchiveQuery {
    ArchiveQuery { max: 10_000, count: true, ..archive::all() }
}

fn numbers(messages: &[ArchivedMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.id).collect()
}

/// The ids on the page of a query.
async fn found(store: &dyn Store, room: &str, query: ArchiveQuery) -> Vec<u64> {
    let page = store.archive_page(&jid(room), &query).await.unwrap().unwrap();
    assert_eq!(page.count, Some(page.messages.len() as u64));
    assert!(page.messages.iter().all(|message| message.waits.is_none()));
    numbers(&page.messages)
}

async fn history(store: &dyn Store, room: &str, limit: usize) -> Vec<u64> {
    numbers(&store.room_history(&jid(room), limit).await.unwrap())
}

pub(super) async fn index_all(store: &dyn Store) {
    let services = ["a", "b", "c", "d", "court", "wood"].map(|name| format!("{name}@{SERVICE}"));
    for owner in services.iter().map(String::as_str).chain([CAVE, HEATH, ALICE]) {
        while store.index_words(&jid(owner), 3).await.unwrap() {}
    }
}

fn empty(second: u64) -> StoredRoom {
    StoredRoom { created: at(second), values: Vec::new(), people: Vec::new(), visits: Vec::new() }
}

async fn visited(store: &dyn Store) -> Vec<String> {
    store.visited_rooms(&jid(SERVICE)).await.unwrap().iter().map(ToString::to_string).collect()
}

pub(crate) async fn a_room_is_made_of_what_was_put(store: &Arc<dyn Store>) {
    let store = &**store;
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), None);
    store.commit(&[create(CAVE, 1)]).await.unwrap();
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(empty(1)));
    let changes = [
        value(CAVE, "subject", Some("<subject/>")),
        value(CAVE, "config", Some("<x/>")),
        value(CAVE, "config", Some("<config/>")),
        person(CAVE, "zoe@x.example", Some("owner")),
        person(CAVE, "evil.example", Some("outcast")),
        person(CAVE, ALICE, Some("'); DROP TABLE rooms; --")),
        visit(CAVE, "alice@x.example/a 'phone'", Some("<presence/>")),
        visit(CAVE, "zoe@x.example/b", Some("")),
        value(HEATH, "config", Some("nobody's")),
    ];
    store.commit(&changes).await.unwrap();
    assert_eq!(visited(store).await, [CAVE]);
    let full = |text| FullJid::new(text).unwrap();
    let mut wanted = StoredRoom {
        created: at(1),
        values: vec![("config".to_owned(), "<config/>".into()), ("subject".to_owned(), "<subject/>".into())],
        people: vec![
            (jid(ALICE), "'); DROP TABLE rooms; --".into()),
            (jid("evil.example"), "outcast".into()),
            (jid("zoe@x.example"), "owner".into()),
        ],
        visits: vec![
            (full("alice@x.example/a 'phone'"), "<presence/>".into()),
            (full("zoe@x.example/b"), Bytes::new()),
        ],
    };
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(wanted.clone()));
    let changes = [
        create(CAVE, 99),
        value(CAVE, "subject", None),
        value(CAVE, "vcard", None),
        person(CAVE, "evil.example", None),
        person(CAVE, ALICE, Some("member")),
        visit(CAVE, "zoe@x.example/b", None),
        visit(CAVE, "nobody@x.example/b", None),
    ];
    store.commit(&changes).await.unwrap();
    wanted.values.truncate(1);
    wanted.people = vec![(jid(ALICE), "member".into()), (jid("zoe@x.example"), "owner".into())];
    wanted.visits.truncate(1);
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(wanted));
    store.commit(&[visit(CAVE, "alice@x.example/a 'phone'", None)]).await.unwrap();
    assert!(visited(store).await.is_empty());
    store.commit(&[destroy(CAVE), destroy(HEATH)]).await.unwrap();
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), None);
}

pub(crate) async fn rooms_are_listed_by_address(store: &Arc<dyn Store>) {
    let store = &**store;
    let mut changes = Vec::new();
    for (second, name) in (1..).zip(["d", "b", "Ä", "c", "a"]) {
        changes.push(create(&format!("{name}@{SERVICE}"), second));
    }
    let elsewhere = RoomWrite::Create { service: jid("other.example"), created: at(9) };
    changes.push(change("b2@other.example", elsewhere));
    changes.push(value("b@rooms.x.example", "config", Some("<config/>")));
    changes.push(value("a@rooms.x.example", "subject", Some("<subject/>")));
    store.commit(&changes).await.unwrap();
    let list = |service: &str, after: Option<&str>, limit| {
        let (service, after) = (jid(service), after.map(jid));
        async move {
            let rooms = store.rooms(&service, after.as_ref(), limit).await.unwrap();
            rooms.iter().map(|room| room.jid.localpart().unwrap().to_owned()).collect::<Vec<String>>()
        }
    };
    assert_eq!(list(SERVICE, None, 99).await, ["a", "b", "c", "d", "ä"]);
    assert_eq!(list(SERVICE, None, 2).await, ["a", "b"]);
    assert_eq!(list(SERVICE, Some("b@rooms.x.example"), 2).await, ["c", "d"]);
    assert_eq!(list("other.example", None, 2).await, ["b2"]);
    assert!(list("x.example", None, 2).await.is_empty());
    let rooms = store.rooms(&jid(SERVICE), None, 2).await.unwrap();
    assert_eq!((&rooms[0].config[..], rooms[0].created), (&b""[..], at(5)));
    assert_eq!((&rooms[1].config[..], rooms[1].created), (&b"<config/>"[..], at(2)));
}

pub(crate) async fn changes_of_a_room_that_is_not_there_are_passed_over(store: &Arc<dyn Store>) {
    let store = &**store;
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    let changes = [
        value(CAVE, "config", Some("x")),
        visit(CAVE, "alice@x.example/a", Some("x")),
        say(CAVE, said(5, "witch", "hi")),
        append(ALICE, 7),
        destroy(CAVE),
        person(CAVE, ALICE, Some("owner")),
        create(CAVE, 1),
    ];
    store.commit(&changes).await.unwrap();
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(empty(1)));
    assert!(found(store, CAVE, all()).await.is_empty());
    assert_eq!(ids(store, ALICE).await, [7]);
    assert!(!store.retract(&jid(HEATH), 5, "<message/>".into()).await.unwrap());
    assert_eq!(store.room_message(&jid(HEATH), 5).await.unwrap(), None);
    assert!(history(store, HEATH, 9).await.is_empty());
    assert!(store.commit(&[say(CAVE, said(u64::MAX, "witch", "hi"))]).await.is_err());
    assert_eq!(store.last_id().await.unwrap(), 7);
    store.commit(&[say(HEATH, said(20, "witch", "hi"))]).await.unwrap();
    assert_eq!(store.last_id().await.unwrap(), 20);
}

pub(crate) async fn rooms_and_accounts_share_no_name(store: &Arc<dyn Store>) {
    let store = &**store;
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    store.commit(&[create(ALICE, 1), value(ALICE, "config", Some("x")), create(CAVE, 1)]).await.unwrap();
    store.commit(&[say(ALICE, said(5, "witch", "hi")), append(CAVE, 6), append(ALICE, 7)]).await.unwrap();
    assert_eq!(store.room(&jid(ALICE)).await.unwrap(), None);
    assert!(found(store, ALICE, all()).await.is_empty());
    assert!(store.seen(&jid(ALICE), 0, u64::MAX, 9).await.unwrap().is_empty());
    assert!(history(store, CAVE, 9).await.is_empty());
    assert_eq!(ids(store, ALICE).await, [7]);
    assert!(!store.create_account(&jid(CAVE), &keys()).await.unwrap());
    assert!(!store.account_exists(&jid(CAVE)).await.unwrap());
    assert!(!store.delete_account(&jid(CAVE)).await.unwrap());
    store.commit(&[destroy(ALICE), destroy(CAVE)]).await.unwrap();
    assert!(store.account_exists(&jid(ALICE)).await.unwrap());
    assert!(store.create_account(&jid(CAVE), &keys()).await.unwrap());
}

pub(crate) async fn a_message_of_a_room_is_in_its_archive(store: &Arc<dyn Store>) {
    let store = &**store;
    let silent = |id| RoomRecord { history: false, archived: false, ..said(id, "witch", "thrice") };
    let changes = [
        create(CAVE, 0),
        say(CAVE, said(1, "witch", "Thrice the brinded cat")),
        say(CAVE, said(2, "hecate", "hath mew'd")),
        create(HEATH, 0),
        say(HEATH, said(3, "witch", "thrice")),
        say(CAVE, beside(4, "thrice")),
        say(CAVE, silent(5)),
        say(CAVE, RoomRecord { history: false, nick: None, ..said(6, "", "and once") }),
    ];
    store.commit(&changes).await.unwrap();
    index_all(store).await;
    let with = |with: &str| ArchiveQuery { with: Some(Jid::new(with).unwrap()), ..all() };
    let words = |words: &str| ArchiveQuery { words: Some(words.to_owned()), ..all() };
    assert_eq!(found(store, CAVE, all()).await, [1, 2, 6]);
    assert_eq!(found(store, CAVE, with(CAVE)).await, [1, 2, 6]);
    assert_eq!(found(store, CAVE, with("cave@rooms.x.example/witch")).await, [1]);
    assert!(found(store, CAVE, with("cave@rooms.x.example/Witch")).await.is_empty());
    assert!(found(store, CAVE, with(HEATH)).await.is_empty());
    assert!(found(store, CAVE, with(ALICE)).await.is_empty());
    assert_eq!(found(store, CAVE, words("thrice")).await, [1]);
    assert_eq!(found(store, CAVE, ArchiveQuery { with: with(CAVE).with, ..words("once AND") }).await, [6]);
    assert_eq!(found(store, HEATH, words("thrice")).await, [3]);
    assert_eq!(found(store, CAVE, ArchiveQuery { start: Some(at(2)), end: Some(at(5)), ..all() }).await, [2]);
    assert_eq!(found(store, CAVE, ArchiveQuery { ids: vec![2, 1], ..all() }).await, [1, 2]);
    // What is not in the archive of the room is no place in it.
    for id in [3, 4, 5] {
        let query = ArchiveQuery { page: Page::After(id), ..all() };
        assert_eq!(store.archive_page(&jid(CAVE), &query).await.unwrap(), None);
    }
    let ends = store.archive_ends(&jid(CAVE)).await.unwrap().unwrap();
    assert_eq!((ends.start.id, ends.start.stamp, ends.end.id), (1, at(1), 6));
    assert_eq!(store.archived_id(&jid(CAVE), &jid(CAVE), "m2").await.unwrap(), Some(2));
    let mut seen = store.seen(&jid(CAVE), 1, u64::MAX, 9).await.unwrap();
    seen.sort_by_key(|seen| seen.id);
    let known = |id| Seen { id, digest: id ^ 0xDEAD_BEEF_0000_0000 };
    assert_eq!(seen, [known(2), known(4), known(5), known(6)]);
    let message =
        |record: RoomRecord| ArchivedMessage { id: record.id, stamp: record.stamp, stanza: record.stanza, waits: None };
    let wanted = [said(1, "witch", "Thrice the brinded cat"), beside(4, "thrice")].map(message);
    for message in wanted {
        assert_eq!(store.room_message(&jid(CAVE), message.id).await.unwrap(), Some(message));
    }
    for id in [0, 3, 5, u64::MAX] {
        assert_eq!(store.room_message(&jid(CAVE), id).await.unwrap(), None);
    }
    // One that was refused has never been.
    store.commit(&[TailChange::Refuse { account: jid(CAVE), id: 1 }]).await.unwrap();
    assert_eq!(found(store, CAVE, all()).await, [2, 6]);
    assert_eq!(store.seen(&jid(CAVE), 0, u64::MAX, 9).await.unwrap().len(), 4);
}

pub(crate) async fn nobody_finds_the_messages_of_a_room_in_an_account(store: &Arc<dyn Store>) {
    let store = &**store;
    // The first account and the first room of a database.
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    store
        .commit(&[create(CAVE, 0), say(CAVE, said(1, "witch", "secret")), say(CAVE, beside(2, "secret"))])
        .await
        .unwrap();
    index_all(store).await;
    for query in [all(), ArchiveQuery { words: Some("secret".into()), ..all() }] {
        assert!(found(store, ALICE, query).await.is_empty());
    }
    assert!(ids(store, ALICE).await.is_empty());
    assert!(ids(store, CAVE).await.is_empty(), "nobody's session waits for what a room has");
    assert_eq!(store.tail_size(&jid(CAVE)).await.unwrap().messages, 0);
    assert!(store.conversations(&jid(CAVE)).await.unwrap().is_empty());
    assert!(store.conversations(&jid(ALICE)).await.unwrap().is_empty());
}

pub(crate) async fn history_is_the_newest_of_what_is_history(store: &Arc<dyn Store>) {
    let store = &**store;
    let marker = |id| RoomRecord { history: false, ..said(id, "witch", "") };
    let changes = [
        create(CAVE, 0),
        say(CAVE, said(1, "witch", "a")),
        say(CAVE, beside(2, "b")),
        say(CAVE, marker(3)),
        say(CAVE, said(4, "witch", "d")),
        say(CAVE, beside(5, "e")),
        say(CAVE, beside(6, "f")),
        say(CAVE, marker(7)),
    ];
    store.commit(&changes).await.unwrap();
    assert_eq!(history(store, CAVE, 99).await, [1, 2, 4, 5, 6]);
    assert_eq!(history(store, CAVE, 4).await, [2, 4, 5, 6]);
    assert_eq!(history(store, CAVE, 2).await, [5, 6]);
    assert!(history(store, CAVE, 0).await.is_empty());
    let newest = store.room_history(&jid(CAVE), 1).await.unwrap();
    let wanted = beside(6, "f");
    assert_eq!(newest, [ArchivedMessage { id: 6, stamp: at(6), stanza: wanted.stanza, waits: None }]);
    // What is archived after all is not beside the archive any more; and the other way round.
    store.commit(&[say(CAVE, said(6, "witch", "f")), say(CAVE, beside(4, "d"))]).await.unwrap();
    assert_eq!(history(store, CAVE, 99).await, [1, 2, 4, 5, 6]);
    assert_eq!(found(store, CAVE, all()).await, [1, 3, 6, 7]);
}

pub(crate) async fn history_beside_the_archive_is_kept_short(store: &Arc<dyn Store>) {
    let store = &**store;
    let most = KEPT_HISTORY as u64;
    store.commit(&[create(CAVE, 0), create(HEATH, 0)]).await.unwrap();
    let first: Vec<TailChange> = (1..=most + 3).map(|id| say(CAVE, beside(id, "hi"))).collect();
    store.commit(&first).await.unwrap();
    assert_eq!(history(store, CAVE, 10_000).await, (4..=most + 3).collect::<Vec<u64>>());
    let more = [
        say(CAVE, beside(most + 4, "hi")),
        say(HEATH, beside(most + 5, "hi")),
        say(CAVE, said(most + 6, "witch", "hi")),
        say(CAVE, beside(most + 7, "hi")),
    ];
    store.commit(&more).await.unwrap();
    let wanted: Vec<u64> = (6..=most + 4).chain([most + 6, most + 7]).collect();
    assert_eq!(history(store, CAVE, 10_000).await, wanted);
    assert_eq!(history(store, HEATH, 10_000).await, [most + 5]);
    assert_eq!(store.room_message(&jid(CAVE), 5).await.unwrap(), None);
    // A commit that comes again brings nothing back.
    store.commit(&first).await.unwrap();
    assert_eq!(history(store, CAVE, 10_000).await, wanted);
}

pub(crate) async fn a_message_that_is_taken_back_keeps_its_place(store: &Arc<dyn Store>) {
    let store = &**store;
    let bodies = ["needle one", "needle two", "needle three"];
    let mut changes = vec![create(CAVE, 0), create(HEATH, 0), say(CAVE, beside(9, "needle"))];
    changes.extend((1..).zip(bodies).map(|(id, body)| say(CAVE, said(id, "witch", body))));
    store.commit(&changes).await.unwrap();
    let words = || ArchiveQuery { words: Some("needle".to_owned()), ..all() };
    let tombstone = || Bytes::from_static(b"<message xmlns='jabber:client'><retracted/></message>");
    // One that is not findable by its words yet, and two that are.
    assert!(store.retract(&jid(CAVE), 2, tombstone()).await.unwrap());
    index_all(store).await;
    assert_eq!(found(store, CAVE, words()).await, [1, 3]);
    assert!(store.retract(&jid(CAVE), 3, tombstone()).await.unwrap());
    assert!(store.retract(&jid(CAVE), 3, tombstone()).await.unwrap());
    assert!(store.retract(&jid(CAVE), 9, tombstone()).await.unwrap());
    for (room, id) in [(CAVE, 4), (HEATH, 1), ("nowhere@rooms.x.example", 1), (CAVE, u64::MAX)] {
        assert!(!store.retract(&jid(room), id, tombstone()).await.unwrap());
    }
    assert_eq!(found(store, CAVE, words()).await, [1]);
    assert_eq!(found(store, CAVE, all()).await, [1, 2, 3]);
    let query = ArchiveQuery { with: Some(Jid::new("cave@rooms.x.example/witch").unwrap()), ..all() };
    assert_eq!(found(store, CAVE, query).await, [1, 2, 3]);
    let kept = store.room_history(&jid(CAVE), 9).await.unwrap();
    let gone: Vec<bool> = kept.iter().map(|message| message.stanza == tombstone()).collect();
    assert_eq!((numbers(&kept), gone), (vec![1, 2, 3, 9], vec![false, true, true, true]));
    assert_eq!(store.room_message(&jid(CAVE), 3).await.unwrap().unwrap().stanza, tombstone());
    assert_eq!(store.seen(&jid(CAVE), 0, u64::MAX, 9).await.unwrap().len(), 4, "it is known all the same");
}

/// A room with something of everything.
fn furnished(room: &str, from: u64) -> Vec<TailChange> {
    vec![
        create(room, from),
        value(room, "config", Some("<config/>")),
        person(room, ALICE, Some("owner")),
        visit(room, "alice@x.example/a", Some("<presence/>")),
        say(room, said(from, "witch", "needle")),
        say(room, beside(from + 1, "needle")),
    ]
}

async fn is_bare(store: &dyn Store, room: &str) {
    assert!(found(store, room, all()).await.is_empty());
    assert!(found(store, room, ArchiveQuery { words: Some("needle".into()), ..all() }).await.is_empty());
    assert!(history(store, room, 99).await.is_empty());
    assert_eq!(store.archive_ends(&jid(room)).await.unwrap(), None);
    assert!(store.seen(&jid(room), 0, u64::MAX, 9).await.unwrap().is_empty());
    assert!(store.values(&jid(room), "m").await.unwrap().is_empty());
    assert!(!visited(store).await.contains(&room.to_owned()));
    for id in 0..20 {
        assert_eq!(store.room_message(&jid(room), id).await.unwrap(), None);
        assert!(!store.retract(&jid(room), id, "x".into()).await.unwrap());
    }
}

pub(crate) async fn c8_a_room_of_the_same_name_finds_nothing_of_the_old_one(store: &Arc<dyn Store>) {
    let store = &**store;
    store.commit(&furnished(CAVE, 1)).await.unwrap();
    store.commit(&furnished(HEATH, 11)).await.unwrap();
    store.set_values(&jid(CAVE), "m", &[("k".to_owned(), Some(b"v".to_vec()))]).await.unwrap();
    index_all(store).await;
    store.commit(&[say(CAVE, said(3, "witch", "needle")), destroy(CAVE)]).await.unwrap();
    // Who has not heard of it yet.
    store.commit(&[say(CAVE, said(4, "witch", "needle")), visit(CAVE, "alice@x.example/b", Some("x"))]).await.unwrap();
    is_bare(store, CAVE).await;
    store.commit(&[create(CAVE, 7)]).await.unwrap();
    assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(empty(7)));
    is_bare(store, CAVE).await;
    while store.purge_deleted(1).await.unwrap() {}
    index_all(store).await;
    is_bare(store, CAVE).await;
    store.commit(&[say(CAVE, said(5, "witch", "needle"))]).await.unwrap();
    assert_eq!(found(store, CAVE, all()).await, [5]);
    assert_eq!(found(store, HEATH, all()).await, [11]);
    assert_eq!(history(store, HEATH, 9).await, [11, 12]);
    assert_eq!(store.room(&jid(HEATH)).await.unwrap().unwrap().people.len(), 1);
}

pub(crate) async fn c8_a_room_that_is_made_anew_within_a_batch_finds_nothing_of_the_old_one(store: &Arc<dyn Store>) {
    let store = &**store;
    store.commit(&furnished(CAVE, 1)).await.unwrap();
    let mut batch = vec![
        person(CAVE, "zoe@x.example", Some("member")),
        say(CAVE, said(3, "witch", "needle")),
        destroy(CAVE),
        person(CAVE, "zoe@x.example", Some("admin")),
        say(CAVE, beside(4, "needle")),
        create(CAVE, 7),
    ];
    for _ in 0..2 {
        store.commit(&batch).await.unwrap();
        index_all(store).await;
        assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(empty(7)));
        is_bare(store, CAVE).await;
    }
    batch.extend([
        value(CAVE, "config", Some("<new/>")),
        say(CAVE, said(8, "witch", "needle")),
        create(HEATH, 9),
        say(HEATH, said(9, "witch", "needle")),
        destroy(HEATH),
        create(HEATH, 10),
    ]);
    for _ in 0..2 {
        store.commit(&batch).await.unwrap();
        let wanted = StoredRoom { values: vec![("config".to_owned(), "<new/>".into())], ..empty(7) };
        assert_eq!(store.room(&jid(CAVE)).await.unwrap(), Some(wanted));
        assert_eq!(found(store, CAVE, all()).await, [8]);
        assert_eq!(history(store, CAVE, 99).await, [8]);
        assert_eq!(store.room(&jid(HEATH)).await.unwrap(), Some(empty(10)));
        is_bare(store, HEATH).await;
    }
    while store.purge_deleted(2).await.unwrap() {}
    index_all(store).await;
    assert_eq!(found(store, CAVE, ArchiveQuery { words: Some("needle".into()), ..all() }).await, [8]);
}

pub(crate) async fn a_batch_of_rooms_that_comes_twice_is_stored_once(store: &Arc<dyn Store>) {
    let store = &**store;
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    let mut batch = furnished(CAVE, 1);
    batch.extend([append(ALICE, 5), visit(CAVE, "alice@x.example/a", None), say(CAVE, said(6, "witch", "needle"))]);
    for from in [0, 0, 4, 0] {
        store.commit(&batch[from..]).await.unwrap();
        let room = store.room(&jid(CAVE)).await.unwrap().unwrap();
        assert_eq!((room.created, room.values.len(), room.people.len(), room.visits.len()), (at(1), 1, 1, 0));
        assert_eq!(found(store, CAVE, all()).await, [1, 6]);
        assert_eq!(history(store, CAVE, 9).await, [1, 2, 6]);
        assert_eq!(store.seen(&jid(CAVE), 0, u64::MAX, 9).await.unwrap().len(), 3);
        assert_eq!(ids(store, ALICE).await, [5]);
        index_all(store).await;
        let query = ArchiveQuery { words: Some("needle".into()), ..all() };
        assert_eq!(found(store, CAVE, query).await, [1, 6]);
    }
}

pub(crate) async fn the_messages_of_a_destroyed_room_go_bit_by_bit(store: &Arc<dyn Store>) {
    let in_memory = !store.purge_deleted(1).await.unwrap();
    assert!(in_memory, "nothing is deleted yet");
    let store = &**store;
    let mut changes = vec![create(CAVE, 0), create(HEATH, 0)];
    changes.extend((1..=20).map(|id| say(CAVE, said(id, "witch", "needle"))));
    changes.extend((21..=30).map(|id| say(CAVE, beside(id, "needle"))));
    changes.extend((31..=35).map(|id| say(HEATH, said(id, "witch", "needle"))));
    store.commit(&changes).await.unwrap();
    index_all(store).await;
    store.commit(&[destroy(CAVE)]).await.unwrap();
    let mut turns = 0;
    while store.purge_deleted(7).await.unwrap() {
        turns += 1;
    }
    assert!(turns == 0 || turns == 4, "{turns}");
    // Ids of what is gone are free again, as far as a database goes: nothing of the old ones is left.
    store.commit(&[create(CAVE, 1)]).await.unwrap();
    is_bare(store, CAVE).await;
    store.commit(&(1..=30).map(|id| say(CAVE, said(id, "witch", "hay"))).collect::<Vec<_>>()).await.unwrap();
    index_all(store).await;
    assert!(found(store, CAVE, ArchiveQuery { words: Some("needle".into()), ..all() }).await.is_empty());
    assert_eq!(found(store, CAVE, ArchiveQuery { words: Some("hay".into()), ..all() }).await.len(), 30);
    assert_eq!(found(store, HEATH, ArchiveQuery { words: Some("needle".into()), ..all() }).await.len(), 5);
}

pub(crate) async fn what_is_old_of_rooms_expires(store: &Arc<dyn Store>) {
    let store = &**store;
    let room = |name: &str| format!("{name}@{SERVICE}");
    let mut changes: Vec<TailChange> = ["a", "b", "c", "d"].iter().map(|name| create(&room(name), 0)).collect();
    changes.extend([
        say(&room("b"), said(1, "witch", "needle")),
        say(&room("b"), beside(2, "needle")),
        say(&room("b"), said(3, "witch", "needle")),
        say(&room("c"), beside(4, "needle")),
        say(&room("d"), said(5, "witch", "needle")),
        say(&room("b"), beside(6, "needle")),
        say(&room("b"), said(7, "witch", "needle")),
    ]);
    store.commit(&changes).await.unwrap();
    index_all(store).await;
    let old = |up_to, after: Option<&str>, limit| {
        let after = after.map(|name| jid(&room(name)));
        async move {
            let found = store.expired_accounts(&jid(SERVICE), up_to, after.as_ref(), limit).await.unwrap();
            found.iter().map(|room| room.localpart().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(old(4, None, 9).await, ["b", "c"]);
    assert_eq!(old(u64::MAX, None, 2).await, ["b", "c"]);
    assert_eq!(old(u64::MAX, Some("b"), 9).await, ["c", "d"]);
    assert!(old(0, None, 9).await.is_empty());
    assert!(store.expired_accounts(&jid("x.example"), 9, None, 9).await.unwrap().is_empty());
    let b = jid(&room("b"));
    assert!(store.expire_archive(&b, 6, 2).await.unwrap());
    assert_eq!(
        (found(store, &room("b"), all()).await, history(store, &room("b"), 9).await),
        (vec![3, 7], vec![3, 6, 7])
    );
    assert!(!store.expire_archive(&b, 6, 2).await.unwrap());
    assert!(!store.expire_archive(&b, 6, 2).await.unwrap());
    assert_eq!((found(store, &room("b"), all()).await, history(store, &room("b"), 9).await), (vec![7], vec![7]));
    assert_eq!(found(store, &room("b"), ArchiveQuery { words: Some("needle".into()), ..all() }).await, [7]);
    assert_eq!(history(store, &room("c"), 9).await, [4]);
    assert!(!store.expire_archive(&jid(&room("c")), 6, 9).await.unwrap());
    assert!(history(store, &room("c"), 9).await.is_empty());
}

pub(crate) async fn a_busy_room_fits_in_a_batch(store: &Arc<dyn Store>) {
    let store = &**store;
    let mut changes = vec![create(CAVE, 0), create(HEATH, 0)];
    for id in 1..=3000 {
        let who = format!("u{id}@x.example");
        changes.push(person(CAVE, &who, Some("member")));
        changes.push(visit(CAVE, &format!("{who}/a"), Some("<presence/>")));
        changes.push(say(CAVE, said(id, "witch", "hi")));
    }
    store.commit(&changes).await.unwrap();
    let room = store.room(&jid(CAVE)).await.unwrap().unwrap();
    assert_eq!((room.people.len(), room.visits.len()), (3000, 3000));
    assert_eq!(found(store, CAVE, all()).await.len(), 3000);
    assert_eq!(history(store, CAVE, 20).await, (2981..=3000).collect::<Vec<u64>>());
    let leave = room.visits.iter().map(|(jid, _)| visit(CAVE, jid.as_str(), None));
    store.commit(&leave.collect::<Vec<_>>()).await.unwrap();
    assert!(store.room(&jid(CAVE)).await.unwrap().unwrap().visits.is_empty());
}

/// What the database does not take would keep all that is behind it from the disk.
pub(crate) async fn the_longest_addresses_fit(store: &Arc<dyn Store>) {
    // Nothing that could be compressed.
    let mut seed = 1_u64;
    let mut long = |length: usize| -> String {
        let next = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[(seed >> 33) as usize % 36])
        };
        (0..length).map(next).collect()
    };
    let domain = (0..15).map(|_| long(63)).collect::<Vec<_>>().join(".");
    let room = format!("{}@{}", long(1023), SERVICE);
    let person = jid(&format!("{}@{domain}", long(1023)));
    let who = FullJid::new(&format!("{person}/{}", long(LONGEST_VISIT - person.as_str().len() - 1))).unwrap();
    let value = Bytes::from_static(b"<x/>");
    let record = RoomRecord {
        id: 1,
        stamp: at(1),
        stanza: Bytes::from_static(b"<message/>"),
        nick: Some(long(1023).into()),
        message_id: Some(long(8000).into()),
        history: true,
        archived: true,
        digest: Some(1),
    };
    let changes = [
        create(&room, 1),
        change(&room, RoomWrite::Person { jid: person, value: Some(value.clone()) }),
        change(&room, RoomWrite::Visit { jid: who.clone(), value: Some(value.clone()) }),
        change(&room, RoomWrite::Message(record)),
    ];
    for change in changes {
        store.commit(std::slice::from_ref(&change)).await.unwrap_or_else(|error| panic!("{error}: {change:?}"));
    }
    let stored = store.room(&jid(&room)).await.unwrap().unwrap();
    assert_eq!((stored.people.len(), stored.visits), (1, vec![(who, value)]));
}

/// An account and a room whose archives were searched, in part, and that are gone with all that they had: what is left is for
/// a backend to look for.
pub(super) async fn come_and_go(store: &dyn Store) {
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    let mut changes = vec![create(CAVE, 0)];
    changes.extend((1..=120).map(|id| say(CAVE, said(id, "witch", "needle"))));
    changes.extend((121..=240).map(|id| {
        let RoomRecord { id, stamp, stanza, digest, .. } = said(id, "", "needle");
        let (account, with) = (jid(ALICE), jid("bob@x.example"));
        let archived = Archived { with, resource: None, sent: false, counts: true, message_id: None };
        let entry = TailEntry { account, id, resource: None, stamp, stanza };
        TailChange::Append(Record { entry, waits: false, archived: Some(archived), digest })
    }));
    store.commit(&changes).await.unwrap();
    for owner in [ALICE, CAVE] {
        assert!(store.index_words(&jid(owner), 100).await.unwrap());
    }
    let words = || ArchiveQuery { words: Some("needle".into()), ..all() };
    assert_eq!((found(store, ALICE, words()).await.len(), found(store, CAVE, words()).await.len()), (100, 100));
    store.commit(&[destroy(CAVE)]).await.unwrap();
    assert!(store.delete_account(&jid(ALICE)).await.unwrap());
    while store.purge_deleted(50).await.unwrap() {}
}
