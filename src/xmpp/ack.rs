//! XEP-0198 §4: the counters and the queue of stream management, without stream, stanza or clock.
//!
//! Both counters, `h`, are those of the XEP: the number of stanzas handled, modulo 2^32. [`Outgoing`] keeps what the peer
//! has not acknowledged; [`Incoming`] counts what we may acknowledge: only what is safe on disk, in an unbroken run from the
//! first. When a bound on the queue is reached is for the session to decide; it sees [`Outgoing::len`].

use std::collections::VecDeque;
use std::collections::vec_deque::{Drain, Iter};
use std::fmt;

/// Reads the attribute `h`: xs:unsignedInt, digits alone. `None` for anything else, which is a bad request.
pub fn parse_h(text: &str) -> Option<u32> {
    // `u32::from_str` would accept a leading plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The peer acknowledges more than was sent to it (XEP-0198 §4: the stream is closed with `undefined-condition` and
/// `<handled-count-too-high/>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandledTooHigh {
    /// What the peer said.
    pub h: u32,
    /// How much was sent, modulo 2^32.
    pub sent: u32,
}

impl fmt::Display for HandledTooHigh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acknowledged {} stanzas, but only {} were sent", self.h, self.sent)
    }
}

impl std::error::Error for HandledTooHigh {}

/// The `h` of a resumption is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadResume {
    /// More than was sent.
    TooHigh(HandledTooHigh),
    /// Less than was acknowledged before: what lies between is gone from the queue and cannot be sent again. The session
    /// cannot be resumed (`item-not-found`); the peer begins anew and finds what it lacks in its archive.
    Behind {
        /// What the peer said.
        h: u32,
        /// What it had said before.
        acked: u32,
    },
}

impl fmt::Display for BadResume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooHigh(error) => error.fmt(f),
            Self::Behind { h, acked } => write!(f, "resumes at {h}, but had acknowledged {acked}"),
        }
    }
}

impl std::error::Error for BadResume {}

/// What was sent and not yet acknowledged, oldest first.
#[derive(Debug, Clone)]
pub struct Outgoing<T> {
    /// The peer's `h`, as far as we know.
    acked: u32,
    /// How many were acknowledged since the beginning, not modulo anything: no `h` can lie farther behind.
    history: u64,
    queue: VecDeque<T>,
    /// Resumptions in a row that found the same item in front.
    stuck: u32,
}

impl<T> Outgoing<T> {
    /// An empty queue of a new session: `start` is 0, but for tests of what happens at 2^32.
    pub const fn new(start: u32) -> Self {
        Self { acked: start, history: 0, queue: VecDeque::new(), stuck: 0 }
    }

    /// A queue as it was: its [`history`](Self::history), its [`acked`](Self::acked), its [`stuck`](Self::stuck), and
    /// what was not acknowledged.
    pub fn restore(history: u64, acked: u32, stuck: u32, items: impl IntoIterator<Item = T>) -> Self {
        Self { acked, history, queue: items.into_iter().collect(), stuck }
    }

    /// Adds what is being sent.
    pub fn push(&mut self, item: T) {
        self.queue.push_back(item);
    }

