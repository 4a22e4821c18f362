//! What follows from a change of affiliations (XEP-0045 §9, §10): roles, removals, and who is told.
//!
//! Whoever asked is told after those are who are removed, and before the others (§8.2).

use std::collections::BTreeMap;

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::{BareJid, FullJid, Jid};
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::announce::Notice;
use super::image::{Person, RoomChange};
use super::occupants::{Occupant, Seat};
use super::outcome::{At, Outcome};
use super::payload::{self, Item};
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role, initial_role};
use super::room::Room;
use super::status::Status;

/// What somebody is to be from now on.
#[derive(Debug, Clone)]
pub(super) struct PersonChange {
    pub(super) who: BareJid,
    pub(super) person: Person,
    /// Why, for those who are told.
    pub(super) reason: Option<Box<str>>,
    /// An invitation is on its way, or not wanted.
    pub(super) invited: bool,
}

impl PersonChange {
    /// The change as it is stored.
    pub(super) fn to_store(&self) -> RoomChange {
        let kept = Some(self.person.clone()).filter(|person| !person.is_nobody());
        RoomChange::Person(self.who.clone(), kept)
    }
}

/// The privilege of seeing who is on an affiliation's list.
pub(super) fn listing(affiliation: Affiliation) -> Option<Privilege> {
    match affiliation {
        Affiliation::Outcast => Some(Privilege::ListOutcasts),
        Affiliation::None => None,
        Affiliation::Member => Some(Privilege::ListMembers),
        Affiliation::Admin | Affiliation::Owner => Some(Privilege::ListAdmins),
    }
}

/// What a change of one person comes to.
struct Effect {
    change: PersonChange,
    old: Affiliation,
    /// Presence tells the others.
    is_seen: bool,
    versions: (u64, u64),
}

/// What is said with a change of an occupant.
#[derive(Debug, Clone, Default)]
struct Words {
    /// Who has caused it, by nickname.
    actor: Option<Box<str>>,
    reason: Option<Box<str>>,
    versions: Option<(u64, u64)>,
    /// Why they are out.
    status: Option<Status>,
}

impl Words {
    fn notice(&self) -> Notice<'_> {
        Notice {
            statuses: self.status.as_slice(),
            actor: self.actor.as_deref(),
            reason: self.reason.as_deref(),
            versions: self.versions,
            ..Notice::default()
        }
    }
}

impl Room {
    /// Does what is stored by now: puts the changes in force, answers the request, and tells who is to know.
    pub(super) fn apply_people(
        &mut self,
        at: At,
        actor: &Jid,
        changes: Vec<PersonChange>,
        request: Option<&Stanza>,
        out: &mut Outcome,
    ) {
        self.apply(at, actor, changes, Vec::new(), request, out);
    }

    /// The same with changes of roles beside.
    pub(super) fn apply(
        &mut self,
        at: At,
        actor: &Jid,
        changes: Vec<PersonChange>,
        roles: Vec<(Seat, Role, Option<Box<str>>)>,
        request: Option<&Stanza>,
        out: &mut Outcome,
    ) {
        // Who changes their own standing is no actor in it.
        let on_others = changes.iter().any(|change| change.who.as_str() != actor.bare_str()) || !roles.is_empty();
        let by: Option<Box<str>> = self.occupant_of(actor).filter(|_| on_others).map(|occupant| occupant.nick().into());
        let before: BTreeMap<Seat, Affiliation> =
            changes.iter().flat_map(|change| self.concerned(&change.who)).collect();
        let mut effects = Vec::new();
        for (at_id, change) in (at.id..).zip(changes) {
            let old = self.people.person(change.who.as_str()).map_or(Affiliation::None, |old| old.affiliation);
            let since = self.people.version();
            self.people.put(change.who.clone(), change.person.clone());
            if old != change.person.affiliation {
                self.people.changed(change.who.clone(), old, at_id);
            }
            let mut seats = self.occupants.of_person(change.who.as_str()).iter();
            let is_seen = seats.any(|seat| self.occupants.get(*seat).is_some_and(|occupant| occupant.shown));
            effects.push(Effect { change, old, is_seen, versions: (since, self.people.version()) });
        }

        let mut gone: Vec<(Occupant, Words)> = Vec::new();
        let mut changed: Vec<(Seat, Role, Words)> = Vec::new();
        for (seat, old) in before {
            let Some(occupant) = self.occupants.get(seat) else { continue };
            let new = self.affiliation_of(occupant);
            let effect = effects.iter().find(|effect| concerns(&effect.change.who, &occupant.who));
            let Some(effect) = effect.filter(|_| new != old) else { continue };
            let (reason, versions) = (effect.change.reason.clone(), Some(effect.versions));
            let words = Words { actor: by.clone(), reason, versions, status: self.removal(new) };
            if words.status.is_none() {
                changed.push((seat, self.role_after(occupant, old, new), words));
            } else if let Some(occupant) = self.expel(seat, &words.notice(), out) {
                gone.push((occupant, words));
            }
        }
        for (seat, role, reason) in roles {
            let mut words = Words { actor: by.clone(), reason, ..Words::default() };
            if role != Role::None {
                changed.push((seat, role, words));
                continue;
            }
            words.status = Some(Status::Kicked);
            if let Some(occupant) = self.expel(seat, &words.notice(), out) {
                gone.push((occupant, words));
            }
        }

        if let Some(request) = request {
            out.result(request, None);
        }
        for (occupant, words) in gone {
            self.announce_departure(&occupant, Role::None, &words.notice(), None, &[], out);
        }
        for (seat, role, words) in changed {
            self.give_role(seat, role, &words.notice(), out);
        }
        for effect in effects {
            self.tell_of_absent(actor, &effect, out);
        }
        self.end_if_empty(out);
    }

