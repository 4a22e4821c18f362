//! What waits for another server, in order, and how far it is: pure, without lock, stream or clock.
//!
//! Items stand in the order in which they came, under tickets that grow. One carrier at a time takes them from the front;
//! what it was given and nobody has confirmed stays listed, so that whoever carries next begins with it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long what a living carrier has been given may still be confirmed when its time is up. To tell its sender that it
/// failed while it may be arriving would be to say both.
pub(super) const OVERTIME: Duration = Duration::from_secs(60);

/// After so many streams that the peer has ended over one stanza, it is given up (security.md B9).
const MOST_BLAMES: u8 = 3;

/// A stream that carries a link's stanzas, as a number: each one that takes the link over has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Carrier(u64);

struct Item<T> {
    ticket: u64,
    size: u64,
    /// When its time is up.
    until: Instant,
    /// How much longer it has when it may have arrived, and nobody carries it any more.
    doubt: Duration,
    /// When its overtime with the carrier that was given it is up.
    due: Instant,
    /// The last carrier that was given it.
    given: Option<Carrier>,
    /// Streams that the peer has ended while it was the only one that it had not confirmed, and connections that it has
    /// dropped while it was the first.
    blames: u8,
    what: T,
}

impl<T> Item<T> {
    /// When it fails unless somebody carries it.
    fn end(&self) -> Instant {
        if self.given.is_some() { self.until + self.doubt } else { self.until }
    }
}

/// An item that leaves unconfirmed.
#[derive(Debug)]
pub(super) struct Failed<T> {
    pub(super) what: T,
    /// Some carrier was given it: it may have arrived.
    pub(super) in_doubt: bool,
}

