//! One client's connection: reads, lets stream and session decide, writes, waits.
//!
//! The future is what an idle client costs beside its session and its keys, so it holds no buffer, and what may be
//! large (routing a stanza, asking the database) lives on the heap while it lasts.

use std::fmt;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rookery_core::host::Host;
use rookery_core::module::Nonza;
use rookery_core::session::{Drained, Session};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stanza::{Kind, Stanza};
use rookery_xmpp::stream::{Ending, Event, Stream, TlsInfo};
use tracing::{Instrument, debug, debug_span, error, info};

use super::login::bindings;
use super::{ACK_PATIENCE, Common, Settings};
use crate::intake::Intake;
use crate::patience::{Alarm, Stall, Stalled, now, say_goodbye, until_the_end};
use crate::rate::Meter;
use crate::server::Connection;

/// So much is taken from the outbox for one write.
const BUDGET: usize = 64 * 1024;

/// With more than this waiting for the socket, a client is not heard: what it asks for would only add to it. With less
/// it is, since there are clients that do not read while they write.
const BACKLOG: usize = 512 * 1024;

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Gone {
    /// The stream was closed, by either side.
    Closed(Ending),
    /// The server ends, and the session goes on after the start.
    Unfinished,
    /// The socket failed, or ended before the stream.
    Lost(io::Error),
    /// It did nothing for too long.
    TimedOut(&'static str),
    /// Another connection has the session now, or it has ended.
    Past,
    /// A bug in the server.
    Panicked,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Ending::ByPeer(None)) => f.write_str("closed by the client"),
            Self::Closed(Ending::ByPeer(Some(error))) => write!(f, "closed by the client with {error}"),
            Self::Closed(Ending::ByUs(None) | Ending::Login(_)) => f.write_str("closed"),
            Self::Closed(Ending::ByUs(Some(error))) => write!(f, "closed with {error}"),
            Self::Unfinished => f.write_str("the server ends, and the session goes on after the start"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
            Self::TimedOut(what) => f.write_str(what),
            Self::Past => f.write_str("the session goes on in another connection, or has ended"),
            Self::Panicked => f.write_str("a bug in the server"),
        }
    }
}

impl From<io::Error> for Gone {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// The session and the number of this connection on it.
pub(super) struct Attached {
    session: Arc<Session>,
    number: u64,
    /// What was drained is not all written yet, and something is confirmed when it is.
    in_flight: bool,
}

impl Attached {
    pub(super) fn new(session: Arc<Session>, number: u64) -> Self {
        Self { session, number, in_flight: false }
    }

    fn is_past(&self) -> bool {
        self.session.connection() != self.number
    }
}

pub(super) struct Driver {
    pub(super) common: Arc<Common>,
    pub(super) settings: Arc<Settings>,
    pub(super) connection: Connection,
    pub(super) id: u64,
    /// Boxed, since it moves to another thread while a password is hashed.
    pub(super) stream: Box<Stream>,
    pub(super) intake: Intake,
    pub(super) host: Option<Arc<Host>>,
    pub(super) user: Option<BareJid>,
    pub(super) attached: Option<Attached>,
    pub(super) meter: Meter,
    pub(super) is_exempt: bool,
    /// Nothing is read before, or was read, if that is past.
    paused: Option<Instant>,
    stall: Stall,
    pub(super) alarm: Alarm,
}

impl Driver {
    pub(super) fn new(common: Arc<Common>, settings: Arc<Settings>, connection: Connection) -> Self {
        let conf = &connection.port.conf;
        let now = now();
        let stream = Stream::receiving(settings.stream(conf.tls, conf.allow_plain_passwords), now);
        let peer = connection.peer.ip();
        let is_exempt = settings.is_exempt(peer);
        Self {
            id: common.server.next_stream(),
            meter: Meter::new(&common.buckets, (!is_exempt).then_some(peer), now),
            is_exempt,
            common,
            settings,
            connection,
            stream: Box::new(stream),
            intake: Intake::default(),
            host: None,
            user: None,
            attached: None,
            paused: None,
            stall: Stall::default(),
            alarm: Alarm::default(),
        }
    }

