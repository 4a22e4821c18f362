//! Where a stanza goes: from a client through its account's outgoing stages, then to a host, an account, a component or
//! another domain (RFC 6121 §8, RFC 6120 §10).
//!
//! Routing is no task and no hop: it runs in the sender's task, up to the recipients' outboxes. What happens inside an
//! account is in `deliver.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rookery_xmpp::error::{Condition, StanzaError, StreamCondition, StreamError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, PresenceType, Stanza};
use tracing::{Instrument, error};

use crate::account::Account;
use crate::copies::Copies;
use crate::host::Host;
use crate::module::{Answer, Arrival, BoxFuture, Call, Cx, Flow, InterceptFn, Stage, Target, Way};
use crate::panic::Panicked;
use crate::request;
use crate::server::Server;
use crate::session::{Pushed, Receipt, Session};

/// Elements that only a server may put into a stanza; a client's are taken out (security.md C1, C3).
const SERVER_OWNED: &[(&str, &str)] = &[
    (ns::SID, "stanza-id"),
    (ns::OCCUPANT_ID, "occupant-id"),
    (ns::CARBONS, "received"),
    (ns::CARBONS, "sent"),
    (ns::MAM, "result"),
];

/// Who waits for the fate of a stanza, while it is being handled.
pub(crate) type Waiting = Option<Arc<Receipt>>;

/// What the stages of one side decided.
pub(crate) enum Passed {
    /// On to the next side.
    On,
    /// A module has dealt with it.
    Done,
}

impl Server {
    /// Handles a stanza that a client sent on its session. An error ends the stream.
    pub async fn accept(
        self: &Arc<Self>,
        session: &Arc<Session>,
        mut stanza: Stanza,
        receipt: Option<Receipt>,
    ) -> Result<(), StreamError> {
        if let Some(from) = &stanza.head.from {
            // RFC 6120 §8.1.2.1: the full JID of the session, or its bare JID.
            if from.as_str() != session.jid.as_str() && from.as_str() != session.account.jid.as_str() {
                return Err(StreamError::new(StreamCondition::InvalidFrom));
            }
        }
        if session.account.is_deleted() {
            return Err(StreamError::new(StreamCondition::NotAuthorized));
        }
        if request::answered(session, &stanza) {
            return Ok(());
        }
        stanza.head.from = Some(session.jid.clone().into());
        stanza.strip(SERVER_OWNED);
        if stanza.head.to.is_none() && !matches!(stanza.head.kind, Kind::Presence(_)) {
            stanza.head.to = match stanza.head.kind {
                Kind::Message(_) => Some(session.account.jid.clone().into()),
                _ => None,
            };
        }
        let waiting = receipt.map(Arc::new);
        let Some(host) = self.host(session.jid.domainpart()) else {
            return Err(StreamError::new(StreamCondition::HostGone));
        };
        let message = match stanza.head.kind {
            Kind::Message(kind) => Some(kind),
            _ => None,
        };
        let stages = if message.is_some() { FREE } else { OUTGOING };
        let mut passed = self.pass(&host, &session.account, Some(session), &mut stanza, Way::Outgoing, stages).await;
        if let (Some(kind), Ok(Passed::On)) = (message, &passed) {
            passed = self.send_out(&host, session, kind, &mut stanza, &waiting);
        }
        match passed {
            Ok(Passed::On) => {}
            Ok(Passed::Done) => return Ok(()),
            Err(error) => {
                self.bounce(&stanza, error, Some(session)).await;
                return Ok(());
            }
        }
        if stanza.head.to.is_some() {
            self.dispatch(stanza, waiting, Some(session)).await;
        } else if let Kind::Iq(kind) = stanza.head.kind {
            // To nobody is to the own account (RFC 6120 §8.1.1.1).
            let account = session.account.clone();
            self.ask(&host, Some(account), kind, stanza, waiting, Some(session)).await;
        } else if let Kind::Presence(kind) = stanza.head.kind
            && !matches!(kind, PresenceType::Available | PresenceType::Unavailable | PresenceType::Error)
        {
            let error = StanzaError::new(Condition::BadRequest).with_text("A presence of this type needs a 'to'.");
            self.bounce(&stanza, error, Some(session)).await;
        }
        Ok(())
    }

    /// How long a client that has sent a message should not be read: messages come faster than they can be stored.
    pub fn pressure(&self) -> Option<Duration> {
        self.writer.pressure()
    }

