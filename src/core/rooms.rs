//! Changes of rooms on their way to the disk: in the writer's queue, in order with the messages of people, so that what
//! is said in a room is acknowledged after the same commit as what is said to one.
//!
//! Nobody has to wait for a change: whoever gives it a receipt has its sender wait. But one may wait until it is stored
//! (`commit_room`), and gives it up when the database does not take it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;

use crate::server::Server;
use crate::session::Receipt;
use crate::store::{RoomWrite, TailChange};
use crate::writer::Writer;

/// What a change takes beside its text, in bytes.
const OVERHEAD: usize = 128;

/// How long to wait before a database that takes nothing is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why changes that somebody waited for are not stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Uncommitted {
    /// What whoever asked for them is told.
    pub error: StanzaError,
    /// They may be stored all the same: whoever goes on without them has to store what they replaced once more.
    pub in_doubt: bool,
}

/// How far changes are that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Queued { tried: bool },
    Writing,
    Written,
    GivenUp,
}

/// Changes of a room that go to disk together.
pub(crate) struct RoomAppend {
    room: BareJid,
    changes: Vec<RoomWrite>,
    receipt: Option<Arc<Receipt>>,
    progress: Option<Arc<Mutex<Progress>>>,
}

impl RoomAppend {
    pub(crate) fn size(&self) -> u64 {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let size = |change: &RoomWrite| match change {
            RoomWrite::Create { .. } | RoomWrite::Destroy => 0,
            RoomWrite::Value { value, .. } | RoomWrite::Person { value, .. } | RoomWrite::Visit { value, .. } => {
                of(value)
            }
            RoomWrite::Message(record) => record.stanza.len(),
        };
        self.changes.iter().map(|change| size(change) + OVERHEAD).sum::<usize>() as u64
    }

    /// Puts them into a batch; `false` when they were given up.
    pub(crate) fn begin(&self, batch: &mut Vec<TailChange>) -> bool {
        if let Some(progress) = &self.progress {
            let mut progress = progress.lock();
            if *progress == Progress::GivenUp {
                return false;
            }
            *progress = Progress::Writing;
        }
        let room = |change: &RoomWrite| TailChange::Room { room: self.room.clone(), change: change.clone() };
        batch.extend(self.changes.iter().map(room));
        true
    }

    /// They are on disk. Drops the receipt.
    pub(crate) fn written(self) {
        if let Some(progress) = self.progress {
            *progress.lock() = Progress::Written;
        }
        drop(self.receipt);
    }

    /// They are not; `None` when nobody wants them to be any more.
    pub(crate) fn not_written(self) -> Option<Self> {
        if let Some(progress) = &self.progress {
            let mut progress = progress.lock();
            if *progress == Progress::GivenUp {
                return None;
            }
            *progress = Progress::Queued { tried: true };
        }
        Some(self)
    }
}

impl Server {
    /// Stores changes of a room, together, and after all that was given to the database before. The receipt's stanza
    /// counts as handled when they are on disk.
    pub fn store_room(&self, room: &BareJid, changes: Vec<RoomWrite>, receipt: Option<Arc<Receipt>>) {
        if !changes.is_empty() {
            self.writer.append_room(RoomAppend { room: room.clone(), changes, receipt, progress: None });
        }
    }

    /// The same, until they are on disk. While the database fails nothing new is tried.
    pub async fn commit_room(&self, room: &BareJid, changes: Vec<RoomWrite>) -> Result<(), Uncommitted> {
        if changes.is_empty() {
            return Ok(());
        }
        if self.writer.is_failing() || self.writer.is_stuck() {
            return Err(Uncommitted { error: Writer::refusal(), in_doubt: false });
        }
        let progress = Arc::new(Mutex::new(Progress::Queued { tried: false }));
        // Whoever stops waiting gives them up, too.
        let given = Given(progress.clone());
        self.writer.append_room(RoomAppend {
            room: room.clone(),
            changes,
            receipt: None,
            progress: Some(progress.clone()),
        });
        let waited = self.writer.wait_until(|| *progress.lock() == Progress::Written).await;
        let in_doubt = given.up();
        match (waited, in_doubt) {
            (_, None) => Ok(()),
            (waited, Some(in_doubt)) => {
                Err(Uncommitted { error: waited.err().unwrap_or_else(Writer::refusal), in_doubt })
            }
        }
    }

    /// Waits until all that was given to the database so far is on disk. The error says that it takes nothing.
    pub async fn stored(&self) -> Result<(), StanzaError> {
        self.writer.flushed().await
    }

    /// Whether all that was given to the database so far is on disk.
    pub fn has_stored_all(&self) -> bool {
        self.writer.is_idle()
    }

    /// Holds a receipt until all that was given to the database so far is on disk.
    pub fn hold_until_stored(self: &Arc<Self>, receipt: Option<Arc<Receipt>>) {
        let Some(receipt) = receipt else { return };
        let server = self.clone();
        tokio::spawn(async move {
            while server.stored().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            drop(receipt);
        });
    }

    /// The error for a message to a room that could not be stored, while the database takes none.
    pub fn refuses_to_store(&self) -> Option<StanzaError> {
        self.writer.is_stuck().then(Writer::refusal)
    }

    /// The same while the database does not even take what nobody waits for.
    pub fn refuses_all(&self) -> Option<StanzaError> {
        self.writer.is_full().then(Writer::refusal)
    }
}

/// Changes that are waited for.
struct Given(Arc<Mutex<Progress>>);

impl Given {
    /// Gives them up unless they are written; says then whether they may be stored all the same.
    fn up(&self) -> Option<bool> {
        let mut progress = self.0.lock();
        let in_doubt = match *progress {
            Progress::Written => return None,
            Progress::Queued { tried } => tried,
            Progress::Writing => true,
            Progress::GivenUp => true,
        };
        *progress = Progress::GivenUp;
        Some(in_doubt)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.up();
    }
}