    /// Serves the connection to its end. All that is logged meanwhile, by modules too, is in the stream's span where
    /// the log level is debug or finer; a span costs memory, so elsewhere the lines name the stream one by one.
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        let span = debug_span!("stream", id = self.id, peer = %self.connection.peer);
        async move { self.serve().await }.instrument(span)
    }

    async fn serve(&mut self) {
        debug!("connected");
        if let Some(info) = self.connection.transport.tls() {
            self.stream.handle_tls(now(), TlsInfo { bindings: bindings(info) });
        }
        let common = self.common.clone();
        let driven = common.server.panics.caught(pin!(self.drive())).await;
        let gone = driven.unwrap_or(Gone::Panicked);
        self.part(&gone).await;
        if let Gone::Closed(_) | Gone::Unfinished | Gone::Past = gone {
            let ending = self.connection.ending.clone();
            say_goodbye(&mut self.connection.transport, ending).await;
        }
    }

    /// The session is told that its connection is gone.
    async fn part(&mut self, gone: &Gone) {
        let (stream, peer) = (self.id, self.connection.peer);
        if let Gone::Panicked = gone {
            let user = self.user.as_ref().map_or("", |user| user.as_str());
            error!(stream, %peer, user, "a bug in the server ended a connection");
        }
        let Some(Attached { session, number, .. }) = self.attached.take() else {
            debug!("not connected any more: {gone}");
            return;
        };
        info!(stream, %peer, jid = %session.jid, reason = %gone, "disconnected");
        // The client's own end ends the session; anything else may be a tunnel (XEP-0198 §5).
        let goodbye = matches!(gone, Gone::Closed(Ending::ByPeer(None) | Ending::ByUs(None)));
        Box::pin(self.common.server.disconnected(&session, number, goodbye)).await;
    }

    /// Deals with what is there, writes, awaits the next thing; until the end.
    async fn drive(&mut self) -> Gone {
        let mut events = Vec::new();
        loop {
            if let Err(gone) = self.digest(mem::take(&mut events)).await {
                return gone;
            }
            let next = match self.transmit() {
                Ok(()) => self.stream.poll_event(),
                Err(gone) => return gone,
            };
            match next {
                // Writing has brought the end.
                Some(event) => events.push(event),
                None => match self.wait().await {
                    Ok(happened) => events = happened,
                    Err(gone) => return gone,
                },
            }
        }
    }

    // ---- reading --------------------------------------------------------------------------------------------------

