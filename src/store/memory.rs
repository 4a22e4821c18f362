//! A database in memory, for tests: it behaves as the others do, and can be told to fail, to be slow, and to hold commits
//! back, so that a test decides when a message is on disk.

mod archive;
mod rooms;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use rookery_core::roster::RosterItem;
use rookery_core::store::{
    AccountInfo, AccountStore, ArchiveEnds, ArchivePage, ArchiveQuery, ArchiveStore, Conversation, KeyValueStore,
    OutgoingEntry, OutgoingStore, RoomWrite, RosterChange, RosterStore, SavedSession, Seen, SessionStore, Store,
    StoreError, StoreResult, StoredRoster, TailChange, TailEntry, TailSize, TailStore,
};
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::sasl::Credentials;
use tokio::sync::watch;

use self::archive::Messages;
use self::rooms::Room;
use crate::codec::to_column;
use crate::health::{DEADLINE, Fault, Health, Outcome};
use crate::rows::REMOVALS;

/// A database that is gone with the process.
pub struct MemoryStore {
    health: Health,
    state: Mutex<State>,
    failing: Mutex<Option<StoreError>>,
    slow: Mutex<Duration>,
    doubtful: AtomicBool,
    paused: watch::Sender<bool>,
    /// Commits that wait for the pause to end.
    held: watch::Sender<usize>,
    commits: AtomicU64,
    tails: Mutex<Tails>,
}

/// Pages of tails that were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tails {
    /// All of them.
    pub all: usize,
    /// Those that are being read.
    pub now: usize,
    /// So many were at once at most.
    pub most: usize,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<BareJid, Account>,
    rooms: BTreeMap<BareJid, Room>,
    values: BTreeMap<(BareJid, String, String), Vec<u8>>,
    outgoing: BTreeMap<u64, OutgoingEntry>,
    last_id: u64,
    last_account: u64,
    /// Up to which id digests are forgotten.
    forgotten: u64,
}

struct Account {
    number: u64,
    created: SystemTime,
    credentials: Credentials,
    items: BTreeMap<BareJid, RosterItem>,
    removed: BTreeMap<BareJid, u64>,
    requests: BTreeMap<BareJid, Vec<u8>>,
    messages: Messages,
    sessions: BTreeMap<FullJid, SavedSession>,
}

impl State {
    /// The messages of an account or a room.
    fn messages(&self, owner: &BareJid) -> Option<&Messages> {
        let of_account = self.accounts.get(owner).map(|account| &account.messages);
        of_account.or_else(|| self.rooms.get(owner).map(|room| &room.messages))
    }

    fn messages_mut(&mut self, owner: &BareJid) -> Option<&mut Messages> {
        match self.accounts.get_mut(owner) {
            Some(account) => Some(&mut account.messages),
            None => self.rooms.get_mut(owner).map(|room| &mut room.messages),
        }
    }

    /// All messages, by their owners.
    fn all(&self) -> impl Iterator<Item = (&BareJid, &Messages)> {
        let of_accounts = self.accounts.iter().map(|(jid, account)| (jid, &account.messages));
        of_accounts.chain(self.rooms.iter().map(|(jid, room)| (jid, &room.messages)))
    }
}

