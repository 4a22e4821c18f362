//! The end of the server, and the sessions that outlive it (XEP-0198 §5).
//!
//! At the end all streams are closed, or left unfinished if their sessions go on. A session that can be resumed goes to the
//! database, once what its client has sent is stored: its counts, what the client has not acknowledged or was not sent, its
//! presence, what the modules keep in it (`restart/record.rs`). After the start it comes back, without a connection, when its account is loaded: at the latest when
//! somebody has something for it. Its row is gone before it is back: a server that is killed leaves no session behind whose
//! counts are not true any more, and its clients find in the tail what they had not confirmed.

mod ended;
mod record;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use rookery_xmpp::jid::BareJid;
use tracing::{error, info, warn};

pub(crate) use self::ended::Ended;
use self::record::Record;
use crate::account::Account;
use crate::module::SaveFn;
use crate::server::Server;
use crate::session::Session;
use crate::store::{SavedSession, StoreError};

/// How long a session waits for its client at least after the server has come back.
const LEAST: Duration = Duration::from_secs(60);
/// How long the modules may take to tell that the server ends.
const FAREWELLS: Duration = Duration::from_secs(2);
/// How long the sessions that cannot be resumed may take to end, and what is being handled to be done.
const LAST_ORDERS: Duration = Duration::from_secs(10);
/// How long the writer may take to write what waits.
const WRITING: Duration = Duration::from_secs(15);
/// How long the sessions may take to be saved.
const SAVING: Duration = Duration::from_secs(15);
/// Sessions in one transaction, and bytes of them.
const CHUNK: (usize, usize) = (200, 4 << 20);
/// How long to wait before sessions that could not be read are tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Accounts whose sessions of the last run have not come back yet.
pub(crate) struct Resting {
    state: RwLock<State>,
    /// Held by who moves rows.
    turn: tokio::sync::Mutex<()>,
}

struct State {
    accounts: HashMap<BareJid, Rows>,
    /// The server ends: where the rows are, they stay.
    over: bool,
}

/// Where an account's sessions are.
enum Rows {
    OnDisk,
    /// Here alone.
    InHand(Vec<SavedSession>),
}

impl Resting {
    /// The sessions of these accounts are on disk.
    pub(crate) fn new(accounts: Vec<BareJid>) -> Self {
        let accounts = accounts.into_iter().map(|account| (account, Rows::OnDisk)).collect();
        Self { state: RwLock::new(State { accounts, over: false }), turn: tokio::sync::Mutex::default() }
    }

    /// Whether an account has such sessions.
    pub(crate) fn has(&self, bare: &str) -> bool {
        self.state.read().accounts.contains_key(bare)
    }

    /// They have come back, or there is nobody whose they are.
    pub(crate) fn forget(&self, bare: &str) {
        if self.has(bare) {
            self.state.write().accounts.remove(bare);
        }
    }

    /// Their time is over.
    pub(crate) fn expire(&self, bare: &str) {
        if let Some(Rows::InHand(rows)) = self.state.write().accounts.get_mut(bare) {
            rows.iter_mut().for_each(|row| row.expires = UNIX_EPOCH);
        }
    }

    /// An account whose rows are on disk, and others of that sort: taken together they cost one transaction.
    fn batch(&self, user: &BareJid) -> Vec<BareJid> {
        let state = self.state.read();
        let others = state.accounts.iter().filter(|(other, rows)| matches!(rows, Rows::OnDisk) && *other != user);
        std::iter::once(user).chain(others.map(|(other, _)| other)).take(CHUNK.0).cloned().collect()
    }

    fn is_on_disk(&self, user: &BareJid) -> bool {
        matches!(self.state.read().accounts.get(user.as_str()), Some(Rows::OnDisk))
    }

    fn take(&self, bare: &str) -> Vec<SavedSession> {
        let mut state = self.state.write();
        let is_over = state.over;
        match state.accounts.get_mut(bare) {
            Some(Rows::InHand(rows)) if !is_over => std::mem::take(rows),
            _ => Vec::new(),
        }
    }

    /// Nothing comes back any more: what is not on disk.
    async fn close(&self) -> Vec<SavedSession> {
        let _turn = self.turn.lock().await;
        let state = &mut *self.state.write();
        state.over = true;
        let rows = state.accounts.values_mut().filter_map(|rows| match rows {
            Rows::InHand(rows) => Some(std::mem::take(rows)),
            Rows::OnDisk => None,
        });
        rows.flatten().collect()
    }
}

