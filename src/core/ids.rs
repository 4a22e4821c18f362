//! Ids of messages: the stanza-id (XEP-0359), the archive's UID (XEP-0313) and the place in the tail are one number.
//!
//! An id grows with time and never falls back, so order by id is the order in which the server took the messages. Its
//! low bits are random: XEP-0313 wants ids that nobody can predict.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// So many low bits of an id are random. With microseconds above them the sign bit stays free until the year 2255.
pub const RANDOM_BITS: u32 = 10;

/// Random bytes that are fetched at once.
const POOL: usize = 256;

/// The lowest id that a message of this time may have.
pub fn at(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| (since.as_micros() as u64) << RANDOM_BITS)
}

/// The lowest id of a message that is not older than this.
pub fn since(age: Duration) -> u64 {
    at(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// The id of so much earlier.
pub(crate) fn before(id: u64, time: Duration) -> u64 {
    id.saturating_sub(span(time))
}

/// The id of so much later.
pub(crate) fn after(id: u64, time: Duration) -> u64 {
    id.saturating_add(span(time))
}

fn span(time: Duration) -> u64 {
    (time.as_micros() as u64) << RANDOM_BITS
}

/// Gives out ids.
#[derive(Debug, Default)]
pub struct Ids {
    last: AtomicU64,
    pool: Mutex<Vec<u8>>,
}

impl Ids {
    /// Ids go on above this one.
    pub fn above(last: u64) -> Self {
        Self { last: AtomicU64::new(last), pool: Mutex::default() }
    }

    /// The next id: microseconds since 1970 and random bits behind them; or, when the clock has not gone on since the
    /// last one, as much more than the last as the random bits say.
    pub fn next(&self) -> u64 {
        let random = self.random();
        let now = at(SystemTime::now()) | random;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = if now > last { now } else { last + 1 + random };
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }

    /// The last one that was given out.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    fn random(&self) -> u64 {
        let mut pool = self.pool.lock();
        if pool.len() < 2 {
            pool.resize(POOL, 0);
            if getrandom::fill(&mut pool).is_err() {
                // The order holds without; the system had randomness when the server started.
                pool.fill(0);
            }
        }
        let bytes = [pool.pop().unwrap_or_default(), pool.pop().unwrap_or_default()];
        u64::from(u16::from_le_bytes(bytes)) & ((1 << RANDOM_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_says() {
        let ahead = at(SystemTime::now() + Duration::from_secs(3600));
        let ids = Ids::above(ahead);
        let some: Vec<u64> = std::iter::repeat_with(|| ids.next()).take(5000).collect();
        assert!(some.iter().all(|id| *id > ahead));
        assert!(some.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn ids_are_not_to_be_predicted_from_the_last() {
        let ids = Ids::above(u64::MAX / 4);
        let steps: std::collections::HashSet<u64> =
            (0..1000).map(|_| ids.next()).collect::<Vec<_>>().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.len() > 400, "{} different steps", steps.len());
    }

    #[test]
    fn ids_follow_the_clock() {
        let before = at(SystemTime::now());
        let id = Ids::default().next();
        assert!(id >= before && id < at(SystemTime::now() + Duration::from_secs(1)));
        assert!(since(Duration::from_secs(60)) < before);
    }
}
