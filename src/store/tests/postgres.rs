//! The suite on PostgreSQL, and what only a server can suffer. Tests that stop or kill the server have one of their own.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rookery_core::store::{AccountStore, ArchiveStore, Store, StoreError, TailChange, TailStore};
use sqlx::{Connection, Executor, PgConnection, query_scalar};
use tokio::task::spawn_blocking;

use super::archive::archive_suite;
use super::archive::{BOB, all, got, seconds};
use super::rooms::{come_and_go, rooms_suite};
use super::suite::suite;
use super::{Fixture, LogCapture, append, ids, jid, keys, remove};
use crate::postgres::PostgresStore;
use crate::testing::{Fsync, POSTGRES_PASSWORD, PostgresServer, postgres_wanted};
use crate::{Backend, DEADLINE, Durability, OpenError, StoreConf, open};

const ALICE: &str = "alice@x.example";

/// The server that the tests share; it ends with the process.
static SERVER: OnceLock<PostgresServer> = OnceLock::new();

pub(super) fn wanted() -> bool {
    let wanted = postgres_wanted();
    if !wanted {
        eprintln!("not run: ROOKERY_TEST_POSTGRES=off");
    }
    wanted
}

async fn server() -> &'static PostgresServer {
    let start = || SERVER.get_or_init(|| PostgresServer::start(Fsync::Off).unwrap());
    spawn_blocking(start).await.unwrap()
}

async fn own_server() -> Arc<PostgresServer> {
    let start = || Arc::new(PostgresServer::start(Fsync::Off).unwrap());
    spawn_blocking(start).await.unwrap()
}

pub(super) async fn database() -> String {
    let server = server().await;
    spawn_blocking(|| server.create_database().unwrap()).await.unwrap()
}

async fn order(
    server: &Arc<PostgresServer>,
    order: impl FnOnce(&PostgresServer) -> Result<(), String> + Send + 'static,
) {
    let server = Arc::clone(server);
    spawn_blocking(move || order(&server).unwrap()).await.unwrap();
}

fn conf(url: &str) -> StoreConf {
    StoreConf { backend: Backend::Postgres { url: url.to_owned(), connections: 4 }, durability: Durability::Full }
}

async fn fixture() -> Option<Fixture> {
    if !wanted() {
        return None;
    }
    Some(Fixture { store: open(&conf(&database().await)).await.unwrap(), _kept: Box::new(()) })
}

suite!(fixture);
archive_suite!(fixture);
rooms_suite!(fixture);

/// A store with the inside in reach.
pub(crate) async fn inside() -> Option<PostgresStore> {
    if !wanted() {
        return None;
    }
    Some(PostgresStore::open(&database().await, 2, Durability::Full, DEADLINE).await.unwrap())
}

