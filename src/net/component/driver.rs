//! One component's connection: reads, lets stream and core decide, writes what waits for it.

use std::fmt;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use rookery_core::remote::{Carrier, Inbound, Link};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::sasl::Secret;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};
use rookery_xmpp::stream::{Ending, Event, Stream};
use tracing::{Instrument, debug, debug_span, error, info, warn};

use super::confirm::Confirming;
use super::{Common, DISAPPOINTMENT, Settings};
use crate::intake::Intake;
use crate::patience::{Alarm, PATIENCE_OF_TCP, Stall, Stalled, now, say_goodbye};
use crate::server::Connection;
use crate::worker::INPUT;

/// So many bytes are taken from the link for one write.
const BUDGET: usize = 64 * 1024;

/// With more than this waiting for the socket, a component is not heard.
const BACKLOG: usize = 512 * 1024;

/// How a connection came to its end.
#[derive(Debug)]
enum Gone {
    /// The stream was closed, by either side.
    Closed(Ending),
    /// The socket failed, or ended before the stream.
    Lost(io::Error),
    /// It did nothing for too long.
    TimedOut(&'static str),
    /// Another connection has the domain now.
    Past,
    /// A bug in the server.
    Panicked,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Ending::ByPeer(None)) => f.write_str("closed by the component"),
            Self::Closed(Ending::ByPeer(Some(error))) => write!(f, "closed by the component with {error}"),
            Self::Closed(Ending::ByUs(None) | Ending::Login(_)) => f.write_str("closed"),
            Self::Closed(Ending::ByUs(Some(error))) => write!(f, "closed with {error}"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
            Self::TimedOut(what) => f.write_str(what),
            Self::Past => f.write_str("another connection has the domain"),
            Self::Panicked => f.write_str("a bug in the server"),
        }
    }
}

impl From<io::Error> for Gone {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// What a component has whose handshake was right.
struct Attached {
    /// What waits for it.
    link: Arc<Link>,
    /// The number of this connection on it.
    carrier: Carrier,
    /// What it sends.
    inbound: Arc<Inbound>,
    confirming: Confirming,
    /// The host that it belongs to, in whose name it is pinged.
    host: BareJid,
}

pub(super) struct Driver {
    common: Arc<Common>,
    settings: Arc<Settings>,
    connection: Connection,
    id: u64,
    stream: Box<Stream>,
    intake: Intake,
    /// The domain it says it is.
    name: Option<BareJid>,
    attached: Option<Attached>,
    /// Nothing is read before.
    paused: Option<Instant>,
    stall: Stall,
    alarm: Alarm,
}

impl Driver {
    pub(super) fn new(common: Arc<Common>, settings: Arc<Settings>, connection: Connection) -> Self {
        let stream = Box::new(Stream::receiving(settings.stream.clone(), now()));
        Self {
            id: common.server.next_stream(),
            common,
            settings,
            connection,
            stream,
            intake: Intake::default(),
            name: None,
            attached: None,
            paused: None,
            stall: Stall::default(),
            alarm: Alarm::default(),
        }
    }

    /// Serves the connection to its end.
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        let span = debug_span!("component", id = self.id, peer = %self.connection.peer);
        async move { self.serve().await }.instrument(span)
    }

    async fn serve(&mut self) {
        debug!("connected");
        if let Err(error) = self.connection.transport.set_patience(PATIENCE_OF_TCP) {
            return debug!("connection not taken: {error}");
        }
        let common = self.common.clone();
        let driven = common.server.panics.caught(pin!(self.drive())).await;
        let gone = driven.unwrap_or(Gone::Panicked);
        self.part(&gone);
        if let Gone::Closed(_) | Gone::Past = gone {
            let ending = self.connection.ending.clone();
            say_goodbye(&mut self.connection.transport, ending).await;
        }
    }

