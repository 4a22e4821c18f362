//! The tail of an account: messages that the server has taken and no resource has confirmed yet.
//!
//! This is where "nothing acknowledged is lost" is kept. A message that may be stored gets a place in the recipient's
//! tail ([`Kept`]), under the account's tail lock, in the order in which it goes to the resources. From then on the
//! sender's [`Receipt`] is held until the message is safe: a message that is archived (XEP-0313) is safe when the
//! [`Writer`] has it on disk; another one also when a resource has confirmed it, and then it never touches the disk. Or
//! its sender is told that it was refused. What is on disk and confirmed later leaves the tail, and stays in the archive
//! if it is there; what is not confirmed is the offline queue (XEP-0160).
//!
//! What an account's own clients send is recorded in the same way (`Tail::record`), but waits for nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_xmpp::stanza::Stanza;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::account::Account;
use crate::archiving;
use crate::seen::Seen;
use crate::session::Receipt;
use crate::store::{Archived, Record, TailEntry, TailSize};
pub use crate::writer::Writer;

/// Those who wait for a message to be safe: its sender, and once more if it was sent again meanwhile.
pub(crate) type Receipts = SmallVec<[Arc<Receipt>; 1]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In the writer's queue.
    Queued,
    /// In the batch that is being written.
    Writing,
    /// On disk, and in the tail.
    Written,
    /// Settled while it was being written: to be taken out of the tail afterwards.
    Overtaken,
    /// It waits for no resource, but the archive lacks it: in the writer's queue.
    Confirmed,
    /// In the batch that is being written, for the archive alone.
    Recording,
    /// Settled; its way out of the tail on disk may still lie ahead.
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

pub(crate) struct Fate {
    pub(crate) phase: Phase,
    pub(crate) receipts: Receipts,
    pub(crate) queued: Instant,
    /// A transaction with it has failed, with an outcome that nobody knows.
    pub(crate) tried: bool,
    /// Refused: the sender has been told, nobody gets it any more.
    pub(crate) void: bool,
}

/// On which side of an archived message the account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Recipient,
}

/// A message in an account's tail, or on its way into its archive.
pub struct Kept {
    /// The stanza-id (XEP-0359): unique in the server, growing with time.
    pub id: u64,
    /// Whose tail.
    pub account: Arc<Account>,
    /// The message; one that was received carries its stanza-id.
    pub stanza: Arc<Stanza>,
    /// The resource it was meant for, when it was sent to a full JID.
    pub resource: Option<Box<str>>,
    /// When the server took it.
    pub stamp: SystemTime,
    archive: Option<Side>,
    digest: Option<u64>,
    pub(crate) fate: Mutex<Fate>,
}

impl Kept {
    /// Some resource has it for certain. Gives who waits for that: to be dropped when neither tail nor session is
    /// locked. Whoever waits for the archive waits on.
    #[must_use]
    pub(crate) fn delivered(self: &Arc<Self>, tail: &mut Tail) -> Receipts {
        let mut fate = self.fate.lock();
        if fate.phase == Phase::Queued && self.archive.is_some() {
            fate.phase = Phase::Confirmed;
            tail.subtract(self);
            return Receipts::new();
        }
        self.settle(&mut fate, tail);
        if self.archive.is_some() { Receipts::new() } else { std::mem::take(&mut fate.receipts) }
    }

    /// Refuses the message, wherever it is: gives the receipts to drop once the sender has been told. `None` when a
    /// resource has confirmed it meanwhile.
    pub(crate) fn refuse(self: &Arc<Self>, tail: &mut Tail) -> Option<Receipts> {
        let mut fate = self.fate.lock();
        if !fate.phase.waits() {
            return None;
        }
        fate.void = true;
        self.settle(&mut fate, tail);
        tail.seen.forget(self.id);
        Some(std::mem::take(&mut fate.receipts))
    }

