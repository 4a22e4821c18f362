//! What a stream waits for: its socket, its links, what others ask of it, and time.

use std::pin::Pin;
use std::time::{Duration, Instant};

use rookery_xmpp::stream::Event;
use tokio::time::Sleep;

use super::driver::{self, Driver, now};
use super::gone::Gone;
use super::outflow::Overdue;
use super::remotes::Order;

/// With more than this waiting for the socket, a peer is not heard.
const BACKLOG: usize = 1024 * 1024;

/// A stream that the other side uses is left to it to close, for so long.
const COURTESY: Duration = Duration::from_secs(30);

impl Driver {
    pub(super) async fn wait(&mut self) -> Result<Vec<Event>, Gone> {
        let now = now();
        self.watch(now).await?;
        let stall = self.stalled.map(|(since, _)| since + self.settings.write_stall);
        let listens = self.paused.is_none() && self.wire.look().unwritten() <= BACKLOG;
        let writes = self.is_ready && self.stream.is_open() && self.wire.look().is_flushed();
        // Only what `watch` or `transmit` will deal with: what is due and not dealt with would be due again at once.
        let flows = self.is_ready && !self.is_leaving;
        let keepalive = flows.then(|| self.heard.max(self.probed) + self.settings.keepalive);
        let idle = (flows && self.outflow.is_settled()).then(|| self.used + self.idle_time());
        let outflow = if flows { self.outflow.due(writes) } else { None };
        let due = [self.stream.poll_timeout(), self.paused, stall, keepalive, idle, outflow];
        self.arm(due.into_iter().flatten().min());

        let Self { wire, orders, inbound, outflow, timer, ending, is_leaving, .. } = self;
        let transport = wire.look();
        let happened = tokio::select! {
            biased;
            ready = transport.readable(), if listens => {
                ready?;
                Happened::Readable
            }
            ready = transport.writable(), if !transport.is_flushed() => {
                ready?;
                Happened::Writable
            }
            Some(order) = orders.recv() => Happened::Order(order),
            () = inbound.woken(), if writes => Happened::Other,
            () = outflow.woken(), if writes => Happened::Other,
            () = expired(timer.as_mut()), if timer.is_some() => Happened::Timer,
            () = ending.begun(), if !*is_leaving => Happened::Ending,
        };
        match happened {
            Happened::Readable => return self.read(),
            Happened::Writable => self.wire.transport().offer()?,
            Happened::Order(order) => Box::pin(self.obey(order)).await?,
            Happened::Timer => {
                self.timer = None;
                self.stream.handle_timeout(driver::now());
            }
            Happened::Ending => Box::pin(self.leave()).await?,
            Happened::Other => {}
        }
        Ok(Vec::new())
    }

    /// What the time brings.
    async fn watch(&mut self, now: Instant) -> Result<(), Gone> {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        let transport = self.wire.look();
        self.stalled = match self.stalled {
            _ if transport.is_flushed() => None,
            Some((since, written)) if written == transport.written() => {
                if now >= since + self.settings.write_stall {
                    return Err(Gone::TimedOut("the other server does not read"));
                }
                Some((since, written))
            }
            _ => Some((now, transport.written())),
        };
        if !self.is_ready || self.is_leaving {
            return Ok(());
        }
        if self.outflow.is_past() {
            return Err(Gone::Past);
        }
        match self.outflow.overdue(now) {
            Overdue::Acknowledgement => return Err(Gone::TimedOut("no acknowledgement")),
            Overdue::Ping => self.common.forget_ping(self.id()),
            Overdue::No => {}
        }
        if self.heard.max(self.probed) + self.settings.keepalive <= now {
            self.probed = now;
            if !self.outflow.ask(now) {
                self.wire.transport().write(b" ")?;
            }
            self.transmit().await?;
        }
        if self.used + self.idle_time() <= now && self.outflow.is_settled() {
            Box::pin(self.leave()).await?;
        }
        Ok(())
    }

    fn idle_time(&self) -> Duration {
        self.settings.idle + if self.opened.is_some() { Duration::ZERO } else { COURTESY }
    }

    async fn obey(&mut self, order: Order) -> Result<(), Gone> {
        match order {
            Order::Carry(link) => self.carry(link),
            Order::Verify(question) => self.ask(question),
            Order::Verified(verified) => self.answer_request(*verified),
            Order::Answered(id) => {
                if self.outflow.answered(&id) {
                    self.proven_useful();
                }
            }
            Order::HandOver(to) => {
                self.hand_over = Some(to);
                return Err(Gone::HandedOver);
            }
            Order::Close => self.leave().await?,
        }
        Ok(())
    }

    /// Makes sure of a wake-up at `due`. A timer that is set too early is let be.
    fn arm(&mut self, due: Option<Instant>) {
        if let Some(due) = due
            && self.timer.as_ref().is_none_or(|(at, _)| *at > due)
        {
            self.timer = Some((due, Box::pin(tokio::time::sleep_until(due.into()))));
        }
    }
}

enum Happened {
    Readable,
    Writable,
    Order(Order),
    Timer,
    Ending,
    Other,
}

async fn expired(timer: Option<&mut (Instant, Pin<Box<Sleep>>)>) {
    if let Some((_, sleep)) = timer {
        sleep.as_mut().await;
    }
}
