//! Who is in the room: occupants by nickname, by session and by person.
//!
//! An occupant is a nickname with one or more sessions of one person (§7.2.8: several resources under one nickname). What
//! others see of it is the presence of its first session: the one with the highest priority, the newest among equals.
//! Order is the order of entering.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

use super::nicks::NickKey;
use super::roles::Role;

/// Names an occupant as long as it is in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seat(u64);

/// A nickname in the room.
#[derive(Debug)]
pub(super) struct Occupant {
    /// The occupant JID.
    pub(super) jid: FullJid,
    /// Whose.
    pub(super) who: BareJid,
    pub(super) role: Role,
    /// Its presence is sent to others; decided when it enters, and when its role or the configuration changes.
    pub(super) shown: bool,
    /// Its presence has changed since it came in; only that of then may be stored.
    pub(super) changed: bool,
    sessions: Vec<Session>,
    pub(super) views: Views,
    /// XEP-0421, made when it is needed: it is in all that the occupant says.
    pub(super) id: OnceCell<Box<str>>,
}

/// An occupant as others see it, made when it is needed.
#[derive(Debug, Default)]
pub(super) struct Views {
    /// With its real JID.
    pub(super) full: OnceCell<Stanza>,
    /// Without.
    pub(super) plain: OnceCell<Stanza>,
}

#[derive(Debug)]
struct Session {
    jid: FullJid,
    presence: Stanza,
    priority: i8,
    /// Grows with each presence.
    turn: u64,
}

impl Occupant {
    pub(super) fn nick(&self) -> &str {
        self.jid.resource()
    }

    fn first(&self) -> Option<&Session> {
        self.sessions.iter().max_by_key(|session| (session.priority, session.turn))
    }

    /// The session that others see.
    pub(super) fn first_session(&self) -> Option<&FullJid> {
        self.first().map(|session| &session.jid)
    }

    /// Its presence, without what the room adds.
    pub(super) fn presence(&self) -> Option<&Stanza> {
        self.first().map(|session| &session.presence)
    }

    pub(super) fn presence_of(&self, jid: &FullJid) -> Option<&Stanza> {
        self.sessions.iter().find(|session| session.jid == *jid).map(|session| &session.presence)
    }

    pub(super) fn sessions(&self) -> impl ExactSizeIterator<Item = &FullJid> {
        self.sessions.iter().map(|session| &session.jid)
    }
}

/// Sessions in the room, in lists that are shared, and made when they are needed.
#[derive(Debug, Default)]
struct Audience {
    all: OnceCell<Arc<[FullJid]>>,
    moderators: OnceCell<Arc<[FullJid]>>,
    others: OnceCell<Arc<[FullJid]>>,
}

/// Everybody in the room.
#[derive(Debug, Default)]
pub(super) struct Occupants {
    seats: BTreeMap<Seat, Occupant>,
    by_nick: HashMap<NickKey, Seat>,
    by_session: HashMap<FullJid, Seat>,
    by_person: HashMap<BareJid, Vec<Seat>>,
    last: u64,
    audience: Audience,
}

