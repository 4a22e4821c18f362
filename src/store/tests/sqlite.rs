//! The suite on SQLite, and what only a file can suffer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_core::store::{AccountStore, ArchiveQuery, ArchiveStore, StoreError, TailStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, query_scalar};

use super::archive::archive_suite;
use super::child::Process;
use super::rooms::{all, come_and_go, rooms_suite};
use super::suite::suite;
use super::{Fixture, LogCapture, append, ids, jid, keys, remove};
use crate::sqlite::SqliteStore;
use crate::testing::TempDir;
use crate::{Backend, Durability, OpenError, StoreConf, open};

const ALICE: &str = "alice@x.example";

fn conf(path: &Path) -> StoreConf {
    StoreConf { backend: Backend::Sqlite { path: path.to_owned() }, durability: Durability::Full }
}

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data").join("rookery.db");
    (directory, path)
}

async fn fixture() -> Option<Fixture> {
    let (directory, path) = place();
    Some(Fixture { store: open(&conf(&path)).await.unwrap(), _kept: Box::new(directory) })
}

suite!(fixture);
archive_suite!(fixture);
rooms_suite!(fixture);

async fn refusal(path: &Path) -> OpenError {
    match open(&conf(path)).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// A store with the inside in reach.
async fn inside(path: &Path, deadline: Duration) -> SqliteStore {
    let store = SqliteStore::open(path, Durability::Full, deadline).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    store
}

/// When a server comes back many read their tails and in their archives at once. Whoever logs in is not to wait for them.
#[tokio::test]
async fn pages_leave_a_reader_for_what_is_quick() {
    let (_directory, path) = place();
    let store = inside(&path, Duration::from_secs(1)).await;
    let mut pages = Vec::new();
    for _ in 0..store.pages.available_permits() + store.tail_readers {
        pages.push(store.reader().await.unwrap());
    }
    assert!(store.account_exists(&jid(ALICE)).await.unwrap());
}

#[tokio::test]
async fn who_gets_no_turn_at_an_archive_is_told_and_who_gets_one_has_time() {
    let (_directory, path) = place();
    let store = inside(&path, Duration::from_millis(500)).await;
    let every = u32::try_from(store.pages.available_permits()).unwrap();
    let turns = store.pages.acquire_many(every).await.unwrap();
    let error = store.archive_page(&jid(ALICE), &all()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("no turn came")), "{error}");
    drop(turns);
    assert!(store.archive_page(&jid(ALICE), &all()).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_drop_without_close() {
    let (_directory, path) = place();
    let store = open(&conf(&path)).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    store.commit(&[append(ALICE, 1), append(ALICE, 2)]).await.unwrap();
    store.commit(&[remove(ALICE, 2)]).await.unwrap();
    drop(store);
    let store = open(&conf(&path)).await.unwrap();
    assert_eq!(ids(&*store, ALICE).await, [1]);
    assert_eq!(store.last_id().await.unwrap(), 2);
    assert!(store.account_exists(&jid(ALICE)).await.unwrap());
}

#[tokio::test]
async fn t1_every_id_a_killed_process_told_of_is_there() {
    for told_before in [1, 300, 2000] {
        let (_directory, path) = place();
        let mut process = Process::start(&["env"], "commit", &path);
        let mut told: Vec<String> = (0..told_before).map_while(|_| process.line()).collect();
        assert_eq!(told.len(), told_before);
        told.extend(process.kill());
        let store = open(&conf(&path)).await.unwrap();
        let there = ids(&*store, ALICE).await;
        for id in &told {
            // The last line may be cut.
            let Ok(id) = id.parse() else { continue };
            assert!(there.contains(&id), "{id} was told of and is lost");
        }
        assert!(store.last_id().await.unwrap() >= there.last().copied().unwrap());
    }
}

#[tokio::test]
async fn t2_durability_is_what_the_conf_says() {
    for (durability, synchronous, lines) in [(Durability::Full, 2, 0), (Durability::Relaxed, 1, 1)] {
        let (_directory, path) = place();
        let log = LogCapture::start();
        let store = SqliteStore::open(&path, durability, Duration::from_secs(10)).await.unwrap();
        let mut slot = store.writer.lock().await;
        let writer = slot.as_mut().unwrap();
        let found: i64 = query_scalar("PRAGMA synchronous").fetch_one(&mut *writer).await.unwrap();
        assert_eq!(found, synchronous);
        let mode: String = query_scalar("PRAGMA journal_mode").fetch_one(&mut *writer).await.unwrap();
        assert_eq!(mode, "wal");
        let relaxed = log.take().into_iter().filter(|line| line.contains("durability is relaxed"));
        assert_eq!(relaxed.count(), lines);
    }
}

#[tokio::test]
async fn t7_another_process_that_holds_the_file_is_waited_for_a_while() {
    let (_directory, path) = place();
    let deadline = Duration::from_secs(2);
    let store = inside(&path, deadline).await;
    let mut other = Process::start(&["env"], "lock", &path);
    assert_eq!(other.line().as_deref(), Some("locked"));
    for _ in 0..2 {
        let start = Instant::now();
        let result = store.commit(&[append(ALICE, 1)]).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
        assert!(start.elapsed() < deadline * 2);
        // Who reads is not in the way of who writes.
        assert!(store.account_exists(&jid(ALICE)).await.unwrap());
    }
    // Calls that queue behind each other end in time too.
    let start = Instant::now();
    let batch = [append(ALICE, 1)];
    let (a, b, c) = tokio::join!(store.commit(&batch), store.commit(&batch), store.commit(&batch));
    assert!(a.is_err() && b.is_err() && c.is_err());
    assert!(start.elapsed() < deadline * 2);
    other.say("let go");
    assert_eq!(other.line(), None);
    store.commit(&[append(ALICE, 2)]).await.unwrap();
    assert!(ids(&store, ALICE).await.contains(&2));
}

#[tokio::test]
async fn whoever_writes_keeps_nobody_from_asking_whether_an_archive_is_findable() {
    let (_directory, path) = place();
    let store = inside(&path, Duration::from_secs(10)).await;
    let _writer = store.writer.lock().await;
    assert!(store.is_findable(&jid(ALICE)).await.unwrap());
}

#[tokio::test]
async fn t8_a_full_disk_takes_nothing_reads_on_and_recovers() {
    let (_directory, path) = place();
    let log = LogCapture::start();
    let mut store = inside(&path, Duration::from_secs(10)).await;
    let roomy = store.options.clone();
    store.options = roomy.clone().pragma("max_page_count", "100");
    *store.writer.lock().await = None;
    let mut id = 0;
    let error = loop {
        let batch: Vec<_> = (id + 1..=id + 100).map(|id| append(ALICE, id)).collect();
        match store.commit(&batch).await {
            Ok(()) => id += 100,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    for _ in 0..20 {
        let batch: Vec<_> = (id + 1..=id + 100).map(|id| append(ALICE, id)).collect();
        assert!(matches!(store.commit(&batch).await, Err(StoreError::Full(_))));
    }
    assert_eq!(ids(&store, ALICE).await.last().copied(), Some(id));
    let failures = log.take().into_iter().filter(|line| line.contains("ERROR"));
    assert_eq!(failures.count(), 1);
    // What is full can be emptied.
    store.commit(&[remove(ALICE, 1)]).await.unwrap();
    let batch: Vec<_> = (id + 1..=id + 100).map(|id| append(ALICE, id)).collect();
    assert!(store.commit(&batch).await.is_err());
    store.options = roomy;
    *store.writer.lock().await = None;
    store.commit(&batch).await.unwrap();
    assert_eq!(ids(&store, ALICE).await.last().copied(), Some(id + 100));
}

#[tokio::test]
async fn t8_an_io_error_breaks_the_handle_and_a_new_one_goes_on() {
    let (_directory, path) = place();
    // A limit on the size of files fails writes with EFBIG, which SQLite takes for a failing disk.
    let limit = "trap '' XFSZ; ulimit -S -f 800; exec \"$@\"";
    let mut process = Process::start(&["sh", "-c", limit, "sh"], "starve", &path);
    let mut told = Vec::new();
    loop {
        match process.line().expect("the child ended early") {
            line if line == "full" => break,
            line => told.push(line.parse::<u64>().unwrap()),
        }
    }
    let pid = process.id().to_string();
    let lifted = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
    assert!(lifted.unwrap().success());
    process.say("go on");
    loop {
        match process.line().expect("the child ended early") {
            line if line == "done" => break,
            line => told.push(line.parse().unwrap()),
        }
    }
    process.kill();
    let store = open(&conf(&path)).await.unwrap();
    assert_eq!(ids(&*store, ALICE).await, told);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let (_directory, path) = place();
    let store = Arc::new(inside(&path, Duration::from_secs(10)).await);
    for step in 0..50_u64 {
        let writer = Arc::clone(&store);
        let ids = step * 200 + 1..=step * 200 + 200;
        let task = tokio::spawn(async move {
            let batch: Vec<_> = ids.map(|id| append(ALICE, id)).collect();
            writer.commit(&batch).await
        });
        for _ in 0..step {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ = task.await;
    }
    store.commit(&[append(ALICE, 1_000_000)]).await.unwrap();
    let there = ids(&*store, ALICE).await;
    assert_eq!(there.last(), Some(&1_000_000));
    // Each batch is there as a whole or not at all.
    assert_eq!(there.len() % 200, 1);
}

#[tokio::test]
async fn the_data_are_for_us_alone() {
    let (directory, path) = place();
    let store = open(&conf(&path)).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.path().join("data")), 0o700);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(&path.with_extension("db-shm")), 0o600);
}

#[tokio::test]
async fn a20_no_password_is_in_the_file() {
    let (directory, path) = place();
    let store = open(&conf(&path)).await.unwrap();
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    store.close().await;
    for file in fs::read_dir(directory.path().join("data")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(15).any(|window| window == b"canary-password"));
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let (_directory, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "this is a letter to my aunt, not a database\n".repeat(100)).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(refusal(path.parent().unwrap()).await.to_string().contains("cannot open"));
    let error = refusal(&path.join("below").join("rookery.db")).await;
    assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let (directory, _) = place();
    let path = directory.path().join("prosody.sqlite");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    connection.execute("CREATE TABLE prosody (host TEXT)").await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let (_directory, path) = place();
    open(&conf(&path)).await.unwrap().close().await;
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', true, x'00', 0)";
    connection.execute(newer).await.unwrap();
    connection.close().await.unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 9999, .. }), "{error:?}");
    assert!(error.to_string().contains("newer release"));
}

