//! A token bucket for the bytes of one connection. It never refuses: it says until when to stop reading, and TCP
//! passes the pressure back to the sender.

use std::time::{Duration, Instant};

use rookery_core::config::Limits;

/// How fast a connection may send, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second in the long run; 0 means no limit.
    pub per_second: u32,
    /// Bytes that may come at once after a quiet time.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { per_second: 0, burst: 0 };
}

impl From<&Limits> for Rate {
    /// The rate of one connection.
    fn from(conf: &Limits) -> Self {
        // Sizes that a conf can name fit.
        let whole = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Self { per_second: whole(conf.connection_rate.get()), burst: whole(conf.connection_burst.get()) }
    }
}

/// The state of one connection's [`Rate`].
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    /// Bytes still free; negative after a read that took more than was left.
    free: f64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, free: f64::from(rate.burst), filled_at: now }
    }

    /// Changes the rate (an authenticated client may send more); what was free stays, up to the new burst.
    pub fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.fill(now);
        self.rate = rate;
        self.free = self.free.min(f64::from(rate.burst));
    }

    /// Counts `bytes` that were read. `Some(when)`: read no more before then.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        if self.rate.per_second == 0 {
            return None;
        }
        self.fill(now);
        // One read is at most one worker buffer, far from where f64 loses a byte.
        self.free -= bytes as f64;
        if self.free >= 0.0 {
            return None;
        }
        let seconds = -self.free / f64::from(self.rate.per_second);
        Some(now + Duration::from_secs_f64(seconds.min(3600.0)))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.free = (self.free + passed * f64::from(self.rate.per_second)).min(f64::from(self.rate.burst));
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 1000, burst: 5000 }, start);
        assert_eq!(bucket.take(5000, start), None);
        let wait = bucket.take(500, start).expect("in debt");
        assert_eq!(wait - start, Duration::from_millis(500));
        assert_eq!(bucket.take(0, wait), None, "paid back");
        assert!(bucket.take(1, wait).is_some());
        let later = wait + Duration::from_secs(60);
        assert_eq!(bucket.take(5000, later), None, "full again, and not fuller than full");
        assert!(bucket.take(1, later).is_some());
    }

    #[test]
    fn no_rate_no_wait() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Rate::UNLIMITED, now);
        assert_eq!(bucket.take(usize::MAX, now), None);
    }
}
