//! An account in memory: its sessions, its roster, its tail. Loaded when somebody needs it, let go when nobody does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::stanza::{Kind, MessageType, Stanza};
use smallvec::SmallVec;

use crate::roster::Roster;
use crate::seen::Back;
use crate::session::Session;
use crate::slots::{Slot, Slots};
use crate::store::{RosterChange, Store, StoreError};
use crate::tail::{Tail, Writer};

/// The sessions of an account, as a copy that needs no lock.
pub type Sessions = SmallVec<[Arc<Session>; 4]>;

/// What [`Account::place`] did.
pub(crate) enum Placed {
    /// The session is one of the account's.
    In,
    /// This session has the resource.
    Taken(Arc<Session>),
    /// There are as many sessions as are allowed; this one has lost its connection, of this number.
    Full(Option<(Arc<Session>, u64)>),
}

struct State {
    sessions: Sessions,
    roster: Arc<Roster>,
    slots: Slots,
}

/// An account of one of our domains.
pub struct Account {
    /// Its address.
    pub jid: BareJid,
    /// What waits for it. The lock is also the account's order: messages are stored and handed out under it.
    pub(crate) tail: Mutex<Tail>,
    pub(crate) writer: Arc<Writer>,
    store: Arc<dyn Store>,
    state: Mutex<State>,
    roster_turn: tokio::sync::Mutex<()>,
    used: AtomicU64,
    deleted: AtomicBool,
}

impl Account {
    pub(crate) fn new(
        jid: BareJid,
        roster: Roster,
        tail: Tail,
        writer: Arc<Writer>,
        store: Arc<dyn Store>,
    ) -> Arc<Self> {
        Arc::new(Self {
            jid,
            tail: Mutex::new(tail),
            writer,
            store,
            state: Mutex::new(State { sessions: Sessions::new(), roster: Arc::new(roster), slots: Slots::default() }),
            roster_turn: tokio::sync::Mutex::new(()),
            used: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
        })
    }

    /// Whether it has been deleted: what is written for it now would be found by the next who gets its name.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// An error has come for the account: if it is for a message that was sent to another server or a component, that may be
    /// sent again. Gives the session that has done so before: it waits for the same message as the one that sent it first.
    pub(crate) fn may_send_again(self: &Arc<Self>, error: &Stanza) -> Option<FullJid> {
        if error.head.kind != Kind::Message(MessageType::Error) {
            return None;
        }
        let Back { ids, again } = self.tail.lock().seen.come_back(error);
        ids.into_iter().for_each(|id| self.writer.forget(&self.jid, id, Some(self.clone())));
        again
    }

    /// Its sessions, detached ones included.
    pub fn sessions(&self) -> Sessions {
        self.state.lock().sessions.clone()
    }

    /// The session with this resource.
    pub fn session(&self, resource: &str) -> Option<Arc<Session>> {
        self.state.lock().sessions.iter().find(|session| session.jid.resourcepart() == Some(resource)).cloned()
    }

    /// Takes a session in, as one of `most` at most and the only one with its resource. Looks and adds in one step,
    /// since many connections may bind at once.
    pub(crate) fn place(&self, session: &Arc<Session>, most: usize) -> Placed {
        let mut state = self.state.lock();
        if let Some(old) = state.sessions.iter().find(|other| other.jid == session.jid) {
            return Placed::Taken(old.clone());
        }
        if state.sessions.len() >= most {
            let detached = |other: &Arc<Session>| {
                let connection = other.connection();
                other.is_detached().then(|| (other.clone(), connection))
            };
            return Placed::Full(state.sessions.iter().find_map(detached));
        }
        state.sessions.push(session.clone());
        Placed::In
    }

    /// Takes in a session that has come back, whatever the limits are now. `false` when its resource is taken.
    pub(crate) fn adopt(&self, session: &Arc<Session>) -> bool {
        let mut state = self.state.lock();
        let is_free = !state.sessions.iter().any(|other| other.jid == session.jid);
        if is_free {
            state.sessions.push(session.clone());
        }
        is_free
    }

    pub(crate) fn remove_session(&self, session: &Arc<Session>) {
        self.state.lock().sessions.retain(|other| !Arc::ptr_eq(other, session));
    }

    /// The roster as it is now.
    pub fn roster(&self) -> Arc<Roster> {
        self.state.lock().roster.clone()
    }

