//! A database that an older release made is opened by this one: whoever was there, their contacts, what waits for them, their
//! archives and sessions and what the modules keep are still there, under the same ids.

use rookery_core::store::{ArchiveQuery, Archived, Record, Seen, Store, TailChange, TailEntry};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, SqliteConnection, query};

use super::postgres::{database, wanted};
use super::rooms::{CAVE, SERVICE, all, create, said, say};
use super::{append, entry, ids, jid, keys};
use crate::testing::TempDir;
use crate::{Backend, Durability, StoreConf, migrations, open};

const ALICE: &str = "alice@x.example";
const BOB: &str = "bob@x.example";

/// What the first release gave out as ids: microseconds since 1970.
const FIRST: u64 = 1_790_000_000_000_000;
/// The same moment in the ids of later releases.
const LATER: u64 = FIRST << 10;
/// Messages that wait for each of the two, in turns.
const EACH: u64 = 700;

/// A message of Alice's archive, with its id and its text.
const SQLITE_MESSAGE: &str = "INSERT INTO messages (id, epoch, account, conversation, sent, counts, stamp, stanza) \
    VALUES ($1, 1, 1, 1, 0, 1, 5, $2)";
const POSTGRES_MESSAGE: &str = "INSERT INTO messages (account, id, conversation, sent, counts, stamp, stanza) \
    VALUES (1, $1, 1, false, true, 5, $2)";

/// What Alice knows a message by.
const SQLITE_SEEN: &str = "INSERT INTO seen (epoch, account, id, digest) VALUES (1, 1, $1, 9)";
const POSTGRES_SEEN: &str = "INSERT INTO seen (account, id, digest) VALUES (1, $1, 9)";

fn column(id: u64) -> i64 {
    i64::try_from(id).unwrap()
}

/// The first steps alone.
fn first(count: usize, all: &Migrator) -> Migrator {
    Migrator::with_migrations(all.iter().take(count).cloned().collect())
}

/// Fills a database of the first release, as that wrote it.
macro_rules! fill {
    ($on:ident) => {
        let keys = keys();
        for (number, account) in [(1_i64, ALICE), (2, BOB)] {
            query(
                "INSERT INTO accounts (jid, domain, created, sha256_salt, sha256_iterations, sha256_stored_key, \
                 sha256_server_key, sha1_salt, sha1_iterations, sha1_stored_key, sha1_server_key) \
                 VALUES ($1, 'x.example', 1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(account)
            .bind(&keys.sha256.salt)
            .bind(i64::from(keys.sha256.iterations))
            .bind(keys.sha256.stored_key.expose())
            .bind(keys.sha256.server_key.expose())
            .bind(&keys.sha1.salt)
            .bind(i64::from(keys.sha1.iterations))
            .bind(keys.sha1.stored_key.expose())
            .bind(keys.sha1.server_key.expose())
            .execute(&mut $on)
            .await
            .unwrap();
            query(
                "INSERT INTO roster_items (account, jid, name, contact_groups, subscription, ask, approved, version) \
                 VALUES ($1, 'nurse@x.example', 'Nurse', '[\"House\"]', 'both', $2, $2, 7)",
            )
            .bind(number)
            .bind(false)
            .execute(&mut $on)
            .await
            .unwrap();
            query("INSERT INTO roster_removed (account, jid, version) VALUES ($1, 'paris@x.example', 8)")
                .bind(number)
                .execute(&mut $on)
                .await
                .unwrap();
            query("INSERT INTO roster_requests (account, jid, stanza) VALUES ($1, 'tybalt@x.example', $2)")
                .bind(number)
                .bind(&b"<presence type='subscribe'/>"[..])
                .execute(&mut $on)
                .await
                .unwrap();
            query("INSERT INTO key_values (owner, module, key, value) VALUES ($1, 'blocking', 'list', $2)")
                .bind(account)
                .bind(&b"x"[..])
                .execute(&mut $on)
                .await
                .unwrap();
            for place in 0..EACH {
                let waiting = entry(account, FIRST + 2 * place + number.unsigned_abs());
                query("INSERT INTO tail (account, id, resource, stamp, stanza) VALUES ($1, $2, $3, $4, $5)")
                    .bind(number)
                    .bind(column(waiting.id))
                    .bind(waiting.resource)
                    .bind(crate::codec::to_stamp(waiting.stamp))
                    .bind(&waiting.stanza[..])
                    .execute(&mut $on)
                    .await
                    .unwrap();
            }
        }
        query("UPDATE tail_marks SET id = $1 WHERE slot = 0")
            .bind(column(FIRST + 10 * EACH))
            .execute(&mut $on)
            .await
            .unwrap();
    };
}

/// A file of the first release with all that it held, brought up to this step by those that came later.
async fn file(steps: usize) -> (TempDir, StoreConf, SqliteConnection) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("rookery.db");
    let mut on = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
    first(1, &migrations::sqlite()).run_direct(None, &mut on, false).await.unwrap();
    fill!(on);
    first(steps, &migrations::sqlite()).run_direct(None, &mut on, false).await.unwrap();
    let conf = StoreConf { backend: Backend::Sqlite { path }, durability: Durability::Full };
    (directory, conf, on)
}

