//! A session: one bound resource (RFC 6120 §7), the stanzas on their way to its client, and what acknowledges them.
//!
//! The connection is somebody else's (`rookery-net`): it drains the outbox when it is woken, says when bytes are
//! written, and may go away and come back (XEP-0198 resumption) while the session lives on. Locks: an account's before a
//! session's, and no [`Kept`] is settled while a session is locked.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_xmpp::ack;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::stanza::Stanza;
use tokio::sync::Notify;

use crate::account::Account;
use crate::request::Request;
use crate::slots::{Slot, Slots};
use crate::tail::Kept;

/// The priority of a session that is not available.
const UNAVAILABLE: i16 = i16::MIN;

/// So many times the outbox's bound may be with a client that reads and does not acknowledge: far more than the presence
/// of a full roster, which arrives while the first acknowledgement is still on its way.
const UNACKED: usize = 16;

/// Requests of one client that the server is at, at once.
const MOST_ASKING: usize = 100;

/// Resumptions in a row that find the same stanza first and unhandled, until it is given up.
const POISONED: u32 = 3;

/// What a client is told that cannot be sent everything.
const SLOW: &str = "Your client reads more slowly than it is sent to.";

/// What a stanza in a queue takes beside its text, in bytes.
const OVERHEAD: usize = 64;

/// A stanza on its way to a client.
#[derive(Clone)]
pub struct Outgoing {
    /// The stanza, shared by all who get it.
    pub stanza: Arc<Stanza>,
    /// Whom the start tag names instead of the stanza's own `to`.
    pub to: Option<Jid>,
    /// The message's place in the account's tail, when it has one.
    pub kept: Option<Arc<Kept>>,
}

impl Outgoing {
    /// A stanza that nobody keeps.
    pub fn new(stanza: Stanza) -> Self {
        Self { stanza: Arc::new(stanza), to: None, kept: None }
    }

    fn size(&self) -> usize {
        self.stanza.size() + OVERHEAD
    }
}

enum Out {
    Stanza(Outgoing),
    Nonza(Bytes),
    /// Tells the client that stream management is on; what follows is counted.
    Enabled(Bytes),
}

/// Facts of the stream that logs and modules ask for.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// Names the stream in the log.
    pub id: u64,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// Whether the bytes travel inside TLS.
    pub secured: bool,
}

/// The bounds of a session's queues.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Bytes that wait for the connection.
    pub outbox: usize,
    /// Bytes that are written and not acknowledged.
    pub unacked: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Attached,
    Detached,
    Closed,
}

/// Stream management of a session (XEP-0198).
struct Acks {
    id: Box<str>,
    resumable: Option<Duration>,
    unacked: ack::Outgoing<Outgoing>,
    unacked_bytes: usize,
    counting: bool,
    incoming: ack::Incoming,
    /// The count of `incoming`, for those who ask when the session is gone.
    handled: Arc<AtomicU32>,
    /// The client asked, and some stanza was not durable yet.
    answer_due: bool,
    answer_now: bool,
    /// When we asked the client and it has not answered.
    asked: Option<Instant>,
}

struct State {
    phase: Phase,
    outbox: VecDeque<Out>,
    bytes: usize,
    in_flight: Vec<Arc<Kept>>,
    acks: Option<Box<Acks>>,
    /// The session gets the tail from the store, from this id on; new kept messages wait there for their turn.
    catching_up: Option<u64>,
    /// The size of the next message of the tail, when it was offered and there was no room: it waits for so much.
    wanted: usize,
    /// Messages that were pushed while the session was catching up: it gets them in their turn, though another resource
    /// confirms them first.
    owed: BTreeMap<u64, Arc<Kept>>,
    owed_bytes: usize,
    /// Something was not sent that cannot be made good: the stream cannot go on as if nothing had happened.
    has_gap: bool,
    presence: Option<Arc<Stanza>>,
    interested: bool,
    closing: Option<StreamError>,
    /// What the server has asked the client and got no answer to.
    requests: Vec<Request>,
    slots: Slots,
}

