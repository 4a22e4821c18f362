//! XEP-0280: Message Carbons. What one client of a user sends or gets is copied to the user's others that have asked for
//! it. Which messages, by §6.1, is in `rules.rs`; all of its rules hold, so that `urn:xmpp:carbons:rules:0` is announced.
//!
//! A copy goes to each session that has asked, available or not, except to those that the message itself goes to and the
//! one that sent it. A message to the own account is copied where it arrives, so that nobody gets it twice. There is no
//! `<delay/>` in the copy (XEP-0297 §3.2): it is made when the message is, and clients take what is stamped for old.
//!
//! A room's private messages that the user sends are copied to the clients that are in the room under the same nickname
//! (§6.1); who is in which room is seen from the presence that the clients send.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rookery_core::module::{
    Call, Cx, Fault, Flow, Hooks, IqResult, Module, SessionEvent, Setup, Stage, Target, Way, Xep,
};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, PresenceType, Stanza};

mod rules;

/// Copied messages of an account that are remembered, so that an error that comes of one is known.
const REMEMBERED: usize = 256;
/// Rooms of one session that are remembered.
const MOST_ROOMS: usize = 500;

/// Copies messages to the user's other clients.
pub struct Carbons {
    /// The session wants copies.
    enabled: Slot<bool>,
    /// The rooms that a session is in, each with the occupant that it is there.
    rooms: Slot<HashMap<BareJid, Jid>>,
    copied: Slot<Copied>,
}

/// What was copied lately, as hashes.
#[derive(Default)]
struct Copied(VecDeque<u64>);

impl Copied {
    fn remember(&mut self, message: u64) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(message);
    }
}

impl Module for Carbons {
    const NAME: &'static str = "carbons";
    const XEPS: &'static [Xep] = &[Xep(280, "1.0.1"), Xep(297, "1.0"), Xep(334, "1.0.0")];
    type Config = ();

    fn new((): (), setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self {
            enabled: setup.session_slot("enabled"),
            rooms: setup.session_slot("rooms"),
            copied: setup.account_slot("copied"),
        })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::CARBONS)
            .disco(ns::CARBONS_RULES)
            .iq(IqType::Set, Target::Account, ns::CARBONS, "enable", Self::enable)
            .iq(IqType::Set, Target::Account, ns::CARBONS, "disable", Self::disable)
            .message(Way::Incoming, Stage::Guard, Self::unwrapped)
            .message(Way::Outgoing, Stage::Copy, Self::sent)
            .message(Way::Incoming, Stage::Copy, Self::received)
            .presence(Way::Outgoing, Stage::Copy, Self::moved)
            .presence(Way::Incoming, Stage::Copy, Self::removed)
            .session(SessionEvent::Unavailable, Self::left)
            .session_state(Self::save, Self::restore);
    }
}

impl Carbons {
    // ---- who wants copies -----------------------------------------------------------------------------------------

    async fn enable(self: Arc<Self>, call: Call) -> IqResult {
        self.set(&call, true)
    }

    async fn disable(self: Arc<Self>, call: Call) -> IqResult {
        self.set(&call, false)
    }

    fn save(self: &Arc<Self>, _: &Arc<Server>, session: &Arc<Session>) -> Option<Element> {
        let enabled = session.get(self.enabled).filter(|enabled| *enabled);
        let rooms = session.get(self.rooms).unwrap_or_default();
        if enabled.is_none() && rooms.is_empty() {
            return None;
        }
        let occupant = |occupant: &Jid| Element::new("occupant", "").attr("jid", occupant.as_str());
        let state = Element::new("carbons", "").attr_opt("enabled", enabled.map(|_| "true"));
        Some(state.children(rooms.values().map(occupant)))
    }

    fn restore(self: &Arc<Self>, _: &Arc<Server>, session: &Arc<Session>, state: &Element) {
        session.set(self.enabled, state.get("enabled").is_some());
        let rooms = state.elements().filter_map(|occupant| Jid::new(occupant.get("jid")?).ok());
        session.set(self.rooms, rooms.map(|occupant| (occupant.bare(), occupant)).collect());
    }

    /// Whoever is not the account itself learns nothing of it, not even that it exists (security.md C8).
    fn set(&self, call: &Call, enabled: bool) -> IqResult {
        match &call.session {
            Some(session) if call.is_own() => {
                session.set(self.enabled, enabled);
                Ok(None)
            }
            _ => Err(StanzaError::new(Condition::ServiceUnavailable)),
        }
    }

    // ---- copies ---------------------------------------------------------------------------------------------------

    /// Nobody else speaks of copies to our users (§11): a wrapper that comes from elsewhere is forged.
    fn unwrapped(self: &Arc<Self>, _: &Cx<'_>, message: &mut Stanza) -> Flow {
        message.strip(&[(ns::CARBONS, "received"), (ns::CARBONS, "sent")]);
        Flow::Next
    }

    fn received(self: &Arc<Self>, cx: &Cx<'_>, message: &mut Stanza) -> Flow {
        let Some(from) = &message.head.from else { return Flow::Next };
        let is_addressed = |room: &str| cx.targets.iter().any(|target| self.occupant(target, room).is_some());
        let in_room = rules::names_occupant(from)
            && message.head.to.as_ref().is_some_and(|to| !to.is_bare())
            && is_addressed(from.bare_str());
        if rules::is_eligible(Way::Incoming, message, from, in_room, || self.knows(cx, Way::Outgoing, from, message)) {
            let others = self.others(cx, |session| session.jid.as_str() != from.as_str());
            self.copy(cx, Way::Incoming, from, message, &others);
        }
        Flow::Next
    }

