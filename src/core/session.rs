//! A session: one bound resource (RFC 6120 §7). What is on its way to its client is in `session/outbox.rs`, what
//! acknowledges it in `session/acks.rs`, its place in the account's tail in `session/tail.rs`, and copies of what is not for
//! it in `session/copies.rs`.
//!
//! The connection is somebody else's (`rookery-net`): it drains the outbox when it is woken, says when bytes are
//! written, and may go away and come back (XEP-0198 resumption) while the session lives on. Locks: an account's before a
//! session's, and no [`Kept`] is settled while a session is locked.

mod acks;
mod copies;
mod outbox;
mod rest;
mod tail;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::stanza::Stanza;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::acks::Acks;
pub use self::acks::Past;
use self::copies::Copied;
use self::outbox::Out;
pub use self::outbox::{Drained, Outgoing, Pushed};
pub(crate) use self::rest::Rest;
use crate::account::Account;
pub use crate::receipt::Receipt;
use crate::request::Request;
use crate::slots::{Slot, Slots};
use crate::tail::Kept;

/// The priority of a session that is not available.
const UNAVAILABLE: i16 = i16::MIN;

/// Requests of one client that the server is at, at once.
const MOST_ASKING: usize = 100;

/// Facts of the stream that logs and modules ask for.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// Names the stream in the log.
    pub id: u64,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// Whether the bytes travel inside TLS.
    pub secured: bool,
}

/// The bounds of a session's queues.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Bytes that wait for the connection.
    pub outbox: usize,
    /// Bytes that are written and not acknowledged.
    pub unacked: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Attached,
    Detached,
    Closed,
}

struct State {
    phase: Phase,
    outbox: VecDeque<Out>,
    bytes: usize,
    /// So many of them at most are what the client has asked for in one go.
    asked: usize,
    in_flight: Vec<Arc<Kept>>,
    acks: Option<Box<Acks>>,
    /// The session gets the tail from the store, from this id on; new kept messages wait there for their turn.
    catching_up: Option<u64>,
    /// The size of the next message of the tail, when it was offered and there was no room: it waits for so much.
    wanted: usize,
    /// Messages that were pushed while the session was catching up: it gets them in their turn, though another resource
    /// confirms them first.
    owed: BTreeMap<u64, Arc<Kept>>,
    owed_bytes: usize,
    /// Of these the session gets copies.
    due: BTreeMap<u64, Arc<Stanza>>,
    copied: Copied,
    /// Something was not sent that cannot be made good: the stream cannot go on as if nothing had happened.
    has_gap: bool,
    presence: Option<Arc<Stanza>>,
    interested: bool,
    closing: Option<StreamError>,
    /// The server ends: what it is sent from here on, its client gets from the next one, if it can be resumed.
    suspended: bool,
    /// What the server has asked the client and got no answer to.
    requests: Vec<Request>,
    slots: Slots,
}

/// One bound resource.
pub struct Session {
    /// The full JID.
    pub jid: FullJid,
    /// The account it belongs to.
    pub account: Arc<Account>,
    /// Facts of the stream that it was bound on.
    pub stream: StreamInfo,
    priority: AtomicI16,
    connection: AtomicU64,
    limits: SessionLimits,
    reading: AtomicBool,
    collects_mail: AtomicBool,
    from_last_run: AtomicBool,
    wake: Notify,
    settled: Notify,
    roomy: Notify,
    /// Each request that is under way holds one.
    asking: Arc<()>,
    state: Mutex<State>,
}

/// What a session that has ended did not deliver.
pub(crate) struct Left {
    /// What it held, oldest first.
    pub(crate) outgoing: Vec<Outgoing>,
    /// From where on it had not read the tail.
    pub(crate) unread: Option<u64>,
}

impl Session {
    pub(crate) fn new(jid: FullJid, account: Arc<Account>, stream: StreamInfo, limits: SessionLimits) -> Arc<Self> {
        Arc::new(Self {
            jid,
            account,
            stream,
            priority: AtomicI16::new(UNAVAILABLE),
            connection: AtomicU64::new(1),
            limits,
            reading: AtomicBool::new(false),
            collects_mail: AtomicBool::new(false),
            from_last_run: AtomicBool::new(false),
            wake: Notify::new(),
            settled: Notify::new(),
            roomy: Notify::new(),
            asking: Arc::new(()),
            state: Mutex::new(State {
                phase: Phase::Attached,
                outbox: VecDeque::new(),
                bytes: 0,
                asked: 0,
                in_flight: Vec::new(),
                acks: None,
                catching_up: None,
                wanted: 0,
                owed: BTreeMap::new(),
                owed_bytes: 0,
                due: BTreeMap::new(),
                copied: Copied::default(),
                has_gap: false,
                presence: None,
                interested: false,
                closing: None,
                suspended: false,
                requests: Vec::new(),
                slots: Slots::default(),
            }),
        })
    }

