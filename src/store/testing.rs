//! For tests of this crate, of the whole server and for rigs: directories that go away, and a PostgreSQL server of one's own.
//!
//! With `ROOKERY_TEST_POSTGRES=off` in the environment [`postgres_wanted`] is false, and tests of PostgreSQL have nothing to
//! do; else a missing PostgreSQL is a failure, not a reason to pass.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// Keeps the server as long as its standard input is open, so that it ends with us however we end.
const SUPERVISOR: &str = include_str!("testing/postgres.sh");

/// The password of the test server's user, with what a URL must escape.
pub const POSTGRES_PASSWORD: &str = "pass word/@:%";

const ESCAPED_PASSWORD: &str = "pass%20word%2F%40%3A%25";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An empty directory that is removed with this value.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one below the system's directory for such.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> std::io::Result<Self> {
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("rookery-test-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                result => return result.map(|()| Self(path)),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether tests of PostgreSQL are to run.
pub fn postgres_wanted() -> bool {
    std::env::var_os("ROOKERY_TEST_POSTGRES").is_none_or(|value| value != "off")
}

/// CPU time used so far by all threads of this process and of the server's, if one is given, in nanoseconds. Blocks.
///
/// # Errors
/// The supervisor's.
pub fn cpu_time(server: Option<&PostgresServer>) -> Result<u64, String> {
    let mut processes = vec![std::process::id()];
    if let Some(server) = server {
        processes.extend(server.processes()?);
    }
    let mut time = 0;
    for process in processes {
        for task in std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let told = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            time += told.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(time)
}

/// A PostgreSQL server in a directory of its own, reached by a Unix socket; it ends with this value, or with the process.
pub struct PostgresServer {
    supervisor: Mutex<Supervisor>,
    directory: PathBuf,
    databases: AtomicU32,
}

struct Supervisor {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Whether the test server survives a power cut, which costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// As in production; for measuring.
    On,
    /// Data survive a crash of the server, not one of the machine; for tests.
    Off,
}

impl PostgresServer {
    /// Makes a cluster and starts it; takes a second or two. Blocks.
    ///
    /// # Errors
    /// What to install, or what the server said.
    pub fn start(fsync: Fsync) -> Result<Self, String> {
        let programs = programs()?;
        let mut command = Command::new("sh");
        if is_root()? {
            // The server refuses to run as root.
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh"]);
        }
        let mut child = command
            .args(["-c", SUPERVISOR, "postgres-supervisor"])
            .arg(&programs)
            .arg(if fsync == Fsync::On { "on" } else { "off" })
            .env("PGPASSWORD", POSTGRES_PASSWORD)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run the supervisor of PostgreSQL: {error}"))?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(orders), Some(answers)) = pipes else {
            return Err("the supervisor of PostgreSQL has no pipes".into());
        };
        let mut supervisor = Supervisor { child, orders: Some(orders), answers: BufReader::new(answers) };
        let directory = supervisor.answer()?;
        Ok(Self { supervisor: Mutex::new(supervisor), directory: directory.into(), databases: AtomicU32::new(0) })
    }

    /// Makes an empty database and gives its URL. Blocks.
    ///
    /// # Errors
    /// The server's.
    pub fn create_database(&self) -> Result<String, String> {
        let count = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{count}");
        self.order(&format!("database {name}"))?;
        Ok(self.url(&name, ESCAPED_PASSWORD))
    }

    /// The URL of a database, with a password of your own.
    pub fn url(&self, database: &str, password: &str) -> String {
        let host = self.directory.display();
        format!("postgres://rookery:{password}@localhost/{database}?host={host}")
    }

    /// Stops every process of the server (SIGSTOP), as a machine that hangs. Blocks.
    ///
    /// # Errors
    /// The supervisor's.
    pub fn pause(&self) -> Result<(), String> {
        self.order("pause")
    }

    /// Ends [`PostgresServer::pause`]. Blocks.
    ///
    /// # Errors
    /// The supervisor's.
    pub fn resume(&self) -> Result<(), String> {
        self.order("resume")
    }

    /// Ends the server cleanly, breaking its connections. Blocks.
    ///
    /// # Errors
    /// The supervisor's.
    pub fn stop(&self) -> Result<(), String> {
        self.order("stop")
    }

    /// Kills every process of the server (SIGKILL). Blocks.
    ///
    /// # Errors
    /// The supervisor's.
    pub fn kill(&self) -> Result<(), String> {
        self.order("kill")
    }

    /// Starts the server after [`PostgresServer::stop`] or [`PostgresServer::kill`], and waits until it answers. Blocks.
    ///
    /// # Errors
    /// What the server said.
    pub fn start_again(&self) -> Result<(), String> {
        self.order("start")
    }

    /// The process ids of the server, its first process before the others. Blocks.
    ///
    /// # Errors
    /// The supervisor's.
    pub fn processes(&self) -> Result<Vec<u32>, String> {
        let text = self.ask("processes")?;
        Ok(text.split_whitespace().filter_map(|id| id.parse().ok()).collect())
    }

    fn order(&self, order: &str) -> Result<(), String> {
        self.ask(order).map(drop)
    }

    fn ask(&self, order: &str) -> Result<String, String> {
        let mut supervisor = self.supervisor.lock();
        let orders = supervisor.orders.as_mut().ok_or("the server is gone")?;
        writeln!(orders, "{order}").map_err(|error| error.to_string())?;
        supervisor.answer()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let mut supervisor = self.supervisor.lock();
        drop(supervisor.orders.take());
        let _ = supervisor.child.wait();
    }
}

impl Supervisor {
    /// One line: `ok` and what was asked for, or what went wrong.
    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        match line.trim_end().strip_prefix("ok") {
            Some(text) => Ok(text.trim_start().to_owned()),
            None if read == 0 => Err("the supervisor of PostgreSQL has ended".into()),
            None => Err(format!("PostgreSQL: {}", line.trim_end())),
        }
    }
}

fn is_root() -> Result<bool, String> {
    let id = Command::new("id").arg("-u").output().map_err(|error| format!("id -u: {error}"))?;
    Ok(id.stdout.trim_ascii() == b"0")
}

/// The directory of `initdb` and `postgres`, the newest there is. Debian keeps it out of the PATH.
fn programs() -> Result<PathBuf, String> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let text = String::from_utf8_lossy(&output.stdout);
        found.push((0, PathBuf::from(text.trim())));
    }
    found.sort();
    found
        .into_iter()
        .rev()
        .map(|(_, path)| path)
        .find(|path| path.join("initdb").is_file() && path.join("postgres").is_file())
        .ok_or_else(|| {
            "PostgreSQL is not installed, and these tests need it: install it (Debian: apt-get install postgresql), \
             or set ROOKERY_TEST_POSTGRES=off to go without"
                .to_owned()
        })
}
