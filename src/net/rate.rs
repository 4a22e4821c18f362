//! How fast bytes are taken: token buckets of a connection, an account and an address. They never refuse: they say
//! until when to stop reading, and TCP passes the pressure back to the sender.
//!
//! A bucket is kept as the moment when it will be full again, so that one of which nothing is known is full, what is
//! remembered of many fits into little, and other rates (SIGHUP) need no conversion. A connection reads before it asks,
//! so that a burst may be exceeded by one read (64 KiB) for each connection that shares the bucket; what was too much
//! is waited for all the same.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::fast;
use parking_lot::Mutex;
use rookery_core::config::Limits;
use rookery_xmpp::jid::BareJid;

use crate::address::Address;

/// Shared buckets are spread over so many locks.
const SHARDS: usize = 16;

/// Under one lock not more than this many are remembered: 24 bytes each, some megabytes in all.
const MAX_BUCKETS: usize = 8192;

/// The longest that one read is paid for.
const LONGEST: Duration = Duration::from_secs(3600);

/// How fast somebody may send, in bytes.
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

    fn new(per_second: usize, burst: usize) -> Self {
        // Sizes that a conf can name fit.
        let whole = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Self { per_second: whole(per_second), burst: whole(burst) }
    }

    /// How long so many bytes take; there is a rate.
    fn time(self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / u64::from(self.per_second.max(1)))
    }
}

/// The rates of the conf's `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Of one connection.
    pub connection: Rate,
    /// Of an account's connections together.
    pub account: Rate,
    /// Of an address's connections together.
    pub address: Rate,
}

impl From<&Limits> for Rates {
    fn from(conf: &Limits) -> Self {
        Self {
            connection: Rate::new(conf.connection_rate.get(), conf.connection_burst.get()),
            account: Rate::new(conf.account_rate.get(), conf.account_burst.get()),
            address: Rate::new(conf.address_rate.get(), conf.address_burst.get()),
        }
    }
}

/// What was taken lately by somebody who has a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Counts `bytes` that were read. `Some(when)`: read no more before then.
    pub fn take(&mut self, rate: Rate, bytes: usize, now: Instant) -> Option<Instant> {
        if rate.per_second == 0 {
            return None;
        }
        let cost = rate.time(bytes as u64).min(LONGEST);
        self.full_at = self.full_at.max(now) + cost;
        let until = self.full_at.checked_sub(rate.time(u64::from(rate.burst)))?;
        (until > now).then_some(until)
    }
}

/// The buckets that connections share: of accounts, or of addresses. Those that are full again are forgotten. Where
/// more senders than can be remembered are at it at once, all begin anew: memory is bounded before rates are.
#[derive(Debug, Default)]
pub struct Buckets {
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Bucket, fast::RandomState>>; SHARDS],
}

impl Buckets {
    /// What somebody's bucket is found by: 64 bits that nobody outside can aim at.
    fn key(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    /// Counts what somebody has sent. `Some(when)`: read no more of theirs before then.
    pub fn take_of(&self, of: impl Hash, rate: Rate, bytes: usize, now: Instant) -> Option<Instant> {
        self.take(self.key(of), rate, bytes, now)
    }

    fn take(&self, key: u64, rate: Rate, bytes: usize, now: Instant) -> Option<Instant> {
        if rate.per_second == 0 {
            return None;
        }
        let mut shard = self.shards.get(key as usize % SHARDS)?.lock();
        if shard.len() >= MAX_BUCKETS && !shard.contains_key(&key) {
            shard.retain(|_, bucket| bucket.full_at > now);
            if shard.len() > MAX_BUCKETS / 2 {
                shard.clear();
            }
        }
        shard.entry(key).or_insert_with(|| Bucket::new(now)).take(rate, bytes, now)
    }
}

/// All shared buckets.
#[derive(Debug, Default)]
pub struct Shared {
    accounts: Buckets,
    addresses: Buckets,
}

/// What one connection's bytes are counted on.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    own: Bucket,
    address: Option<u64>,
    account: Option<u64>,
}

impl Meter {
    /// For a connection; `address` is none when it is exempt.
    pub fn new(shared: &Shared, address: Option<IpAddr>, now: Instant) -> Self {
        let address = address.map(|ip| shared.addresses.key(Address::of(ip)));
        Self { own: Bucket::new(now), address, account: None }
    }