    // ---- for modules and the router ------------------------------------------------------------------------------

    /// The priority of its presence; `None` while it is not available.
    pub fn priority(&self) -> Option<i8> {
        match self.priority.load(Ordering::Acquire) {
            UNAVAILABLE => None,
            priority => Some(priority as i8),
        }
    }

    /// Whether it has sent available presence.
    pub fn is_available(&self) -> bool {
        self.priority().is_some()
    }

    /// The last available presence it broadcast.
    pub fn presence(&self) -> Option<Arc<Stanza>> {
        self.state.lock().presence.clone()
    }

    /// Remembers the presence it broadcasts: available with a priority, or `None` for unavailable. `false` when the
    /// session has ended, and is not available any more whatever its client says.
    ///
    /// One that messages to the bare JID reach from now on gets first what waits in the tail.
    pub fn set_presence(&self, presence: Option<(Arc<Stanza>, i8)>) -> bool {
        let priority = presence.as_ref().map_or(UNAVAILABLE, |(_, priority)| i16::from(*priority));
        let tail = self.account.tail.lock();
        let is_collected = self.account.sessions().iter().any(|session| session.collects_mail());
        let mut state = self.state.lock();
        if state.phase == Phase::Closed && presence.is_some() {
            return false;
        }
        if priority >= 0 && self.priority.load(Ordering::Acquire) < 0 && tail.size.messages > 0 && !is_collected {
            state.read_on_from(0);
        }
        state.presence = presence.map(|(stanza, _)| stanza);
        self.priority.store(priority, Ordering::Release);
        true
    }

    /// Its client collects what waits for the account (see `mailbox.rs`): as long as the session lives, no session is sent
    /// that because it has become available.
    pub fn collect_mail(&self) {
        self.collects_mail.store(true, Ordering::Release);
    }

    pub(crate) fn collects_mail(&self) -> bool {
        self.collects_mail.load(Ordering::Acquire)
    }

    /// It has asked for the roster and gets roster pushes (RFC 6121 §2.2).
    pub fn is_interested(&self) -> bool {
        self.state.lock().interested
    }

    /// It asks for the roster.
    pub fn set_interested(&self) {
        self.state.lock().interested = true;
    }

    /// A copy of what a module keeps in the session.
    pub fn get<T: std::any::Any + Send + Clone>(&self, slot: Slot<T>) -> Option<T> {
        self.state.lock().slots.get(slot).cloned()
    }

    /// Reads what a module keeps in the session. The session is locked meanwhile.
    pub fn with<T: std::any::Any + Send, R>(&self, slot: Slot<T>, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.state.lock().slots.get(slot).map(f)
    }

    /// Puts what a module keeps into the session.
    pub fn set<T: std::any::Any + Send>(&self, slot: Slot<T>, value: T) {
        self.state.lock().slots.set(slot, value);
    }

    /// Changes what a module keeps in the session, made by default first. The session is locked meanwhile.
    pub fn update<T: std::any::Any + Send + Default, R>(
        &self,
        slot: Slot<T>,
        f: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        self.state.lock().slots.entry(slot).map(f)
    }

    /// Takes what a module keeps out of the session.
    pub fn take<T: std::any::Any + Send>(&self, slot: Slot<T>) -> Option<T> {
        self.state.lock().slots.take(slot)
    }

    /// Asks the connection to write what waits and then close the stream with this error.
    pub fn close(&self, error: StreamError) {
        self.state.lock().closing.get_or_insert(error);
        self.wake.notify_one();
    }

