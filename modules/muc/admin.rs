//! XEP-0045 §8 and §9: what moderators and admins ask for: lists of roles and affiliations, and changes of them.
//!
//! A request with several items is done as a whole or not at all.

use std::collections::BTreeMap;

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::rsm::{Request, Start};
use rookery_xmpp::stanza::Stanza;

use super::affiliations::size_of;
use super::image::{Person, RoomChange};
use super::nicks::NickKey;
use super::occupants::Seat;
use super::outcome::{At, Outcome};
use super::payload::{self, Item};
use super::people::{PersonChange, listing};
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role};
use super::room::Room;

/// What a request changes.
#[derive(Default)]
struct Plan {
    people: BTreeMap<BareJid, PersonChange>,
    roles: BTreeMap<Seat, (Role, Option<Box<str>>)>,
}

fn items(query: &Element) -> impl Iterator<Item = &Element> {
    query.elements().filter(|child| child.is("item", ns::MUC_ADMIN))
}

fn affiliation_in(item: &Element) -> Result<Option<Affiliation>, StanzaError> {
    let named = item.get("affiliation").map(|name| Affiliation::from_name(name).ok_or(Condition::BadRequest));
    Ok(named.transpose()?)
}

fn role_in(item: &Element) -> Result<Option<Role>, StanzaError> {
    Ok(item.get("role").map(|name| Role::from_name(name).ok_or(Condition::BadRequest)).transpose()?)
}

impl Room {
    /// A request for a list.
    pub(super) fn list(
        &self,
        from: &Jid,
        stanza: &Stanza,
        query: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let mut asked = items(query);
        let (Some(item), None) = (asked.next(), asked.next()) else { return Err(Condition::BadRequest.into()) };
        let all: Vec<(String, Element)> = match (affiliation_in(item)?, role_in(item)?) {
            (Some(affiliation), None) => {
                let needed = listing(affiliation).ok_or(Condition::BadRequest)?;
                self.check(from, needed)?;
                let listed = self.people.list(affiliation);
                listed.map(|(who, person)| (who.as_str().to_owned(), listed_person(who, person))).collect()
            }
            (None, Some(role)) => {
                self.check(
                    from,
                    match role {
                        Role::None => return Err(Condition::BadRequest.into()),
                        Role::Visitor | Role::Participant => Privilege::ListVoices,
                        Role::Moderator => Privilege::ListModerators,
                    },
                )?;
                let occupants = self.occupants.iter().map(|(_, occupant)| occupant);
                occupants
                    .filter(|occupant| occupant.role == role)
                    .map(|occupant| {
                        let mut item = Item::new(self.affiliation_of(occupant), role);
                        (item.jid, item.nick) = (occupant.first_session().map(|jid| &**jid), Some(occupant.nick()));
                        (occupant.nick().to_owned(), item.to_element(ns::MUC_ADMIN))
                    })
                    .collect()
            }
            _ => return Err(Condition::BadRequest.into()),
        };
        let answer = Element::new("query", ns::MUC_ADMIN);
        // What one stanza does not hold comes in pages (XEP-0059), wanted or not.
        let request = Request::find(query)?;
        let most = self.service.limits.page;
        let answer = if request.is_none() && all.len() <= most {
            answer.children(all.into_iter().map(|(_, item)| item))
        } else {
            let id = |place: usize| all.get(place).map(|(id, _)| id.as_str()).unwrap_or_default();
            let request = request.unwrap_or(Request { max: None, start: Start::Forward { after: None } });
            let (range, page) = request.page(all.len(), id, most)?;
            let listed = all.get(range).unwrap_or_default().iter().map(|(_, item)| item.clone());
            answer.children(listed).child(page.to_element())
        };
        out.result(stanza, Some(answer));
        Ok(())
    }

