//! XEP-0045 §7.13, §8.6, §9.9: forms in messages: requests for voice and for membership, and their approval.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rookery_xmpp::dataform::{Field, FieldType, Form, FormType};
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::nicks::NickKey;
use super::occupants::Seat;
use super::outcome::{At, Outcome};
use super::people::PersonChange;
use super::permissions::Privilege;
use super::registration::Application;
use super::roles::{Affiliation, Role};
use super::room::Room;

/// So long a visitor waits before asking for voice again.
const VOICE_PAUSE: Duration = Duration::from_secs(60);

/// Whether somebody who has asked then may not ask again yet.
fn is_too_soon(asked: SystemTime, now: SystemTime) -> bool {
    now.duration_since(asked).is_ok_and(|since| since < VOICE_PAUSE)
}

impl Room {
    /// A message with a form.
    pub(super) fn form_message(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let x = stanza.find("x", ns::X_DATA).ok_or(Condition::BadRequest)?;
        let form = Form::from_element(x)?;
        match (form.kind(), form.named()) {
            (FormType::Cancel, _) => Ok(()),
            (FormType::Submit, Some(ns::MUC_REQUEST)) if form.get("muc#request_allow").is_some() => {
                self.decide_voice(at, from, stanza, &form, out)
            }
            (FormType::Submit, Some(ns::MUC_REQUEST)) => self.ask_for_voice(at, from, &form, out),
            (FormType::Submit, Some(ns::MUC_REGISTER)) => self.decide_membership(at, from, stanza, &form, out),
            _ => Err(Condition::BadRequest.into()),
        }
    }

    fn ask_for_voice(&mut self, at: At, from: &Jid, form: &Form, out: &mut Outcome) -> Result<(), StanzaError> {
        let occupant = self.occupant_of(from).ok_or(Condition::NotAcceptable)?;
        if form.text("muc#role")? != Some(Role::Participant.name()) {
            return Err(Condition::BadRequest.into());
        }
        // Who has voice needs none.
        if occupant.role != Role::Visitor {
            return Ok(());
        }
        let session = from.full().ok_or(Condition::NotAcceptable)?;
        // By person: who could leave, come back and ask again would have no pause.
        if self.asked_voice.get(from.bare_str()).is_some_and(|asked| is_too_soon(*asked, at.now)) {
            return Err(StanzaError::new(Condition::PolicyViolation).with_kind(ErrorKind::Wait));
        }
        let approval = Form::new(FormType::Form)
            .title("Voice request")
            .instructions(
                "To grant voice to this person, check the box and submit the form; to skip this request, cancel it.",
            )
            .form_type(ns::MUC_REQUEST)
            .field(Field::list("muc#role", "participant").label("Requested role").option("Participant", "participant"))
            .field(Field::new(FieldType::JidSingle, "muc#jid").label("User ID").value(session.as_str()))
            .field(Field::text("muc#roomnick", occupant.nick()).label("Room nickname"))
            .field(Field::boolean("muc#request_allow", false).label("Grant voice to this person?"));
        let message = self.form_to(at, &approval);
        out.send_many(message, self.occupants.moderators(), &[]);
        self.asked_voice.insert(session.bare(), at.now);
        Ok(())
    }

    /// Those who may ask again need not be remembered.
    pub(super) fn forget_voice_requests(&mut self, now: SystemTime) {
        self.asked_voice.retain(|_, asked| is_too_soon(*asked, now));
    }

    fn form_to(&self, at: At, form: &Form) -> Stanza {
        let message = Stanza::message(MessageType::Normal).from(self.jid.clone()).id(format!("form-{}", at.id));
        message.child(form.to_element())
    }

    fn decide_voice(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        form: &Form,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::ApproveVoice)?;
        if form.boolean("muc#request_allow")? != Some(true) {
            return Ok(());
        }
        let nick = form.text("muc#roomnick")?.ok_or(Condition::BadRequest)?;
        let seat: Seat = self.occupants.named(nick).ok_or(Condition::ItemNotFound)?;
        let target = self.occupants.get(seat).ok_or(Condition::ItemNotFound)?;
        // The nickname may be another's by now.
        let is_same = |jid: Jid| jid.bare_str() == target.who.as_str();
        if !form.parsed::<Jid>("muc#jid")?.is_none_or(is_same) {
            return Err(Condition::ItemNotFound.into());
        }
        if target.role != Role::Visitor {
            return Ok(());
        }
        self.rank(from).change_role(self.rank_of(target), Role::Participant)?;
        let people: Vec<PersonChange> = self.voice_change(target, Role::Participant).into_iter().collect();
        self.check_people(&people)?;
        let changes = people.iter().map(PersonChange::to_store).collect();
        let from = from.clone();
        self.commit(at, stanza, changes, out, move |room, at, out| {
            room.apply(at, &from, people, vec![(seat, Role::Participant, None)], None, out);
        });
        Ok(())
    }

    /// The form by which admins decide on a request for membership.
    fn membership_form(&self, application: &Application) -> Form {
        Form::new(FormType::Form)
            .title("Registration request")
            .instructions("To let this person register with the room, check the box and submit the form; to skip this request, cancel it.")
            .form_type(ns::MUC_REGISTER)
            .field(Field::new(FieldType::JidSingle, "muc#jid").label("User ID").value(application.who.as_str()))
            .field(Field::text("muc#register_roomnick", &*application.nick).label("Desired nickname"))
            .field(Field::boolean("muc#register_allow", false).label("Allow this person to register with the room?"))
    }

    /// Shows a request for membership to the admins that are in the room.
    pub(super) fn ask_admins(&self, at: At, application: &Application, out: &mut Outcome) {
        let occupants = self.occupants.iter().map(|(_, occupant)| occupant);
        let admins: Vec<FullJid> = occupants
            .filter(|occupant| self.rank_of(occupant).may(Privilege::ApproveMembers, &self.config))
            .flat_map(|occupant| occupant.sessions().cloned())
            .collect();
        out.send_many(self.form_to(at, &self.membership_form(application)), &admins.into(), &[]);
    }

    /// Shows an admin who enters what waits for an admin.
    pub(super) fn send_applications(&self, at: At, to: &FullJid, out: &mut Outcome) {
        let Some(occupant) = self.occupant_of(to) else { return };
        if self.rank_of(occupant).may(Privilege::ApproveMembers, &self.config) {
            for application in self.applications.iter() {
                out.send(self.form_to(at, &self.membership_form(application)), to);
            }
        }
    }

    fn decide_membership(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        form: &Form,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::ApproveMembers)?;
        let nick = form.text("muc#register_roomnick")?.ok_or(Condition::BadRequest)?;
        let allow = form.boolean("muc#register_allow")? == Some(true);
        let key = NickKey::new(nick)?;
        if !allow {
            self.applications.take(&key).ok_or(Condition::ItemNotFound)?;
            return Ok(());
        }
        let application = self.applications.get(&key).cloned().ok_or(Condition::ItemNotFound)?;
        let change = self.membership(&application.who, &application.nick)?;
        let already = change.person.affiliation > Affiliation::Member;
        let people: BTreeMap<_, _> = [(change.who.clone(), change)].into_iter().filter(|_| !already).collect();
        let people: Vec<PersonChange> = people.into_values().collect();
        self.check_people(&people)?;
        let changes = people.iter().map(PersonChange::to_store).collect();
        let from = from.clone();
        // Until it is stored, the request waits: what the database does not take may be approved once more.
        self.commit(at, stanza, changes, out, move |room, at, out| {
            room.applications.take(&key);
            room.apply_people(at, &from, people, None, out);
        });
        Ok(())
    }
}
