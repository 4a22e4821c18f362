//! The tests that every backend passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rookery_core::roster::{RosterItem, Subscription};
use rookery_core::store::{
    AccountStore, OutgoingEntry, Record, RosterChange, SavedSession, Store, TailChange, TailSize,
};
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::sasl::Credentials;

use super::{Random, append, entry, ids, jid, keys, other_keys, remove};
use crate::MemoryStore;

/// Makes the tests of this file tests of a backend, given an async function that gives a `Fixture`, or nothing when the
/// backend is not wanted.
macro_rules! suite {
    ($open:path) => {
        crate::tests::suite::suite!(@ $open, suite:
            accounts_are_made_once_and_listed_by_domain,
            keys_are_kept_and_replaced,
            an_account_takes_all_it_owns_with_it,
            a_roster_is_kept_as_it_was_put,
            removals_are_remembered_up_to_a_thousand,
            requests_wait_until_they_are_answered,
            nobodys_roster_is_empty_and_stays_so,
            a_tail_is_read_by_id_between_bounds,
            a_batch_is_applied_in_its_order,
            an_append_for_a_deleted_account_is_passed_over,
            a_batch_that_comes_twice_is_stored_once,
            thousands_of_changes_fit_in_a_batch,
            the_last_id_outlives_its_entry,
            what_waits_for_other_servers_is_kept_until_it_is_sent,
            t10_thousands_wait_for_other_servers_and_go,
            sessions_are_kept_until_they_are_taken,
            a15_another_password_ends_saved_sessions,
            values_are_set_and_removed_together,
            d5_quotes_and_statements_are_text_like_any_other,
            commits_and_reads_go_on_side_by_side,
            random_batches_come_to_what_they_come_to_in_memory,
        );
    };
    (@ $open:path, $of:ident: $($test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                if let Some(fixture) = $open().await {
                    crate::tests::$of::$test(&fixture.store).await;
                    fixture.store.close().await;
                }
            }
        )*
    };
}

pub(crate) use suite;

const ALICE: &str = "alice@x.example";
const BOB: &str = "bob@x.example";

async fn people(store: &Arc<dyn Store>) {
    for name in [ALICE, BOB] {
        assert!(store.create_account(&jid(name), &keys()).await.unwrap());
    }
}

fn told(keys: &Credentials) -> impl PartialEq + std::fmt::Debug {
    [&keys.sha256, &keys.sha1].map(|keys| {
        (keys.salt.clone(), keys.iterations, keys.stored_key.expose().to_vec(), keys.server_key.expose().to_vec())
    })
}

pub(crate) async fn accounts_are_made_once_and_listed_by_domain(store: &Arc<dyn Store>) {
    let before = SystemTime::now() - Duration::from_millis(1);
    for name in ["zoe@x.example", "Élodie@x.example", "alice@x.example", "a@y.example"] {
        assert!(store.create_account(&jid(name), &keys()).await.unwrap());
    }
    let first = store.credentials(&jid(ALICE)).await.unwrap().unwrap();
    assert!(!store.create_account(&jid(ALICE), &other_keys()).await.unwrap());
    let second = store.credentials(&jid(ALICE)).await.unwrap().unwrap();
    assert_eq!(told(&first), told(&second));
    assert!(store.account_exists(&jid(ALICE)).await.unwrap());
    assert!(!store.account_exists(&jid("x.example")).await.unwrap());

    let listed = store.accounts(&jid("x.example")).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|account| account.jid.as_str()).collect();
    assert_eq!(names, ["alice@x.example", "zoe@x.example", "élodie@x.example"]);
    assert!(listed.iter().all(|account| account.created >= before));
    assert!(listed.iter().all(|account| account.created <= SystemTime::now()));
    assert!(store.accounts(&jid("z.example")).await.unwrap().is_empty());
}

pub(crate) async fn keys_are_kept_and_replaced(store: &Arc<dyn Store>) {
    let (old, new) = (keys(), other_keys());
    assert!(!store.set_credentials(&jid(ALICE), &new).await.unwrap());
    assert!(store.credentials(&jid(ALICE)).await.unwrap().is_none());
    store.create_account(&jid(ALICE), &old).await.unwrap();
    let found = store.credentials(&jid(ALICE)).await.unwrap().unwrap();
    assert_eq!(told(&found), told(&old));
    assert!(store.set_credentials(&jid(ALICE), &new).await.unwrap());
    let found = store.credentials(&jid(ALICE)).await.unwrap().unwrap();
    assert_eq!(told(&found), told(&new));
    assert!(found.verify_password("canary-password"));
}

