//! The tail of an account: messages that the server has taken and no resource has confirmed yet.
//!
//! This is where "nothing acknowledged is lost" is kept. A message that may be stored gets a place in the recipient's
//! tail ([`Kept`]), under the account's tail lock, in the order in which it goes to the resources. From then on one of
//! three things happens, and the sender's [`Receipt`] is held until it has: a resource confirms it, the [`Writer`] has it
//! on disk, or the sender is told that it was refused. A message that is confirmed before its batch is written never
//! touches the disk. What is on disk and confirmed later is removed; what is not is the offline queue (XEP-0160).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::stanza::Stanza;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::account::Account;
use crate::server::Server;
use crate::session::Receipt;
use crate::store::{Store, StoreError, TailChange, TailEntry, TailSize};

/// How long a batch is gathered: long enough for a resource on a good line to confirm first.
const WINDOW: Duration = Duration::from_millis(3);
/// Removals alone are in no hurry: losing one costs a resource a message that it has seen, with the same id.
const LAZY_WINDOW: Duration = Duration::from_millis(50);
/// A message that the database has not taken for so long is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Changes in one transaction.
const BATCH: usize = 2000;

/// Gives out ids that grow with time and never fall back, whatever the wall clock does.
#[derive(Debug, Default)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Ids go on above this one.
    pub fn above(last: u64) -> Self {
        Self(AtomicU64::new(last))
    }

    /// The next id: microseconds since 1970, or one more than the last id if that is higher.
    pub fn next(&self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            let next = now.max(last + 1);
            match self.0.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In the writer's queue.
    Queued,
    /// In the batch that is being written.
    Writing,
    /// On disk.
    Written,
    /// Settled while it was being written: to be removed afterwards.
    Overtaken,
    /// Settled; the removal from disk may still be on its way.
    Settled,
}

/// What has become of a message so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not on disk.
    Unwritten,
    /// It is on disk, and nobody has confirmed it.
    Waits,
    /// Somebody has confirmed it.
    Settled,
    /// It was refused.
    Void,
}

struct Fate {
    phase: Phase,
    receipt: Option<Arc<Receipt>>,
    queued: Instant,
    /// A transaction with it has failed, with an outcome that nobody knows.
    tried: bool,
    /// Refused: the sender has been told, nobody gets it any more.
    void: bool,
}

/// A message in an account's tail.
pub struct Kept {
    /// The stanza-id (XEP-0359): unique in the server, growing with time.
    pub id: u64,
    /// Whose tail.
    pub account: Arc<Account>,
    /// The message, with its stanza-id.
    pub stanza: Arc<Stanza>,
    /// The resource it was meant for, when it was sent to a full JID.
    pub resource: Option<Box<str>>,
    /// When the server took it.
    pub stamp: SystemTime,
    fate: Mutex<Fate>,
}

impl Kept {
    /// Some resource has it for certain. Gives what the sender waits for: to be dropped when neither tail nor session is
    /// locked.
    #[must_use]
    pub(crate) fn delivered(self: &Arc<Self>, tail: &mut Tail) -> Option<Arc<Receipt>> {
        let mut fate = self.fate.lock();
        self.settle(&mut fate, tail);
        fate.receipt.take()
    }

    /// Refuses the message, wherever it is: gives the receipt to drop once the sender has been told. `None` when a
    /// resource has confirmed it meanwhile.
    pub(crate) fn refuse(self: &Arc<Self>, tail: &mut Tail) -> Option<Option<Arc<Receipt>>> {
        let mut fate = self.fate.lock();
        self.settle(&mut fate, tail).then(|| {
            fate.void = true;
            fate.receipt.take()
        })
    }

    /// It waits no more. `false` when it did not before.
    fn settle(self: &Arc<Self>, fate: &mut Fate, tail: &mut Tail) -> bool {
        fate.phase = match fate.phase {
            Phase::Queued if !fate.tried => {
                tail.live.remove(&self.id);
                Phase::Settled
            }
            // A transaction that failed for us may have come through all the same. It stays listed until the removal is
            // on disk, so that nobody reads it back from there meanwhile.
            Phase::Queued | Phase::Written => {
                tail.live.insert(self.id, self.clone());
                self.account.writer.remove(self.clone());
                Phase::Settled
            }
            Phase::Writing => Phase::Overtaken,
            Phase::Overtaken | Phase::Settled => return false,
        };
        tail.subtract(self);
        true
    }

