//! XEP-0045 §18.1.2: those who are in a room and nowhere else. A session of ours is in a room as long as it lives and has not
//! taken its presence there back; after a restart those that go on are in it still, and of all others the room is rid
//! before anything else happens in it.
//!
//! Of people of other servers only their servers know. After a restart they are in the room still, as they believe
//! themselves; each is asked (XEP-0199), and is out if the answer is that nobody is there, or that there is no way to
//! their server. Who does not answer at all stays: a client may be without its connection for a while.
//!
//! When the server ends, those of its own are told (§11.2) whose sessions do not go on.

use std::sync::Arc;

use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::turns;
use rookery_xmpp::error::Condition;
use rookery_xmpp::jid::{BareJid, FullJid, Jid};

use super::rooms::{Job, Rooms};
use super::turn::Turn;
use crate::muc::outcome::{Outcome, Recipients};

/// The module that remembers where a session has sent its presence.
const PRESENCE: &str = "presence";

impl Turn {
    /// Takes those out of the room who are there no more. After a restart no session that is new was there, though it may
    /// be about to enter.
    pub(super) async fn sweep(&mut self, is_after_restart: bool) {
        let (sessions, mut is_sure) = (self.sessions(), true);
        let is_elsewhere = |session: &&FullJid| self.server.host(session.domainpart()).is_none();
        let elsewhere: Vec<FullJid> =
            sessions.iter().filter(|_| is_after_restart).filter(is_elsewhere).cloned().collect();
        for session in sessions.iter() {
            match find(&self.server, &self.hall.jid, session, is_after_restart).await {
                // Its farewell is on its way; whoever has its address now comes in behind that.
                Found::There(stream) if self.is_another(session, stream) => {}
                Found::There(stream) => self.know_stream(session, stream),
                Found::Ghost => {
                    if let Some(mut outcome) = self.with(|room, _| room.gone(session)) {
                        // Whoever has its address now was not in the room, and may be about to enter.
                        outcome.send.retain(|out| !matches!(&out.to, Recipients::One(jid) if *jid == **session));
                        // Answers sweep nothing themselves.
                        Box::pin(self.answer(outcome, None, None)).await;
                    }
                }
                Found::Unknown => is_sure = false,
            }
        }
        if let Some(outcome) = self.with(|room, _| room.ask_whether_there(&elsewhere)).filter(|_| !elsewhere.is_empty())
        {
            Box::pin(self.answer(outcome, None, None)).await;
        }
        if let Some(open) = self.open.as_mut() {
            open.swept = is_sure.then(turns::now);
        }
    }

    /// Something for somebody of another server has come back, for this reason. If that is that there is no way to the
    /// server, all of its people in the room are gone, and need not be told of each other. What the people of a server say
    /// themselves is each one's own matter.
    pub(super) async fn see_to_cut_off(&mut self, from: &Jid, condition: Condition) {
        let domain = from.domainpart();
        if self.server.host(domain).is_some() {
            return;
        }
        let Some(failure) = self.server.unreachable(self.rooms.domain(), domain) else { return };
        let is_ours = condition == failure.condition || condition == Condition::RemoteServerTimeout;
        if !failure.definite && !is_ours {
            return;
        }
        let gone: Vec<FullJid> = self.sessions().iter().filter(|jid| jid.domainpart() == domain).cloned().collect();
        if gone.is_empty() {
            return;
        }
        if let Some(outcome) = self.with(|room, _| room.gone_together(&gone)) {
            self.answer(outcome, None, None).await;
        }
    }
}

/// What has become of a session in a room.
enum Found {
    /// It is there, by this stream if it is ours.
    There(Option<u64>),
    Ghost,
    /// The database does not say.
    Unknown,
}

async fn find(server: &Arc<Server>, room: &BareJid, jid: &FullJid, is_after_restart: bool) -> Found {
    let Some(host) = server.host(jid.domainpart()) else { return Found::There(None) };
    let is_remembered = host.table.modules.iter().any(|(name, _)| *name == PRESENCE);
    match server.find_session(jid).await {
        Ok(Some(session)) if is_after_restart && !session.is_from_last_run() => Found::Ghost,
        Ok(Some(session)) if is_remembered && !is_in(server, room, &session) => Found::Ghost,
        Ok(Some(session)) => Found::There(Some(session.stream.id)),
        Ok(None) => Found::Ghost,
        Err(_) => Found::Unknown,
    }
}

fn is_in(server: &Arc<Server>, room: &BareJid, session: &Session) -> bool {
    let is_there =
        |directed: &std::collections::BTreeSet<Jid>| directed.iter().any(|to| to.bare_str() == room.as_str());
    session.with(server.directed, is_there) == Some(true)
}

impl Rooms {
    /// Tells those whose sessions end with the server that they are out.
    pub(super) async fn say_farewell(self: &Arc<Self>, server: &Arc<Server>) {
        for room in self.loaded() {
            let here = server.clone();
            let farewell = move |room: Option<&mut crate::muc::room::Room>| {
                let Some(room) = room else { return Outcome::default() };
                let mut outcome = room.shutdown();
                // One that was never configured is not there any more afterwards.
                let is_lost = room.is_locked();
                outcome.send.retain(|delivery| match &delivery.to {
                    Recipients::One(jid) => is_lost || !goes_on(&here, jid),
                    Recipients::Many { .. } => true,
                });
                outcome
            };
            self.give(server, &room, Job::Ask(Box::new(farewell))).await;
        }
    }
}

/// Whether a session outlives the server's end: those of other servers do.
fn goes_on(server: &Server, jid: &Jid) -> bool {
    if server.host(jid.domainpart()).is_none() {
        return true;
    }
    let session = jid.resourcepart().and_then(|resource| server.accounts.loaded(jid.bare_str())?.session(resource));
    session.is_some_and(|session| session.is_resumable())
}