pub(crate) async fn an_account_takes_all_it_owns_with_it(store: &Arc<dyn Store>) {
    people(store).await;
    for name in [ALICE, BOB] {
        let user = jid(name);
        let changes = [
            RosterChange::Put(RosterItem::new(jid("c@y.example"))),
            RosterChange::Remove(jid("d@y.example"), 3),
            RosterChange::Request(jid("e@y.example"), b"<presence/>".to_vec()),
        ];
        store.change_roster(&user, &changes).await.unwrap();
        let id = if name == ALICE { 1 } else { 3 };
        store.commit(&[append(name, id), append(name, id + 1)]).await.unwrap();
        let value = ("k".to_owned(), Some(b"v".to_vec()));
        store.set_values(&user, "m", &[value]).await.unwrap();
        store.save_sessions(&[session(&format!("{name}/a"), 7, b"a")]).await.unwrap();
    }
    let epoch = store.roster(&jid(ALICE)).await.unwrap().epoch;
    assert!(store.delete_account(&jid(ALICE)).await.unwrap());
    assert!(!store.delete_account(&jid(ALICE)).await.unwrap());
    assert!(store.credentials(&jid(ALICE)).await.unwrap().is_none());
    assert_eq!(sleepers(&**store).await, [BOB]);
    // Whoever gets the address next finds nothing.
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    assert_ne!(store.roster(&jid(ALICE)).await.unwrap().epoch, epoch);
    for (name, some) in [(ALICE, false), (BOB, true)] {
        let roster = store.roster(&jid(name)).await.unwrap();
        assert_eq!(!roster.items.is_empty(), some);
        assert_eq!(!roster.removed.is_empty(), some);
        assert_eq!(!roster.requests.is_empty(), some);
        assert_eq!(!ids(&**store, name).await.is_empty(), some);
        assert_eq!(!store.values(&jid(name), "m").await.unwrap().is_empty(), some);
    }
}

fn session(jid: &str, expires: u64, state: &[u8]) -> SavedSession {
    let expires = SystemTime::UNIX_EPOCH + Duration::from_micros(expires);
    SavedSession { jid: FullJid::new(jid).unwrap(), expires, state: state.to_vec() }
}

async fn taken(store: &dyn Store, users: &[&str]) -> Vec<SavedSession> {
    let users: Vec<_> = users.iter().map(|user| jid(user)).collect();
    let mut sessions = store.take_sessions(&users).await.unwrap();
    sessions.sort_by(|a, b| a.jid.as_str().cmp(b.jid.as_str()));
    sessions
}

async fn sleepers(store: &dyn Store) -> Vec<String> {
    let accounts = store.saved_accounts().await.unwrap();
    let mut accounts: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    accounts.sort();
    accounts
}

pub(crate) async fn sessions_are_kept_until_they_are_taken(store: &Arc<dyn Store>) {
    people(store).await;
    let store = &**store;
    assert!(sleepers(store).await.is_empty());
    let long = vec![0x5a; 3 << 20];
    let saved = [
        session("alice@x.example/a 'phone'", 1_790_000_000_123_456, b"\0<x/>\xff"),
        session("alice@x.example/balcony", 7, b""),
        session("bob@x.example/balcony", 9, &long),
        session("nobody@x.example/balcony", 9, b"x"),
    ];
    store.save_sessions(&saved).await.unwrap();
    let again = session("alice@x.example/balcony", 8, b"again");
    store.save_sessions(std::slice::from_ref(&again)).await.unwrap();
    assert_eq!(sleepers(store).await, [ALICE, BOB]);
    assert_eq!(taken(store, &[ALICE, "nobody@x.example"]).await, [saved[0].clone(), again]);
    assert_eq!(sleepers(store).await, [BOB]);
    assert_eq!(taken(store, &[ALICE, BOB]).await, [saved[2].clone()]);
    assert!(taken(store, &[ALICE, BOB]).await.is_empty());
    assert!(sleepers(store).await.is_empty());
}