    fn read(&mut self) -> Result<Vec<Event>, Gone> {
        let now = now();
        let most = self.common.server.appetite();
        let (count, events) = self.intake.read(&mut self.connection.transport, &mut self.stream, most, now)?;
        let take = |count| self.meter.take(&self.common.buckets, &self.settings.rates, count, now);
        if let Some(until) = count.and_then(take) {
            self.paused = Some(until);
            self.common.counters.paused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(events)
    }

    /// Deals with what happened and with what has been read but not looked at, until something is missing.
    async fn digest(&mut self, mut events: Vec<Event>) -> Result<(), Gone> {
        loop {
            if events.is_empty() {
                events = self.intake.next(&mut self.stream, now());
            }
            if events.is_empty() {
                // A stanza that comes in small pieces takes many turns, too.
                tokio::task::coop::consume_budget().await;
                return Ok(());
            }
            for event in mem::take(&mut events) {
                self.handle(event).await?;
                if self.attached.as_ref().is_some_and(|attached| attached.session.is_overfull()) {
                    Box::pin(self.relieve()).await?;
                }
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Stanza(stanza) => self.accept(stanza).await,
            Event::Answered(reply) => {
                if let Some(attached) = &self.attached {
                    drop(attached.session.receive(attached.number));
                    reply.map(|reply| attached.session.send(reply));
                }
                Ok(())
            }
            Event::Nonza(element) => Box::pin(self.nonza(element)).await,
            Event::Opened(opened) => {
                self.open(&opened);
                Ok(())
            }
            Event::StartTls => Box::pin(self.start_tls()).await,
            Event::LookUp { user, expensive } => Box::pin(self.look_up(user, expensive)).await,
            Event::Authenticated { identity, mechanism } => {
                self.authenticated(identity.bare(), mechanism);
                Ok(())
            }
            Event::AuthFailed { user, mechanism, condition } => {
                self.auth_failed(user.as_ref(), mechanism, condition);
                Ok(())
            }
            Event::PreAuthIq(stanza) => Box::pin(self.pre_auth(stanza)).await,
            Event::Bind { resource } => Box::pin(self.bind(resource)).await,
            Event::Closed(ending) => {
                if ending == Ending::ByPeer(None) {
                    self.drain()?;
                }
                self.transmit_stream()?;
                Err(Gone::Closed(ending))
            }
            // Of a stream that we open, or of a component.
            Event::Features(_) | Event::Bound(_) | Event::Handshake { .. } => Ok(()),
        }
    }

    async fn accept(&mut self, stanza: Stanza) -> Result<(), Gone> {
        let Some(Attached { session, number, .. }) = &self.attached else { return Ok(()) };
        let Ok(receipt) = session.receive(*number) else { return self.past() };
        let is_message = matches!(stanza.head.kind, Kind::Message(_));
        if let Err(error) = Box::pin(self.common.server.accept(session, stanza, receipt)).await {
            self.stream.close(now(), Some(error));
        }
        if is_message && let Some(time) = self.common.server.pressure() {
            self.paused = self.paused.max(Some(now() + time));
        }
        Ok(())
    }

    // ---- nonzas ---------------------------------------------------------------------------------------------------

    async fn nonza(&mut self, element: Element) -> Result<(), Gone> {
        let (Some(user), Some(host)) = (&self.user, self.host.clone()) else { return Ok(()) };
        let mut nonza = Nonza {
            user,
            session: self.attached.as_ref().map(|attached| &attached.session),
            reply: Vec::new(),
            wait: None,
        };
        let known = self.common.server.nonza(&host, &mut nonza, &element);
        let (mut reply, wait) = (mem::take(&mut nonza.reply), nonza.wait.take());
        let outcome = match (known, wait) {
            (None, _) => Err(StreamCondition::UnsupportedStanzaType.into()),
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(())), None) => Ok(None),
            (Some(Ok(())), Some(wait)) => wait.await.map(Some),
        };
        match outcome {
            Ok(outcome) => {
                let outcome = outcome.unwrap_or_default();
                reply.extend(outcome.reply);
                for element in &reply {
                    self.stream.send(element);
                }
                if let Some((session, number)) = outcome.resume {
                    debug!(jid = %session.jid, "resumed");
                    self.attach(session, number);
                    self.stream.established();
                }
            }
            Err(error) => self.stream.close(now(), Some(error)),
        }
        Ok(())
    }

    // ---- writing --------------------------------------------------------------------------------------------------

    /// What the stream itself has to say.
    pub(super) fn transmit_stream(&mut self) -> Result<(), Gone> {
        while let Some(bytes) = self.stream.poll_transmit() {
            self.connection.transport.write(&bytes)?;
        }
        Ok(())
    }

