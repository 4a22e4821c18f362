//! The server as the rest sees it: its hosts, its accounts, its store, and what a connection asks of it.
//!
//! Where stanzas go is in `router.rs` and `deliver.rs`; how they are kept in `tail.rs`.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rookery_xmpp::ack::BadResume;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError, StreamCondition, StreamError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::sasl::{Credentials, PasswordError};
use rookery_xmpp::stanza::{Kind, PresenceType, Stanza};
use tracing::{debug, error, warn};

use crate::account::{Account, Accounts, Placed};
use crate::archive::searching::Searching;
use crate::archiving;
use crate::caps::Caps;
use crate::config::{Conf, ConfigError, Secret};
use crate::deliver::may_be_kept;
use crate::host::Host;
use crate::ids::{self, Ids};
use crate::module::{BoxFuture, Entry, Flow, IqResult, Nonza, PreAuthCall, SessionEvent, Table, When};
use crate::panic::Panics;
use crate::remote::{self, Links};
use crate::restart::{Ended, Resting};
use crate::retention;
use crate::seen::{self, Seen};
use crate::session::{Detached, Outgoing, Session, SessionLimits, StreamInfo};
use crate::slots::{Slot, SlotNames};
use crate::store::{Store, StoreError};
use crate::tail::Tail;
use crate::tombstones;
use crate::writer::Writer;

/// How often accounts that nobody uses are let go.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a resumption waits for the database to take what the client had sent before.
const SETTLING: Duration = Duration::from_secs(10);

/// Why a session is not resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The client's count cannot be.
    #[error(transparent)]
    Count(#[from] BadResume),
    /// The session has ended.
    #[error("the session has ended")]
    Gone,
    /// What the client had sent is still being stored; later the session may be resumed.
    #[error("the session is busy")]
    Busy,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The conf is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no random numbers.
    #[error("the system's random source does not answer: {0}")]
    Random(String),
}

#[derive(Default)]
pub(crate) struct Hosts {
    pub(crate) hosts: HashMap<BareJid, Arc<Host>>,
    /// Components' domains: the host that has it, and its place in the host's table.
    pub(crate) components: HashMap<BareJid, (Arc<Host>, usize)>,
}

/// What of the conf the server itself goes by.
pub(crate) struct Bounds {
    pub(crate) session: SessionLimits,
    pub(crate) resources: usize,
    pub(crate) resume: Duration,
    pub(crate) tail_messages: u64,
    pub(crate) tail_bytes: u64,
}

impl From<&Conf> for Bounds {
    fn from(conf: &Conf) -> Self {
        let limits = conf.limits();
        let outbox = limits.outbox.get();
        Self {
            session: SessionLimits { outbox, unacked: outbox * 2 },
            resources: limits.resources.get() as usize,
            resume: limits.resume.get(),
            tail_messages: u64::from(limits.offline_messages.get()),
            tail_bytes: limits.offline_size.get() as u64,
        }
    }
}