    /// What was not confirmed waits for the next connection.
    fn part(&mut self, gone: &Gone) {
        let (stream, peer) = (self.id, self.connection.peer);
        let name = self.name.as_ref().map_or("", |name| name.as_str());
        if let Gone::Panicked = gone {
            error!(stream, %peer, component = name, "a bug in the server ended a connection");
        }
        match self.attached.take() {
            Some(attached) => {
                attached.link.let_go(attached.carrier);
                info!(stream, %peer, component = name, reason = %gone, "component disconnected");
            }
            None => debug!("not connected any more: {gone}"),
        }
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
        let (_, events) = self.intake.read(&mut self.connection.transport, &mut self.stream, INPUT, now())?;
        Ok(events)
    }

    /// Deals with what happened and with what has been read but not looked at, until something is missing.
    async fn digest(&mut self, mut events: Vec<Event>) -> Result<(), Gone> {
        loop {
            if events.is_empty() {
                events = self.intake.next(&mut self.stream, now());
            }
            if events.is_empty() {
                return Ok(());
            }
            for event in mem::take(&mut events) {
                self.handle(event).await?;
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Stanza(stanza) => self.accept(stanza).await,
            Event::Answered(reply) => reply.map_or(Ok(()), |reply| self.answer(&reply)),
            Event::Opened(opened) => {
                self.open(opened.to);
                Ok(())
            }
            Event::Handshake { right } => {
                self.judge(right).await;
                Ok(())
            }
            Event::Nonza(_) => {
                self.stream.close(now(), Some(StreamCondition::UnsupportedStanzaType.into()));
                Ok(())
            }
            Event::Closed(ending) => {
                self.transmit_stream()?;
                Err(Gone::Closed(ending))
            }
            // Of streams of other kinds.
            Event::StartTls
            | Event::LookUp { .. }
            | Event::Bind { .. }
            | Event::Authenticated { .. }
            | Event::AuthFailed { .. }
            | Event::PreAuthIq(_)
            | Event::Features(_)
            | Event::Bound(_) => Ok(()),
        }
    }

    fn open(&mut self, to: BareJid) {
        let conf = self.common.server.conf();
        let known = conf.component(to.as_str());
        self.stream.handle_component(match known {
            Some(component) => Ok(Secret::new(component.secret.expose().as_bytes())),
            None => {
                let peer = self.connection.peer;
                info!(stream = self.id, %peer, component = %to, "the conf has no such component");
                Err(StreamError::new(StreamCondition::HostUnknown).with_text("There is no such component in the conf."))
            }
        });
        self.name = Some(to);
    }

    /// Lets a component in that knows its secret. One that does not waits for its answer, the longer the more often.
    async fn judge(&mut self, right: bool) {
        let (stream, peer, server) = (self.id, self.connection.peer, &self.common.server);
        let Some(name) = self.name.clone() else { return };
        let is_exempt = self.settings.is_exempt(peer.ip());
        let mut turn = Ok(now());
        if !is_exempt {
            turn = self.common.throttle.attempt(peer.ip(), name.as_str(), self.settings.auth, now());
        }
        let at = match turn {
            Ok(at) if right => at,
            Ok(at) => at.max(now() + DISAPPOINTMENT),
            Err(_) => now() + DISAPPOINTMENT,
        };
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = self.connection.ending.begun() => {
                return self.stream.handle_handshake(Err(StreamCondition::SystemShutdown.into()));
            }
        }
        // Too many guesses: even a right one is not let in.
        if !right || turn.is_err() {
            info!(stream, %peer, component = %name, "component refused: its handshake is wrong");
            return self.stream.handle_handshake(Err(StreamCondition::NotAuthorized.into()));
        }
        let Some(link) = server.component_link(&name) else {
            return self.stream.handle_handshake(Err(StreamCondition::HostGone.into()));
        };
        let conf = server.conf();
        let host = conf.host_of_component(&name).map_or_else(|| name.clone(), |host| host.domain.clone());
        self.stream.handle_handshake(Ok(()));
        if !self.stream.is_open() {
            return;
        }
        if !is_exempt {
            self.common.throttle.succeeded(peer.ip(), name.as_str());
        }
        self.connection.unauthenticated = None;
        if link.is_carried() {
            warn!(stream, %peer, component = %name, "a second connection of this component takes the place of the first");
        }
        info!(stream, %peer, component = %name, "component connected");
        let (carrier, inbound) = (link.carry(), Inbound::new(server));
        self.attached = Some(Attached { link, carrier, inbound, confirming: Confirming::default(), host });
    }

