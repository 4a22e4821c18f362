//! Where the limits are tried: the server, a witness who pings it from elsewhere and watches its memory, and the table.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::client::{Connection, Target, Transport};
use crate::scanner::Kind;
use crate::server::{Choice, DOMAIN, PASSWORD, Server};
use crate::{Failure, process, xml};

/// What memory may grow by within a check, where nothing else is said.
pub(super) const FLAT: u64 = 16 << 20;

/// A check's outcome: what came, as it should or not.
pub(super) type Outcome = Result<String, String>;

/// A check that could not be performed.
pub(super) type Trouble = Box<dyn std::error::Error>;

/// The server and who watches it.
pub(super) struct Arena {
    pub(super) server: Server,
    only: Option<String>,
    patience: Duration,
    witness: Arc<Witness>,
    sources: AtomicU32,
    passed: u32,
    failed: u32,
    started_with: u64,
}

/// What the witness saw since it was asked last.
#[derive(Debug, Default)]
struct Witness {
    slowest: AtomicU64,
    highest: AtomicU64,
    ping_since: Mutex<Option<Instant>>,
    trouble: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Arena {
    /// Starts the server and the witness.
    pub(super) async fn open(choice: &Choice, options: &super::Options) -> Result<Self, Trouble> {
        let mut server = Server::new(choice)?;
        server.start()?;
        let users = ["witness", "mallory", "alice", "bob", "carol", "dave"].map(str::to_owned);
        server.add_accounts(&users)?;
        let witness = Arc::new(Witness::default());
        let (target, pid, watching) = (server.target(Transport::Plain), server.pid(), Arc::clone(&witness));
        // A thread of its own: what the rig itself is busy with is not the server's delay.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            if let Err(failure) = runtime.block_on(watching.watch(&target, pid)) {
                *watching.trouble.lock().expect("no panic while locked") = Some(failure.to_string());
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let started_with = process::rss(server.pid());
        let patience = Duration::from_millis(options.ping);
        let (only, sources) = (options.only.clone(), AtomicU32::new(1));
        Ok(Self { server, only, patience, witness, sources, passed: 0, failed: 0, started_with })
    }

    /// Where to connect, from an address that nobody came from yet.
    pub(super) fn target(&self, transport: Transport) -> Target {
        Target { source: Some(self.source()), ..self.server.target(transport) }
    }

    /// An address that nobody came from yet.
    pub(super) fn source(&self) -> IpAddr {
        let number = self.sources.fetch_add(1, Ordering::Relaxed);
        let [_, high, middle, low] = number.to_be_bytes();
        // The server's own is in 127.64.0.0/10 and above.
        Ipv4Addr::new(127, 2 + high, middle, low).into()
    }

    /// A session of a user, from a new address.
    pub(super) async fn log_in(&self, user: &str) -> Result<Connection, Failure> {
        let mut connection = Connection::log_in(&self.target(Transport::Plain), user, PASSWORD).await?;
        connection.bind(None).await?;
        Ok(connection)
    }

    /// Performs a check, unless the options leave it out, and prints its row. Memory may grow by `allowed` bytes.
    pub(super) async fn check(
        &mut self,
        name: &str,
        allowed: u64,
        check: impl AsyncFnOnce(&Self) -> Result<Outcome, Failure>,
    ) -> Result<(), Trouble> {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return Ok(());
        }
        let before = process::rss(self.server.pid());
        self.witness.forget();
        let outcome = match timeout(Duration::from_secs(180), check(self)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(failure)) => Err(format!("failed: {failure}")),
            Err(_) => Err("not done in 180 s".into()),
        };
        let (slowest, highest) = self.witness.seen();
        let growth = highest.max(process::rss(self.server.pid())).saturating_sub(before);
        let mut faults = Vec::new();
        if growth > allowed {
            faults.push(format!("memory grew by more than {} KiB", allowed >> 10));
        }
        if slowest > self.patience {
            faults.push("the witness waited".to_owned());
        }
        if let Some(trouble) = self.witness.trouble.lock().expect("no panic while locked").take() {
            faults.push(format!("the witness was disturbed: {trouble}"));
        }
        if !self.server.lives() {
            return Err(format!("{name}: the server died:\n{}", self.server.log_tail()).into());
        }
        let (came, wrong) = match outcome {
            Ok(came) => (came, false),
            Err(came) => (came, true),
        };
        faults.insert(0, came);
        let ok = !wrong && faults.len() == 1;
        if ok {
            self.passed += 1
        } else {
            self.failed += 1
        }
        println!(
            "{name:58} {:6} {:>+6} K {:>6.1} ms  {}",
            if ok { "PASS" } else { "FAIL" },
            growth >> 10,
            slowest.as_secs_f64() * 1e3,
            faults.join("; ")
        );
        Ok(())
    }

    /// The counts of passed and failed checks.
    pub(super) fn close(self) -> (u32, u32) {
        self.witness.stop.store(true, Ordering::Relaxed);
        let now = process::rss(self.server.pid());
        println!("RSS {} KiB at first, {} KiB in the end", self.started_with >> 10, now >> 10);
        (self.passed, self.failed)
    }
}