    /// The same because the server ends, and will be back: a session that can be resumed does not end by that, and its
    /// stream is left unfinished.
    pub fn suspend(&self) {
        let mut state = self.state.lock();
        state.suspended = true;
        if state.phase == Phase::Attached {
            state.closing.get_or_insert_with(|| StreamCondition::SystemShutdown.into());
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Whether the session has ended for good.
    pub fn is_closed(&self) -> bool {
        self.state.lock().phase == Phase::Closed
    }

    /// Whether it lives without a connection.
    pub fn is_detached(&self) -> bool {
        self.state.lock().phase == Phase::Detached
    }

    /// Whether it goes on after its connection is lost, or the server has been started again.
    pub fn is_resumable(&self) -> bool {
        self.state.lock().resumable().is_some()
    }

    /// Whether it began before the server was started.
    pub fn is_from_last_run(&self) -> bool {
        self.from_last_run.load(Ordering::Acquire)
    }

    /// A request of the client's begins that takes its time; it ends when the turn is dropped. `None` when it has as many
    /// under way as are allowed.
    pub(crate) fn begin_request(&self) -> Option<Arc<()>> {
        let turn = self.asking.clone();
        (Arc::strong_count(&turn) <= MOST_ASKING + 1).then_some(turn)
    }

    // ---- requests of the server -----------------------------------------------------------------------------------

    pub(crate) fn expect(&self, request: Request) {
        self.state.lock().requests.push(request);
    }

    pub(crate) fn expected(&self, id: &str) -> Option<Request> {
        let mut state = self.state.lock();
        let at = state.requests.iter().position(|request| request.id() == id)?;
        Some(state.requests.swap_remove(at))
    }

    pub(crate) fn forget(&self, id: &str) {
        self.expected(id);
    }

    // ---- for the connection ---------------------------------------------------------------------------------------

    /// The number of the connection that the session listens to; another number means that one's connection is past.
    pub fn connection(&self) -> u64 {
        self.connection.load(Ordering::Acquire)
    }

    /// Waits until there may be something to drain for this connection, or it is past. Safe to drop at any await.
    pub async fn woken(&self, connection: u64) {
        let mut woken = pin!(self.wake.notified());
        // A wake goes to one of those who wait. It may come between a connection's last look and its waiting, and be
        // taken by the connection that has the session since: so this one looks once more when its wait has begun.
        poll_fn(|context| match woken.as_mut().poll(context) {
            Poll::Pending if self.connection() == connection => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
        if self.connection() != connection {
            // It may have been meant for the connection that has the session now.
            self.wake.notify_one();
        }
    }

    /// The connection has gone. `true` when the session waits for a resumption now.
    pub(crate) fn detach(&self, connection: u64) -> Detached {
        let mut state = self.state.lock();
        if self.connection.load(Ordering::Acquire) != connection || state.phase == Phase::Closed {
            return Detached::Past;
        }
        state.detach().map_or(Detached::Ends, Detached::Waits)
    }

    /// Nobody waits for the session's connection any more. `false` when the session cannot go on without one.
    pub(crate) fn cut(&self) -> bool {
        let mut state = self.state.lock();
        let lives_on = match state.phase {
            Phase::Attached => {
                self.connection.fetch_add(1, Ordering::AcqRel);
                state.detach().is_some()
            }
            Phase::Detached => state.resumable().is_some(),
            Phase::Closed => true,
        };
        drop(state);
        self.wake.notify_one();
        lives_on
    }

    /// Ends the session: nothing is taken any more. To be called with the account's tail locked, so that no message is
    /// handed out meanwhile. `connection`: only if the session still has this one.
    pub(crate) fn end(&self, connection: Option<u64>) -> Option<Left> {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed || connection.is_some_and(|connection| connection != self.connection()) {
            return None;
        }
        state.phase = Phase::Closed;
        self.connection.fetch_add(1, Ordering::AcqRel);
        let mut left = Vec::new();
        if let Some(acks) = state.acks.as_mut() {
            left.extend(acks.unacked.take_all());
            acks.unacked_bytes = 0;
        }
        left.extend(std::mem::take(&mut state.in_flight).into_iter().map(|kept| Outgoing {
            stanza: kept.stanza.clone(),
            to: None,
            kept: Some(kept),
        }));
        left.extend(std::mem::take(&mut state.outbox).into_iter().filter_map(|out| match out {
            Out::Stanza(out, _) => Some(out),
            _ => None,
        }));
        left.extend(std::mem::take(&mut state.owed).into_values().map(|kept| Outgoing {
            stanza: kept.stanza.clone(),
            to: None,
            kept: Some(kept),
        }));
        let unread = state.catching_up.take();
        state.bytes = 0;
        state.owed_bytes = 0;
        state.due.clear();
        state.requests = Vec::new();
        drop(state);
        self.wake.notify_one();
        self.roomy.notify_waiters();
        Some(Left { outgoing: left, unread })
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

impl State {
    /// It lives on without a connection for this long; `None` when it cannot be resumed.
    fn detach(&mut self) -> Option<Duration> {
        let time = self.resumable()?;
        self.phase = Phase::Detached;
        if let Some(acks) = &mut self.acks {
            acks.until = Some(Instant::now() + time);
        }
        Some(time)
    }

    /// For how long it may wait for its client.
    fn resumable(&self) -> Option<Duration> {
        let acks = self.acks.as_ref().filter(|acks| acks.counting && !self.has_gap)?;
        acks.resumable
    }
}

pub(crate) enum Detached {
    /// Another connection has the session, or it has ended.
    Past,
    /// It waits this long.
    Waits(Duration),
    /// It cannot be resumed.
    Ends,
}