    /// How many bytes of a client should be read at a time: fewer, the more waits for the database. Clients come by thousands,
    /// and if each is read in large pieces, none is slowed down in time.
    pub fn appetite(&self) -> usize {
        self.writer.appetite()
    }

    /// Sends a stanza on its way that a module, a component or another server made. Its `from` is trusted.
    pub fn route(self: &Arc<Self>, stanza: Stanza) -> BoxFuture<()> {
        let server = self.clone();
        Box::pin(async move { server.dispatch(stanza, None, None).await })
    }

    /// The same for a stanza that somebody waits for: it counts as handled when it is stored or confirmed.
    pub fn route_for(self: &Arc<Self>, stanza: Stanza, receipt: Option<Arc<Receipt>>) -> BoxFuture<()> {
        let server = self.clone();
        Box::pin(async move { server.dispatch(stanza, receipt, None).await })
    }

    /// Has a host's modules answer an IQ for one of its components, as if the host itself had been asked.
    pub fn ask_host(self: &Arc<Self>, domain: &BareJid, arrival: Arrival) -> BoxFuture<()> {
        let (server, host) = (self.clone(), self.host(domain.as_str()));
        Box::pin(async move {
            let Arrival { stanza, receipt, .. } = arrival;
            if let (Some(host), Kind::Iq(kind)) = (host, stanza.head.kind) {
                server.ask(&host, None, kind, stanza, receipt, None).await;
            }
        })
    }

    /// Sends a stanza that the server makes in an account's name: past the account's own guards (whom it blocks gets
    /// nothing), and otherwise as [`Self::route`]. A refusal is told to nobody.
    pub fn route_from(self: &Arc<Self>, account: &Arc<Account>, stanza: Stanza) -> BoxFuture<()> {
        self.route_as(account.clone(), None, stanza)
    }

    /// The same in a session's name.
    pub fn route_of(self: &Arc<Self>, session: &Arc<Session>, stanza: Stanza) -> BoxFuture<()> {
        self.route_as(session.account.clone(), Some(session.stream.id), stanza)
    }

    fn route_as(self: &Arc<Self>, account: Arc<Account>, stream: Option<u64>, mut stanza: Stanza) -> BoxFuture<()> {
        let server = self.clone();
        Box::pin(async move {
            let Some(host) = server.host(account.jid.domainpart()) else { return };
            if let Ok(Passed::On) =
                server.pass(&host, &account, None, &mut stanza, Way::Outgoing, &[Stage::Guard]).await
            {
                server.dispatch_by(stanza, None, None, stream).await;
            }
        })
    }

    /// Brings a stanza to whom it is for.
    pub(crate) async fn dispatch(self: &Arc<Self>, stanza: Stanza, waiting: Waiting, session: Option<&Arc<Session>>) {
        let stream = session.map(|session| session.stream.id);
        self.dispatch_by(stanza, waiting, session, stream).await;
    }

    /// `stream`: that of the session whose stanza it is, whether or not that waits for an answer.
    async fn dispatch_by(
        self: &Arc<Self>,
        stanza: Stanza,
        waiting: Waiting,
        session: Option<&Arc<Session>>,
        stream: Option<u64>,
    ) {
        let Some(to) = stanza.head.to.clone() else { return };
        let (host, component) = {
            let hosts = self.hosts.load();
            (hosts.hosts.get(to.domainpart()).cloned(), hosts.components.get(to.domainpart()).cloned())
        };
        if let Some(host) = host {
            if to.localpart().is_some() {
                match stanza.head.kind {
                    Kind::Message(kind) => self.deliver_message(&host, kind, stanza, waiting, session).await,
                    Kind::Presence(kind) => self.deliver_presence(&host, kind, stanza, session).await,
                    Kind::Iq(kind) => self.deliver_iq(&host, kind, stanza, waiting, session).await,
                }
            } else {
                match stanza.head.kind {
                    Kind::Iq(kind @ (IqType::Get | IqType::Set)) if to.is_bare() => {
                        self.ask(&host, None, kind, stanza, waiting, session).await;
                    }
                    // A domain has no resources and no mailbox; presence to it is nobody's business.
                    Kind::Iq(_) | Kind::Message(_) => {
                        self.bounce(&stanza, StanzaError::new(Condition::ServiceUnavailable), session).await
                    }
                    Kind::Presence(_) => {}
                }
            }
        } else if let Some((host, place)) = component {
            if let Some((.., component)) = host.table.components.get(place) {
                component(self, Arrival { stanza, receipt: waiting, session: stream }).await;
            }
        } else {
            self.send_away(stanza, waiting, session).await;
        }
    }

