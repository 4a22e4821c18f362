//! XEP-0045 §7.8.2: mediated invitations, and declining them. Direct ones (XEP-0249) pass the room by.
//!
//! Only who was invited may decline, and the answer goes to nobody but the inviter: the room is no relay for strangers.

use std::collections::{BTreeMap, VecDeque};

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Head, Kind, MessageType, Stanza};

use super::image::{Person, RoomChange};
use super::leaving::{error_in, says_gone};
use super::outcome::{At, Outcome};
use super::payload;
use super::people::PersonChange;
use super::permissions::Privilege;
use super::roles::Affiliation;
use super::room::Room;

/// So many invitations may be declined at any time.
const OPEN: usize = 1000;

/// Who has invited whom.
#[derive(Debug, Default)]
pub(super) struct Invitations {
    /// Inviters by invitee.
    open: BTreeMap<BareJid, Jid>,
    order: VecDeque<BareJid>,
}

impl Invitations {
    fn note(&mut self, invitee: BareJid, inviter: Jid) {
        if self.open.insert(invitee.clone(), inviter).is_none() {
            self.order.push_back(invitee);
        }
        while self.order.len() > OPEN {
            if let Some(oldest) = self.order.pop_front() {
                self.open.remove(&oldest);
            }
        }
    }

    fn take(&mut self, invitee: &BareJid) -> Option<Jid> {
        self.order.retain(|other| other != invitee);
        self.open.remove(invitee)
    }
}

/// What an inviter asks for.
struct Invite {
    to: Jid,
    reason: Option<Box<str>>,
    /// `<continue/>`, with the thread.
    thread: Option<Option<String>>,
}

impl Room {
    /// A message with `<invite/>`s.
    pub(super) fn invite(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        x: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let rank = self.rank(from);
        let needed = if self.config.members_only { Privilege::InviteMembersOnly } else { Privilege::InviteOpen };
        if !rank.may(needed, &self.config) {
            return Err(Condition::Forbidden.into());
        }
        let limits = &self.service.limits;
        let invites: Vec<Invite> = x
            .elements()
            .filter(|child| child.is("invite", ns::MUC_USER))
            .map(|invite| read(invite, limits.text))
            .collect::<Result<_, _>>()?;
        if invites.len() > limits.invitations {
            return Err(Condition::PolicyViolation.into());
        }
        if invites.iter().any(|invite| self.people.of(&invite.to) == Affiliation::Outcast) {
            return Err(Condition::NotAllowed.into());
        }
        // §7.8.2, §9.5: who is invited to a members-only room becomes a member.
        let mut members: BTreeMap<BareJid, PersonChange> = BTreeMap::new();
        for invite in invites.iter().filter(|_| self.config.members_only) {
            let who = invite.to.bare();
            let known = self.people.person(who.as_str()).cloned();
            if known.as_ref().is_none_or(|person| person.affiliation == Affiliation::None) {
                let person =
                    Person { affiliation: Affiliation::Member, ..known.unwrap_or(Person::new(Affiliation::None)) };
                members.insert(who.clone(), PersonChange { who, person, reason: None, invited: true });
            }
        }
        if self.people.len() + members.len() > limits.affiliations {
            return Err(Condition::ResourceConstraint.into());
        }
        let members: Vec<PersonChange> = members.into_values().collect();
        self.check_size(&members)?;
        let changes: Vec<RoomChange> = members.iter().map(PersonChange::to_store).collect();
        let (id, from) = (stanza.head.id.clone(), from.clone());
        self.commit(at, stanza, changes, out, move |room, at, out| {
            room.apply_people(at, &from, members, None, out);
            for invite in invites {
                room.send_invitation(&from, id.as_deref(), &invite, out);
            }
        });
        Ok(())
    }

