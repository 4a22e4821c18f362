//! What was sent, acknowledged and received in a round, and what follows from it.

use std::collections::{HashMap, HashSet};

/// Where a recipient is while messages are sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Whereabouts {
    /// Online, with stream management.
    Managed,
    /// Online, without: what counts is what its socket could read.
    Bare,
    /// Not logged in.
    Offline,
    /// A resumable session whose connection was reset.
    Reset,
    /// A resumable session whose network went away without a word.
    Silent,
}

impl Whereabouts {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [Self::Managed, Self::Bare, Self::Offline, Self::Reset, Self::Silent];

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Managed => "online, with 0198",
            Self::Bare => "online, without",
            Self::Offline => "offline",
            Self::Reset => "detached by a reset",
            Self::Silent => "detached in silence",
        }
    }

    /// Whether its session has stream management.
    pub(super) fn managed(self) -> bool {
        matches!(self, Self::Managed | Self::Reset | Self::Silent)
    }
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    /// Its number in the conversation.
    pub(super) seq: u32,
    /// The server's stanza-id (XEP-0359), if it gives any.
    pub(super) stanza_id: Option<String>,
}

/// One conversation in one round.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Messages `0..sent` were written to the socket.
    pub(super) sent: u32,
    /// Messages `0..acked` were acknowledged before the crash.
    pub(super) acked: u32,
    /// Messages `0..settled` were acknowledged before the crash or, sent again, after it.
    pub(super) settled: u32,
    /// Messages whose sender was told that they did not arrive.
    pub(super) bounced: Vec<u32>,
    /// What was received before the crash.
    pub(super) before: Vec<Received>,
    /// And after the restart.
    pub(super) after: Vec<Received>,
    /// Messages of earlier rounds that arrived again.
    pub(super) strays: u32,
}

/// Counts over journals.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Findings {
    /// Messages sent.
    pub(super) sent: u64,
    /// Of these, acknowledged.
    pub(super) acked: u64,
    /// Acknowledged, and never received, and the sender was not told.
    pub(super) lost: u64,
    /// Acknowledged, not received, and the sender was told.
    pub(super) bounced: u64,
    /// Received a second time after the crash, under the same stanza-id.
    pub(super) redelivered: u64,
    /// Not acknowledged, though the server had it; sent again therefore, and received twice.
    pub(super) copied: u64,
    /// Received twice otherwise.
    pub(super) doubled: u64,
    /// Received after a later one.
    pub(super) disordered: u64,
}

impl Findings {
    /// Adds others.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.lost += other.lost;
        self.bounced += other.bounced;
        self.redelivered += other.redelivered;
        self.copied += other.copied;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
    }

    /// Whether the server kept its word.
    pub(super) fn clean(&self) -> bool {
        self.lost + self.doubled + self.disordered == 0
    }
}

impl Journal {
    /// Judges the conversation.
    pub(super) fn findings(&self) -> Findings {
        let mut found = Findings {
            sent: self.sent.into(),
            acked: self.settled.into(),
            doubled: self.strays.into(),
            ..Findings::default()
        };
        let mut seen: HashMap<u32, &Received> = HashMap::new();
        let mut newest = None;
        for (phase, list) in [&self.before, &self.after].into_iter().enumerate() {
            let mut newest_of_phase = None;
            let mut here = HashSet::new();
            for received in list {
                let seq = received.seq;
                let twice_here = !here.insert(seq);
                let earlier = seen.get(&seq).copied();
                match earlier {
                    Some(other) if phase == 1 && !twice_here && same(other, received) => found.redelivered += 1,
                    Some(_) if phase == 1 && (self.acked..self.settled).contains(&seq) => found.copied += 1,
                    Some(_) => found.doubled += 1,
                    None => {
                        if newest > Some(seq) {
                            found.disordered += 1;
                        }
                        newest = newest.max(Some(seq));
                        seen.insert(seq, received);
                    }
                }
                if !twice_here {
                    if earlier.is_some() && newest_of_phase > Some(seq) {
                        found.disordered += 1;
                    }
                    newest_of_phase = newest_of_phase.max(Some(seq));
                }
            }
        }
        for seq in 0..self.settled {
            if !seen.contains_key(&seq) {
                if self.bounced.contains(&seq) { found.bounced += 1 } else { found.lost += 1 }
            }
        }
        found
    }

