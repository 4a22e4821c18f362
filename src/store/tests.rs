//! What every database must do, as functions of a store; `suite!` makes them tests of a backend.

mod child;
mod memory;
mod postgres;
mod sqlite;
mod suite;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use rookery_core::store::{Store, TailChange, TailEntry};
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

pub(crate) fn keys() -> Credentials {
    Credentials::from_password("canary-password", 10_000).unwrap()
}

pub(crate) fn entry(account: &str, id: u64) -> TailEntry {
    TailEntry {
        account: jid(account),
        id,
        resource: (id % 2 == 0).then(|| format!("phone {id}")),
        stamp: UNIX_EPOCH + Duration::from_micros(1_790_000_000_000_001 + id % 1_000_000),
        stanza: format!("<message xmlns='jabber:client' id='{id}'><body>hi</body></message>")
            .into(),
    }
}

pub(crate) fn append(account: &str, id: u64) -> TailChange {
    TailChange::Append(entry(account, id))
}

pub(crate) fn remove(account: &str, id: u64) -> TailChange {
    TailChange::Remove {
        account: jid(account),
        id,
    }
}

/// The ids in the tail of an account.
pub(crate) async fn ids(store: &dyn Store, account: &str) -> Vec<u64> {
    let tail = store
        .tail(&jid(account), 0, u64::MAX, usize::MAX)
        .await
        .unwrap();
    tail.iter().map(|entry| entry.id).collect()
}

/// What this thread logs while the value lives.
pub(crate) struct LogCapture {
    lines: Lines,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl LogCapture {
    pub(crate) fn start() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.lines.0.lock());
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