/// What modules have for a domain, by their names.
type Lasting = HashMap<(&'static str, BareJid), Arc<dyn Any + Send + Sync>>;

/// The server.
pub struct Server {
    pub(crate) hosts: ArcSwap<Hosts>,
    pub(crate) bounds: ArcSwap<Bounds>,
    conf: ArcSwap<Conf>,
    /// The accounts in memory.
    pub accounts: Accounts,
    /// The database.
    pub store: Arc<dyn Store>,
    /// Ids for messages.
    pub ids: Ids,
    pub(crate) writer: Arc<Writer>,
    /// Archives that are being made findable by their words.
    pub(crate) searching: Searching,
    /// What waits for other servers.
    pub(crate) links: Arc<Links>,
    /// Sessions of the last run.
    pub(crate) resting: Resting,
    pub(crate) session_slots: SlotNames,
    pub(crate) account_slots: SlotNames,
    /// Whom a session has sent directed presence and not taken it back (RFC 6121 §4.6).
    pub directed: Slot<BTreeSet<Jid>>,
    /// What the sessions' clients can do.
    pub caps: Caps,
    /// Who reads a page of a tail has one ([`crate::store::TailStore::tail_readers`]).
    pub(crate) tail_turns: tokio::sync::Semaphore,
    /// Keys are computed on as many threads as there are processors at most.
    deriving: Arc<tokio::sync::Semaphore>,
    resumable: Mutex<HashMap<Box<str>, Weak<Session>>>,
    pub(crate) ended: Ended,
    streams: AtomicU64,
    secret: Box<[u8]>,
    /// Bugs that were survived.
    pub panics: Panics,
    /// What modules have for a domain, by their names.
    lasting: Mutex<Lasting>,
    started: (Instant, SystemTime),
    pub(crate) writing: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// It ends.
    pub(crate) stopping: AtomicBool,
}

impl Server {
    /// Builds the hosts and their modules and starts what runs beside the connections.
    pub async fn start(conf: Conf, store: Arc<dyn Store>, modules: &[Entry]) -> Result<Arc<Self>, StartError> {
        let ids = Ids::above(store.last_id().await?);
        let secret = secret(store.as_ref()).await?;
        let resting = Resting::new(store.saved_accounts().await?);
        let ended = Ended::load(store.as_ref()).await?;
        let writer = Writer::new(store.clone());
        let tail_turns = tokio::sync::Semaphore::new(store.tail_readers());
        let session_slots = SlotNames::default();
        let server = Arc::new(Self {
            hosts: ArcSwap::default(),
            bounds: ArcSwap::from_pointee(Bounds::from(&conf)),
            conf: ArcSwap::from_pointee(conf.clone()),
            accounts: Accounts::default(),
            store,
            ids,
            writer: writer.clone(),
            searching: Searching::default(),
            links: Arc::default(),
            resting,
            directed: session_slots.slot("core", "directed"),
            caps: Caps::new(session_slots.slot("core", "features")),
            tail_turns,
            deriving: Arc::new(tokio::sync::Semaphore::new(
                std::thread::available_parallelism().map_or(1, usize::from),
            )),
            session_slots,
            account_slots: SlotNames::default(),
            resumable: Mutex::default(),
            ended,
            streams: AtomicU64::new(1),
            secret,
            panics: Panics::default(),
            lasting: Mutex::default(),
            started: (Instant::now(), SystemTime::now()),
            writing: Mutex::new(None),
            stopping: AtomicBool::new(false),
        });
        writer.serve(Arc::downgrade(&server));
        server.reload(conf, modules)?;
        *server.writing.lock() = Some(tokio::spawn(writer.run()));
        server.load_outgoing().await?;
        tokio::spawn(keep_house(Arc::downgrade(&server)));
        tokio::spawn(remote::keep_time(Arc::downgrade(&server)));
        tokio::spawn(archiving::keep_house(Arc::downgrade(&server)));
        server.begin().await?;
        Ok(server)
    }

    /// Takes up a new conf: hosts and modules are built anew and swapped at once. On an error nothing has changed.
    pub fn reload(self: &Arc<Self>, conf: Conf, modules: &[Entry]) -> Result<(), ConfigError> {
        conf.check_modules(&modules.iter().map(|module| module.name).collect::<Vec<_>>())?;
        let mut hosts = Hosts::default();
        for host in conf.hosts() {
            let mut table = Table::default();
            for module in modules {
                module.install(&conf, self, &host.domain, &mut table)?;
            }
            let host = Host::new(host.domain.clone(), table);
            for (place, (domain, module, _)) in host.table.components.iter().enumerate() {
                let is_taken = conf.hosts().iter().any(|other| other.domain == *domain)
                    || conf.component(domain.as_str()).is_some()
                    || hosts.components.insert(domain.clone(), (host.clone(), place)).is_some();
                if is_taken {
                    let why = format!("\"{domain}\" is served already");
                    return Err(conf.fault(host.domain.as_str(), module, "domains", &why));
                }
            }
            self.start_ticks(&host);
            hosts.hosts.insert(host.domain.clone(), host);
        }
        self.bounds.store(Arc::new(Bounds::from(&conf)));
        self.conf.store(Arc::new(conf));
        self.hosts.store(Arc::new(hosts));
        self.review_links();
        Ok(())
    }

    /// Lets the modules begin.
    pub async fn begin(self: &Arc<Self>) -> Result<(), StoreError> {
        for host in self.hosts() {
            for begin in &host.table.begins {
                begin(self.clone()).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn lasting<T: Send + Sync + Default + 'static>(&self, module: &'static str, domain: &BareJid) -> Arc<T> {
        let mut lasting = self.lasting.lock();
        let known = lasting.get(&(module, domain.clone())).and_then(|known| known.clone().downcast().ok());
        known.unwrap_or_else(|| {
            let new: Arc<T> = Arc::default();
            lasting.insert((module, domain.clone()), new.clone());
            new
        })
    }

    fn start_ticks(self: &Arc<Self>, host: &Arc<Host>) {
        for place in 0..host.table.ticks.len() {
            let (server, host) = (Arc::downgrade(self), Arc::downgrade(host));
            tokio::spawn(async move {
                loop {
                    let Some(period) =
                        host.upgrade().and_then(|host| host.table.ticks.get(place).map(|(period, _)| *period))
                    else {
                        return;
                    };
                    tokio::time::sleep(period).await;
                    let (Some(server), Some(host)) = (server.upgrade(), host.upgrade()) else { return };
                    if let Some((_, tick)) = host.table.ticks.get(place) {
                        tick(&server);
                    }
                }
            });
        }
    }

    /// The conf in force.
    pub fn conf(&self) -> Arc<Conf> {
        self.conf.load_full()
    }

    /// A served domain.
    pub fn host(&self, domain: &str) -> Option<Arc<Host>> {
        self.hosts.load().hosts.get(domain).cloned()
    }

    /// All served domains.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.load().hosts.values().cloned().collect()
    }

    /// How long the server has been running.
    pub fn uptime(&self) -> Duration {
        self.started.0.elapsed()
    }

    /// Names a new stream in the log.
    pub fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// The secret behind what must look random and stay the same: salts of users who do not exist, occupant ids.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The longest time a session may wait for its resumption.
    pub fn resume_limit(&self) -> Duration {
        self.bounds.load().resume
    }

    // ---- accounts -------------------------------------------------------------------------------------------------

    /// An account of one of our domains, loaded if need be.
    pub async fn account(self: &Arc<Self>, user: &BareJid) -> Result<Option<Arc<Account>>, StoreError> {
        let Some(host) = self.host(user.domainpart()) else { return Ok(None) };
        if user.localpart().is_none() {
            return Ok(None);
        }
        let account = self.accounts.get(user, Box::pin(self.load(user, host))).await?;
        self.resting.forget(user.as_str());
        Ok(account)
    }

    async fn load(self: &Arc<Self>, user: &BareJid, host: Arc<Host>) -> Result<Option<Arc<Account>>, StoreError> {
        if !self.store.account_exists(user).await? {
            return Ok(None);
        }
        self.recall_sessions(user).await?;
        let roster = self.store.roster(user).await?.into();
        let seen = self.store.seen(user, ids::since(seen::MEMORY), u64::MAX, seen::RECALLED).await?;
        let tail = Tail::new(self.store.tail_size(user).await?, Seen::new(seen));
        let account = Account::new(user.clone(), roster, tail, self.writer.clone(), self.store.clone());
        for load in &host.table.loads {
            load(self.clone(), account.clone()).await?;
        }
        self.bring_back(&account);
        Ok(Some(account))
    }

    /// The keys to check a login with.
    pub async fn credentials(&self, user: &BareJid) -> Result<Option<Credentials>, StoreError> {
        self.store.credentials(user).await
    }

    /// The keys of a new password, computed where it delays no stanza. The error says what is wrong with the password.
    pub fn derive(self: &Arc<Self>, password: Secret) -> BoxFuture<Result<Credentials, StanzaError>> {
        let (deriving, rounds) = (self.deriving.clone(), self.conf().server().scram_iterations.get());
        Box::pin(async move {
            let failed = || StanzaError::new(Condition::InternalServerError);
            let _turn = deriving.acquire_owned().await.map_err(|_| failed())?;
            let derived =
                tokio::task::spawn_blocking(move || Credentials::from_password(password.expose(), rounds)).await;
            derived.map_err(|_| failed())?.map_err(|error| match error {
                PasswordError::Forbidden => StanzaError::new(Condition::NotAcceptable).with_text(error.to_string()),
                PasswordError::NoRandomness => failed(),
            })
        })
    }

    /// Deletes an account and all that it owns; its contacts are told and its sessions end. `false` when there was none.
    pub async fn delete_account(self: &Arc<Self>, user: &BareJid) -> Result<bool, StoreError> {
        self.delete(user, |_| {}).await
    }

    /// The same at the wish of one of the account's sessions, which is answered before its stream ends.
    pub async fn delete_own_account(self: &Arc<Self>, session: &Session, answer: Stanza) -> Result<bool, StoreError> {
        self.delete(&session.account.jid, |deleted| {
            if deleted {
                session.send(answer);
            }
        })
        .await
    }

    async fn delete(self: &Arc<Self>, user: &BareJid, told: impl FnOnce(bool)) -> Result<bool, StoreError> {
        let Some(account) = self.account(user).await? else { return Ok(false) };
        tombstones::bury(self.store.as_ref(), user).await?;
        retention::set(self.store.as_ref(), user, None).await?;
        let deleted = self.store.delete_account(user).await?;
        self.accounts.forget(user);
        told(deleted);
        account.set_deleted();
        for session in account.sessions() {
            let text = "The account has been deleted.";
            session.close(StreamError::new(StreamCondition::NotAuthorized).with_text(text));
            if session.is_detached() {
                self.end_session(&session).await;
            }
        }
        // XEP-0077 §3.2: whoever had subscribed to the account, or granted it a subscription, gets rid of it.
        let roster = account.roster();
        let tell = |kind: PresenceType, contact: &BareJid| {
            self.route(Stanza::presence(kind).from(user.clone()).to(contact.clone()))
        };
        for contact in roster.subscribers().chain(roster.requests().map(|(contact, _)| contact)) {
            tell(PresenceType::Unsubscribed, contact).await;
        }
        for item in roster.items().filter(|item| item.subscription.is_to() || item.ask) {
            tell(PresenceType::Unsubscribe, &item.jid).await;
        }
        Ok(deleted)
    }

    /// The account's password is another: who came by the old one has to come again. `but` is the session that changed
    /// it, if one did. Sessions without a connection cannot be resumed with the old password and are let be.
    pub fn password_changed(&self, user: &BareJid, but: Option<&Session>) {
        self.resting.expire(user.as_str());
        let Some(account) = self.accounts.loaded(user.as_str()) else { return };
        for session in account.sessions().iter().filter(|session| but.is_none_or(|but| but.jid != session.jid)) {
            session.close(StreamError::new(StreamCondition::Reset).with_text("The password has been changed."));
        }
    }

    /// Whether an account of this name was deleted within the last `time`.
    pub async fn was_deleted(&self, user: &BareJid, time: Duration) -> Result<bool, StoreError> {
        tombstones::is_buried(self.store.as_ref(), user, time).await
    }

    /// Forgets the names of accounts that were deleted longer ago than that.
    pub async fn forget_deleted(&self, domain: &BareJid, time: Duration) -> Result<(), StoreError> {
        tombstones::clear(self.store.as_ref(), domain, time).await
    }

    // ---- sessions -------------------------------------------------------------------------------------------------

    /// Binds a resource (RFC 6120 §7). A resource that is in use is taken over: its session ends with `conflict`
    /// (§7.7.2.2), since that is most often the same client coming back.
    pub async fn bind(
        self: &Arc<Self>,
        user: &BareJid,
        resource: Option<&str>,
        stream: StreamInfo,
    ) -> Result<Arc<Session>, StanzaError> {
        let account = self.account(user).await?.ok_or_else(|| StanzaError::new(Condition::NotAuthorized))?;
        let resource = match resource {
            Some(resource) => resource.to_owned(),
            None => random_id().map_err(|_| StanzaError::new(Condition::InternalServerError))?,
        };
        let jid = user
            .with_resource(&resource)
            .map_err(|error| StanzaError::new(Condition::BadRequest).with_text(error.to_string()))?;
        let (most, limits) = {
            let bounds = self.bounds.load();
            (bounds.resources, bounds.session)
        };
        let session = Session::new(jid, account.clone(), stream, limits);
        loop {
            match account.place(&session, most) {
                Placed::In => break,
                Placed::Taken(old) => {
                    old.close(
                        StreamError::new(StreamCondition::Conflict)
                            .with_text("Another client has bound this resource."),
                    );
                    self.end_session(&old).await;
                }
                // A session without a connection makes room before a client is refused (RFC 6120 §7.6.2.1).
                Placed::Full(Some((detached, connection))) => {
                    self.end_connected(&detached, Some(connection)).await;
                }
                Placed::Full(None) => {
                    return Err(StanzaError::new(Condition::ResourceConstraint)
                        .with_text("This account has as many sessions as are allowed."));
                }
            }
        }
        self.tell(&session, SessionEvent::Bound).await;
        Ok(session)
    }

    /// Makes a session resumable under its id.
    pub fn add_resumable(&self, id: Box<str>, session: &Arc<Session>) {
        self.resumable.lock().insert(id, Arc::downgrade(session));
    }

    /// The session of a user that this id resumes, one of the last run too.
    pub async fn resumable(self: &Arc<Self>, user: &BareJid, id: &str) -> Result<Option<Arc<Session>>, StoreError> {
        if self.resting.has(user.as_str()) {
            self.account(user).await?;
        }
        let session = self.resumable.lock().get(id).and_then(Weak::upgrade);
        Ok(session.filter(|session| session.account.jid == *user && !session.is_closed()))
    }

    /// How much a session that has ended had handled: what its client need not send again (XEP-0198 §5, `<failed h=''/>`).
    pub fn handled_before(&self, user: &BareJid, id: &str) -> Option<u32> {
        self.ended.handled(user, id)
    }

    /// A new connection takes a session over (XEP-0198 §5). The old connection is parted from it first, and what came by
    /// it is handled to the end, so that the count in the answer is exact. `answer` makes the first thing that the new
    /// connection writes from that count.
    pub async fn resume(
        self: &Arc<Self>,
        session: &Arc<Session>,
        h: u32,
        answer: impl FnOnce(u32) -> bytes::Bytes,
    ) -> Result<u64, ResumeError> {
        let parted = session.take_over(h)?;
        if tokio::time::timeout(SETTLING, session.settled()).await.is_err() {
            // Without a connection now, it waits as any other session that was cut off.
            self.disconnected(session, parted, false).await;
            return Err(ResumeError::Busy);
        }
        let resumed = match session.resume(h, answer) {
            Ok(Some(resumed)) => resumed,
            Ok(None) => {
                self.end_session(session).await;
                return Err(ResumeError::Gone);
            }
            Err(error) => {
                // The old connection is past already, so nobody else would end the session.
                self.disconnected(session, parted, false).await;
                return Err(error.into());
            }
        };
        if let Some(parked) = resumed.parked {
            warn!(session = %session.jid, "a stanza is given up, since the client ends whenever it gets it");
            self.give_up(parked).await;
        }
        self.tell(session, SessionEvent::Resumed).await;
        Ok(resumed.connection)
    }

    /// Runs something beside whatever is going on now.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }

    /// Runs a future beside all else, for modules that have something long to do.
    pub fn beside(&self, future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }

    /// Waits for a future, but not for ever. `false` when the time is over.
    pub async fn within(&self, time: Duration, future: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(time, future).await.is_ok()
    }

    /// Whether a message is worth storing until it is delivered.
    pub fn is_storable(&self, message: &Stanza) -> bool {
        matches!(message.head.kind, Kind::Message(kind) if may_be_kept(kind, message))
    }

    /// Gives up a stanza that a client cannot bear, and tells its sender.
    pub async fn give_up(self: &Arc<Self>, out: Outgoing) {
        let error = StanzaError::new(Condition::UndefinedCondition).with_kind(ErrorKind::Cancel);
        let error = error.with_text("The recipient's client could not process this.");
        match &out.kept {
            // The message itself has other ways.
            Some(_) if out.is_copy() => {}
            Some(kept) => self.refuse_kept(kept, error).await,
            None => self.bounce(&out.stanza, error, None).await,
        }
    }

    /// A connection of a session has gone. A session that can be resumed waits for its client; others end. `goodbye`:
    /// the client has closed the stream itself, which ends the session in any case (XEP-0198 §5).
    pub async fn disconnected(self: &Arc<Self>, session: &Arc<Session>, connection: u64, goodbye: bool) {
        match session.detach(connection) {
            Detached::Past => {}
            Detached::Waits(time) if !goodbye && !session.account.is_deleted() => {
                debug!(session = %session.jid, "detached");
                self.tell(session, SessionEvent::Detached).await;
                self.end_later(session, connection, time);
            }
            Detached::Waits(_) | Detached::Ends => self.end_session(session).await,
        }
    }

    /// Ends a session in so much time, if it still has this connection then: nobody has resumed it.
    pub(crate) fn end_later(self: &Arc<Self>, session: &Arc<Session>, connection: u64, time: Duration) {
        let (server, waiting) = (Arc::downgrade(self), Arc::downgrade(session));
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let (Some(server), Some(session)) = (server.upgrade(), waiting.upgrade()) {
                server.end_connected(&session, Some(connection)).await;
            }
        });
    }

    /// Ends a session for good: others see it go, and what it had not confirmed is delivered anew.
    pub async fn end_session(self: &Arc<Self>, session: &Arc<Session>) {
        self.end_connected(session, None).await;
    }

    /// The same, unless the session is not the one's with this connection any more.
    async fn end_connected(self: &Arc<Self>, session: &Arc<Session>, connection: Option<u64>) {
        let Some(parted) = self.part(session, connection) else { return };
        if let (Some(id), Some(handled)) = (session.resumption_id(), session.count_of_handled()) {
            self.resumable.lock().remove(&id);
            self.ended.add(id, session.account.jid.clone(), handled);
        }
        if session.is_available() {
            session.set_presence(None);
            self.tell(session, SessionEvent::Unavailable).await;
        }
        self.tell(session, SessionEvent::Closed).await;
        debug!(session = %session.jid, "ended");
        self.bounce_parted(&session.account, parted).await;
    }

    /// Tells the modules of the session's host.
    pub async fn tell(self: &Arc<Self>, session: &Arc<Session>, event: SessionEvent) {
        let Some(host) = self.host(session.jid.domainpart()) else { return };
        for (_, hook) in host.table.sessions.iter().filter(|(of, _)| *of == event) {
            // A session that cannot be told must still end.
            let mut flow = self.panics.catch(|| hook(self, session));
            while let Ok(Flow::Wait(future)) = flow {
                flow = self.panics.caught(future).await;
            }
            if flow.is_err() {
                error!(session = %session.jid, ?event, "a module panicked over a session");
            }
        }
    }

    /// A nonza of an authenticated stream. `None` when no module knows it.
    pub fn nonza(
        self: &Arc<Self>,
        host: &Host,
        nonza: &mut Nonza<'_>,
        element: &Element,
    ) -> Option<Result<(), StreamError>> {
        let (_, _, hook) = host.table.nonzas.iter().find(|(ns, name, _)| element.is(name, ns))?;
        Some(hook(self, nonza, element))
    }

    /// An IQ that came before authentication. `None` when no module takes it.
    pub async fn pre_auth_iq(self: &Arc<Self>, call: PreAuthCall) -> Option<IqResult> {
        let host = call.host.clone();
        let (_, hook) = host.table.pre_auth.iter().find(|(ns, _)| *ns == call.payload.ns())?;
        Some(hook(call).await)
    }

    /// A warning about the store that does not repeat for every stanza.
    pub(crate) fn store_failed(&self, what: &str, error: &StoreError) {
        warn!(%error, "{what}");
    }

    /// The stream features that modules add.
    pub fn stream_features(self: &Arc<Self>, host: &Host, when: When, secured: bool) -> Vec<Element> {
        host.stream_features(self, when, secured)
    }
}

/// 128 random bits as text, for resources and ids (security.md A7).
pub fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    use base64::Engine;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// The server's own secret, made once and kept in the database.
async fn secret(store: &dyn Store) -> Result<Box<[u8]>, StartError> {
    let owner = BareJid::new("server.invalid").map_err(|error| StartError::Random(error.to_string()))?;
    if let Some(secret) = store.value(&owner, "server", "secret").await? {
        return Ok(secret.into());
    }
    let mut secret = vec![0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| StartError::Random(error.to_string()))?;
    store.set_values(&owner, "server", &[("secret".to_owned(), Some(secret.clone()))]).await?;
    Ok(secret.into())
}

async fn keep_house(server: Weak<Server>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(server) = server.upgrade() else { return };
        server.accounts.sweep();
        server.resumable.lock().retain(|_, session| session.strong_count() > 0);
    }
}