/// What a call does to the data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty database that works.
    pub fn new() -> Self {
        Self {
            health: Health::new("memory".into(), DEADLINE, |_| Fault::Corrupt),
            state: Mutex::default(),
            failing: Mutex::default(),
            slow: Mutex::default(),
            doubtful: AtomicBool::new(false),
            paused: watch::Sender::new(false),
            held: watch::Sender::new(0),
            commits: AtomicU64::new(0),
            tails: Mutex::default(),
        }
    }

    /// From now on every call fails with this error (`Full`: every call that writes); `None` ends that.
    pub fn fail(&self, error: Option<StoreError>) {
        *self.failing.lock() = error;
    }

    /// From now on every call takes this long on tokio's clock, and fails as `Unavailable` where that is beyond
    /// [`DEADLINE`]; zero ends that.
    pub fn slow(&self, by: Duration) {
        *self.slow.lock() = by;
    }

    /// While this is set, [`TailStore::commit`] stores its batch and says that it could not, as a database does whose
    /// answer is lost on the way.
    pub fn doubt(&self, on: bool) {
        self.doubtful.store(on, Ordering::Relaxed);
    }

    /// From now on [`TailStore::commit`] waits for [`MemoryStore::resume_commits`]: nothing is stored before, and the
    /// deadline does not run, so that a paused clock does not end the wait.
    pub fn pause_commits(&self) {
        self.paused.send_replace(true);
    }

    /// Lets the commits that wait, and all later ones, go through.
    pub fn resume_commits(&self) {
        self.paused.send_replace(false);
    }

    /// Waits until at least so many commits are held by [`MemoryStore::pause_commits`].
    pub async fn commits_held(&self, at_least: usize) {
        // The sender lives in self, so the channel cannot close meanwhile.
        let _ = self.held.subscribe().wait_for(|held| *held >= at_least).await;
    }

    /// How many calls of [`TailStore::commit`] have succeeded.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// How many pages of tails were asked for.
    pub fn tails(&self) -> Tails {
        *self.tails.lock()
    }

    async fn call<T>(&self, access: Access, work: impl FnOnce(&mut State) -> Outcome<T> + Send) -> StoreResult<T> {
        let call = async {
            let slow = *self.slow.lock();
            if !slow.is_zero() {
                tokio::time::sleep(slow).await;
            }
            match &*self.failing.lock() {
                Some(StoreError::Full(_)) if access == Access::Read => {}
                Some(error) => return Err(error.clone().into()),
                None => {}
            }
            work(&mut self.state.lock())
        };
        match access {
            Access::Read => self.health.read(call).await,
            Access::Write => self.health.write(call).await,
        }
    }

    /// Looks at the messages of an account or a room; at none if it is not there.
    async fn of<T>(&self, owner: &BareJid, look: impl FnOnce(&Messages) -> T + Send) -> StoreResult<T> {
        self.call(Access::Read, |state| Ok(look(state.messages(owner).unwrap_or(&Messages::default())))).await
    }

    async fn wait_while_paused(&self) {
        let mut paused = self.paused.subscribe();
        if *paused.borrow_and_update() {
            let _held = Held::new(&self.held);
            let _ = paused.wait_for(|paused| !paused).await;
        }
    }
}

/// Counts a commit that waits, until it is dropped.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|held| *held += 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn credentials(&self, user: &BareJid) -> StoreResult<Option<Credentials>> {
        self.call(Access::Read, |state| Ok(state.accounts.get(user).map(|account| account.credentials.clone()))).await
    }

    async fn account_exists(&self, user: &BareJid) -> StoreResult<bool> {
        self.call(Access::Read, |state| Ok(state.accounts.contains_key(user))).await
    }

    async fn create_account(&self, user: &BareJid, credentials: &Credentials) -> StoreResult<bool> {
        self.call(Access::Write, |state| {
            if state.accounts.contains_key(user) || state.rooms.contains_key(user) {
                return Ok(false);
            }
            state.last_account += 1;
            let account = Account {
                number: state.last_account,
                created: SystemTime::now(),
                credentials: credentials.clone(),
                items: BTreeMap::new(),
                removed: BTreeMap::new(),
                requests: BTreeMap::new(),
                messages: Messages::default(),
                sessions: BTreeMap::new(),
            };
            state.accounts.insert(user.clone(), account);
            Ok(true)
        })
        .await
    }

    async fn set_credentials(&self, user: &BareJid, credentials: &Credentials) -> StoreResult<bool> {
        self.call(Access::Write, |state| {
            Ok(state
                .accounts
                .get_mut(user)
                .map(|account| {
                    account.credentials = credentials.clone();
                    account.sessions.values_mut().for_each(|session| session.expires = SystemTime::UNIX_EPOCH);
                })
                .is_some())
        })
        .await
    }

    async fn delete_account(&self, user: &BareJid) -> StoreResult<bool> {
        self.call(Access::Write, |state| {
            state.values.retain(|(owner, _, _), _| owner != user);
            Ok(state.accounts.remove(user).is_some())
        })
        .await
    }

    async fn purge_deleted(&self, _: usize) -> StoreResult<bool> {
        self.call(Access::Write, |_| Ok(false)).await
    }

    async fn accounts(&self, domain: &BareJid) -> StoreResult<Vec<AccountInfo>> {
        self.call(Access::Read, |state| {
            let accounts = state.accounts.iter();
            Ok(accounts
                .filter(|(jid, _)| jid.domainpart() == domain.as_str())
                .map(|(jid, account)| AccountInfo { jid: jid.clone(), created: account.created })
                .collect())
        })
        .await
    }
}

