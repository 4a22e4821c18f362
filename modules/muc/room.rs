//! XEP-0045: Multi-User Chat: a room as a state machine. It is given stanzas one after the other, and says what goes out
//! and what is to be stored; it has no socket, no clock and no randomness.
//!
//! Here are its state and the way of a stanza to the file that deals with it. Rooms as a service (which there are, who may
//! create them, when they are loaded) are not the room's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, MessageType, PresenceType, Stanza};

use super::activity::Activity;
use super::affiliations::Affiliations;
use super::config::{Config, Limits};
use super::history::History;
use super::image::{Hats, Image, Person, RoomChange, Subject, Tokens};
use super::invitations::Invitations;
use super::nicks::NickKey;
use super::occupants::{Occupant, Occupants, Seat};
use super::outcome::{At, Outcome, Pending, Stored};
use super::permissions::Rank;
use super::queries::Queries;
use super::registration::Applications;
use super::roles::{Affiliation, Role};

/// The occupant id (XEP-0421) of a person, by room and bare JID.
pub type OccupantIds = Box<dyn Fn(&BareJid, &BareJid) -> String + Send + Sync>;

/// Makes what nobody can guess; `None` when the system has no random numbers.
pub type Unguessable = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What rooms have of their service.
pub struct Service {
    /// The bounds.
    pub limits: Limits,
    /// Makes occupant ids: stable, and such as nobody else can make.
    pub occupant_id: OccupantIds,
    /// Makes tokens (XEP-0488).
    pub token: Unguessable,
}

/// How far a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Created and not yet configured (§10.1): there is nobody in it but its creator, and nothing is stored.
    Locked {
        since: SystemTime,
    },
    Open,
    /// Destroyed; the service forgets it.
    Gone,
}

/// A room.
pub struct Room {
    pub(super) jid: BareJid,
    pub(super) service: Arc<Service>,
    pub(super) state: State,
    /// The creator has not been told yet (201).
    pub(super) is_new: bool,
    pub(super) created: SystemTime,
    pub(super) config: Arc<Config>,
    pub(super) people: Affiliations,
    pub(super) occupants: Occupants,
    pub(super) history: History,
    pub(super) subject: Option<Subject>,
    pub(super) vcard: Option<Element>,
    pub(super) hats: Hats,
    pub(super) tokens: Tokens,
    pub(super) invitations: Invitations,
    pub(super) applications: Applications,
    pub(super) queries: Queries,
    pub(super) activity: Activity,
    /// Members who are away are to be told still that something was said.
    pub(super) owes_word: bool,
    /// When people last spoke, while there is slow mode (XEP-0500).
    pub(super) spoke: BTreeMap<BareJid, SystemTime>,
    /// When visitors last asked for voice: those who have to wait before they ask again, in the room or not.
    pub(super) asked_voice: BTreeMap<BareJid, SystemTime>,
}

impl Room {
    pub(super) fn new(jid: BareJid, service: Arc<Service>, state: State, config: Config, at: At) -> Self {
        Self {
            history: History::new(config.history),
            jid,
            service,
            state,
            is_new: false,
            created: at.now,
            config: Arc::new(config),
            people: Affiliations::new(Vec::new(), at.id),
            occupants: Occupants::default(),
            subject: None,
            vcard: None,
            hats: Hats::default(),
            tokens: Tokens::default(),
            invitations: Invitations::default(),
            applications: Applications::default(),
            queries: Queries::default(),
            activity: Activity::default(),
            owes_word: false,
            spoke: BTreeMap::new(),
            asked_voice: BTreeMap::new(),
        }
    }

    /// Creates a room for the one who asks to enter it, and lets them in (§10.1). A locked room waits for its
    /// configuration. When the creator cannot enter, the room [is gone](Self::is_gone) at once.
    pub fn create(
        jid: BareJid,
        service: Arc<Service>,
        config: Config,
        locked: bool,
        at: At,
        join: &Stanza,
    ) -> (Self, Outcome) {
        let state = if locked { State::Locked { since: at.now } } else { State::Open };
        let mut room = Self::new(jid, service, state, config, at);
        room.is_new = true;
        let mut out = Outcome::default();
        if let Some(creator) = &join.head.from {
            room.people.put(creator.bare(), Person::new(Affiliation::Owner));
        }
        if room.is_stored() {
            room.store_whole(&mut out);
        }
        let entered = room.handle(at, join.clone());
        if room.occupants.is_empty() {
            (room.state, out.store) = (State::Gone, Vec::new());
        }
        out.send = entered.send;
        out.store.extend(entered.store);
        (room, out)
    }