    /// Examples of what is wrong, for people.
    pub(super) fn examples(&self) -> String {
        let seqs = |list: &[Received]| list.iter().map(|received| received.seq).collect::<Vec<_>>();
        let (before, after) = (seqs(&self.before), seqs(&self.after));
        let missing: Vec<u32> = (0..self.settled).filter(|seq| !before.contains(seq) && !after.contains(seq)).collect();
        format!(
            "acked before the crash 0..{}, in all 0..{}, of {} sent; received before {}, after {}; missing {}",
            self.acked,
            self.settled,
            self.sent,
            ranges(&before),
            ranges(&after),
            ranges(&missing)
        )
    }
}

fn same(one: &Received, other: &Received) -> bool {
    one.stanza_id.is_some() && one.stanza_id == other.stanza_id
}

/// `1..4 7 8..9`, in the order given.
fn ranges(seqs: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &seq in seqs {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == seq => *end = seq,
            _ => runs.push((seq, seq)),
        }
    }
    let shown: Vec<String> = runs
        .iter()
        .take(12)
        .map(|(start, end)| if start == end { start.to_string() } else { format!("{start}..={end}") })
        .collect();
    match runs.len() {
        0 => "none".into(),
        1..=12 => shown.join(" "),
        _ => format!("{} ...", shown.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(seqs: &[u32], id: &str) -> Vec<Received> {
        seqs.iter().map(|&seq| Received { seq, stanza_id: Some(format!("{id}{seq}")) }).collect()
    }

    fn judge(acked: u32, before: &[u32], after: Vec<Received>) -> Findings {
        let before = list(before, "x");
        Journal { sent: 9, acked, settled: acked, before, after, ..Journal::default() }.findings()
    }

    #[test]
    fn what_was_acked_and_not_received_is_lost_unless_its_sender_was_told() {
        assert_eq!(judge(4, &[0, 1], list(&[2, 3, 4], "x")).lost, 0);
        assert_eq!(judge(4, &[0, 1], list(&[3], "x")).lost, 1);
        assert_eq!(judge(4, &[], vec![]).lost, 4);
        let journal = Journal { sent: 3, acked: 2, settled: 2, bounced: vec![1], ..Journal::default() };
        assert_eq!((journal.findings().lost, journal.findings().bounced), (1, 1));
    }

    #[test]
    fn a_second_copy_is_allowed_after_a_crash_under_the_same_stanza_id() {
        let found = judge(3, &[0, 1, 2], list(&[1, 2], "x"));
        assert_eq!((found.redelivered, found.doubled, found.disordered), (2, 0, 0));
        let found = judge(3, &[0, 1, 2], list(&[1, 2], "y"));
        assert_eq!((found.redelivered, found.doubled), (0, 2));
        let (before, after) = (list(&[0, 1], "x"), [list(&[1, 2], "y"), list(&[1, 2], "z")].concat());
        let resent = Journal { sent: 3, acked: 1, settled: 3, before, after, ..Journal::default() };
        assert_eq!((resent.findings().copied, resent.findings().doubled), (3, 0));
        assert_eq!(judge(3, &[0, 1, 2], list(&[2, 2], "x")).doubled, 1);
        assert_eq!(judge(3, &[0, 1, 1, 2], vec![]).doubled, 1);
    }

    #[test]
    fn order_is_that_of_first_arrivals_and_of_each_phase() {
        assert_eq!(judge(3, &[0, 2, 1], vec![]).disordered, 1);
        assert_eq!(judge(3, &[0, 2], list(&[1], "x")).disordered, 1);
        assert_eq!(judge(3, &[0, 1, 2], list(&[2, 1], "x")).disordered, 1);
        assert!(judge(3, &[0, 1], list(&[1, 2, 3], "x")).clean());
    }

    #[test]
    fn examples_are_short() {
        assert_eq!(ranges(&[]), "none");
        assert_eq!(ranges(&[1, 2, 3, 7, 5]), "1..=3 7 5");
    }
}
