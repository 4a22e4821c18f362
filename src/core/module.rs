//! What a feature of the server is: a [`Module`] that lists its doors in `hooks()`.
//!
//! The lists are data. They are built once per virtual host, before the first listener opens, and frozen in a [`Table`];
//! a reload builds a new table and swaps it. Order has names (the [`Stage`]s), not numbers: inside a stage, modules come
//! in the order of `rookery_modules::ALL`.

mod service;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError, StreamError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::stanza::{IqType, Kind, Stanza};

use crate::account::Account;
use crate::config::{Conf, ConfigError, Section};
use crate::control::CommandError;
use crate::control::rooms::{RoomReply, RoomRequest};
use crate::copies::Copies;
use crate::host::Host;
use crate::server::Server;
use crate::session::Session;
use crate::slots::Slot;

pub use self::service::Arrival;

/// A future on the heap.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A XEP that a module implements: number and version of the text it was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xep(pub u16, pub &'static str);

/// A feature of the server, as one file or folder.
pub trait Module: Sized + Send + Sync + 'static {
    /// The name of the conf section, the log target and the key of stored values.
    const NAME: &'static str;
    /// What it implements; feeds disco, the README's table and doap.xml.
    const XEPS: &'static [Xep];
    /// Whether a host has it when the conf says nothing.
    const ON: bool = true;
    /// Its options; `()` when there are none.
    type Config: Section;

    /// Whether its options go together and mean something, as far as their types do not say: for `rookery check` as well,
    /// which has no server. What this has passed comes to [`Self::new`].
    fn judge(_: &Self::Config) -> Result<(), Fault> {
        Ok(())
    }

    /// The domains that it serves for a host, beside the host's own: known from its options, so that they can be told
    /// without a server.
    fn domains(_: &Self::Config, _host: &BareJid) -> Result<Vec<BareJid>, Fault> {
        Ok(Vec::new())
    }

    /// Takes its options and what it needs of the server.
    fn new(config: Self::Config, setup: &Setup<'_>) -> Result<Self, Fault>;

    /// Lists what it handles. Pure data.
    fn hooks(on: &mut Hooks<Self>);
}

/// What is wrong with a module's options, beyond what their types say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The option.
    pub option: &'static str,
    /// Why it will not do, as a sentence without the option's name.
    pub why: String,
}

/// What a module may take hold of while it is built.
pub struct Setup<'a> {
    /// The server; its hosts and accounts are not there yet.
    pub server: &'a Arc<Server>,
    /// The domain the module is built for.
    pub domain: &'a BareJid,
    pub(crate) module: &'static str,
}

impl Setup<'_> {
    /// A place in every session.
    pub fn session_slot<T: std::any::Any + Send>(&self, name: &'static str) -> Slot<T> {
        self.server.session_slots.slot(self.module, name)
    }

    /// A place in every account that is loaded.
    pub fn account_slot<T: std::any::Any + Send>(&self, name: &'static str) -> Slot<T> {
        self.server.account_slots.slot(self.module, name)
    }

    /// What the module has for a domain as long as the server runs, whatever becomes of the conf; made by default first.
    pub fn lasting<T: Send + Sync + Default + 'static>(&self, domain: &BareJid) -> Arc<T> {
        self.server.lasting(self.module, domain)
    }
}

/// The stages that a stanza passes on each side, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Blocking, permissions, rates: may reject. A panic here rejects: fail closed.
    Guard,
    /// Marks put on the stanza before it is stored.
    Stamp,
    /// Whether it belongs into the archive: see [`Cx::archive`]. For messages this stage and the later ones run in the
    /// account's order and may not wait; and only those pass here that may be stored and were not sent before.
    Archive,
    /// Copies for the account's other resources.
    Copy,
    /// The last word before the resources get it; `Done` means that the module has dealt with it.
    Deliver,
    /// No resource took it: offline storage, push; core bounces what is left.
    Undelivered,
}

