//! XEP-0045 §7.1 and §7.2: entering a room, and being brought up to date by entering it once more.
//!
//! Order (§7.1): the others' presence, the own one, history, subject, what happens then.

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{PresenceType, Stanza};

use super::announce::Notice;
use super::image::Visit;
use super::nicks::NickKey;
use super::occupants::Seat;
use super::outcome::{At, Outcome};
use super::payload::{self, Item};
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role, initial_role};
use super::room::Room;
use super::status::Status;

/// Who asks to enter.
pub(super) struct Knock<'a> {
    pub(super) at: At,
    pub(super) from: &'a FullJid,
    pub(super) nick: &'a str,
    pub(super) stanza: &'a Stanza,
    /// `<x xmlns='…/muc'/>`.
    pub(super) join: &'a Element,
}

/// Where somebody who enters comes to be.
pub(super) struct Place {
    jid: FullJid,
    key: NickKey,
    /// The occupant that they are already, by another session.
    seat: Option<Seat>,
    /// The nickname is another one than they asked for.
    modified: bool,
}

/// How somebody may read a room's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// They see real JIDs.
    pub sees_jids: bool,
}

impl Room {
    /// Presence without a type: somebody enters, or changes availability or nickname.
    pub(super) fn available(
        &mut self,
        at: At,
        from: &Jid,
        to: &Jid,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let from = from.full().ok_or(Condition::BadRequest)?;
        let nick = to.resourcepart().ok_or(Condition::JidMalformed)?;
        if stanza.size() > self.service.limits.presence {
            return Err(StanzaError::new(Condition::PolicyViolation).with_text("This presence is too large."));
        }
        let knock = stanza.find("x", ns::MUC).map(|join| Knock { at, from: &from, nick, stanza, join });
        if let Some(knock) = &knock
            && let Some(token) = self.token_of(knock)
        {
            return self.enter_by_token(knock, &token, out);
        }
        match (self.seat_of(&from), knock) {
            (None, Some(knock)) => self.enter(&knock, out),
            (Some(seat), None) => self.update(seat, &from, nick, stanza, out),
            (Some(seat), Some(knock)) => self.enter_again(seat, &knock, out),
            (None, None) => {
                out.send(not_in_the_room(to), from);
                Ok(())
            }
        }
    }

    fn enter(&mut self, knock: &Knock<'_>, out: &mut Outcome) -> Result<(), StanzaError> {
        let Knock { at, from, nick, stanza, join } = *knock;
        self.check_nick(nick)?;
        let affiliation = self.check_entry(from, join)?;
        let Place { jid, key, seat, modified } = self.place(knock, affiliation)?;
        let role = match seat.and_then(|seat| self.occupants.get(seat)) {
            Some(occupant) => occupant.role,
            None => self.entry_role(from, affiliation),
        };
        self.send_versions(from, Rank { role, affiliation }, join, out);
        self.send_occupants(from, seat, Rank { role, affiliation }, out);
        let presence = self.presence_of_client(stanza);
        let statuses = self.entry_statuses(modified);
        match seat {
            Some(seat) => self.put_presence(seat, from, presence, false, out),
            None => {
                let shown = self.would_show(role);
                let seat = self.occupants.enter(jid, key, role, from.clone(), presence);
                if let Some(occupant) = self.occupants.get_mut(seat) {
                    occupant.shown = shown;
                }
                if let Some(occupant) = self.occupants.get(seat) {
                    self.announce_to_others(occupant, &Notice::default(), &[], out);
                }
            }
        }
        self.is_new = false;
        self.welcome(knock, &statuses, out);
        if let Some(seat) = self.seat_of(from) {
            self.store_visits(seat, out);
        }
        self.send_applications(at, from, out);
        Ok(())
    }

    /// §7.2.8, §7.2.9: whether there is a nickname and room for whoever may enter.
    pub(super) fn place(&self, knock: &Knock<'_>, affiliation: Affiliation) -> Result<Place, StanzaError> {
        let Knock { from, nick, .. } = *knock;
        self.check_nick(nick)?;
        let locked = self.locked_nick(from).filter(|locked| **locked != *nick);
        let modified = locked.is_some();
        let jid = self.occupant_jid(locked.as_deref().unwrap_or(nick))?;
        let key = NickKey::new(jid.resource())?;
        if self.is_taken(&key, from) {
            return Err(Condition::Conflict.into());
        }
        let seat = self.occupants.of_nick(&key);
        self.check_room(from, affiliation, seat.is_none())?;
        Ok(Place { jid, key, seat, modified })
    }

