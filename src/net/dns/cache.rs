//! What was found, for as long as it may be believed, and one search at a time per domain. Bounded, since the domains are
//! named by strangers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A domain's place: locked while it is searched for, so that those who ask meanwhile get the same answer.
type Place<T> = Arc<tokio::sync::Mutex<Option<Found<T>>>>;

/// What a search has found.
#[derive(Debug)]
struct Found<T> {
    what: T,
    at: Instant,
    until: Instant,
}

/// Domains, each with what was found and until when it holds.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    places: Mutex<HashMap<Box<str>, Place<T>, foldhash::fast::RandomState>>,
    capacity: usize,
}

impl<T: Clone> Cache<T> {
    /// Remembers so many domains at most.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { places: Mutex::default(), capacity }
    }

    /// What is remembered of a domain; otherwise what `search` finds, which says for how long it holds.
    pub(crate) async fn get(&self, domain: &str, search: impl AsyncFnOnce() -> (T, Duration)) -> T {
        let (place, asked) = (self.place(domain), Instant::now());
        let mut found = place.lock().await;
        // What was found while this one waited is for it as well, though it may hold for no time at all.
        if let Some(found) = &*found
            && (found.until > Instant::now() || found.at > asked)
        {
            return found.what.clone();
        }
        let (what, ttl) = search().await;
        let at = Instant::now();
        *found = Some(Found { what: what.clone(), at, until: at + ttl });
        what
    }

    /// What is remembered of a domain, if anything is.
    pub(crate) fn remembered(&self, domain: &str) -> Option<T> {
        let place = self.places.lock().get(domain)?.clone();
        // Whoever holds it is searching.
        let found = place.try_lock().ok()?;
        found.as_ref().filter(|found| found.until > Instant::now()).map(|found| found.what.clone())
    }

    fn place(&self, domain: &str) -> Place<T> {
        let mut places = self.places.lock();
        if let Some(place) = places.get(domain) {
            return place.clone();
        }
        if places.len() >= self.capacity {
            let now = Instant::now();
            // Who is being searched for holds its place by itself; what it finds is then forgotten.
            places.retain(|_, place| {
                place.try_lock().is_ok_and(|found| matches!(&*found, Some(found) if found.until > now))
            });
            // Nothing has expired: a quarter goes, whichever, so that this is not done for each new domain.
            let mut excess = if places.len() >= self.capacity { self.capacity / 4 + 1 } else { 0 };
            places.retain(|_, _| {
                let goes = excess > 0;
                excess = excess.saturating_sub(1);
                !goes
            });
        }
        places.entry(domain.into()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_found_holds_for_its_time() {
        let cache = Cache::new(10);
        assert_eq!(cache.get("a", async || (1, MINUTE)).await, 1);
        tokio::time::advance(MINUTE - Duration::from_secs(1)).await;
        assert_eq!(cache.get("a", async || (2, MINUTE)).await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get("a", async || (3, MINUTE)).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_told_without_a_search() {
        let cache = Cache::new(10);
        assert_eq!(cache.remembered("a"), None);
        cache.get("a", async || (1, MINUTE)).await;
        assert_eq!((cache.remembered("a"), cache.remembered("b")), (Some(1), None));
        let searching = cache.get("b", async || {
            assert_eq!(cache.remembered("b"), None);
            (2, MINUTE)
        });
        assert_eq!(searching.await, 2);
        tokio::time::advance(MINUTE).await;
        assert_eq!((cache.remembered("a"), cache.remembered("b")), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_cost_one_search() {
        let (cache, searches) = (Cache::new(10), AtomicU32::new(0));
        let ask = || {
            cache.get("a", async || {
                tokio::time::sleep(MINUTE).await;
                (searches.fetch_add(1, Ordering::Relaxed), MINUTE)
            })
        };
        assert_eq!(tokio::join!(ask(), ask(), ask()), (0, 0, 0));
        assert_eq!(searches.load(Ordering::Relaxed), 1);
    }

    /// Whoever owns a domain says for how long its records hold: not at all, perhaps.
    #[tokio::test(start_paused = true)]
    async fn b16_those_who_wait_do_not_search_one_after_the_other() {
        let (cache, searches) = (Cache::new(10), AtomicU32::new(0));
        let ask = || {
            cache.get("a", async || {
                tokio::time::sleep(MINUTE).await;
                (searches.fetch_add(1, Ordering::Relaxed), Duration::ZERO)
            })
        };
        assert_eq!(tokio::join!(ask(), ask(), ask()), (0, 0, 0));
        assert_eq!(ask().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_that_is_given_up_is_begun_anew() {
        let cache = Cache::new(10);
        let never = cache.get("a", async || std::future::pending().await);
        assert!(tokio::time::timeout(MINUTE, never).await.is_err());
        assert_eq!(cache.get("a", async || (1, MINUTE)).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn b15_domains_are_bounded() {
        let cache = Cache::new(100);
        for domain in 0..1000 {
            cache.get(&domain.to_string(), async || (domain, MINUTE)).await;
            assert!(cache.places.lock().len() <= 100);
        }
        assert_eq!(cache.get("999", async || (0, MINUTE)).await, 999);
        // What has expired goes first.
        tokio::time::advance(MINUTE).await;
        for domain in 1000..1100 {
            cache.get(&domain.to_string(), async || (domain, MINUTE)).await;
        }
        assert_eq!(cache.get("1099", async || (0, MINUTE)).await, 1099);
    }
}