    /// A request to change roles or affiliations.
    pub(super) fn change(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        query: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let rank = self.rank(from);
        let plan = self.plan(from, rank, query)?;
        let mut people: Vec<PersonChange> = plan.people.into_values().collect();
        let mut roles = Vec::new();
        for (seat, (role, reason)) in plan.roles {
            if let Some(occupant) = self.occupants.get(seat) {
                people.extend(self.voice_change(occupant, role));
                roles.push((seat, role, reason));
            }
        }
        self.check_people(&people)?;
        let changes: Vec<RoomChange> = people.iter().map(PersonChange::to_store).collect();
        let (request, from) = (stanza.clone(), from.clone());
        self.commit(at, stanza, changes, out, move |room, at, out| {
            room.apply(at, &from, people, roles, Some(&request), out);
        });
        Ok(())
    }

    fn plan(&self, from: &Jid, rank: Rank, query: &Element) -> Result<Plan, StanzaError> {
        let mut plan = Plan::default();
        for (number, item) in items(query).enumerate() {
            if number >= self.service.limits.items {
                return Err(Condition::PolicyViolation.into());
            }
            let reason = payload::text_of(item, "reason", self.service.limits.text);
            match (affiliation_in(item)?, role_in(item)?) {
                (Some(affiliation), None) => self.plan_affiliation(from, rank, item, affiliation, reason, &mut plan)?,
                (None, Some(role)) => self.plan_role(from, rank, item, role, reason, &mut plan)?,
                // §17.4: not both, and one of them.
                _ => return Err(Condition::BadRequest.into()),
            }
        }
        let occupant = |seat: &Seat| self.occupants.get(*seat).map(|occupant| &occupant.who);
        let both = plan.roles.keys().filter_map(occupant).any(|who| plan.people.contains_key(who));
        let nothing = plan.people.is_empty() && plan.roles.is_empty();
        if both || nothing { Err(Condition::BadRequest.into()) } else { Ok(plan) }
    }

    fn plan_affiliation(
        &self,
        from: &Jid,
        rank: Rank,
        item: &Element,
        affiliation: Affiliation,
        reason: Option<Box<str>>,
        plan: &mut Plan,
    ) -> Result<(), StanzaError> {
        // Nobody learns from an error whether a nickname is there who may not change anything.
        if rank.affiliation < Affiliation::Admin {
            return Err(Condition::Forbidden.into());
        }
        let who = match (item.get("jid"), item.get("nick")) {
            (Some(jid), _) => Jid::new(jid).map_err(|_| Condition::JidMalformed)?.bare(),
            // COMPAT: clients that do not know the JID of an occupant (Gajim, 2023).
            (None, Some(nick)) => self
                .occupants
                .named(nick)
                .and_then(|seat| self.occupants.get(seat))
                .map(|o| o.who.clone())
                .ok_or(Condition::ItemNotFound)?,
            (None, None) => return Err(Condition::BadRequest.into()),
        };
        let known = self.people.person(who.as_str()).cloned();
        let old = known.as_ref().map_or(Affiliation::None, |person| person.affiliation);
        // §9.1: an admin, too, who may ban no admin.
        if who.as_str() == from.bare_str() && affiliation == Affiliation::Outcast {
            return Err(Condition::Conflict.into());
        }
        rank.change_affiliation(old, affiliation)?;
        // A domain is nobody who could be anything but banned.
        if who.localpart().is_none()
            && affiliation > Affiliation::None
            && self.occupants.of_person(who.as_str()).is_empty()
        {
            return Err(Condition::NotAcceptable.into());
        }
        let nick = item.get("nick").filter(|_| item.get("jid").is_some());
        let mut person = Person { affiliation, ..known.unwrap_or(Person::new(Affiliation::None)) };
        person.reason = reason.clone();
        match nick {
            _ if affiliation <= Affiliation::None => person.nick = None,
            Some("") => person.nick = None,
            Some(nick) => person.nick = Some(self.reservable(nick, &who)?),
            None => {}
        }
        if affiliation == Affiliation::Outcast {
            person.voice = None;
        }
        let change = PersonChange { who: who.clone(), person, reason, invited: false };
        match plan.people.insert(who, change) {
            Some(_) => Err(Condition::BadRequest.into()),
            None => Ok(()),
        }
    }