    /// A room as it was stored. Those who were in it are in it again; whoever knows that they have gone meanwhile says
    /// so with [`Room::gone`].
    pub fn restore(jid: BareJid, service: Arc<Service>, image: Image, at: At) -> Self {
        let mut room = Self::new(jid, service, State::Open, image.config, at);
        room.created = image.created.unwrap_or(at.now);
        room.people = Affiliations::new(image.people, at.id);
        (room.subject, room.vcard, room.hats) = (image.subject, image.vcard, image.hats);
        room.tokens = image.tokens;
        room.history.fill(image.history, image.known, at.now);
        for visit in image.visits {
            room.put_back(visit);
        }
        room
    }

    /// The room's address.
    pub fn jid(&self) -> &BareJid {
        &self.jid
    }

    /// How it is configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many occupants there are.
    pub fn occupants(&self) -> usize {
        self.occupants.len()
    }

    /// The sessions in the room.
    pub fn sessions(&self) -> Arc<[FullJid]> {
        self.occupants.all().clone()
    }

    /// The affiliation of an address.
    pub fn affiliation(&self, who: &Jid) -> Affiliation {
        self.people.of(who)
    }

    /// Whether the room is no more.
    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether the room waits for its first configuration.
    pub fn is_locked(&self) -> bool {
        matches!(self.state, State::Locked { .. })
    }

    /// Whether the room is in the database.
    pub(super) fn is_stored(&self) -> bool {
        self.state == State::Open
    }

    /// Gives the room a stanza that is addressed to it or to one of its occupants. The sender is trusted, but for what
    /// comes in the name of rooms, which have nothing to say to each other.
    pub fn handle(&mut self, at: At, stanza: Stanza) -> Outcome {
        if stanza.head.from.as_ref().is_some_and(|from| from.domainpart() == self.jid.domainpart()) {
            return Outcome::default();
        }
        self.take(at, stanza)
    }

    /// The same, whoever it comes from.
    pub(super) fn take(&mut self, at: At, stanza: Stanza) -> Outcome {
        let mut out = Outcome::default();
        if let Err(error) = self.dispatch(at, &stanza, &mut out) {
            self.refuse(&stanza, error, &mut out);
        }
        out
    }

    /// What a stanza was waiting for is stored, or is not.
    pub fn stored(&mut self, at: At, pending: Pending, result: Result<Stored, StanzaError>) -> Outcome {
        let mut out = Outcome::default();
        match result {
            Ok(Stored::Done) => (pending.act)(self, at, &mut out),
            Ok(Stored::NotFound) => self.refuse(&pending.request, Condition::ItemNotFound.into(), &mut out),
            Err(error) => self.refuse(&pending.request, error, &mut out),
        }
        out
    }

    /// Says that the time has come so far: for rooms that wait for their configuration, and questions for an answer.
    pub fn tick(&mut self, at: At) -> Outcome {
        let mut out = Outcome::default();
        if let State::Locked { since } = self.state
            && at.now.duration_since(since).is_ok_and(|waited| waited >= self.service.limits.unconfigured)
        {
            self.unlock(&mut out);
        }
        self.queries.expire(at.now);
        self.forget_voice_requests(at.now);
        self.tell_rest(&mut out);
        self.end_if_empty(&mut out);
        out
    }

    /// An error, which names the room where it is not an IQ's (the XEP's examples do it so).
    pub(super) fn refuse(&self, stanza: &Stanza, error: StanzaError, out: &mut Outcome) {
        let error = match stanza.head.kind {
            Kind::Iq(_) => error,
            _ => error.with_by(self.jid.clone()),
        };
        out.error(stanza, &error);
    }

    fn dispatch(&mut self, at: At, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        let (Some(from), Some(to)) = (&stanza.head.from, &stanza.head.to) else { return Ok(()) };
        let (from, to) = (from.clone(), to.clone());
        // §7.2.10, §17.2: a room that is not unlocked is there for its creator only.
        let unlocked = self.state == State::Open || self.is_locked() && self.people.of(&from) == Affiliation::Owner;
        if !unlocked {
            return Err(Condition::ItemNotFound.into());
        }
        match stanza.head.kind {
            Kind::Presence(kind) => self.presence(at, kind, &from, &to, stanza, out),
            Kind::Message(MessageType::Error) => {
                self.message_error(&from, &to, stanza, out);
                Ok(())
            }
            Kind::Message(_) if to.is_bare() => self.message(at, &from, stanza, out),
            Kind::Message(_) => self.private_message(&from, &to, stanza, out),
            Kind::Iq(IqType::Get | IqType::Set) if to.is_bare() => self.request(at, &from, stanza, out),
            Kind::Iq(IqType::Get | IqType::Set) => self.query(at, &from, &to, stanza, out),
            Kind::Iq(_) if to.is_bare() => {
                self.answer_whether_there(&from, stanza, out);
                Ok(())
            }
            Kind::Iq(_) => {
                self.answer(&from, &to, stanza, out);
                Ok(())
            }
        }
    }