#[tokio::test]
async fn a_read_only_file_is_named() {
    let (directory, path) = place();
    open(&conf(&path)).await.unwrap().close().await;
    let data = path.parent().unwrap();
    let program = data.join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    // Root may write what is read-only, so the child is somebody else.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let root = chown(directory.path(), Some(65534), Some(65534)).is_ok();
    if root {
        for path in [data, &path, &program] {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
    }
    let wrapper: &[&str] = if root { &nobody } else { &["env"] };
    let said = Process::start_program(&program, wrapper, "open", &path).line().unwrap();
    assert!(said.contains("is read-only") && said.contains(path.to_str().unwrap()), "{said}");
}

#[tokio::test]
async fn two_processes_may_make_the_same_database_at_once() {
    let (_directory, path) = place();
    let mut others: Vec<Process> = (0..4).map(|_| Process::start(&["env"], "open", &path)).collect();
    let store = open(&conf(&path)).await.unwrap();
    for other in &mut others {
        assert_eq!(other.line().as_deref(), Some("opened"));
    }
    assert!(store.create_account(&jid(ALICE), &keys()).await.unwrap());
}

#[tokio::test]
async fn the_words_of_an_archive_go_with_it() {
    let (_directory, path) = place();
    let store = open(&conf(&path)).await.unwrap();
    come_and_go(&*store).await;
    store.close().await;
    let mut on = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    for table in ["words_docsize", "searched", "messages"] {
        let left: i64 = query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(&mut on)
            .await
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

#[tokio::test]
async fn t1_what_a_killed_process_has_made_findable_stays_and_the_rest_is_found_later() {
    let (_directory, path) = place();
    let mut child = Process::start(&[], "index", &path);
    for step in 1..=3 {
        assert_eq!(child.line(), Some(step.to_string()));
    }
    child.kill();
    let store = open(&conf(&path)).await.unwrap();
    let find = ArchiveQuery { words: Some("needle".into()), ..all() };
    let count = || async { store.archive_page(&jid(ALICE), &find).await.unwrap().unwrap().count.unwrap() };
    let before = count().await;
    assert!(before >= 30 && before.is_multiple_of(10), "{before}");
    while store.index_words(&jid(ALICE), 10).await.unwrap() {}
    assert_eq!(count().await, 5000);
}
