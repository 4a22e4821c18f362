//! How often somebody may speak: so often in the long run, and so often at once after a rest.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rookery_xmpp::jid::BareJid;

/// So many people are remembered before those are forgotten who have rested.
const MOST: usize = 1000;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// So often a second; `None` is as often as one likes.
    pub(super) fn new(a_second: u32, burst: u32) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(a_second)?;
        Some(Self { interval, burst: interval.saturating_mul(burst) })
    }
}

/// When the bucket will be full again.
#[derive(Debug, Clone, Copy)]
struct Bucket(Instant);

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let next = self.0.max(now) + rate.interval;
        let fits = next.saturating_duration_since(now) <= rate.burst;
        if fits {
            self.0 = next;
        }
        fits
    }
}

/// How often the people of a room have spoken lately.
#[derive(Debug, Default)]
pub(super) struct Rates {
    all: Option<Bucket>,
    people: HashMap<BareJid, Bucket>,
}

impl Rates {
    /// Whether somebody may speak now.
    pub(super) fn person(&mut self, rate: Option<Rate>, who: BareJid, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        if self.people.len() >= MOST {
            self.people.retain(|_, bucket| bucket.0 > now);
        }
        self.people.entry(who).or_insert(Bucket(now)).take(rate, now)
    }

    /// Whether anybody may.
    pub(super) fn room(&mut self, rate: Option<Rate>, now: Instant) -> bool {
        rate.is_none_or(|rate| self.all.get_or_insert(Bucket(now)).take(rate, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_pace() {
        let (mut rates, rate) = (Rates::default(), Rate::new(2, 3));
        let who = || BareJid::new("romeo@localhost").unwrap();
        let now = Instant::now();
        let spoken = (0..10).filter(|_| rates.person(rate, who(), now)).count();
        assert_eq!(spoken, 3);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..10).filter(|_| rates.person(rate, who(), later)).count(), 2);
        assert!(rates.person(rate, BareJid::new("juliet@localhost").unwrap(), now));
        assert!((0..100).all(|_| rates.room(None, now)));
        assert_eq!(Rate::new(0, 10), None);
    }
}
