//! What the admin of the server does with a room, by commands: all that an owner may, and making one that nobody is in yet.
//! A request of an admin's is a stanza from the service itself, which nobody else can send, and is answered like any other.

use std::sync::Arc;

use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::stanza::Stanza;

use super::config::Config;
use super::image::Person;
use super::outcome::{At, Outcome};
use super::roles::Affiliation;
use super::room::{Room, Service, State};

impl Room {
    /// Makes a room that nobody is in. It has to be persistent: others end when they are empty.
    pub fn found(jid: BareJid, service: Arc<Service>, config: Config, owner: BareJid, at: At) -> (Self, Outcome) {
        let mut room = Self::new(jid, service, State::Open, config, at);
        room.people.put(owner, Person::new(Affiliation::Owner));
        let mut out = Outcome::default();
        room.store_whole(&mut out);
        (room, out)
    }

    /// Gives the room a request of an admin's, who may do all that an owner may. Its `from` becomes the service.
    pub fn administer(&mut self, at: At, request: Stanza) -> Outcome {
        match BareJid::new(self.jid.domainpart()) {
            Ok(service) => self.take(at, request.from(service).to(self.jid.clone())),
            Err(_) => Outcome::default(),
        }
    }

    /// Whether an address is the service's own.
    pub(super) fn is_service(&self, who: &Jid) -> bool {
        who.as_str() == self.jid.domainpart()
    }
}