    /// Asks the modules of a host, for the domain or for one of its accounts, and sends the answer.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        host: &Arc<Host>,
        account: Option<Arc<Account>>,
        kind: IqType,
        stanza: Stanza,
        waiting: Waiting,
        session: Option<&Arc<Session>>,
    ) {
        if matches!(kind, IqType::Result | IqType::Error) {
            // An answer to something that the server sent for the account, such as a roster push.
            return;
        }
        let target = if account.is_some() { Target::Account } else { Target::Server };
        let door = stanza.payload_name().and_then(|(ns, name)| host.table.iq_door(kind, target, ns, name));
        let (Some(door), Some(payload), Some(from)) = (door, stanza.payload().cloned(), stanza.head.from.clone())
        else {
            self.bounce(&stanza, StanzaError::new(Condition::ServiceUnavailable), session).await;
            return;
        };
        let request = stanza.clone();
        let call = Call {
            server: self.clone(),
            host: host.clone(),
            account,
            session: session.cloned(),
            from,
            kind,
            stanza,
            payload,
        };
        let mut answer = door(call);
        match self.poll_once(&mut answer) {
            Poll::Ready(result) => self.answer(&request, result, session).await,
            Poll::Pending => {
                let turn = session.map(|session| session.begin_request());
                if let Some(None) = turn {
                    // It asks faster than it can be answered: it waits, and is not read from meanwhile.
                    let result = self.panics.caught(answer).await.unwrap_or_else(refuse_request);
                    return self.answer(&request, result, session).await;
                }
                // The client's next stanzas need not wait for the database.
                let (server, session) = (self.clone(), session.cloned());
                let rest = async move {
                    let result = server.panics.caught(answer).await.unwrap_or_else(refuse_request);
                    server.answer(&request, result, session.as_ref()).await;
                    drop((waiting, turn));
                };
                tokio::spawn(rest.in_current_span());
            }
        }
    }

    async fn answer(
        self: &Arc<Self>,
        request: &Stanza,
        result: Result<Answer, StanzaError>,
        session: Option<&Arc<Session>>,
    ) {
        match result {
            Ok(Answer::Sent) => {}
            Ok(Answer::Payload(payload)) => self.send_back(request.result(payload), session).await,
            Err(error) => self.bounce(request, error, session).await,
        }
    }

    /// Tells the sender of a stanza what went wrong. Nothing is sent for errors and results (RFC 6120 §8.3.1).
    pub async fn bounce(self: &Arc<Self>, stanza: &Stanza, error: StanzaError, session: Option<&Arc<Session>>) {
        // Presence is answered only where the sender asked for something by it.
        if matches!(stanza.head.kind, Kind::Presence(PresenceType::Unavailable | PresenceType::Probe)) {
            return;
        }
        // Who waits is not always who is named as the sender: rooms say in their own name what people say in them, and are told.
        let is_sender = |session: &&Arc<Session>| {
            stanza.head.from.as_ref().is_some_and(|from| from.bare_str() == session.account.jid.as_str())
        };
        if let Some(reply) = stanza.error_reply(&error) {
            self.send_back(reply, session.filter(is_sender)).await;
        }
    }

    async fn send_back(self: &Arc<Self>, mut reply: Stanza, session: Option<&Arc<Session>>) {
        match session {
            Some(session) => {
                // Who has sent it again may have another resource than who sent it first.
                reply.head.to = Some(session.jid.clone().into());
                if session.send(reply.clone()) == Pushed::Refused {
                    session.stop_counting();
                    // The client may be back under the same address.
                    self.route(reply).await;
                } else {
                    self.copy_error(session, reply);
                }
            }
            None => self.route(reply).await,
        }
    }

    /// Runs stages of one side of a stanza's way.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        host: &Arc<Host>,
        account: &Arc<Account>,
        session: Option<&Arc<Session>>,
        stanza: &mut Stanza,
        way: Way,
        stages: &[Stage],
    ) -> Result<Passed, StanzaError> {
        for stage in stages {
            for hook in host.table.interceptors(stanza.head.kind, way, *stage) {
                let (archive, copies) = (AtomicBool::new(false), Copies::default());
                let (archive, copies) = (&archive, &copies);
                let cx = Cx { server: self, host, account, session, targets: &[], id: None, archive, copies };
                let mut flow = call(hook, &cx, stanza);
                while let Flow::Wait(future) = flow {
                    flow = self.panics.caught(future).await.unwrap_or_else(refuse_stanza);
                }
                match flow {
                    Flow::Next | Flow::Wait(_) => {}
                    Flow::Done => return Ok(Passed::Done),
                    Flow::Reject(error) => return Err(error),
                }
            }
        }
        Ok(Passed::On)
    }

    /// Runs one stage in the account's order: nobody may wait here.
    pub(crate) fn pass_in_order(
        self: &Arc<Self>,
        order: &InOrder<'_>,
        stanza: &mut Stanza,
        stage: Stage,
    ) -> Result<Passed, StanzaError> {
        for hook in order.host.table.interceptors(stanza.head.kind, order.way, stage) {
            match call(hook, &order.cx(self), stanza) {
                Flow::Next => {}
                Flow::Done => return Ok(Passed::Done),
                Flow::Reject(error) => return Err(error),
                Flow::Wait(_) => {
                    error!(?stage, "a module wants to wait where it may not");
                    return Err(StanzaError::new(Condition::InternalServerError));
                }
            }
        }
        Ok(Passed::On)
    }
}

