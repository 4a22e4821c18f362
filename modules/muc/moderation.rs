//! XEP-0425: moderators take others' messages back. What is left in the archive is a tombstone (XEP-0424 §4).

use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::image::RoomChange;
use super::outcome::{At, Outcome};
use super::payload;
use super::permissions::Privilege;
use super::room::Room;

impl Room {
    /// `<moderate/>`.
    pub(super) fn moderate(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        moderate: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::Moderate)?;
        let id = moderate.get("id").ok_or(Condition::BadRequest)?;
        if moderate.find("retract", ns::RETRACT).is_none() {
            return Err(Condition::BadRequest.into());
        }
        let number: u64 = id.parse().map_err(|_| Condition::ItemNotFound)?;
        let by = self.occupant_of(from).map(|occupant| occupant.jid.clone());
        let reason = payload::text_of(moderate, "reason", self.service.limits.text);
        let reason = reason.map(|reason| Element::new("reason", ns::RETRACT).text(&*reason));
        let moderated = Element::new("moderated", ns::MODERATE)
            .attr_opt("by", by.as_ref().map(|by| by.as_str()))
            .child(payload::occupant_id(&self.occupant_id(&from.bare())));
        let notice = format!("retraction-{}", at.id);
        let tombstone = Element::new("retracted", ns::RETRACT)
            .attr("id", notice.as_str())
            .attr("stamp", datetime::format(at.now))
            .child(moderated.clone())
            .children(reason.clone());
        let retract = Element::new("retract", ns::RETRACT).attr("id", id).child(moderated).children(reason);
        let request = stanza.clone();
        // The archive knows best whether there is such a message, however old.
        let change = RoomChange::Retract { id: number, by: None, tombstone };
        let act = move |room: &mut Self, at: At, out: &mut Outcome| {
            room.history.retract(number);
            let mut message = Stanza::message(MessageType::Groupchat).from(room.jid.clone()).id(notice).child(retract);
            message.append(payload::stanza_id(&room.jid, at.id));
            out.send_many(message.clone(), room.occupants.all(), &[]);
            room.keep_message(At { digest: None, ..at }, message, None, false, out);
            out.result(&request, None);
        };
        self.commit(at, stanza, vec![change], out, act);
        Ok(())
    }
}
