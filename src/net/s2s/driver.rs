//! One stream between servers, driven: reads, lets stream and core decide, writes, waits; whoever has opened it.
//!
//! What is particular to streams that others open is in `accepted.rs`, to those that we open in `opened.rs`; what happens
//! when stanzas flow in `flow.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookery_core::remote::{Inbound, Pair, StreamStatus};
use rookery_xmpp::datetime;
use rookery_xmpp::error::StreamError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stream::{Ending, Event, Stream};
use rustls::ProtocolVersion;
use tokio::sync::mpsc;
use tracing::{error, info};

use super::Common;
use super::gone::{Ended, Gone};
use super::identity::Verdict;
use super::opened::Opened;
use super::outflow::Outflow;
use super::remotes::{Facts, Handle, Order, Remote};
use super::settings::Settings;
use crate::intake::Intake;
use crate::patience::{Alarm, Stall, now, say_goodbye};
use crate::rate::Meter;
use crate::server::{self, Connection};
use crate::transport::Transport;
use crate::worker::INPUT;

/// So many bytes are taken from the links for one write.
const BUDGET: usize = 64 * 1024;

/// A stream that has ended sooner, and by which nothing has arrived, counts as a failure.
const SHORT: Duration = Duration::from_secs(10);

/// The connection, and who has made it.
pub(super) enum Wire {
    Accepted(Box<Connection>),
    Opened(Box<Transport>),
}

impl Wire {
    pub(super) fn transport(&mut self) -> &mut Transport {
        match self {
            Self::Accepted(connection) => &mut connection.transport,
            Self::Opened(transport) => transport,
        }
    }

    pub(super) fn look(&self) -> &Transport {
        match self {
            Self::Accepted(connection) => &connection.transport,
            Self::Opened(transport) => transport,
        }
    }
}

pub(super) struct Driver {
    pub(super) common: Arc<Common>,
    pub(super) settings: Arc<Settings>,
    pub(super) wire: Wire,
    pub(super) peer: SocketAddr,
    pub(super) stream: Box<Stream>,
    pub(super) intake: Intake,
    /// What has happened and is not dealt with yet.
    events: VecDeque<Event>,
    pub(super) handle: Arc<Handle>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) ending: server::Ending,
    /// The domains of the stream header: ours, and theirs as they say.
    pub(super) local: Option<BareJid>,
    pub(super) remote: Option<BareJid>,
    /// What the peer's certificate proves of `remote`.
    pub(super) verdict: Option<Verdict>,
    /// The remote domains that count this stream as theirs.
    pub(super) remotes: Vec<Arc<Remote>>,
    /// The pairs for which the peer may send to us.
    pub(super) hears: Vec<Pair>,
    /// Requests for dialback that are being looked into.
    pub(super) pending: Vec<Pair>,
    /// Requests for dialback that came to nothing.
    pub(super) refusals: usize,
    /// Keys of others that were wrong.
    pub(super) wrong_keys: usize,
    /// Stanzas go both ways.
    pub(super) bidi: bool,
    pub(super) inbound: Arc<Inbound>,
    pub(super) outflow: Outflow,
    /// The id by which it can be resumed.
    pub(super) resumption: Option<Box<str>>,
    /// What is particular to a stream of ours.
    pub(super) opened: Option<Box<Opened>>,
    /// Stanzas may flow, and all is settled that goes before them.
    pub(super) is_ready: bool,
    /// The peer, which has opened the stream, has asked for acknowledgements or has shown that it does without.
    pub(super) has_begun: bool,
    /// The stream has been closed by us, in order.
    pub(super) is_leaving: bool,
    pub(super) hand_over: Option<tokio::sync::oneshot::Sender<Option<super::rest::Rest>>>,
    meter: Meter,
    /// Nothing is read before.
    pub(super) paused: Option<Instant>,
    pub(super) stall: Stall,
    pub(super) alarm: Alarm,
    begun: Instant,
    /// When something came in last; when we asked for something last; when a stanza came or went.
    pub(super) heard: Instant,
    pub(super) probed: Instant,
    pub(super) used: Instant,
    /// Something that went out by it has arrived.
    pub(super) was_useful: bool,
}