    /// The occupants that somebody is, or that belong to a domain, with their affiliations.
    fn concerned(&self, who: &BareJid) -> Vec<(Seat, Affiliation)> {
        let affiliation = |seat: Seat| Some((seat, self.affiliation_of(self.occupants.get(seat)?)));
        if who.localpart().is_some() {
            return self.occupants.of_person(who.as_str()).iter().filter_map(|seat| affiliation(*seat)).collect();
        }
        let of_domain = self.occupants.iter().filter(|(_, occupant)| occupant.who.domainpart() == who.domainpart());
        of_domain.filter_map(|(seat, _)| affiliation(seat)).collect()
    }

    /// Why nobody of this affiliation may be in the room.
    fn removal(&self, affiliation: Affiliation) -> Option<Status> {
        let rank = Rank { role: Role::None, affiliation };
        if !rank.may(Privilege::EnterOpen, &self.config) {
            Some(Status::Banned)
        } else if self.config.members_only && !rank.may(Privilege::EnterMembersOnly, &self.config) {
            Some(Status::AffiliationLost)
        } else {
            None
        }
    }

    /// §5.1.3: what an affiliation gives is given; what goes with its loss is the rank of an admin.
    fn role_after(&self, occupant: &Occupant, old: Affiliation, new: Affiliation) -> Role {
        let initial = initial_role(new, self.config.moderated);
        if old >= Affiliation::Admin && new < Affiliation::Admin { initial } else { initial.max(occupant.role) }
    }

    /// Tells those who may see the list of somebody who is not in the room, and the one who is on it now.
    fn tell_of_absent(&mut self, actor: &Jid, effect: &Effect, out: &mut Outcome) {
        let (who, old, new) = (&effect.change.who, effect.old, effect.change.person.affiliation);
        if old == new || effect.is_seen {
            return;
        }
        if let Some(needed) = listing(old).or_else(|| listing(new)) {
            let mut item = Item::new(new, Role::None).jid(Some(who));
            item.reason = effect.change.reason.as_deref();
            let (since, until) = effect.versions;
            let x: Element = payload::user_item(item, &[]).child(self.versions_element(Some(since), until));
            let message = Stanza::message(MessageType::Normal).from(self.jid.clone()).child(x);
            let may = |occupant: &&Occupant| self.rank_of(occupant).may(needed, &self.config);
            let told: Vec<FullJid> = self
                .occupants
                .iter()
                .map(|(_, occupant)| occupant)
                .filter(may)
                .flat_map(|o| o.sessions().cloned())
                .collect();
            out.send_many(message, &told.into(), &[]);
        }
        let joins = new == Affiliation::Member && old < Affiliation::Member;
        if joins && self.config.members_only && !effect.change.invited && who.localpart().is_some() {
            let who = who.clone();
            self.invite_member(actor, &who, out);
        }
    }

    /// What is to be stored of a voice that was given or taken (§5.1), if it is to last.
    pub(super) fn voice_change(&self, occupant: &Occupant, role: Role) -> Option<PersonChange> {
        let affiliation = self.affiliation_of(occupant);
        let lasts = self.config.moderated && affiliation < Affiliation::Admin;
        if !lasts || !matches!(role, Role::Visitor | Role::Participant) {
            return None;
        }
        let known = self.people.person(occupant.who.as_str()).cloned();
        let mut person = known.clone().unwrap_or(Person::new(Affiliation::None));
        person.voice = Some(role).filter(|role| *role != initial_role(affiliation, true));
        let is_new = known.is_none_or(|known| known != person);
        let change = PersonChange { who: occupant.who.clone(), person, reason: None, invited: true };
        is_new.then_some(change)
    }

    /// Has `act` done when `changes` are stored; at once if there is nothing to store.
    pub(super) fn commit(
        &mut self,
        at: At,
        request: &Stanza,
        changes: Vec<RoomChange>,
        out: &mut Outcome,
        act: impl FnOnce(&mut Self, At, &mut Outcome) + Send + 'static,
    ) {
        if changes.is_empty() || !self.is_stored() {
            act(self, at, out);
        } else {
            out.after(request, changes, act);
        }
    }
}

/// Whether what is changed for `who` may change what `occupant` is: the same person, or a domain and one of it.
fn concerns(who: &BareJid, occupant: &BareJid) -> bool {
    who == occupant || who.localpart().is_none() && who.domainpart() == occupant.domainpart()
}