pub(crate) async fn a15_another_password_ends_saved_sessions(store: &Arc<dyn Store>) {
    people(store).await;
    let saved = [session("alice@x.example/a", 7, b"a"), session("bob@x.example/b", 7, b"b")];
    store.save_sessions(&saved).await.unwrap();
    assert!(store.set_credentials(&jid(ALICE), &other_keys()).await.unwrap());
    let expected = [session("alice@x.example/a", 0, b"a"), saved[1].clone()];
    assert_eq!(taken(&**store, &[ALICE, BOB]).await, expected);
}

pub(crate) async fn a_roster_is_kept_as_it_was_put(store: &Arc<dyn Store>) {
    people(store).await;
    let item = RosterItem {
        name: Some("Carol \u{1F426}".into()),
        groups: vec!["Friends".into(), "a \"quoted\" one".into(), String::new()],
        subscription: Subscription::Both,
        ask: true,
        approved: true,
        version: 5,
        ..RosterItem::new(jid("carol@y.example"))
    };
    let plain = RosterItem { version: 6, ..RosterItem::new(jid("b@y.example")) };
    let put = [RosterChange::Put(item.clone()), RosterChange::Put(plain.clone())];
    store.change_roster(&jid(ALICE), &put).await.unwrap();
    let roster = store.roster(&jid(ALICE)).await.unwrap();
    assert_eq!(roster.items, [plain.clone(), item.clone()]);
    assert_eq!(roster.version, 6);

    let changed = RosterItem { subscription: Subscription::From, groups: Vec::new(), name: None, version: 7, ..item };
    let changes = [
        RosterChange::Put(changed.clone()),
        RosterChange::Remove(jid("b@y.example"), 8),
        RosterChange::Remove(jid("never@y.example"), 9),
    ];
    store.change_roster(&jid(ALICE), &changes).await.unwrap();
    let roster = store.roster(&jid(ALICE)).await.unwrap();
    assert_eq!(roster.items, [changed]);
    assert_eq!(roster.removed, [(jid("b@y.example"), 8), (jid("never@y.example"), 9)]);
    assert_eq!(roster.version, 9);

    let back = RosterItem { version: 10, ..plain };
    store.change_roster(&jid(ALICE), &[RosterChange::Put(back)]).await.unwrap();
    let roster = store.roster(&jid(ALICE)).await.unwrap();
    assert_eq!(roster.removed.len(), 2, "a removal stays known when the contact is back");
    let other = store.roster(&jid(BOB)).await.unwrap();
    assert!(other.items.is_empty());
    assert_ne!(other.epoch, roster.epoch);
}

pub(crate) async fn removals_are_remembered_up_to_a_thousand(store: &Arc<dyn Store>) {
    people(store).await;
    let removals: Vec<RosterChange> =
        (1..=1010).map(|version| RosterChange::Remove(jid(&format!("c{version}@y.example")), version)).collect();
    store.change_roster(&jid(ALICE), &removals).await.unwrap();
    let roster = store.roster(&jid(ALICE)).await.unwrap();
    assert_eq!(roster.removed.len(), 1000);
    assert_eq!(roster.removed[0], (jid("c11@y.example"), 11));
    assert_eq!(roster.version, 1010);
}

pub(crate) async fn requests_wait_until_they_are_answered(store: &Arc<dyn Store>) {
    people(store).await;
    let request = |name: &str, text: &str| RosterChange::Request(jid(name), text.into());
    let changes = [
        request("b@y.example", "<presence id='1'/>"),
        request("a@y.example", "<presence id='2'/>"),
        request("b@y.example", "<presence id='3'/>"),
    ];
    store.change_roster(&jid(ALICE), &changes).await.unwrap();
    let requests = store.roster(&jid(ALICE)).await.unwrap().requests;
    assert_eq!(requests[0], (jid("a@y.example"), b"<presence id='2'/>".to_vec()));
    assert_eq!(requests[1], (jid("b@y.example"), b"<presence id='3'/>".to_vec()));
    let answer = [RosterChange::Unrequest(jid("b@y.example"))];
    store.change_roster(&jid(ALICE), &answer).await.unwrap();
    assert_eq!(store.roster(&jid(ALICE)).await.unwrap().requests.len(), 1);
}

pub(crate) async fn nobodys_roster_is_empty_and_stays_so(store: &Arc<dyn Store>) {
    let changes = [RosterChange::Put(RosterItem::new(jid("c@y.example")))];
    store.change_roster(&jid(ALICE), &changes).await.unwrap();
    let roster = store.roster(&jid(ALICE)).await.unwrap();
    assert!(roster.items.is_empty() && roster.version == 0);
}