/// The same on PostgreSQL; nothing when that is not wanted.
async fn postgres(steps: usize) -> Option<(StoreConf, PgConnection)> {
    if !wanted() {
        return None;
    }
    let url = database().await;
    let mut on = PgConnection::connect(&url).await.unwrap();
    first(1, &migrations::postgres()).run_direct(None, &mut on, false).await.unwrap();
    fill!(on);
    first(steps, &migrations::postgres()).run_direct(None, &mut on, false).await.unwrap();
    let conf = StoreConf { backend: Backend::Postgres { url, connections: 4 }, durability: Durability::Full };
    Some((conf, on))
}

fn entries(account: &str, first: u64) -> Vec<TailEntry> {
    (0..EACH).map(|place| entry(account, first + 2 * place)).collect()
}

async fn check(store: &dyn Store) {
    for (account, first) in [(ALICE, FIRST + 1), (BOB, FIRST + 2)] {
        let user = jid(account);
        assert!(store.credentials(&user).await.unwrap().is_some());
        assert_eq!(store.tail(&user, 0, u64::MAX, usize::MAX).await.unwrap(), entries(account, first));
        let size = store.tail_size(&user).await.unwrap();
        let bytes: usize = entries(account, first).iter().map(|entry| entry.stanza.len()).sum();
        assert_eq!((size.messages, size.bytes), (EACH, bytes as u64));
        let roster = store.roster(&user).await.unwrap();
        assert_eq!((roster.items.len(), roster.removed.len(), roster.requests.len(), roster.version), (1, 1, 1, 8));
        assert_eq!(store.value(&user, "blocking", "list").await.unwrap().unwrap(), b"x");
        assert_eq!(store.archive_ends(&user).await.unwrap(), None, "what waits alone is in no archive");
    }
    assert_eq!(store.last_id().await.unwrap(), FIRST + 10 * EACH);
    // Old and new ones wait, are delivered and go side by side.
    let archived = Archived { with: jid(BOB), resource: None, sent: false, counts: true, message_id: None };
    let record = Record { entry: entry(ALICE, LATER), waits: true, archived: Some(archived), digest: Some(7) };
    let delivered = |id| TailChange::Deliver { account: jid(ALICE), id };
    store.commit(&[TailChange::Append(record), append(BOB, LATER + 1), delivered(FIRST + 1)]).await.unwrap();
    let waiting = ids(store, ALICE).await;
    assert_eq!((waiting.len() as u64, waiting[0], waiting.last()), (EACH, FIRST + 3, Some(&LATER)));
    let ends = store.archive_ends(&jid(ALICE)).await.unwrap().unwrap();
    assert_eq!((ends.start.id, ends.end.id), (LATER, LATER));
    assert!(store.delete_account(&jid(ALICE)).await.unwrap());
    while store.purge_deleted(100).await.unwrap() {}
    assert_eq!(ids(store, BOB).await.len() as u64, EACH + 1);
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
    assert!(ids(store, ALICE).await.is_empty());
}

#[tokio::test]
async fn t11_a_file_of_the_first_release_loses_nothing() {
    let (_directory, conf, on) = file(1).await;
    on.close().await.unwrap();
    let store = open(&conf).await.unwrap();
    check(&*store).await;
    store.close().await;
    assert_eq!(ids(&*open(&conf).await.unwrap(), BOB).await.len() as u64, EACH + 1);
}

#[tokio::test]
async fn t11_a_postgres_database_of_the_first_release_loses_nothing() {
    let Some((conf, on)) = postgres(1).await else { return };
    on.close().await.unwrap();
    check(&*open(&conf).await.unwrap()).await;
}