    /// What its sender's account has recorded of a message that was refused since it could not be stored: as if it had
    /// never been sent. No tail is locked by the caller.
    pub(crate) fn withdraw(self: &Arc<Self>) {
        let mut tail = self.account.tail.lock();
        let mut fate = self.fate.lock();
        fate.void = true;
        match fate.phase {
            Phase::Confirmed if !fate.tried => {
                fate.phase = Phase::Settled;
                tail.forget(self);
            }
            Phase::Confirmed | Phase::Settled => {
                fate.phase = Phase::Settled;
                tail.live.insert(self.id, self.clone());
                self.account.writer.remove(self.clone());
            }
            // Its commit is not over; the writer sees that it is void.
            _ => {}
        }
        tail.seen.forget(self.id);
        let receipts = std::mem::take(&mut fate.receipts);
        drop(fate);
        drop(tail);
        drop(receipts);
    }

    /// It waits for no resource any more.
    fn settle(self: &Arc<Self>, fate: &mut Fate, tail: &mut Tail) {
        fate.phase = match fate.phase {
            Phase::Queued if !fate.tried => {
                tail.live.remove(&self.id);
                Phase::Settled
            }
            // A transaction that failed for us may have come through all the same. It stays listed until its way out is
            // on disk, so that nobody reads it back from there meanwhile.
            Phase::Queued | Phase::Written => {
                tail.live.insert(self.id, self.clone());
                self.account.writer.remove(self.clone());
                Phase::Settled
            }
            Phase::Writing => Phase::Overtaken,
            Phase::Overtaken | Phase::Confirmed | Phase::Recording | Phase::Settled => return,
        };
        tail.subtract(self);
    }

    /// It was sent again: whoever sent it waits until it is safe, if it is not yet.
    fn wait_too(&self, receipt: &Arc<Receipt>) {
        let mut fate = self.fate.lock();
        match fate.phase {
            Phase::Written | Phase::Settled => {}
            Phase::Overtaken if self.archive.is_none() => {}
            _ => fate.receipts.push(receipt.clone()),
        }
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
            archive: None,
            digest: None,
            fate: Mutex::new(Fate {
                phase: Phase::Settled,
                receipts: Receipts::new(),
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
            Phase::Overtaken | Phase::Confirmed | Phase::Recording | Phase::Settled => Standing::Settled,
        }
    }

    /// Refused after all; whoever still holds it passes it over.
    pub fn is_void(&self) -> bool {
        self.fate.lock().void
    }

    /// Nobody has confirmed or refused it yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.fate.lock().phase.waits()
    }

    pub(crate) fn is_archived(&self) -> bool {
        self.archive.is_some()
    }

    /// What it takes in memory, roughly, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.stanza.size() as u64
    }

    /// What goes to disk of it.
    pub(crate) fn record(&self, waits: bool) -> Record {
        let mut stanza = Vec::with_capacity(self.stanza.size() + 64);
        self.stanza.write_standalone(&mut stanza);
        Record {
            entry: TailEntry {
                account: self.account.jid.clone(),
                id: self.id,
                resource: self.resource.as_deref().map(str::to_owned),
                stamp: self.stamp,
                stanza: Bytes::from(stanza),
            },
            waits,
            archived: self.archive.and_then(|side| self.place(side)),
            digest: self.digest,
        }
    }

    fn place(&self, side: Side) -> Option<Archived> {
        let head = &self.stanza.head;
        let peer = match side {
            Side::Sender => head.to.as_ref(),
            Side::Recipient => head.from.as_ref(),
        }?;
        Some(Archived {
            with: peer.bare(),
            resource: peer.resourcepart().map(Box::from),
            sent: side == Side::Sender,
            counts: side == Side::Recipient && archiving::counts(&self.stanza),
            message_id: head.id.clone(),
        })
    }
}

impl Phase {
    pub(crate) const fn waits(self) -> bool {
        matches!(self, Self::Queued | Self::Writing | Self::Written)
    }
}

