//! What a stream waits for: its socket, its links, what others ask of it, and time.

use std::time::{Duration, Instant};

use rookery_xmpp::stream::Event;

use super::driver::Driver;
use super::gone::Gone;
use super::remotes::Order;
use crate::patience::{Stalled, now};

/// With more than this waiting for the socket, a peer is not heard.
const BACKLOG: usize = 1024 * 1024;

/// A stream that the other side uses is left to it to close, for so long.
const COURTESY: Duration = Duration::from_secs(30);

impl Driver {
    pub(super) async fn wait(&mut self) -> Result<Vec<Event>, Gone> {
        let now = now();
        let stall = self.stall.watch(self.wire.look(), || self.settings.write_stall, now);
        let stall = stall.map_err(|Stalled| Gone::TimedOut("the other server does not read"))?;
        self.watch(now).await?;
        let listens = self.paused.is_none() && self.wire.look().unwritten() <= BACKLOG;
        let writes = self.is_ready && self.stream.is_open() && self.wire.look().is_flushed();
        // Only what `watch` or `transmit` will deal with: what is due and not dealt with would be due again at once.
        let flows = self.is_ready && !self.is_leaving;
        let keepalive = flows.then(|| self.heard.max(self.probed) + self.settings.keepalive);
        let idle = (flows && self.outflow.is_settled()).then(|| self.used + self.idle_time());
        let outflow = if flows { self.outflow.due(writes) } else { None };
        let due = [self.stream.poll_timeout(), self.paused, stall, keepalive, idle, outflow];
        self.alarm.set(due.into_iter().flatten().min());

        let Self { wire, orders, inbound, outflow, alarm, ending, is_leaving, .. } = self;
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
            () = alarm.rings(), if alarm.is_set() => Happened::Timer,
            () = ending.begun(), if !*is_leaving => Happened::Ending,
        };
        if !listens {
            self.outflow.was_deaf(self::now());
        }
        match happened {
            Happened::Readable => return self.read(),
            Happened::Writable => self.wire.transport().offer()?,
            Happened::Order(order) => Box::pin(self.obey(order)).await?,
            Happened::Timer => {
                self.alarm.clear();
                self.stream.handle_timeout(self::now());
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
        if !self.is_ready || self.is_leaving {
            return Ok(());
        }
        if self.outflow.is_past() {
            return Err(Gone::Past);
        }
        if self.outflow.is_overdue(now) {
            return Err(Gone::TimedOut("no acknowledgement"));
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
}

enum Happened {
    Readable,
    Writable,
    Order(Order),
    Timer,
    Ending,
    Other,
}
