//! A session's place in the tail of its account: where it reads on, what it is owed there, and what it holds of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::outbox::{OVERHEAD, Out, Outgoing};
use super::{Phase, Session, State};
use crate::tail::Kept;

impl Session {
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
        state.enqueue(out, None);
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
        state.copied.clear();
        drop(state);
        self.wake.notify_one();
    }

    /// The ids of all messages that it holds, sent or waiting, as themselves or, where that will do, as copies.
    pub(crate) fn held(&self) -> Vec<u64> {
        let is_reachable = self.is_reachable();
        let state = self.state.lock();
        let unacked = state.acks.iter().flat_map(|acks| acks.unacked.iter());
        let waiting = state.outbox.iter().filter_map(|out| match out {
            Out::Stanza(out, _) => Some(out),
            _ => None,
        });
        let held =
            unacked.chain(waiting).filter(|out| is_reachable || !out.is_copy()).filter_map(|out| out.kept.as_ref());
        held.chain(&state.in_flight).map(|kept| kept.id).collect()
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

impl State {
    /// The next of the tail to be read is the one after this, or an earlier one.
    pub(super) fn read_on_from(&mut self, after: u64) {
        self.catching_up = Some(self.catching_up.map_or(after, |before| before.min(after)));
        self.wanted = 0;
    }

    /// The tail is read up to this message.
    pub(super) fn pass(&mut self, id: u64) {
        if let Some(after) = &mut self.catching_up {
            *after = id.max(*after);
        }
        self.due.remove(&id);
        if let Some(kept) = self.owed.remove(&id) {
            self.owed_bytes = self.owed_bytes.saturating_sub(kept.stanza.size() + OVERHEAD);
        }
    }
}