/// One bound resource.
pub struct Session {
    /// The full JID.
    pub jid: FullJid,
    /// The account it belongs to.
    pub account: Arc<Account>,
    /// Facts of the stream that it was bound on.
    pub stream: StreamInfo,
    priority: AtomicI16,
    connection: AtomicU64,
    limits: SessionLimits,
    reading: AtomicBool,
    wake: Notify,
    settled: Notify,
    roomy: Notify,
    /// Each request that is under way holds one.
    asking: Arc<()>,
    state: Mutex<State>,
}

/// What became of a stanza that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the outbox, or will be read from the tail in its turn.
    Taken,
    /// The session has ended, or cannot take what nobody keeps.
    Refused,
}

/// What a session that has ended did not deliver.
pub(crate) struct Left {
    /// What it held, oldest first.
    pub(crate) outgoing: Vec<Outgoing>,
    /// From where on it had not read the tail.
    pub(crate) unread: Option<u64>,
}

/// What [`Session::resume`] did.
pub(crate) struct Resumed {
    /// The number of the new connection.
    pub(crate) connection: u64,
    /// A stanza that the client has died of again and again: it is not sent any more, and its sender is to be told.
    pub(crate) parked: Option<Outgoing>,
}

/// What [`Session::drain`] did.
#[derive(Debug, Default)]
pub struct Drained {
    /// Something was written into the buffer.
    pub wrote: bool,
    /// The budget was used up and more waits.
    pub more: bool,
    /// The session wants its tail read: call [`crate::server::Server::catch_up`].
    pub hungry: bool,
    /// After these bytes the stream is to be closed so.
    pub close: Option<StreamError>,
}

impl Session {
    pub(crate) fn new(jid: FullJid, account: Arc<Account>, stream: StreamInfo, limits: SessionLimits) -> Arc<Self> {
        Arc::new(Self {
            jid,
            account,
            stream,
            priority: AtomicI16::new(UNAVAILABLE),
            connection: AtomicU64::new(1),
            limits,
            reading: AtomicBool::new(false),
            wake: Notify::new(),
            settled: Notify::new(),
            roomy: Notify::new(),
            asking: Arc::new(()),
            state: Mutex::new(State {
                phase: Phase::Attached,
                outbox: VecDeque::new(),
                bytes: 0,
                in_flight: Vec::new(),
                acks: None,
                catching_up: None,
                wanted: 0,
                owed: BTreeMap::new(),
                owed_bytes: 0,
                has_gap: false,
                presence: None,
                interested: false,
                closing: None,
                requests: Vec::new(),
                slots: Slots::default(),
            }),
        })
    }

    // ---- for modules and the router ------------------------------------------------------------------------------

    /// The priority of its presence; `None` while it is not available.
    pub fn priority(&self) -> Option<i8> {
        match self.priority.load(Ordering::Acquire) {
            UNAVAILABLE => None,
            priority => Some(priority as i8),
        }
    }

    /// Whether it has sent available presence.
    pub fn is_available(&self) -> bool {
        self.priority().is_some()
    }

    /// The last available presence it broadcast.
    pub fn presence(&self) -> Option<Arc<Stanza>> {
        self.state.lock().presence.clone()
    }

    /// Remembers the presence it broadcasts: available with a priority, or `None` for unavailable. `false` when the
    /// session has ended, and is not available any more whatever its client says.
    ///
    /// One that messages to the bare JID reach from now on gets first what waits in the tail.
    pub fn set_presence(&self, presence: Option<(Arc<Stanza>, i8)>) -> bool {
        let priority = presence.as_ref().map_or(UNAVAILABLE, |(_, priority)| i16::from(*priority));
        let tail = self.account.tail.lock();
        let mut state = self.state.lock();
        if state.phase == Phase::Closed && presence.is_some() {
            return false;
        }
        if priority >= 0 && self.priority.load(Ordering::Acquire) < 0 && tail.size.messages > 0 {
            state.read_on_from(0);
        }
        state.presence = presence.map(|(stanza, _)| stanza);
        self.priority.store(priority, Ordering::Release);
        true
    }

    /// It has asked for the roster and gets roster pushes (RFC 6121 §2.2).
    pub fn is_interested(&self) -> bool {
        self.state.lock().interested
    }

    /// It asks for the roster.
    pub fn set_interested(&self) {
        self.state.lock().interested = true;
    }

