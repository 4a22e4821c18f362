//! From times to ranges of ids. An id holds the time at which it was given out, and archives are ordered by id; so a page
//! by time needs no index over times and no search: only the messages whose id lies within the times asked for, widened by
//! how far ids and stamps have ever been apart, are looked at.
//!
//! They are apart when the clock is set back: ids go on from where they were.

use std::time::SystemTime;

use rookery_core::ids::RANDOM_BITS;

use crate::codec::to_stamp;

/// How far the time of an id is ahead of a stamp, and behind it, in microseconds; one of them is 0.
pub(crate) fn skew(id: i64, stamp: i64) -> (i64, i64) {
    let by = (id >> RANDOM_BITS).saturating_sub(stamp);
    (by.max(0), by.saturating_neg().max(0))
}

/// What is remembered of a distance: more than it is, so that a little more is no news.
pub(crate) fn widened(skew: i64) -> i64 {
    if skew == 0 { 0 } else { skew.saturating_mul(2).max(1_000_000) }
}

/// Messages by id and stamp, bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// No message outside of these ids is of the time.
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    /// Every message between these ids is of the time, so that its stamp needs not be read.
    pub(crate) first_sure: i64,
    pub(crate) last_sure: i64,
    pub(crate) first_stamp: i64,
    pub(crate) last_stamp: i64,
}

impl Span {
    /// All messages from `start` to `end`, where ids have been `ahead` of and `behind` stamps by so much at most.
    pub(crate) fn of(start: Option<SystemTime>, end: Option<SystemTime>, ahead: i64, behind: i64) -> Self {
        let mut span = Self {
            first_id: 0,
            last_id: i64::MAX,
            first_sure: 0,
            last_sure: i64::MAX,
            first_stamp: 0,
            last_stamp: i64::MAX,
        };
        if let Some(start) = start {
            span.first_stamp = to_stamp(start);
            span.first_id = lowest(span.first_stamp.saturating_sub(behind));
            span.first_sure = lowest(span.first_stamp.saturating_add(ahead));
        }
        if let Some(end) = end {
            span.last_stamp = to_stamp(end);
            span.last_id = highest(span.last_stamp.saturating_add(ahead));
            span.last_sure = highest(span.last_stamp.saturating_sub(behind));
        }
        span
    }

    pub(crate) fn after(&mut self, id: i64) {
        match id.checked_add(1) {
            Some(first) => self.first_id = self.first_id.max(first),
            None => self.last_id = -1,
        }
    }

    pub(crate) fn before(&mut self, id: i64) {
        self.last_id = self.last_id.min(id.saturating_sub(1));
    }

    /// Whether no stamp needs to be read at all.
    pub(crate) fn is_sure(&self) -> bool {
        self.first_id >= self.first_sure && self.last_id <= self.last_sure
    }

    #[cfg(test)]
    fn holds(&self, id: i64, stamp: i64) -> bool {
        (self.first_id..=self.last_id).contains(&id)
            && ((self.first_sure..=self.last_sure).contains(&id)
                || (self.first_stamp..=self.last_stamp).contains(&stamp))
    }
}

/// The lowest id of a time.
fn lowest(stamp: i64) -> i64 {
    stamp.max(0).saturating_mul(1 << RANDOM_BITS)
}

/// The highest id of a time; none has one before 1970.
fn highest(stamp: i64) -> i64 {
    if stamp < 0 { -1 } else { stamp.saturating_add(1).saturating_mul(1 << RANDOM_BITS).saturating_sub(1) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const NOW: i64 = 1_790_000_000_000_000;

    fn id(micros: i64) -> i64 {
        micros << RANDOM_BITS | 0x155
    }

    #[test]
    fn an_id_that_keeps_to_its_stamp_has_no_skew() {
        assert_eq!(skew(id(NOW), NOW), (0, 0));
        assert_eq!(skew(id(NOW + 5), NOW), (5, 0));
        assert_eq!(skew(id(NOW), NOW + 5), (0, 5));
        assert_eq!(skew(7, NOW), (0, NOW));
        assert_eq!(skew(i64::MAX, 0).1, 0);
        assert_eq!(widened(0), 0);
        assert_eq!(widened(5), 1_000_000);
        assert_eq!(widened(i64::MAX), i64::MAX);
    }

    #[test]
    fn no_message_of_the_time_is_left_out() {
        let at = |micros: i64| Some(UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs()));
        for (ahead, behind) in [(0, 0), (10, 0), (0, 10), (10, 3)] {
            let span = Span::of(at(NOW), at(NOW + 100), ahead, behind);
            for stamp in [NOW - 1, NOW, NOW + 50, NOW + 100, NOW + 101] {
                for by in -behind..=ahead {
                    let within = (NOW..=NOW + 100).contains(&stamp);
                    assert_eq!(span.holds(id(stamp + by), stamp), within, "{stamp} {by}");
                    assert_eq!(span.holds((stamp + by) << RANDOM_BITS | 0x3ff, stamp), within);
                    assert_eq!(span.holds((stamp + by) << RANDOM_BITS, stamp), within);
                }
            }
        }
    }

    #[test]
    fn bounds_only_narrow() {
        let mut span = Span::of(None, None, 0, 0);
        span.after(5);
        span.after(3);
        span.before(9);
        span.before(20);
        assert_eq!((span.first_id, span.last_id), (6, 8));
        span.after(i64::MAX);
        assert!(!span.holds(i64::MAX, 0) && !span.holds(7, 0));
    }
}
