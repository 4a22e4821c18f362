//! XEP-0045 §6: what is asked of the service itself: what it can do and which rooms there are. Pings and the like are
//! answered as the host answers them.

use std::sync::Arc;

use rookery_core::module::Arrival;
use rookery_core::server::Server;
use rookery_xmpp::dataform::Form;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, MessageType};

use super::rooms::Rooms;

/// What the service can do itself, and what holds for all of its rooms: occupant ids (XEP-0421 §4) and avatars (XEP-0486 §3.1).
const FEATURES: &[&str] = &[ns::DISCO_INFO, ns::DISCO_ITEMS, ns::MUC, ns::RSM, ns::OCCUPANT_ID, ns::VCARD];

/// What the host's modules answer for the service, too.
const BY_HOST: &[&str] = &[ns::PING, ns::VERSION, ns::TIME];

impl Rooms {
    /// A stanza for the service itself.
    pub(super) async fn asked(self: &Arc<Self>, server: &Arc<Server>, arrival: Arrival) {
        let stanza = &arrival.stanza;
        if self.answers.take(stanza, self.domain()) {
            return;
        }
        let is_bare = stanza.head.to.as_ref().is_some_and(|to| to.is_bare());
        let answer = match stanza.head.kind {
            Kind::Iq(IqType::Get) if is_bare => match stanza.payload() {
                Some(query) if query.is("query", ns::DISCO_INFO) => self.info(server, query),
                Some(query) if query.is("query", ns::DISCO_ITEMS) => self.items(query),
                Some(payload) if BY_HOST.contains(&payload.ns()) => {
                    let host = self.host().clone();
                    return server.ask_host(&host, arrival).await;
                }
                _ => Err(Condition::ServiceUnavailable.into()),
            },
            Kind::Iq(IqType::Get | IqType::Set) | Kind::Message(_) => Err(Condition::ServiceUnavailable.into()),
            // A domain has no presence, and what is an answer answers nothing.
            Kind::Iq(_) | Kind::Presence(_) => return,
        };
        match answer {
            Ok(payload) => server.route(stanza.result(Some(payload))).await,
            Err(_) if stanza.head.kind == Kind::Message(MessageType::Error) => {}
            Err(error) => server.bounce(stanza, error, None).await,
        }
    }

    fn info(&self, server: &Arc<Server>, query: &Element) -> Result<Element, StanzaError> {
        if query.get("node").is_some_and(|node| !node.is_empty()) {
            return Err(Condition::ItemNotFound.into());
        }
        let host = server.host(self.host().as_str());
        let by_host = BY_HOST.iter().copied().filter(|ns| host.as_ref().is_some_and(|host| host.table.answers(ns)));
        let features = FEATURES.iter().copied().chain(by_host);
        let identity = Element::new("identity", ns::DISCO_INFO)
            .attr("category", "conference")
            .attr("type", "text")
            .attr("name", self.terms().name.as_str());
        let features = features.map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", feature));
        // Who runs the host runs its rooms, too (XEP-0157): people of other servers may know no other domain of ours.
        let contacts = host.iter().flat_map(|host| host.table.extras()).filter(names_contacts);
        Ok(Element::new("query", ns::DISCO_INFO).child(identity).children(features).children(contacts))
    }

    fn items(&self, query: &Element) -> Result<Element, StanzaError> {
        if query.get("node").is_some_and(|node| !node.is_empty()) {
            return Err(Condition::ItemNotFound.into());
        }
        self.directory.lock().page(query, self.terms().page)
    }
}

/// Whether a form is the one with the contact addresses.
fn names_contacts(form: &Element) -> bool {
    Form::from_element(form).is_ok_and(|form| form.named() == Some(ns::SERVER_INFO))
}