impl Occupants {
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Seat, &Occupant)> {
        self.seats.iter().map(|(seat, occupant)| (*seat, occupant))
    }

    pub(super) fn get(&self, seat: Seat) -> Option<&Occupant> {
        self.seats.get(&seat)
    }

    /// An occupant to be changed in what nobody is found by.
    pub(super) fn get_mut(&mut self, seat: Seat) -> Option<&mut Occupant> {
        self.seats.get_mut(&seat)
    }

    /// Which occupant a session belongs to.
    pub(super) fn of_session(&self, jid: &str) -> Option<Seat> {
        self.by_session.get(jid).copied()
    }

    pub(super) fn of_nick(&self, key: &NickKey) -> Option<Seat> {
        self.by_nick.get(key).copied()
    }

    /// Which occupant a nickname written in any way belongs to.
    pub(super) fn named(&self, nick: &str) -> Option<Seat> {
        self.of_nick(&NickKey::new(nick).ok()?)
    }

    /// All occupants that a person is.
    pub(super) fn of_person(&self, who: &str) -> &[Seat] {
        self.by_person.get(who).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many sessions a person has in the room.
    pub(super) fn sessions_of(&self, who: &str) -> usize {
        self.of_person(who).iter().filter_map(|seat| self.get(*seat)).map(|occupant| occupant.sessions.len()).sum()
    }

    /// Somebody has come, under a nickname that nobody has.
    pub(super) fn enter(&mut self, jid: FullJid, key: NickKey, role: Role, session: FullJid, presence: Stanza) -> Seat {
        self.last += 1;
        let seat = Seat(self.last);
        let who = session.bare();
        let occupant = Occupant {
            jid,
            who: who.clone(),
            role,
            shown: false,
            changed: false,
            sessions: Vec::new(),
            views: Views::default(),
            id: OnceCell::new(),
        };
        self.seats.insert(seat, occupant);
        self.by_nick.insert(key, seat);
        self.by_person.entry(who).or_default().push(seat);
        self.put_session(seat, session, presence);
        seat
    }

    /// A session's presence, of an occupant that is in the room.
    pub(super) fn put_session(&mut self, seat: Seat, jid: FullJid, presence: Stanza) {
        self.last += 1;
        let turn = self.last;
        let Some(occupant) = self.seats.get_mut(&seat) else { return };
        let priority =
            presence.find("priority", ns::CLIENT).and_then(|priority| priority.content().trim().parse().ok());
        let priority = priority.unwrap_or(0);
        occupant.views = Views::default();
        match occupant.sessions.iter_mut().find(|session| session.jid == jid) {
            Some(session) => {
                (session.presence, session.priority, session.turn) = (presence, priority, turn);
                occupant.changed = true;
            }
            None => {
                occupant.sessions.push(Session { jid: jid.clone(), presence, priority, turn });
                self.by_session.insert(jid, seat);
                self.audience = Audience::default();
            }
        }
    }

    /// A session is gone. `true` when it was the last of its occupant, which is still there.
    pub(super) fn drop_session(&mut self, jid: &FullJid) -> bool {
        let Some(occupant) = self.by_session.remove(jid).and_then(|seat| self.seats.get_mut(&seat)) else {
            return false;
        };
        occupant.sessions.retain(|session| session.jid != *jid);
        occupant.views = Views::default();
        self.audience = Audience::default();
        occupant.sessions.is_empty()
    }

    /// Takes an occupant out, with all its sessions.
    pub(super) fn leave(&mut self, seat: Seat) -> Option<Occupant> {
        let occupant = self.seats.remove(&seat)?;
        if let Ok(key) = NickKey::new(occupant.nick()) {
            self.by_nick.remove(&key);
        }
        for session in &occupant.sessions {
            self.by_session.remove(&session.jid);
        }
        if let Some(seats) = self.by_person.get_mut(&occupant.who) {
            seats.retain(|other| *other != seat);
            if seats.is_empty() {
                self.by_person.remove(&occupant.who);
            }
        }
        self.audience = Audience::default();
        Some(occupant)
    }

    /// Another nickname, which nobody has but perhaps this occupant, in other letters.
    pub(super) fn rename(&mut self, seat: Seat, jid: FullJid, key: NickKey) {
        let Some(occupant) = self.seats.get_mut(&seat) else { return };
        if let Ok(old) = NickKey::new(occupant.nick()) {
            self.by_nick.remove(&old);
        }
        occupant.jid = jid;
        occupant.views = Views::default();
        self.by_nick.insert(key, seat);
    }

    /// All sessions of one occupant become another's, of the same person.
    pub(super) fn merge(&mut self, from: Seat, into: Seat) {
        let Some(gone) = self.leave(from) else { return };
        for session in gone.sessions {
            self.put_session(into, session.jid, session.presence);
        }
    }

    pub(super) fn set_role(&mut self, seat: Seat, role: Role) {
        if let Some(occupant) = self.seats.get_mut(&seat) {
            occupant.role = role;
            occupant.views = Views::default();
            self.audience = Audience::default();
        }
    }

    /// What is seen of an occupant has changed elsewhere: affiliation, hats.
    pub(super) fn touch(&mut self, seat: Seat) {
        if let Some(occupant) = self.seats.get_mut(&seat) {
            occupant.views = Views::default();
        }
    }

    /// All sessions.
    pub(super) fn all(&self) -> &Arc<[FullJid]> {
        self.audience.all.get_or_init(|| self.list(|_| true))
    }

    /// Those of moderators.
    pub(super) fn moderators(&self) -> &Arc<[FullJid]> {
        self.audience.moderators.get_or_init(|| self.list(|role| role == Role::Moderator))
    }

    /// Those of the others.
    pub(super) fn others(&self) -> &Arc<[FullJid]> {
        self.audience.others.get_or_init(|| self.list(|role| role != Role::Moderator))
    }

    fn list(&self, wanted: fn(Role) -> bool) -> Arc<[FullJid]> {
        let occupants = self.seats.values().filter(|occupant| wanted(occupant.role));
        occupants.flat_map(|occupant| occupant.sessions().cloned()).collect()
    }
}
