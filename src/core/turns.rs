//! Who goes on when: for work that a client may ask for again and again, and that costs the server more than the asking.
//!
//! [`Queue`] lets one after the other, with a bounded number of places; [`Pace`] makes those wait who come too fast. What
//! waits is slowed down, not refused: most who ask much have a reason, such as a client that catches up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The time as timers have it: where their clock stands still, so does this.
pub fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A word that somebody waits for: who has it to say, and what the other waits with. `None`: it will not be said.
pub fn word<T: Send>() -> (impl FnOnce(T) + Send, impl Future<Output = Option<T>> + Send) {
    let (tell, told) = tokio::sync::oneshot::channel();
    // Who waits no more does not want to know.
    (move |word| drop(tell.send(word)), async move { told.await.ok() })
}

/// How much longer than it has worked somebody rests.
const REST: u32 = 3;

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

/// So often in the long run, and so many at once; what takes long counts for more.
pub struct Pace {
    interval: Duration,
    burst: Duration,
    turn: tokio::sync::Mutex<()>,
    /// When the bucket will be full again: the "theoretical arrival time" of the generic cell rate algorithm.
    full_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// One each `interval`, and `burst` at once after a rest.
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst: interval * burst, turn: tokio::sync::Mutex::default(), full_at: Mutex::new(None) }
    }

    /// Waits until it may go on. Whoever comes later waits longer.
    pub async fn wait(&self) {
        tokio::time::sleep_until(self.next(Instant::now())).await;
    }

    /// Does work that may take long, one after the other, so that nobody has more than one of the hands that all share.
    /// Who has used one for some time leaves it to others for `REST` times as long; no one piece of work uses up more than
    /// the burst.
    pub async fn work<T>(&self, work: impl Future<Output = T>) -> T {
        let _turn = self.turn.lock().await;
        let start = Instant::now();
        let done = work.await;
        self.charge(Instant::now(), start.elapsed().saturating_mul(1 + REST));
        done
    }

    fn charge(&self, now: Instant, cost: Duration) {
        let mut full_at = self.full_at.lock();
        let full = full_at.map_or(now, |full| full.max(now));
        *full_at = Some(full + cost.min(self.burst));
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

    #[test]
    fn b16_long_work_is_done_a_quarter_of_the_time() {
        let pace = Pace::new(Duration::from_millis(200), 50);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now = now.max(pace.next(now)) + Duration::from_secs(1);
            pace.charge(now, Duration::from_secs(1) * (1 + REST));
        }
        let time = now - start;
        assert!(time > Duration::from_secs(370) && time < Duration::from_secs(430), "{time:?}");
        let pace = Pace::new(Duration::from_millis(200), 50);
        pace.charge(now, Duration::from_secs(3600));
        assert!(pace.next(now) - now < Duration::from_secs(1), "one piece of work alone stops nobody");
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
