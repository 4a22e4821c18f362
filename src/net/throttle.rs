//! How often a password may be guessed: attempts to authenticate are slowed down, per address and account, and per
//! address for all accounts together.
//!
//! An attempt is counted when it begins, so that many at once are no faster than one after the other, and taken back
//! when it succeeds. Up to a number of failures nothing is felt; then each attempt waits for its turn, twice as long as
//! the one before, up to a bound. Who would have to wait longer than that, because others are in the queue, is told to
//! come again later. Nothing here locks an account: whoever comes from another address is not touched. An unknown
//! account is counted like a known one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::fast;
use parking_lot::Mutex;
use rookery_core::config::Limits;

use crate::address::Address;

/// One failure is forgotten in this time.
const FORGIVE: Duration = Duration::from_secs(60);

/// So many failures beyond the free ones are counted: the wait has long reached its bound then.
const MOST: u32 = 7;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// More than this many addresses and accounts are not remembered at once: 48 bytes each, some megabytes in all.
const MAX_ENTRIES: usize = 65_536;

/// The numbers, of the conf's `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthLimits {
    /// Failures of one account from one address that bring no delay.
    pub account: u32,
    /// Failures of all accounts from one address that bring no delay.
    pub address: u32,
    /// The longest delay.
    pub longest: Duration,
}

impl From<&Limits> for AuthLimits {
    fn from(conf: &Limits) -> Self {
        Self {
            account: conf.account_failed_auths.get(),
            address: conf.address_failed_auths.get(),
            longest: conf.auth_delay.get(),
        }
    }
}

/// There are so many attempts before this one that it is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts to authenticate")]
pub struct TooMany;

/// The attempts that failed lately, or have not succeeded yet.
#[derive(Debug, Default)]
pub struct Throttle {
    hasher: RandomState,
    tries: Mutex<HashMap<u64, Tries, fast::RandomState>>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    /// Up to when failures have been forgiven.
    forgiven_at: Instant,
    /// The next attempt's turn.
    next_at: Instant,
}

impl Tries {
    fn new(now: Instant) -> Self {
        Self { count: 0, forgiven_at: now, next_at: now }
    }

    fn forgive(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.forgiven_at).as_secs() / FORGIVE.as_secs();
        let count = u32::try_from(passed).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(count);
        self.forgiven_at = match self.count {
            0 => now,
            _ => self.forgiven_at + FORGIVE * count,
        };
    }

    /// Counts an attempt whose turn is `at`.
    fn add(&mut self, free: u32, longest: Duration, at: Instant) {
        self.count = (self.count + 1).min(free.saturating_add(MOST));
        let wait = match self.count.checked_sub(free) {
            None => Duration::ZERO,
            Some(doubled) => (FIRST * 2_u32.saturating_pow(doubled)).min(longest),
        };
        self.next_at = at + wait;
    }
}

impl Throttle {
    /// An attempt begins: when its turn is, `now` for most. Not for addresses that are exempt.
    ///
    /// # Errors
    /// It would have to wait too long, and is not counted.
    pub fn attempt(&self, ip: IpAddr, account: &str, limits: AuthLimits, now: Instant) -> Result<Instant, TooMany> {
        let keys = self.keys(ip, account);
        let mut tries = self.tries.lock();
        if tries.len() + keys.len() > MAX_ENTRIES {
            make_room(&mut tries, now);
        }
        let mut at = now;
        for key in keys {
            let entry = tries.entry(key).or_insert_with(|| Tries::new(now));
            entry.forgive(now);
            at = at.max(entry.next_at);
        }
        if at.saturating_duration_since(now) > limits.longest {
            return Err(TooMany);
        }
        for (key, free) in keys.into_iter().zip([limits.account, limits.address]) {
            if let Some(entry) = tries.get_mut(&key) {
                entry.add(free, limits.longest, at);
            }
        }
        Ok(at)
    }

    /// The attempt has proven who it is: the account's failures from there are forgotten, and it does not count for
    /// the address.
    pub fn succeeded(&self, ip: IpAddr, account: &str) {
        let [pair, address] = self.keys(ip, account);
        let mut tries = self.tries.lock();
        tries.remove(&pair);
        if let Some(entry) = tries.get_mut(&address) {
            entry.count = entry.count.saturating_sub(1);
        }
    }