    fn presence(
        &mut self,
        at: At,
        kind: PresenceType,
        from: &Jid,
        to: &Jid,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        match kind {
            PresenceType::Available => self.available(at, from, to, stanza, out),
            PresenceType::Unavailable => {
                self.leave(from, to, stanza, out);
                Ok(())
            }
            PresenceType::Error => {
                self.presence_error(from, stanza, out);
                Ok(())
            }
            PresenceType::Probe => {
                self.probe(from, to, out);
                Ok(())
            }
            // A room has no presence to subscribe to.
            PresenceType::Subscribe => {
                out.send(Stanza::presence(PresenceType::Unsubscribed).from(to.clone()), from.bare());
                Ok(())
            }
            PresenceType::Subscribed | PresenceType::Unsubscribe | PresenceType::Unsubscribed => Ok(()),
        }
    }

    fn message(&mut self, at: At, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        if stanza.head.kind == Kind::Message(MessageType::Groupchat) {
            return self.speak(at, from, stanza, out);
        }
        if let Some(x) = stanza.find("x", ns::MUC_USER) {
            if x.elements().any(|child| child.is("invite", ns::MUC_USER)) {
                return self.invite(at, from, stanza, x, out);
            }
            if let Some(decline) = x.find("decline", ns::MUC_USER) {
                self.decline(from, stanza, decline, out);
                return Ok(());
            }
        }
        if stanza.has("x", ns::X_DATA) {
            return self.form_message(at, from, stanza, out);
        }
        // §17.2: nothing else is for all, and not meant for the room.
        let condition = if self.seat_of(from).is_some() { Condition::BadRequest } else { Condition::NotAcceptable };
        Err(condition.into())
    }

    /// A request to the room itself.
    fn request(&mut self, at: At, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        let Some(payload) = stanza.payload() else { return Err(Condition::BadRequest.into()) };
        let set = stanza.head.kind == Kind::Iq(IqType::Set);
        match (payload.ns(), payload.name(), set) {
            (ns::MUC_ADMIN, "query", false) => self.list(from, stanza, payload, out),
            (ns::MUC_ADMIN, "query", true) => self.change(at, from, stanza, payload, out),
            (ns::MUC_OWNER, "query", false) => self.configuration(from, stanza, out),
            (ns::MUC_OWNER, "query", true) => self.configure(at, from, stanza, payload, out),
            (ns::REGISTER, "query", false) => self.registration(from, stanza, out),
            (ns::REGISTER, "query", true) => self.register(at, from, stanza, payload, out),
            (ns::MODERATE, "moderate", true) => self.moderate(at, from, stanza, payload, out),
            (ns::MUC_TOKENS, _, set) => self.token_request(at, from, set, stanza, payload, out),
            (ns::VCARD, "vCard", false) => {
                let vcard = self.vcard.clone().unwrap_or_else(|| Element::new("vCard", ns::VCARD));
                out.result(stanza, Some(vcard));
                Ok(())
            }
            (ns::VCARD, "vCard", true) => self.set_vcard(at, from, stanza, payload, out),
            (ns::COMMANDS, "command", true) => self.command(at, from, stanza, payload, out),
            (ns::DISCO_INFO, "query", false) => {
                out.result(stanza, Some(self.info(at.now, from, payload)?));
                Ok(())
            }
            (ns::DISCO_ITEMS, "query", false) => {
                out.result(stanza, Some(self.items(from, payload)));
                Ok(())
            }
            (ns::PING, "ping", false) => {
                out.result(stanza, None);
                Ok(())
            }
            _ => Err(Condition::ServiceUnavailable.into()),
        }
    }

    /// The occupant that a session is.
    pub(super) fn seat_of(&self, from: &Jid) -> Option<Seat> {
        self.occupants.of_session(from.as_str())
    }

    pub(super) fn occupant_of(&self, from: &Jid) -> Option<&Occupant> {
        self.occupants.get(self.seat_of(from)?)
    }

    /// The rank of an address: the affiliation, and the highest role of the person's occupants.
    pub(super) fn rank(&self, who: &Jid) -> Rank {
        if self.is_service(who) {
            return Rank { role: Role::Moderator, affiliation: Affiliation::Owner };
        }
        let roles = self.occupants.of_person(who.bare_str()).iter().filter_map(|seat| self.occupants.get(*seat));
        let role = roles.map(|occupant| occupant.role).max().unwrap_or(Role::None);
        Rank { role, affiliation: self.people.of(who) }
    }

    pub(super) fn occupant_id(&self, who: &BareJid) -> String {
        (self.service.occupant_id)(&self.jid, who)
    }

