//! A stanza on its way to another server or a component, and how far the disk is with it.
//!
//! ```text
//! Queued ── its batch begins ─▶ Writing ── committed ─▶ Written ── over ─▶ Settled (leaves the disk)
//!    │ over                        │ over
//!    ▼                             ▼
//! Settled                      Overtaken ── the commit is over ─▶ Settled (leaves the disk)
//! ```
//!
//! *Over* means confirmed by the peer, or its sender was told. What is over before its batch begins never touches the disk, but
//! for what it would be known by if it were sent again (`seen.rs`): what the peer has confirmed is then *Confirmed*, and
//! *Recording*, until that is on disk.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::stanza::{IqType, Kind, MessageType, PresenceType, Stanza};
use tokio::time::Instant;

use super::{Link, Pair};
use crate::account::Account;
use crate::deliver::may_be_kept;
use crate::server::Server;
use crate::session::Receipt;
use crate::store::{OutgoingEntry, Record, TailChange, TailEntry};
use crate::tail::Receipts;

/// What a stanza that waits takes beside its text, in bytes.
const OVERHEAD: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is never written.
    InMemory,
    Queued,
    Writing,
    Written,
    Overtaken,
    Confirmed,
    Recording,
    Settled,
}

struct Fate {
    phase: Phase,
    receipts: Receipts,
    /// A transaction with it has failed, with an outcome that nobody knows.
    tried: bool,
    /// Whoever sent it knows it by this, until it has failed.
    known: Option<Known>,
}

/// What a message that goes away is known by to the account that sends it.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) account: Arc<Account>,
    pub(super) digest: u64,
}

/// A stanza on its way.
pub(crate) struct Posted {
    /// Unique in the server, growing; its ticket.
    pub(crate) id: u64,
    pub(crate) pair: Arc<Pair>,
    pub(crate) stanza: Arc<Stanza>,
    size: u64,
    /// When the server took it.
    pub(crate) stamp: SystemTime,
    pub(super) link: Weak<Link>,
    queued: Instant,
    fate: Mutex<Fate>,
}

/// What is left to be done for a stanza that is over. Not under a lock.
#[must_use]
pub(crate) struct Over {
    pub(crate) receipts: Receipts,
    /// It has to leave the disk.
    pub(crate) is_stored: bool,
}

impl Posted {
    /// A new one. `durable`: it is to be given to the writer.
    pub(super) fn new(
        id: u64,
        link: &Arc<Link>,
        stanza: Stanza,
        durable: bool,
        receipts: Receipts,
        known: Option<Known>,
    ) -> Arc<Self> {
        let phase = if durable { Phase::Queued } else { Phase::InMemory };
        Self::make(id, link, stanza, SystemTime::now(), Fate { phase, receipts, tried: false, known })
    }

    /// One that is on disk.
    pub(super) fn stored(id: u64, link: &Arc<Link>, stanza: Stanza, stamp: SystemTime) -> Arc<Self> {
        let fate = Fate { phase: Phase::Written, receipts: Receipts::new(), tried: false, known: None };
        Self::make(id, link, stanza, stamp, fate)
    }

    fn make(id: u64, link: &Arc<Link>, stanza: Stanza, stamp: SystemTime, fate: Fate) -> Arc<Self> {
        Arc::new(Self {
            id,
            pair: link.pair.clone(),
            size: size(&stanza),
            stanza: Arc::new(stanza),
            stamp,
            link: Arc::downgrade(link),
            queued: Instant::now(),
            fate: Mutex::new(fate),
        })
    }

    /// The bytes that it takes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How long the writer has had it.
    pub(crate) fn waited(&self) -> Duration {
        self.queued.elapsed()
    }

    /// What goes to disk of it.
    pub(crate) fn entry(&self) -> OutgoingEntry {
        let mut stanza = Vec::with_capacity(self.stanza.size() + 64);
        self.stanza.write_standalone(&mut stanza);
        let Pair { local, remote } = (*self.pair).clone();
        OutgoingEntry { id: self.id, local, remote, stamp: self.stamp, stanza: Bytes::from(stanza) }
    }

    /// It was sent again: whoever sent it waits until it is safe, if it is not yet.
    pub(super) fn wait_too(&self, receipt: &Arc<Receipt>) {
        let mut fate = self.fate.lock();
        if matches!(fate.phase, Phase::Queued | Phase::Writing) {
            fate.receipts.push(receipt.clone());
        }
    }

    /// The peer has it.
    pub(super) fn confirmed(&self) -> Over {
        self.over()
    }

    /// Its sender is told next, and may send it again. No tail is locked by the caller.
    pub(super) fn failed(&self) -> Over {
        let known = self.fate.lock().known.take();
        if let Some(Known { account, .. }) = known {
            account.tail.lock().seen.forget(self.id);
            account.writer.forget(account.jid.clone(), self.id);
        }
        self.over()
    }

