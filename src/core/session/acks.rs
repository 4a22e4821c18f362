//! Stream management (XEP-0198) of a session: what its client has sent and we have handled, what it was sent and has not
//! acknowledged, and its resumption on a new connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rookery_xmpp::ack;

use super::outbox::{Out, Outgoing};
use super::{Phase, Session, State};
use crate::receipt::Receipt;
use crate::tail::Kept;

/// Resumptions in a row that find the same stanza first and unhandled, until it is given up.
const POISONED: u32 = 3;

/// Stream management of a session (XEP-0198).
pub(super) struct Acks {
    pub(super) id: Box<str>,
    pub(super) resumable: Option<Duration>,
    /// When a session without a connection ends.
    pub(super) until: Option<tokio::time::Instant>,
    pub(super) unacked: ack::Outgoing<Outgoing>,
    pub(super) unacked_bytes: usize,
    pub(super) counting: bool,
    pub(super) incoming: ack::Incoming,
    /// The count of `incoming`, for those who ask when the session is gone.
    pub(super) handled: Arc<AtomicU32>,
    /// The client asked, and some stanza was not durable yet.
    pub(super) answer_due: bool,
    pub(super) answer_now: bool,
    /// When we asked the client and it has not answered.
    pub(super) asked: Option<Instant>,
}

/// What [`Session::resume`] did.
pub(crate) struct Resumed {
    /// The number of the new connection.
    pub(crate) connection: u64,
    /// A stanza that the client has died of again and again: it is not sent any more, and its sender is to be told.
    pub(crate) parked: Option<Outgoing>,
}

/// The connection that speaks is not the session's any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past;

impl Session {
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
            until: None,
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
        Ok(slot.map(|slot| Receipt::of_session(self.clone(), slot)))
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
            let State { acks: Some(acks), copied, .. } = state else { return Ok((settled, false)) };
            acks.asked = None;
            for out in acks.unacked.ack(h)? {
                acks.unacked_bytes = acks.unacked_bytes.saturating_sub(out.size());
                settled.extend(copied.confirm(out, self.is_reachable()));
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
    pub(super) fn settle<T, E>(&self, take: impl FnOnce(&mut State) -> Result<(Vec<Arc<Kept>>, T), E>) -> Result<T, E> {
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

    pub(crate) fn handled_slot(&self, slot: ack::Slot) {
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
            let State { acks: Some(acks), phase: Phase::Attached | Phase::Detached, has_gap: false, copied, .. } =
                state
            else {
                return Ok((Vec::new(), None));
            };
            let settled: Vec<_> =
                acks.unacked.resume(h)?.filter_map(|out| copied.confirm(out, self.is_reachable())).collect();
            let parked = if acks.unacked.stuck() >= POISONED { acks.unacked.park() } else { None };
            let again = acks.unacked.take_all();
            acks.unacked_bytes = 0;
            acks.until = None;
            acks.asked = None;
            acks.answer_due = false;
            acks.answer_now = false;
            acks.counting = true;
            let answer = answer(acks.incoming.h());
            // Nonzas of the old connection (answers, requests) mean nothing on the new one.
            let waiting = std::mem::take(&mut state.outbox).into_iter().filter(|out| matches!(out, Out::Stanza(..)));
            state.outbox = std::iter::once(Out::Nonza(answer))
                .chain(again.into_iter().map(|out| Out::Stanza(out, None)))
                .chain(waiting)
                .collect();
            state.bytes = state.outbox.iter().map(Out::size).sum();
            state.phase = Phase::Attached;
            state.closing = None;
            state.suspended = false;
            let connection = self.connection.fetch_add(1, Ordering::AcqRel) + 1;
            Ok((settled, Some(Resumed { connection, parked })))
        })?;
        if resumed.is_some() {
            // Whoever waits here is the old connection: it sees that its number is past and ends.
            self.wake.notify_one();
        }
        Ok(resumed)
    }

    /// When we asked for an acknowledgement that has not come.
    pub fn asked_at(&self) -> Option<Instant> {
        self.state.lock().acks.as_ref().and_then(|acks| acks.asked)
    }
}

impl State {
    fn wants_answer(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.counting && !acks.unacked.is_empty())
    }
}
