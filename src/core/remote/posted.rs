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
//! for what it would be known by if it were sent again (`seen.rs`). That is in the same commit, or, if the peer has confirmed it
//! by then, or that commit has failed, in one of its own:
//!
//! ```text
//! Queued ── confirmed ─▶ Confirmed ── its batch begins ─▶ Recording ── committed ─▶ Settled
//! ```

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::{FullJid, Jid};
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
    /// What its sender is to know it by, until that is on disk or it has failed.
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
    /// The session that has sent it again, which is to be told if the one that sent it first is gone.
    again: Option<FullJid>,
}

impl Over {
    fn of(fate: &mut Fate) -> Self {
        Self { receipts: std::mem::take(&mut fate.receipts), is_stored: false, again: None }
    }
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

    /// It was sent again: whoever sent it waits until it is safe, or has failed, if it is not yet. The sender's tail is locked.
    pub(super) fn wait_too(&self, receipt: &Arc<Receipt>) {
        let mut fate = self.fate.lock();
        if matches!(fate.phase, Phase::Queued | Phase::Writing) {
            fate.receipts.push(receipt.clone());
        }
    }

    /// Its sender is told next, and may send a message again: nobody who does so from now on is told that it waits, and who has done so
    /// before is told with the first. No tail is locked by the caller.
    pub(crate) fn failed(&self, server: &Server) -> Over {
        let (known, is_written) = {
            let mut fate = self.fate.lock();
            (fate.known.take(), fate.phase == Phase::Written && matches!(self.stanza.head.kind, Kind::Message(_)))
        };
        let mut again = None;
        if let Some(from) = self.stanza.head.from.as_ref().filter(|_| known.is_some() || is_written) {
            let account = known.map(|known| known.account);
            let account = account.or_else(|| server.accounts.loaded(from.bare_str()));
            again = account.as_ref().and_then(|account| account.tail.lock().seen.forget_posted(self.id));
            server.writer.forget(&from.bare(), self.id, account);
        }
        Over { again, ..self.over() }
    }

    /// The peer has it, or it has [failed](Self::failed).
    pub(super) fn over(&self) -> Over {
        let mut fate = self.fate.lock();
        let (phase, is_stored) = match fate.phase {
            Phase::Queued if fate.known.is_some() => (Phase::Confirmed, false),
            Phase::Queued => (Phase::Settled, fate.tried),
            Phase::Written => (Phase::Settled, true),
            Phase::Writing => (Phase::Overtaken, false),
            phase => (phase, false),
        };
        fate.phase = phase;
        Over { is_stored, ..Over::of(&mut fate) }
    }

    // ---- for the writer -------------------------------------------------------------------------------------------

    /// Its batch begins; `false` when there is nothing to be written any more. `gives_up`: nobody waits for it to be known
    /// after a crash.
    pub(crate) fn begin(&self, changes: &mut Vec<TailChange>, gives_up: bool) -> bool {
        let (phase, tried, known) = {
            let mut fate = self.fate.lock();
            fate.phase = match fate.phase {
                Phase::Queued => Phase::Writing,
                Phase::Confirmed => Phase::Recording,
                _ => return false,
            };
            if gives_up && fate.phase == Phase::Recording {
                // It may have to leave the disk still, if it was ever written.
                fate.known = None;
            }
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
        // Else an account would stay in memory for as long as another server is away.
        fate.known = None;
        Over { is_stored: is_over, ..Over::of(&mut fate) }
    }

    /// Its commit has failed, and may have come through all the same. `None`: it is to be tried again.
    pub(crate) fn not_written(&self) -> Option<Over> {
        let mut fate = self.fate.lock();
        fate.tried |= fate.phase != Phase::Recording;
        fate.phase = match fate.phase {
            Phase::Overtaken | Phase::Recording if fate.known.is_some() => Phase::Confirmed,
            Phase::Overtaken | Phase::Recording => {
                fate.phase = Phase::Settled;
                return Some(Over { is_stored: true, ..Over::of(&mut fate) });
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

    /// Tells its sender that it has [failed](Self::failed).
    pub(crate) async fn send_back(&self, server: &Arc<Server>, over: Over, error: StanzaError) {
        let Over { receipts, is_stored, again } = over;
        let is_gone = |from: &Jid| {
            let account = server.accounts.loaded(from.bare_str());
            account.is_none_or(|account| from.resourcepart().is_none_or(|resource| account.session(resource).is_none()))
        };
        let mut stanza = self.stanza.clone();
        if let Some(again) = again.filter(|_| self.stanza.head.from.as_ref().is_none_or(is_gone)) {
            Arc::make_mut(&mut stanza).head.from = Some(again.into());
        }
        server.bounce(&stanza, error, receipts.last().and_then(|receipt| receipt.session())).await;
        drop(receipts);
        if is_stored {
            server.writer.remove_posted(self.id);
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