/// Adds what the release before rooms had besides: archived messages, one that waits, and a saved session.
macro_rules! archive {
    ($on:ident, $message:ident, $seen:ident) => {
        query($seen).bind(column(LATER)).execute(&mut $on).await.unwrap();
        query("INSERT INTO conversations (account, jid) VALUES (1, $1)").bind(BOB).execute(&mut $on).await.unwrap();
        for id in [LATER, LATER + 1] {
            query($message).bind(column(id)).bind(&b"<a/>"[..]).execute(&mut $on).await.unwrap();
        }
        query("INSERT INTO tail (account, id, alone, size, resource) VALUES (1, $1, $2, 4, NULL)")
            .bind(column(LATER))
            .bind(false)
            .execute(&mut $on)
            .await
            .unwrap();
        query("INSERT INTO sessions (account, resource, expires, state) VALUES (1, 'balcony', 7, $1)")
            .bind(&b"state"[..])
            .execute(&mut $on)
            .await
            .unwrap();
        query("UPDATE tail_marks SET id = $1 WHERE slot = 0").bind(column(LATER + 2)).execute(&mut $on).await.unwrap();
    };
}

async fn check_rooms(store: &dyn Store) {
    let alice = jid(ALICE);
    let seen = || async { store.seen(&alice, 0, u64::MAX, 9).await.unwrap() };
    assert_eq!(seen().await, [Seen { id: LATER, digest: 9 }], "what was known is known");
    let page = store.archive_page(&alice, &all()).await.unwrap().unwrap();
    let ids: Vec<u64> = page.messages.iter().map(|message| message.id).collect();
    assert_eq!(ids, [LATER, LATER + 1]);
    assert_eq!(store.tail(&alice, FIRST << 9, u64::MAX, 9).await.unwrap().len(), 1);
    assert_eq!(store.take_sessions(std::slice::from_ref(&alice)).await.unwrap().len(), 1);
    assert_eq!(store.last_id().await.unwrap(), LATER + 2);
    assert!(store.rooms(&jid(SERVICE), None, 9).await.unwrap().is_empty());
    let archived = Archived { with: jid(BOB), resource: None, sent: false, counts: true, message_id: None };
    let again = Record { entry: entry(ALICE, LATER), waits: true, archived: Some(archived), digest: Some(8) };
    store.commit(&[TailChange::Append(again)]).await.unwrap();
    assert_eq!(seen().await, [Seen { id: LATER, digest: 8 }], "and once, when it is written again");
    store.commit(&[create(CAVE, 1), say(CAVE, said(LATER + 3, "witch", "hi"))]).await.unwrap();
    assert_eq!(store.archive_page(&jid(CAVE), &all()).await.unwrap().unwrap().count, Some(1));
    assert_eq!(store.archive_page(&alice, &all()).await.unwrap().unwrap().count, Some(2));
}

#[tokio::test]
async fn t11_a_file_of_the_release_before_rooms_loses_nothing() {
    let (_directory, conf, mut on) = file(3).await;
    archive!(on, SQLITE_MESSAGE, SQLITE_SEEN);
    on.close().await.unwrap();
    check_rooms(&*open(&conf).await.unwrap()).await;
}

#[tokio::test]
async fn t11_a_postgres_database_of_the_release_before_rooms_loses_nothing() {
    let Some((conf, mut on)) = postgres(3).await else { return };
    archive!(on, POSTGRES_MESSAGE, POSTGRES_SEEN);
    on.close().await.unwrap();
    check_rooms(&*open(&conf).await.unwrap()).await;
}

/// What a release that indexed every text by itself had: an archive, of which one text was indexed and one not.
macro_rules! index {
    ($on:ident, $message:ident) => {
        query("INSERT INTO conversations (account, jid) VALUES (1, $1)").bind(BOB).execute(&mut $on).await.unwrap();
        for (id, body) in (LATER..).zip(["one needle", "two needle", "hay"]) {
            query($message)
                .bind(column(id))
                .bind(format!("<message xmlns='jabber:client'><body>{body}</body></message>").as_bytes())
                .execute(&mut $on)
                .await
                .unwrap();
        }
        query("INSERT INTO unindexed (id, account, body) VALUES ($1, 1, 'two needle')")
            .bind(column(LATER + 1))
            .execute(&mut $on)
            .await
            .unwrap();
        query("UPDATE tail_marks SET id = $1 WHERE slot = 0").bind(column(LATER + 2)).execute(&mut $on).await.unwrap();
    };
}

async fn check_words(store: &dyn Store) {
    let alice = jid(ALICE);
    let find = ArchiveQuery { words: Some("needle".to_owned()), ..all() };
    let count = || async { store.archive_page(&alice, &find).await.unwrap().unwrap().count };
    assert_eq!(count().await, Some(0), "the index is made anew");
    while store.index_words(&alice, 2).await.unwrap() {}
    assert_eq!(count().await, Some(2));
}

