//! XEP-0045 §10: what owners ask for: the configuration, changes of it, and the end of the room.

use std::collections::BTreeMap;
use std::sync::Arc;

use rookery_xmpp::dataform::{Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{MessageType, PresenceType, Stanza};

use super::announce::Notice;
use super::config::Config;
use super::config_form::Submitted;
use super::image::{Person, RoomChange};
use super::occupants::{Occupant, Occupants, Seat};
use super::outcome::{At, Outcome};
use super::payload::{self, Item};
use super::people::PersonChange;
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role};
use super::room::{Room, State};
use super::status::Status;

impl Room {
    /// A request for the configuration form.
    pub(super) fn configuration(&self, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        self.check(from, Privilege::Configure)?;
        let list = |affiliation| self.people.list(affiliation).map(|(who, _)| who);
        let title = format!("Configuration of \"{}\"", self.jid.localpart().unwrap_or_default());
        let limits = &self.service.limits;
        let form = self.config.form(title, limits, list(Affiliation::Admin), list(Affiliation::Owner));
        out.result(stanza, Some(Element::new("query", ns::MUC_OWNER).child(form)));
        Ok(())
    }

    /// A submitted or cancelled configuration, or the request to destroy the room.
    pub(super) fn configure(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        query: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::Configure)?;
        if let Some(destroy) = query.find("destroy", ns::MUC_OWNER) {
            return self.destroy(at, stanza, destroy, out);
        }
        let form = Form::find(query)?.ok_or(Condition::BadRequest)?;
        if form.kind() == FormType::Cancel {
            if self.is_locked() {
                self.dissolve(&Element::new("destroy", ns::MUC_USER), out);
            }
            out.result(stanza, None);
            return Ok(());
        }
        let form = Form::submission(query, ns::MUC_ROOMCONFIG)?.ok_or(Condition::BadRequest)?;
        let submitted = self.config.submitted(&form, &self.service.limits)?;
        let people = self.listed_people(&submitted);
        self.check_people(&people)?;
        let config = Arc::new(submitted.config);
        let mut changes = Vec::new();
        let unlocks = self.is_locked();
        if unlocks {
            changes.push(RoomChange::Create { created: self.created });
            let known = self.people.iter().filter(|(who, _)| !people.iter().any(|change| change.who == **who));
            changes.extend(known.map(|(who, person)| RoomChange::Person(who.clone(), Some(person.clone()))));
            changes.extend(self.furniture());
        }
        if unlocks || config != self.config {
            changes.push(RoomChange::Config(config.clone()));
        }
        changes.extend(people.iter().map(PersonChange::to_store));
        let (request, from) = (stanza.clone(), from.clone());
        let act = move |room: &mut Self, at: At, out: &mut Outcome| {
            if unlocks {
                room.state = State::Open;
                let seats: Vec<Seat> = room.occupants.iter().map(|(seat, _)| seat).collect();
                for seat in seats {
                    room.store_visits(seat, out);
                }
            }
            room.apply_config(at, &from, config, people, &request, out);
        };
        if changes.is_empty() {
            act(self, at, out);
        } else {
            out.after(stanza, changes, act);
        }
        Ok(())
    }

    /// The changes that the full lists of owners and admins in a form come to.
    fn listed_people(&self, submitted: &Submitted) -> Vec<PersonChange> {
        let mut wanted: BTreeMap<BareJid, Affiliation> = BTreeMap::new();
        let is_admin = |who: &BareJid| submitted.admins.as_ref().map(|admins| admins.contains(who));
        let below = if submitted.config.members_only { Affiliation::Member } else { Affiliation::None };
        if let Some(owners) = &submitted.owners {
            for (who, _) in self.people.list(Affiliation::Owner).filter(|(who, _)| !owners.contains(*who)) {
                // §10.2: who loses owner status is an admin, unless the form says otherwise.
                let affiliation = if is_admin(who).unwrap_or(true) { Affiliation::Admin } else { below };
                wanted.insert(who.clone(), affiliation);
            }
            wanted.extend(owners.iter().map(|who| (who.clone(), Affiliation::Owner)));
        }
        if let Some(admins) = &submitted.admins {
            for (who, _) in self.people.list(Affiliation::Admin).filter(|(who, _)| !admins.contains(*who)) {
                wanted.entry(who.clone()).or_insert(below);
            }
            for who in admins {
                let is_owner = self.people.person(who.as_str()).is_some_and(|p| p.affiliation == Affiliation::Owner);
                if !is_owner {
                    wanted.entry(who.clone()).or_insert(Affiliation::Admin);
                }
            }
        }
        let mut changes = Vec::new();
        for (who, affiliation) in wanted {
            let known = self.people.person(who.as_str()).cloned().unwrap_or(Person::new(Affiliation::None));
            if known.affiliation != affiliation {
                let nick = known.nick.clone().filter(|_| affiliation > Affiliation::None);
                let person = Person { affiliation, nick, reason: None, ..known };
                changes.push(PersonChange { who, person, reason: None, invited: false });
            }
        }
        changes
    }

    fn apply_config(
        &mut self,
        at: At,
        from: &Jid,
        config: Arc<Config>,
        people: Vec<PersonChange>,
        request: &Stanza,
        out: &mut Outcome,
    ) {
        let old = std::mem::replace(&mut self.config, config);
        let new = self.config.clone();
        self.history.set_most(new.history);
        // Answer, lists, and then the room as it is by now.
        let strangers = if new.members_only && !old.members_only { self.strangers(&people) } else { Vec::new() };
        let mut gone = Vec::new();
        let notice = Notice { statuses: &[Status::MembersOnly], ..Notice::default() };
        for seat in strangers {
            gone.extend(self.expel(seat, &notice, out));
        }
        self.apply_people(at, from, people, Some(request), out);
        for occupant in gone {
            self.announce_departure(&occupant, Role::None, &notice, None, &[], out);
        }
        if new.moderated != old.moderated {
            self.follow_moderation(out);
        }
        if new.presence_broadcast != old.presence_broadcast {
            self.follow_broadcast(out);
        }
        self.notify(&config_statuses(&old, &new), out);
        self.end_if_empty(out);
    }

    /// Those who are not members, nor become such by the same form.
    fn strangers(&self, people: &[PersonChange]) -> Vec<Seat> {
        let affiliation = |occupant: &Occupant| {
            let change = people.iter().find(|change| change.who == occupant.who);
            change.map_or_else(|| self.affiliation_of(occupant), |change| change.person.affiliation)
        };
        let may = |occupant: &Occupant| {
            let rank = Rank { role: Role::None, affiliation: affiliation(occupant) };
            rank.may(Privilege::EnterMembersOnly, &self.config)
        };
        self.occupants.iter().filter(|(_, occupant)| !may(occupant)).map(|(seat, _)| seat).collect()
    }

    /// §5.1.2 gives strangers voice in an unmoderated room, and none in a moderated one.
    fn follow_moderation(&mut self, out: &mut Outcome) {
        let (from, to) =
            if self.config.moderated { (Role::Participant, Role::Visitor) } else { (Role::Visitor, Role::Participant) };
        let affected = |occupant: &Occupant| {
            occupant.role == from && (to == Role::Participant || self.affiliation_of(occupant) == Affiliation::None)
        };
        let seats: Vec<Seat> =
            self.occupants.iter().filter(|(_, occupant)| affected(occupant)).map(|(seat, _)| seat).collect();
        for seat in seats {
            self.give_role(seat, to, &Notice::default(), out);
        }
    }

    fn follow_broadcast(&mut self, out: &mut Outcome) {
        let changed = |occupant: &Occupant| occupant.shown != self.would_show(occupant.role);
        let seats: Vec<Seat> =
            self.occupants.iter().filter(|(_, occupant)| changed(occupant)).map(|(seat, _)| seat).collect();
        for seat in seats {
            self.announce_change(seat, &Notice::default(), out);
        }
    }

    /// §10.2.1: tells all what has changed.
    pub(super) fn notify(&self, statuses: &[Status], out: &mut Outcome) {
        if !statuses.is_empty() {
            let x = payload::user().children(statuses.iter().map(|status| status.to_element()));
            let message = Stanza::message(MessageType::Groupchat).from(self.jid.clone()).child(x);
            out.send_many(message, self.occupants.all(), &[]);
        }
    }

    fn destroy(&mut self, at: At, stanza: &Stanza, destroy: &Element, out: &mut Outcome) -> Result<(), StanzaError> {
        let jid = destroy.get("jid").map(Jid::new).transpose().map_err(|_| Condition::JidMalformed)?;
        let most = self.service.limits.text;
        let text = |name: &'static str| {
            payload::text_of(destroy, name, most).map(|text| Element::new(name, ns::MUC_USER).text(&*text))
        };
        let farewell = Element::new("destroy", ns::MUC_USER)
            .attr_opt("jid", jid.as_ref().map(Jid::as_str))
            .children(text("password"))
            .children(text("reason"));
        let request = stanza.clone();
        self.commit(at, stanza, vec![RoomChange::Destroy], out, move |room, _, out| {
            room.dissolve(&farewell, out);
            out.result(&request, None);
        });
        Ok(())
    }

    /// The end of a room on the service's own decision, which is stored by now.
    pub fn close(&mut self, reason: Option<&str>) -> Outcome {
        let mut out = Outcome::default();
        let reason = reason.map(|reason| Element::new("reason", ns::MUC_USER).text(reason));
        self.dissolve(&Element::new("destroy", ns::MUC_USER).children(reason), &mut out);
        out
    }

    /// Everybody is out, and the room is gone. Each gets one presence, and none of the others' (§10.9).
    pub(super) fn dissolve(&mut self, destroy: &Element, out: &mut Outcome) {
        let item = Item::new(Affiliation::None, Role::None).to_element(ns::MUC_USER);
        for (_, occupant) in self.occupants.iter() {
            let x = payload::user().child(item.clone()).child(destroy.clone()).child(Status::OwnPresence.to_element());
            let presence = Stanza::presence(PresenceType::Unavailable).from(occupant.jid.clone()).child(x);
            for session in occupant.sessions() {
                out.send(presence.clone(), session);
            }
        }
        self.occupants = Occupants::default();
        self.state = State::Gone;
    }
}

/// What is said of a change of the configuration.
fn config_statuses(old: &Config, new: &Config) -> Vec<Status> {
    let mut statuses = Vec::new();
    if old.logging != new.logging {
        statuses.push(if new.logging { Status::LoggingOn } else { Status::LoggingOff });
    }
    if old.whois != new.whois {
        statuses.push(if new.is_non_anonymous() { Status::NowNonAnonymous } else { Status::NowSemiAnonymous });
    }
    let same = Config { logging: new.logging, whois: new.whois, ..old.clone() };
    if same != *new {
        statuses.push(Status::ConfigChanged);
    }
    statuses.sort_unstable();
    statuses
}
