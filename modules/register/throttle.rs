//! How many accounts an address, and all addresses together, may register in a period. No I/O, no clock, bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are remembered; beyond, the one that came first is forgotten. What all may register is bounded still.
const MOST: usize = 10_000;
/// What an attempt weighs that made no account, in parts of one that did: enough to choose a name that is free, too few
/// to try out names.
const ACCOUNT: u32 = 10;

/// Counts registrations.
pub(super) struct Throttle {
    per_address: u32,
    in_all: u32,
    period: Duration,
    addresses: HashMap<IpAddr, Tally>,
    total: Option<Tally>,
}

#[derive(Clone, Copy)]
struct Tally {
    since: Instant,
    weight: u32,
}

impl Throttle {
    pub(super) fn new(per_address: u32, in_all: u32, period: Duration) -> Self {
        Self { per_address, in_all, period, addresses: HashMap::new(), total: None }
    }

    /// Takes an attempt into account as if it made an account. `false` when there were too many. Without an address,
    /// only the total counts.
    pub(super) fn begin(&mut self, address: Option<IpAddr>, now: Instant) -> bool {
        let period = self.period;
        let is_past = |tally: &Tally| now.saturating_duration_since(tally.since) >= period;
        let fresh = Tally { since: now, weight: 0 };
        let total = self.total.filter(|total| !is_past(total)).unwrap_or(fresh);
        if total.weight.saturating_add(ACCOUNT) > self.in_all.saturating_mul(ACCOUNT) {
            return false;
        }
        if let Some(address) = address.map(network) {
            if self.addresses.len() >= MOST && !self.addresses.contains_key(&address) {
                self.addresses.retain(|_, tally| !is_past(tally));
                if self.addresses.len() >= MOST
                    && let Some(oldest) =
                        self.addresses.iter().min_by_key(|(_, tally)| tally.since).map(|(address, _)| *address)
                {
                    self.addresses.remove(&oldest);
                }
            }
            let tally = self.addresses.entry(address).or_insert(fresh);
            if is_past(tally) {
                *tally = fresh;
            }
            if tally.weight.saturating_add(ACCOUNT) > self.per_address.saturating_mul(ACCOUNT) {
                return false;
            }
            tally.weight += ACCOUNT;
        }
        self.total = Some(Tally { weight: total.weight + ACCOUNT, ..total });
        true
    }

    /// The attempt made no account after all.
    pub(super) fn failed(&mut self, address: Option<IpAddr>) {
        if let Some(total) = &mut self.total {
            // Names that are taken cost nobody else a registration.
            total.weight = total.weight.saturating_sub(ACCOUNT);
        }
        if let Some(tally) = address.and_then(|address| self.addresses.get_mut(&network(address))) {
            tally.weight = tally.weight.saturating_sub(ACCOUNT - 1);
        }
    }
}

/// An IPv6 user has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4((0x0a00_0000 + number).into()))
    }

    #[test]
    fn an_address_registers_so_many_and_again_after_the_period() {
        let (mut throttle, now) = (Throttle::new(2, 100, HOUR), Instant::now());
        assert!(throttle.begin(address(1), now) && throttle.begin(address(1), now));
        assert!(!throttle.begin(address(1), now));
        assert!(throttle.begin(address(2), now));
        assert!(throttle.begin(address(1), now + HOUR));
        let v6 = |text: &str| Some(text.parse().unwrap());
        assert!(throttle.begin(v6("2001:db8::1"), now) && throttle.begin(v6("2001:db8::2"), now));
        assert!(!throttle.begin(v6("2001:db8::3"), now));
        assert!(throttle.begin(v6("2001:db8:0:1::1"), now));
        assert!(throttle.begin(v6("::ffff:10.0.0.2"), now) && !throttle.begin(address(2), now));
    }

    #[test]
    fn all_together_register_so_many() {
        let (mut throttle, now) = (Throttle::new(2, 3, HOUR), Instant::now());
        for number in 0..3 {
            assert!(throttle.begin(address(number), now));
        }
        assert!(!throttle.begin(address(9), now) && !throttle.begin(None, now));
        assert!(throttle.begin(None, now + HOUR));
    }

    #[test]
    fn attempts_that_make_no_account_weigh_less_but_weigh() {
        let (mut throttle, now) = (Throttle::new(2, 1, HOUR), Instant::now());
        let mut attempts = 0;
        while throttle.begin(address(1), now) {
            throttle.failed(address(1));
            attempts += 1;
        }
        assert_eq!(attempts, 11);
        assert!(throttle.begin(address(2), now), "the total is untouched");
    }

    #[test]
    fn b15_the_memory_is_bounded() {
        let (mut throttle, now) = (Throttle::new(1, u32::MAX, HOUR), Instant::now());
        for number in 0..MOST as u32 + 100 {
            assert!(throttle.begin(address(number), now + Duration::from_millis(u64::from(number))));
        }
        assert_eq!(throttle.addresses.len(), MOST);
        assert!(throttle.begin(address(0), now + Duration::from_secs(60)), "forgotten");
        assert!(!throttle.begin(address(MOST as u32), now + Duration::from_secs(60)), "remembered");
    }
}
