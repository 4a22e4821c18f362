//! XEP-0045 §7.10: registering with a room, which makes a member and reserves a nickname; and taking that back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rookery_xmpp::dataform::{Field, Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

use super::config::Registration;
use super::image::Person;
use super::nicks::NickKey;
use super::outcome::{At, Outcome};
use super::people::PersonChange;
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role};
use super::room::Room;

/// So many requests wait for an admin at any time.
const WAITING: usize = 50;

/// So long somebody waits before the admins are asked for them again.
const PAUSE: Duration = Duration::from_secs(600);

/// A request for membership.
#[derive(Debug, Clone)]
pub(super) struct Application {
    pub(super) who: BareJid,
    pub(super) nick: Box<str>,
    pub(super) since: SystemTime,
}

/// Requests that wait for an admin. They do not outlast the process: whoever waits may ask again.
#[derive(Debug, Default)]
pub(super) struct Applications(BTreeMap<NickKey, Application>);

impl Applications {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Application> {
        self.0.values()
    }

    pub(super) fn get(&self, key: &NickKey) -> Option<&Application> {
        self.0.get(key)
    }

    pub(super) fn take(&mut self, key: &NickKey) -> Option<Application> {
        self.0.remove(key)
    }
}

impl Room {
    /// A request for what is needed to register.
    pub(super) fn registration(&self, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        self.check_may_register(from)?;
        let query = Element::new("query", ns::REGISTER);
        let person = self.people.person(from.bare_str());
        if let Some(nick) = person.and_then(|person| person.nick.as_deref()) {
            let username = Element::new("username", ns::REGISTER).text(nick);
            out.result(stanza, Some(query.child(Element::new("registered", ns::REGISTER)).child(username)));
            return Ok(());
        }
        let form = Form::new(FormType::Form)
            .title("Registration with the room")
            .instructions("Choose the nickname that is to be reserved for you in this room.")
            .form_type(ns::MUC_REGISTER)
            .field(Field::text("muc#register_roomnick", "").label("Desired nickname").required());
        let instructions = Element::new("instructions", ns::REGISTER).text("To register, fill in the form.");
        out.result(stanza, Some(query.child(instructions).child(form.to_element())));
        Ok(())
    }

    /// A submitted registration, or its end.
    pub(super) fn register(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        query: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        if query.find("remove", ns::REGISTER).is_some() {
            return self.unregister(at, from, stanza, out);
        }
        // Who asks what is needed is told that they may not; who registers all the same, that nobody can.
        let is_closed = self.config.registration == Registration::Closed;
        if is_closed && self.people.of(from) == Affiliation::None {
            return Err(Condition::ServiceUnavailable.into());
        }
        self.check_may_register(from)?;
        let bad_request = || StanzaError::new(Condition::BadRequest);
        if query.find("x", ns::X_DATA).is_none() {
            return Err(bad_request());
        }
        let Some(form) = Form::submission(query, ns::MUC_REGISTER)? else {
            out.result(stanza, None);
            return Ok(());
        };
        let nick = form.text("muc#register_roomnick")?.ok_or_else(bad_request)?;
        let who = from.bare();
        let nick = self.reservable(nick, &who)?;
        let affiliation = self.people.of(from);
        if affiliation == Affiliation::None && self.config.registration == Registration::Approval {
            return self.apply_for(at, Application { who, nick, since: at.now }, stanza, out);
        }
        let people = vec![self.membership(&who, &nick)?];
        self.change_registration(at, from, people, stanza, out)
    }

    /// Somebody as a member, at least, with a reserved nickname.
    pub(super) fn membership(&self, who: &BareJid, nick: &str) -> Result<PersonChange, StanzaError> {
        let nick = self.reservable(nick, who)?;
        let affiliation = self.people.of(who);
        if affiliation == Affiliation::Outcast {
            return Err(Condition::NotAllowed.into());
        }
        let known = self.people.person(who.as_str()).cloned().unwrap_or(Person::new(Affiliation::None));
        let person = Person { affiliation: affiliation.max(Affiliation::Member), nick: Some(nick), ..known };
        Ok(PersonChange { who: who.clone(), person, reason: None, invited: false })
    }

    fn apply_for(
        &mut self,
        at: At,
        application: Application,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let key = NickKey::new(&application.nick)?;
        let waiting = &mut self.applications.0;
        let own = waiting.iter().find(|(_, other)| other.who == application.who);
        if let Some((own, other)) = own
            && at.now.duration_since(other.since).is_ok_and(|since| since < PAUSE)
        {
            // The admins are asked already.
            if *own != key {
                return Err(StanzaError::new(Condition::PolicyViolation).with_kind(ErrorKind::Wait));
            }
            out.result(stanza, None);
            return Ok(());
        }
        if waiting.get(&key).is_some_and(|other| other.who != application.who) {
            return Err(Condition::Conflict.into());
        }
        waiting.retain(|_, other| other.who != application.who);
        if waiting.len() >= WAITING {
            return Err(Condition::ResourceConstraint.into());
        }
        waiting.insert(key, application.clone());
        out.result(stanza, None);
        self.ask_admins(at, &application, out);
        Ok(())
    }

    /// A member is none any more; admins and owners only lose the nickname.
    fn unregister(&mut self, at: At, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        let known = self.people.person(from.bare_str()).filter(|person| person.affiliation >= Affiliation::Member);
        let mut person = known.cloned().ok_or(Condition::RegistrationRequired)?;
        person.nick = None;
        if person.affiliation == Affiliation::Member {
            person.affiliation = Affiliation::None;
        }
        let people = vec![PersonChange { who: from.bare(), person, reason: None, invited: true }];
        self.change_registration(at, from, people, stanza, out)
    }

    fn change_registration(
        &mut self,
        at: At,
        from: &Jid,
        people: Vec<PersonChange>,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check_people(&people)?;
        let changes = people.iter().map(PersonChange::to_store).collect();
        let (request, from) = (stanza.clone(), from.clone());
        self.commit(at, stanza, changes, out, move |room, at, out| {
            room.apply_people(at, &from, people, Some(&request), out);
        });
        Ok(())
    }

    fn check_may_register(&self, from: &Jid) -> Result<(), StanzaError> {
        let rank = Rank { role: Role::None, affiliation: self.people.of(from) };
        if rank.may(Privilege::Register, &self.config) { Ok(()) } else { Err(Condition::NotAllowed.into()) }
    }
}