pub(crate) async fn a_tail_is_read_by_id_between_bounds(store: &Arc<dyn Store>) {
    people(store).await;
    let changes: Vec<TailChange> = [5, 3, 9, 1, 7].map(|id| append(ALICE, id)).into();
    store.commit(&changes).await.unwrap();
    store.commit(&[append(BOB, 4)]).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [1, 3, 5, 7, 9]);
    let part = store.tail(&jid(ALICE), 3, 7, 10).await.unwrap();
    assert_eq!(part, [entry(ALICE, 5), entry(ALICE, 7)]);
    let first = store.tail(&jid(ALICE), 0, u64::MAX, 2).await.unwrap();
    assert_eq!(first, [entry(ALICE, 1), entry(ALICE, 3)]);
    assert!(store.tail(&jid(ALICE), 0, u64::MAX, 0).await.unwrap().is_empty());
    assert!(store.tail(&jid(ALICE), u64::MAX, u64::MAX, 9).await.unwrap().is_empty());
    assert!(store.tail(&jid(ALICE), 9, 3, 9).await.unwrap().is_empty());
    assert!(ids(&**store, "nobody@x.example").await.is_empty());
    let bytes = [1, 3, 5, 7, 9].map(|id| entry(ALICE, id).stanza.len() as u64);
    let size = TailSize { messages: 5, bytes: bytes.iter().sum() };
    assert_eq!(store.tail_size(&jid(ALICE)).await.unwrap(), size);
    let nothing = store.tail_size(&jid("nobody@x.example")).await.unwrap();
    assert_eq!(nothing, TailSize::default());
}

pub(crate) async fn a_batch_is_applied_in_its_order(store: &Arc<dyn Store>) {
    people(store).await;
    store.commit(&[]).await.unwrap();
    let changes = [append(ALICE, 1), append(ALICE, 2), append(BOB, 3), remove(ALICE, 1)];
    store.commit(&changes).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [2]);
    assert_eq!(ids(&**store, BOB).await, [3]);
    // An id of another tail, and one that is not there, are left alone.
    let changes = [remove(ALICE, 2), append(ALICE, 2), remove(BOB, 2), remove(ALICE, 77)];
    store.commit(&changes).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [2]);
    assert_eq!(ids(&**store, BOB).await, [3]);
}

pub(crate) async fn an_append_for_a_deleted_account_is_passed_over(store: &Arc<dyn Store>) {
    people(store).await;
    store.delete_account(&jid(BOB)).await.unwrap();
    let changes = [append(BOB, 1), append(ALICE, 2), remove(BOB, 9), append(BOB, 3)];
    store.commit(&changes).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [2]);
    store.create_account(&jid(BOB), &keys()).await.unwrap();
    assert!(ids(&**store, BOB).await.is_empty());
}

pub(crate) async fn a_batch_that_comes_twice_is_stored_once(store: &Arc<dyn Store>) {
    people(store).await;
    let changes = [append(ALICE, 1), append(ALICE, 2), remove(ALICE, 1)];
    store.commit(&changes).await.unwrap();
    store.commit(&changes).await.unwrap();
    assert_eq!(ids(&**store, ALICE).await, [2]);
    let found = store.tail(&jid(ALICE), 0, 9, 9).await.unwrap();
    assert_eq!(found, [entry(ALICE, 2)]);
}

pub(crate) async fn thousands_of_changes_fit_in_a_batch(store: &Arc<dyn Store>) {
    people(store).await;
    let name = |id: u64| if id.is_multiple_of(3) { BOB } else { ALICE };
    let puts: Vec<TailChange> = (1..=5003).map(|id| append(name(id), id)).collect();
    store.commit(&puts).await.unwrap();
    let mut changes: Vec<TailChange> = (1..=4995).map(|id| remove(name(id), id)).collect();
    changes.extend((5004..=9001).map(|id| append(name(id), id)));
    store.commit(&changes).await.unwrap();
    let mut left: Vec<u64> = ids(&**store, ALICE).await;
    left.extend(ids(&**store, BOB).await);
    left.sort_unstable();
    assert_eq!(left, (4996..=9001).collect::<Vec<u64>>());
}