async fn refusal(url: &str) -> OpenError {
    match open(&conf(url)).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn t1_what_is_committed_outlives_a_killed_server() {
    if !wanted() {
        return;
    }
    let server = own_server().await;
    let url = server.create_database().unwrap();
    let store = open(&conf(&url)).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    for id in 1..=50 {
        store.commit(&[append(ALICE, id)]).await.unwrap();
    }
    store.commit(&[remove(ALICE, 50)]).await.unwrap();
    order(&server, PostgresServer::kill).await;
    order(&server, PostgresServer::start_again).await;
    // The store finds its way back by itself.
    assert_eq!(ids(&*store, ALICE).await, (1..50).collect::<Vec<u64>>());
    assert_eq!(store.last_id().await.unwrap(), 50);
    store.commit(&[append(ALICE, 51)]).await.unwrap();
}

#[tokio::test]
async fn t7_a_server_that_hangs_is_given_up_on_and_found_again() {
    if !wanted() {
        return;
    }
    let server = own_server().await;
    let url = server.create_database().unwrap();
    let deadline = Duration::from_secs(4);
    let log = LogCapture::start();
    let store = PostgresStore::open(&url, 2, Durability::Full, deadline).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    order(&server, PostgresServer::pause).await;
    for id in 1..3 {
        let start = Instant::now();
        let (batch, alice) = ([append(ALICE, id)], jid(ALICE));
        let (first, second, third) =
            tokio::join!(store.commit(&batch), store.tail_size(&alice), store.account_exists(&alice),);
        for result in [first.err(), second.err(), third.err()] {
            assert!(matches!(result, Some(StoreError::Unavailable(_))), "{result:?}");
        }
        assert!(start.elapsed() < deadline * 2);
    }
    order(&server, PostgresServer::resume).await;
    store.commit(&[append(ALICE, 2), append(ALICE, 3)]).await.unwrap();
    assert!(store.account_exists(&jid(ALICE)).await.unwrap());
    let there = ids(&store, ALICE).await;
    assert!(there.ends_with(&[2, 3]), "{there:?}");
    let lines = log.take();
    let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!((count("ERROR"), count("works again")), (2, 2), "{lines:?}");
}

#[tokio::test]
async fn t7_a_restart_of_the_server_costs_only_time() {
    if !wanted() {
        return;
    }
    let server = own_server().await;
    let url = server.create_database().unwrap();
    let store = open(&conf(&url)).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let calls = async {
        for id in 1..=200 {
            store.commit(&[append(ALICE, id)]).await.unwrap();
            assert!(store.account_exists(&jid(ALICE)).await.unwrap());
        }
    };
    let restart = async {
        order(&server, PostgresServer::stop).await;
        order(&server, PostgresServer::start_again).await;
    };
    tokio::join!(calls, restart);
    assert_eq!(ids(&*store, ALICE).await, (1..=200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn t7_a_server_that_is_down_is_named_in_the_error() {
    if !wanted() {
        return;
    }
    let server = own_server().await;
    let url = server.create_database().unwrap();
    let deadline = Duration::from_secs(3);
    let store = PostgresStore::open(&url, 2, Durability::Full, deadline).await.unwrap();
    order(&server, PostgresServer::stop).await;
    let error = store.last_id().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let refused = PostgresStore::open(&url, 2, Durability::Full, deadline).await;
    let error = refused.err().unwrap();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn deleting_accounts_does_not_disturb_commits() {
    if !wanted() {
        return;
    }
    let store = open(&conf(&database().await)).await.unwrap();
    let bob = jid("bob@x.example");
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let delete = async {
        for _ in 0..40 {
            store.create_account(&bob, &keys()).await.unwrap();
            assert!(store.delete_account(&bob).await.unwrap());
        }
    };
    let commit = async {
        for id in 1..=300 {
            let changes = [append("bob@x.example", id + 1000), append(ALICE, id)];
            store.commit(&changes).await.unwrap();
        }
    };
    tokio::join!(delete, commit);
    assert_eq!(ids(&*store, ALICE).await.len(), 300);
}

#[tokio::test]
async fn t2_durability_is_what_the_conf_says_whatever_the_server_does() {
    if !wanted() {
        return;
    }
    let url = database().await;
    let mut admin = PgConnection::connect(&url).await.unwrap();
    for (server, durability, wanted) in [
        ("off", Durability::Full, "on"),
        ("on", Durability::Full, "on"),
        ("remote_apply", Durability::Full, "remote_apply"),
        ("on", Durability::Relaxed, "off"),
    ] {
        let name: String = query_scalar("SELECT current_database()::text").fetch_one(&mut admin).await.unwrap();
        let change = format!("ALTER DATABASE {name} SET synchronous_commit = {server}");
        admin.execute(sqlx::AssertSqlSafe(change)).await.unwrap();
        let store = PostgresStore::open(&url, 2, durability, DEADLINE).await.unwrap();
        let found: String = query_scalar("SHOW synchronous_commit").fetch_one(&store.pool).await.unwrap();
        assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    if !wanted() {
        return;
    }
    let url = database().await;
    open(&conf(&url)).await.unwrap().close().await;
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', true, '\\x00', 0)";
    admin.execute(newer).await.unwrap();
    let error = refusal(&url).await;
    assert!(matches!(error, OpenError::Newer { found: 9999, .. }), "{error:?}");
}

#[tokio::test]
async fn a21_what_is_wrong_with_a_url_is_said_without_the_password() {
    for url in [
        "mysql://rookery:canary@localhost/x",
        "postgres://rookery:canary@localhost:port/x",
        "postgres://rookery:canary@[x/x",
        "postgres://rookery:canary@localhost/x?sslmode=maybe",
        // Nobody listens there.
        "postgres://rookery:canary@127.0.0.1:1/x",
        "postgres://rookery:canary@localhost/x?host=/nowhere",
    ] {
        let error = refusal(url).await;
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary"), "{text}");
        assert!(matches!(error, OpenError::Url { .. } | OpenError::Unreachable { .. }), "{text}");
    }
    if !wanted() {
        return;
    }
    let log = LogCapture::start();
    let url = server().await.url("test_none", "canary");
    let error = refusal(&url).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
    let url = database().await;
    let nowhere = url.replace("/test_", "/none_");
    let error = refusal(&nowhere).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
    let text = format!("{error} {error:?} {:?}", log.take());
    assert!(!text.contains("canary") && !text.contains(POSTGRES_PASSWORD), "{text}");
}

#[tokio::test]
async fn the_words_of_an_archive_go_with_it() {
    let Some(store) = inside().await else { return };
    come_and_go(&store).await;
    for table in ["words", "searched", "messages"] {
        let left: i64 = query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(&store.pool)
            .await
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

/// A commit that a killed server had sent is finished by PostgreSQL all the same, whenever it comes to it.
#[tokio::test]
async fn t1_a_server_reads_nothing_before_the_one_before_has_ended() {
    if !wanted() {
        return;
    }
    let url = database().await;
    let before = PostgresStore::open(&url, 2, Durability::Full, DEADLINE).await.unwrap();
    let mut late = before.pool.acquire().await.unwrap().detach();
    before.close().await;
    late.execute("BEGIN; INSERT INTO key_values VALUES ('x.example', 'late', 'key', '\\x01')").await.unwrap();
    let log = LogCapture::start();
    let end = async {
        while !log.take().iter().any(|line| line.contains("waiting for the connections of another server to end")) {
            tokio::task::yield_now().await;
        }
        late.execute("COMMIT").await.unwrap();
        late.close().await.unwrap();
    };
    let both = async { tokio::join!(PostgresStore::open(&url, 2, Durability::Full, DEADLINE), end) };
    let (store, ()) = tokio::time::timeout(DEADLINE, both).await.expect("it waits, and says so");
    let store = store.unwrap();
    let value: Vec<u8> =
        query_scalar("SELECT value FROM key_values WHERE module = 'late'").fetch_one(&store.pool).await.unwrap();
    assert_eq!(value, [1]);
}

#[tokio::test]
async fn a_database_has_one_server() {
    if !wanted() {
        return;
    }
    let (url, deadline) = (database().await, Duration::from_millis(500));
    let first = PostgresStore::open(&url, 2, Durability::Full, DEADLINE).await.unwrap();
    // Each of its connections counts, those too that come later.
    let all = (first.pool.acquire().await.unwrap(), first.pool.acquire().await.unwrap());
    let held = "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut admin = PgConnection::connect(&url).await.unwrap();
    assert_eq!(query_scalar::<_, i64>(held).fetch_one(&mut admin).await.unwrap(), 3);

    let second = PostgresStore::open(&url, 2, Durability::Full, deadline).await.err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second:?}");
    let text = second.to_string();
    assert!(text.contains("is in use by rookery on the same machine: a server has a database for itself"), "{text}");

    // An admin may look all the same, and the server that is there is not disturbed.
    assert!(crate::look(&conf(&url)).await.unwrap());
    // What the pool has let go of does not give the database away.
    drop(all);
    first.pool.close().await;
    assert!(PostgresStore::open(&url, 2, Durability::Full, deadline).await.is_err());
    first.close().await;
    assert!(!crate::look(&conf(&url)).await.unwrap());
    PostgresStore::open(&url, 2, Durability::Full, deadline).await.unwrap();
}

/// A server that was away, for a broken network perhaps, while another one was started in its place.
#[tokio::test]
async fn a_server_whose_database_another_one_has_had_meanwhile_does_not_write_to_it() {
    if !wanted() {
        return;
    }
    let (url, deadline) = (database().await, Duration::from_secs(1));
    let old = PostgresStore::open(&url, 2, Durability::Full, deadline).await.unwrap();
    old.create_account(&jid(ALICE), &keys()).await.unwrap();
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    admin.execute(cut).await.unwrap();
    let new = PostgresStore::open(&url, 2, Durability::Full, DEADLINE).await.unwrap();
    let log = LogCapture::start();
    let error = old.commit(&[append(ALICE, 1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let lines = log.take();
    assert!(lines.iter().any(|line| line.contains("another server has had the database meanwhile")), "{lines:?}");
    new.commit(&[append(ALICE, 2)]).await.unwrap();
    assert_eq!(ids(&new, ALICE).await, [2]);
}

/// PostgreSQL may be busy with a commit for longer than anybody waits: with its disk, or for a standby that is to confirm.
#[tokio::test]
async fn t7_nothing_is_taken_back_before_the_commit_that_was_given_up_has_ended() {
    if !wanted() {
        return;
    }
    let url = database().await;
    let store = PostgresStore::open(&url, 2, Durability::Full, Duration::from_secs(1)).await.unwrap();
    for account in [ALICE, BOB] {
        store.create_account(&jid(account), &keys()).await.unwrap();
    }
    let mut disk = PgConnection::connect(&url).await.unwrap();
    disk.execute(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock(7, 7); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON tail DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION hang(); \
         SELECT pg_advisory_lock(7, 7)",
    )
    .await
    .unwrap();
    // The sender of the first is told that it was not stored; the second has been confirmed meanwhile.
    let given_up = [append(ALICE, 1), append(BOB, 2)];
    let after = [TailChange::Refuse { account: jid(ALICE), id: 1 }, remove(BOB, 2)];
    store.commit(&given_up).await.unwrap_err();
    let error = store.commit(&after).await.unwrap_err().to_string();
    assert!(error.contains("still busy with a commit that took too long"), "{error}");
    disk.execute("SELECT pg_advisory_unlock(7, 7)").await.unwrap();
    store.commit(&after).await.unwrap();
    assert!(ids(&store, ALICE).await.is_empty() && ids(&store, BOB).await.is_empty());
    let left: i64 = query_scalar("SELECT count(*) FROM messages").fetch_one(&mut disk).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn pages_leave_a_connection_for_what_is_quick() {
    if !wanted() {
        return;
    }
    for connections in [3, 4, 8] {
        let store = PostgresStore::open(&database().await, connections, Durability::Full, Duration::from_secs(1))
            .await
            .unwrap();
        let mut pages = Vec::new();
        for _ in 0..store.pages.available_permits() + store.tail_readers {
            pages.push(store.pool.acquire().await.unwrap());
        }
        assert!(!store.account_exists(&jid(ALICE)).await.unwrap());
        let every = u32::try_from(store.pages.available_permits()).unwrap();
        let turns = store.pages.acquire_many(every).await.unwrap();
        drop(pages);
        let error = store.archive_page(&jid(ALICE), &all()).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("no turn came")), "{error}");
        drop(turns);
        store.archive_page(&jid(ALICE), &all()).await.unwrap();
    }
}

/// After a switch to another server the one before may come back as its standby, under the name that it had.
#[tokio::test]
async fn a_connection_on_which_nothing_can_be_written_is_replaced() {
    let Some(store) = inside().await else { return };
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let mut on = Vec::new();
    while let Some(connection) = store.pool.try_acquire() {
        on.push(connection);
    }
    on.push(store.pool.acquire().await.unwrap());
    for connection in &mut on {
        connection.execute("SET default_transaction_read_only = on").await.unwrap();
    }
    drop(on);
    assert!(store.set_credentials(&jid(ALICE), &keys()).await.unwrap());
}

/// A crash of the database takes its last moments, where durability is relaxed; so does a standby that takes its place.
#[tokio::test]
async fn t7_an_epoch_that_the_database_has_lost_is_not_written_to() {
    if !wanted() {
        return;
    }
    let url = database().await;
    let store = PostgresStore::open(&url, 2, Durability::Full, DEADLINE).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let archive = async |second| store.commit(&[TailChange::Append(got(ALICE, second, BOB, "words"))]).await.unwrap();
    for second in 1..=20 {
        archive(second).await;
    }
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let lost: Vec<i64> =
        query_scalar("DELETE FROM epochs WHERE number > 1 RETURNING first").fetch_all(&mut admin).await.unwrap();
    assert_eq!(lost.len(), 1);
    admin
        .execute(
            "DELETE FROM messages WHERE epoch > 1; UPDATE tail_marks SET id = (SELECT max(id) FROM messages); \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    archive(21).await;
    let page = store.archive_page(&jid(ALICE), &all()).await.unwrap().unwrap();
    let there = seconds(&page);
    assert_eq!((there.first(), there.last(), there.len()), (Some(&1), Some(&21), 17), "{there:?}");
}
