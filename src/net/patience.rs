//! Time in a driver's loop: one timer a connection, a peer that takes nothing of what waits for it, and the end of a stream.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::server::Ending;
use crate::transport::Transport;

/// How long a closed stream's last bytes and the peer's own end may take.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// The same from when the server ends: nobody waits for a peer that has not noticed.
pub(crate) const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How long bytes may stay without the acknowledgement of TCP, where silence counts at all.
pub(crate) const PATIENCE_OF_TCP: Duration = Duration::from_secs(25);

/// After this time, what the socket has taken counts for a peer that answers no pings; longer than TCP waits.
pub(crate) const SILENT: Duration = Duration::from_secs(30);

/// The runtime's clock, so that tests can make it run.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wakes a driver up. It is on the heap, and there only while something is due: an idle connection has none.
#[derive(Default)]
pub(crate) struct Alarm(Option<(Instant, Pin<Box<Sleep>>)>);

impl Alarm {
    /// Makes sure of a wake-up at `due`. A timer that is set too early is let be: it is cheaper to wake up once for nothing
    /// than to set it anew with each stanza.
    pub(crate) fn set(&mut self, due: Option<Instant>) {
        if let Some(due) = due
            && self.0.as_ref().is_none_or(|(at, _)| *at > due)
        {
            self.0 = Some((due, Box::pin(tokio::time::sleep_until(due.into()))));
        }
    }

    /// Whether it will ring.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Returns when it does, at once if it is not set.
    pub(crate) async fn rings(&mut self) {
        if let Some((_, sleep)) = &mut self.0 {
            sleep.as_mut().await;
        }
    }

    /// It has rung, or is not needed.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

/// For how long a peer may take nothing: `write_stall`, and a moment when the server ends.
pub(crate) fn until_the_end(ending: &Ending, write_stall: Duration) -> impl FnOnce() -> Duration {
    move || if ending.has_begun() { LAST_MOMENT } else { write_stall }
}

/// Whether the peer takes what waits for it.
#[derive(Default)]
pub(crate) struct Stall {
    /// Since when it has taken nothing, and how much it had taken then.
    since: Option<(Instant, u64)>,
}

impl Stall {
    /// Looks how far the peer has come. `Ok`: when it would be given up, if anything waits for it; an error if that is now.
    /// `patience` is asked for only then: nearly always nothing waits, and this is looked at before each wait.
    pub(crate) fn watch(
        &mut self,
        transport: &Transport,
        patience: impl FnOnce() -> Duration,
        now: Instant,
    ) -> Result<Option<Instant>, Stalled> {
        if transport.is_flushed() {
            self.since = None;
            return Ok(None);
        }
        let (written, patience) = (transport.written(), patience());
        let since = match self.since {
            Some((since, before)) if before == written => since,
            _ => now,
        };
        self.since = Some((since, written));
        if now >= since + patience { Err(Stalled) } else { Ok(Some(since + patience)) }
    }
}

/// It has taken nothing for too long.
pub(crate) struct Stalled;

/// The stream is closed: writes what is left and awaits the peer's own end.
pub(crate) async fn say_goodbye(transport: &mut Transport, mut ending: Ending) {
    let last_moment = async {
        ending.begun().await;
        tokio::time::sleep(LAST_MOMENT).await;
    };
    tokio::select! {
        () = Box::pin(transport.close(LAST_WORDS)) => {}
        () = last_moment => {}
    }
}
