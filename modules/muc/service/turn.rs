//! A turn with a room: whoever is busy with it does one thing after the other until nothing waits.
//!
//! What is done in a turn may come back to the same room before it is over; it then waits in the queue. A turn that breaks
//! off (a bug, a task that is dropped) leaves no room half done: it is read from the database again, with those who are
//! in it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rookery_core::fan_out::{Audience, Streams};
use rookery_core::ids;
use rookery_core::module::Arrival;
use rookery_core::server::Server;
use rookery_core::store::StoreError;
use rookery_core::turns;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::stanza::{IqType, Kind, MessageType, PresenceType, Stanza};
use tracing::{error, warn};

use super::codec;
use super::rate::Rates;
use super::rooms::{Ask, Hall, Haunted, Job, Rooms};
use crate::muc::history::{KNOWN, MEMORY};
use crate::muc::leaving::error_in;
use crate::muc::outcome::{At, Outcome};
use crate::muc::room::Room;

/// After so many jobs somebody else goes on: a client's own task is not to be kept from its client for ever.
const FAIR: usize = 64;
/// How often a room is searched for those who are there no more.
const SWEEP: Duration = Duration::from_secs(600);

/// A room in memory.
pub(super) struct Open {
    pub(super) room: Room,
    /// The sessions in the room, as long as nobody comes or goes.
    pub(super) audiences: Vec<Audience>,
    /// By which stream the sessions of ours are in the room.
    pub(super) streams: Streams,
    /// Those who are there no more, until it is their turn to leave.
    pub(super) leaving: HashSet<FullJid>,
    pub(super) rates: Rates,
    /// When somebody last did something.
    pub(super) used: Instant,
    /// When all of those who are in it were last known to be there.
    pub(super) swept: Option<Instant>,
}

impl Open {
    pub(super) fn new(room: Room) -> Self {
        let now = turns::now();
        Self {
            room,
            audiences: Vec::new(),
            streams: Streams::new(),
            leaving: HashSet::new(),
            rates: Rates::default(),
            used: now,
            swept: Some(now),
        }
    }
}

/// A turn.
pub(super) struct Turn {
    pub(super) rooms: Arc<Rooms>,
    pub(super) server: Arc<Server>,
    pub(super) hall: Arc<Hall>,
    pub(super) open: Option<Box<Open>>,
    /// A job is under way.
    in_job: bool,
    /// The hall is this turn's still.
    holds: bool,
}

/// Does what waits for a room.
pub(super) async fn run(rooms: Arc<Rooms>, server: Arc<Server>, hall: Arc<Hall>, open: Option<Box<Open>>) {
    let mut turn = Turn { rooms, server, hall, open, in_job: false, holds: true };
    for _ in 0..FAIR {
        let Some(job) = turn.next() else { return };
        turn.in_job = true;
        turn.work(job).await;
        turn.in_job = false;
    }
    // Dropped, it leaves the rest to somebody else.
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.holds {
            return;
        }
        if self.in_job {
            self.rooms.look_again(&self.hall.jid);
        }
        let open = self.open.take().filter(|_| !self.in_job);
        let mut state = self.hall.state.lock();
        state.room = open;
        if state.waiting.is_empty() {
            state.busy = false;
            return;
        }
        let (rooms, server, hall) = (self.rooms.clone(), self.server.clone(), self.hall.clone());
        drop(state);
        self.server.beside(async move {
            let open = hall.state.lock().room.take();
            run(rooms, server, hall, open).await;
        });
    }
}

/// The time and the next id, for what is done in a turn.
pub(super) fn now(server: &Server) -> At {
    At { now: SystemTime::now(), id: server.ids.next(), digest: None, stream: None }
}

impl Turn {
    /// What is to be done next; `None` when nothing is, and the room is free again.
    fn next(&mut self) -> Option<Job> {
        if self.open.as_ref().is_some_and(|open| open.room.is_gone()) {
            self.let_go();
            self.rooms.forget(&self.hall.jid);
        }
        let mut state = self.hall.state.lock();
        if let Some(job) = state.next() {
            return Some(job);
        }
        let is_left = self.open.is_none();
        state.room = self.open.take();
        state.busy = false;
        drop(state);
        self.holds = false;
        if is_left {
            self.rooms.leave(&self.hall);
        }
        None
    }