fn outgoing(id: u64) -> OutgoingEntry {
    OutgoingEntry {
        id,
        local: jid("x.example"),
        remote: jid(if id.is_multiple_of(2) { "far.example" } else { "bücher.example" }),
        stamp: SystemTime::UNIX_EPOCH + Duration::from_micros(1_790_000_000_000_001 + id % 1000),
        stanza: format!("<message xmlns='jabber:client' id='{id}'/>").into(),
    }
}

/// The ids of what waits for other servers.
async fn waiting(store: &Arc<dyn Store>) -> Vec<u64> {
    store.outgoing(0, usize::MAX).await.unwrap().iter().map(|entry| entry.id).collect()
}

pub(crate) async fn what_waits_for_other_servers_is_kept_until_it_is_sent(store: &Arc<dyn Store>) {
    people(store).await;
    let (send, sent) = (|id| TailChange::Send(outgoing(id)), |id| TailChange::Sent { id });
    assert!(waiting(store).await.is_empty());
    // With messages of people in one commit, in any order, and twice.
    store.commit(&[send(30), append(ALICE, 31), send(10), send(20)]).await.unwrap();
    store.commit(&[send(10), sent(40), send(50)]).await.unwrap();
    assert_eq!(store.outgoing(0, 9).await.unwrap(), [10, 20, 30, 50].map(outgoing));
    assert_eq!(store.outgoing(10, 2).await.unwrap(), [20, 30].map(outgoing));
    assert!(store.outgoing(50, 9).await.unwrap().is_empty() && store.outgoing(u64::MAX, 9).await.unwrap().is_empty());
    assert_eq!(ids(store.as_ref(), ALICE).await, [31]);
    store.commit(&[sent(20), sent(20), sent(7)]).await.unwrap();
    store.commit(&[send(60), sent(60), sent(10)]).await.unwrap();
    assert_eq!(waiting(store).await, [30, 50]);
    store.commit(&[sent(30), sent(50)]).await.unwrap();
    assert!(waiting(store).await.is_empty());
    assert_eq!(store.last_id().await.unwrap(), 60, "ids are not given out again");
    assert!(store.commit(&[send(u64::MAX)]).await.is_err());
    assert!(store.commit(&[sent(u64::MAX)]).await.is_err());
}

pub(crate) async fn t10_thousands_wait_for_other_servers_and_go(store: &Arc<dyn Store>) {
    let all: Vec<TailChange> = (1..=3000).map(|id| TailChange::Send(outgoing(id))).collect();
    store.commit(&all).await.unwrap();
    assert_eq!(waiting(store).await, (1..=3000).collect::<Vec<u64>>());
    let gone: Vec<TailChange> = (1..=3000).filter(|id| id % 3 != 0).map(|id| TailChange::Sent { id }).collect();
    store.commit(&gone).await.unwrap();
    assert_eq!(waiting(store).await, (1..=1000).map(|id| id * 3).collect::<Vec<u64>>());
}

pub(crate) async fn the_last_id_outlives_its_entry(store: &Arc<dyn Store>) {
    people(store).await;
    assert_eq!(store.last_id().await.unwrap(), 0);
    store.commit(&[append(ALICE, 40), append(BOB, 39)]).await.unwrap();
    store.commit(&[remove(ALICE, 40), remove(BOB, 39)]).await.unwrap();
    assert_eq!(store.last_id().await.unwrap(), 40);
    store.commit(&[append(ALICE, 50), remove(ALICE, 50)]).await.unwrap();
    assert_eq!(store.last_id().await.unwrap(), 50);
    store.commit(&[append(ALICE, 45)]).await.unwrap();
    assert_eq!(store.last_id().await.unwrap(), 50);
    assert!(store.commit(&[append(ALICE, u64::MAX)]).await.is_err());
    assert_eq!(store.last_id().await.unwrap(), 50);
}

