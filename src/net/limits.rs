//! Who may connect: how often, and how many that have not authenticated yet.
//!
//! Counted per address (IPv6: per /64, what one customer has) and over all. Ranges that the conf exempts (a proxy, a
//! test bench) are counted and never refused. Memory is bounded whatever the world does: an address is remembered
//! while it has unauthenticated connections or a bucket that is not full again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::Mutex;
use rookery_core::config::Limits;

use crate::address::Address;

/// More addresses than this are not remembered at once.
const MAX_ADDRESSES: usize = 65_536;

/// The numbers, of the conf's `[limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionLimits {
    /// New connections per second and address, in the long run.
    pub per_second: u32,
    /// New connections of one address at once, after a quiet time.
    pub burst: u32,
    /// Unauthenticated connections of one address.
    pub unauthenticated: u32,
    /// Unauthenticated connections of all addresses together.
    pub unauthenticated_total: usize,
    /// Ranges to which none of this applies.
    pub exempt: Vec<IpNet>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { per_second: 20, burst: 50, unauthenticated: 200, unauthenticated_total: 20_000, exempt: Vec::new() }
    }
}

impl From<&Limits> for ConnectionLimits {
    fn from(conf: &Limits) -> Self {
        Self {
            per_second: conf.connections_per_second.get(),
            burst: conf.connections_burst.get(),
            unauthenticated: conf.unauthenticated.get(),
            unauthenticated_total: conf.unauthenticated_total.len(),
            exempt: conf.exempt.clone(),
        }
    }
}

/// Why a connection is closed as soon as it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address opens connections too fast.
    #[error("too many new connections from this address")]
    Rate,
    /// The address has too many connections that have not authenticated.
    #[error("too many unauthenticated connections from this address")]
    Address,
    /// The server has.
    #[error("too many unauthenticated connections in all")]
    Total,
}

/// What happened so far; metrics read it.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub accepted: AtomicU64,
    pub refused_rate: AtomicU64,
    pub refused_address: AtomicU64,
    pub refused_total: AtomicU64,
    pub tls_failed: AtomicU64,
    pub accept_errors: AtomicU64,
}

/// The door: admits connections and counts those that have not authenticated.
#[derive(Debug)]
pub struct Admission {
    limits: ArcSwap<ConnectionLimits>,
    addresses: Mutex<HashMap<Address, Entry, foldhash::fast::RandomState>>,
    unauthenticated: AtomicUsize,
    counters: Counters,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Connections that may still come at once.
    free: f32,
    filled_at: Instant,
    unauthenticated: u32,
}

impl Entry {
    fn fill(&mut self, limits: &ConnectionLimits, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f32();
        self.free = (self.free + passed * limits.per_second as f32).min(limits.burst as f32);
        self.filled_at = now;
    }
}

impl Admission {
    /// A door with these limits.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: ArcSwap::from_pointee(limits),
            addresses: Mutex::default(),
            unauthenticated: AtomicUsize::new(0),
            counters: Counters::default(),
        })
    }

    /// Other limits from now on (SIGHUP).
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections that have not authenticated, now.
    pub fn unauthenticated(&self) -> usize {
        self.unauthenticated.load(Ordering::Relaxed)
    }

    /// Decides about a new connection. The guard counts it as unauthenticated until it is dropped.
    pub fn admit(self: &Arc<Self>, ip: IpAddr, now: Instant) -> Result<Unauthenticated, Refusal> {
        let limits = self.limits.load();
        let canonical = ip.to_canonical();
        if limits.exempt.iter().any(|range| range.contains(&canonical)) {
            return Ok(self.count(None));
        }
        if self.unauthenticated() >= limits.unauthenticated_total {
            return Err(self.refuse(Refusal::Total));
        }
        let address = Address::of(ip);
        let mut addresses = self.addresses.lock();
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address) {
            make_room(&mut addresses, &limits, now);
        }
        let entry =
            addresses.entry(address).or_insert(Entry { free: limits.burst as f32, filled_at: now, unauthenticated: 0 });
        entry.fill(&limits, now);
        if entry.free < 1.0 {
            return Err(self.refuse(Refusal::Rate));
        }
        entry.free -= 1.0;
        if entry.unauthenticated >= limits.unauthenticated {
            return Err(self.refuse(Refusal::Address));
        }
        entry.unauthenticated += 1;
        Ok(self.count(Some(address)))
    }

    fn count(self: &Arc<Self>, address: Option<Address>) -> Unauthenticated {
        self.unauthenticated.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Unauthenticated { door: self.clone(), address }
    }

    fn refuse(&self, refusal: Refusal) -> Refusal {
        let counter = match refusal {
            Refusal::Rate => &self.counters.refused_rate,
            Refusal::Address => &self.counters.refused_address,
            Refusal::Total => &self.counters.refused_total,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        refusal
    }
}