#[async_trait]
impl RosterStore for MemoryStore {
    async fn roster(&self, user: &BareJid) -> StoreResult<StoredRoster> {
        self.call(Access::Read, |state| {
            let Some(account) = state.accounts.get(user) else {
                return Ok(StoredRoster::default());
            };
            let mut removed: Vec<_> = account.removed.clone().into_iter().collect();
            removed.sort_by_key(|(_, version)| *version);
            let of_items = account.items.values().map(|item| item.version);
            let of_removed = account.removed.values().copied();
            Ok(StoredRoster {
                epoch: account.number,
                version: of_items.chain(of_removed).max().unwrap_or(0),
                items: account.items.values().cloned().collect(),
                removed,
                requests: account.requests.clone().into_iter().collect(),
            })
        })
        .await
    }

    async fn change_roster(&self, user: &BareJid, changes: &[RosterChange]) -> StoreResult<()> {
        self.call(Access::Write, |state| {
            let Some(account) = state.accounts.get_mut(user) else {
                return Ok(());
            };
            for change in changes {
                match change {
                    RosterChange::Put(item) => {
                        account.items.insert(item.jid.clone(), item.clone());
                    }
                    RosterChange::Remove(jid, version) => {
                        account.items.remove(jid);
                        account.removed.insert(jid.clone(), *version);
                    }
                    RosterChange::Request(jid, stanza) => {
                        account.requests.insert(jid.clone(), stanza.clone());
                    }
                    RosterChange::Unrequest(jid) => {
                        account.requests.remove(jid);
                    }
                }
            }
            let mut versions: Vec<u64> = account.removed.values().copied().collect();
            versions.sort_unstable_by(|a, b| b.cmp(a));
            if let Some(oldest) = usize::try_from(REMOVALS).ok().and_then(|n| versions.get(n)) {
                account.removed.retain(|_, version| *version > *oldest);
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl TailStore for MemoryStore {
    async fn commit(&self, changes: &[TailChange]) -> StoreResult<()> {
        self.wait_while_paused().await;
        self.call(Access::Write, |state| {
            let id_of = |change: &TailChange| match change {
                TailChange::Append(record) => Some(record.entry.id),
                TailChange::Deliver { id, .. } | TailChange::Refuse { id, .. } | TailChange::Forget { id, .. } => {
                    Some(*id)
                }
                TailChange::Room { change: RoomWrite::Message(record), .. } => Some(record.id),
                TailChange::Send(entry) => Some(entry.id),
                TailChange::Sent { id } => Some(*id),
                TailChange::Room { .. } => None,
            };
            for change in changes {
                to_column(id_of(change).unwrap_or(0))?;
            }
            for change in changes {
                state.last_id = state.last_id.max(id_of(change).unwrap_or(0));
                match change {
                    TailChange::Append(record) => {
                        if let Some(account) = state.accounts.get_mut(&record.entry.account) {
                            account.messages.append(record, state.forgotten);
                        }
                    }
                    TailChange::Deliver { account, id } => {
                        if let Some(messages) = state.messages_mut(account) {
                            messages.deliver(*id);
                        }
                    }
                    TailChange::Refuse { account, id } => {
                        if let Some(messages) = state.messages_mut(account) {
                            messages.refuse(*id);
                        }
                    }
                    TailChange::Forget { account, id } => {
                        if let Some(messages) = state.messages_mut(account) {
                            messages.forget(*id);
                        }
                    }
                    TailChange::Room { room, change } => state.change_room(room, change),
                    TailChange::Send(entry) => {
                        state.outgoing.entry(entry.id).or_insert_with(|| entry.clone());
                    }
                    TailChange::Sent { id } => {
                        state.outgoing.remove(id);
                    }
                }
            }
            state.trim_rooms();
            Ok(())
        })
        .await?;
        if self.doubtful.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the answer was lost".to_owned()));
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn tail_readers(&self) -> usize {
        2
    }

    async fn tail(&self, user: &BareJid, after: u64, up_to: u64, limit: usize) -> StoreResult<Vec<TailEntry>> {
        {
            let mut tails = self.tails.lock();
            tails.all += 1;
            tails.now += 1;
            tails.most = tails.most.max(tails.now);
        }
        let page = self.call(Access::Read, |state| {
            let Some(account) = state.accounts.get(user).filter(|_| after < up_to) else {
                return Ok(Vec::new());
            };
            let entries = account.messages.tail().filter(|entry| entry.id > after && entry.id <= up_to);
            Ok(entries.take(limit).cloned().collect())
        });
        let page = page.await;
        self.tails.lock().now -= 1;
        page
    }

    async fn tail_size(&self, user: &BareJid) -> StoreResult<TailSize> {
        self.call(Access::Read, |state| {
            let entries = state.accounts.get(user).into_iter();
            let mut size = TailSize::default();
            for entry in entries.flat_map(|account| account.messages.tail()) {
                size.messages += 1;
                size.bytes += entry.stanza.len() as u64;
            }
            Ok(size)
        })
        .await
    }

    async fn last_id(&self) -> StoreResult<u64> {
        self.call(Access::Read, |state| Ok(state.last_id)).await
    }

    async fn seen(&self, user: &BareJid, after: u64, up_to: u64, limit: usize) -> StoreResult<Vec<Seen>> {
        self.of(user, |messages| messages.seen(after, up_to, limit)).await
    }

    async fn forget_seen(&self, up_to: u64) -> StoreResult<()> {
        self.call(Access::Write, |state| {
            state.forgotten = state.forgotten.max(up_to);
            state.accounts.values_mut().for_each(|account| account.messages.forget_seen(up_to));
            state.rooms.values_mut().for_each(|room| room.messages.forget_seen(up_to));
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl OutgoingStore for MemoryStore {
    async fn outgoing(&self, after: u64, limit: usize) -> StoreResult<Vec<OutgoingEntry>> {
        self.call(Access::Read, |state| {
            let entries = state.outgoing.range(after.saturating_add(1)..);
            Ok(entries.take(limit).map(|(_, entry)| entry.clone()).collect())
        })
        .await
    }
}

#[async_trait]
impl ArchiveStore for MemoryStore {
    async fn archive_page(&self, user: &BareJid, query: &ArchiveQuery) -> StoreResult<Option<ArchivePage>> {
        self.of(user, |messages| messages.page(query)).await
    }

    async fn archive_ends(&self, user: &BareJid) -> StoreResult<Option<ArchiveEnds>> {
        self.of(user, Messages::ends).await
    }

    async fn archived_id(&self, user: &BareJid, with: &BareJid, message_id: &str) -> StoreResult<Option<u64>> {
        self.of(user, |messages| messages.archived_id(with, message_id)).await
    }

    async fn set_displayed(&self, user: &BareJid, with: &BareJid, id: u64) -> StoreResult<bool> {
        let id = crate::codec::from_column(to_column(id)?)?;
        self.call(Access::Write, |state| {
            let account = state.accounts.get_mut(user);
            Ok(account.is_some_and(|account| account.messages.set_displayed(with, id)))
        })
        .await
    }

    async fn conversations(&self, user: &BareJid) -> StoreResult<Vec<Conversation>> {
        self.call(Access::Read, |state| {
            Ok(state.accounts.get(user).map(|account| account.messages.conversations()).unwrap_or_default())
        })
        .await
    }

    async fn expire_archive(&self, user: &BareJid, up_to: u64, limit: usize) -> StoreResult<bool> {
        self.call(Access::Write, |state| {
            let of_room = state.rooms.contains_key(user);
            Ok(state.messages_mut(user).is_some_and(|messages| messages.expire(up_to, limit, of_room)))
        })
        .await
    }

    async fn expired_accounts(
        &self,
        domain: &BareJid,
        up_to: u64,
        after: Option<&BareJid>,
        limit: usize,
    ) -> StoreResult<Vec<BareJid>> {
        self.call(Access::Read, |state| {
            let owners = state.all().filter(|(jid, messages)| {
                jid.domainpart() == domain.as_str()
                    && after.is_none_or(|after| *jid > after)
                    && messages.has_up_to(up_to, state.rooms.contains_key(*jid))
            });
            let mut owners: Vec<BareJid> = owners.map(|(jid, _)| jid.clone()).collect();
            owners.sort();
            owners.truncate(limit);
            Ok(owners)
        })
        .await
    }

    async fn is_findable(&self, owner: &BareJid) -> StoreResult<bool> {
        self.of(owner, Messages::is_findable).await
    }

    async fn index_words(&self, owner: &BareJid, limit: usize) -> StoreResult<bool> {
        self.call(Access::Write, |state| {
            Ok(state.messages_mut(owner).is_some_and(|messages| messages.make_findable(limit)))
        })
        .await
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn save_sessions(&self, sessions: &[SavedSession]) -> StoreResult<()> {
        self.call(Access::Write, |state| {
            for session in sessions {
                if let Some(account) = state.accounts.get_mut(session.jid.bare_str()) {
                    account.sessions.insert(session.jid.clone(), session.clone());
                }
            }
            Ok(())
        })
        .await
    }

    async fn take_sessions(&self, users: &[BareJid]) -> StoreResult<Vec<SavedSession>> {
        self.call(Access::Write, |state| {
            let take = |user| Some(std::mem::take(&mut state.accounts.get_mut(user)?.sessions));
            Ok(users.iter().filter_map(take).flat_map(BTreeMap::into_values).collect())
        })
        .await
    }

    async fn saved_accounts(&self) -> StoreResult<Vec<BareJid>> {
        self.call(Access::Read, |state| {
            let accounts = state.accounts.iter().filter(|(_, account)| !account.sessions.is_empty());
            Ok(accounts.map(|(jid, _)| jid.clone()).collect())
        })
        .await
    }
}

#[async_trait]
impl KeyValueStore for MemoryStore {
    async fn value(&self, owner: &BareJid, module: &str, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let place = (owner.clone(), module.to_owned(), key.to_owned());
        self.call(Access::Read, |state| Ok(state.values.get(&place).cloned())).await
    }

    async fn values(&self, owner: &BareJid, module: &str) -> StoreResult<Vec<(String, Vec<u8>)>> {
        let first = (owner.clone(), module.to_owned(), String::new());
        self.call(Access::Read, |state| {
            let values = state.values.range(first..);
            Ok(values
                .take_while(|((of, by, _), _)| of == owner && by == module)
                .map(|((_, _, key), value)| (key.clone(), value.clone()))
                .collect())
        })
        .await
    }

    async fn set_values(
        &self,
        owner: &BareJid,
        module: &str,
        changes: &[(String, Option<Vec<u8>>)],
    ) -> StoreResult<()> {
        self.call(Access::Write, |state| {
            for (key, value) in changes {
                let place = (owner.clone(), module.to_owned(), key.clone());
                match value {
                    Some(value) => state.values.insert(place, value.clone()),
                    None => state.values.remove(&place),
                };
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn close(&self) {}
}