    /// A copy of what a module keeps in the session.
    pub fn get<T: std::any::Any + Send + Clone>(&self, slot: Slot<T>) -> Option<T> {
        self.state.lock().slots.get(slot).cloned()
    }

    /// Puts what a module keeps into the session.
    pub fn set<T: std::any::Any + Send>(&self, slot: Slot<T>, value: T) {
        self.state.lock().slots.set(slot, value);
    }

    /// Changes what a module keeps in the session, made by default first. The session is locked meanwhile.
    pub fn update<T: std::any::Any + Send + Default, R>(
        &self,
        slot: Slot<T>,
        f: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        self.state.lock().slots.entry(slot).map(f)
    }

    /// Takes what a module keeps out of the session.
    pub fn take<T: std::any::Any + Send>(&self, slot: Slot<T>) -> Option<T> {
        self.state.lock().slots.take(slot)
    }

    /// Sends a stanza that nobody keeps: an IQ, a presence, a copy.
    pub fn send(&self, stanza: Stanza) -> Pushed {
        self.push(Outgoing::new(stanza))
    }

    /// Puts a stanza into the outbox and wakes the connection.
    ///
    /// A full outbox never drops a kept message: the session reads it from the tail when there is room again. What
    /// nobody keeps ends the session instead, with an error that says so.
    pub fn push(&self, out: Outgoing) -> Pushed {
        self.put(out, false)
    }