/// The direction, seen from the account whose hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The account's user sent it.
    Outgoing,
    /// It is meant for the account's user.
    Incoming,
}

/// Whom an IQ asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The domain itself.
    Server,
    /// A bare JID: the server answers for the account. Who asks is in [`Call::from`].
    Account,
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// It has a resource (RFC 6120 §7).
    Bound,
    /// It has sent its first presence, or the first after it was unavailable, and is available now.
    Available,
    /// Messages to the bare JID reach it from now on: it is available and its priority is not negative any more.
    Reachable,
    /// What its client can do has become known, or has changed (XEP-0115): see [`Server::caps`].
    Described,
    /// It has gone unavailable, by its own word or by ending; `presence` handlers have run.
    Unavailable,
    /// Its connection is gone; it may be resumed (XEP-0198).
    Detached,
    /// A new connection has resumed it.
    Resumed,
    /// It has ended for good.
    Closed,
}

/// When a stream feature is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the client has authenticated (over TLS where TLS is required).
    BeforeAuth,
    /// After authentication, beside resource binding.
    BeforeBind,
}

/// What an interceptor decided.
pub enum Flow {
    /// Go on.
    Next,
    /// Dealt with: nothing else happens to the stanza.
    Done,
    /// Refused: the sender is told, unless the stanza is an error or a result itself.
    Reject(StanzaError),
    /// Ask again when the future is done. Only before [`Stage::Archive`] for messages, anywhere for presence and IQ.
    Wait(BoxFuture<Self>),
}

impl From<Result<(), StanzaError>> for Flow {
    fn from(result: Result<(), StanzaError>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) => Self::Reject(error),
        }
    }
}

/// Where a stanza is on its way, for interceptors.
pub struct Cx<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// The host whose hooks run.
    pub host: &'a Arc<Host>,
    /// The account on whose side the stanza is.
    pub account: &'a Arc<Account>,
    /// Outgoing: the session that sent it, unless the server speaks for the account itself.
    pub session: Option<&'a Arc<Session>>,
    /// From [`Stage::Archive`] on, incoming messages: the sessions that will get the stanza.
    pub targets: &'a [Arc<Session>],
    /// From [`Stage::Copy`] on, outgoing messages: the id in the sender's archive, if it is archived. (Incoming ones carry
    /// theirs as stanza-id.)
    pub id: Option<u64>,
    /// Whether it is archived.
    pub(crate) archive: &'a AtomicBool,
    pub(crate) copies: &'a Copies,
}

impl Cx<'_> {
    /// The message belongs into the account's archive (XEP-0313): it is stored there before its sender is told that it
    /// has arrived. For messages, at [`Stage::Archive`].
    pub fn archive(&self) {
        self.archive.store(true, Ordering::Relaxed);
    }
}

/// An IQ request for a module, with all that answering it may need.
pub struct Call {
    /// The server.
    pub server: Arc<Server>,
    /// The host that is asked, or whose account is.
    pub host: Arc<Host>,
    /// The account that is asked, with [`Target::Account`].
    pub account: Option<Arc<Account>>,
    /// The session that asks, when it is one of ours.
    pub session: Option<Arc<Session>>,
    /// Who asks.
    pub from: Jid,
    /// Get or set.
    pub kind: IqType,
    /// The request as it came.
    pub stanza: Stanza,
    /// The request's only child.
    pub payload: Element,
}

impl Call {
    /// Whether the account itself asks.
    pub fn is_own(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.jid.as_str() == self.from.bare_str())
    }

    /// Refuses whoever may not know of the account: only its user and those who see its presence may. The error is the
    /// one for accounts that do not exist (security.md A5, C8).
    pub fn may_see(&self) -> Result<(), StanzaError> {
        let subscribed = || {
            self.account.as_ref().is_some_and(|account| account.roster().subscription(self.from.bare_str()).is_from())
        };
        if self.is_own() || subscribed() { Ok(()) } else { Err(StanzaError::new(Condition::ServiceUnavailable)) }
    }
}