/// Forgets those who have nothing open: first the ones whose bucket is full again, and if that is not enough, all.
/// A flood from so many addresses is then no longer slowed per address, but memory stays bounded.
fn make_room<S>(addresses: &mut HashMap<Address, Entry, S>, limits: &ConnectionLimits, now: Instant) {
    addresses.retain(|_, entry| {
        entry.fill(limits, now);
        entry.unauthenticated > 0 || entry.free < limits.burst as f32
    });
    if addresses.len() > MAX_ADDRESSES / 2 {
        addresses.retain(|_, entry| entry.unauthenticated > 0);
    }
}

/// A connection that has not authenticated. Drop it when it has, or with the connection.
#[derive(Debug)]
pub struct Unauthenticated {
    door: Arc<Admission>,
    address: Option<Address>,
}

impl Drop for Unauthenticated {
    fn drop(&mut self) {
        self.door.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address
            && let Some(entry) = self.door.addresses.lock().get_mut(&address)
        {
            entry.unauthenticated = entry.unauthenticated.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn door(limits: ConnectionLimits) -> Arc<Admission> {
        Admission::new(limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn fifty_at_once_then_twenty_a_second() {
        let door = door(ConnectionLimits::default());
        let start = Instant::now();
        let admitted = |now| (0..100).filter(|_| door.admit(ip("192.0.2.1"), now).is_ok()).count();
        assert_eq!(admitted(start), 50);
        assert_eq!(admitted(start + Duration::from_secs(1)), 20);
        assert_eq!(door.admit(ip("192.0.2.1"), start).err(), Some(Refusal::Rate));
        assert!(door.admit(ip("192.0.2.2"), start).is_ok(), "others are not touched");
        assert_eq!(door.counters().refused_rate.load(Ordering::Relaxed), 50 + 80 + 1);
    }

    #[test]
    fn unauthenticated_connections_are_counted_until_the_guard_goes() {
        let door =
            door(ConnectionLimits { per_second: 1000, burst: 1000, unauthenticated: 3, ..ConnectionLimits::default() });
        let now = Instant::now();
        let mut guards: Vec<_> = (0..3).map(|_| door.admit(ip("192.0.2.1"), now).expect("room")).collect();
        assert_eq!(door.admit(ip("192.0.2.1"), now).err(), Some(Refusal::Address));
        guards.pop();
        assert!(door.admit(ip("192.0.2.1"), now).is_ok());
        assert_eq!(door.unauthenticated(), 2);
    }

    #[test]
    fn the_total_holds_whoever_comes_and_the_exempt_pass() {
        let door = door(ConnectionLimits {
            unauthenticated_total: 2,
            exempt: vec!["127.0.0.0/8".parse().expect("a range")],
            ..ConnectionLimits::default()
        });
        let now = Instant::now();
        let _a = door.admit(ip("192.0.2.1"), now).expect("room");
        let _b = door.admit(ip("192.0.2.2"), now).expect("room");
        assert_eq!(door.admit(ip("192.0.2.3"), now).err(), Some(Refusal::Total));
        let many: Vec<_> = (0..1000).map(|_| door.admit(ip("::ffff:127.0.0.1"), now)).collect();
        assert!(many.iter().all(Result::is_ok));
    }

    #[test]
    fn a_v6_customer_is_one_address() {
        let door = door(ConnectionLimits::default());
        let now = Instant::now();
        let admitted = (0..100).filter(|host| door.admit(ip(&format!("2001:db8:1:2::{host:x}")), now).is_ok()).count();
        assert_eq!(admitted, 50);
        assert!(door.admit(ip("2001:db8:1:3::1"), now).is_ok());
        assert!(door.admit(ip("::ffff:192.0.2.1"), now).is_ok());
        assert!(door.addresses.lock().contains_key(&Address::V4(Ipv4Addr::new(192, 0, 2, 1))));
    }

    #[test]
    fn memory_is_bounded_by_addresses_however_many_come() {
        let door = door(ConnectionLimits::default());
        let now = Instant::now();
        let held = door.admit(ip("198.51.100.1"), now).expect("room");
        for n in 0..200_000_u32 {
            drop(door.admit(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), now));
        }
        assert!(door.addresses.lock().len() <= MAX_ADDRESSES);
        assert_eq!(door.unauthenticated(), 1);
        drop(held);
        assert_eq!(door.unauthenticated(), 0);
    }
}
