//! Who of other servers believes that a session of ours is there. Their servers ask nobody again: when this one is killed, they
//! would show its users for as long as these stay away, and rooms would keep them.
//!
//! So it is noted on disk which sessions presence was sent away for, and to whom by direction (RFC 6121 §4.6); those of the last
//! run that are not there any more are said to be gone when the server is up again. Changes are written all together every
//! other second: what is noted is no more exact than that, and costs a login nothing. Who hears twice that somebody is gone
//! has heard nothing new.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_core::module::Module;
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_core::store::StoreError;
use rookery_xmpp::jid::{BareJid, FullJid, Jid};
use rookery_xmpp::stanza::{PresenceType, Stanza};
use tracing::{debug, warn};

use super::Presence;

/// How often changes are written.
pub(super) const ROUND: Duration = Duration::from_secs(2);

/// The notes of a host.
#[derive(Default)]
pub(super) struct Abroad(Mutex<State>);

#[derive(Default)]
struct State {
    /// Sessions of which others may believe something else than what is on disk.
    changed: BTreeSet<FullJid>,
    /// Those of the last run, and whom their presence was directed at, until somebody has seen to them.
    left: Vec<(FullJid, Vec<Jid>)>,
    /// The notes of the last run have been read.
    is_read: bool,
    /// Somebody is writing.
    is_busy: bool,
    /// The server ends: what its sessions say now may get nowhere any more.
    is_over: bool,
}

impl Abroad {
    /// Presence of a session goes to another server, or nobody there is to see it any more.
    pub(super) fn note(&self, session: &FullJid) {
        let mut state = self.0.lock();
        if !state.is_over {
            state.changed.insert(session.clone());
        }
    }

    /// Reads the notes of the last run, once.
    pub(super) async fn begin(&self, server: &Arc<Server>, host: &BareJid) -> Result<(), StoreError> {
        if self.0.lock().is_read {
            return Ok(());
        }
        let notes = server.store.values(host, Presence::NAME).await?;
        let read = notes.into_iter().filter_map(|(session, directed)| {
            let directed = String::from_utf8(directed).ok()?;
            Some((Jid::new(&session).ok()?.full()?, directed.lines().filter_map(|to| Jid::new(to).ok()).collect()))
        });
        let mut state = self.0.lock();
        if !state.is_read {
            (state.left, state.is_read) = (read.collect(), true);
        }
        Ok(())
    }

    /// Writes what has changed, then tells of those who did not come back.
    pub(super) fn go_round(self: &Arc<Self>, server: &Arc<Server>, host: &BareJid, noted: Slot<()>) {
        {
            let mut state = self.0.lock();
            if state.is_busy || (state.changed.is_empty() && state.left.is_empty()) {
                return;
            }
            state.is_busy = true;
        }
        let (abroad, beside, host) = (self.clone(), server.clone(), host.clone());
        server.beside(async move {
            abroad.tell_of_left(&beside, noted).await;
            abroad.write(&beside, &host).await;
            abroad.0.lock().is_busy = false;
        });
    }

    /// Writes for the last time. What sessions say while the server ends may not arrive any more, and is said again by the
    /// next one.
    pub(super) async fn end(&self, server: &Arc<Server>, host: &BareJid) {
        self.0.lock().is_over = true;
        self.write(server, host).await;
    }

    async fn write(&self, server: &Arc<Server>, host: &BareJid) {
        let changed = std::mem::take(&mut self.0.lock().changed);
        if changed.is_empty() {
            return;
        }
        let notes: Vec<_> = changed.iter().map(|jid| (jid.as_str().to_owned(), note(server, jid))).collect();
        if let Err(error) = server.store.set_values(host, Presence::NAME, &notes).await {
            warn!(%error, "cannot note who believes that a user is there; trying again");
            self.0.lock().changed.extend(changed);
        }
    }

    async fn tell_of_left(&self, server: &Arc<Server>, noted: Slot<()>) {
        let left = std::mem::take(&mut self.0.lock().left);
        for (jid, directed) in left {
            match server.find_session(&jid).await {
                Ok(session) => {
                    if let Some(session) = &session {
                        session.set(noted, ());
                    }
                    tell_of(server, &jid, &directed, session).await;
                    self.note(&jid);
                }
                Err(error) => {
                    debug!(%error, session = %jid, "it is not known whether a session has come back; asking again");
                    self.0.lock().left.push((jid, directed));
                }
            }
        }
    }
}

/// What is to be on disk of a session; `None`: nothing.
fn note(server: &Server, jid: &FullJid) -> Option<Vec<u8>> {
    let session = server.accounts.loaded(jid.bare_str())?.session(jid.resource())?;
    let directed = directed(server, &session);
    let is_seen = session.is_available() && session.account.roster().subscribers().any(|to| is_abroad(server, to));
    (is_seen || !directed.is_empty()).then(|| directed.join("\n").into_bytes())
}

fn directed(server: &Server, session: &Session) -> Vec<String> {
    let abroad = |directed: &BTreeSet<Jid>| {
        directed.iter().filter(|to| is_abroad(server, to)).map(|to| to.as_str().to_owned()).collect()
    };
    session.with(server.directed, abroad).unwrap_or_default()
}

/// Tells whoever may still believe in a session of the last run. One of the same name that is there now is another one, or has
/// come back: it is seen as it says itself, and only what it says nothing of is over.
async fn tell_of(server: &Arc<Server>, jid: &FullJid, directed: &[Jid], session: Option<Arc<Session>>) {
    let gone = Stanza::presence(PresenceType::Unavailable).from(jid.clone());
    if session.as_ref().is_none_or(|session| !session.is_available())
        && let Ok(Some(account)) = server.account(&jid.bare()).await
    {
        for contact in account.roster().subscribers().filter(|contact| is_abroad(server, contact)) {
            server.route_from(&account, gone.clone().to(contact.clone())).await;
        }
    }
    let stays = |to: &Jid| session.as_ref().and_then(|session| session.with(server.directed, |all| all.contains(to)));
    for to in directed.iter().filter(|to| stays(to) != Some(true)) {
        server.route(gone.clone().to(to.clone())).await;
    }
}

/// Whether an address is one of another server.
pub(super) fn is_abroad(server: &Server, jid: &Jid) -> bool {
    !server.is_ours(jid.domainpart())
}