impl Witness {
    async fn watch(&self, target: &Target, pid: u32) -> Result<(), Failure> {
        let source = Some(IpAddr::V4(Ipv4Addr::new(127, 1, 1, 1)));
        let mut connection = Connection::log_in(&Target { source, ..target.clone() }, "witness", PASSWORD).await?;
        connection.bind(None).await?;
        while !self.stop.load(Ordering::Relaxed) {
            let sent = Instant::now();
            *self.ping_since.lock().expect("no panic while locked") = Some(sent);
            ping(&mut connection).await?;
            self.slowest.fetch_max(sent.elapsed().as_nanos() as u64, Ordering::Relaxed);
            *self.ping_since.lock().expect("no panic while locked") = None;
            self.highest.fetch_max(process::rss(pid), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn forget(&self) {
        self.slowest.store(0, Ordering::Relaxed);
        self.highest.store(0, Ordering::Relaxed);
    }

    fn seen(&self) -> (Duration, u64) {
        let waiting = self.ping_since.lock().expect("no panic while locked").map_or(Duration::ZERO, |at| at.elapsed());
        let slowest = Duration::from_nanos(self.slowest.load(Ordering::Relaxed));
        (slowest.max(waiting), self.highest.load(Ordering::Relaxed))
    }
}

/// A ping to the server and its answer.
pub(super) async fn ping(connection: &mut Connection) -> Result<(), Failure> {
    connection.queue(format!("<iq type='get' id='ping' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>").as_bytes());
    loop {
        let token = connection.element().await?;
        if xml::attribute(connection.bytes(token), "id").as_deref() == Some("ping") {
            return Ok(());
        }
    }
}

/// How a stream ended, if it did.
#[derive(Debug)]
pub(super) struct Ending {
    /// The stream error's condition, and the application's own.
    pub(super) error: Option<String>,
    /// Whether the stream or the connection ended.
    pub(super) closed: bool,
    /// How long that took.
    pub(super) after: Duration,
    /// What else came.
    pub(super) other: Vec<Vec<u8>>,
}

/// Reads, and writes what is queued, until the stream ends or `patience` does.
pub(super) async fn ending(connection: &mut Connection, patience: Duration) -> Ending {
    let start = Instant::now();
    let mut ending = Ending { error: None, closed: false, after: Duration::ZERO, other: Vec::new() };
    let read = async {
        loop {
            match connection.next().await {
                Ok(token) if token.kind == Kind::End => break,
                Ok(token) => {
                    let bytes = connection.bytes(token);
                    if xml::name(bytes) == b"stream:error" {
                        ending.error = Some(conditions(bytes));
                    } else if token.kind == Kind::Element {
                        ending.other.push(bytes.to_vec());
                    }
                }
                Err(_) => break,
            }
        }
    };
    ending.closed = timeout(patience, read).await.is_ok();
    ending.after = start.elapsed();
    ending
}

impl Ending {
    /// The stream must have ended with one of these conditions.
    pub(super) fn must_be(&self, allowed: &[&str]) -> Outcome {
        let shown = self.to_string();
        let condition = self.error.as_deref().unwrap_or_default().split(' ').next().unwrap_or_default();
        if self.closed && allowed.contains(&condition) { Ok(shown) } else { Err(shown) }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.error, self.closed) {
            (Some(error), true) => f.write_str(error),
            (Some(error), false) => write!(f, "{error}, but the stream stays open"),
            (None, true) => f.write_str("closed without a stream error"),
            (None, false) => write!(f, "nothing in {:?}", self.after),
        }?;
        if let (None, Some(other)) = (&self.error, self.other.last()) {
            let other = String::from_utf8_lossy(other);
            write!(f, " but {}", other.chars().take(120).collect::<String>())?;
        }
        Ok(())
    }
}

/// The RFC's condition and, after a space, the application-specific one.
fn conditions(error: &[u8]) -> String {
    let condition = xml::condition(error);
    let application = xml::child(error, &condition).and_then(|rest| {
        let inside = &rest[1..];
        let mut children = memchr::memchr_iter(b'<', inside).map(|at| xml::name(&inside[at..]));
        children.find(|name| !name.is_empty() && !name.starts_with(b"/") && *name != b"text")
    });
    match application {
        Some(name) => format!("{condition} {}", String::from_utf8_lossy(name)),
        None => condition,
    }
}
