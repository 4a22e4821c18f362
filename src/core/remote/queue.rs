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

/// A stream that carries a link's stanzas, as a number: each one that takes the link over has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Carrier(u64);

struct Item<T> {
    ticket: u64,
    size: u64,
    /// When its time is up.
    until: Instant,
    /// The last carrier that was given it.
    given: Option<Carrier>,
    what: T,
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
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { items: VecDeque::new(), given: 0, carrier: Carrier(0), is_carried: false, bytes: 0, soonest: None }
    }

    /// Appends an item. Tickets have to grow.
    pub(super) fn push(&mut self, ticket: u64, size: u64, until: Instant, what: T) {
        self.bytes += size;
        self.items.push_back(Item { ticket, size, until, given: None, what });
        self.soonest = Some(self.soonest.map_or(until, |soonest| soonest.min(until)));
    }

    /// A new carrier begins at the front.
    pub(super) fn carry(&mut self) -> Carrier {
        self.carrier = Carrier(self.carrier.0 + 1);
        self.is_carried = true;
        self.given = 0;
        self.carrier
    }

    /// The next item for a carrier.
    pub(super) fn next(&mut self, carrier: Carrier) -> Option<(u64, &T)> {
        if !self.is_current(carrier) {
            return None;
        }
        let item = self.items.get_mut(self.given)?;
        item.given = Some(carrier);
        self.given += 1;
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

    /// A carrier gives up: what it was given waits again. `false` when it was past.
    pub(super) fn let_go(&mut self, carrier: Carrier) -> bool {
        let is_current = self.is_current(carrier);
        if is_current {
            self.is_carried = false;
            self.given = 0;
        }
        is_current
    }

    /// Takes out the items whose time is up. What a carrier has been given has its overtime; if that is up as well, the
    /// carrier is past.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Failed<T>> {
        if self.soonest.is_none_or(|soonest| soonest > now) {
            return Vec::new();
        }
        if self.items.iter().take(self.given).any(|item| item.until + OVERTIME <= now) {
            self.let_go(self.carrier);
        }
        let (mut failed, mut at) = (Vec::new(), 0);
        while let Some(item) = self.items.get(at) {
            if at >= self.given && item.until <= now { failed.extend(self.remove(at)) } else { at += 1 }
        }
        let given = self.given;
        let until = |(at, item): (usize, &Item<T>)| if at < given { item.until + OVERTIME } else { item.until };
        self.soonest = self.items.iter().enumerate().map(until).min();
        failed
    }

    /// Takes out all that waits: there is no way to the peer.
    pub(super) fn give_up(&mut self) -> Vec<Failed<T>> {
        let mut failed = Vec::new();
        while self.items.len() > self.given {
            failed.extend(self.remove(self.given));
        }
        failed
    }

    /// Takes out one item that has not been given to the carrier.
    pub(super) fn take(&mut self, ticket: u64) -> Option<Failed<T>> {
        let at = self.items.binary_search_by_key(&ticket, |item| item.ticket).ok()?;
        if at < self.given { None } else { self.remove(at) }
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
