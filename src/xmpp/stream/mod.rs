//! The stream (RFC 6120, sections 4 to 7) as a state machine: headers, STARTTLS, SASL, resource
//! binding and the end, for both roles, between client and server and between servers; and of a
//! server's external components (XEP-0114).
//!
//! It has no socket and no clock. The driver feeds it bytes with [`Stream::handle_input`] and
//! time with [`Stream::handle_timeout`]; after each call it takes what [`Stream::poll_event`],
//! [`Stream::poll_transmit`] and [`Stream::poll_timeout`] have for it. `handle_input` stops behind
//! each element that made an event and says how many bytes it took, so the rest stays in the
//! driver's buffer and an idle stream owns none.
//!
//! It knows no hosts, accounts or sessions: it asks. Once open it passes stanzas on and does not
//! look at whom they claim to be from; the driver writes the session's stanzas by itself.

mod component;
mod config;
mod event;
mod header;
mod initiating;
mod negotiation;
mod receiving;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;

pub use config::{Binding, Config, Deadlines, Kind, Peer};
pub use event::{Ending, Event, Host, Opened, Phase, TlsInfo};

use crate::{
    element::Element,
    error::{Condition, StanzaError, StreamCondition, StreamError},
    framer::{Frame, Framer},
    header::{Namespaces, StreamHeader},
    jid::{BareJid, FullJid, Jid},
    ns,
    parser::{self, Parsed},
    sasl::Credentials,
    stanza::{IqType, Kind as StanzaKind, Stanza},
};
use config::Role;
use negotiation::Negotiation;

/// One XML stream, from its first byte to its last.
pub struct Stream {
    config: Arc<Config>,
    state: State,
    framer: Framer,
    /// What the peer's header declared, for reading its stanzas.
    context: Namespaces,
    /// Bytes to write that `poll_transmit` has not given out yet.
    out: Vec<u8>,
    event: Option<Event>,
    /// How the stream ended, until the driver has been told.
    ending: Option<Ending>,
    /// When the current state must be over.
    deadline: Option<Instant>,
    /// What only the negotiation needs; dropped when the stream is open.
    negotiation: Option<Box<Negotiation>>,
    /// The stream's id; kept between servers, where dialback needs it.
    id: Option<Box<str>>,
    /// The host a client's stream is open at.
    host: Option<BareJid>,
    header_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is the peer's turn to send a stream header.
    AwaitingHeader,
    Negotiating(Step),
    Open,
    /// We sent our end tag and read on until the peer's.
    Closing,
    Closed,
}

/// How far the negotiation is, by whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The driver's: is this host served?
    Host,
    /// The peer's: STARTTLS, SASL, dialback or registration.
    Features,
    /// The driver's: the TLS handshake.
    Handshake,
    /// The driver's: the keys of an account.
    Keys,
    /// The peer's: a response to our challenge.
    Response,
    /// The peer's: authenticated, it may bind a resource or resume a session.
    Bind,
    /// The driver's: may it have this resource?
    Resource,
    /// The peer's: a component's handshake.
    Proof,
    /// The driver's: may this component come in?
    Judgement,
    /// Initiating; the peer's: stream features.
    AwaitFeatures,
    /// Initiating; the peer's: `<proceed/>`.
    AwaitProceed,
    /// Initiating; the peer's: a challenge, success or failure.
    AwaitSasl,
    /// Initiating; the peer's: our address.
    AwaitBound,
    /// Initiating; the driver's: whether to bind or to resume, how to prove who we are.
    Choose,
}

impl Step {
    /// Whether the driver owes an answer.
    const fn is_question(self) -> bool {
        matches!(self, Self::Host | Self::Handshake | Self::Keys | Self::Resource | Self::Judgement)
    }
}

/// What an element led to: an event, or an error that closes the stream.
type Outcome = Result<(), StreamError>;

impl Stream {
    /// A stream that the peer opens.
    pub fn receiving(config: Arc<Config>, now: Instant) -> Self {
        Self::new(config, Role::Receiving, now)
    }

    /// A stream that we open: the header is ready for [`Stream::poll_transmit`].
    pub fn initiating(config: Arc<Config>, peer: Arc<Peer>, now: Instant) -> Self {
        let mut stream = Self::new(config, Role::Initiating(peer), now);
        stream.send_initial_header();
        stream
    }

