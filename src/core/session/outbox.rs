//! What is on its way to a session's client: the outbox, its bounds, and what becomes of stanzas that do not fit.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::stanza::{Stanza, Written};

use super::{Phase, Session, SessionLimits, State};
use crate::tail::Kept;

/// So many times the outbox's bound may be with a client that reads and does not acknowledge: far more than the presence
/// of a full roster, which arrives while the first acknowledgement is still on its way.
const UNACKED: usize = 16;

/// So many times the outbox's bound may be what it asks for: the presence and history of a large room.
const ASKED: usize = 64;

/// What a client is told that cannot be sent everything.
pub(super) const SLOW: &str = "Your client reads more slowly than it is sent to.";

/// What a stanza in a queue takes beside its text, in bytes.
pub(super) const OVERHEAD: usize = 64;

/// A stanza on its way to a client.
#[derive(Clone)]
pub struct Outgoing {
    /// The stanza, shared by all who get it.
    pub stanza: Arc<Stanza>,
    /// Whom the start tag names instead of the stanza's own `to`. It is there for what other sessions have as well, but for
    /// messages that are kept, of which the tail knows.
    pub to: Option<Jid>,
    /// The message's place in the account's tail, when it has one.
    pub kept: Option<Arc<Kept>>,
}

impl Outgoing {
    /// A stanza that nobody keeps.
    pub fn new(stanza: Stanza) -> Self {
        Self { stanza: Arc::new(stanza), to: None, kept: None }
    }

    pub(super) fn size(&self) -> usize {
        self.stanza.size() + OVERHEAD
    }
}

pub(super) enum Out {
    /// Perhaps written already, for this and other sessions.
    Stanza(Outgoing, Option<Arc<Written>>),
    Nonza(Bytes),
    /// Tells the client that stream management is on; what follows is counted.
    Enabled(Bytes),
}

/// What became of a stanza that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the outbox, or will be read from the tail in its turn.
    Taken,
    /// The session has ended, or cannot take what nobody keeps.
    Refused,
}

/// What [`Session::drain`] did.
#[derive(Debug, Default)]
pub struct Drained {
    /// The budget was used up and more waits.
    pub more: bool,
    /// [`Session::flushed`] is to be called when the socket has taken it all.
    pub unconfirmed: bool,
    /// The session wants its tail read: call [`crate::server::Server::catch_up`].
    pub hungry: bool,
    /// After these bytes the stream is to be closed so.
    pub close: Option<StreamError>,
    /// Or rather left as it is, without a word, since the session goes on in another: a stream error or
    /// `</stream:stream>` makes clients forget it (XEP-0198 §5 calls such a stream unfinished).
    pub unfinished: bool,
}

impl Session {
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
                if state.closing.is_some() && !state.outlives_stream()
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
            None if state.closing.is_some() && !state.outlives_stream() => {
                state.has_gap = true;
                Pushed::Refused
            }
            None if let Some(why) = state.overflows(&self.limits) => {
                state.fall_behind(why);
                Pushed::Refused
            }
            kept => {
                state.enqueue(Outgoing { kept, ..out }, None);
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
        if state.closing.is_some() && !state.outlives_stream() {
            state.has_gap = true;
            return Pushed::Refused;
        }
        if let Some(why) = state.overflows(&self.limits) {
            state.fall_behind(why);
            return Pushed::Refused;
        }
        state.enqueue(out, None);
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

    /// Puts a stanza into the outbox that belongs to what the session itself has asked for, however much that is: a client
    /// with much to read is not read from. What others send to it meanwhile does not end it for that.
    pub(crate) fn push_asked(&self, out: Outgoing) -> Pushed {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Pushed::Refused;
        }
        if state.closing.is_some() && !state.outlives_stream() {
            state.has_gap = true;
            return Pushed::Refused;
        }
        if state.asked > self.limits.outbox * ASKED {
            state.fall_behind(SLOW);
            return Pushed::Refused;
        }
        state.asked += out.size();
        state.enqueue(out, None);
        drop(state);
        self.wake.notify_one();
        Pushed::Taken
    }

