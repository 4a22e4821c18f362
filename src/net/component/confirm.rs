//! What a component has for certain. XEP-0114 has no acknowledgements, so behind what is written goes a ping (XEP-0199)
//! from our domain: a component takes its stream in order, so any answer to the ping, an error too, says that it has
//! taken all before it. There is one ping under way at most, so that a busy stream pays one for many stanzas.
//!
//! There are components that answer nothing. Of those that never have on this stream, what the socket has taken counts when
//! the stream has lived on for a while: a connection that is broken shows by then
//! ([`PATIENCE_OF_TCP`](crate::patience::PATIENCE_OF_TCP)). One that has answered before and does not any more hangs, or reads
//! no more: it is taken to be gone, and the next connection gets what it was not known to have.

use std::time::{Duration, Instant};

use crate::patience::SILENT;

/// For so long a component that answers pings may take. Less than core allows what has been handed out
/// (`core/remote/queue.rs`), so that it goes to the next connection rather than back.
const HANGS: Duration = Duration::from_secs(50);

/// What is known of the stanzas that one connection has been given. Tickets grow.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    /// The last ticket that was written.
    written: u64,
    /// The last that is confirmed.
    confirmed: u64,
    asked: Option<Asked>,
    /// Pings so far.
    pings: u64,
    has_answered: bool,
}

/// The ping that is under way.
#[derive(Debug)]
struct Asked {
    number: u64,
    up_to: u64,
    at: Instant,
    /// When the socket had taken all of it: before, silence says nothing.
    out: Option<Instant>,
}

impl Confirming {
    /// A stanza is with the socket.
    pub(super) fn wrote(&mut self, ticket: u64) {
        self.written = self.written.max(ticket);
    }

    /// The number of the ping that should go out now, if one should.
    pub(super) fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.asked.is_some() || self.written <= self.confirmed {
            return None;
        }
        self.pings += 1;
        self.asked = Some(Asked { number: self.pings, up_to: self.written, at: now, out: None });
        Some(self.pings)
    }

    /// A ping was answered: all up to this ticket is confirmed. `None` if that ping is not under way.
    pub(super) fn answered(&mut self, number: u64) -> Option<u64> {
        let asked = self.asked.take_if(|asked| asked.number == number)?;
        self.has_answered = true;
        self.confirmed = asked.up_to;
        Some(asked.up_to)
    }

    /// The socket has taken all that was written. Of a component that has never answered, everything up to the returned ticket
    /// counts as taken.
    pub(super) fn flushed(&mut self, now: Instant) -> Option<u64> {
        let asked = self.asked.as_mut().filter(|_| !self.has_answered)?;
        if now < *asked.out.get_or_insert(now) + SILENT {
            return None;
        }
        self.confirmed = self.asked.take()?.up_to;
        Some(self.confirmed)
    }

    /// Whether it has stopped to answer.
    pub(super) fn hangs(&self, now: Instant) -> bool {
        self.has_answered && self.asked.as_ref().is_some_and(|asked| asked.at + HANGS <= now)
    }

    /// When to look at [`Self::hangs`], or, if the socket has taken all that was written, to call [`flushed`](Self::flushed).
    pub(super) fn due(&self, is_flushed: bool) -> Option<Instant> {
        let asked = self.asked.as_ref()?;
        if self.has_answered {
            return Some(asked.at + HANGS);
        }
        asked.out.filter(|_| is_flushed).map(|out| out + SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_confirms_what_went_before_its_ping_and_no_more() {
        let (mut confirming, now) = (Confirming::default(), Instant::now());
        assert_eq!(confirming.ask(now), None);
        confirming.wrote(3);
        assert_eq!(confirming.ask(now), Some(1));
        confirming.wrote(5);
        assert_eq!(confirming.ask(now), None);
        assert_eq!(confirming.answered(2), None);
        assert_eq!(confirming.answered(1), Some(3));
        assert_eq!(confirming.answered(1), None);
        assert_eq!(confirming.ask(now), Some(2));
        assert_eq!(confirming.answered(2), Some(5));
        assert_eq!(confirming.ask(now), None);
        assert_eq!(confirming.due(true), None);
    }

    #[test]
    fn of_one_that_never_answers_what_the_socket_has_counts_after_a_while() {
        let (mut confirming, asked) = (Confirming::default(), Instant::now());
        confirming.wrote(2);
        confirming.ask(asked);
        confirming.wrote(7);
        assert_eq!(confirming.due(false), None);
        let now = asked + SILENT * 2;
        assert_eq!(confirming.flushed(now), None, "only now the socket has it");
        assert_eq!((confirming.due(true), confirming.due(false)), (Some(now + SILENT), None));
        assert_eq!(confirming.flushed(now + SILENT - Duration::from_millis(1)), None);
        assert_eq!(confirming.flushed(now + SILENT), Some(2));
        assert_eq!(confirming.answered(1), None);
        assert_eq!(confirming.ask(now + SILENT), Some(2));
        assert_eq!(confirming.flushed(now + SILENT), None);
        assert_eq!(confirming.flushed(now + SILENT * 2), Some(7));
    }

    #[test]
    fn one_that_has_answered_before_hangs() {
        let (mut confirming, now) = (Confirming::default(), Instant::now());
        confirming.wrote(1);
        confirming.ask(now);
        confirming.answered(1);
        confirming.wrote(2);
        confirming.ask(now);
        assert_eq!(confirming.flushed(now), None);
        assert_eq!(confirming.flushed(now + SILENT), None);
        assert!(!confirming.hangs(now + SILENT) && confirming.hangs(now + HANGS));
    }
}