    fn new(config: Arc<Config>, role: Role, now: Instant) -> Self {
        // Whom we chose to reach may offer more features than a stranger may send elements.
        let limits = match role {
            Role::Receiving => config.pre_auth,
            Role::Initiating(_) => config.limits,
        };
        let negotiation = Negotiation::new(&config, role, now);
        Self {
            state: State::AwaitingHeader,
            framer: Framer::new(limits),
            context: Namespaces::content_only(config.kind.content_ns()),
            out: Vec::new(),
            event: None,
            ending: None,
            deadline: Some(now + config.deadlines.header),
            negotiation: Some(Box::new(negotiation)),
            id: None,
            host: None,
            header_sent: false,
            config,
        }
    }

    /// Takes bytes from the peer, cut anywhere, and says how many: all, or those up to the end of
    /// the first element that made an event. The driver keeps the rest and offers it again when
    /// it has dealt with the event, and answered it if it is a question. A stream that is closed
    /// takes everything and looks at nothing.
    pub fn handle_input(&mut self, now: Instant, input: &[u8]) -> usize {
        let mut rest = input;
        while !rest.is_empty() && !self.is_busy() {
            if self.state == State::Closed {
                return input.len();
            }
            match self.framer.next(&mut rest) {
                Ok(Some(frame)) => self.handle_frame(now, frame, !rest.is_empty()),
                Ok(None) => {}
                Err(error) => self.fail(error),
            }
        }
        // Bytes that come between our <proceed/> and the handshake were not read from TLS.
        if self.state == State::Negotiating(Step::Handshake) && !rest.is_empty() && self.event.is_none() {
            self.end(Ending::ByUs(Some(StreamCondition::PolicyViolation.into())));
            return input.len();
        }
        input.len() - rest.len()
    }

    /// Whether `handle_input` would take nothing: an event waits to be polled, or a question to
    /// be answered.
    pub fn is_busy(&self) -> bool {
        self.event.is_some() || matches!(self.state, State::Negotiating(step) if step.is_question())
    }

