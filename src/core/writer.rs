//! The group commit: one task that writes what waits, many messages in one transaction.
//!
//! The order of the queue is the order in which messages were taken. What is confirmed before its batch begins, and is not
//! archived, is passed over. A batch that fails goes back to the front. Changes of rooms (`rooms.rs`) stand in the same
//! queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::BareJid;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::account::Account;
use crate::remote::{Over, Posted};
use crate::rooms::RoomAppend;
use crate::server::Server;
use crate::store::{Store, StoreError, TailChange};
use crate::tail::{Kept, Phase};

/// How long a batch is gathered: long enough for a resource on a good line to confirm first.
const WINDOW: Duration = Duration::from_millis(3);
/// What is delivered leaves the tail without hurry: losing that costs a resource a message that it has seen, with the same
/// id.
const LAZY_WINDOW: Duration = Duration::from_millis(50);
/// A message that the database has not taken for so long is refused, if nobody else has it, and new ones are.
const PATIENCE: Duration = Duration::from_secs(10);
/// A commit that takes longer is not just slow.
const STALLED: Duration = Duration::from_secs(3);
/// Changes in one transaction.
const BATCH: usize = 2000;
/// Bytes of stanzas in one transaction, about: a slow database takes that much before its deadline, too.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// So many bytes of stanzas wait for the database at most; beyond them new messages are refused.
const BACKLOG: u64 = 64 * 1024 * 1024;
/// With more bytes waiting than this, senders are slowed down.
const PRESSURE: u64 = 1024 * 1024;
/// A client is read in pieces of this size at least, however much waits.
const LEAST_READ: u64 = 1024;
/// With as much waiting as [`PRESSURE`], so much is read of a client at a time.
const MOST_READ: u64 = 64 * 1024;
/// A sender is made to wait so long at most before it is read again: its pings come that late.
const SLOWEST: Duration = Duration::from_secs(1);

/// What is to be written, and its place among all that was ever appended.
struct Append {
    place: u64,
    size: u64,
    what: What,
}

enum What {
    Message(Arc<Kept>),
    Room(RoomAppend),
    Posted(Arc<Posted>),
}

/// What leaves the disk.
enum Removal {
    Kept(Arc<Kept>),
    Posted(u64),
    /// What a message was known by. An account that is in memory stays there until it is forgotten on disk as well.
    Seen {
        account: BareJid,
        id: u64,
        _loaded: Option<Arc<Account>>,
    },
}

impl Removal {
    fn change(&self) -> TailChange {
        match self {
            Self::Posted(id) => TailChange::Sent { id: *id },
            Self::Seen { account, id, .. } => TailChange::Forget { account: account.clone(), id: *id },
            Self::Kept(kept) => {
                let (account, id) = (kept.account.jid.clone(), kept.id);
                if kept.is_void() { TailChange::Refuse { account, id } } else { TailChange::Deliver { account, id } }
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    appends: VecDeque<Append>,
    removals: Vec<Removal>,
    /// How many were ever appended.
    appended: u64,
}

/// The group commit.
pub struct Writer {
    store: Arc<dyn Store>,
    queue: Mutex<Queue>,
    notify: Notify,
    failing: AtomicBool,
    closing: AtomicBool,
    /// Since when the database has been busy with what it was given, or has refused it.
    stalled: Mutex<Option<Instant>>,
    /// Bytes of stanzas that are queued or being written.
    backlog: AtomicU64,
    /// How many bytes of stanzas a second the database has taken lately.
    pace: AtomicU64,
    /// Up to which place all that was ever appended is dealt with.
    done: watch::Sender<u64>,
    server: OnceLock<Weak<Server>>,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            queue: Mutex::default(),
            notify: Notify::new(),
            failing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            stalled: Mutex::new(None),
            backlog: AtomicU64::new(0),
            pace: AtomicU64::new(0),
            done: watch::Sender::new(0),
            server: OnceLock::new(),
        })
    }