    fn sent(self: &Arc<Self>, cx: &Cx<'_>, message: &mut Stanza) -> Flow {
        let (Some(to), Some(sender)) = (&message.head.to, cx.session) else { return Flow::Next };
        if to.bare_str() == cx.account.jid.as_str() {
            return Flow::Next;
        }
        let occupant = if rules::names_occupant(to) { self.occupant(sender, to.bare_str()) } else { None };
        let is_known = || self.knows(cx, Way::Incoming, to, message);
        if !rules::is_eligible(Way::Outgoing, message, to, occupant.is_some(), is_known) {
            return Flow::Next;
        }
        let others = self.others(cx, |session| {
            !Arc::ptr_eq(session, sender) && (occupant.is_none() || self.occupant(session, to.bare_str()) == occupant)
        });
        match cx.id {
            Some(id) => {
                // Those who get a copy are told of the message's place in the archive (XEP-0313 §3.5).
                let stanza_id = Element::new("stanza-id", ns::SID).attr("by", cx.account.jid.as_str());
                let mut message = message.clone();
                message.append(stanza_id.attr("id", id.to_string()));
                self.copy(cx, Way::Outgoing, to, &message, &others);
            }
            None => self.copy(cx, Way::Outgoing, to, message, &others),
        }
        Flow::Next
    }

    /// The sessions of the account that want copies and do not get the message itself.
    fn others(&self, cx: &Cx<'_>, wanted: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        let is_target = |session: &Arc<Session>| cx.targets.iter().any(|target| Arc::ptr_eq(target, session));
        let mut sessions = cx.account.sessions();
        sessions.retain(|session| !is_target(session) && session.get(self.enabled) == Some(true) && wanted(session));
        sessions.into_vec()
    }

    fn copy(&self, cx: &Cx<'_>, way: Way, peer: &Jid, message: &Stanza, to: &[Arc<Session>]) {
        let Kind::Message(kind) = message.head.kind else { return };
        if to.is_empty() {
            return;
        }
        if !message.head.kind.is_error() {
            cx.account.update(self.copied, |copied| copied.remember(hash(way, peer, message)));
        }
        let name = if way == Way::Outgoing { "sent" } else { "received" };
        let around = [Element::new(name, ns::CARBONS), Element::new("forwarded", ns::FORWARD)];
        let copy = Arc::new(Stanza::message(kind).from(cx.account.jid.clone()).around(&around, message));
        to.iter().for_each(|session| cx.copy(session, &copy));
    }

    /// Whether an error came of a message that went the other way and was copied.
    fn knows(&self, cx: &Cx<'_>, way: Way, peer: &Jid, error: &Stanza) -> bool {
        let message = hash(way, peer, error);
        cx.account.with(self.copied, |copied| copied.0.contains(&message)).unwrap_or_default()
    }

    // ---- rooms ----------------------------------------------------------------------------------------------------

    /// A client joins a room (XEP-0045 §7.2.1), takes another nickname there (§7.6), or leaves it (§7.14).
    fn moved(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        let (Some(session), Some(to)) = (cx.session, &presence.head.to) else { return Flow::Next };
        match presence.head.kind {
            Kind::Presence(PresenceType::Available)
                if rules::names_occupant(to)
                    && (presence.has("x", ns::MUC) || self.occupant(session, to.bare_str()).is_some()) =>
            {
                session.update(self.rooms, |rooms| {
                    if rooms.len() < MOST_ROOMS || rooms.contains_key(to.bare_str()) {
                        rooms.insert(to.bare(), to.clone());
                    }
                });
            }
            Kind::Presence(PresenceType::Unavailable) if self.occupant(session, to.bare_str()).is_some() => {
                session.update(self.rooms, |rooms| rooms.remove(to.bare_str()));
            }
            _ => {}
        }
        Flow::Next
    }

    /// A room does not let a client in (XEP-0045 §7.2), or out goes the occupant that it is there (§7.14, §8.2).
    fn removed(self: &Arc<Self>, cx: &Cx<'_>, presence: &mut Stanza) -> Flow {
        let Stanza { head, .. } = presence;
        if let (Some(from), Some(resource)) = (&head.from, head.to.as_ref().and_then(|to| to.resourcepart()))
            && matches!(head.kind, Kind::Presence(PresenceType::Error | PresenceType::Unavailable))
            && let Some(session) = cx.account.session(resource)
            && self.occupant(&session, from.bare_str()).is_some_and(|occupant| occupant == *from)
        {
            session.update(self.rooms, |rooms| rooms.remove(from.bare_str()));
        }
        Flow::Next
    }

    fn left(self: &Arc<Self>, _: &Arc<Server>, session: &Arc<Session>) -> Flow {
        session.take(self.rooms);
        Flow::Next
    }

    /// The occupant that a session is in a room.
    fn occupant(&self, session: &Session, room: &str) -> Option<Jid> {
        session.with(self.rooms, |rooms| rooms.get(room).cloned()).flatten()
    }
}

/// Stands for a message in one direction, by its peer and its id.
fn hash(way: Way, peer: &Jid, message: &Stanza) -> u64 {
    let mut hasher = DefaultHasher::new();
    (way == Way::Outgoing, peer.bare_str(), message.head.id.as_deref()).hash(&mut hasher);
    hasher.finish()
}