    /// A nickname that is to be reserved for somebody, as it is prepared.
    pub(super) fn reservable(&self, nick: &str, who: &BareJid) -> Result<Box<str>, StanzaError> {
        self.check_nick(nick)?;
        let jid = self.occupant_jid(nick)?;
        if self.is_taken(&NickKey::new(jid.resource())?, who) {
            return Err(Condition::Conflict.into());
        }
        Ok(jid.resource().into())
    }

    fn plan_role(
        &self,
        from: &Jid,
        rank: Rank,
        item: &Element,
        role: Role,
        reason: Option<Box<str>>,
        plan: &mut Plan,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::ListVoices)?;
        let nick = item.get("nick").ok_or(Condition::BadRequest)?;
        let seat = self.occupants.named(nick).ok_or(Condition::ItemNotFound)?;
        let target = self.occupants.get(seat).ok_or(Condition::ItemNotFound)?;
        rank.change_role(self.rank_of(target), role)?;
        if target.who.as_str() == from.bare_str() && role == Role::None {
            return Err(Condition::Conflict.into());
        }
        match plan.roles.insert(seat, (role, reason)) {
            Some(_) => Err(Condition::BadRequest.into()),
            None => Ok(()),
        }
    }

    /// What holds for all people together: there is an owner, and not too many are known.
    pub(super) fn check_people(&self, changes: &[PersonChange]) -> Result<(), StanzaError> {
        let (mut owners, mut known) = (self.people.owners(), self.people.len());
        let mut nicks: Vec<NickKey> = Vec::new();
        for PersonChange { who, person, .. } in changes {
            let old = self.people.person(who.as_str());
            owners += usize::from(person.affiliation == Affiliation::Owner);
            owners -= usize::from(old.is_some_and(|old| old.affiliation == Affiliation::Owner));
            known += usize::from(old.is_none());
            nicks.extend(person.nick.as_deref().and_then(|nick| NickKey::new(nick).ok()));
        }
        nicks.sort_unstable();
        if owners == 0 || nicks.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return Err(Condition::Conflict.into());
        }
        let grows = known > self.people.len() && known > self.service.limits.affiliations;
        if grows { Err(Condition::ResourceConstraint.into()) } else { self.check_size(changes) }
    }

    /// Whether what is known of people is not too long.
    pub(super) fn check_size(&self, changes: &[PersonChange]) -> Result<(), StanzaError> {
        let (before, mut size) = (self.people.size(), self.people.size());
        for PersonChange { who, person, .. } in changes {
            size += size_of(who, person);
            size -= self.people.person(who.as_str()).map_or(0, |old| size_of(who, old));
        }
        let is_too_long = size > before && size > self.service.limits.lists;
        if is_too_long { Err(Condition::ResourceConstraint.into()) } else { Ok(()) }
    }

    /// Refuses who does not have a privilege.
    pub(super) fn check(&self, from: &Jid, needed: Privilege) -> Result<(), StanzaError> {
        if self.rank(from).may(needed, &self.config) { Ok(()) } else { Err(Condition::Forbidden.into()) }
    }
}

/// §17.4: an item of a list of affiliations has no role.
fn listed_person(who: &BareJid, person: &Person) -> Element {
    let reason = person.reason.as_deref().map(|reason| Element::new("reason", ns::MUC_ADMIN).text(reason));
    Element::new("item", ns::MUC_ADMIN)
        .attr("affiliation", person.affiliation.name())
        .attr("jid", who.as_str())
        .attr_opt("nick", person.nick.as_deref())
        .children(reason)
}