    pub(crate) fn serve(&self, server: Weak<Server>) {
        // Set once, when the server is made.
        let _ = self.server.set(server);
    }

    /// Whether the last batch failed: what no resource can take at once should not be taken at all.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Whether the database has kept what it was given waiting for so long, or so much waits, that nothing more should be
    /// taken that has to be stored.
    pub fn is_stuck(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > BACKLOG
            || self.stalled.lock().is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// Whether so much waits that nothing more should be taken, not even what goes to disk without being waited for.
    pub(crate) fn is_full(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > BACKLOG * 2
    }

    /// How long a client that has sent a message should not be read, since messages come faster than the database takes
    /// them. A database that takes none at all is nothing to wait for; one that is busy with its first batch, or for longer than
    /// it should be, may be.
    pub(crate) fn pressure(&self) -> Option<Duration> {
        let excess = self.backlog.load(Ordering::Relaxed).checked_sub(PRESSURE)?;
        let busy = self.stalled.lock().map_or(Duration::ZERO, |since| since.elapsed());
        if self.is_failing() || busy >= PATIENCE {
            return None;
        }
        if busy >= STALLED {
            return Some(SLOWEST);
        }
        let pace = match self.pace.load(Ordering::Relaxed) {
            0 => BATCH_BYTES,
            pace => pace,
        };
        Some(Duration::from_secs_f64(excess as f64 / pace as f64).min(SLOWEST))
    }

    /// How many bytes of a client should be read before [`Self::pressure`] is asked again. It falls with the square of what waits:
    /// thousands who write at once, each of them read in the largest pieces, would pass [`BACKLOG`] before the first of them is
    /// made to wait. A stanza, and a TLS record, is taken whole all the same.
    pub(crate) fn appetite(&self) -> usize {
        if self.pressure().is_none() {
            return usize::MAX;
        }
        let times = (self.backlog.load(Ordering::Relaxed) / PRESSURE).max(1);
        (MOST_READ / times.saturating_mul(times)).max(LEAST_READ) as usize
    }

    /// What a sender is told whose message cannot be stored.
    pub(crate) fn refusal() -> StanzaError {
        let text = "The server cannot store messages at the moment; please try again later.";
        StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text)
    }