    /// A message of an earlier run of the server that waits no more, for a session that is still to get it, or to
    /// acknowledge it.
    pub(crate) fn past(account: &Arc<Account>, entry: TailEntry, stanza: Arc<Stanza>, is_void: bool) -> Arc<Self> {
        Arc::new(Self {
            id: entry.id,
            account: account.clone(),
            stanza,
            resource: entry.resource.map(String::into_boxed_str),
            stamp: entry.stamp,
            fate: Mutex::new(Fate {
                phase: Phase::Settled,
                receipt: None,
                queued: Instant::now(),
                tried: false,
                void: is_void,
            }),
        })
    }

    /// Where it stands, for a session that is written down.
    pub(crate) fn standing(&self) -> Standing {
        let fate = self.fate.lock();
        match fate.phase {
            _ if fate.void => Standing::Void,
            Phase::Queued | Phase::Writing => Standing::Unwritten,
            Phase::Written => Standing::Waits,
            Phase::Overtaken | Phase::Settled => Standing::Settled,
        }
    }

    /// Refused after all; whoever still holds it passes it over.
    pub fn is_void(&self) -> bool {
        self.fate.lock().void
    }

    /// Nobody has confirmed or refused it yet.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.fate.lock().phase, Phase::Queued | Phase::Writing | Phase::Written)
    }

    fn size(&self) -> u64 {
        self.stanza.size() as u64
    }

    fn entry(&self) -> TailEntry {
        let mut stanza = Vec::with_capacity(self.stanza.size() + 64);
        self.stanza.write_standalone(&mut stanza);
        TailEntry {
            account: self.account.jid.clone(),
            id: self.id,
            resource: self.resource.as_deref().map(str::to_owned),
            stamp: self.stamp,
            stanza: Bytes::from(stanza),
        }
    }
}

/// The part of an account's tail that is in memory.
#[derive(Default)]
pub struct Tail {
    /// Messages that are not on disk yet, that a session holds, or whose removal is on its way; by id.
    pub(crate) live: BTreeMap<u64, Arc<Kept>>,
    /// All that waits, on disk or not.
    pub(crate) size: TailSize,
    /// Grows whenever an entry leaves `live`, for the disk alone or for good: a page read before that may lack it, or have it
    /// still.
    pub(crate) epoch: u64,
}

impl Tail {
    fn subtract(&mut self, kept: &Kept) {
        self.size.messages = self.size.messages.saturating_sub(1);
        self.size.bytes = self.size.bytes.saturating_sub(kept.size());
    }

    /// Takes a message: from here on it is either confirmed, on disk, or refused. The caller holds the lock while it
    /// gives the message to the sessions, so that their order and the tail's are one.
    pub(crate) fn keep(
        &mut self,
        account: &Arc<Account>,
        id: u64,
        stanza: Arc<Stanza>,
        resource: Option<Box<str>>,
        receipt: Option<Arc<Receipt>>,
    ) -> Arc<Kept> {
        let kept = Arc::new(Kept {
            id,
            account: account.clone(),
            stanza,
            resource,
            stamp: SystemTime::now(),
            fate: Mutex::new(Fate { phase: Phase::Queued, receipt, queued: Instant::now(), tried: false, void: false }),
        });
        self.size.messages += 1;
        self.size.bytes += kept.size();
        self.live.insert(id, kept.clone());
        account.writer.append(kept.clone());
        kept
    }

    /// An entry read from disk, or the one in memory if there is one.
    pub(crate) fn recall(&mut self, account: &Arc<Account>, entry: TailEntry, stanza: Arc<Stanza>) -> Arc<Kept> {
        self.live
            .entry(entry.id)
            .or_insert_with(|| {
                Arc::new(Kept {
                    id: entry.id,
                    account: account.clone(),
                    stanza,
                    resource: entry.resource.map(String::into_boxed_str),
                    stamp: entry.stamp,
                    fate: Mutex::new(Fate {
                        phase: Phase::Written,
                        receipt: None,
                        queued: Instant::now(),
                        tried: false,
                        void: false,
                    }),
                })
            })
            .clone()
    }

    /// A session has let go of an entry that is on disk: memory can, too.
    pub(crate) fn release(&mut self, kept: &Arc<Kept>) {
        // The list's own reference and the caller's.
        if kept.fate.lock().phase == Phase::Written
            && Arc::strong_count(kept) <= 2
            && self.live.remove(&kept.id).is_some()
        {
            self.epoch += 1;
        }
    }
}

#[derive(Default)]
struct Queue {
    appends: Vec<Arc<Kept>>,
    removals: Vec<Arc<Kept>>,
}