    fn put(&self, out: Outgoing, is_shared: bool) -> Pushed {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Pushed::Refused;
        }
        let pushed = match out.kept {
            // A session that is closing may be resumed all the same: it then reads on from here.
            Some(kept)
                if state.closing.is_some()
                    || state.catching_up.is_some()
                    || state.is_full(&self.limits, out.stanza.size() + OVERHEAD) =>
            {
                state.read_on_from(kept.id.saturating_sub(1));
                let size = out.stanza.size() + OVERHEAD;
                if state.owed_bytes + size <= self.limits.outbox {
                    state.owed_bytes += size;
                    state.owed.insert(kept.id, kept);
                } else if is_shared {
                    state.fall_behind(SLOW);
                }
                Pushed::Taken
            }
            None if state.closing.is_some() => {
                state.has_gap = true;
                Pushed::Refused
            }
            None if let Some(why) = state.overflows(&self.limits) => {
                state.fall_behind(why);
                Pushed::Refused
            }
            kept => {
                state.enqueue(Outgoing { kept, ..out });
                Pushed::Taken
            }
        };
        drop(state);
        self.wake.notify_one();
        pushed
    }

    /// Puts a result of the session's own query into the outbox. It may be a kept message's, which is settled with it, but
    /// it does not wait in the tail for its turn.
    pub(crate) fn push_result(&self, out: Outgoing) -> Pushed {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Pushed::Refused;
        }
        if state.closing.is_some() {
            state.has_gap = true;
            return Pushed::Refused;
        }
        if let Some(why) = state.overflows(&self.limits) {
            state.fall_behind(why);
            return Pushed::Refused;
        }
        state.enqueue(out);
        drop(state);
        self.wake.notify_one();
        Pushed::Taken
    }

    /// Whether a message would go to the client at once.
    pub(crate) fn takes_at_once(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Attached && state.closing.is_none() && state.catching_up.is_none()
    }

    /// As [`Self::push`], for what anybody may send to anybody: where it is too much, it is refused, since the session
    /// is not to end by what a stranger does. The rest of the room is for what the session has asked for.
    pub fn offer(&self, out: Outgoing) -> Pushed {
        self.offer_to_some(out, false)
    }

    /// The same for what others get too: one of them may confirm a message, and then the tail does not have it any more
    /// when this session comes to it. So many of these are remembered for it as an outbox holds; with more the session
    /// ends.
    pub(crate) fn offer_shared(&self, out: Outgoing) -> Pushed {
        self.offer_to_some(out, true)
    }

    fn offer_to_some(&self, out: Outgoing, is_shared: bool) -> Pushed {
        if out.kept.is_none() && self.is_overfull() {
            return Pushed::Refused;
        }
        self.put(out, is_shared)
    }

    /// Whether more waits for the client than should: its next request is to wait until some of it is written.
    pub fn is_overfull(&self) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Closed && state.bytes > self.limits.outbox
    }

    /// Whether much can be sent at once without the client having to read meanwhile.
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Closed || state.bytes < self.limits.outbox / 2
    }

    /// Waits until the client has read most of what waits for it. `false` when the session has ended. Not to be awaited
    /// by the session's own connection, which could not write meanwhile.
    pub async fn room(&self) -> bool {
        loop {
            let roomy = self.roomy.notified();
            if self.has_room() {
                return !self.is_closed();
            }
            roomy.await;
        }
    }

    /// Puts a nonza into the outbox, in order with the stanzas.
    pub fn push_nonza(&self, bytes: Bytes) {
        let mut state = self.state.lock();
        state.bytes += bytes.len();
        state.outbox.push_back(Out::Nonza(bytes));
        drop(state);
        self.wake.notify_one();
    }

    /// Asks the connection to write what waits and then close the stream with this error.
    pub fn close(&self, error: StreamError) {
        self.state.lock().closing.get_or_insert(error);
        self.wake.notify_one();
    }

    /// Whether the session has ended for good.
    pub fn is_closed(&self) -> bool {
        self.state.lock().phase == Phase::Closed
    }

    /// Whether it lives without a connection.
    pub fn is_detached(&self) -> bool {
        self.state.lock().phase == Phase::Detached
    }

    /// A request of the client's begins that takes its time; it ends when the turn is dropped. `None` when it has as many
    /// under way as are allowed.
    pub(crate) fn begin_request(&self) -> Option<Arc<()>> {
        let turn = self.asking.clone();
        (Arc::strong_count(&turn) <= MOST_ASKING + 1).then_some(turn)
    }

    // ---- requests of the server -----------------------------------------------------------------------------------

    pub(crate) fn expect(&self, request: Request) {
        self.state.lock().requests.push(request);
    }

    pub(crate) fn expected(&self, id: &str) -> Option<Request> {
        let mut state = self.state.lock();
        let at = state.requests.iter().position(|request| request.id() == id)?;
        Some(state.requests.swap_remove(at))
    }

    pub(crate) fn forget(&self, id: &str) {
        self.expected(id);
    }

    // ---- stream management ----------------------------------------------------------------------------------------

    /// Turns stream management on. `enabled` is the answer to the client; what is written after it is counted.
    /// `false` when it is on already.
    pub fn enable_acks(&self, id: Box<str>, resumable: Option<Duration>, enabled: Bytes) -> bool {
        let mut state = self.state.lock();
        if state.acks.is_some() {
            return false;
        }
        state.acks = Some(Box::new(Acks {
            id,
            resumable,
            unacked: ack::Outgoing::new(0),
            unacked_bytes: 0,
            counting: false,
            incoming: ack::Incoming::new(0),
            handled: Arc::default(),
            answer_due: false,
            answer_now: false,
            asked: None,
        }));
        state.bytes += enabled.len();
        state.outbox.push_back(Out::Enabled(enabled));
        drop(state);
        self.wake.notify_one();
        true
    }

    /// The id that resumes the session, when stream management is on.
    pub fn resumption_id(&self) -> Option<Box<str>> {
        self.state.lock().acks.as_ref().map(|acks| acks.id.clone())
    }

    /// The client will not be told what became of something that it sent: from here on nothing counts as handled, and
    /// the session cannot be resumed.
    pub(crate) fn stop_counting(&self) {
        self.state.lock().has_gap = true;
        self.settled.notify_waiters();
    }

    /// Counts a stanza that the client sent on a connection; without stream management there is nothing to count. It
    /// counts as handled when the receipt is dropped. An error says that the connection is past: the stanza is not
    /// taken, and the client sends it again on its new one.
    pub fn receive(self: &Arc<Self>, connection: u64) -> Result<Option<Receipt>, Past> {
        let mut state = self.state.lock();
        if self.connection.load(Ordering::Acquire) != connection {
            return Err(Past);
        }
        let slot = state.acks.as_mut().map(|acks| acks.incoming.receive());
        Ok(slot.map(|slot| Receipt { session: self.clone(), slot }))
    }

    /// Parts the session from its connection before a resumption, so that nothing more comes in on the old one. An `h`
    /// that cannot be changes nothing.
    pub(crate) fn take_over(&self, h: u32) -> Result<u64, ack::BadResume> {
        let state = self.state.lock();
        if let Some(acks) = &state.acks {
            acks.unacked.check_resume(h)?;
        }
        let connection = self.connection.fetch_add(1, Ordering::AcqRel) + 1;
        drop(state);
        self.wake.notify_one();
        Ok(connection)
    }

    /// Whether stream management is on.
    pub(crate) fn has_acks(&self) -> bool {
        self.state.lock().acks.is_some()
    }

    /// The client asks what is handled: it is told at once, and again when the rest is durable (XEP-0198 §4).
    pub fn answer_acks(&self) {
        let mut state = self.state.lock();
        if let Some(acks) = state.acks.as_mut() {
            acks.answer_now = true;
            acks.answer_due = acks.incoming.in_flight() > 0;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// How many of the client's stanzas are handled and durable.
    pub fn handled(&self) -> Option<u32> {
        self.state.lock().acks.as_ref().map(|acks| acks.incoming.h())
    }

    /// The same, as a count that goes on when the session has ended and what it sent is being stored still.
    pub(crate) fn count_of_handled(&self) -> Option<Arc<AtomicU32>> {
        self.state.lock().acks.as_ref().map(|acks| acks.handled.clone())
    }

    /// The client has handled our stanzas up to `h`. The error carries how many we sent.
    pub fn acknowledged(&self, h: u32) -> Result<(), ack::HandledTooHigh> {
        let room = self.settle(|state| {
            let mut settled = Vec::new();
            let Some(acks) = state.acks.as_mut() else { return Ok((settled, false)) };
            acks.asked = None;
            for out in acks.unacked.ack(h)? {
                acks.unacked_bytes = acks.unacked_bytes.saturating_sub(out.size());
                settled.extend(out.kept);
            }
            Ok((settled, state.catching_up.is_some() || state.wants_answer()))
        })?;
        if room {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes out of the session what its client has for certain. The tail is locked meanwhile: whoever reads it finds a
    /// message either held here or confirmed, and does not send it to another resource.
    fn settle<T, E>(&self, take: impl FnOnce(&mut State) -> Result<(Vec<Arc<Kept>>, T), E>) -> Result<T, E> {
        let mut tail = self.account.tail.lock();
        let (settled, result) = take(&mut self.state.lock())?;
        let receipts: Vec<_> = settled.iter().flat_map(|kept| kept.delivered(&mut tail)).collect();
        drop(tail);
        drop(receipts);
        Ok(result)
    }

    /// Waits until all that the client has sent is handled, so that a resumption can say the exact count.
    pub async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            {
                let state = self.state.lock();
                if state.has_gap || state.acks.as_ref().is_none_or(|acks| acks.incoming.in_flight() == 0) {
                    return;
                }
            }
            settled.await;
        }
    }

    fn handled_slot(&self, slot: ack::Slot) {
        let mut state = self.state.lock();
        if state.has_gap {
            // What the client was not told may be what became of this.
            return;
        }
        let Some(acks) = state.acks.as_mut() else { return };
        acks.incoming.complete(slot);
        acks.handled.store(acks.incoming.h(), Ordering::Release);
        let done = acks.incoming.in_flight() == 0;
        let due = acks.answer_due;
        if due {
            acks.answer_now = true;
            acks.answer_due = !done;
        }
        drop(state);
        if due {
            self.wake.notify_one();
        }
        if done {
            self.settled.notify_waiters();
        }
    }

    /// A new connection takes the session over: what the client has handled is settled, the rest goes out again after
    /// the answer that `answer` makes of the count of handled stanzas. An error leaves the session as it was; `None`
    /// says that it has ended, or has to, since not all that it lacks can be sent.
    pub(crate) fn resume(&self, h: u32, answer: impl FnOnce(u32) -> Bytes) -> Result<Option<Resumed>, ack::BadResume> {
        let resumed = self.settle(|state| {
            let State { acks: Some(acks), phase: Phase::Attached | Phase::Detached, has_gap: false, .. } = state else {
                return Ok((Vec::new(), None));
            };
            let settled: Vec<_> = acks.unacked.resume(h)?.filter_map(|out| out.kept).collect();
            let parked = if acks.unacked.stuck() >= POISONED { acks.unacked.park() } else { None };
            let again = acks.unacked.take_all();
            acks.unacked_bytes = 0;
            acks.asked = None;
            acks.answer_due = false;
            acks.answer_now = false;
            acks.counting = true;
            let answer = answer(acks.incoming.h());
            // Nonzas of the old connection (answers, requests) mean nothing on the new one.
            let waiting = std::mem::take(&mut state.outbox).into_iter().filter(|out| matches!(out, Out::Stanza(_)));
            state.outbox =
                std::iter::once(Out::Nonza(answer)).chain(again.into_iter().map(Out::Stanza)).chain(waiting).collect();
            state.bytes = state.outbox.iter().map(Out::size).sum();
            state.phase = Phase::Attached;
            state.closing = None;
            let connection = self.connection.fetch_add(1, Ordering::AcqRel) + 1;
            Ok((settled, Some(Resumed { connection, parked })))
        })?;
        if resumed.is_some() {
            // Whoever waits here is the old connection: it sees that its number is past and ends.
            self.wake.notify_one();
        }
        Ok(resumed)
    }

    // ---- for the connection ---------------------------------------------------------------------------------------

    /// The number of the connection that the session listens to; another number means that one's connection is past.
    pub fn connection(&self) -> u64 {
        self.connection.load(Ordering::Acquire)
    }

    /// Waits until there may be something to drain.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Writes what waits into `buffer`, up to about `budget` bytes. `None` when the session has another connection, or
    /// has ended and said why: then what waits is not this connection's.
    pub fn drain(&self, connection: u64, buffer: &mut Vec<u8>, budget: usize, now: Instant) -> Option<Drained> {
        let mut drained = Drained::default();
        let mut state = self.state.lock();
        if self.connection.load(Ordering::Acquire) != connection {
            let close = if state.phase == Phase::Closed { state.closing.take() } else { None };
            return close.map(|error| Drained { close: Some(error), ..Drained::default() });
        }
        let state = &mut *state;
        let start = buffer.len();
        while buffer.len() - start < budget {
            let Some(out) = state.outbox.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(out.size());
            match out {
                Out::Nonza(bytes) => buffer.extend_from_slice(&bytes),
                Out::Enabled(bytes) => {
                    buffer.extend_from_slice(&bytes);
                    if let Some(acks) = state.acks.as_mut() {
                        acks.counting = true;
                    }
                }
                Out::Stanza(out) => {
                    if out.kept.as_ref().is_some_and(|kept| kept.is_void()) {
                        continue;
                    }
                    out.stanza.write(buffer, out.to.as_ref());
                    match state.acks.as_mut() {
                        Some(acks) if acks.counting => {
                            acks.unacked_bytes += out.size();
                            acks.unacked.push(out);
                        }
                        _ => state.in_flight.extend(out.kept),
                    }
                }
            }
        }
        if state.outbox.is_empty() && state.outbox.capacity() > 8 {
            state.outbox = VecDeque::new();
        }
        drained.more = !state.outbox.is_empty();
        if let Some(acks) = state.acks.as_mut() {
            // Not before the client has been told that it is on.
            if acks.answer_now && acks.counting {
                acks.answer_now = false;
                let h = acks.incoming.h();
                buffer.extend_from_slice(format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>").as_bytes());
            }
            if acks.counting && !acks.unacked.is_empty() && acks.asked.is_none() && !drained.more {
                acks.asked = Some(now);
                buffer.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
            }
        }
        if state.bytes < self.limits.outbox / 2 {
            self.roomy.notify_waiters();
        }
        drained.hungry = state.catching_up.is_some()
            && state.bytes < self.limits.outbox / 2
            && !state.is_full(&self.limits, state.wanted);
        drained.wrote = buffer.len() > start;
        if !drained.more {
            drained.close = state.closing.take();
        }
        Some(drained)
    }

    /// All that was drained has been written: without stream management that is as much as can be known.
    pub fn flushed(&self) {
        if self.state.lock().in_flight.is_empty() {
            return;
        }
        let Ok(()) = self.settle(|state| Ok::<_, Infallible>((std::mem::take(&mut state.in_flight), ())));
    }

    /// When we asked for an acknowledgement that has not come.
    pub fn asked_at(&self) -> Option<Instant> {
        self.state.lock().acks.as_ref().and_then(|acks| acks.asked)
    }

    /// The connection has gone. `true` when the session waits for a resumption now.
    pub(crate) fn detach(&self, connection: u64) -> Detached {
        let mut state = self.state.lock();
        if self.connection.load(Ordering::Acquire) != connection || state.phase == Phase::Closed {
            return Detached::Past;
        }
        let has_gap = state.has_gap;
        match state.acks.as_ref().and_then(|acks| acks.resumable.filter(|_| acks.counting && !has_gap)) {
            Some(resumable) => {
                state.phase = Phase::Detached;
                Detached::Waits(resumable)
            }
            None => Detached::Ends,
        }
    }

    /// Ends the session: nothing is taken any more. To be called with the account's tail locked, so that no message is
    /// handed out meanwhile. `connection`: only if the session still has this one.
    pub(crate) fn end(&self, connection: Option<u64>) -> Option<Left> {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed || connection.is_some_and(|connection| connection != self.connection()) {
            return None;
        }
        state.phase = Phase::Closed;
        self.connection.fetch_add(1, Ordering::AcqRel);
        let mut left = Vec::new();
        if let Some(acks) = state.acks.as_mut() {
            left.extend(acks.unacked.take_all());
            acks.unacked_bytes = 0;
        }
        left.extend(std::mem::take(&mut state.in_flight).into_iter().map(|kept| Outgoing {
            stanza: kept.stanza.clone(),
            to: None,
            kept: Some(kept),
        }));
        left.extend(std::mem::take(&mut state.outbox).into_iter().filter_map(|out| match out {
            Out::Stanza(out) => Some(out),
            _ => None,
        }));
        left.extend(std::mem::take(&mut state.owed).into_values().map(|kept| Outgoing {
            stanza: kept.stanza.clone(),
            to: None,
            kept: Some(kept),
        }));
        let unread = state.catching_up.take();
        state.bytes = 0;
        state.owed_bytes = 0;
        state.requests = Vec::new();
        drop(state);
        self.wake.notify_one();
        self.roomy.notify_waiters();
        Some(Left { outgoing: left, unread })
    }

    // ---- for the tail ---------------------------------------------------------------------------------------------

    /// From where on the session wants its tail, while it is catching up and has room.
    pub(crate) fn catching_up(&self) -> Option<u64> {
        let state = self.state.lock();
        if state.phase == Phase::Closed || state.is_full(&self.limits, state.wanted) { None } else { state.catching_up }
    }

    /// Whether its tail is to be read, now or when there is room.
    pub(crate) fn is_behind(&self) -> bool {
        self.state.lock().catching_up.is_some()
    }

    /// Has it read the tail from `after` on, if it does not from before; kept messages wait there until it has caught up.
    pub(crate) fn read_on_from(&self, after: u64) {
        self.state.lock().read_on_from(after);
        self.wake.notify_one();
    }

    /// What it is owed of the tail after `after` and up to `last`.
    pub(crate) fn owed(&self, after: u64, last: u64) -> Vec<Arc<Kept>> {
        self.state.lock().owed.range(after.saturating_add(1)..=last).map(|(_, kept)| kept.clone()).collect()
    }

    /// A page of the tail; `done` when nothing is behind it. `false` when the session is full or has ended.
    pub(crate) fn push_caught(&self, out: Outgoing) -> bool {
        let mut state = self.state.lock();
        let Some(id) = out.kept.as_ref().map(|kept| kept.id) else { return false };
        if state.phase == Phase::Closed || state.is_full(&self.limits, out.size()) {
            state.wanted = out.size();
            return false;
        }
        state.wanted = 0;
        state.pass(id);
        state.enqueue(out);
        true
    }

    /// Moves the place in the tail past an entry that is not for this session.
    pub(crate) fn pass_over(&self, id: u64) {
        self.state.lock().pass(id);
    }

    /// The tail is read to its end: kept messages come straight to the outbox again.
    pub(crate) fn caught_up(&self) {
        let mut state = self.state.lock();
        state.catching_up = None;
        state.wanted = 0;
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The ids of all messages that it holds, sent or waiting.
    pub(crate) fn held(&self) -> Vec<u64> {
        let state = self.state.lock();
        let unacked = state.acks.iter().flat_map(|acks| acks.unacked.iter()).filter_map(|out| out.kept.as_ref());
        let waiting = state.outbox.iter().filter_map(|out| match out {
            Out::Stanza(out) => out.kept.as_ref(),
            _ => None,
        });
        unacked.chain(&state.in_flight).chain(waiting).map(|kept| kept.id).collect()
    }

    /// The same, and those that it will get in their turn.
    pub(crate) fn held_or_owed(&self) -> Vec<u64> {
        let mut ids = self.held();
        ids.extend(self.state.lock().owed.keys());
        ids
    }

    /// Takes the turn to read the tail for this session; `false` when somebody has it.
    pub(crate) fn begin_reading(&self) -> bool {
        !self.reading.swap(true, Ordering::AcqRel)
    }

    /// Gives the turn back.
    pub(crate) fn end_reading(&self) {
        self.reading.store(false, Ordering::Release);
    }
}

impl Out {
    fn size(&self) -> usize {
        match self {
            Self::Stanza(out) => out.size(),
            Self::Nonza(bytes) | Self::Enabled(bytes) => bytes.len(),
        }
    }
}

impl State {
    /// The next of the tail to be read is the one after this, or an earlier one.
    fn read_on_from(&mut self, after: u64) {
        self.catching_up = Some(self.catching_up.map_or(after, |before| before.min(after)));
        self.wanted = 0;
    }

    /// The tail is read up to this message.
    fn pass(&mut self, id: u64) {
        if let Some(after) = &mut self.catching_up {
            *after = id.max(*after);
        }
        if let Some(kept) = self.owed.remove(&id) {
            self.owed_bytes = self.owed_bytes.saturating_sub(kept.stanza.size() + OVERHEAD);
        }
    }

    /// The client cannot be sent everything: its session is to end, and says why.
    fn fall_behind(&mut self, why: &'static str) {
        self.has_gap = true;
        let error = || StreamError::new(StreamCondition::ResourceConstraint).with_text(why);
        self.closing.get_or_insert_with(error);
    }

    fn enqueue(&mut self, out: Outgoing) {
        self.bytes += out.size();
        self.outbox.push_back(Out::Stanza(out));
    }

    /// Whether there is no room for so many more bytes. Where nothing waits there is room for anything, or a message
    /// larger than the bounds would wait for ever.
    fn is_full(&self, limits: &SessionLimits, more: usize) -> bool {
        let unacked = self.acks.as_ref().map(|acks| acks.unacked_bytes);
        let held = self.bytes + unacked.unwrap_or_default();
        held > 0 && (self.bytes + more > limits.outbox || unacked.is_some() && held + more > limits.unacked)
    }

    /// Why the session cannot go on taking what nobody keeps.
    fn overflows(&self, limits: &SessionLimits) -> Option<&'static str> {
        let unacked = self.acks.as_ref().map_or(0, |acks| acks.unacked_bytes);
        if self.bytes > limits.outbox * 2 {
            Some(SLOW)
        } else if unacked > limits.outbox * UNACKED {
            Some("Your client does not acknowledge what it is sent.")
        } else {
            None
        }
    }

    fn wants_answer(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.counting && !acks.unacked.is_empty())
    }
}

pub(crate) enum Detached {
    /// Another connection has the session, or it has ended.
    Past,
    /// It waits this long.
    Waits(Duration),
    /// It cannot be resumed.
    Ends,
}

/// The connection that speaks is not the session's any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past;

/// A stanza of the client that is being handled; dropping it counts the stanza as handled (XEP-0198 `h`).
///
/// Whoever takes responsibility for the stanza holds the receipt until that is on disk.
pub struct Receipt {
    session: Arc<Session>,
    slot: ack::Slot,
}

impl Receipt {
    /// Whose client sent the stanza.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.session.handled_slot(self.slot);
    }
}
