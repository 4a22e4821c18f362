//! What a room has said is done: stored, and brought to whom it is for.
//!
//! What its sender waits for is on disk before the stanza counts as handled; others get it at once, as with messages
//! between two. Where nothing may happen before it is stored, the room waits for the database.

use std::sync::Arc;

use rookery_core::fan_out::{Missed, Streams};
use rookery_core::server::Server;
use rookery_core::session::Receipt;
use rookery_core::store::RoomWrite;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::stanza::{Kind, MessageType, PresenceType, Stanza};

use super::codec;
use super::retraction;
use super::rooms::Job;
use super::turn::Turn;
use crate::muc::image::RoomChange;
use crate::muc::outcome::{Delivery, Outcome, Recipients, Stored};

impl Turn {
    /// Does what the room says. `asker`: whoever has sent what it says it to; they wait with this receipt.
    pub(super) async fn answer(&mut self, outcome: Outcome, asker: Option<&Jid>, receipt: Option<Arc<Receipt>>) {
        let mut next = Some(outcome);
        while let Some(Outcome { send, store, pending }) = next.take() {
            match pending {
                None => {
                    self.note(&store);
                    self.keep(store, &receipt);
                    self.deliver(send, asker, &receipt).await;
                }
                Some(pending) => {
                    self.deliver(send, asker, &receipt).await;
                    let result = self.commit(store).await;
                    let at = self.at();
                    let Some(open) = self.open.as_mut() else { return };
                    let act = || open.room.stored(at, pending, result);
                    match self.server.panics.catch(act) {
                        Ok(outcome) => next = Some(outcome),
                        Err(_) => self.abandon(),
                    }
                }
            }
        }
        if let Some(open) = self.open.as_mut() {
            open.audiences.retain(|audience| audience.is_shared());
        }
    }

    /// Stores what nobody in the room waits for.
    fn keep(&self, store: Vec<RoomChange>, receipt: &Option<Arc<Receipt>>) {
        let is_passing = |change: &RoomChange| matches!(change, RoomChange::Enter(_) | RoomChange::Leave(_));
        // Who comes and goes is on disk soon, but nobody has to wait for that.
        let receipt = receipt.as_ref().filter(|_| !store.iter().all(is_passing));
        let mut writes = Vec::with_capacity(store.len());
        for change in store {
            match change {
                RoomChange::Retract { id, by, tombstone } => {
                    let room = self.hall.jid.clone();
                    let retraction = retraction::Retraction { room, id, by, tombstone };
                    retraction.insist(&self.server, receipt.cloned());
                }
                change => writes.extend(self.write(change)),
            }
        }
        self.server.store_room(&self.hall.jid, writes, receipt.cloned());
    }

    /// Stores what the room waits for.
    async fn commit(&mut self, store: Vec<RoomChange>) -> Result<Stored, StanzaError> {
        let mut writes = Vec::with_capacity(store.len());
        let mut retraction = None;
        for change in &store {
            match change.clone() {
                RoomChange::Retract { id, by, tombstone } => {
                    retraction = Some(retraction::Retraction { room: self.hall.jid.clone(), id, by, tombstone });
                }
                change => writes.extend(self.write(change)),
            }
        }
        if let Err(uncommitted) = self.server.commit_room(&self.hall.jid, writes).await {
            if let Some(open) = self.open.as_ref().filter(|_| uncommitted.in_doubt) {
                let before = open.room.unchanged(&store);
                let before = before.into_iter().filter_map(|change| self.write(change));
                self.server.store_room(&self.hall.jid, before.collect(), None);
            }
            return Err(uncommitted.error);
        }
        self.note(&store);
        match retraction {
            Some(retraction) => retraction.carry_out(&self.server).await,
            None => Ok(Stored::Done),
        }
    }

    fn write(&self, change: RoomChange) -> Option<RoomWrite> {
        let maker = match change {
            RoomChange::Config(_) => self.rooms.makers.of(&self.hall.jid),
            _ => None,
        };
        codec::write(self.rooms.domain(), maker.as_ref(), change)
    }

    /// Keeps what others than the room know of it up to date.
    fn note(&self, store: &[RoomChange]) {
        for change in store {
            match change {
                RoomChange::Config(config) => self.rooms.directory.lock().put(&self.hall.jid, config),
                RoomChange::Destroy => self.rooms.directory.lock().remove(&self.hall.jid),
                _ => {}
            }
        }
    }

    // ---- on the way out -------------------------------------------------------------------------------------------

    async fn deliver(&mut self, send: Vec<Delivery>, asker: Option<&Jid>, receipt: &Option<Arc<Receipt>>) {
        let (mut lost, mut gone) = (Vec::new(), Vec::new());
        for Delivery { stanza, to } in send {
            let missed = match to {
                Recipients::One(to) => match to.full().filter(|_| is_shared_out(&stanza)) {
                    Some(to) => {
                        let asked = asker.is_some_and(|asker| *asker == *to);
                        (self.send_to(stanza.clone(), &to, asked), stanza)
                    }
                    None => {
                        self.server.route_for(stanza.to(to), receipt.clone()).await;
                        continue;
                    }
                },
                Recipients::Many { all, but } => (self.fan_out(stanza.clone(), &all, &but), stanza),
            };
            let (missed, stanza) = missed;
            lost.extend(missed.lost);
            gone.extend(missed.gone);
            for to in missed.elsewhere {
                self.server.route(stanza.clone().to(to)).await;
            }
        }
        for session in gone {
            let Some(open) = self.open.as_mut().filter(|open| !open.leaving.contains(&session)) else { continue };
            let stream = open.streams.get(&session).copied();
            open.leaving.insert(session.clone());
            // What it said before it went is to be heard.
            self.hall.state.lock().waiting.push_back(Job::Gone(session, stream));
        }
        if !lost.is_empty() {
            // Before anything else is said to all.
            self.hall.state.lock().waiting.push_front(Job::Lost(lost));
        }
    }

    fn send_to(&self, stanza: Stanza, to: &FullJid, asked: bool) -> Missed {
        match self.open.as_ref() {
            Some(open) => self.server.send_to(stanza, to, &open.streams, asked),
            None => self.server.send_to(stanza, to, &Streams::new(), asked),
        }
    }

    fn fan_out(&mut self, stanza: Stanza, all: &Arc<[FullJid]>, but: &[FullJid]) -> Missed {
        let server: &Arc<Server> = &self.server;
        let Some(open) = self.open.as_mut() else {
            let nobody = Streams::new();
            return server.fan_out(stanza, &mut server.audience(all, &nobody), &nobody, but);
        };
        let known = open.audiences.iter().position(|audience| audience.is_of(all));
        let place = known.unwrap_or_else(|| {
            open.audiences.push(server.audience(all, &open.streams));
            open.audiences.len() - 1
        });
        match open.audiences.get_mut(place) {
            Some(audience) => server.fan_out(stanza, audience, &open.streams, but),
            None => Missed::default(),
        }
    }
}

/// Whether it goes straight into outboxes: what nobody keeps, and no module but guards looks at.
fn is_shared_out(stanza: &Stanza) -> bool {
    matches!(
        stanza.head.kind,
        Kind::Message(MessageType::Groupchat)
            | Kind::Presence(PresenceType::Available | PresenceType::Unavailable | PresenceType::Error)
    )
}