    /// Does what is due at `now`, which is nothing before [`Stream::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        match self.state {
            State::Closing => self.end(Ending::ByUs(None)),
            _ => self.fail(StreamCondition::ConnectionTimeout.into()),
        }
    }

    /// The next thing for the driver to act on.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take().or_else(|| self.ending.take().map(Event::Closed))
    }

    /// Bytes to write to the peer, in order, before anything else the driver has for it.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).into())
    }

    /// When to call [`Stream::handle_timeout`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let total = self.negotiation.as_ref().map(|negotiation| negotiation.deadline);
        match (self.deadline, total) {
            (Some(step), Some(total)) => Some(step.min(total)),
            (step, total) => step.or(total),
        }
    }

    /// The TLS handshake is done: the answer to [`Event::StartTls`]. For direct TLS, call it before
    /// the first byte of input.
    pub fn handle_tls(&mut self, now: Instant, info: TlsInfo) {
        let Some(negotiation) = &mut self.negotiation else {
            return;
        };
        let in_handshake = self.state == State::Negotiating(Step::Handshake);
        if in_handshake || self.state == State::AwaitingHeader {
            negotiation.secured = true;
            negotiation.bindings = info.bindings;
        }
        if in_handshake {
            self.restart(now);
        }
    }

    /// The answer to [`Event::Opened`]: what is offered to this peer, or why it must go.
    pub fn handle_host(&mut self, answer: Result<Host, StreamError>) {
        if self.state == State::Negotiating(Step::Host) {
            let outcome = answer.and_then(|host| self.offer_features(host));
            self.settle(outcome);
        }
    }

    /// The answer to [`Event::LookUp`]: the account's keys, `None` when there is no such account,
    /// an error when that cannot be told now. Hashes a password if the event said so.
    pub fn handle_keys(&mut self, now: Instant, answer: Result<Option<Credentials>, ()>) {
        if self.state == State::Negotiating(Step::Keys) {
            let outcome = self.continue_sasl(now, answer);
            self.settle(outcome);
        }
    }

    /// The answer to [`Event::Bind`]: the client's address, or why it has none yet.
    pub fn handle_bind(&mut self, answer: Result<FullJid, StanzaError>) {
        if self.state == State::Negotiating(Step::Resource) {
            self.finish_bind(answer);
        }
    }

    /// Stanzas may flow: the session was resumed in place of binding (XEP-0198), or the peer
    /// server proved itself in another way (XEP-0220).
    pub fn established(&mut self) {
        let proven = match self.state {
            State::Negotiating(Step::Bind | Step::Choose) => true,
            // A client has no other way than SASL.
            State::Negotiating(Step::Features) => self.config.kind == Kind::S2s,
            _ => false,
        };
        if proven {
            self.open();
        }
    }

    /// Writes a top-level element, in order with what the stream itself writes. For negotiating:
    /// an open stream's stanzas are the driver's own.
    pub fn send(&mut self, element: &Element) {
        if self.header_sent && !matches!(self.state, State::Closing | State::Closed) {
            self.write(element);
        }
    }

    /// Ends the stream: sends the error, if any, and the end tag. Without an error the peer may
    /// finish what it is sending, and its elements still come as events.
    pub fn close(&mut self, now: Instant, error: Option<StreamError>) {
        match (error, self.state) {
            (_, State::Closing | State::Closed) => {}
            (Some(error), _) => self.fail(error),
            (None, State::Open) => {
                self.out.extend_from_slice(END);
                self.state = State::Closing;
                self.deadline = Some(now + self.config.deadlines.closing);
            }
            (None, _) => {
                if self.header_sent && self.state != State::Negotiating(Step::Handshake) {
                    self.out.extend_from_slice(END);
                }
                self.end(Ending::ByUs(None));
            }
        }
    }

    /// Whether stanzas may flow.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the bytes are protected by TLS, or by what the configuration says is as good.
    /// Meaningless once the stream is open.
    pub fn is_secured(&self) -> bool {
        self.negotiation.as_ref().is_none_or(|negotiation| negotiation.secured)
    }

    /// Whether the peer's header has declared this namespace: how servers say that they know dialback (XEP-0220, section
    /// 2.4.1).
    pub fn peer_declares(&self, namespace: &str) -> bool {
        self.context.prefixes().any(|(_, declared)| declared == namespace)
    }

    /// The id of the stream: ours when we received it, the peer's when we opened it. Forgotten
    /// when a client's stream is open.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame, more: bool) {
        let outcome = match frame {
            Frame::Whitespace => Ok(()),
            Frame::End => {
                self.handle_end();
                Ok(())
            }
            Frame::Header(header) if self.state == State::AwaitingHeader => self.handle_header(*header),
            Frame::Header(_) => Err(StreamCondition::BadFormat.into()),
            Frame::Element(bytes) => {
                parser::parse(bytes, &self.context).and_then(|parsed| self.handle_element(now, parsed, more))
            }
        };
        self.settle(outcome);
    }

    fn handle_header(&mut self, header: StreamHeader) -> Outcome {
        match self.negotiation.as_ref().map(|negotiation| negotiation.role.clone()) {
            Some(Role::Initiating(_)) => self.check_response_header(header),
            _ => self.check_initial_header(header),
        }
    }

    /// Keeps what the peer's header declares for all that follows.
    fn declare(&mut self, header: StreamHeader) {
        self.context = header.namespaces;
        self.context.set_content(self.config.kind.content_ns());
    }

    /// What is legal in which state, in one place.
    fn handle_element(&mut self, now: Instant, parsed: Parsed, more: bool) -> Outcome {
        if let Parsed::Nonza(element) = &parsed {
            if let Some(error) = StreamError::from_element(element) {
                self.end_by_peer(Some(error));
                return Ok(());
            }
            if element.is("compress", COMPRESS) {
                return self.refuse_compression();
            }
        }
        match self.state {
            State::Open | State::Closing => self.pass_on(parsed),
            State::Negotiating(step) => match step {
                Step::Features => self.handle_before_auth(now, parsed, more),
                Step::Response => self.handle_sasl_response(now, parsed),
                Step::Bind => self.handle_before_bind(parsed),
                Step::Proof => self.handle_proof(parsed),
                Step::AwaitFeatures | Step::AwaitProceed | Step::AwaitSasl | Step::AwaitBound | Step::Choose => {
                    self.handle_reply(now, step, parsed, more)
                }
                // Unreachable while a question is open, since no input is taken then.
                Step::Host | Step::Handshake | Step::Keys | Step::Resource | Step::Judgement => {
                    Err(StreamCondition::PolicyViolation.into())
                }
            },
            State::AwaitingHeader | State::Closed => Err(StreamCondition::BadFormat.into()),
        }
    }

    /// An element of a stream that is open.
    fn pass_on(&mut self, parsed: Parsed) -> Outcome {
        self.event = Some(match parsed {
            Parsed::Stanza(stanza) => match self.answer_itself(&stanza) {
                Some(reply) => Event::Answered(Some(reply)),
                None => Event::Stanza(stanza),
            },
            // Stanzas of no known kind or of the other kind of stream, and what was due earlier.
            Parsed::Nonza(element)
                if matches!(
                    element.ns(),
                    "" | ns::CLIENT | ns::SERVER | ns::COMPONENT | ns::STREAMS | ns::TLS | ns::SASL
                ) =>
            {
                return Err(StreamCondition::UnsupportedStanzaType.into());
            }
            Parsed::Nonza(element) => Event::Nonza(element),
            Parsed::Invalid { head_for_reply, error } => {
                Event::Answered(head_for_reply.and_then(|stanza| stanza.error_reply(&error)))
            }
        });
        Ok(())
    }

    /// Answers what concerns a client's stream alone: sessions of RFC 3921, which mean nothing any
    /// more, and a second resource, which a stream cannot have.
    fn answer_itself(&self, stanza: &Stanza) -> Option<Stanza> {
        let host = self.host.as_ref()?;
        let to_us = stanza.head.to.as_ref().is_none_or(|to| to == host);
        if stanza.head.kind != StanzaKind::Iq(IqType::Set) || !to_us {
            return None;
        }
        match stanza.payload_name() {
            Some((ns::SESSION, "session")) => Some(stanza.result(None)),
            Some((ns::BIND, "bind")) => stanza.error_reply(&StanzaError::new(Condition::NotAllowed)),
            _ => None,
        }
    }

    fn handle_end(&mut self) {
        if !matches!(self.state, State::Closing | State::Closed) && self.header_sent {
            self.out.extend_from_slice(END);
        }
        self.end_by_peer(None);
    }

    fn end_by_peer(&mut self, error: Option<StreamError>) {
        self.end(match (self.state, error) {
            (State::Closing, None) => Ending::ByUs(None),
            (_, error) => Ending::ByPeer(error),
        });
    }

    fn refuse_compression(&mut self) -> Outcome {
        let refusal = Element::new("unsupported-method", COMPRESS);
        self.write(&Element::new("failure", COMPRESS).child(refusal));
        Ok(())
    }

    fn write(&mut self, element: &Element) {
        element.write_in_stream(&mut self.out, self.config.kind.content_ns());
    }

    /// The negotiation is over: drops what it needed.
    fn open(&mut self) {
        self.state = State::Open;
        self.deadline = None;
        let negotiation = self.negotiation.take();
        if self.config.kind == Kind::C2s {
            self.id = None;
            self.host = negotiation.and_then(|negotiation| negotiation.host);
        }
        self.framer.set_limits(self.config.limits);
    }

    /// A new stream over the same connection, after TLS or SASL (RFC 6120, section 4.3.3).
    fn restart(&mut self, now: Instant) {
        self.framer.reset();
        self.state = State::AwaitingHeader;
        self.deadline = Some(now + self.config.deadlines.header);
        self.header_sent = false;
        self.send_initial_header();
    }

    /// Waits for the peer or the driver, until the negotiation as a whole is too late.
    fn proceed_to(&mut self, step: Step) {
        self.state = State::Negotiating(step);
        self.deadline = None;
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    /// Closes with a stream error, behind a header if ours is still due (section 4.9.1.2).
    fn fail(&mut self, error: StreamError) {
        let in_handshake = self.state == State::Negotiating(Step::Handshake);
        if !in_handshake && !matches!(self.state, State::Closing | State::Closed) {
            if !self.header_sent {
                self.send_response_header();
            }
            self.write(&error.to_element());
            self.out.extend_from_slice(END);
        }
        self.end(Ending::ByUs(Some(error)));
    }

    fn end(&mut self, ending: Ending) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.negotiation = None;
            self.deadline = None;
            self.framer.reset();
            self.ending = Some(ending);
        }
    }
}

impl fmt::Debug for Stream {
    /// Says nothing of what was sent: it may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("kind", &self.config.kind).field("state", &self.state).finish_non_exhaustive()
    }
}

const END: &[u8] = b"</stream:stream>";
/// XEP-0138, which is refused for good: it lets a stranger spend our memory.
const COMPRESS: &str = "http://jabber.org/protocol/compress";

fn same_bare(one: &Jid, other: &Jid) -> bool {
    one.bare_str() == other.bare_str()
}