    async fn work(&mut self, job: Job) {
        match job {
            Job::Stanza(arrival) => self.stanza(arrival).await,
            Job::Lost(sessions) => {
                if let Some(outcome) = self.with(|room, _| room.gone_together(&sessions)) {
                    self.answer(outcome, None, None).await;
                }
            }
            Job::Gone(session, stream) => {
                // Whoever has come in by another stream since then stays.
                let is_known = |open: &Open| open.streams.get(&session).copied() == stream;
                if self.open.as_deref().is_some_and(is_known)
                    && let Some(outcome) = self.with(|room, _| room.gone(&session))
                {
                    self.answer(outcome, None, None).await;
                }
                if let Some(open) = self.open.as_mut() {
                    open.leaving.remove(&session);
                }
            }
            Job::Tick => self.tick().await,
            Job::Sweep => {
                if self.load().await.is_ok_and(|there| there) {
                    self.sweep(false).await;
                }
            }
            Job::Ask(ask) => self.ask(ask).await,
            Job::Found(founding) => self.found(*founding).await,
        }
    }

    /// Does something with the room, if it is in memory. A panic leaves no room.
    pub(super) fn with(&mut self, act: impl FnOnce(&mut Room, At) -> Outcome) -> Option<Outcome> {
        let at = self.at();
        let open = self.open.as_mut()?;
        match self.server.panics.catch(|| act(&mut open.room, at)) {
            Ok(outcome) => Some(outcome),
            Err(_) => {
                error!(room = %self.hall.jid, "a bug in a room; it is read from the database again");
                self.abandon();
                None
            }
        }
    }

    /// Lets the room go, whether all of it is on disk or not.
    fn let_go(&mut self) {
        self.open = None;
        if !self.server.has_stored_all() {
            self.rooms.unsettled.lock().insert(self.hall.jid.clone());
        }
    }

    /// The same with a room that may have people in it: it is soon read again.
    pub(super) fn abandon(&mut self) {
        self.open = None;
        self.rooms.look_again(&self.hall.jid);
    }

    pub(super) fn at(&self) -> At {
        now(&self.server)
    }

    async fn stanza(&mut self, arrival: Arrival) {
        if self.open.is_none() && !self.is_worth_loading(&arrival.stanza) {
            return;
        }
        if self.keeps_out(&arrival.stanza) {
            let error = StanzaError::new(Condition::Forbidden).with_by(self.hall.jid.clone());
            return self.server.bounce(&arrival.stanza, error, None).await;
        }
        match self.load().await {
            Ok(true) => {}
            Ok(false) => return self.without_room(arrival).await,
            Err(error) => return self.server.bounce(&arrival.stanza, error, None).await,
        }
        if let Err(error) = self.judge(&arrival.stanza) {
            return self.server.bounce(&arrival.stanza, error, None).await;
        }
        if self.is_for_archive(&arrival.stanza) {
            return self.ask_archive(arrival).await;
        }
        if self.is_late_farewell(&arrival) {
            return;
        }
        self.note_stream(&arrival);
        let at = At { digest: self.digest(&arrival), stream: arrival.stream(), ..self.at() };
        let Arrival { stanza, receipt, .. } = arrival;
        let asker = stanza.head.from.clone();
        let error = stanza.head.kind.is_error().then(|| error_in(&stanza).condition);
        let may_be_known = at.digest.is_some() && self.open.as_ref().is_some_and(|open| open.room.would_keep(&stanza));
        let copy = stanza.clone();
        match self.with(move |room, _| room.handle(at, copy)) {
            Some(outcome) => {
                // The first copy of what was sent again may be on its way to the disk still.
                if may_be_known && outcome.store.is_empty() && outcome.pending.is_none() {
                    self.answer(outcome, asker.as_ref(), None).await;
                    return self.server.hold_until_stored(receipt);
                }
                self.answer(outcome, asker.as_ref(), receipt).await;
            }
            None => self.server.bounce(&stanza, Condition::InternalServerError.into(), None).await,
        }
        if let (Some(condition), Some(from)) = (error, asker) {
            self.see_to_cut_off(&from, condition).await;
        }
    }