impl Server {
    // ---- the end --------------------------------------------------------------------------------------------------

    /// The first step of the end: all sessions are told, and close their streams. [`Self::finish`] is the last.
    pub async fn stop(self: &Arc<Self>) {
        self.stopping.store(true, Ordering::Release);
        for host in self.hosts() {
            for end in &host.table.ends {
                let end = tokio::time::timeout(FAREWELLS, end(self.clone()));
                if end.await.is_err() {
                    warn!("not everybody could be told in time that the server ends");
                }
            }
        }
        for account in self.accounts.all() {
            for session in account.sessions() {
                session.suspend();
            }
        }
    }

    /// The last step of the end, once the connections are gone: writes what waits, saves the sessions that can be resumed,
    /// and closes the database.
    pub async fn finish(self: &Arc<Self>) {
        let settled = tokio::time::timeout(LAST_ORDERS, async {
            let sessions: Vec<_> = self.accounts.all().iter().flat_map(|account| account.sessions()).collect();
            for session in sessions.iter().filter(|session| !session.cut()) {
                self.end_session(session).await;
            }
            for session in sessions {
                session.settled().await;
            }
        });
        if settled.await.is_err() {
            warn!("not all that clients have sent could be handled in time; they have no acknowledgement for it");
        }
        self.writer.close();
        let writing = self.writing.lock().take();
        if let Some(writing) = writing
            && tokio::time::timeout(WRITING, writing).await.is_err()
        {
            error!(
                "the database did not take the last messages in time; their senders have no acknowledgement for them"
            );
        }
        let mut saved = 0;
        match tokio::time::timeout(SAVING, self.save_all(&mut saved)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, saved, "not all sessions could be kept"),
            Err(_) => error!(saved, "the database did not take all sessions in time"),
        }
        self.store.close().await;
        info!(sessions = saved, "stopped; so many sessions wait for the next start");
    }

    async fn save_all(self: &Arc<Self>, saved: &mut usize) -> Result<(), StoreError> {
        self.ended.save(self.store.as_ref()).await?;
        let (mut rows, mut bytes) = (self.resting.close().await, 0);
        for account in self.accounts.all() {
            for session in account.sessions() {
                let Some(row) = self.lay_down(&account, &session) else { continue };
                bytes += row.state.len();
                rows.push(row);
                if rows.len() >= CHUNK.0 || bytes >= CHUNK.1 {
                    self.store.save_sessions(&rows).await?;
                    *saved += rows.len();
                    rows.clear();
                    bytes = 0;
                }
            }
        }
        if !rows.is_empty() {
            self.store.save_sessions(&rows).await?;
            *saved += rows.len();
        }
        Ok(())
    }

    /// Takes a session out of the server.
    fn lay_down(self: &Arc<Self>, account: &Arc<Account>, session: &Arc<Session>) -> Option<SavedSession> {
        let host = self.host(account.jid.domainpart())?;
        let save = |save: &SaveFn| self.panics.catch(|| save(self, session)).ok().flatten();
        let states = host.table.session_states.iter();
        let modules = states.filter_map(|(name, state, _)| Some(((*name).to_owned(), save(state)?))).collect();
        let rest = {
            let _tail = account.tail.lock();
            account.remove_session(session);
            session.lay_down()?
        };
        let expires = SystemTime::now() + rest.left;
        let state = Record { rest, modules }.write();
        Some(SavedSession { jid: session.jid.clone(), expires, state })
    }

    // ---- the start ------------------------------------------------------------------------------------------------

    /// Whether an account has sessions, or has some that have not come back since the start: who is not in memory is not
    /// there otherwise.
    pub fn may_be_there(&self, bare: &str) -> bool {
        self.resting.has(bare) || self.accounts.loaded(bare).is_some()
    }

    /// Brings back all sessions of the last run, one account after the other; those that are asked for come back before.
    pub async fn bring_all_back(self: &Arc<Self>) {
        let mut waiting: Vec<BareJid> = self.resting.state.read().accounts.keys().cloned().collect();
        // What a host that is not served any more has left is for when it is again.
        waiting.retain(|user| self.host(user.domainpart()).is_some());
        let mut failed = Vec::new();
        while !waiting.is_empty() {
            for users in waiting.chunks(CHUNK.0) {
                if self.stopping.load(Ordering::Acquire) {
                    return;
                }
                if let Err(error) = self.take_rows(users).await {
                    self.store_failed("cannot read the saved sessions; trying again", &error);
                    failed.extend_from_slice(users);
                    continue;
                }
                for user in users {
                    if self.resting.has(user.as_str()) && self.account(user).await.is_err() {
                        failed.push(user.clone());
                    }
                }
            }
            waiting = std::mem::take(&mut failed);
            if !waiting.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Takes an account's sessions off the disk, if it has any there. From then on they are in this process alone.
    pub(crate) async fn recall_sessions(self: &Arc<Self>, user: &BareJid) -> Result<(), StoreError> {
        if !self.resting.is_on_disk(user) {
            return Ok(());
        }
        let (server, users) = (self.clone(), self.resting.batch(user));
        // In a task of its own: between the database and here the rows must not go missing with whoever asked for them.
        let taken = tokio::spawn(async move { server.take_rows(&users).await });
        taken.await.unwrap_or_else(|failure| Err(StoreError::Unavailable(failure.to_string())))
    }

    async fn take_rows(&self, users: &[BareJid]) -> Result<(), StoreError> {
        let _turn = self.resting.turn.lock().await;
        if self.resting.state.read().over {
            return Err(StoreError::Unavailable("the server ends".to_owned()));
        }
        let users: Vec<BareJid> = users.iter().filter(|user| self.resting.is_on_disk(user)).cloned().collect();
        if users.is_empty() {
            return Ok(());
        }
        let rows = self.store.take_sessions(&users).await?;
        let accounts = &mut self.resting.state.write().accounts;
        for user in users {
            accounts.insert(user, Rows::InHand(Vec::new()));
        }
        for row in rows {
            if let Some(Rows::InHand(rows)) = accounts.get_mut(row.jid.bare_str()) {
                rows.push(row);
            }
        }
        Ok(())
    }

    /// Puts the sessions of the last run into an account that has just been loaded, before anybody sees it.
    pub(crate) fn bring_back(self: &Arc<Self>, account: &Arc<Account>) {
        for row in self.resting.take(account.jid.as_str()) {
            let (jid, now) = (row.jid.clone(), SystemTime::now());
            // A session whose time is over comes back, too, to end as any other.
            let left = row.expires.duration_since(now).unwrap_or_default();
            let left = if left.is_zero() { left } else { left.clamp(LEAST, self.resume_limit().max(LEAST)) };
            if !self.rise(account, row, left) {
                error!(session = %jid, "a saved session cannot be read; its client has to log in anew");
            }
        }
        // If one that held a message has not come back, the others get it; unless somebody collects what waits.
        let (mut tail, sessions) = (account.tail.lock(), account.sessions());
        tail.release_idle();
        let is_collected = sessions.iter().any(|session| session.collects_mail());
        if tail.size.messages > tail.live.len() as u64 && !is_collected {
            let sessions = sessions.into_iter();
            let reachable = sessions.filter(|session| session.priority().is_some_and(|priority| priority >= 0));
            reachable.for_each(|session| session.read_on_from(0));
        }
    }

    fn rise(self: &Arc<Self>, account: &Arc<Account>, row: SavedSession, left: Duration) -> bool {
        let Some(host) = self.host(account.jid.domainpart()) else { return false };
        let record = Record::read(&row.state, account, &mut account.tail.lock(), self.next_stream(), left);
        let Some(Record { rest, modules }) = record else { return false };
        let (id, limits) = (rest.id.clone(), self.bounds.load().session);
        let session = Session::rise(row.jid, account.clone(), limits, rest);
        if !account.adopt(&session) {
            return false;
        }
        for (name, state) in &modules {
            let restore = host.table.session_states.iter().find(|(module, _, _)| module == name);
            if let Some((_, _, restore)) = restore
                && self.panics.catch(|| restore(self, &session, state)).is_err()
            {
                error!(session = %session.jid, module = name, "a module panicked over a saved session");
            }
        }
        if !left.is_zero() {
            self.add_resumable(id, &session);
        }
        self.end_later(&session, session.connection(), left);
        true
    }
}