    /// The peer has handled `h` stanzas: takes out those that are newly acknowledged, oldest first.
    ///
    /// An `h` behind the last takes out nothing. An error changes nothing.
    pub fn ack(&mut self, h: u32) -> Result<Drain<'_, T>, HandledTooHigh> {
        let count = self.ahead(h)?.unwrap_or(0);
        Ok(self.take(count))
    }

    /// The peer resumes and has handled `h` stanzas: as [`ack`](Self::ack), but an `h` behind the last is an error. What is
    /// left in the queue is to be sent again. An error changes nothing: the session stays as resumable as it was.
    pub fn resume(&mut self, h: u32) -> Result<Drain<'_, T>, BadResume> {
        let count = self.resumed(h)?;
        if count == 0 && !self.queue.is_empty() {
            self.stuck = self.stuck.saturating_add(1);
        }
        Ok(self.take(count))
    }

    /// How many resumptions in a row found the same stanza in front of the queue, unhandled. A stanza that the peer cannot
    /// bear, and dies of each time, shows so.
    pub const fn stuck(&self) -> u32 {
        self.stuck
    }

    /// Takes out the first item though it is not acknowledged. Only between [`resume`](Self::resume) and the sending again:
    /// the peer has not counted it, and the next item takes its number.
    pub fn park(&mut self) -> Option<T> {
        self.stuck = 0;
        self.queue.pop_front()
    }

    /// Takes out all that is not acknowledged, oldest first, to be [pushed](Self::push) again when it is sent again.
    pub fn take_all(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.queue)
    }

    /// What [`resume`](Self::resume) would say to this `h`.
    pub fn check_resume(&self, h: u32) -> Result<(), BadResume> {
        self.resumed(h).map(|_| ())
    }

    /// Gives back the memory that the queue had use for once. For a session that falls idle.
    pub fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// The number of stanzas that the peer has acknowledged, modulo 2^32.
    pub const fn acked(&self) -> u32 {
        self.acked
    }

    /// The number of stanzas that the peer has acknowledged, not modulo anything.
    pub const fn history(&self) -> u64 {
        self.history
    }

    /// The number of stanzas sent, modulo 2^32.
    pub fn sent(&self) -> u32 {
        self.acked.wrapping_add(self.queue.len() as u32)
    }

    /// How many items are not acknowledged.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether all is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What is not acknowledged, oldest first: to be sent again, or delivered in another way.
    pub fn iter(&self) -> Iter<'_, T> {
        self.queue.iter()
    }

    fn resumed(&self, h: u32) -> Result<usize, BadResume> {
        let behind = BadResume::Behind { h, acked: self.acked };
        self.ahead(h).map_err(BadResume::TooHigh)?.ok_or(behind)
    }

    /// How many items `h` acknowledges; `None` if it lies behind the last.
    fn ahead(&self, h: u32) -> Result<Option<usize>, HandledTooHigh> {
        let behind = self.acked.wrapping_sub(h);
        match usize::try_from(h.wrapping_sub(self.acked)) {
            Ok(count) if count <= self.queue.len() => Ok(Some(count)),
            _ if u64::from(behind) <= self.history => Ok(None),
            _ => Err(HandledTooHigh { h, sent: self.sent() }),
        }
    }

    fn take(&mut self, count: usize) -> Drain<'_, T> {
        if count > 0 {
            self.acked = self.acked.wrapping_add(count as u32);
            self.history = self.history.saturating_add(count as u64);
            self.stuck = 0;
        }
        self.queue.drain(..count)
    }
}

impl<T> IntoIterator for Outgoing<T> {
    type Item = T;
    type IntoIter = std::collections::vec_deque::IntoIter<T>;

    /// What is not acknowledged, oldest first, when the session is over.
    fn into_iter(self) -> Self::IntoIter {
        self.queue.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Outgoing<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The place of a received stanza in the count, to be given back when it is handled for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a slot that is never completed stops the acknowledgements"]
pub struct Slot {
    number: u32,
    epoch: u32,
}

/// What was received, and how much of it may be acknowledged.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Stanzas handled for good, without a gap: what `<a/>` may say.
    handled: u32,
    received: u32,
    /// Those handled while an earlier one is not, by their distance from `handled`, which is their order.
    early: Vec<u32>,
    epoch: u32,
}

impl Incoming {
    /// Nothing received beyond `start`, which is 0 for a new session and `h` for one that is restored.
    pub const fn new(start: u32) -> Self {
        Self { handled: start, received: start, early: Vec::new(), epoch: 0 }
    }

    /// A stanza has been read. Every slot is to be [completed](Self::complete), also that of a stanza that was refused.
    pub fn receive(&mut self) -> Slot {
        self.received = self.received.wrapping_add(1);
        Slot { number: self.received, epoch: self.epoch }
    }

    /// The stanza is handled for good: what must be on disk is there, or nothing had to be. Answers whether
    /// [`h`](Self::h) has grown. To complete a slot again does nothing.
    pub fn complete(&mut self, slot: Slot) -> bool {
        let distance = slot.number.wrapping_sub(self.handled);
        if slot.epoch != self.epoch || distance == 0 || distance > self.in_flight() {
            return false;
        }
        if distance != 1 {
            let order = |number: &u32| number.wrapping_sub(self.handled);
            if let Err(at) = self.early.binary_search_by_key(&distance, order) {
                self.early.insert(at, slot.number);
            }
            return false;
        }
        self.handled = slot.number;
        let mut run = 0;
        for number in &self.early {
            if *number != self.handled.wrapping_add(1) {
                break;
            }
            self.handled = *number;
            run += 1;
        }
        self.early.drain(..run);
        if self.early.is_empty() && self.early.capacity() > 64 {
            self.early = Vec::new();
        }
        true
    }

