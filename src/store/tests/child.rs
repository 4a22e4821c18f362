//! Processes that tests kill, starve or let hold locks: this test binary again, told by its environment what to be.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rookery_core::store::{Archived, Record, Store, StoreError, TailChange, TailEntry};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};

use super::{append, entry, ids, jid, keys};
use crate::{Backend, Durability, StoreConf, open, open_within};

const ALICE: &str = "alice@x.example";

/// A child and its two ends of a conversation in lines.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a child that plays `role` on the database `path`, through `wrapper` (a command that runs its arguments).
    pub(crate) fn start(wrapper: &[&str], role: &str, path: &Path) -> Self {
        Self::start_program(&std::env::current_exe().unwrap(), wrapper, role, path)
    }

    pub(crate) fn start_program(program: &Path, wrapper: &[&str], role: &str, path: &Path) -> Self {
        let words: Vec<&str> = wrapper.iter().copied().chain([program.to_str().unwrap()]).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["--exact", "tests::child::plays_its_role", "--nocapture", "--test-threads=1"])
            .env("ROOKERY_STORE_ROLE", role)
            .env("ROOKERY_STORE_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// The next line that the role wrote; the test runner's own are passed over.
    pub(crate) fn line(&mut self) -> Option<String> {
        self.answers.by_ref().map_while(Result::ok).find_map(|line| {
            // The first line stands behind the runner's "test ... ".
            line.split_once('>').map(|(_, line)| line.to_owned())
        })
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.orders, "{line}").unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; gives what the child had still written.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, ">{line}").unwrap();
    out.flush().unwrap();
}

fn wait_for_line() {
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// Does nothing unless this process is such a child.
#[tokio::test]
async fn plays_its_role() {
    let (Ok(role), Some(path)) = (std::env::var("ROOKERY_STORE_ROLE"), std::env::var_os("ROOKERY_STORE_PATH")) else {
        return;
    };
    let conf = StoreConf { backend: Backend::Sqlite { path: path.clone().into() }, durability: Durability::Full };
    match role.as_str() {
        "open" => match open(&conf).await {
            Ok(_) => say("opened"),
            Err(error) => say(&error.to_string()),
        },
        "commit" => commit_for_ever(&*open(&conf).await.unwrap()).await,
        "index" => index_for_ever(&*open(&conf).await.unwrap()).await,
        "starve" => starve(&*open_within(&conf, Duration::from_secs(5)).await.unwrap()).await,
        "lock" => {
            let options = SqliteConnectOptions::new().filename(&path);
            let mut connection = options.connect().await.unwrap();
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            say("locked");
            wait_for_line();
        }
        role => panic!("no such role: {role}"),
    }
}

/// Commits batches of growing size and says each id once its commit has returned.
async fn commit_for_ever(store: &dyn Store) {
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let mut id = 0;
    for size in (1..60).cycle() {
        let batch: Vec<u64> = (id + 1..=id + size).collect();
        let changes: Vec<_> = batch.iter().map(|id| append(ALICE, *id)).collect();
        store.commit(&changes).await.unwrap();
        for id in &batch {
            say(&id.to_string());
        }
        id += size;
    }
}

/// Makes an archive findable bit by bit, and says so after each.
async fn index_for_ever(store: &dyn Store) {
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let changes = (1..=5000).map(|id| {
        let archived =
            Archived { with: jid("bob@x.example"), resource: None, sent: false, counts: true, message_id: None };
        let stanza = "<message xmlns='jabber:client'><body>needle</body></message>".into();
        let entry = TailEntry { stanza, ..entry(ALICE, id) };
        TailChange::Append(Record { entry, waits: false, archived: Some(archived), digest: None })
    });
    store.commit(&changes.collect::<Vec<_>>()).await.unwrap();
    for step in 1.. {
        store.index_words(&jid(ALICE), 10).await.unwrap();
        say(&step.to_string());
    }
}

/// Commits until no more can be written, says so, and goes on once it is told that there is room again.
async fn starve(store: &dyn Store) {
    store.create_account(&jid(ALICE), &keys()).await.unwrap();
    let mut id = 1;
    // The first failures are those of the log, which a new handle empties; then the database file is at its limit too.
    let mut failures = 0;
    while failures < 5 {
        match store.commit(&[append(ALICE, id)]).await {
            Ok(()) => {
                say(&id.to_string());
                id += 1;
                failures = 0;
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Full(_)), "{error:?}");
                failures += 1;
            }
        }
    }
    let read = ids(store, ALICE).await;
    assert_eq!(read, (1..id).collect::<Vec<u64>>());
    say("full");
    wait_for_line();
    for id in id..id + 200 {
        store.commit(&[append(ALICE, id)]).await.unwrap();
        say(&id.to_string());
    }
    say("done");
    wait_for_line();
}