/// What an IQ handler answers: the payload of the result, or the error.
pub type IqResult = Result<Option<Element>, StanzaError>;

/// What became of an IQ request.
pub(crate) enum Answer {
    /// The router is to send a result with this payload.
    Payload(Option<Element>),
    /// The module has sent the result itself.
    Sent,
}

pub(crate) type IqFn = Box<dyn Fn(Call) -> BoxFuture<Result<Answer, StanzaError>> + Send + Sync>;
pub(crate) type InterceptFn = Box<dyn Fn(&Cx<'_>, &mut Stanza) -> Flow + Send + Sync>;
pub(crate) type SessionFn = Box<dyn Fn(&Arc<Server>, &Arc<Session>) -> Flow + Send + Sync>;
/// A module's handler of a nonza.
pub type NonzaHook<M> = fn(&Arc<M>, &Arc<Server>, &mut Nonza<'_>, &Element) -> Result<(), StreamError>;

pub(crate) type NonzaFn = Box<dyn Fn(&Arc<Server>, &mut Nonza<'_>, &Element) -> Result<(), StreamError> + Send + Sync>;
pub(crate) type FeatureFn = Box<dyn Fn(&Offer<'_>) -> Option<Element> + Send + Sync>;
pub(crate) type ComponentFn = Box<dyn Fn(&Arc<Server>, Arrival) -> BoxFuture<()> + Send + Sync>;
pub(crate) type RoomsFn =
    Box<dyn Fn(&Arc<Server>, RoomRequest) -> BoxFuture<Result<RoomReply, CommandError>> + Send + Sync>;
pub(crate) type LoadFn =
    Box<dyn Fn(Arc<Server>, Arc<Account>) -> BoxFuture<Result<(), crate::store::StoreError>> + Send + Sync>;
/// Writes down what a module keeps in a session.
pub type SaveHook<M> = fn(&Arc<M>, &Arc<Server>, &Arc<Session>) -> Option<Element>;
/// Puts it into the session that has come back.
pub type RestoreHook<M> = fn(&Arc<M>, &Arc<Server>, &Arc<Session>, &Element);

pub(crate) type SaveFn = Box<dyn Fn(&Arc<Server>, &Arc<Session>) -> Option<Element> + Send + Sync>;
pub(crate) type RestoreFn = Box<dyn Fn(&Arc<Server>, &Arc<Session>, &Element) + Send + Sync>;
pub(crate) type BeginFn = Box<dyn Fn(Arc<Server>) -> BoxFuture<Result<(), crate::store::StoreError>> + Send + Sync>;
pub(crate) type EndFn = Box<dyn Fn(Arc<Server>) -> BoxFuture<()> + Send + Sync>;
pub(crate) type TickFn = Box<dyn Fn(&Arc<Server>) + Send + Sync>;
pub(crate) type IdentityFn = Box<dyn Fn() -> Vec<Element> + Send + Sync>;
/// Answers a disco request about a node.
pub type NodeFn = Box<dyn Fn(Call) -> BoxFuture<IqResult> + Send + Sync>;
pub(crate) type PreAuthFn = Box<dyn Fn(PreAuthCall) -> BoxFuture<IqResult> + Send + Sync>;

/// What a stream is like when features are offered.
pub struct Offer<'a> {
    /// The server.
    pub server: &'a Arc<Server>,
    /// The host that the stream is for.
    pub host: &'a Host,
    /// Whether the bytes travel inside TLS.
    pub secured: bool,
}

/// An IQ that came before authentication (XEP-0077).
pub struct PreAuthCall {
    /// The server.
    pub server: Arc<Server>,
    /// The host that the stream is for.
    pub host: Arc<Host>,
    /// Whether the bytes travel inside TLS.
    pub secured: bool,
    /// Where the client connects from.
    pub peer: std::net::IpAddr,
    /// Get or set.
    pub kind: IqType,
    /// The request's only child.
    pub payload: Element,
}

/// A nonza of an authenticated stream and what its handler may do about it.
pub struct Nonza<'a> {
    /// The authenticated user.
    pub user: &'a BareJid,
    /// The stream's session, once it has one.
    pub session: Option<&'a Arc<Session>>,
    /// What to write back at once, before anything of the session's outbox.
    pub reply: Vec<Element>,
    /// Set by a handler that has to wait before it can answer; the stream reads nothing else meanwhile.
    pub wait: Option<BoxFuture<Result<NonzaOutcome, StreamError>>>,
}

/// What a nonza's future brings.
#[derive(Default)]
pub struct NonzaOutcome {
    /// The session to go on with, and the number of this connection on it.
    pub resume: Option<(Arc<Session>, u64)>,
    /// What to write back.
    pub reply: Vec<Element>,
}

/// The hooks of one module, being listed.
pub struct Hooks<'a, M> {
    module: Arc<M>,
    table: &'a mut Table,
}

impl<M: Module> Hooks<'_, M> {
    /// The module itself, for doors that depend on its options.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// A feature of the domain, announced by disco#info.
    pub fn disco(&mut self, feature: &'static str) -> &mut Self {
        self.table.features.push(feature);
        self
    }

    /// A feature of the accounts, announced by disco#info on bare JIDs.
    pub fn account_disco(&mut self, feature: &'static str) -> &mut Self {
        self.table.account_features.push(feature);
        self
    }

    /// Identities and forms (XEP-0128) for the domain's disco#info.
    pub fn disco_extra(&mut self, f: fn(&M) -> Vec<Element>) -> &mut Self {
        let module = self.module.clone();
        self.table.extras.push(Box::new(move || f(&module)));
        self
    }

    /// Answers disco requests to an account about a node of its: disco#info with `info`, disco#items with `items`. Only
    /// those who may know of the account ask; what else they may know is to be judged.
    pub fn account_node<F, G, Fut, Gut>(&mut self, node: &'static str, info: F, items: G) -> &mut Self
    where
        F: Fn(Arc<M>, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = IqResult> + Send + 'static,
        G: Fn(Arc<M>, Call) -> Gut + Send + Sync + 'static,
        Gut: Future<Output = IqResult> + Send + 'static,
    {
        let (module, same) = (self.module.clone(), self.module.clone());
        let info: NodeFn = Box::new(move |call| Box::pin(info(module.clone(), call)));
        let items: NodeFn = Box::new(move |call| Box::pin(items(same.clone(), call)));
        self.table.account_nodes.push((node, info, items));
        self
    }

    /// Answers IQ requests whose payload is `name` in `ns`. The router sends the result or the error.
    pub fn iq<F, Fut>(&mut self, kind: IqType, at: Target, ns: &'static str, name: &'static str, f: F) -> &mut Self
    where
        F: Fn(Arc<M>, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = IqResult> + Send + 'static,
    {
        let module = self.module.clone();
        let call = move |call: Call| -> BoxFuture<_> {
            let answer = f(module.clone(), call);
            Box::pin(async move { answer.await.map(Answer::Payload) })
        };
        self.table.iq.push(IqDoor { kind, at, ns, name, call: Box::new(call) });
        self
    }

    /// The same, but the module sends the result itself, at the moment that is right among other stanzas. The router
    /// sends errors only.
    pub fn iq_answered<F, Fut>(
        &mut self,
        kind: IqType,
        at: Target,
        ns: &'static str,
        name: &'static str,
        f: F,
    ) -> &mut Self
    where
        F: Fn(Arc<M>, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), StanzaError>> + Send + 'static,
    {
        let module = self.module.clone();
        let call = move |call: Call| -> BoxFuture<_> {
            let answer = f(module.clone(), call);
            Box::pin(async move { answer.await.map(|()| Answer::Sent) })
        };
        self.table.iq.push(IqDoor { kind, at, ns, name, call: Box::new(call) });
        self
    }

    /// Answers IQ requests that come before authentication.
    pub fn pre_auth_iq<F, Fut>(&mut self, ns: &'static str, f: F) -> &mut Self
    where
        F: Fn(Arc<M>, PreAuthCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = IqResult> + Send + 'static,
    {
        let module = self.module.clone();
        self.table.pre_auth.push((ns, Box::new(move |call| Box::pin(f(module.clone(), call)))));
        self
    }

    /// Sees every message that passes `stage`.
    pub fn message(&mut self, way: Way, stage: Stage, f: fn(&Arc<M>, &Cx<'_>, &mut Stanza) -> Flow) -> &mut Self {
        self.intercept(Family::Message, way, stage, f)
    }

    /// Sees every presence that passes `stage`.
    pub fn presence(&mut self, way: Way, stage: Stage, f: fn(&Arc<M>, &Cx<'_>, &mut Stanza) -> Flow) -> &mut Self {
        self.intercept(Family::Presence, way, stage, f)
    }

    /// Sees every IQ between an account's session and somebody else at [`Stage::Guard`] or [`Stage::Deliver`].
    pub fn iq_passing(&mut self, way: Way, stage: Stage, f: fn(&Arc<M>, &Cx<'_>, &mut Stanza) -> Flow) -> &mut Self {
        self.intercept(Family::Iq, way, stage, f)
    }

    /// Adds a stream feature.
    pub fn stream_feature(&mut self, when: When, f: fn(&Arc<M>, &Offer<'_>) -> Option<Element>) -> &mut Self {
        let module = self.module.clone();
        self.table.stream_features.push((when, Box::new(move |offer| f(&module, offer))));
        self
    }

    /// Handles a nonza of authenticated streams.
    pub fn nonza(&mut self, ns: &'static str, name: &'static str, f: NonzaHook<M>) -> &mut Self {
        let module = self.module.clone();
        self.table.nonzas.push((ns, name, Box::new(move |server, nonza, element| f(&module, server, nonza, element))));
        self
    }

    /// Is told what happens to sessions. `Reject` and `Next` mean the same here.
    pub fn session(&mut self, event: SessionEvent, f: fn(&Arc<M>, &Arc<Server>, &Arc<Session>) -> Flow) -> &mut Self {
        let module = self.module.clone();
        self.table.sessions.push((event, Box::new(move |server, session| f(&module, server, session))));
        self
    }

    /// Takes what the module keeps in a session over a restart of the server: `save` says it as an element, or that there is
    /// nothing, `restore` puts it into the session that has come back. Nobody sees the session meanwhile; neither may wait.
    /// What is in no such element, and not the server's own, is gone.
    pub fn session_state(&mut self, save: SaveHook<M>, restore: RestoreHook<M>) -> &mut Self {
        let (saving, restoring) = (self.module.clone(), self.module.clone());
        self.table.session_states.push((
            M::NAME,
            Box::new(move |server, session| save(&saving, server, session)),
            Box::new(move |server, session, state| restore(&restoring, server, session, state)),
        ));
        self
    }

    /// Reads what the module keeps of an account, when the account is loaded and before anything else sees it.
    pub fn load<F, Fut>(&mut self, f: F) -> &mut Self
    where
        F: Fn(Arc<M>, Arc<Server>, Arc<Account>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), crate::store::StoreError>> + Send + 'static,
    {
        let module = self.module.clone();
        self.table.loads.push(Box::new(move |server, account| Box::pin(f(module.clone(), server, account))));
        self
    }

    /// Runs again and again.
    pub fn every(&mut self, period: Duration, f: fn(&Arc<M>, &Arc<Server>)) -> &mut Self {
        let module = self.module.clone();
        self.table.ticks.push((period, Box::new(move |server| f(&module, server))));
        self
    }

    fn intercept(
        &mut self,
        family: Family,
        way: Way,
        stage: Stage,
        f: fn(&Arc<M>, &Cx<'_>, &mut Stanza) -> Flow,
    ) -> &mut Self {
        let module = self.module.clone();
        if let Some(list) = self.table.interceptors.get_mut(place(family, way, stage)) {
            list.push(Box::new(move |cx, stanza| f(&module, cx, stanza)));
        }
        self
    }
}

/// The stanzas that a list of interceptors is for.
#[derive(Clone, Copy)]
enum Family {
    Message,
    Presence,
    Iq,
}

const FAMILIES: usize = Family::Iq as usize + 1;
const WAYS: usize = Way::Incoming as usize + 1;
const STAGES: usize = Stage::Undelivered as usize + 1;

/// Where in the table the interceptors of this family, way and stage are.
fn place(family: Family, way: Way, stage: Stage) -> usize {
    (family as usize * WAYS + way as usize) * STAGES + stage as usize
}

pub(crate) struct IqDoor {
    pub(crate) kind: IqType,
    pub(crate) at: Target,
    pub(crate) ns: &'static str,
    pub(crate) name: &'static str,
    pub(crate) call: IqFn,
}

/// All hooks of a host, frozen.
pub struct Table {
    /// Features of the domain.
    pub features: Vec<&'static str>,
    /// Features of the accounts.
    pub account_features: Vec<&'static str>,
    /// The modules that are on, with their XEPs.
    pub modules: Vec<(&'static str, &'static [Xep])>,
    extras: Vec<IdentityFn>,
    account_nodes: Vec<(&'static str, NodeFn, NodeFn)>,
    pub(crate) iq: Vec<IqDoor>,
    pub(crate) pre_auth: Vec<(&'static str, PreAuthFn)>,
    interceptors: Vec<Vec<InterceptFn>>,
    pub(crate) components: Vec<(BareJid, &'static str, ComponentFn)>,
    pub(crate) rooms: Vec<(BareJid, RoomsFn)>,
    pub(crate) stream_features: Vec<(When, FeatureFn)>,
    pub(crate) nonzas: Vec<(&'static str, &'static str, NonzaFn)>,
    pub(crate) sessions: Vec<(SessionEvent, SessionFn)>,
    pub(crate) session_states: Vec<(&'static str, SaveFn, RestoreFn)>,
    pub(crate) loads: Vec<LoadFn>,
    pub(crate) begins: Vec<BeginFn>,
    pub(crate) ends: Vec<EndFn>,
    pub(crate) ticks: Vec<(Duration, TickFn)>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            features: Vec::new(),
            account_features: Vec::new(),
            modules: Vec::new(),
            extras: Vec::new(),
            account_nodes: Vec::new(),
            iq: Vec::new(),
            pre_auth: Vec::new(),
            interceptors: std::iter::repeat_with(Vec::new).take(FAMILIES * WAYS * STAGES).collect(),
            components: Vec::new(),
            rooms: Vec::new(),
            stream_features: Vec::new(),
            nonzas: Vec::new(),
            sessions: Vec::new(),
            session_states: Vec::new(),
            loads: Vec::new(),
            begins: Vec::new(),
            ends: Vec::new(),
            ticks: Vec::new(),
        }
    }
}

impl Table {
    /// Identities and forms for the domain's disco#info.
    pub fn extras(&self) -> Vec<Element> {
        self.extras.iter().flat_map(|extra| extra()).collect()
    }

    pub(crate) fn interceptors(&self, kind: Kind, way: Way, stage: Stage) -> &[InterceptFn] {
        let family = match kind {
            Kind::Message(_) => Family::Message,
            Kind::Presence(_) => Family::Presence,
            Kind::Iq(_) => Family::Iq,
        };
        self.interceptors.get(place(family, way, stage)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn iq_door(&self, kind: IqType, at: Target, ns: &str, name: &str) -> Option<&IqFn> {
        self.iq
            .iter()
            .find(|door| door.name == name && door.ns == ns && door.at == at && door.kind == kind)
            .map(|door| &door.call)
    }

    /// Who answers disco#info, and who disco#items, about a node of an account.
    pub fn account_node(&self, node: &str) -> Option<(&NodeFn, &NodeFn)> {
        self.account_nodes.iter().find(|(name, ..)| *name == node).map(|(_, info, items)| (info, items))
    }

    /// Whether some module answers requests in this namespace.
    pub fn answers(&self, ns: &str) -> bool {
        self.iq.iter().any(|door| door.ns == ns)
    }
}

/// A module as `rookery_modules::ALL` lists it.
#[derive(Clone, Copy)]
pub struct Entry {
    /// [`Module::NAME`].
    pub name: &'static str,
    /// [`Module::XEPS`].
    pub xeps: &'static [Xep],
    install: fn(&Conf, &Arc<Server>, &BareJid, &mut Table) -> Result<(), ConfigError>,
    judge: fn(&Conf, &BareJid) -> Result<(), ConfigError>,
    domains: fn(&Conf, &BareJid) -> Result<Vec<BareJid>, ConfigError>,
}

impl Entry {
    /// The entry of a module.
    pub const fn of<M: Module>() -> Self {
        Self { name: M::NAME, xeps: M::XEPS, install: install::<M>, judge: judge::<M>, domains: domains::<M> }
    }

    /// Reads the module's options for a host and throws them away: for whoever checks a conf without a server.
    pub fn judge(&self, conf: &Conf, domain: &BareJid) -> Result<(), ConfigError> {
        (self.judge)(conf, domain)
    }

    /// The domains that the module serves for a host, beside the host's own, if the conf has it on.
    pub fn domains(&self, conf: &Conf, host: &BareJid) -> Result<Vec<BareJid>, ConfigError> {
        (self.domains)(conf, host)
    }

    /// Builds the module for a host, if the conf has it on, and adds its hooks to the table.
    pub fn install(
        &self,
        conf: &Conf,
        server: &Arc<Server>,
        domain: &BareJid,
        table: &mut Table,
    ) -> Result<(), ConfigError> {
        (self.install)(conf, server, domain, table)
    }
}

fn install<M: Module>(
    conf: &Conf,
    server: &Arc<Server>,
    domain: &BareJid,
    table: &mut Table,
) -> Result<(), ConfigError> {
    let Some(config) = conf.module::<M::Config>(domain.as_str(), M::NAME, M::ON)? else {
        return Ok(());
    };
    let setup = Setup { server, domain, module: M::NAME };
    let placed = |fault: Fault| conf.fault(domain.as_str(), M::NAME, fault.option, &fault.why);
    M::judge(&config).map_err(placed)?;
    let module = M::new(config, &setup).map_err(placed)?;
    table.modules.push((M::NAME, M::XEPS));
    M::hooks(&mut Hooks { module: Arc::new(module), table });
    Ok(())
}

fn judge<M: Module>(conf: &Conf, domain: &BareJid) -> Result<(), ConfigError> {
    let Some(config) = conf.module::<M::Config>(domain.as_str(), M::NAME, M::ON)? else { return Ok(()) };
    M::judge(&config).map_err(|fault| conf.fault(domain.as_str(), M::NAME, fault.option, &fault.why))
}

fn domains<M: Module>(conf: &Conf, host: &BareJid) -> Result<Vec<BareJid>, ConfigError> {
    let Some(config) = conf.module::<M::Config>(host.as_str(), M::NAME, M::ON)? else { return Ok(Vec::new()) };
    M::domains(&config, host).map_err(|fault| conf.fault(host.as_str(), M::NAME, fault.option, &fault.why))
}