    /// §7.2.1: who is in the room and asks to enter has lost track, and gets all that who enters gets.
    fn enter_again(&mut self, seat: Seat, knock: &Knock<'_>, out: &mut Outcome) -> Result<(), StanzaError> {
        let Knock { from, nick, stanza, join, .. } = *knock;
        let Some(occupant) = self.occupants.get(seat) else { return Ok(()) };
        let rank = self.rank_of(occupant);
        let (mut modified, mut renamed) = (false, false);
        let mut changes = Outcome::default();
        if occupant.nick() != nick {
            modified = self.locked_nick(from).is_some();
            renamed = !modified;
        }
        if renamed {
            self.rename(seat, from, nick, true, &mut changes)?;
        }
        let seat = self.seat_of(from).unwrap_or(seat);
        self.send_versions(from, rank, join, out);
        self.send_occupants(from, Some(seat), rank, out);
        out.send.append(&mut changes.send);
        out.store.append(&mut changes.store);
        let presence = self.presence_of_client(stanza);
        self.put_presence(seat, from, presence, renamed, out);
        let statuses = self.entry_statuses(modified);
        self.welcome(knock, &statuses, out);
        Ok(())
    }

    /// The own presence, and all that comes behind it.
    fn welcome(&self, knock: &Knock<'_>, statuses: &[Status], out: &mut Outcome) {
        let Some(occupant) = self.occupant_of(knock.from) else { return };
        let mut own = self.own_view(occupant, &Notice { own: statuses, ..Notice::default() });
        own.head.id.clone_from(&knock.stanza.head.id);
        out.send(own, knock.from);
        self.send_history(knock.at, knock.from, knock.join.find("history", ns::MUC), out);
        self.send_subject(knock.from, out);
    }

    fn send_occupants(&self, to: &FullJid, but: Option<Seat>, rank: Rank, out: &mut Outcome) {
        let with_jid = rank.may(Privilege::SeeJids, &self.config);
        for (seat, occupant) in self.occupants.iter() {
            if Some(seat) != but && occupant.shown {
                out.send(self.view(occupant, with_jid), to);
            }
        }
    }

    /// A session's presence. The others are told if it is what they see, or if `renamed`.
    pub(super) fn put_presence(
        &mut self,
        seat: Seat,
        from: &FullJid,
        presence: Stanza,
        renamed: bool,
        out: &mut Outcome,
    ) {
        let Some(before) = self.occupants.get(seat) else { return };
        let before = (before.first_session().cloned(), before.presence().cloned());
        self.occupants.put_session(seat, from.clone(), presence);
        let Some(after) = self.occupants.get(seat) else { return };
        if renamed || (after.first_session().cloned(), after.presence().cloned()) != before {
            self.announce(seat, &Notice::default(), std::slice::from_ref(from), out);
        }
    }

    fn entry_statuses(&self, modified: bool) -> Vec<Status> {
        [
            (self.config.is_non_anonymous(), Status::NonAnonymous),
            (self.config.logging, Status::LoggingOn),
            (self.is_new, Status::Created),
            (modified, Status::NickModified),
        ]
        .into_iter()
        .filter_map(|(applies, status)| applies.then_some(status))
        .collect()
    }

    /// §17.1, and how long a nickname may be.
    pub(super) fn check_nick(&self, nick: &str) -> Result<NickKey, StanzaError> {
        if nick.len() > self.service.limits.nick {
            return Err(StanzaError::new(Condition::NotAcceptable).with_text("This nickname is too long."));
        }
        NickKey::new(nick)
    }

    /// §7.2.5 to §7.2.7: whether somebody may be in this room at all.
    fn check_entry(&self, from: &Jid, join: &Element) -> Result<Affiliation, StanzaError> {
        let affiliation = self.people.of(from);
        let rank = Rank { role: Role::None, affiliation };
        if !rank.may(Privilege::EnterOpen, &self.config) {
            return Err(Condition::Forbidden.into());
        }
        if self.config.members_only && !rank.may(Privilege::EnterMembersOnly, &self.config) {
            return Err(self.no_member(join));
        }
        let given = || join.find("password", ns::MUC).map(Element::content);
        match &self.config.password {
            Some(password) if given().as_deref() != Some(password.as_str()) => Err(Condition::NotAuthorized.into()),
            _ => Ok(affiliation),
        }
    }

