//! Conversations with the server, in the format of scansion: each `.scs` file beside this one is a test.
//!
//! What the format is, and what to know before writing one, is in `README.md`.

#![cfg(test)]

mod connection;
mod matching;
mod player;
mod script;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../it/support/mod.rs"]
mod support;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use rookery_store::testing::{Fsync, PostgresServer};
use tokio::runtime::Runtime;

use world::Database;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Scenarios wait for sockets and disks more than they compute.
    arguments.test_threads.get_or_insert(8);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scs"))
        .collect();
    files.extend(std::env::var_os("ROOKERY_SCENARIO").map(PathBuf::from));
    files.sort();
    let database = Arc::new(if arguments.list { Database::Memory } else { database() });
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let trials = files.into_iter().map(|file| {
        let (database, runtime) = (database.clone(), runtime.clone());
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || {
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            runtime.block_on(player::play(&text, &database)).map_err(|why| format!("{}: {why}", file.display()).into())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    conclusion.exit_code()
}

fn database() -> Database {
    match std::env::var("ROOKERY_TEST_STORE").as_deref() {
        Err(_) | Ok("sqlite") => Database::Sqlite,
        Ok("memory") => Database::Memory,
        Ok("postgres") => Database::Postgres(PostgresServer::start(Fsync::Off).expect("a PostgreSQL server")),
        Ok(other) => panic!("ROOKERY_TEST_STORE={other}: it is sqlite, postgres or memory"),
    }
}