/// The group commit: one task that writes what waits, many messages in one transaction.
pub struct Writer {
    store: Arc<dyn Store>,
    queue: Mutex<Queue>,
    notify: Notify,
    failing: AtomicBool,
    closing: AtomicBool,
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

    fn append(&self, kept: Arc<Kept>) {
        let mut queue = self.queue.lock();
        queue.appends.push(kept);
        let first = queue.appends.len() == 1;
        drop(queue);
        if first {
            self.notify.notify_one();
        }
    }

    fn remove(&self, kept: Arc<Kept>) {
        let mut queue = self.queue.lock();
        queue.removals.push(kept);
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
        }
    }

    async fn write_batch(&self) -> Result<(), ()> {
        let removals = {
            let mut queue = self.queue.lock();
            let remove_to = queue.removals.len().min(BATCH);
            queue.removals.drain(..remove_to).collect::<Vec<_>>()
        };
        let (mut changes, mut writing) = (Vec::new(), Vec::new());
        // What was confirmed while it waited is passed over here, and takes no place in the batch.
        while writing.len() < BATCH {
            let waiting: Vec<_> = {
                let mut queue = self.queue.lock();
                let append_to = queue.appends.len().min(BATCH);
                queue.appends.drain(..append_to).collect()
            };
            if waiting.is_empty() {
                break;
            }
            for kept in waiting {
                if kept.account.is_deleted() {
                    // By now somebody else may have the name, who is not to find it (security.md C8).
                    let receipt = kept.refuse(&mut kept.account.tail.lock());
                    drop(receipt);
                    continue;
                }
                let mut fate = kept.fate.lock();
                if fate.phase == Phase::Queued {
                    fate.phase = Phase::Writing;
                    drop(fate);
                    changes.push(TailChange::Append(kept.entry()));
                    writing.push(kept);
                }
            }
        }
        changes
            .extend(removals.iter().map(|kept| TailChange::Remove { account: kept.account.jid.clone(), id: kept.id }));
        if changes.is_empty() {
            return Ok(());
        }
        match self.store.commit(&changes).await {
            Ok(()) => {
                self.failing.store(false, Ordering::Release);
                self.written(writing, removals);
                Ok(())
            }
            Err(error) => {
                self.failing.store(true, Ordering::Release);
                self.not_written(writing, removals, &error);
                Err(())
            }
        }
    }

    fn written(&self, appends: Vec<Arc<Kept>>, removals: Vec<Arc<Kept>>) {
        for kept in removals {
            let mut tail = kept.account.tail.lock();
            if tail.live.remove(&kept.id).is_some() {
                tail.epoch += 1;
            }
        }
        for kept in appends {
            let mut tail = kept.account.tail.lock();
            let mut fate = kept.fate.lock();
            let receipt = fate.receipt.take();
            if fate.phase == Phase::Overtaken {
                fate.phase = Phase::Settled;
                self.remove(kept.clone());
            } else {
                fate.phase = Phase::Written;
            }
            drop(fate);
            tail.release(&kept);
            drop(tail);
            drop(receipt);
        }
    }

    fn not_written(&self, appends: Vec<Arc<Kept>>, removals: Vec<Arc<Kept>>, error: &StoreError) {
        let mut late = Vec::new();
        let mut again = Vec::with_capacity(appends.len());
        for kept in appends {
            let mut tail = kept.account.tail.lock();
            let mut fate = kept.fate.lock();
            fate.tried = true;
            if fate.phase == Phase::Overtaken {
                // The failed transaction may have come through all the same: remove it.
                fate.phase = Phase::Settled;
                self.remove(kept.clone());
                continue;
            }
            fate.phase = Phase::Queued;
            let waited = fate.queued.elapsed();
            drop(fate);
            // The list's reference and ours: no session holds it, so nobody but the disk could have taken it.
            let refused =
                if waited >= PATIENCE && Arc::strong_count(&kept) <= 2 { kept.refuse(&mut tail) } else { None };
            drop(tail);
            match refused {
                Some(receipt) => late.push((kept, receipt)),
                None => again.push(kept),
            }
        }
        {
            let mut queue = self.queue.lock();
            again.append(&mut queue.appends);
            queue.appends = again;
            let mut first = removals;
            first.append(&mut queue.removals);
            queue.removals = first;
        }
        if let Some(server) = self.server.get().and_then(Weak::upgrade) {
            let error = StanzaError::from(error.clone());
            tokio::spawn(async move {
                for (kept, receipt) in late {
                    server.bounce(&kept.stanza, error.clone(), receipt.as_deref().map(Receipt::session)).await;
                    drop(receipt);
                }
            });
        }
    }
}