    async fn accept(&mut self, stanza: Stanza) -> Result<(), Gone> {
        let (Some(attached), Some(name)) = (&mut self.attached, &self.name) else { return Ok(()) };
        if !attached.link.is_current(attached.carrier) {
            return self.past();
        }
        if let Some(number) = pong(&stanza, name, &attached.host) {
            if let Some(up_to) = attached.confirming.answered(number) {
                attached.link.confirm(attached.carrier, up_to);
            }
            return Ok(());
        }
        let is_message = matches!(stanza.head.kind, Kind::Message(_));
        let accepted = self.common.server.accept_component(&attached.inbound, name, stanza, None);
        if let Err(error) = Box::pin(accepted).await {
            self.stream.close(now(), Some(error));
        }
        if is_message && let Some(time) = self.common.server.pressure() {
            self.paused = self.paused.max(Some(now() + time));
        }
        Ok(())
    }

    /// The stream has an answer to a stanza that is not as it must be; not for whoever speaks in another's name, though.
    fn answer(&mut self, reply: &Stanza) -> Result<(), Gone> {
        let (Some(_), Some(name)) = (&self.attached, &self.name) else { return Ok(()) };
        // Gateways hand on what their networks call an address: one that is none is worth an answer, none at all is not.
        let malformed = || reply.children().iter().any(|child| child.find("jid-malformed", ns::STANZAS).is_some());
        match &reply.head.to {
            Some(_) if reply.head.from.is_none() && !malformed() => {
                self.stream.close(now(), Some(StreamCondition::ImproperAddressing.into()));
            }
            Some(to) if to.domainpart() == name.as_str() => {
                self.connection.transport.write_with(|out| reply.write(out, None))?;
            }
            Some(_) => self.stream.close(now(), Some(StreamCondition::InvalidFrom.into())),
            None => self.stream.close(now(), Some(StreamCondition::ImproperAddressing.into())),
        }
        Ok(())
    }

    // ---- writing --------------------------------------------------------------------------------------------------

    fn transmit_stream(&mut self) -> Result<(), Gone> {
        while let Some(bytes) = self.stream.poll_transmit() {
            self.connection.transport.write(&bytes)?;
        }
        Ok(())
    }

