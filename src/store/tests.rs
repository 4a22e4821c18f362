//! What every database must do, as functions of a store; `suite!` makes them tests of a backend.

mod archive;
mod child;
mod memory;
mod plans;
mod postgres;
mod random_archives;
mod random_rooms;
mod rooms;
mod sqlite;
mod suite;
mod upgrade;
mod words;

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use rookery_core::store::{Record, Store, TailChange, TailEntry};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::Credentials;

/// An empty database, and what must live as long as it does.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _kept: Box<dyn Any + Send>,
}

pub(crate) fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

/// The keys of "canary-password"; always the same, because making them is slow.
pub(crate) fn keys() -> Credentials {
    static KEYS: OnceLock<Credentials> = OnceLock::new();
    KEYS.get_or_init(other_keys).clone()
}

/// The keys of the same password with new salts.
pub(crate) fn other_keys() -> Credentials {
    Credentials::from_password("canary-password", 10_000).unwrap()
}

pub(crate) fn entry(account: &str, id: u64) -> TailEntry {
    TailEntry {
        account: jid(account),
        id,
        resource: id.is_multiple_of(2).then(|| format!("phone {id}")),
        stamp: UNIX_EPOCH + Duration::from_micros(1_790_000_000_000_001 + id % 1_000_000),
        stanza: format!("<message xmlns='jabber:client' id='{id}'><body>hi</body></message>").into(),
    }
}

pub(crate) fn append(account: &str, id: u64) -> TailChange {
    TailChange::Append(Record { entry: entry(account, id), waits: true, archived: None, digest: None })
}

pub(crate) fn remove(account: &str, id: u64) -> TailChange {
    TailChange::Deliver { account: jid(account), id }
}

/// The ids in the tail of an account.
pub(crate) async fn ids(store: &dyn Store, account: &str) -> Vec<u64> {
    let tail = store.tail(&jid(account), 0, u64::MAX, usize::MAX).await.unwrap();
    tail.iter().map(|entry| entry.id).collect()
}

/// xorshift64: the same numbers on every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What this thread logs while the value lives.
pub(crate) struct LogCapture;

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes to the capture of the thread, if there is one.
struct ThreadLines;

impl LogCapture {
    pub(crate) fn start() -> Self {
        // One subscriber for the whole process: those that come and go per thread race with each other in tracing's caches.
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt().with_ansi(false).with_writer(|| ThreadLines).init();
        });
        tracing::callsite::rebuild_interest_cache();
        LINES.set(Some(Vec::new()));
        Self
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = LINES.replace(Some(Vec::new())).unwrap_or_default();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for LogCapture {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

impl io::Write for ThreadLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
