//! Stream management's counters (XEP-0198 §4) on the client's side, and what is not acknowledged yet.

use std::collections::VecDeque;

/// The namespace.
pub const NS: &str = "urn:xmpp:sm:3";

/// The server claims to have handled more than was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server acknowledged {h}, of {sent} stanzas sent")]
pub struct TooHigh {
    h: u32,
    sent: u32,
}

/// Stanzas that were sent, oldest first, until they are acknowledged.
#[derive(Debug)]
pub struct Unacked<T> {
    acked: u32,
    queue: VecDeque<T>,
}

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Self { acked: 0, queue: VecDeque::new() }
    }
}

impl<T> Unacked<T> {
    /// A stanza was sent.
    pub fn push(&mut self, stanza: T) {
        self.queue.push_back(stanza);
    }

    /// The server has handled `h` stanzas, modulo 2^32: gives those that this acknowledges.
    pub fn acknowledge(&mut self, h: u32) -> Result<impl Iterator<Item = T>, TooHigh> {
        let new = h.wrapping_sub(self.acked) as usize;
        if new > self.queue.len() {
            return Err(TooHigh { h, sent: self.acked.wrapping_add(self.queue.len() as u32) });
        }
        self.acked = h;
        Ok(self.queue.drain(..new))
    }

    /// What is not acknowledged, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.queue.iter()
    }

    /// How many are not acknowledged.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether all is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// All counts are higher than they were, by this much modulo 2^32.
    pub fn shift(&mut self, by: u32) {
        self.acked = self.acked.wrapping_add(by);
    }

    /// A new stream management session begins; what was not acknowledged on the old one.
    pub fn restart(&mut self) -> Vec<T> {
        self.acked = 0;
        self.queue.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_wrap_and_refuse_what_was_not_sent() {
        let mut unacked = Unacked { acked: u32::MAX - 1, queue: VecDeque::from([1, 2, 3, 4]) };
        assert_eq!(unacked.acknowledge(u32::MAX - 1).unwrap().count(), 0);
        assert_eq!(unacked.acknowledge(0).unwrap().collect::<Vec<_>>(), [1, 2]);
        assert!(unacked.acknowledge(3).is_err());
        assert!(unacked.acknowledge(u32::MAX).is_err());
        assert_eq!(unacked.restart(), [3, 4]);
        assert!(unacked.acknowledge(1).is_err());
    }
}