    /// The connection is this account's from now on.
    pub fn set_account(&mut self, shared: &Shared, account: &BareJid) {
        self.account = Some(shared.accounts.key(account.as_str()));
    }

    /// Counts `bytes` that were read. `Some(when)`: read no more before then.
    pub fn take(&mut self, shared: &Shared, rates: &Rates, bytes: usize, now: Instant) -> Option<Instant> {
        let account = self.account.and_then(|key| shared.accounts.take(key, rates.account, bytes, now));
        let address = self.address.and_then(|key| shared.addresses.take(key, rates.address, bytes, now));
        let own = self.own.take(rates.connection, bytes, now);
        own.max(account).max(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 1000, burst: 5000 };

    fn rates(connection: Rate, account: Rate, address: Rate) -> Rates {
        Rates { connection, account, address }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(RATE, 5000, start), None);
        let wait = bucket.take(RATE, 500, start).expect("in debt");
        assert_eq!(wait - start, Duration::from_millis(500));
        assert_eq!(bucket.take(RATE, 0, wait), None, "paid back");
        assert!(bucket.take(RATE, 1, wait).is_some());
        let later = wait + Duration::from_secs(60);
        assert_eq!(bucket.take(RATE, 5000, later), None, "full again, and not fuller than full");
        assert!(bucket.take(RATE, 1, later).is_some());
    }

    #[test]
    fn no_rate_no_wait() {
        let now = Instant::now();
        assert_eq!(Bucket::new(now).take(Rate::UNLIMITED, usize::MAX, now), None);
        assert!(Bucket::new(now).take(RATE, usize::MAX, now).is_some(), "and no overflow");
    }

    #[test]
    fn the_connections_of_an_account_share_its_rate_wherever_they_come_from() {
        let shared = Shared::default();
        let rates = rates(Rate::UNLIMITED, RATE, Rate::UNLIMITED);
        let now = Instant::now();
        let juliet = BareJid::new("juliet@capulet.lit").expect("a JID");
        let mut meters: Vec<Meter> = ["192.0.2.1", "192.0.2.2"]
            .iter()
            .map(|ip| Meter::new(&shared, Some(ip.parse().expect("an address")), now))
            .collect();
        assert_eq!(meters[0].take(&shared, &rates, 10_000, now), None, "not authenticated yet");
        for meter in &mut meters {
            meter.set_account(&shared, &juliet);
        }
        assert_eq!(meters[0].take(&shared, &rates, 5000, now), None);
        assert_eq!(meters[1].take(&shared, &rates, 2000, now), Some(now + Duration::from_secs(2)));
        let mut romeo = Meter::new(&shared, None, now);
        romeo.set_account(&shared, &BareJid::new("romeo@montague.lit").expect("a JID"));
        assert_eq!(romeo.take(&shared, &rates, 5000, now), None, "others are not touched");
    }

    #[test]
    fn the_connections_of_an_address_share_its_rate_and_the_exempt_have_none() {
        let shared = Shared::default();
        let rates = rates(Rate::UNLIMITED, Rate::UNLIMITED, RATE);
        let now = Instant::now();
        let meter = |ip: &str| Meter::new(&shared, Some(ip.parse().expect("an address")), now);
        assert_eq!(meter("2001:db8:1:2::1").take(&shared, &rates, 5000, now), None);
        let wait = meter("2001:db8:1:2::2").take(&shared, &rates, 1000, now);
        assert_eq!(wait, Some(now + Duration::from_secs(1)), "one customer");
        assert_eq!(meter("2001:db8:1:3::1").take(&shared, &rates, 5000, now), None);
        assert_eq!(Meter::new(&shared, None, now).take(&shared, &rates, 1 << 30, now), None);
    }

    #[test]
    fn memory_is_bounded_however_many_come() {
        let buckets = Buckets::default();
        let now = Instant::now();
        for n in 0..(3 * SHARDS * MAX_BUCKETS) {
            let _ = buckets.take(buckets.key(n), RATE, 1_000_000, now);
        }
        let kept: usize = buckets.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * MAX_BUCKETS, "{kept}");
    }
}
