//! Copies that a session is sent of messages to other resources of its account (XEP-0280), where those messages wait in
//! the tail until somebody confirms them.
//!
//! For a session that is available with a priority that is not negative a copy is as good as the message: when its client
//! has it, the message is delivered. Another one is not to take messages from those who are still to come (RFC 6121
//! §8.5.2.1.1); but it remembers what it has copies of, and when it becomes reachable it is not sent those again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rookery_xmpp::stanza::Stanza;

use super::outbox::{OVERHEAD, SLOW};
use super::{Out, Outgoing, Phase, Session};
use crate::tail::{Kept, Tail};

/// So many copies are remembered; of older ones the message itself may come as well.
const REMEMBERED: usize = 1000;

/// Messages that wait in the tail, and of which the client has copies.
#[derive(Debug, Default)]
pub(super) struct Copied(BTreeSet<u64>);

impl Copied {
    /// The client has a stanza for certain. Gives the kept message that is delivered thereby.
    pub(super) fn confirm(&mut self, out: Outgoing, is_reachable: bool) -> Option<Arc<Kept>> {
        if is_reachable || !out.is_copy() {
            return out.kept;
        }
        if let Some(kept) = out.kept.filter(|kept| kept.is_waiting()) {
            self.0.insert(kept.id);
            if self.0.len() > REMEMBERED {
                self.0.pop_first();
            }
        }
        None
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    /// All that waits in the tail has been looked at.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl FromIterator<u64> for Copied {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl Outgoing {
    /// Whether it is a copy of a kept message, made for one session. The message itself names its own recipient.
    pub(crate) fn is_copy(&self) -> bool {
        self.kept.is_some() && self.to.is_some()
    }
}

impl Session {
    /// Puts a copy of a message into the outbox; while the session reads its tail, a copy of what waits there comes in its
    /// turn. One for which there is no room ends the session, with an error that says so. `kept`: the message, if it waits
    /// in the tail.
    pub(crate) fn push_copy(&self, stanza: Arc<Stanza>, kept: Option<Arc<Kept>>) {
        if let Some(kept) = &kept {
            let mut state = self.state.lock();
            let size = stanza.size() + OVERHEAD;
            if state.phase != Phase::Closed && state.catching_up.is_some() {
                if state.owed_bytes + size > self.limits.outbox {
                    state.fall_behind(SLOW);
                } else if state.owed.insert(kept.id, kept.clone()).is_none() {
                    state.owed_bytes += kept.stanza.size() + OVERHEAD;
                    state.due.insert(kept.id, stanza);
                }
                drop(state);
                return self.wake();
            }
        }
        self.push_result(Outgoing { stanza, to: Some(self.jid.clone().into()), kept });
    }

    /// Whether messages to the bare JID reach it.
    pub(crate) fn is_reachable(&self) -> bool {
        self.priority().is_some_and(|priority| priority >= 0)
    }

    /// Whether it has all that waits in the tail, or copies of it.
    pub(crate) fn has_all(&self, tail: &Tail) -> bool {
        let state = self.state.lock();
        let unacked = state.acks.iter().flat_map(|acks| acks.unacked.iter());
        let waiting = state.outbox.iter().filter_map(|out| match out {
            Out::Stanza(out, _) => Some(out),
            _ => None,
        });
        let held = unacked.chain(waiting).filter_map(|out| out.kept.as_ref()).chain(&state.in_flight);
        let held = held.filter(|kept| kept.is_waiting()).map(|kept| kept.id);
        let ids: HashSet<u64> = held.chain(state.copied.ids()).collect();
        ids.len() as u64 >= tail.size.messages
    }

    /// The copy that it gets of a message of the tail, in place of the message.
    pub(crate) fn copy_due(&self, id: u64) -> Option<Arc<Stanza>> {
        self.state.lock().due.get(&id).cloned()
    }

    /// Whether its client has a copy of a message that waits in the tail.
    pub(crate) fn has_copy(&self, id: u64) -> bool {
        self.state.lock().copied.0.contains(&id)
    }
}