    fn send_invitation(&mut self, inviter: &Jid, id: Option<&str>, invite: &Invite, out: &mut Outcome) {
        let thread = invite
            .thread
            .as_ref()
            .map(|thread| Element::new("continue", ns::MUC_USER).attr_opt("thread", thread.as_deref()));
        let reason = invite.reason.as_deref().map(|reason| Element::new("reason", ns::MUC_USER).text(reason));
        let inside = Element::new("invite", ns::MUC_USER)
            .attr("from", self.inviter_address(inviter).as_str())
            .children(reason)
            .children(thread);
        let password = self.config.password.as_deref().map(|text| Element::new("password", ns::MUC_USER).text(text));
        let mut message = Stanza::message(MessageType::Normal)
            .from(self.jid.clone())
            .child(payload::user().child(inside).children(password));
        message.head.id = id.map(Into::into);
        self.invitations.note(invite.to.bare(), inviter.clone());
        out.send(message, invite.to.clone());
    }

    /// Tells somebody that they have become a member of a members-only room (§9.5).
    pub(super) fn invite_member(&mut self, inviter: &Jid, who: &BareJid, out: &mut Outcome) {
        let invite = Invite { to: who.clone().into_jid(), reason: None, thread: None };
        self.send_invitation(inviter, None, &invite, out);
    }

    /// How an inviter is called: where JIDs are hidden, by the occupant JID; who is not in the room has none, and then it is
    /// the room that invites.
    fn inviter_address(&self, inviter: &Jid) -> Jid {
        if self.config.is_non_anonymous() {
            return inviter.bare().into_jid();
        }
        let other = || self.occupants.get(*self.occupants.of_person(inviter.bare_str()).first()?);
        match self.occupant_of(inviter).or_else(other) {
            Some(occupant) => occupant.jid.clone().into(),
            None => self.jid.clone().into_jid(),
        }
    }

    /// A message with `<decline/>`.
    pub(super) fn decline(&mut self, from: &Jid, stanza: &Stanza, decline: &Element, out: &mut Outcome) {
        let Some(inviter) = self.invitations.take(&from.bare()) else { return };
        let reason = payload::text_of(decline, "reason", self.service.limits.text);
        let inside = Element::new("decline", ns::MUC_USER)
            .attr("from", from.bare_str())
            .children(reason.map(|reason| Element::new("reason", ns::MUC_USER).text(&*reason)));
        let mut message =
            Stanza::message(MessageType::Normal).from(self.jid.clone()).child(payload::user().child(inside));
        message.head.id.clone_from(&stanza.head.id);
        let is_here = self.seat_of(&inviter).is_some();
        out.send(message, if is_here { inviter } else { inviter.bare().into_jid() });
    }

    /// An error for an invitation: its inviter learns that there is nobody of that address (§7.8.2), and not who says so.
    /// Who was invited because they became a member (§9.5) was invited by no message, and has no id to be known by.
    pub(super) fn invitation_error(&mut self, from: &Jid, stanza: &Stanza, out: &mut Outcome) {
        let is_known = stanza.head.id.is_some() && self.seat_of(from).is_none();
        if !is_known || !says_gone(error_in(stanza).condition) {
            return;
        }
        let invitee = from.bare();
        let Some(inviter) = self.invitations.take(&invitee) else { return };
        let head = Head {
            from: Some(self.jid.clone().into_jid()),
            id: stanza.head.id.clone(),
            ..Head::new(Kind::Message(MessageType::Error))
        };
        let invite = Element::new("invite", ns::MUC_USER).attr("to", invitee.as_str());
        let error = StanzaError::new(Condition::ItemNotFound).with_by(self.jid.clone());
        let message = Stanza::new(head).child(payload::user().child(invite)).child(error.to_element());
        out.send(message, inviter);
    }
}

fn read(invite: &Element, most: usize) -> Result<Invite, StanzaError> {
    let to = Jid::new(invite.get("to").ok_or(Condition::BadRequest)?).map_err(|_| Condition::JidMalformed)?;
    let thread = invite.find("continue", ns::MUC_USER).map(|inside| inside.get("thread").map(str::to_owned));
    Ok(Invite { to, reason: payload::text_of(invite, "reason", most), thread })
}
