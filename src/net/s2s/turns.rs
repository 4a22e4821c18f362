//! Turns at what strangers can have us do: so many at a time, and so many of each address, so that one of them leaves the
//! others theirs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::address::Address;

/// Beyond so many addresses, those that nobody has a turn of are forgotten.
const MANY: usize = 256;

/// Turns of one kind. Whoever waits for one of its own address takes none of the others'.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    own: Mutex<HashMap<Address, Arc<Semaphore>>>,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// `all` at a time, `each` of one address.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, own: Mutex::default() }
    }

    /// Waits for a turn of an address; without one (it is exempt) the number of all counts alone. Safe to drop while it
    /// waits. `None` is never seen: nobody closes the turns.
    pub(super) async fn take(&self, of: Option<IpAddr>) -> Option<Turn> {
        self.take_after(of, std::future::ready(Some(()))).await.map(|(turn, ())| turn)
    }

    /// The same when something else is to be waited for, which an address has fewer of than it has turns, and for which
    /// nobody else's turn is to be held up.
    pub(super) async fn take_after<T>(
        &self,
        of: Option<IpAddr>,
        other: impl Future<Output = Option<T>>,
    ) -> Option<(Turn, T)> {
        let own = match of {
            Some(ip) => Some(self.own_of(Address::of(ip)).acquire_owned().await.ok()?),
            None => None,
        };
        let other = other.await?;
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some((Turn { _own: own, _all: all }, other))
    }

    fn own_of(&self, address: Address) -> Arc<Semaphore> {
        let mut own = self.own.lock();
        if own.len() >= MANY {
            // Who waits or has a turn holds on to it.
            own.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        own.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn b16_one_address_leaves_turns_to_others() {
        let turns = Turns::new(5, 3);
        let greedy: Vec<_> = (0..9).filter_map(|_| now(turns.take(ip("192.0.2.1")))).collect();
        assert_eq!(greedy.len(), 3);
        let modest = now(turns.take(ip("192.0.2.2")));
        // Those of one customer are one address.
        let six: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|text| now(turns.take(ip(text)))).into_iter().collect();
        assert!(modest.is_some() && six.iter().filter(|turn| turn.is_some()).count() == 1);
        assert!(now(turns.take(None)).is_none(), "all are taken");
        drop(modest);
        assert!(now(turns.take(ip("192.0.2.1"))).is_none());
        let exempt = now(turns.take(None));
        assert!(exempt.is_some());
        drop(greedy);
        assert!(now(turns.take(ip("192.0.2.1"))).is_some());
    }

    #[test]
    fn b15_addresses_without_turns_are_forgotten() {
        let turns = Turns::new(MANY * 4, 1);
        let held: Vec<_> = (0..10).map(|n| now(turns.take(ip(&format!("198.51.100.{n}"))))).collect();
        for n in 0..4 * MANY {
            assert!(now(turns.take(ip(&format!("10.0.{}.{}", n / 256, n % 256)))).is_some());
            assert!(turns.own.lock().len() <= MANY + held.len());
        }
        assert!(now(turns.take(ip("198.51.100.0"))).is_none(), "its turn is not forgotten");
    }
}