pub(crate) async fn values_are_set_and_removed_together(store: &Arc<dyn Store>) {
    let owner = jid("room@conference.x.example");
    let set = |key: &str, value: &[u8]| (key.to_owned(), Some(value.to_vec()));
    let big = vec![7; 300_000];
    let changes = [set("b", b"2"), set("a", b""), set("Z", &big), set("b", b"3")];
    store.set_values(&owner, "muc", &changes).await.unwrap();
    store.set_values(&owner, "muc2", &[set("a", b"other")]).await.unwrap();
    let found = store.values(&owner, "muc").await.unwrap();
    let wanted = [("Z".to_owned(), big), ("a".to_owned(), Vec::new()), ("b".to_owned(), b"3".to_vec())];
    assert_eq!(found, wanted);
    let changes = [("a".to_owned(), None), ("never".to_owned(), None), set("c", b"4")];
    store.set_values(&owner, "muc", &changes).await.unwrap();
    assert_eq!(store.value(&owner, "muc", "a").await.unwrap(), None);
    assert_eq!(store.value(&owner, "muc", "c").await.unwrap(), Some(b"4".to_vec()));
    assert_eq!(store.value(&owner, "muc2", "a").await.unwrap(), Some(b"other".to_vec()));
    assert_eq!(store.value(&jid("x.example"), "muc2", "a").await.unwrap(), None);
    store.set_values(&owner, "muc", &[]).await.unwrap();
}

pub(crate) async fn d5_quotes_and_statements_are_text_like_any_other(store: &Arc<dyn Store>) {
    people(store).await;
    for text in ["'); DROP TABLE accounts; --", "\"", "a' OR 'a'='a", "%_\\", "$1", "?1"] {
        let value = (text.to_owned(), Some(text.as_bytes().to_vec()));
        store.set_values(&jid(ALICE), text, &[value]).await.unwrap();
        let found = store.value(&jid(ALICE), text, text).await.unwrap();
        assert_eq!(found, Some(text.as_bytes().to_vec()));
        let item = RosterItem {
            name: Some(text.to_owned()),
            groups: vec![text.to_owned()],
            ..RosterItem::new(jid("c@y.example"))
        };
        store.change_roster(&jid(ALICE), &[RosterChange::Put(item.clone())]).await.unwrap();
        assert_eq!(store.roster(&jid(ALICE)).await.unwrap().items, [item]);
        let mut message = entry(ALICE, 1);
        message.resource = Some(text.to_owned());
        message.stanza = text.to_owned().into();
        let record = Record { entry: message.clone(), waits: true, archived: None, digest: None };
        store.commit(&[TailChange::Append(record)]).await.unwrap();
        assert_eq!(store.tail(&jid(ALICE), 0, 9, 9).await.unwrap(), [message]);
    }
    assert!(store.account_exists(&jid(BOB)).await.unwrap());
    assert_eq!(store.values(&jid(ALICE), "a' OR 'a'='a").await.unwrap().len(), 1);
}

pub(crate) async fn commits_and_reads_go_on_side_by_side(store: &Arc<dyn Store>) {
    people(store).await;
    let tasks: Vec<_> = (0..16_u64)
        .map(|task| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for step in 0..8 {
                    let id = 2 + task * 100 + step * 2;
                    store.commit(&[append(ALICE, id), append(BOB, id + 1)]).await.unwrap();
                    assert!(ids(&*store, ALICE).await.contains(&id));
                    store.commit(&[remove(BOB, id + 1)]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(ids(&**store, ALICE).await.len(), 128);
    assert!(ids(&**store, BOB).await.is_empty());
    assert_eq!(store.last_id().await.unwrap(), 1517);
}

pub(crate) async fn random_batches_come_to_what_they_come_to_in_memory(store: &Arc<dyn Store>) {
    let model = MemoryStore::new();
    let names: Vec<String> = (0..5).map(|n| format!("user{n}@x.example")).collect();
    // The last one has no account.
    for name in names.iter().take(4) {
        store.create_account(&jid(name), &keys()).await.unwrap();
        model.create_account(&jid(name), &keys()).await.unwrap();
    }
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut used = BTreeSet::new();
    for _ in 0..40 {
        let mut changes = Vec::new();
        for _ in 0..random.below(200) {
            let of = random.below(5);
            let name = &names[usize::try_from(of).unwrap()];
            // An id is one account's for ever.
            let id = 1 + random.below(150) * 5 + of;
            used.insert(id);
            changes.push(match random.below(2) {
                0 => append(name, id),
                _ => remove(name, id),
            });
        }
        store.commit(&changes).await.unwrap();
        rookery_core::store::TailStore::commit(&model, &changes).await.unwrap();
        for name in &names {
            assert_eq!(ids(&**store, name).await, ids(&model, name).await);
        }
    }
    assert_eq!(store.last_id().await.unwrap(), *used.last().unwrap());
}
