//! What one session received from its partner, judged as it comes.

use std::collections::BTreeSet;

/// The messages of one direction, by their numbers 0, 1, 2 ...
#[derive(Debug, Default)]
pub(super) struct Journal {
    expected: u32,
    missing: BTreeSet<u32>,
    /// Received a second time on a session that was resumed each time.
    pub(super) doubled: u64,
    /// Received a second time after a session could not be resumed and its peer sent again.
    pub(super) resent: u64,
    /// Received after a later one.
    pub(super) disordered: u64,
}

impl Journal {
    /// A message arrived. `renewed`: one of both sessions had to begin anew since.
    pub(super) fn receive(&mut self, seq: u32, renewed: bool) {
        if seq >= self.expected {
            self.missing.extend(self.expected..seq);
            self.expected = seq + 1;
        } else if self.missing.remove(&seq) {
            self.disordered += 1;
        } else if renewed {
            self.resent += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// Whether all of the first `sent` messages arrived.
    pub(super) fn complete(&self, sent: u32) -> bool {
        self.expected == sent && self.missing.is_empty()
    }

    /// How many of the first `sent` messages did not arrive.
    pub(super) fn lost(&self, sent: u32) -> u64 {
        self.missing.len() as u64 + u64::from(sent.saturating_sub(self.expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_copies_and_stragglers_are_told_apart() {
        let mut journal = Journal::default();
        for seq in [0, 1, 3, 3, 2, 2, 6] {
            journal.receive(seq, false);
        }
        journal.receive(6, true);
        assert_eq!((journal.doubled, journal.disordered, journal.resent), (2, 1, 1));
        assert_eq!((journal.lost(7), journal.lost(9)), (2, 4));
        assert!(!journal.complete(7));
    }
}