    /// The attempt could not be judged, for a reason of ours: it does not count.
    pub fn undecided(&self, ip: IpAddr, account: &str, now: Instant) {
        let keys = self.keys(ip, account);
        let mut tries = self.tries.lock();
        for key in keys {
            if let Some(entry) = tries.get_mut(&key) {
                entry.count = entry.count.saturating_sub(1);
                entry.next_at = entry.next_at.min(now);
            }
        }
    }

    /// What is counted: the account at the address, and the address. Hashed, since names can be long.
    fn keys(&self, ip: IpAddr, account: &str) -> [u64; 2] {
        let address = Address::of(ip);
        [self.hasher.hash_one((address, account)), self.hasher.hash_one(address)]
    }
}

/// Forgets those who are forgiven, if that is not enough those who have not to wait, and at last all.
fn make_room<S>(tries: &mut HashMap<u64, Tries, S>, now: Instant) {
    tries.retain(|_, entry| {
        entry.forgive(now);
        entry.count > 0
    });
    if tries.len() > MAX_ENTRIES / 2 {
        tries.retain(|_, entry| entry.next_at > now);
    }
    if tries.len() > MAX_ENTRIES / 2 {
        tries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AuthLimits = AuthLimits { account: 3, address: 6, longest: Duration::from_secs(15) };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// The seconds that each of so many attempts waits, one after the other; none where it is refused.
    fn waits(throttle: &Throttle, from: &str, account: &str, count: usize, now: &mut Instant) -> Vec<Option<u64>> {
        let attempt = |_| {
            let at = throttle.attempt(ip(from), account, LIMITS, *now).ok()?;
            let waited = at - *now;
            *now = at;
            Some(waited.as_secs())
        };
        (0..count).map(attempt).collect()
    }

    #[test]
    fn failures_wait_twice_as_long_each_up_to_a_bound_and_others_do_not() {
        let throttle = Throttle::default();
        let mut now = Instant::now();
        let waited = waits(&throttle, "192.0.2.1", "juliet@a.example", 10, &mut now);
        assert_eq!(waited, [0, 0, 0, 1, 2, 4, 8, 15, 15, 15].map(Some));
        // The account itself is not locked, ...
        assert_eq!(throttle.attempt(ip("192.0.2.2"), "juliet@a.example", LIMITS, now), Ok(now));
        // ... and all is forgotten in time.
        now += FORGIVE * 20;
        assert_eq!(throttle.attempt(ip("192.0.2.1"), "juliet@a.example", LIMITS, now), Ok(now));
    }

    #[test]
    fn many_at_once_are_no_faster_than_one_after_the_other() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let attempts: Vec<_> =
            (0..100).map(|_| throttle.attempt(ip("192.0.2.1"), "juliet@a.example", LIMITS, now)).collect();
        let waits: Vec<u64> = attempts.iter().flatten().map(|at| (*at - now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 3, 7, 15]);
        assert_eq!(attempts.last(), Some(&Err(TooMany)));
    }

    #[test]
    fn a_success_is_no_failure() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..100 {
            assert_eq!(throttle.attempt(ip("192.0.2.1"), "juliet@a.example", LIMITS, now), Ok(now));
            throttle.succeeded(ip("192.0.2.1"), "juliet@a.example");
        }
        for _ in 0..100 {
            assert_eq!(throttle.attempt(ip("192.0.2.1"), "juliet@a.example", LIMITS, now), Ok(now));
            throttle.undecided(ip("192.0.2.1"), "juliet@a.example", now);
        }
    }

    #[test]
    fn one_password_for_many_accounts_is_slowed_down_by_address() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let spray = |from: &str| {
            let at = |n: u32| throttle.attempt(ip(from), &format!("user{n}@a.example"), LIMITS, now).ok();
            (0..100).filter_map(at).filter(|at| *at == now).count()
        };
        assert_eq!(spray("2001:db8:1:2::1"), 6);
        assert_eq!(spray("2001:db8:1:2::2"), 0, "the same customer");
        assert_eq!(spray("2001:db8:1:3::1"), 6);
    }

    #[test]
    fn memory_is_bounded_however_many_fail() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..200_000_u32 {
            let from = IpAddr::from((0x0a00_0000 + n / 4).to_be_bytes());
            let _ = throttle.attempt(from, &format!("user{n}@a.example"), LIMITS, now);
        }
        assert!(throttle.tries.lock().len() <= MAX_ENTRIES);
    }
}