    /// Writes what there is, as long as the socket takes it.
    fn transmit(&mut self) -> Result<(), Gone> {
        self.transmit_stream()?;
        // A peer that always has something to say leaves no time to wait for the socket.
        self.connection.transport.offer()?;
        while self.connection.transport.is_flushed() {
            let Some(attached) = &mut self.attached else { return Ok(()) };
            if mem::take(&mut attached.in_flight) {
                attached.session.flushed();
            }
            if !self.stream.is_open() || !self.drain()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Between two requests that came at once: writes the answer to the first before the second is looked at, lest a
    /// client that reads fast enough should seem not to.
    async fn relieve(&mut self) -> Result<(), Gone> {
        loop {
            self.transmit()?;
            let overfull = self.attached.as_ref().is_some_and(|attached| attached.session.is_overfull());
            if !overfull || !self.stream.is_open() {
                return Ok(());
            }
            let transport = &mut self.connection.transport;
            match tokio::time::timeout(self.settings.write_stall, transport.writable()).await {
                Ok(ready) => ready?,
                Err(_) => return Err(Gone::TimedOut("the client does not read")),
            }
            transport.offer()?;
        }
    }

    /// Writes what waits in the outbox, in one piece. Returns whether there may be more.
    fn drain(&mut self) -> Result<bool, Gone> {
        let Some(attached) = &mut self.attached else { return Ok(false) };
        let (session, now) = (&attached.session, now());
        let mut drained = None;
        self.connection.transport.write_with(|out| drained = session.drain(attached.number, out, BUDGET, now))?;
        let Some(Drained { more, unconfirmed, hungry, close, unfinished }) = drained else {
            return self.past().map(|()| false);
        };
        attached.in_flight |= unconfirmed;
        if hungry {
            self.common.server.catch_up(session);
        }
        if let Some(error) = close {
            if unfinished {
                return Err(Gone::Unfinished);
            }
            self.stream.close(now, Some(error));
            self.transmit_stream()?;
            return Ok(false);
        }
        if self.connection.transport.is_flushed() && mem::take(&mut attached.in_flight) {
            session.flushed();
        }
        Ok(more)
    }

    /// The session has ended, and perhaps says why; or it is another connection's now, and what this one has not sent,
    /// that one will.
    fn past(&mut self) -> Result<(), Gone> {
        let last = self
            .attached
            .as_ref()
            .and_then(|Attached { session, number, .. }| session.drain(*number, &mut Vec::new(), 0, now())?.close);
        let error = last.unwrap_or_else(|| {
            StreamError::new(StreamCondition::Conflict).with_text("The session goes on in another connection.")
        });
        self.stream.close(now(), Some(error));
        self.transmit_stream()?;
        Err(Gone::Past)
    }

    // ---- waiting --------------------------------------------------------------------------------------------------

    /// Sets the alarm. Returns whether the client is listened to until it rings.
    fn look_ahead(&mut self, now: Instant) -> Result<bool, Gone> {
        let connection = &self.connection;
        let stall =
            self.stall.watch(&connection.transport, until_the_end(&connection.ending, self.settings.write_stall), now);
        let stall = stall.map_err(|Stalled| Gone::TimedOut("the client does not read"))?;
        // While we do not read, nothing can come, and what we read then is what came first.
        let asked = self.attached.as_ref().and_then(|attached| attached.session.asked_at());
        let asked = asked.map(|at| at.max(self.paused.unwrap_or(at)) + ACK_PATIENCE);
        if asked.is_some_and(|due| due <= now) {
            return Err(Gone::TimedOut("no acknowledgement"));
        }
        if connection.transport.unwritten() > BACKLOG {
            self.paused = self.paused.max(Some(now));
        }
        let paused = self.paused.filter(|until| *until > now);
        let due = [self.stream.poll_timeout(), paused, stall, asked].into_iter().flatten().min();
        self.alarm.set(due);
        Ok(paused.is_none() && connection.transport.unwritten() <= BACKLOG)
    }

    async fn wait(&mut self) -> Result<Vec<Event>, Gone> {
        let now = now();
        let listens = self.look_ahead(now)?;
        let bound = self.attached.is_some();
        // Of a stream that is closed only the other side's end is awaited.
        let attended = bound && self.stream.is_open();
        let Self { connection, attached, alarm, .. } = self;
        let Connection { transport, ending, .. } = connection;
        let happened = tokio::select! {
            biased;
            is_readable = transport.ready(listens), if listens || !transport.is_flushed() => {
                if is_readable? { Happened::Readable } else { Happened::Writable }
            }
            () = woken(attached.as_ref()), if attended => Happened::Other,
            () = alarm.rings(), if alarm.is_set() => Happened::Timer,
            () = ending.begun(), if !bound => Happened::Ending,
        };
        match happened {
            Happened::Readable => return self.read(),
            Happened::Writable => self.connection.transport.offer()?,
            Happened::Timer => {
                self.alarm.clear();
                self.stream.handle_timeout(self::now());
            }
            Happened::Ending => self.stream.close(now, Some(StreamCondition::SystemShutdown.into())),
            Happened::Other => {
                // Also when nothing can be written for now, and the outbox is not looked into for that.
                if self.attached.as_ref().is_some_and(Attached::is_past) {
                    self.past()?;
                }
            }
        }
        Ok(Vec::new())
    }
}

enum Happened {
    Readable,
    Writable,
    Timer,
    Ending,
    Other,
}

async fn woken(attached: Option<&Attached>) {
    if let Some(attached) = attached {
        attached.session.woken(attached.number).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: fn(Driver) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_client_costs_a_small_future() {
        let (driver, future) = (size_of::<Driver>(), size_of_future(Driver::run));
        println!("driver {driver}, its future {future}, its stream {}", size_of::<Stream>());
        assert!(future < 2048, "{future}");
    }
}