    /// Whether somebody may look into the room's archive: whoever could enter it now, and needs no password for it
    /// unless they are in it (XEP-0313 §6.1.2).
    pub fn may_read(&self, who: &Jid) -> bool {
        let rank = self.rank(who);
        let needed = if self.config.members_only { Privilege::EnterMembersOnly } else { Privilege::EnterOpen };
        let known = self.config.password.is_none() || rank.role > Role::None || rank.affiliation >= Affiliation::Member;
        self.state == super::room::State::Open && rank.may(needed, &self.config) && known
    }

    /// How somebody may read the archive, if at all.
    ///
    /// # Errors
    /// What whoever asks is to be told.
    pub fn reading(&self, who: &Jid) -> Result<Reading, StanzaError> {
        if self.is_gone() || self.is_locked() {
            return Err(Condition::ItemNotFound.into());
        }
        if !self.config.archive {
            return Err(Condition::ServiceUnavailable.into());
        }
        if !self.may_read(who) {
            return Err(Condition::Forbidden.into());
        }
        let sees_jids = self.config.is_non_anonymous() || self.rank(who).may(Privilege::SeeJids, &self.config);
        Ok(Reading { sees_jids })
    }

    /// §7.2.9: whether there is room.
    fn check_room(&self, from: &FullJid, affiliation: Affiliation, is_new: bool) -> Result<(), StanzaError> {
        let limits = &self.service.limits;
        let full = || StanzaError::new(Condition::ServiceUnavailable).with_kind(ErrorKind::Wait);
        if self.occupants.sessions_of(from.bare_str()) >= limits.sessions {
            return Err(full());
        }
        let most = self.config.max_users.unwrap_or(limits.occupants).min(limits.occupants);
        let rank = Rank { role: Role::None, affiliation };
        let reserve = if rank.may(Privilege::EnterFull, &self.config) { limits.reserve } else { 0 };
        if is_new && self.occupants.len() >= most.saturating_add(reserve) { Err(full()) } else { Ok(()) }
    }

    fn entry_role(&self, who: &Jid, affiliation: Affiliation) -> Role {
        let voice = self.people.person(who.bare_str()).and_then(|person| person.voice);
        match voice.filter(|_| self.config.moderated && affiliation < Affiliation::Admin) {
            Some(voice) => voice,
            None => initial_role(affiliation, self.config.moderated),
        }
    }

    /// The nickname that somebody must use.
    pub(super) fn locked_nick(&self, who: &Jid) -> Option<Box<str>> {
        self.people.person(who.bare_str()).filter(|_| self.config.lock_nicks)?.nick.clone()
    }

    /// A client's presence without what is not for the others to see.
    pub(super) fn presence_of_client(&self, stanza: &Stanza) -> Stanza {
        let mut presence = stanza.clone();
        payload::strip(&mut presence, &self.jid);
        presence.head.id = None;
        presence.head.from = None;
        presence.head.to = None;
        presence
    }

    /// Somebody who was in the room when the process ended.
    pub(super) fn put_back(&mut self, visit: Visit) {
        let Ok((jid, key)) = self.occupant_jid(&visit.nick).and_then(|jid| {
            let key = NickKey::new(jid.resource())?;
            Ok((jid, key))
        }) else {
            return;
        };
        match self.occupants.of_nick(&key) {
            Some(seat) if self.occupants.get(seat).is_some_and(|occupant| *occupant.who == *visit.jid.bare()) => {
                self.occupants.put_session(seat, visit.jid, visit.presence);
            }
            Some(_) => {}
            None => {
                // Those who are in the room still know whom they have seen: they are to learn that such a one leaves.
                let shown = visit.shown.unwrap_or_else(|| self.would_show(visit.role));
                let seat = self.occupants.enter(jid, key, visit.role, visit.jid, visit.presence);
                if let Some(occupant) = self.occupants.get_mut(seat) {
                    occupant.shown = shown;
                }
            }
        }
    }
}

/// §7.2.18: presence of somebody who is not in the room, and does not ask to enter: it has lost track.
pub fn not_in_the_room(occupant: &Jid) -> Stanza {
    let mut item = Item::new(Affiliation::None, Role::None);
    item.reason = Some("You are not in the room.");
    let statuses = [Status::OwnPresence, Status::Kicked, Status::TechnicalProblem];
    Stanza::presence(PresenceType::Unavailable).from(occupant.clone()).child(payload::user_item(item, &statuses))
}