impl Driver {
    pub(super) fn new(common: Arc<Common>, wire: Wire, stream: Stream, peer: SocketAddr) -> Self {
        let (settings, now) = (common.settings(), now());
        let inbound = Inbound::new(&common.server);
        let (send, orders) = mpsc::unbounded_channel();
        let is_ours = matches!(wire, Wire::Opened(_));
        let status = StreamStatus {
            id: inbound.id(),
            direction: if is_ours { "out" } else { "in" }.to_owned(),
            address: peer.to_string(),
            since: datetime::format(std::time::SystemTime::now()),
            silent: 0,
            tls: None,
            certificate: None,
            pairs: Vec::new(),
            bidi: false,
            acks: false,
            resumable: false,
        };
        let facts = Facts { status, heard: now, may_carry: Vec::new(), is_open: false, may_speak: false };
        let handle = Handle { id: inbound.id(), is_ours, orders: send, facts: Mutex::new(facts) };
        let ip = peer.ip();
        let limited = !is_ours && !settings.is_exempt(ip);
        Self {
            meter: Meter::new(&common.buckets, limited.then_some(ip), now),
            ending: common.ending(),
            common,
            settings,
            wire,
            peer,
            stream: Box::new(stream),
            intake: Intake::default(),
            events: VecDeque::new(),
            handle: Arc::new(handle),
            orders,
            local: None,
            remote: None,
            verdict: None,
            remotes: Vec::new(),
            hears: Vec::new(),
            pending: Vec::new(),
            refusals: 0,
            wrong_keys: 0,
            bidi: false,
            inbound,
            outflow: Outflow::default(),
            resumption: None,
            opened: None,
            is_ready: false,
            has_begun: false,
            is_leaving: false,
            hand_over: None,
            paused: None,
            stall: Stall::default(),
            alarm: Alarm::default(),
            begun: now,
            heard: now,
            probed: now,
            used: now,
            was_useful: false,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.handle.id
    }

    /// How the stream is protected, for the log and the admin.
    pub(super) fn tls_in_words(&self) -> Option<String> {
        let info = self.wire.look().tls()?;
        let version = if info.version() == ProtocolVersion::TLSv1_3 { "1.3" } else { "1.2" };
        Some(format!("{version} {:?}", info.suite))
    }

    /// Drives the stream until its end, or until stanzas may flow.
    pub(super) async fn drive(&mut self, until_ready: bool) -> Result<(), Gone> {
        let common = self.common.clone();
        let driven = common.server.panics.caught(pin!(self.go_on(until_ready))).await;
        driven.unwrap_or(Err(Gone::Panicked))
    }

    async fn go_on(&mut self, until_ready: bool) -> Result<(), Gone> {
        loop {
            self.digest(until_ready).await?;
            if until_ready && self.is_ready {
                return Ok(());
            }
            self.transmit().await?;
            self.events = match self.stream.poll_event() {
                Some(event) => [event].into(),
                None => self.wait().await?.into(),
            };
        }
    }

    /// The stream is over: those who know of it are told, and the connection is ended. What the peer may go on with is
    /// handed to whoever opened the stream, or kept for the peer.
    pub(super) async fn part(mut self, gone: Gone) -> Ended {
        self.handle.facts.lock().may_carry.clear();
        for remote in &self.remotes {
            remote.remove(self.id());
        }
        if let Gone::Panicked = gone {
            error!(stream = self.id(), peer = %self.peer, "a bug in the server ended a stream");
        }
        if self.is_ready || !self.hears.is_empty() {
            let remote = self.remote.as_ref().map_or("", |remote| remote.as_str());
            info!(stream = self.id(), remote, peer = %self.peer, reason = %gone, "the stream has ended");
        }
        if gone.is_loss() || matches!(gone, Gone::Past | Gone::Panicked) {
            // What the kernel still has must not arrive any more: it goes by another stream.
            self.wire.transport().cut();
        }
        if self.is_ready && gone.is_complaint() {
            self.outflow.blame();
        }
        if self.is_ready && gone.is_drop() {
            self.outflow.note_drop();
        }
        let rest = self.rest(&gone);
        if let Some(opened) = &mut self.opened {
            opened.drop_questions();
        }
        if self.outflow.is_settled() {
            self.outflow.let_go();
        }
        let ended =
            Ended { rest, is_useless: !self.was_useful && now() < self.begun + SHORT, reason: gone.to_string() };
        if !matches!(gone, Gone::Closed(_) | Gone::Failed(_)) {
            self.outflow.let_go();
        } else if self.outflow.is_empty() {
            // Nobody waits for the last words.
            self.turn_away();
            tokio::spawn(async move { self.say_goodbye().await });
            return ended;
        } else {
            // What is not confirmed may be on its way to the peer: it goes by another stream when nothing of it can arrive
            // any more.
            self.say_goodbye().await;
            self.outflow.let_go();
        }
        self.turn_away();
        ended
    }

    /// A stream that has come to nothing is closed in order, and nobody waits for that.
    pub(super) fn dismiss(mut self) {
        self.stream.close(now(), None);
        if self.transmit_stream().is_ok() {
            tokio::spawn(async move { self.say_goodbye().await });
        }
    }

    async fn say_goodbye(&mut self) {
        let ending = self.ending.clone();
        say_goodbye(self.wire.transport(), ending).await;
        self.wire.transport().cut();
    }

    /// What this stream was asked for and cannot do any more.
    fn turn_away(&mut self) {
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Carry(link) = order {
                self.common.want(link);
            }
        }
    }

    // ---- reading --------------------------------------------------------------------------------------------------