/// What is to be stored of a message.
pub(crate) struct Keep {
    pub(crate) id: u64,
    pub(crate) stanza: Arc<Stanza>,
    pub(crate) archived: bool,
    pub(crate) digest: Option<u64>,
    pub(crate) waiting: Option<Arc<Receipt>>,
}

impl Keep {
    fn by(self, account: &Arc<Account>, side: Side, resource: Option<Box<str>>) -> Arc<Kept> {
        let phase = if side == Side::Sender { Phase::Confirmed } else { Phase::Queued };
        Arc::new(Kept {
            id: self.id,
            account: account.clone(),
            stanza: self.stanza,
            resource,
            stamp: SystemTime::now(),
            archive: self.archived.then_some(side),
            digest: self.digest,
            fate: Mutex::new(Fate {
                phase,
                receipts: self.waiting.into_iter().collect(),
                queued: Instant::now(),
                tried: false,
                void: false,
            }),
        })
    }
}

/// The part of an account's tail that is in memory.
#[derive(Default)]
pub struct Tail {
    /// Messages that are not on disk yet, that a session holds, or whose way out is not on disk; by id.
    pub(crate) live: BTreeMap<u64, Arc<Kept>>,
    /// All that waits, on disk or not.
    pub(crate) size: TailSize,
    /// Grows whenever an entry leaves `live`, for the disk alone or for good: a page read before that may lack it, or have it
    /// still.
    pub(crate) epoch: u64,
    /// What was sent and received lately.
    pub(crate) seen: Seen,
}

impl Tail {
    pub(crate) fn new(size: TailSize, seen: Seen) -> Self {
        Self { size, seen, ..Self::default() }
    }

    fn subtract(&mut self, kept: &Kept) {
        self.size.messages = self.size.messages.saturating_sub(1);
        self.size.bytes = self.size.bytes.saturating_sub(kept.size());
    }

    /// Takes a message for the account: from here on it is either confirmed, on disk, or refused. The caller holds the
    /// lock while it gives the message to the sessions, so that their order and the tail's are one.
    pub(crate) fn keep(&mut self, account: &Arc<Account>, keep: Keep, resource: Option<Box<str>>) -> Arc<Kept> {
        let kept = keep.by(account, Side::Recipient, resource);
        self.size.messages += 1;
        self.size.bytes += kept.size();
        self.enlist(kept)
    }

    /// Takes a message that the account's user sends, for the archive.
    pub(crate) fn record(&mut self, account: &Arc<Account>, keep: Keep) -> Arc<Kept> {
        self.enlist(keep.by(account, Side::Sender, None))
    }

    /// The id under which the account has this message already; whoever sent it again waits until the first one is safe.
    pub(crate) fn sent_again(
        &self,
        digest: Option<u64>,
        stream: Option<u64>,
        waiting: &Option<Arc<Receipt>>,
    ) -> Option<u64> {
        let id = digest.and_then(|digest| self.seen.find(digest, stream))?;
        if let (Some(kept), Some(receipt)) = (self.live.get(&id), waiting) {
            kept.wait_too(receipt);
        }
        Some(id)
    }

    fn enlist(&mut self, kept: Arc<Kept>) -> Arc<Kept> {
        self.live.insert(kept.id, kept.clone());
        kept.account.writer.append(kept.clone());
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
                    archive: None,
                    digest: None,
                    fate: Mutex::new(Fate {
                        phase: Phase::Written,
                        receipts: Receipts::new(),
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

    /// Lets go of all entries that are on disk and that nobody holds any more.
    pub(crate) fn release_idle(&mut self) {
        let before = self.live.len();
        self.live.retain(|_, kept| Arc::strong_count(kept) > 1 || kept.fate.lock().phase != Phase::Written);
        if self.live.len() != before {
            self.epoch += 1;
        }
    }

    /// What is on its way out is on disk now, or never was there.
    pub(crate) fn forget(&mut self, kept: &Kept) {
        if self.live.remove(&kept.id).is_some() {
            self.epoch += 1;
        }
    }
}