    /// Waits until all that has been appended so far is on disk, or needs not be. The error says that the database does
    /// not take it.
    pub(crate) async fn flushed(&self) -> Result<(), StanzaError> {
        let appended = self.queue.lock().appended;
        let mut done = self.done.subscribe();
        let reached = done.wait_for(|done| *done >= appended);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Self::refusal()),
        }
    }

    /// Whether nothing that was appended waits.
    pub(crate) fn is_idle(&self) -> bool {
        let appended = self.queue.lock().appended;
        *self.done.borrow() >= appended
    }

    /// Waits until `is_done`, which is asked whenever a batch is on disk. The error says that the database takes nothing.
    pub(crate) async fn wait_until(&self, mut is_done: impl FnMut() -> bool) -> Result<(), StanzaError> {
        let mut done = self.done.subscribe();
        let reached = done.wait_for(|_| is_done());
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Self::refusal()),
        }
    }

    pub(crate) fn append(&self, kept: Arc<Kept>) {
        self.enqueue(kept.size(), What::Message(kept));
    }

    pub(crate) fn append_room(&self, room: RoomAppend) {
        self.enqueue(room.size(), What::Room(room));
    }

    fn enqueue(&self, size: u64, what: What) {
        self.backlog.fetch_add(size, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        let place = queue.appended;
        queue.appends.push_back(Append { place, size, what });
        queue.appended += 1;
        let first = queue.appends.len() == 1;
        drop(queue);
        if first {
            self.notify.notify_one();
        }
    }

    /// A stanza for another server, to be on disk until [`Self::remove_posted`].
    pub(crate) fn append_posted(&self, posted: Arc<Posted>) {
        self.enqueue(posted.size(), What::Posted(posted));
    }

    pub(crate) fn remove(&self, kept: Arc<Kept>) {
        self.enqueue_removal(Removal::Kept(kept));
    }

    pub(crate) fn remove_posted(&self, id: u64) {
        self.enqueue_removal(Removal::Posted(id));
    }

    /// A message that an account has sent away, and that may be sent again.
    pub(crate) fn forget(&self, account: &BareJid, id: u64, loaded: Option<Arc<Account>>) {
        self.enqueue_removal(Removal::Seen { account: account.clone(), id, _loaded: loaded });
    }

    fn enqueue_removal(&self, removal: Removal) {
        let mut queue = self.queue.lock();
        queue.removals.push(removal);
        let first = queue.removals.len() == 1 && queue.appends.is_empty();
        drop(queue);
        if first {
            self.notify.notify_one();
        }
    }

    /// Ends [`Self::run`] once all that waits is written.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Writes batches until [`Self::close`].
    pub(crate) async fn run(self: Arc<Self>) {
        let mut pause = WINDOW;
        loop {
            let (appends, removals) = {
                let queue = self.queue.lock();
                (!queue.appends.is_empty(), !queue.removals.is_empty())
            };
            if !appends && !removals {
                if self.closing.load(Ordering::Acquire) {
                    return;
                }
                self.notify.notified().await;
                continue;
            }
            if self.closing.load(Ordering::Acquire) {
                if self.is_failing() {
                    return;
                }
            } else if appends || self.is_failing() {
                tokio::time::sleep(pause).await;
            } else {
                // An append cuts the wait short.
                let _ = tokio::time::timeout(LAZY_WINDOW, self.notify.notified()).await;
                if !self.queue.lock().appends.is_empty() {
                    tokio::time::sleep(WINDOW).await;
                }
            }
            pause = match self.write_batch().await {
                Ok(()) => WINDOW,
                Err(()) => (pause * 2).min(Duration::from_secs(1)),
            };
            self.advance();
        }
    }

    async fn write_batch(&self) -> Result<(), ()> {
        let removals = {
            let mut queue = self.queue.lock();
            let remove_to = queue.removals.len().min(BATCH);
            queue.removals.drain(..remove_to).collect::<Vec<_>>()
        };
        let mut batch = Batch { is_failing: self.is_failing(), ..Batch::default() };
        // What was confirmed while it waited is passed over here, and takes no place in the batch.
        while batch.writing.len() < BATCH && batch.bytes < BATCH_BYTES {
            let waiting: Vec<_> = {
                let queue = &mut *self.queue.lock();
                let mut bytes = batch.bytes;
                let fits = |append: &&Append| {
                    let fits = bytes < BATCH_BYTES;
                    bytes += append.size;
                    fits
                };
                let append_to = queue.appends.iter().take(BATCH).take_while(fits).count();
                queue.appends.drain(..append_to).collect()
            };
            if waiting.is_empty() {
                break;
            }
            for append in waiting {
                if let What::Message(kept) = &append.what
                    && kept.account.is_deleted()
                {
                    abandon(kept);
                }
                batch.take(append);
            }
        }
        batch.changes.extend(removals.iter().map(Removal::change));
        self.backlog.fetch_sub(batch.passed, Ordering::Relaxed);
        if batch.changes.is_empty() {
            // Nothing is left that the database has not taken: what it takes is seen with the next.
            self.failing.store(false, Ordering::Release);
            *self.stalled.lock() = None;
            return Ok(());
        }
        self.stalled.lock().get_or_insert_with(Instant::now);
        let begin = Instant::now();
        match self.store.commit(&batch.changes).await {
            Ok(()) => {
                self.keep_pace(&batch, begin.elapsed());
                self.failing.store(false, Ordering::Release);
                *self.stalled.lock() = None;
                self.backlog.fetch_sub(batch.bytes, Ordering::Relaxed);
                self.written(batch.writing, removals);
                Ok(())
            }
            Err(error) => {
                self.failing.store(true, Ordering::Release);
                self.not_written(batch.writing, removals, &error);
                Err(())
            }
        }
    }

    /// The pace of the last batches; a small one says little.
    fn keep_pace(&self, batch: &Batch, took: Duration) {
        if batch.writing.len() < BATCH / 8 && batch.bytes < BATCH_BYTES / 8 {
            return;
        }
        let now = (batch.bytes as f64 / took.as_secs_f64().max(1e-6)) as u64;
        let before = self.pace.load(Ordering::Relaxed);
        let pace = if before == 0 { now } else { before / 4 * 3 + now / 4 };
        self.pace.store(pace.max(1), Ordering::Relaxed);
    }

    /// Says how far all is dealt with. What is confirmed or refused may overtake what waits for the disk, so to count
    /// would not do.
    fn advance(&self) {
        let queue = self.queue.lock();
        let done = queue.appends.front().map_or(queue.appended, |first| first.place);
        drop(queue);
        self.done.send_replace(done);
    }

    fn written(&self, appends: Vec<Append>, removals: Vec<Removal>) {
        for removal in removals {
            if let Removal::Kept(kept) = removal {
                kept.account.tail.lock().forget(&kept);
            }
        }
        for Append { what, .. } in appends {
            let kept = match what {
                What::Message(kept) => kept,
                What::Room(room) => {
                    room.written();
                    continue;
                }
                What::Posted(posted) => {
                    self.over(posted.written(), posted.id);
                    continue;
                }
            };
            let mut tail = kept.account.tail.lock();
            let mut fate = kept.fate.lock();
            let receipts = std::mem::take(&mut fate.receipts);
            match fate.phase {
                Phase::Overtaken => {
                    fate.phase = Phase::Settled;
                    self.remove(kept.clone());
                }
                Phase::Recording if fate.void => {
                    fate.phase = Phase::Settled;
                    self.remove(kept.clone());
                }
                Phase::Recording => {
                    fate.phase = Phase::Settled;
                    tail.forget(&kept);
                }
                _ => fate.phase = Phase::Written,
            }
            drop(fate);
            tail.release(&kept);
            drop(tail);
            drop(receipts);
            if kept.account.is_deleted() {
                abandon(&kept);
            }
        }
    }

    fn not_written(&self, appends: Vec<Append>, removals: Vec<Removal>, error: &StoreError) {
        let server = self.server.get().and_then(Weak::upgrade);
        let (mut late, mut undeliverable) = (Vec::new(), Vec::new());
        let mut again = VecDeque::with_capacity(appends.len());
        let mut ended = 0;
        for Append { place, size, what } in appends {
            let kept = match what {
                What::Message(kept) => kept,
                What::Room(room) => {
                    match room.not_written() {
                        Some(room) => again.push_back(Append { place, size, what: What::Room(room) }),
                        None => ended += size,
                    }
                    continue;
                }
                What::Posted(posted) => {
                    if let Some(over) = posted.not_written() {
                        ended += size;
                        self.over(over, posted.id);
                    } else if let Some(server) = &server
                        && posted.waited() >= PATIENCE
                        && posted.give_up()
                    {
                        ended += size;
                        // At once: who sends it again now may not be told that it waits.
                        let over = posted.failed(server);
                        over.receipts.iter().for_each(|receipt| receipt.withdraw());
                        undeliverable.push((posted, over));
                    } else {
                        again.push_back(Append { place, size, what: What::Posted(posted) });
                    }
                    continue;
                }
            };
            let mut tail = kept.account.tail.lock();
            let mut fate = kept.fate.lock();
            fate.tried = true;
            match fate.phase {
                Phase::Overtaken if kept.is_archived() && !fate.void => fate.phase = Phase::Confirmed,
                Phase::Overtaken | Phase::Recording if fate.void || fate.phase == Phase::Overtaken => {
                    // The failed transaction may have come through all the same: it has to leave the tail.
                    fate.phase = Phase::Settled;
                    let receipts = std::mem::take(&mut fate.receipts);
                    self.remove(kept.clone());
                    ended += size;
                    drop(fate);
                    drop(tail);
                    drop(receipts);
                    continue;
                }
                Phase::Recording => fate.phase = Phase::Confirmed,
                _ => fate.phase = Phase::Queued,
            }
            let (phase, waited) = (fate.phase, fate.queued.elapsed());
            drop(fate);
            // The list's reference and ours: no session holds it, so nobody but the disk could have taken it.
            let refused = if phase == Phase::Queued && waited >= PATIENCE && Arc::strong_count(&kept) <= 2 {
                kept.refuse(&mut tail)
            } else {
                None
            };
            drop(tail);
            match refused {
                Some(receipts) => {
                    ended += size;
                    late.push((kept, receipts));
                }
                None => again.push_back(Append { place, size, what: What::Message(kept) }),
            }
        }
        self.backlog.fetch_sub(ended, Ordering::Relaxed);
        {
            let mut queue = self.queue.lock();
            again.append(&mut queue.appends);
            queue.appends = again;
            let mut first = removals;
            first.append(&mut queue.removals);
            queue.removals = first;
        }
        if let Some(server) = server {
            let error = StanzaError::from(error.clone());
            tokio::spawn(async move {
                for (kept, receipts) in late {
                    receipts.iter().for_each(|receipt| receipt.withdraw());
                    let session = receipts.last().and_then(|receipt| receipt.session());
                    server.bounce(&kept.stanza, error.clone(), session).await;
                    drop(receipts);
                }
                for (posted, over) in undeliverable {
                    posted.send_back(&server, over, error.clone()).await;
                }
            });
        }
    }

    /// Nobody waits for a stanza to another server any more.
    fn over(&self, Over { receipts, is_stored, .. }: Over, id: u64) {
        if is_stored {
            self.remove_posted(id);
        }
        drop(receipts);
    }
}