    /// Writes what there is, as long as the socket takes it; behind it a ping.
    fn transmit(&mut self) -> Result<(), Gone> {
        self.transmit_stream()?;
        // A peer that always has something to say leaves no time to wait for the socket.
        self.connection.transport.offer()?;
        while self.stream.is_open() && self.connection.transport.is_flushed() {
            self.flushed();
            let Some(Attached { link, carrier, confirming, .. }) = &mut self.attached else { return Ok(()) };
            if !link.is_current(*carrier) {
                return self.past();
            }
            let mut wrote = false;
            self.connection.transport.write_with(|out| {
                while out.len() < BUDGET
                    && let Some(due) = link.next(*carrier)
                {
                    due.stanza.write(out, None);
                    confirming.wrote(due.ticket);
                    wrote = true;
                }
            })?;
            // Behind the first piece already: of a long queue, what was taken is known while the rest is on its way.
            self.ask()?;
            if !wrote {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks whether the component has what was written, if that is not known and not asked yet.
    fn ask(&mut self) -> Result<(), Gone> {
        let (Some(Attached { confirming, host, .. }), Some(name)) = (&mut self.attached, &self.name) else {
            return Ok(());
        };
        if let Some(number) = confirming.ask(now()) {
            let ping = Stanza::iq(IqType::Get, format!("{PING}{number}"))
                .from(host.clone())
                .to(name.clone())
                .child(Element::new("ping", ns::PING));
            self.connection.transport.write_with(|out| ping.write(out, None))?;
            self.flushed();
        }
        Ok(())
    }

    /// What a component that answers no pings has had for long counts as taken, if nothing of it waits for the socket.
    fn flushed(&mut self) {
        if let Some(Attached { link, carrier, confirming, .. }) = &mut self.attached
            && self.connection.transport.is_flushed()
            && let Some(up_to) = confirming.flushed(now())
        {
            link.confirm(*carrier, up_to);
        }
    }

    /// Another connection of the component has taken over.
    fn past(&mut self) -> Result<(), Gone> {
        let error = StreamError::new(StreamCondition::Conflict).with_text("Another connection has taken the domain.");
        self.stream.close(now(), Some(error));
        self.transmit_stream()?;
        Err(Gone::Past)
    }

    // ---- waiting --------------------------------------------------------------------------------------------------

    async fn wait(&mut self) -> Result<Vec<Event>, Gone> {
        let now = now();
        // Here, since one that always has something to say would never be told below.
        if self.connection.ending.has_begun() {
            self.stream.close(now, Some(StreamCondition::SystemShutdown.into()));
            return Ok(Vec::new());
        }
        let stall = self.stall.watch(&self.connection.transport, || self.settings.write_stall, now);
        let stall = stall.map_err(|Stalled| Gone::TimedOut("the component does not read"))?;
        // One that has answered pings and does not any more is given up, too.
        if self.attached.as_ref().is_some_and(|attached| attached.confirming.hangs(now)) {
            return Err(Gone::TimedOut("the component does not answer any more"));
        }
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        let is_flushed = self.connection.transport.is_flushed();
        let answer = self.attached.as_ref().and_then(|attached| attached.confirming.due(is_flushed));
        self.alarm.set([self.stream.poll_timeout(), self.paused, stall, answer].into_iter().flatten().min());
        let listens = self.paused.is_none() && self.connection.transport.unwritten() <= BACKLOG;
        let Self { connection, attached, alarm, .. } = self;
        let Connection { transport, ending, .. } = connection;
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
            () = woken(attached.as_ref()), if attached.is_some() => Happened::Other,
            () = alarm.rings(), if alarm.is_set() => Happened::Timer,
            () = ending.begun() => Happened::Other,
        };
        match happened {
            Happened::Readable => return self.read(),
            Happened::Writable => self.connection.transport.offer()?,
            Happened::Timer => {
                self.alarm.clear();
                self.stream.handle_timeout(self::now());
            }
            Happened::Other => {}
        }
        Ok(Vec::new())
    }
}

/// The ids of our pings begin so.
const PING: &str = "rookery-ping-";

/// The number of the ping that this stanza answers.
fn pong(stanza: &Stanza, component: &BareJid, host: &BareJid) -> Option<u64> {
    let answers = matches!(stanza.head.kind, Kind::Iq(IqType::Result | IqType::Error));
    let from = stanza.head.from.as_ref().is_some_and(|from| from.as_str() == component.as_str());
    let to = stanza.head.to.as_ref().is_some_and(|to| to.as_str() == host.as_str());
    let number = stanza.head.id.as_deref()?.strip_prefix(PING)?;
    if answers && from && to { number.parse().ok() } else { None }
}

enum Happened {
    Readable,
    Writable,
    Timer,
    Other,
}

async fn woken(attached: Option<&Attached>) {
    if let Some(attached) = attached {
        attached.link.woken(attached.carrier).await;
    }
}
