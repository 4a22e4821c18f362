//! Who goes on when: for work that a client may ask for again and again, and that costs the server more than the asking.
//!
//! [`Queue`] lets one after the other, with a bounded number of places; [`Pace`] makes those wait who come too fast. What
//! waits is slowed down, not refused: most who ask much have a reason, such as a client that catches up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// One after the other, and only so many in the queue.
pub struct Queue {
    turn: Arc<tokio::sync::Mutex<()>>,
    places: Arc<Semaphore>,
}

/// A place in a [`Queue`], kept until it is dropped.
pub struct Place {
    turn: Arc<tokio::sync::Mutex<()>>,
    _held: OwnedSemaphorePermit,
}

impl Queue {
    /// A queue with so many places.
    pub fn new(places: usize) -> Self {
        Self { turn: Arc::default(), places: Arc::new(Semaphore::new(places)) }
    }

    /// Takes a place; `None` when there is none.
    pub fn line_up(&self) -> Option<Place> {
        let held = self.places.clone().try_acquire_owned().ok()?;
        Some(Place { turn: self.turn.clone(), _held: held })
    }
}

impl Place {
    /// Waits for its turn, which lasts until what this gives is dropped.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}

/// So often in the long run, and so many at once.
pub struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be full again: the "theoretical arrival time" of the generic cell rate algorithm.
    full_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// One each `interval`, and `burst` at once after a rest.
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst: interval * burst, full_at: Mutex::new(None) }
    }

    /// Waits until it may go on. Whoever comes later waits longer.
    pub async fn wait(&self) {
        tokio::time::sleep_until(self.next(Instant::now())).await;
    }

    fn next(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock();
        let full = full_at.map_or(now, |full| full.max(now)) + self.interval;
        *full_at = Some(full);
        full.checked_sub(self.burst).map_or(now, |due| due.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_in_its_interval() {
        let pace = Pace::new(Duration::from_millis(200), 3);
        let start = Instant::now();
        let times: Vec<_> = (0..6).map(|_| (pace.next(start) - start).as_millis()).collect();
        assert_eq!(times, [0, 0, 0, 200, 400, 600]);
        let rested = start + Duration::from_secs(10);
        let times: Vec<_> = (0..4).map(|_| (pace.next(rested) - rested).as_millis()).collect();
        assert_eq!(times, [0, 0, 0, 200]);
    }

    #[tokio::test]
    async fn one_after_the_other_and_not_more_than_there_are_places() {
        let queue = Queue::new(2);
        let (first, second) = (queue.line_up().unwrap(), queue.line_up().unwrap());
        assert!(queue.line_up().is_none());
        let turn = first.turn().await;
        let mut waiting = tokio::spawn(async move { drop(second.turn().await) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "two have a turn");
        drop(turn);
        (&mut waiting).await.unwrap();
        drop(first);
        assert!(queue.line_up().is_some());
    }
}