#[tokio::test]
async fn t11_a_file_whose_texts_were_all_indexed_finds_them_by_the_first_search() {
    let (_directory, conf, mut on) = file(5).await;
    index!(on, SQLITE_MESSAGE);
    for (id, terms) in [(LATER, "1_one 1_needle"), (LATER + 2, "1_hay 1_needle")] {
        let insert = "INSERT INTO words (rowid, terms) VALUES ($1, $2)";
        query(insert).bind(column(id)).bind(terms).execute(&mut on).await.unwrap();
    }
    on.close().await.unwrap();
    check_words(&*open(&conf).await.unwrap()).await;
}

#[tokio::test]
async fn t11_a_postgres_database_whose_texts_were_all_indexed_finds_them_by_the_first_search() {
    let Some((conf, mut on)) = postgres(5).await else { return };
    index!(on, POSTGRES_MESSAGE);
    for (id, terms) in [(LATER, "'1_one' '1_needle'"), (LATER + 2, "'1_hay' '1_needle'")] {
        let insert = "INSERT INTO words (account, id, terms) VALUES (1, $1, CAST($2 AS tsvector))";
        query(insert).bind(column(id)).bind(terms).execute(&mut on).await.unwrap();
    }
    on.close().await.unwrap();
    check_words(&*open(&conf).await.unwrap()).await;
}

/// What the release had that kept all digests by themselves.
const BEFORE_DIGESTS: (usize, usize) = (6, 7);

async fn check_digests(store: &dyn Store) {
    let alice = jid(ALICE);
    let seen = || async { store.seen(&alice, 0, u64::MAX, 9).await.unwrap() };
    assert_eq!(
        seen().await,
        [Seen { id: LATER + 2, digest: 9 }, Seen { id: LATER + 1, digest: 9 }, Seen { id: LATER, digest: 9 }]
    );
    assert!(!store.expire_archive(&alice, LATER, 9).await.unwrap());
    assert_eq!(seen().await.len(), 3, "what leaves the archive is known all the same");
    let forget = |id| TailChange::Forget { account: jid(ALICE), id };
    store.commit(&[forget(LATER), forget(LATER + 1)]).await.unwrap();
    assert_eq!(seen().await, [Seen { id: LATER + 2, digest: 9 }]);
    store.commit(&[TailChange::Refuse { account: jid(ALICE), id: LATER + 2 }]).await.unwrap();
    assert_eq!(seen().await, []);
    assert_eq!(store.archive_page(&alice, &all()).await.unwrap().unwrap().count, Some(1));
}

macro_rules! known {
    ($on:ident, $message:literal, $seen:literal) => {
        query("INSERT INTO conversations (account, jid) VALUES (1, $1)").bind(BOB).execute(&mut $on).await.unwrap();
        for id in [LATER, LATER + 1, LATER + 2] {
            query($message).bind(column(id)).bind(&b"<a/>"[..]).execute(&mut $on).await.unwrap();
            query($seen).bind(column(id)).execute(&mut $on).await.unwrap();
        }
        query("UPDATE tail_marks SET id = $1 WHERE slot = 0").bind(column(LATER + 2)).execute(&mut $on).await.unwrap();
    };
}

#[tokio::test]
async fn t11_a_file_that_kept_all_digests_by_themselves_forgets_none_and_each() {
    let (_directory, conf, mut on) = file(BEFORE_DIGESTS.0).await;
    known!(
        on,
        "INSERT INTO messages (id, epoch, account, conversation, sent, counts, stamp, stanza) VALUES ($1, 1, 1, 1, 0, 1, 5, $2)",
        "INSERT INTO seen (epoch, account, id, digest) VALUES (1, 1, $1, 9)"
    );
    on.close().await.unwrap();
    check_digests(&*open(&conf).await.unwrap()).await;
}

#[tokio::test]
async fn t11_a_postgres_database_that_kept_all_digests_by_themselves_forgets_none_and_each() {
    let Some((conf, mut on)) = postgres(BEFORE_DIGESTS.1).await else { return };
    known!(
        on,
        "INSERT INTO messages (epoch, account, id, conversation, sent, counts, stamp, stanza) \
         VALUES (1, 1, $1, 1, false, true, 5, $2)",
        "INSERT INTO seen (epoch, account, id, digest) VALUES (1, 1, $1, 9)"
    );
    on.close().await.unwrap();
    check_digests(&*open(&conf).await.unwrap()).await;
}