    /// A session that sends its presence is the one under its address that is in the room, or comes in. By now it may have gone,
    /// and another have come under its address.
    pub(super) fn note_stream(&mut self, arrival: &Arrival) {
        let head = &arrival.stanza.head;
        let from = head.from.as_ref().and_then(|from| from.full());
        if let Some(from) = from.filter(|_| head.kind == Kind::Presence(PresenceType::Available)) {
            self.know_stream(&from, arrival.session);
        }
    }

    /// Whether another session is in the room under this address.
    pub(super) fn is_another(&self, session: &FullJid, stream: Option<u64>) -> bool {
        let known = self.open.as_ref().and_then(|open| open.streams.get(session).copied());
        known.is_some() && stream.is_some() && known != stream
    }

    /// Whether somebody takes leave whose place another session has under the same address.
    fn is_late_farewell(&self, arrival: &Arrival) -> bool {
        let head = &arrival.stanza.head;
        let from = head.from.as_ref().filter(|_| head.kind == Kind::Presence(PresenceType::Unavailable));
        from.and_then(|from| from.full()).is_some_and(|from| self.is_another(&from, arrival.session))
    }

    /// The stream by which a session is in the room.
    pub(super) fn know_stream(&mut self, session: &FullJid, stream: Option<u64>) {
        let (Some(open), Some(stream)) = (self.open.as_mut(), stream) else { return };
        if open.streams.insert(session.clone(), stream) != Some(stream) {
            open.audiences.clear();
        }
    }

    /// Only messages to all are taken once.
    fn digest(&self, arrival: &Arrival) -> Option<u64> {
        let is_for_all = arrival.stanza.head.kind == Kind::Message(MessageType::Groupchat);
        if is_for_all { arrival.digest() } else { None }
    }

    /// Somebody who goes from where nobody is, and errors, need no room.
    fn is_worth_loading(&self, stanza: &Stanza) -> bool {
        match stanza.head.kind {
            Kind::Presence(PresenceType::Unavailable) => self.rooms.haunted.lock().contains_key(&self.hall.jid),
            Kind::Iq(IqType::Result) => false,
            kind => !kind.is_error(),
        }
    }

    /// Whether a stanza is somebody's who is on the service's list, and not in the room. Who is in it is its admins' to deal
    /// with, and may leave.
    fn keeps_out(&self, stanza: &Stanza) -> bool {
        let is_asked = match stanza.head.kind {
            Kind::Presence(kind) => kind == PresenceType::Available,
            Kind::Message(kind) => kind != MessageType::Error,
            Kind::Iq(kind) => matches!(kind, IqType::Get | IqType::Set),
        };
        let Some(from) = stanza.head.from.as_ref().filter(|_| is_asked) else { return false };
        let is_in = self.open.as_ref().is_some_and(|open| open.room.seat_of(from).is_some());
        !is_in && self.rooms.terms().blocklist.holds(from)
    }