    /// Puts a stanza into the outbox that is one of many to many, and that nobody keeps: in one step, since there are so many.
    /// It may be written already. `must_come`: the session ends if it cannot take it; otherwise it is only refused.
    pub(crate) fn push_shared(&self, out: Outgoing, written: Option<Arc<Written>>, must_come: bool) -> Pushed {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Pushed::Refused;
        }
        if state.closing.is_some() && !state.outlives_stream() {
            state.has_gap = true;
            return Pushed::Refused;
        }
        if !must_come && state.bytes > self.limits.outbox + state.asked {
            return Pushed::Refused;
        }
        if let Some(why) = state.overflows(&self.limits) {
            if must_come {
                state.fall_behind(why);
                drop(state);
                self.wake.notify_one();
            }
            return Pushed::Refused;
        }
        state.enqueue(out, written);
        drop(state);
        self.wake.notify_one();
        Pushed::Taken
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
                Out::Stanza(out, written) => {
                    if out.kept.as_ref().is_some_and(|kept| kept.is_void()) {
                        continue;
                    }
                    match (written, &out.to) {
                        (Some(written), Some(to)) => written.write(buffer, to),
                        (_, to) => out.stanza.write(buffer, to.as_ref()),
                    }
                    match state.acks.as_mut() {
                        Some(acks) if acks.counting => {
                            acks.unacked_bytes += out.size();
                            acks.unacked.push(out);
                        }
                        _ => state.in_flight.extend(state.copied.confirm(out, self.is_reachable())),
                    }
                }
            }
        }
        state.asked = state.asked.min(state.bytes);
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
        drained.unconfirmed = !state.in_flight.is_empty();
        if !drained.more || state.outlives_stream() {
            drained.close = state.closing.take();
            drained.unfinished = state.outlives_stream();
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
}

impl Out {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Stanza(_, Some(written)) => written.size() + OVERHEAD,
            Self::Stanza(out, None) => out.size(),
            Self::Nonza(bytes) | Self::Enabled(bytes) => bytes.len(),
        }
    }
}

impl State {
    /// Its stream is to be closed, and what waits goes out on the next one.
    fn outlives_stream(&self) -> bool {
        self.suspended && self.resumable().is_some()
    }

    /// The client cannot be sent everything: its session is to end, and says why.
    pub(super) fn fall_behind(&mut self, why: &'static str) {
        self.has_gap = true;
        let error = || StreamError::new(StreamCondition::ResourceConstraint).with_text(why);
        self.closing.get_or_insert_with(error);
    }

    pub(super) fn enqueue(&mut self, out: Outgoing, written: Option<Arc<Written>>) {
        let out = Out::Stanza(out, written);
        self.bytes += out.size();
        self.outbox.push_back(out);
    }

    /// Whether there is no room for so many more bytes. Where nothing waits there is room for anything, or a message
    /// larger than the bounds would wait for ever.
    pub(super) fn is_full(&self, limits: &SessionLimits, more: usize) -> bool {
        let unacked = self.acks.as_ref().map(|acks| acks.unacked_bytes);
        let held = self.bytes + unacked.unwrap_or_default();
        held > 0 && (self.bytes + more > limits.outbox || unacked.is_some() && held + more > limits.unacked)
    }

    /// Why the session cannot go on taking what nobody keeps.
    fn overflows(&self, limits: &SessionLimits) -> Option<&'static str> {
        let unacked = self.acks.as_ref().map_or(0, |acks| acks.unacked_bytes);
        if self.bytes > limits.outbox * 2 + self.asked {
            Some(SLOW)
        } else if unacked > limits.outbox * UNACKED {
            Some("Your client does not acknowledge what it is sent.")
        } else {
            None
        }
    }
}