    fn over(&self) -> Over {
        let mut fate = self.fate.lock();
        let (phase, is_stored) = match fate.phase {
            Phase::Queued if fate.known.is_some() => (Phase::Confirmed, false),
            Phase::Queued => (Phase::Settled, fate.tried),
            Phase::Written => (Phase::Settled, true),
            Phase::Writing => (Phase::Overtaken, false),
            phase => (phase, false),
        };
        fate.phase = phase;
        Over { receipts: std::mem::take(&mut fate.receipts), is_stored }
    }

    // ---- for the writer -------------------------------------------------------------------------------------------

    /// Its batch begins; `false` when there is nothing to be written any more.
    pub(crate) fn begin(&self, changes: &mut Vec<TailChange>) -> bool {
        let (phase, tried, known) = {
            let mut fate = self.fate.lock();
            fate.phase = match fate.phase {
                Phase::Queued => Phase::Writing,
                Phase::Confirmed => Phase::Recording,
                _ => return false,
            };
            (fate.phase, fate.tried, fate.known.clone())
        };
        let before = changes.len();
        match phase {
            Phase::Writing => changes.push(TailChange::Send(self.entry())),
            _ if tried => changes.push(TailChange::Sent { id: self.id }),
            _ => {}
        }
        changes.extend(known.and_then(|known| self.record(known)).map(TailChange::Append));
        changes.len() > before
    }

    /// What it is known by, unless an error has come back meanwhile, or the account has gone.
    fn record(&self, Known { account, digest }: Known) -> Option<Record> {
        if account.is_deleted() || !account.tail.lock().seen.knows(digest, self.id) {
            return None;
        }
        let (account, stanza) = (account.jid.clone(), Bytes::new());
        let entry = TailEntry { account, id: self.id, resource: None, stamp: self.stamp, stanza };
        Some(Record { entry, waits: false, archived: None, digest: Some(digest) })
    }

    /// It is on disk.
    pub(crate) fn written(&self) -> Over {
        let mut fate = self.fate.lock();
        let is_over = fate.phase == Phase::Overtaken;
        fate.phase = if fate.phase == Phase::Writing { Phase::Written } else { Phase::Settled };
        Over { receipts: std::mem::take(&mut fate.receipts), is_stored: is_over }
    }

    /// Its commit has failed, and may have come through all the same. `None`: it is to be tried again; what is only to be known
    /// is not when that is `late`.
    pub(crate) fn not_written(&self, late: bool) -> Option<Over> {
        let mut fate = self.fate.lock();
        fate.tried = true;
        fate.phase = match fate.phase {
            Phase::Overtaken | Phase::Recording if fate.known.is_some() && !late => Phase::Confirmed,
            Phase::Overtaken | Phase::Recording => {
                fate.phase = Phase::Settled;
                return Some(Over { receipts: std::mem::take(&mut fate.receipts), is_stored: true });
            }
            _ => Phase::Queued,
        };
        None
    }

    /// The database has not taken it for too long. `true`: it leaves its link, since no stream has been handed it either,
    /// and is to be [sent back](Self::send_back).
    pub(crate) fn give_up(&self) -> bool {
        self.link.upgrade().is_some_and(|link| link.take(self.id).is_some())
    }

    /// Tells its sender that it could not be stored.
    pub(crate) async fn send_back(self: Arc<Self>, server: &Arc<Server>, error: StanzaError) {
        let Over { receipts, is_stored } = self.failed();
        receipts.iter().for_each(|receipt| receipt.withdraw());
        server.bounce(&self.stanza, error, receipts.last().and_then(|receipt| receipt.session())).await;
        drop(receipts);
        if is_stored {
            server.writer.remove_posted(self);
        }
    }
}

/// The bytes that a stanza takes while it waits, about.
pub(super) fn size(stanza: &Stanza) -> u64 {
    stanza.size() as u64 + OVERHEAD
}

/// Whether a stanza outlives the process while it waits for another server: what somebody has said or asked. Presence and
/// answers are of now; what does not want to be stored (XEP-0334), and chat states alone, are not.
pub(super) fn is_durable(stanza: &Stanza) -> bool {
    match stanza.head.kind {
        Kind::Message(kind @ (MessageType::Normal | MessageType::Chat)) => may_be_kept(kind, stanza),
        Kind::Message(MessageType::Groupchat) => may_be_kept(MessageType::Normal, stanza),
        Kind::Message(MessageType::Headline | MessageType::Error) => false,
        Kind::Presence(kind) => matches!(
            kind,
            PresenceType::Subscribe | PresenceType::Subscribed | PresenceType::Unsubscribe | PresenceType::Unsubscribed
        ),
        Kind::Iq(kind) => matches!(kind, IqType::Get | IqType::Set),
    }
}