    /// Forgets the slots that are not completed: the peer resumes, is told [`h`](Self::h), and will send again what came
    /// after it. Slots given out before count no more.
    pub fn forget(&mut self) {
        self.received = self.handled;
        self.early = Vec::new();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The number of stanzas handled for good, modulo 2^32: the `h` of `<a/>`, `<resumed/>` and `<failed/>`.
    pub const fn h(&self) -> u32 {
        self.handled
    }

    /// How many stanzas were received and do not count yet.
    pub const fn in_flight(&self) -> u32 {
        self.received.wrapping_sub(self.handled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(start: u32, count: u32) -> Outgoing<u32> {
        let mut queue = Outgoing::new(start);
        (0..count).for_each(|item| queue.push(item));
        queue
    }

    fn acked(queue: &mut Outgoing<u32>, h: u32) -> Result<Vec<u32>, HandledTooHigh> {
        queue.ack(h).map(Iterator::collect)
    }

    #[test]
    fn t14_acks_drain_in_order() {
        let mut queue = queue(0, 3);
        assert_eq!(acked(&mut queue, 0), Ok(vec![]));
        assert_eq!(acked(&mut queue, 2), Ok(vec![0, 1]));
        assert_eq!(acked(&mut queue, 1), Ok(vec![]), "acks that cross are ignored");
        assert_eq!(queue.iter().collect::<Vec<_>>(), [&2]);
        assert_eq!(acked(&mut queue, 3), Ok(vec![2]));
        assert!(queue.is_empty());
    }

    #[test]
    fn t14_counters_wrap() {
        let mut queue = queue(u32::MAX - 2, 5);
        assert_eq!(queue.sent(), 2);
        assert_eq!(acked(&mut queue, u32::MAX), Ok(vec![0, 1]));
        assert_eq!(acked(&mut queue, 0), Ok(vec![2]));
        assert_eq!(acked(&mut queue, u32::MAX), Ok(vec![]));
        assert_eq!(acked(&mut queue, 3), Err(HandledTooHigh { h: 3, sent: 2 }));
        assert_eq!(acked(&mut queue, 2), Ok(vec![3, 4]));

        let mut incoming = Incoming::new(u32::MAX - 2);
        for h in [u32::MAX - 1, u32::MAX, 0, 1] {
            let slot = incoming.receive();
            assert!(incoming.complete(slot));
            assert_eq!(incoming.h(), h);
        }
    }

    #[test]
    fn t14_handled_count_too_high_changes_nothing() {
        let mut queue = queue(0, 3);
        assert_eq!(acked(&mut queue, 1), Ok(vec![0]));
        for h in [4, 5, 1 << 31, 3_000_000_000, u32::MAX] {
            assert_eq!(acked(&mut queue, h), Err(HandledTooHigh { h, sent: 3 }));
            assert_eq!(queue.resume(h).err(), Some(BadResume::TooHigh(HandledTooHigh { h, sent: 3 })));
        }
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a14_bad_h_leaves_the_session_resumable() {
        let mut queue = queue(0, 4);
        assert_eq!(acked(&mut queue, 2), Ok(vec![0, 1]));
        assert_eq!(queue.resume(1).err(), Some(BadResume::Behind { h: 1, acked: 2 }));
        assert_eq!(queue.resume(9).err(), Some(BadResume::TooHigh(HandledTooHigh { h: 9, sent: 4 })));
        assert_eq!(queue.resume(3).unwrap().collect::<Vec<_>>(), [2]);
        assert_eq!(queue.into_iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn b9_a_stanza_that_kills_its_reader_is_parked() {
        let mut queue = queue(0, 3);
        for stuck in 1..=3 {
            assert_eq!(queue.resume(0).unwrap().count(), 0);
            assert_eq!(queue.stuck(), stuck);
        }
        assert_eq!(queue.park(), Some(0));
        assert_eq!(queue.stuck(), 0);
        assert_eq!(acked(&mut queue, 2), Ok(vec![1, 2]));
        assert_eq!(queue.resume(2).unwrap().count(), 0);
        assert_eq!(queue.stuck(), 0, "an empty queue is not stuck");
    }

    #[test]
    fn t14_a_queue_that_is_restored_counts_on() {
        let mut old = queue(u32::MAX - 2, 5);
        assert_eq!(acked(&mut old, 0), Ok(vec![0, 1, 2]));
        let mut new = Outgoing::restore(old.history(), old.acked(), old.stuck(), old.iter().copied());
        assert_eq!((new.acked(), new.sent(), new.len()), (0, 2, 2));
        for queue in [&mut old, &mut new] {
            // What was acknowledged before the counter came round is behind, not too high.
            assert_eq!(queue.resume(u32::MAX).err(), Some(BadResume::Behind { h: u32::MAX, acked: 0 }));
            assert_eq!(queue.resume(0).unwrap().count(), 0);
            assert_eq!(queue.stuck(), 1);
            assert_eq!(acked(queue, 2), Ok(vec![3, 4]));
        }
    }

    #[test]
    fn t14_h_is_digits() {
        assert_eq!(parse_h("0"), Some(0));
        assert_eq!(parse_h("4294967295"), Some(u32::MAX));
        assert_eq!(parse_h("007"), Some(7));
        for text in ["", "-1", "+1", "4294967296", "99999999999999999999", "1.0", " 1", "1 ", "one", "0x1", "\u{661}"] {
            assert_eq!(parse_h(text), None, "{text:?}");
        }
    }

    #[test]
    fn h_waits_for_the_earliest() {
        let mut incoming = Incoming::new(0);
        let [a, b, c] = [incoming.receive(), incoming.receive(), incoming.receive()];
        assert!(!incoming.complete(c));
        assert!(!incoming.complete(b));
        assert!(!incoming.complete(b));
        assert_eq!((incoming.h(), incoming.in_flight()), (0, 3));
        assert!(incoming.complete(a));
        assert_eq!((incoming.h(), incoming.in_flight()), (3, 0));
        assert!(!incoming.complete(a));
    }

    #[test]
    fn forgotten_slots_count_no_more() {
        let mut incoming = Incoming::new(0);
        let [a, b] = [incoming.receive(), incoming.receive()];
        assert!(incoming.complete(a));
        incoming.forget();
        let again = incoming.receive();
        assert!(!incoming.complete(b));
        assert_eq!(incoming.h(), 1);
        assert!(incoming.complete(again));
        assert_eq!(incoming.h(), 2);
    }

    #[test]
    fn in_order_needs_no_memory() {
        let mut incoming = Incoming::new(0);
        for _ in 0..1000 {
            let slot = incoming.receive();
            incoming.complete(slot);
        }
        assert_eq!(incoming.early.capacity(), 0);
        let slots: Vec<_> = (0..1000).map(|_| incoming.receive()).collect();
        for slot in slots.into_iter().rev() {
            incoming.complete(slot);
        }
        assert_eq!((incoming.h(), incoming.early.capacity()), (2000, 0));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Ack(i64),
        Resume(i64),
    }

    fn start() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(u32::MAX - 2), any::<u32>()]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(0..5u8).prop_map(Step::Push), (-6..8i64).prop_map(Step::Ack), (-6..8i64).prop_map(Step::Resume),]
    }

    proptest! {
        /// The model counts without bound: sent and acknowledged are numbers since the beginning.
        #[test]
        fn t14_outgoing_agrees_with_a_model(start in start(), steps in prop::collection::vec(step(), 0..60)) {
            let mut queue = Outgoing::new(start);
            let (mut sent, mut done) = (0i64, 0i64);
            let wrapped = |number: i64| (i64::from(start) + number).rem_euclid(1 << 32) as u32;
            for step in steps {
                match step {
                    Step::Push(count) => for _ in 0..count {
                        queue.push(sent);
                        sent += 1;
                    },
                    Step::Ack(by) => {
                        let result = queue.ack(wrapped(done + by)).map(Iterator::collect::<Vec<_>>);
                        if done + by > sent || done + by < 0 {
                            prop_assert!(result.is_err());
                        } else {
                            prop_assert_eq!(result, Ok((done..done.max(done + by)).collect::<Vec<_>>()));
                            done = done.max(done + by);
                        }
                    }
                    Step::Resume(by) => {
                        let result = queue.resume(wrapped(done + by)).map(Iterator::collect::<Vec<_>>);
                        if by < 0 || done + by > sent {
                            prop_assert!(result.is_err());
                        } else {
                            prop_assert_eq!(result, Ok((done..done + by).collect::<Vec<_>>()));
                            done += by;
                        }
                    }
                }
                prop_assert_eq!(queue.acked(), wrapped(done));
                prop_assert_eq!(queue.sent(), wrapped(sent));
                prop_assert_eq!(queue.iter().copied().collect::<Vec<_>>(), (done..sent).collect::<Vec<_>>());
            }
        }

        /// The model remembers every slot and counts the completed ones from the first.
        #[test]
        fn t14_incoming_agrees_with_a_model(start in start(), steps in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..200)) {
            let mut incoming = Incoming::new(start);
            let mut slots: Vec<(Slot, bool)> = Vec::new();
            for (receive, index) in steps {
                let count = |slots: &[(Slot, bool)]| slots.iter().take_while(|(_, done)| *done).count();
                let before = count(&slots);
                if receive || slots.is_empty() {
                    slots.push((incoming.receive(), false));
                } else {
                    let at = index.index(slots.len());
                    slots[at].1 = true;
                    let grown = incoming.complete(slots[at].0);
                    prop_assert_eq!(grown, count(&slots) > before);
                }
                prop_assert_eq!(incoming.h(), start.wrapping_add(count(&slots) as u32));
                prop_assert_eq!(incoming.in_flight() as usize, slots.len() - count(&slots));
            }
        }
    }
}