/// A queue of one link.
pub(super) struct Queue<T> {
    items: VecDeque<Item<T>>,
    /// So many in front have been given to the carrier.
    given: usize,
    carrier: Carrier,
    is_carried: bool,
    bytes: u64,
    /// No item's time is up before.
    soonest: Option<Instant>,
    /// One of those up to this ticket may be what the peer has ended a stream over: they go one by one.
    suspects: Option<u64>,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self {
            items: VecDeque::new(),
            given: 0,
            carrier: Carrier(0),
            is_carried: false,
            bytes: 0,
            soonest: None,
            suspects: None,
        }
    }

    /// Appends an item. Tickets have to grow.
    pub(super) fn push(&mut self, ticket: u64, size: u64, until: Instant, doubt: Duration, what: T) {
        self.bytes += size;
        self.items.push_back(Item { ticket, size, until, doubt, due: until + OVERTIME, given: None, blames: 0, what });
        self.soonest = Some(self.soonest.map_or(until, |soonest| soonest.min(until)));
    }

    /// Appends an item of an earlier run of the server, in which a carrier may have been given it.
    pub(super) fn recall(&mut self, ticket: u64, size: u64, until: Instant, doubt: Duration, what: T) {
        self.push(ticket, size, until, doubt, what);
        if let Some(item) = self.items.back_mut() {
            // The number before the first, which nobody has.
            item.given = Some(Carrier(0));
        }
    }

    /// A new carrier begins at the front.
    pub(super) fn carry(&mut self) -> Carrier {
        self.carrier = Carrier(self.carrier.0 + 1);
        self.is_carried = true;
        self.take_back();
        self.carrier
    }

    /// The next item for a carrier. One whose time is up already, and which may have arrived by an earlier carrier, has its
    /// overtime with this one, too.
    pub(super) fn next(&mut self, carrier: Carrier, now: Instant) -> Option<(u64, &T)> {
        if !self.is_current(carrier) {
            return None;
        }
        if self.given > 0 && self.is_careful() {
            return None;
        }
        let item = self.items.get_mut(self.given)?;
        item.given = Some(carrier);
        item.due = item.until.max(now) + OVERTIME;
        self.given += 1;
        self.soonest = self.soonest.map(|soonest| soonest.min(item.due));
        Some((item.ticket, &item.what))
    }

    /// The peer has what this carrier was given up to a ticket. A past one is still believed of what no other was given.
    pub(super) fn confirm(&mut self, carrier: Carrier, up_to: u64) -> Vec<T> {
        let mut confirmed = Vec::new();
        while let Some(first) = self.items.front()
            && first.ticket <= up_to
            && first.given == Some(carrier)
        {
            confirmed.extend(self.remove(0).map(|failed| failed.what));
        }
        let mut at = 0;
        while let Some(item) = self.items.get(at)
            && item.ticket <= up_to
            && !self.is_current(carrier)
        {
            if item.given == Some(carrier) {
                confirmed.extend(self.remove(at).map(|failed| failed.what));
            } else {
                at += 1;
            }
        }
        confirmed
    }

    /// Whether the next item waits until the one before is confirmed.
    pub(super) fn is_careful(&self) -> bool {
        self.suspects.is_some_and(|last| self.items.front().is_some_and(|first| first.ticket <= last))
    }

    /// The peer has ended the carrier's stream with an error: perhaps over something that it was given. One by one it will be
    /// seen over what; that is taken out in the end, so that it does not keep all others from their way.
    pub(super) fn blame(&mut self, carrier: Carrier) -> Option<Failed<T>> {
        if !self.is_current(carrier) {
            return None;
        }
        self.suspects = self.items.get(self.given.checked_sub(1)?).map(|item| item.ticket).max(self.suspects);
        let first = self.items.front_mut().filter(|_| self.given == 1)?;
        first.blames += 1;
        if first.blames < MOST_BLAMES { None } else { self.remove(0) }
    }

    /// The peer has dropped the carrier's connection without a word. Once that says nothing; when the same item is the first
    /// of those that it has not confirmed, they go one by one, and in the end that item is taken out.
    pub(super) fn dropped(&mut self, carrier: Carrier) -> Option<Failed<T>> {
        if !self.is_current(carrier) {
            return None;
        }
        let (given, last) = (self.given, self.items.get(self.given.checked_sub(1)?).map(|item| item.ticket));
        let first = self.items.front_mut()?;
        first.blames = first.blames.saturating_add(1);
        let blames = first.blames;
        if blames + 1 >= MOST_BLAMES {
            self.suspects = last.max(self.suspects);
        }
        if given == 1 && blames >= MOST_BLAMES { self.remove(0) } else { None }
    }

    /// A carrier gives up: what it was given waits again. `false` when it was past.
    pub(super) fn let_go(&mut self, carrier: Carrier) -> bool {
        let is_current = self.is_current(carrier);
        if is_current {
            self.is_carried = false;
            self.take_back();
        }
        is_current
    }

    /// Nothing is with a carrier any more, and has no overtime.
    fn take_back(&mut self) {
        self.given = 0;
        self.soonest = self.items.iter().map(Item::end).min();
    }

    /// Takes out the items whose time is up. What a carrier has been given has its overtime; if that is up as well, the
    /// carrier is past. What a past one has been given is in doubt, and has longer.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Failed<T>> {
        if self.soonest.is_none_or(|soonest| soonest > now) {
            return Vec::new();
        }
        if self.items.iter().take(self.given).any(|item| item.due <= now) {
            self.let_go(self.carrier);
        }
        let (mut failed, mut at) = (Vec::new(), 0);
        while let Some(item) = self.items.get(at) {
            if at >= self.given && item.end() <= now { failed.extend(self.remove(at)) } else { at += 1 }
        }
        let given = self.given;
        let until = |(at, item): (usize, &Item<T>)| if at < given { item.due } else { item.end() };
        self.soonest = self.items.iter().enumerate().map(until).min();
        failed
    }

    /// Takes out what waits and no carrier has been given: there is no way to the peer. What may have arrived keeps its time.
    pub(super) fn turn_back(&mut self) -> Vec<Failed<T>> {
        let (mut failed, mut at) = (Vec::new(), self.given);
        while let Some(item) = self.items.get(at) {
            if item.given.is_none() { failed.extend(self.remove(at)) } else { at += 1 }
        }
        failed
    }

    /// Takes out all that waits: nothing is to go to the peer.
    pub(super) fn give_up(&mut self) -> Vec<Failed<T>> {
        let mut failed = Vec::new();
        while self.items.len() > self.given {
            failed.extend(self.remove(self.given));
        }
        failed
    }

    /// Takes out one item that no carrier has been given, past ones included: what may have arrived has not failed.
    pub(super) fn take(&mut self, ticket: u64) -> Option<Failed<T>> {
        let at = self.items.binary_search_by_key(&ticket, |item| item.ticket).ok()?;
        self.items.get(at).filter(|item| item.given.is_none())?;
        self.remove(at)
    }

    /// Takes out one item that the carrier has been given and does not carry.
    pub(super) fn refuse(&mut self, carrier: Carrier, ticket: u64) -> Option<T> {
        let at = self.items.binary_search_by_key(&ticket, |item| item.ticket).ok()?;
        if at < self.given && self.is_current(carrier) { Some(self.remove(at)?.what) } else { None }
    }

    pub(super) fn is_current(&self, carrier: Carrier) -> bool {
        self.is_carried && self.carrier == carrier
    }

    /// Whether somebody carries.
    pub(super) const fn is_carried(&self) -> bool {
        self.is_carried
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What has waited longest.
    pub(super) fn first(&self) -> Option<&T> {
        self.items.front().map(|item| &item.what)
    }

    fn remove(&mut self, at: usize) -> Option<Failed<T>> {
        let item = self.items.remove(at)?;
        self.bytes -= item.size;
        if at < self.given {
            self.given -= 1;
        }
        if self.items.is_empty() {
            self.items.shrink_to(64);
            self.soonest = None;
        }
        Some(Failed { what: item.what, in_doubt: item.given.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Seconds that items have which may have arrived.
    const DOUBT: u64 = 50;

    /// A queue of its tickets, and the time of the test.
    struct World {
        queue: Queue<u64>,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { queue: Queue::new(), start: Instant::now() }
        }

        fn push(&mut self, ticket: u64, until: u64) {
            self.queue.push(ticket, 1, self.start + Duration::from_secs(until), Duration::from_secs(DOUBT), ticket);
        }

        fn with(tickets: std::ops::Range<u64>) -> Self {
            let mut world = Self::new();
            tickets.for_each(|ticket| world.push(ticket, 100));
            world
        }

        fn next(&mut self, carrier: Carrier, count: usize) -> Vec<u64> {
            self.next_at(0, carrier, count)
        }

        fn next_at(&mut self, at: u64, carrier: Carrier, count: usize) -> Vec<u64> {
            let now = self.start + Duration::from_secs(at);
            (0..count).filter_map(|_| self.queue.next(carrier, now).map(|(ticket, _)| ticket)).collect()
        }

        fn expire(&mut self, at: u64) -> Vec<(u64, bool)> {
            let failed = self.queue.expire(self.start + Duration::from_secs(at));
            failed.into_iter().map(|failed| (failed.what, failed.in_doubt)).collect()
        }
    }

    #[test]
    fn what_was_not_confirmed_goes_out_again_first() {
        let mut world = World::with(0..5);
        let first = world.queue.carry();
        assert_eq!(world.next(first, 3), [0, 1, 2]);
        assert_eq!(world.queue.confirm(first, 0), [0]);
        let second = world.queue.carry();
        assert!(world.next(first, 1).is_empty(), "it is past");
        assert_eq!(world.next(second, 9), [1, 2, 3, 4]);
        assert_eq!(world.queue.confirm(second, 9), [1, 2, 3, 4]);
        assert!(world.queue.is_empty() && world.queue.bytes() == 0);
    }

    #[test]
    fn a_past_carrier_is_believed_of_what_no_other_was_given() {
        let mut world = World::with(0..5);
        let first = world.queue.carry();
        world.next(first, 4);
        let second = world.queue.carry();
        assert_eq!(world.next(second, 2), [0, 1]);
        assert_eq!(world.queue.confirm(first, 2), [2]);
        assert_eq!(world.next(second, 9), [3, 4]);
        assert!(world.queue.confirm(first, 9).is_empty());
        assert_eq!(world.queue.confirm(second, 9), [0, 1, 3, 4]);
    }

    #[test]
    fn nobody_confirms_what_was_not_given() {
        let mut world = World::with(0..3);
        let carrier = world.queue.carry();
        world.next(carrier, 1);
        assert_eq!(world.queue.confirm(carrier, u64::MAX), [0]);
        assert_eq!(world.next(carrier, 9), [1, 2]);
    }

    #[test]
    fn time_is_up_for_what_waits_and_later_for_what_is_on_its_way() {
        let mut world = World::new();
        for (ticket, until) in [(0, 10), (1, 20), (2, 5), (3, 30)] {
            world.push(ticket, until);
        }
        let carrier = world.queue.carry();
        assert_eq!(world.next(carrier, 1), [0]);
        assert_eq!(world.expire(4), []);
        assert_eq!(world.expire(5), [(2, false)]);
        assert_eq!(world.expire(69), [(1, false), (3, false)], "the first is with a carrier");
        assert!(world.queue.is_current(carrier));
        assert_eq!(world.expire(70), [(0, true)]);
        assert!(!world.queue.is_current(carrier));
    }

    #[test]
    fn what_may_have_arrived_waits_longer_when_its_carrier_is_gone() {
        let mut world = World::with(0..3);
        let carrier = world.queue.carry();
        world.next(carrier, 2);
        world.queue.let_go(carrier);
        assert_eq!(world.expire(100), [(2, false)]);
        assert!(world.queue.turn_back().is_empty());
        assert_eq!(world.expire(100 + DOUBT - 1), []);
        assert_eq!(world.expire(100 + DOUBT), [(0, true), (1, true)]);
    }

    #[test]
    fn what_comes_late_to_a_carrier_has_its_overtime_with_that_one() {
        let overtime = OVERTIME.as_secs();
        let mut world = World::with(0..2);
        let first = world.queue.carry();
        world.next(first, 1);
        world.queue.let_go(first);
        // In doubt, long after its time, when the peer is back.
        let second = world.queue.carry();
        assert_eq!(world.next_at(100 + DOUBT - 1, second, 1), [0]);
        assert_eq!(world.expire(100 + DOUBT + overtime - 2), [(1, false)]);
        assert!(world.queue.is_current(second));
        assert_eq!(world.expire(100 + DOUBT + overtime - 1), [(0, true)]);
        assert!(!world.queue.is_current(second));
    }

    #[test]
    fn overtime_with_a_carrier_is_up_before_a_longer_doubt() {
        let mut world = World::new();
        world.queue.push(0, 1, world.start + Duration::from_secs(10), Duration::from_secs(3600), 0);
        let first = world.queue.carry();
        world.next(first, 1);
        world.queue.let_go(first);
        let second = world.queue.carry();
        assert_eq!(world.next_at(20, second, 1), [0]);
        let end = 20 + OVERTIME.as_secs();
        assert_eq!(world.expire(end - 1), []);
        assert!(world.queue.is_current(second));
        assert_eq!(world.expire(end), [], "it is in doubt again");
        assert!(!world.queue.is_current(second));
    }

    #[test]
    fn what_an_earlier_run_has_left_may_have_arrived() {
        let mut world = World::new();
        world.queue.recall(0, 1, world.start, Duration::from_secs(DOUBT), 0);
        assert!(world.queue.turn_back().is_empty());
        assert_eq!(world.expire(DOUBT - 1), []);
        let carrier = world.queue.carry();
        assert_eq!(world.next(carrier, 9), [0]);
        world.queue.let_go(carrier);
        assert_eq!(world.expire(DOUBT), [(0, true)]);
    }

    #[test]
    fn what_is_given_up_is_what_no_carrier_has() {
        let mut world = World::with(0..4);
        let carrier = world.queue.carry();
        world.next(carrier, 2);
        assert!(world.queue.take(1).is_none());
        assert_eq!(world.queue.take(3).map(|failed| failed.what), Some(3));
        let failed: Vec<_> = world.queue.give_up().into_iter().map(|failed| (failed.what, failed.in_doubt)).collect();
        assert_eq!(failed, [(2, false)]);
        assert!(world.queue.let_go(carrier) && !world.queue.let_go(carrier));
        assert!(world.queue.take(1).is_none(), "it may have arrived");
        let failed: Vec<_> = world.queue.give_up().into_iter().map(|failed| (failed.what, failed.in_doubt)).collect();
        assert_eq!(failed, [(0, true), (1, true)]);
    }

    #[test]
    fn b9_what_the_peer_drops_its_connections_over_is_found_and_given_up() {
        for deadly in [0, 2] {
            let mut world = World::with(0..6);
            let (mut had, mut connections) = (Vec::new(), 0);
            let failed = loop {
                let carrier = world.queue.carry();
                connections += 1;
                let failed = loop {
                    let given = world.next(carrier, 9);
                    if given.contains(&deadly) {
                        break world.queue.dropped(carrier);
                    }
                    had.extend(world.queue.confirm(carrier, u64::MAX));
                };
                world.queue.let_go(carrier);
                if let Some(failed) = failed {
                    break failed;
                }
                assert!(connections < 9);
            };
            assert_eq!((failed.what, failed.in_doubt, had), (deadly, true, (0..deadly).collect()));
            assert_eq!(connections, if deadly == 0 { 3 } else { 5 });
        }
    }

    #[test]
    fn connections_that_end_while_things_go_on_cost_nothing() {
        let mut world = World::with(0..6);
        for last in 0..6 {
            let carrier = world.queue.carry();
            assert_eq!(world.next(carrier, 9).len(), 6 - last);
            assert_eq!(world.queue.confirm(carrier, last as u64), [last as u64]);
            assert!(world.queue.dropped(carrier).is_none() && !world.queue.is_careful());
            world.queue.let_go(carrier);
            assert!(world.queue.dropped(carrier).is_none(), "it is past");
        }
        let carrier = world.queue.carry();
        assert!(world.queue.dropped(carrier).is_none(), "nothing was given");
    }

    #[test]
    fn b9_what_the_peer_ends_its_streams_over_is_found_and_given_up() {
        let mut world = World::with(0..6);
        // It dies of the third.
        let (mut had, mut streams) = (Vec::new(), 0);
        let failed = loop {
            let carrier = world.queue.carry();
            streams += 1;
            let failed = loop {
                let given = world.next(carrier, 9);
                assert!(streams == 1 || given.len() == 1, "one by one: {given:?}");
                if given.contains(&2) {
                    break world.queue.blame(carrier);
                }
                had.extend(world.queue.confirm(carrier, u64::MAX));
            };
            world.queue.let_go(carrier);
            if let Some(failed) = failed {
                break failed;
            }
            assert!(streams < 9);
        };
        assert_eq!((failed.what, failed.in_doubt, had, streams), (2, true, vec![0, 1], 4));
        let carrier = world.queue.carry();
        assert_eq!(world.next(carrier, 9), [3]);
        assert!(world.queue.is_careful());
        world.push(6, 100);
        for ticket in 3..6 {
            assert_eq!(world.queue.confirm(carrier, ticket), [ticket]);
            assert_eq!(world.next(carrier, 1), [ticket + 1]);
        }
        world.push(7, 100);
        assert_eq!(world.next(carrier, 1), [7], "what has come since is not suspected");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u64),
        Carry,
        Next(usize),
        /// By the carrier so many before the last, up to the ticket so many before the last.
        Confirm(usize, u64),
        LetGo(usize),
        Pass(u64),
        GiveUp,
        TurnBack,
        Take(u64),
        /// By the carrier so many before the last, the ticket so many before the last.
        Refuse(usize, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1_u64..200).prop_map(Step::Push),
            2 => Just(Step::Carry),
            6 => (1_usize..5).prop_map(Step::Next),
            4 => (0_usize..3, 0_u64..8).prop_map(|(by, back)| Step::Confirm(by, back)),
            1 => (0_usize..3).prop_map(Step::LetGo),
            2 => (0_u64..80).prop_map(Step::Pass),
            1 => Just(Step::GiveUp),
            1 => Just(Step::TurnBack),
            1 => (0_u64..8).prop_map(Step::Take),
            1 => (0_usize..2, 0_u64..8).prop_map(|(by, back)| Step::Refuse(by, back)),
        ];
        prop::collection::vec(step, 1..120)
    }

    /// An item as the plainest model of it has it.
    #[derive(Debug, Clone)]
    struct Plain {
        ticket: u64,
        until: u64,
        due: u64,
        given: Option<usize>,
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// Each item leaves once, confirmed or failed; order is kept; a carrier gets each once; nothing leaves before its
        /// time.
        #[test]
        fn it_does_as_the_plainest_model_does(steps in steps()) {
            let mut world = World::new();
            let mut plain: Vec<Plain> = Vec::new();
            let (mut carriers, mut current, mut had): (Vec<Carrier>, Option<usize>, Vec<u64>) = Default::default();
            let (mut now, mut last) = (0, 0);
            // Carriers before the first are numbers that nobody has.
            let by = |back: usize, carriers: &[Carrier]| carriers.len().checked_sub(back + 1);
            for step in steps {
                match step {
                    Step::Push(wait) => {
                        last += 1;
                        world.push(last, now + wait);
                        plain.push(Plain { ticket: last, until: now + wait, due: 0, given: None });
                    }
                    Step::Carry => {
                        carriers.push(world.queue.carry());
                        current = Some(carriers.len() - 1);
                        had.clear();
                    }
                    Step::Next(count) => {
                        let Some(carrier) = carriers.last() else { continue };
                        let got = world.next_at(now, *carrier, count);
                        let mut wanted = Vec::new();
                        for item in plain.iter_mut().filter(|_| current.is_some()) {
                            if wanted.len() < count && !had.contains(&item.ticket) {
                                item.given = current;
                                item.due = item.until.max(now) + OVERTIME.as_secs();
                                wanted.push(item.ticket);
                            }
                        }
                        had.extend(&wanted);
                        prop_assert_eq!(got, wanted);
                    }
                    Step::Confirm(back, ticket) => {
                        let Some(at) = by(back, &carriers) else { continue };
                        let up_to = last.saturating_sub(ticket);
                        let mut got = world.queue.confirm(carriers[at], up_to);
                        got.sort_unstable();
                        let is_confirmed = |item: &Plain| item.ticket <= up_to && item.given == Some(at);
                        let wanted: Vec<u64> =
                            plain.iter().filter(|item| is_confirmed(item)).map(|item| item.ticket).collect();
                        prop_assert_eq!(got, wanted);
                        plain.retain(|item| !is_confirmed(item));
                    }
                    Step::LetGo(back) => {
                        let Some(at) = by(back, &carriers) else { continue };
                        prop_assert_eq!(world.queue.let_go(carriers[at]), current == Some(at));
                        if current == Some(at) {
                            current = None;
                            had.clear();
                        }
                    }
                    Step::Pass(seconds) => {
                        now += seconds;
                        let is_late = |item: &Plain| had.contains(&item.ticket) && item.due <= now;
                        if plain.iter().any(is_late) {
                            current = None;
                            had.clear();
                        }
                        let doubt = |item: &Plain| if item.given.is_some() { DOUBT } else { 0 };
                        let fails = |item: &Plain| item.until + doubt(item) <= now && !had.contains(&item.ticket);
                        let wanted: Vec<(u64, bool)> = plain
                            .iter()
                            .filter(|item| fails(item))
                            .map(|item| (item.ticket, item.given.is_some()))
                            .collect();
                        prop_assert_eq!(world.expire(now), wanted);
                        plain.retain(|item| !fails(item));
                    }
                    Step::GiveUp => {
                        let got: Vec<u64> = world.queue.give_up().into_iter().map(|failed| failed.what).collect();
                        let wanted: Vec<u64> =
                            plain.iter().map(|item| item.ticket).filter(|ticket| !had.contains(ticket)).collect();
                        prop_assert_eq!(got, wanted);
                        plain.retain(|item| had.contains(&item.ticket));
                    }
                    Step::TurnBack => {
                        let got: Vec<u64> = world.queue.turn_back().into_iter().map(|failed| failed.what).collect();
                        let is_new = |item: &Plain| item.given.is_none();
                        let wanted: Vec<u64> = plain.iter().filter(|item| is_new(item)).map(|item| item.ticket).collect();
                        prop_assert_eq!(got, wanted);
                        plain.retain(|item| !is_new(item));
                    }
                    Step::Take(back) => {
                        let ticket = last.saturating_sub(back);
                        let is_new = |item: &Plain| item.ticket == ticket && item.given.is_none();
                        let is_there = plain.iter().any(is_new);
                        prop_assert_eq!(world.queue.take(ticket).is_some(), is_there);
                        plain.retain(|item| !is_there || item.ticket != ticket);
                    }
                    Step::Refuse(back, ticket) => {
                        let Some(at) = by(back, &carriers) else { continue };
                        let ticket = last.saturating_sub(ticket);
                        let is_there = current == Some(at)
                            && had.contains(&ticket)
                            && plain.iter().any(|item| item.ticket == ticket);
                        prop_assert_eq!(world.queue.refuse(carriers[at], ticket).is_some(), is_there);
                        plain.retain(|item| !is_there || item.ticket != ticket);
                    }
                }
                prop_assert_eq!(world.queue.len(), plain.len());
                prop_assert_eq!(world.queue.bytes(), plain.len() as u64);
                prop_assert_eq!(world.queue.first().copied(), plain.first().map(|item| item.ticket));
                prop_assert_eq!(world.queue.is_carried(), current.is_some());
            }
        }
    }
}
