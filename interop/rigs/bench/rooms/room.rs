//! What is known of a room: who has seen whom, and the order of what is said, which must be the same for all. The first
//! occupant to whom a message comes says what its place is; all others must find it there.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::Failure;

/// What an occupant is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cue {
    /// Enter.
    Enter,
    /// Leave.
    Leave,
    /// Send the message of this number.
    Say(u64),
}

/// How an occupant got in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    /// From the presence to the subject, which is the last that a room sends.
    pub(super) took: Duration,
    /// What came meanwhile.
    pub(super) bytes: usize,
    /// How many messages of the history were among it.
    pub(super) history: usize,
}

/// A room as its occupants know it.
pub(super) struct Room {
    /// Its address.
    pub(super) jid: String,
    /// Messages that came, to each occupant counted.
    pub(super) delivered: AtomicU64,
    state: Mutex<State>,
    changed: Notify,
}

/// Under the lock.
#[derive(Default)]
pub(super) struct State {
    /// Those who got in and have not been looked at.
    pub(super) entered: Vec<Entered>,
    /// Presences that came, to each occupant counted.
    pub(super) arrivals: u64,
    /// How many of them there were when it was last known how many there must be.
    pub(super) counted: u64,
    /// The same of those that say that somebody is not available any more.
    pub(super) departures: u64,
    /// How long messages took, of some.
    pub(super) times: Vec<Duration>,
    failure: Option<Failure>,
    occupants: usize,
    /// By whom messages are sent, by turns; that is, who sends a message follows from its number.
    senders: Vec<UnboundedSender<Cue>>,
    /// What each of them must be heard with next.
    next_of: Vec<u64>,
    /// What is sent next, by any.
    next: u64,
    /// The order, without its beginning, which all have.
    order: VecDeque<Said>,
    /// What all have.
    finished: u64,
    written: HashMap<u64, Instant>,
    stop: bool,
}

struct Said {
    number: u64,
    heard_by: usize,
    written: Option<Instant>,
}

impl Room {
    pub(super) fn new(jid: String) -> Self {
        Self { jid, delivered: AtomicU64::new(0), state: Mutex::default(), changed: Notify::new() }
    }

    /// Looks at it, or changes it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("no panic under it"))
    }

    /// Tells who waits for something in here.
    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// An occupant has met with what must not be: whoever waits is told.
    pub(super) fn fail(&self, failure: Failure) {
        self.with(|state| {
            state.failure.get_or_insert(failure);
        });
        self.notify();
    }

    /// Waits until something is so.
    pub(super) async fn until(
        &self,
        limit: Duration,
        what: &str,
        mut so: impl FnMut(&mut State) -> bool,
    ) -> Result<(), Failure> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let done = self.with(|state| match state.failure.take() {
                    Some(failure) => Err(failure),
                    None => Ok(so(state)),
                })?;
                if done {
                    return Ok(());
                }
                changed.await;
            }
        };
        match tokio::time::timeout(limit, wait).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Protocol(format!(
                "{}: {what} has not come true in {limit:?}; {}",
                self.jid,
                self.with(|state| state.summary())
            ))),
        }
    }

    /// Lets these occupants talk by turns, so many messages on their way to all of so many occupants at once.
    pub(super) fn talk(&self, senders: Vec<UnboundedSender<Cue>>, occupants: usize, in_flight: usize) {
        self.with(|state| {
            state.stop = false;
            state.occupants = occupants;
            if state.next_of.is_empty() {
                state.next_of = (0..senders.len() as u64).collect();
            }
            state.senders = senders;
            for _ in 0..in_flight {
                state.send_next();
            }
        });
    }

    /// No more is sent; waits until all that was sent has come to all.
    pub(super) async fn fall_silent(&self) -> Result<(), Failure> {
        self.with(|state| state.stop = true);
        self.until(Duration::from_secs(60), "silence", |state| state.finished == state.next).await?;
        // A second copy would come now.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.with(|state| state.failure.take().map_or(Ok(()), Err))
    }

    /// A message is being written.
    pub(super) fn written(&self, number: u64) {
        self.with(|state| state.written.insert(number, Instant::now()));
    }

    /// The messages that have come to an occupant in one piece; before them so many had.
    pub(super) fn heard(&self, before: u64, numbers: &[u64]) -> Result<(), Failure> {
        let (mut done, mut place) = (false, before);
        self.with(|state| {
            for &number in numbers {
                done |= state.heard(place, number)?;
                place += 1;
            }
            Ok::<_, Failure>(())
        })?;
        self.delivered.fetch_add(numbers.len() as u64, Ordering::Relaxed);
        if done {
            self.notify();
        }
        Ok(())
    }
}

impl State {
    fn send_next(&mut self) {
        let sender = &self.senders[(self.next % self.senders.len() as u64) as usize];
        // An occupant that is gone has left its failure behind.
        let _ = sender.send(Cue::Say(self.next));
        self.next += 1;
    }

    /// Whether somebody may wait for this.
    fn heard(&mut self, place: u64, number: u64) -> Result<bool, Failure> {
        let void = |what: String| Failure::Protocol(format!("void: at place {place} {what}"));
        let index = place.checked_sub(self.finished).ok_or_else(|| void("all had one already".into()))? as usize;
        if index == self.order.len() {
            let senders = self.next_of.len() as u64;
            let expected = self.next_of.get_mut((number % senders.max(1)) as usize);
            let expected = expected.ok_or_else(|| void(format!("message {number}, and nobody talks")))?;
            if number != *expected || number >= self.next {
                return Err(void(format!("message {number} came, {expected} was expected")));
            }
            *expected += senders;
            let written = self.written.remove(&number);
            self.order.push_back(Said { number, heard_by: 0, written });
        }
        let Some(said) = self.order.get_mut(index) else {
            return Err(void(format!("message {number} came, after one that is missing")));
        };
        if said.number != number {
            return Err(void(format!("message {number} came to one, and {} to another", said.number)));
        }
        said.heard_by += 1;
        if said.heard_by.is_multiple_of(16)
            && let Some(written) = said.written
        {
            self.times.push(written.elapsed());
        }
        if said.heard_by < self.occupants || index > 0 {
            return Ok(false);
        }
        self.order.pop_front();
        self.finished += 1;
        if !self.stop {
            self.send_next();
        }
        Ok(self.stop)
    }

    fn summary(&self) -> String {
        format!(
            "{} in, {} presences, {} departures, {} of {} messages with all",
            self.entered.len(),
            self.arrivals,
            self.departures,
            self.finished,
            self.next
        )
    }
}