/// Where a message is, in an account's order.
pub(crate) struct InOrder<'a> {
    pub(crate) host: &'a Arc<Host>,
    pub(crate) account: &'a Arc<Account>,
    pub(crate) session: Option<&'a Arc<Session>>,
    pub(crate) way: Way,
    pub(crate) targets: &'a [Arc<Session>],
    pub(crate) id: Option<u64>,
    pub(crate) archive: AtomicBool,
    pub(crate) copies: Copies,
}

impl<'a> InOrder<'a> {
    pub(crate) fn new(host: &'a Arc<Host>, account: &'a Arc<Account>, way: Way) -> Self {
        let (archive, copies) = (AtomicBool::new(false), Copies::default());
        Self { host, account, session: None, way, targets: &[], id: None, archive, copies }
    }

    /// Whether a module wants it archived.
    pub(crate) fn is_archived(&self) -> bool {
        self.archive.load(Ordering::Relaxed)
    }

    pub(crate) fn cx(&'a self, server: &'a Arc<Server>) -> Cx<'a> {
        let Self { host, account, session, targets, id, archive, copies, .. } = self;
        Cx { server, host, account, session: *session, targets, id: *id, archive, copies }
    }
}

/// The stages of an outgoing message that come before the account's order.
const FREE: &[Stage] = &[Stage::Guard, Stage::Stamp];

/// The stages on the sender's side. Delivery there means: a module takes the stanza in hand before it is routed.
const OUTGOING: &[Stage] = &[Stage::Guard, Stage::Stamp, Stage::Archive, Stage::Copy, Stage::Deliver];

/// Calls a hook; a panic in it refuses the stanza instead of passing an unchecked one on.
pub(crate) fn call(hook: &InterceptFn, cx: &Cx<'_>, stanza: &mut Stanza) -> Flow {
    cx.server.panics.catch(|| hook(cx, stanza)).unwrap_or_else(refuse_stanza)
}

fn refuse_stanza(_: Panicked) -> Flow {
    error!("a module panicked over a stanza, which is refused");
    Flow::Reject(StanzaError::new(Condition::InternalServerError))
}

fn refuse_request(_: Panicked) -> Result<Answer, StanzaError> {
    error!("a module panicked over a request, which is refused");
    Err(StanzaError::new(Condition::InternalServerError))
}

impl Server {
    /// Polls an IQ handler for the first time, here and now; most are done then.
    fn poll_once(&self, answer: &mut BoxFuture<Result<Answer, StanzaError>>) -> Poll<Result<Answer, StanzaError>> {
        let mut context = Context::from_waker(Waker::noop());
        let polled = self.panics.catch(|| Pin::as_mut(answer).poll(&mut context));
        polled.unwrap_or_else(|panicked| Poll::Ready(refuse_request(panicked)))
    }
}