/// A message of an account that has been deleted: nobody gets it. By now somebody else may have the name, who is not to find
/// it (security.md C8): what was being written meanwhile is taken out again.
fn abandon(kept: &Arc<Kept>) {
    let refused = kept.refuse(&mut kept.account.tail.lock());
    if refused.is_none() {
        kept.withdraw();
    }
}

/// What goes into one transaction.
#[derive(Default)]
struct Batch {
    changes: Vec<TailChange>,
    writing: Vec<Append>,
    /// The bytes of stanzas that it writes.
    bytes: u64,
    /// The bytes of those that need no writing any more.
    passed: u64,
    /// The last one has failed.
    is_failing: bool,
}

impl Batch {
    fn take(&mut self, append: Append) {
        let kept = match &append.what {
            What::Message(kept) => kept,
            What::Room(room) => {
                if !room.begin(&mut self.changes) {
                    self.passed += append.size;
                    return;
                }
                self.bytes += append.size;
                return self.writing.push(append);
            }
            What::Posted(posted) => {
                let gives_up = self.is_failing && posted.waited() >= PATIENCE;
                if !posted.begin(&mut self.changes, gives_up) {
                    self.passed += append.size;
                    return;
                }
                self.bytes += append.size;
                return self.writing.push(append);
            }
        };
        let mut fate = kept.fate.lock();
        let waits = match fate.phase {
            Phase::Queued => {
                fate.phase = Phase::Writing;
                true
            }
            Phase::Confirmed => {
                fate.phase = Phase::Recording;
                false
            }
            _ => {
                self.passed += append.size;
                return;
            }
        };
        drop(fate);
        self.changes.push(TailChange::Append(kept.record(waits)));
        self.bytes += append.size;
        self.writing.push(append);
    }
}
