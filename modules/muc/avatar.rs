//! XEP-0486: the avatar of a room, in its vCard (XEP-0054), with the hashes of XEP-0153.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;
use sha1::{Digest, Sha1};

use super::image::RoomChange;
use super::outcome::{At, Outcome};
use super::permissions::Privilege;
use super::room::Room;
use super::status::Status;

impl Room {
    /// An owner sets the vCard; an empty one takes it away.
    pub(super) fn set_vcard(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        vcard: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::Configure)?;
        if stanza.size() > self.service.limits.vcard {
            return Err(StanzaError::new(Condition::NotAcceptable).with_text("This vCard is too large."));
        }
        let vcard = Some(vcard.clone()).filter(|vcard| !vcard.nodes().is_empty());
        let request = stanza.clone();
        self.commit(at, stanza, vec![RoomChange::Vcard(vcard.clone())], out, move |room, _, out| {
            room.vcard = vcard;
            out.result(&request, None);
            room.notify(&[Status::ConfigChanged], out);
        });
        Ok(())
    }

    /// The hashes of all pictures.
    pub(super) fn avatar_hashes(&self) -> Vec<String> {
        let photos = self.vcard.iter().flat_map(Element::elements).filter(|child| child.is("PHOTO", ns::VCARD));
        photos
            .filter_map(|photo| {
                let text: String = photo.find("BINVAL", ns::VCARD)?.content().split_whitespace().collect();
                let bytes = STANDARD.decode(text).ok()?;
                Some(Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
            })
            .collect()
    }
}
