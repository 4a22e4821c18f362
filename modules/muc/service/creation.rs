//! XEP-0045 §10.1: who may make a room, and what they are told who address one that is not there.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_core::module::Arrival;
use rookery_core::server::Server;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, MessageType, PresenceType, Stanza};

use super::conf::Creators;
use super::rooms::Rooms;
use super::turn::{Open, Turn};
use crate::muc::not_in_the_room;
use crate::muc::room::Room;

/// Who has made which room.
#[derive(Default)]
pub(super) struct Makers(Mutex<Made>);

#[derive(Default)]
struct Made {
    by_room: HashMap<BareJid, BareJid>,
    counts: HashMap<BareJid, usize>,
}

impl Made {
    fn add(&mut self, room: BareJid, maker: BareJid) {
        if self.by_room.insert(room, maker.clone()).is_none() {
            *self.counts.entry(maker).or_default() += 1;
        }
    }
}

impl Makers {
    pub(super) fn of(&self, room: &BareJid) -> Option<BareJid> {
        self.0.lock().by_room.get(room).cloned()
    }

    /// A room is made, if its maker has made fewer than so many.
    fn add_within(&self, room: BareJid, maker: BareJid, most: usize) -> bool {
        let made = &mut *self.0.lock();
        let fits = made.counts.get(&maker).is_none_or(|count| *count < most);
        if fits {
            made.add(room, maker);
        }
        fits
    }

    pub(super) fn add(&self, room: BareJid, maker: BareJid) {
        self.0.lock().add(room, maker);
    }

    pub(super) fn remove(&self, room: &BareJid) {
        let made = &mut *self.0.lock();
        let Some(maker) = made.by_room.remove(room) else { return };
        if let Some(count) = made.counts.get_mut(&maker) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                made.counts.remove(&maker);
            }
        }
    }
}

impl Rooms {
    /// Whether somebody may make this room; from then on it counts among theirs.
    fn judge_creation(&self, server: &Arc<Server>, from: &Jid, room: &BareJid) -> Result<(), StanzaError> {
        let terms = self.terms();
        if terms.is_admin(from.bare_str()) {
            self.makers.add(room.clone(), from.bare());
            return Ok(());
        }
        let refused = |text: &'static str| Err(StanzaError::new(Condition::NotAllowed).with_text(text));
        let may = match terms.create {
            Creators::Anybody => true,
            Creators::Local => server.host(from.domainpart()).is_some(),
            Creators::Admins => false,
        };
        if !may {
            return refused("You may not make rooms here.");
        }
        if room.localpart().is_some_and(|name| terms.reserved.contains(name)) {
            return refused("A room of this name is for others to make.");
        }
        if !self.makers.add_within(room.clone(), from.bare(), terms.rooms_per_user) {
            return refused("You have made as many rooms as are allowed.");
        }
        Ok(())
    }
}

impl Turn {
    /// A stanza for a room that is not there.
    pub(super) async fn without_room(&mut self, arrival: Arrival) {
        let stanza = &arrival.stanza;
        let (Some(from), Some(to)) = (stanza.head.from.clone(), stanza.head.to.clone()) else { return };
        let result = match stanza.head.kind {
            Kind::Presence(PresenceType::Available) if stanza.has("x", ns::MUC) => match self.make(&from, stanza).await
            {
                Ok(outcome) => {
                    self.note_stream(&arrival);
                    return self.answer(outcome, Some(&from), arrival.receipt).await;
                }
                Err(error) => Err(error.with_by(self.hall.jid.clone())),
            },
            Kind::Presence(PresenceType::Available) => {
                self.server.route(not_in_the_room(&to).to(from)).await;
                Ok(())
            }
            Kind::Presence(PresenceType::Subscribe) => {
                let answer = Stanza::presence(PresenceType::Unsubscribed).from(to.bare()).to(from.bare());
                self.server.route(answer).await;
                Ok(())
            }
            Kind::Presence(_) | Kind::Message(MessageType::Error) | Kind::Iq(IqType::Result | IqType::Error) => Ok(()),
            Kind::Message(_) => Err(Condition::ItemNotFound.into()),
            Kind::Iq(_) if to.is_bare() => Err(Condition::ItemNotFound.into()),
            // XEP-0410 §3.2: whoever asks is not in the room.
            Kind::Iq(_) => {
                let error = StanzaError::new(Condition::NotAcceptable).with_kind(ErrorKind::Cancel);
                Err(error.with_by(self.hall.jid.clone()))
            }
        };
        if let Err(error) = result {
            self.server.bounce(stanza, error, None).await;
        }
    }

    async fn make(&mut self, from: &Jid, join: &Stanza) -> Result<crate::muc::outcome::Outcome, StanzaError> {
        if join.head.to.as_ref().is_none_or(|to| to.is_bare()) || from.is_bare() {
            return Err(Condition::JidMalformed.into());
        }
        let (rooms, jid) = (self.rooms.clone(), self.hall.jid.clone());
        if let Some(error) = self.server.refuses_to_store() {
            return Err(error);
        }
        // Whatever has the address in the database would not be a room's.
        if self.server.store.account_exists(&jid).await? {
            return Err(Condition::NotAllowed.into());
        }
        // The database may have taken its time: nothing comes between this and the room.
        rooms.judge_creation(&self.server, from, &jid)?;
        let terms = rooms.terms();
        let (at, service, config, locked) = (self.at(), terms.service.clone(), terms.room.clone(), terms.lock_new);
        let make = || Room::create(jid.clone(), service, config, locked, at, join);
        match self.server.panics.catch(make) {
            Ok((room, outcome)) => {
                self.open = Some(Box::new(Open::new(room)));
                Ok(outcome)
            }
            Err(_) => {
                rooms.forget(&jid);
                Err(Condition::InternalServerError.into())
            }
        }
    }
}
