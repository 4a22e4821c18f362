//! XEP-0045 §7.5: private messages between occupants, and the errors for them.

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Head, Kind, MessageType, Stanza};

use super::leaving::error_in;
use super::occupants::Occupant;
use super::outcome::Outcome;
use super::payload;
use super::permissions::Privilege;
use super::room::Room;

/// An error as one occupant may see another's: what it is, and not who or what says so. Addresses stand in `by`, and
/// servers write them into texts.
pub(super) fn anonymous(error: &StanzaError) -> Element {
    StanzaError::new(error.condition).with_kind(error.kind).to_element()
}

/// Whether nobody is at that address. `service-unavailable` says so of messages to all, but is also what who is blocked
/// gets for a private message.
fn says_absent(condition: Condition) -> bool {
    matches!(
        condition,
        Condition::Gone
            | Condition::ItemNotFound
            | Condition::RecipientUnavailable
            | Condition::RemoteServerNotFound
            | Condition::RemoteServerTimeout
    )
}

impl Room {
    /// A message to an occupant JID.
    pub(super) fn private_message(
        &self,
        from: &Jid,
        to: &Jid,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let sender = self.occupant_of(from).ok_or(Condition::NotAcceptable)?;
        if stanza.head.kind == Kind::Message(MessageType::Groupchat) {
            return Err(Condition::BadRequest.into());
        }
        if !self.rank_of(sender).may(Privilege::Whisper, &self.config) {
            return Err(Condition::Forbidden.into());
        }
        let recipient = self.addressed(to).ok_or(Condition::ItemNotFound)?;
        let mut message = stanza.clone();
        payload::strip(&mut message, &self.jid);
        message.head.from = Some(sender.jid.clone().into());
        message.head.to = None;
        message.append(payload::user());
        message.append(payload::occupant_id(self.id_of(sender)));
        for session in recipient.sessions() {
            out.send(message.clone(), session);
        }
        Ok(())
    }

    /// An error for a private message goes back to who has sent it. `false` when it is not one, or when it says that its
    /// sender is not there at all.
    pub(super) fn private_error(&self, from: &Jid, to: &Jid, stanza: &Stanza, out: &mut Outcome) -> bool {
        // Servers return what they could not deliver, so that what marks a private message comes back.
        let (Some(failed), true) = (self.occupant_of(from), stanza.has("x", ns::MUC_USER)) else { return false };
        let Some(sender) = self.addressed(to) else { return false };
        let error = error_in(stanza);
        let head = Head {
            from: Some(failed.jid.clone().into()),
            id: stanza.head.id.clone(),
            ..Head::new(Kind::Message(MessageType::Error))
        };
        let reply = Stanza::new(head).child(payload::user()).child(anonymous(&error));
        for session in sender.sessions() {
            out.send(reply.clone(), session);
        }
        !says_absent(error.condition)
    }

    /// The occupant that an occupant JID names.
    pub(super) fn addressed(&self, to: &Jid) -> Option<&Occupant> {
        self.occupants.get(self.occupants.named(to.resourcepart()?)?)
    }
}