    /// The same of somebody in the room.
    pub(super) fn id_of<'a>(&self, occupant: &'a Occupant) -> &'a str {
        occupant.id.get_or_init(|| self.occupant_id(&occupant.who).into())
    }

    /// The occupant JID of a nickname.
    pub(super) fn occupant_jid(&self, nick: &str) -> Result<FullJid, StanzaError> {
        self.jid.with_resource(nick).map_err(|_| Condition::JidMalformed.into())
    }

    /// Whether somebody else may not take a nickname: it is in use, or reserved (§7.2.8, §7.6).
    pub(super) fn is_taken(&self, key: &NickKey, who: &Jid) -> bool {
        let holder = self.occupants.of_nick(key).and_then(|seat| self.occupants.get(seat));
        let in_use = holder.is_some_and(|occupant| occupant.who.as_str() != who.bare_str());
        in_use || self.people.reserved_for(key).is_some_and(|owner| owner.as_str() != who.bare_str())
    }

    /// The room is open for others from now on, and in the database.
    pub(super) fn unlock(&mut self, out: &mut Outcome) {
        if self.is_locked() {
            self.state = State::Open;
            self.store_whole(out);
            let seats: Vec<Seat> = self.occupants.iter().map(|(seat, _)| seat).collect();
            for seat in seats {
                self.store_visits(seat, out);
            }
        }
    }

    pub(super) fn store_whole(&self, out: &mut Outcome) {
        out.store.extend(self.basis());
    }

    fn basis(&self) -> impl Iterator<Item = RoomChange> {
        let people = self.people.iter().map(|(who, person)| RoomChange::Person(who.clone(), Some(person.clone())));
        [RoomChange::Create { created: self.created }, RoomChange::Config(self.config.clone())]
            .into_iter()
            .chain(people)
            .chain(self.furniture())
    }

    /// What may be in a room before it is configured, beside people.
    pub(super) fn furniture(&self) -> impl Iterator<Item = RoomChange> {
        let tokens = (!self.tokens.is_empty()).then(|| RoomChange::Tokens(self.tokens.clone()));
        let vcard = self.vcard.is_some().then(|| RoomChange::Vcard(self.vcard.clone()));
        let hats = (self.hats != Hats::default()).then(|| RoomChange::Hats(self.hats.clone()));
        tokens.into_iter().chain(vcard).chain(hats)
    }

    /// What was to be changed, as it is: for a database that may have stored a change though the room did without it. What
    /// is lost with a room that was destroyed is not given back: its messages.
    pub fn unchanged(&self, changes: &[RoomChange]) -> Vec<RoomChange> {
        let mut out = Outcome::default();
        for change in changes {
            match change {
                // It was to be created: it waits for its configuration still.
                RoomChange::Create { .. } => return vec![RoomChange::Destroy],
                RoomChange::Destroy => {
                    out.store.extend(self.basis());
                    out.store.extend(self.subject.clone().map(RoomChange::Subject));
                    let seats: Vec<Seat> = self.occupants.iter().map(|(seat, _)| seat).collect();
                    seats.into_iter().for_each(|seat| self.store_visits(seat, &mut out));
                }
                RoomChange::Config(_) => out.store.push(RoomChange::Config(self.config.clone())),
                RoomChange::Person(who, _) => {
                    out.store.push(RoomChange::Person(who.clone(), self.people.person(who.as_str()).cloned()));
                }
                RoomChange::Vcard(_) => out.store.push(RoomChange::Vcard(self.vcard.clone())),
                RoomChange::Hats(_) => out.store.push(RoomChange::Hats(self.hats.clone())),
                RoomChange::Tokens(_) => out.store.push(RoomChange::Tokens(self.tokens.clone())),
                // Nothing waits for these.
                RoomChange::Subject(_)
                | RoomChange::Message(_)
                | RoomChange::Retract { .. }
                | RoomChange::Enter(_)
                | RoomChange::Leave(_) => {}
            }
        }
        out.store
    }

    /// From now on these bounds hold.
    pub fn set_service(&mut self, service: Arc<Service>) {
        self.service = service;
    }

    /// A temporary room ends with its last occupant (§7.14), and one that was never configured, too (§10.1.3).
    pub(super) fn end_if_empty(&mut self, out: &mut Outcome) {
        if self.occupants.is_empty() && !self.is_gone() && (self.is_locked() || !self.config.persistent) {
            if self.is_stored() {
                out.store.push(RoomChange::Destroy);
            }
            self.state = State::Gone;
        }
    }

    /// Keeps a change, unless the room is not in the database yet.
    pub(super) fn keep(&self, change: RoomChange, out: &mut Outcome) {
        if self.is_stored() {
            out.store.push(change);
        }
    }
}
