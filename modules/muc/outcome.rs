//! What a room says when it has been given a stanza: what goes out, and what is to be stored.
//!
//! A [`Delivery`] is one stanza and those who get it, so that a message to 5,000 occupants is one stanza and one shared
//! list. Stanzas carry no `to` of their own then; it is written with the start tag.

use std::sync::Arc;
use std::time::SystemTime;

use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::stanza::Stanza;

use super::image::RoomChange;
use super::room::Room;

/// What a stanza comes with: the time, and what it may be given and known by.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The time.
    pub now: SystemTime,
    /// The id in the room's archive if the stanza gets there: growing, and never given before.
    pub id: u64,
    /// What a message would be known by if it were sent again.
    pub digest: Option<u64>,
    /// The stream that it came by: on one and the same nothing is sent again.
    pub stream: Option<u64>,
}

/// What became of a stanza.
#[derive(Default)]
pub struct Outcome {
    /// What goes out, in this order.
    pub send: Vec<Delivery>,
    /// What is to be stored, in this order. What the sender waits for counts when it is.
    pub store: Vec<RoomChange>,
    /// Nothing has happened yet: `store` is to be committed first, and the room to be told with [`Room::stored`]. It may
    /// be given nothing else in between.
    pub pending: Option<Pending>,
}

/// A stanza and who gets it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What they get; its `to` says nothing.
    pub stanza: Stanza,
    /// Who.
    pub to: Recipients,
}

/// Who gets a stanza.
#[derive(Debug, Clone)]
pub enum Recipients {
    /// One address.
    One(Jid),
    /// The sessions of occupants, shared with other deliveries, without some.
    Many {
        /// Full JIDs.
        all: Arc<[FullJid]>,
        /// Those of them who do not get it.
        but: Box<[FullJid]>,
    },
}

impl Recipients {
    /// The addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Jid> {
        let (one, all, but) = match self {
            Self::One(jid) => (Some(jid), &[][..], &[][..]),
            Self::Many { all, but } => (None, &**all, &**but),
        };
        one.into_iter().chain(all.iter().filter(|jid| !but.contains(*jid)).map(|jid| &**jid))
    }
}

/// What a store found when it was to change something that may not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// All is changed.
    Done,
    /// What was to be changed is not there.
    NotFound,
}

/// What happens once something is stored.
pub(super) type Act = Box<dyn FnOnce(&mut Room, At, &mut Outcome) + Send>;

/// What waits for the database.
pub struct Pending {
    pub(super) request: Stanza,
    pub(super) act: Act,
}

impl Outcome {
    pub(super) fn send(&mut self, stanza: Stanza, to: impl Into<Jid>) {
        self.send.push(Delivery { stanza, to: Recipients::One(to.into()) });
    }

    pub(super) fn send_many(&mut self, stanza: Stanza, all: &Arc<[FullJid]>, but: &[FullJid]) {
        if all.len() > but.len() || all.iter().any(|jid| !but.contains(jid)) {
            self.send.push(Delivery { stanza, to: Recipients::Many { all: all.clone(), but: but.into() } });
        }
    }

    /// Answers a stanza, if it may be answered.
    pub(super) fn error(&mut self, stanza: &Stanza, error: &StanzaError) {
        if let (Some(reply), Some(to)) = (stanza.error_reply(error), &stanza.head.from) {
            self.send(reply, to);
        }
    }

    pub(super) fn result(&mut self, request: &Stanza, payload: Option<rookery_xmpp::element::Element>) {
        if let Some(to) = &request.head.from {
            self.send(request.result(payload), to);
        }
    }

    /// `request` is done when `changes` are stored: `act` says what goes out then, its answer included.
    pub(super) fn after(
        &mut self,
        request: &Stanza,
        changes: Vec<RoomChange>,
        act: impl FnOnce(&mut Room, At, &mut Self) + Send + 'static,
    ) {
        self.store.extend(changes);
        self.pending = Some(Pending { request: request.clone(), act: Box::new(act) });
    }
}