    pub(super) fn read(&mut self) -> Result<Vec<Event>, Gone> {
        let now = now();
        let (count, events) = self.intake.read(self.wire.transport(), &mut self.stream, INPUT, now)?;
        if let Some(count) = count {
            self.heard = now;
            self.handle.facts.lock().heard = now;
            let address = self.meter.take(&self.common.buckets, &self.settings.rates, count, now);
            // Once it is known who it is, the domain counts and not the address: many may share one. Whom we have called is known.
            let ours = self.opened.as_ref().map(|opened| opened.pair());
            self.paused = match self.hears.first().or(ours) {
                Some(pair) => self.common.rates.take_of(&pair.remote, self.settings.rate, count, now),
                None => address,
            };
        }
        Ok(events)
    }

    /// Deals with what happened and with what has been read but not looked at, until something is missing, or until stanzas
    /// may flow: what came with that is for whoever drives on, who knows how a stream ends that carries something.
    async fn digest(&mut self, until_ready: bool) -> Result<(), Gone> {
        loop {
            if self.events.is_empty() {
                self.events = self.intake.next(&mut self.stream, now()).into();
            }
            let Some(event) = self.events.pop_front() else { return Ok(()) };
            self.handle(event).await?;
            if until_ready && self.is_ready {
                return Ok(());
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Stanza(stanza) => self.accept(stanza).await,
            Event::Answered(reply) => {
                self.answered(reply).await;
                Ok(())
            }
            Event::Nonza(element) => Box::pin(self.nonza(element)).await,
            Event::Opened(opened) => {
                Box::pin(self.header(&opened)).await;
                Ok(())
            }
            Event::StartTls if self.opened.is_some() => Box::pin(self.start_tls_client()).await,
            Event::StartTls => Box::pin(self.start_tls()).await,
            Event::Features(features) => self.features(&features),
            Event::Authenticated { .. } => {
                self.authenticated();
                Ok(())
            }
            Event::AuthFailed { condition, .. } => {
                self.auth_failed(condition);
                Ok(())
            }
            Event::Closed(ending) => {
                // A peer that has gone already does not make its end a lost connection.
                if ending == Ending::ByPeer(None) && !self.is_leaving {
                    drop(Box::pin(self.last_count()).await);
                }
                drop(self.transmit_stream());
                Err(Gone::Closed(ending))
            }
            // Of streams of clients and components.
            Event::LookUp { .. }
            | Event::PreAuthIq(_)
            | Event::Bind { .. }
            | Event::Bound(_)
            | Event::Handshake { .. } => Ok(()),
        }
    }

    // ---- writing --------------------------------------------------------------------------------------------------

    /// What the stream itself has to say.
    pub(super) fn transmit_stream(&mut self) -> Result<(), Gone> {
        while let Some(bytes) = self.stream.poll_transmit() {
            self.wire.transport().write(&bytes)?;
        }
        Ok(())
    }

    /// Writes what there is, as long as the socket takes it.
    pub(super) async fn transmit(&mut self) -> Result<(), Gone> {
        self.transmit_stream()?;
        // A peer that always has something to say leaves no time to wait for the socket.
        self.wire.transport().offer()?;
        while self.is_ready && self.stream.is_open() && self.wire.look().is_flushed() {
            self.flushed();
            let (outflow, inbound, now) = (&mut self.outflow, &self.inbound, now());
            let mut filled = super::outflow::Filled::default();
            self.wire.transport().write_with(|out| {
                if let Some(h) = inbound.answer() {
                    super::flow::answer(h).write(out, rookery_xmpp::ns::SERVER);
                }
                filled = outflow.fill(out, BUDGET, now);
            })?;
            if filled.wrote {
                self.used = now;
            }
            if !filled.more {
                return self.ping();
            }
        }
        Ok(())
    }

    /// Ends the stream with an error.
    pub(super) fn end(&mut self, error: StreamError) {
        self.stream.close(now(), Some(error));
    }
}

impl Drop for Driver {
    /// However it ends, by a bug too: nobody carries a link who is not there any more.
    fn drop(&mut self) {
        if !self.outflow.is_empty() {
            self.wire.transport().cut();
            self.outflow.let_go();
        }
    }
}

#[cfg(test)]
mod tests {
    use rookery_xmpp::stream::{Binding, Peer};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::s2s::tests::alone;

    #[tokio::test]
    async fn a_stream_that_is_dropped_leaves_its_links_to_others() {
        let (server, s2s) = alone().await;
        let [local, remote] = ["a.example", "b.example"].map(|domain| BareJid::new(domain).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Transport::plain(TcpStream::connect(address).await.unwrap()).unwrap();
        let settings = s2s.common.settings().calling(&remote);
        let peer = Peer { to: remote.clone(), from: Some(local.clone().into()), login: None, binding: Binding::Any };
        let stream = Stream::initiating(settings, Arc::new(peer), now());
        let mut driver = Driver::new(s2s.common.clone(), Wire::Opened(Box::new(wire)), stream, address);
        let link = server.link(Pair { local, remote });
        assert!(driver.outflow.carry(link.clone()) && link.is_carried());
        drop(driver);
        assert!(!link.is_carried());
    }
}