    /// Waits until nobody else changes what is stored for the account, and keeps others from it as long as the guard
    /// lives, so that memory and disk change in the same order. Not to be held over [`Self::change_roster`].
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.roster_turn.lock().await
    }

    /// Reads the roster with no change on its way: what `read` sends comes between what is told of the changes before and
    /// after.
    pub async fn read_roster<T>(&self, read: impl FnOnce(&Roster) -> T) -> T {
        let _turn = self.roster_turn.lock().await;
        read(&self.roster())
    }

    /// Changes the roster: `decide` sees it as it is, alone, with the version for changed items, and lists the changes.
    /// When they are on disk, `tell` is called with what `decide` gave beside them; the next change comes after it, so
    /// that what `tell` sends is in the order of the versions.
    pub async fn change_roster<T, U>(
        &self,
        decide: impl FnOnce(&Roster, u64) -> (Vec<RosterChange>, T),
        tell: impl FnOnce(T) -> U,
    ) -> Result<U, StoreError> {
        let _turn = self.roster_turn.lock().await;
        let roster = self.roster();
        let (changes, decided) = decide(&roster, roster.version() + 1);
        drop(roster);
        if !changes.is_empty() {
            self.store.change_roster(&self.jid, &changes).await?;
            Arc::make_mut(&mut self.state.lock().roster).apply(&changes);
        }
        Ok(tell(decided))
    }

    /// A copy of what a module keeps in the account.
    pub fn get<T: std::any::Any + Send + Clone>(&self, slot: Slot<T>) -> Option<T> {
        self.state.lock().slots.get(slot).cloned()
    }

    /// Reads what a module keeps in the account. The account is locked meanwhile.
    pub fn with<T: std::any::Any + Send, R>(&self, slot: Slot<T>, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.state.lock().slots.get(slot).map(f)
    }

    /// Changes what a module keeps in the account, made by default first. The account is locked meanwhile.
    pub fn update<T: std::any::Any + Send + Default, R>(
        &self,
        slot: Slot<T>,
        f: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        self.state.lock().slots.entry(slot).map(f)
    }

    /// Puts what a module keeps into the account.
    pub fn set<T: std::any::Any + Send>(&self, slot: Slot<T>, value: T) {
        self.state.lock().slots.set(slot, value);
    }
}

const SHARDS: usize = 64;

/// A shard of the loaded accounts, and the turn of those who load one.
#[derive(Default)]
struct Shard {
    loaded: RwLock<HashMap<BareJid, Arc<Account>, foldhash::fast::RandomState>>,
    loading: tokio::sync::Mutex<()>,
}

/// The accounts in memory.
pub struct Accounts {
    shards: Vec<Shard>,
    hasher: foldhash::fast::RandomState,
    clock: AtomicU64,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            hasher: foldhash::fast::RandomState::default(),
            clock: AtomicU64::new(0),
        }
    }
}

impl Accounts {
    fn shard(&self, bare: &str) -> Option<&Shard> {
        use std::hash::BuildHasher;
        self.shards.get(self.hasher.hash_one(bare) as usize % SHARDS)
    }

    /// The account, if it is in memory. One that is not has no session.
    pub fn loaded(&self, bare: &str) -> Option<Arc<Account>> {
        let account = self.shard(bare)?.loaded.read().get(bare).cloned()?;
        account.used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(account)
    }

    /// The account, loaded by `load` if need be; at most one load of an account runs at a time.
    pub(crate) async fn get<F>(&self, bare: &BareJid, load: F) -> Result<Option<Arc<Account>>, StoreError>
    where
        F: Future<Output = Result<Option<Arc<Account>>, StoreError>>,
    {
        if let Some(account) = self.loaded(bare.as_str()) {
            return Ok(Some(account));
        }
        let Some(shard) = self.shard(bare.as_str()) else { return Ok(None) };
        let _turn = shard.loading.lock().await;
        if let Some(account) = self.loaded(bare.as_str()) {
            return Ok(Some(account));
        }
        let Some(account) = load.await? else { return Ok(None) };
        account.used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        shard.loaded.write().insert(bare.clone(), account.clone());
        Ok(Some(account))
    }

    /// Forgets an account that was deleted. Its sessions are the caller's to end.
    pub(crate) fn forget(&self, bare: &BareJid) -> Option<Arc<Account>> {
        self.shard(bare.as_str())?.loaded.write().remove(bare.as_str())
    }

    /// Lets go of accounts that nobody has used between two calls: no session, nothing that waits in memory, no holder.
    pub(crate) fn sweep(&self) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        for shard in &self.shards {
            shard.loaded.write().retain(|_, account| {
                Arc::strong_count(account) > 1
                    || account.used.load(Ordering::Relaxed) >= now
                    || !account.state.lock().sessions.is_empty()
                    || !account.tail.lock().live.is_empty()
            });
        }
    }

    /// All accounts in memory.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.shards.iter().flat_map(|shard| shard.loaded.read().values().cloned().collect::<Vec<_>>()).collect()
    }
}