    /// Whether a stanza may come to the room now: rates, and what cannot be stored.
    fn judge(&mut self, stanza: &Stanza) -> Result<(), StanzaError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let now = turns::now();
        open.used = now;
        let terms = self.rooms.terms();
        let (is_message, is_counted) = match stanza.head.kind {
            Kind::Message(kind) => (true, kind != MessageType::Error),
            // Who comes, and comes, is shown to all as often.
            Kind::Presence(PresenceType::Available) => (false, true),
            _ => (false, false),
        };
        if let Some(from) = stanza.head.from.as_ref().filter(|_| is_counted) {
            // Nobody can use up what a room may say who says nothing in it.
            let is_said = is_message && open.room.hears(from, stanza);
            let fits = open.rates.person(terms.person_rate, from.bare(), now)
                && (!is_said || open.rates.room(terms.room_rate, now));
            if !fits {
                let error = StanzaError::new(Condition::PolicyViolation).with_kind(ErrorKind::Wait);
                return Err(error.with_text("More is said here than is allowed; please try again later."));
            }
        }
        let is_for_all = stanza.head.kind == Kind::Message(MessageType::Groupchat);
        if is_for_all && open.room.would_keep(stanza) {
            return self.server.refuses_to_store().map_or(Ok(()), Err);
        }
        if stanza.head.kind == Kind::Presence(PresenceType::Available) {
            return self.server.refuses_all().map_or(Ok(()), Err);
        }
        Ok(())
    }

    async fn tick(&mut self) {
        let Some(outcome) = self.with(|room, at| room.tick(at)) else { return };
        self.answer(outcome, None, None).await;
        let (now, terms) = (turns::now(), self.rooms.terms());
        let Some(open) = self.open.as_mut() else { return };
        open.room.set_service(terms.service.clone());
        let here = open.room.sessions();
        if open.streams.len() > here.len() {
            let here: HashSet<&FullJid> = here.iter().collect();
            open.streams.retain(|session, _| here.contains(session));
        }
        let quiet = now.saturating_duration_since(open.used);
        let is_empty = open.room.occupants() == 0 && !open.room.is_locked();
        if is_empty && quiet >= terms.idle {
            self.let_go();
        } else if open.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP) {
            self.sweep(false).await;
        }
    }

    async fn ask(&mut self, ask: Ask) {
        if let Err(error) = self.load().await {
            // Whoever asks learns that there is no answer, which is not that there is no room.
            warn!(room = %self.hall.jid, %error, "a room cannot be read");
            return;
        }
        let outcome = match self.open.as_mut() {
            Some(open) => self.server.panics.catch(|| ask(Some(&mut open.room))).ok(),
            None => self.server.panics.catch(|| ask(None)).ok(),
        };
        match outcome {
            Some(outcome) => self.answer(outcome, None, None).await,
            None => self.abandon(),
        }
    }

    // ---- loading --------------------------------------------------------------------------------------------------

    /// Sees to it that the room is in memory; `false` when there is none.
    pub(super) async fn load(&mut self) -> Result<bool, StanzaError> {
        if self.open.is_some() {
            return Ok(true);
        }
        if self.rooms.unsettled.lock().contains(&self.hall.jid) {
            self.server.stored().await?;
            self.rooms.unsettled.lock().remove(&self.hall.jid);
        }
        let Some(room) = self.read().await? else {
            self.rooms.haunted.lock().remove(&self.hall.jid);
            // One that was lost before it was stored counts for nobody.
            self.rooms.forget(&self.hall.jid);
            return Ok(false);
        };
        self.open = Some(Box::new(Open::new(room)));
        let haunted = self.rooms.haunted.lock().remove(&self.hall.jid);
        if haunted.is_some() || self.open.as_ref().is_some_and(|open| open.room.occupants() > 0) {
            // Before anything else happens in it, whoever is not there any more leaves.
            self.sweep(haunted == Some(Haunted::SinceRestart)).await;
        }
        Ok(self.open.is_some())
    }

    async fn read(&mut self) -> Result<Option<Room>, StoreError> {
        let (store, jid) = (&self.server.store, &self.hall.jid);
        let Some(stored) = store.room(jid).await? else { return Ok(None) };
        let (mut image, _) = codec::image(jid, stored)?;
        let mut known = store.seen(jid, ids::since(MEMORY), u64::MAX, KNOWN).await?;
        known.sort_unstable_by_key(|seen| seen.id);
        image.known = known.into_iter().map(|seen| (seen.digest, seen.id)).collect();
        if image.config.history > 0 {
            let history = store.room_history(jid, image.config.history).await?;
            image.history = history.into_iter().filter_map(codec::message).collect();
        }
        let terms = self.rooms.terms();
        Ok(Some(Room::restore(jid.clone(), terms.service.clone(), image, self.at())))
    }

    /// Those who are in the room, and what of them is here.
    pub(super) fn sessions(&self) -> Arc<[FullJid]> {
        self.open.as_ref().map(|open| open.room.sessions()).unwrap_or_default()
    }
}
