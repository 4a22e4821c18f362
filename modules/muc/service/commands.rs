//! An admin's commands on rooms while the server runs. What changes a room goes to it as a request of the service's own, in
//! the room's order, so that all who are in it see what they would see if an owner had done it; and its answer comes back
//! to the service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_core::control::rooms::{ListedRoom, RoomReply, RoomRequest};
use rookery_core::control::{CommandCondition, CommandError};
use rookery_core::module::BoxFuture;
use rookery_core::server::{Server, random_id};
use rookery_core::turns;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};

use super::codec;
use super::rooms::{Job, Rooms};
use super::turn::{self, Open, Turn};
use crate::muc::config::Config;
use crate::muc::orders;
use crate::muc::outcome::Outcome;
use crate::muc::room::Room;

/// How long a room may take to answer: longer than the database may.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rooms that are read at once.
const PAGE: usize = 500;

/// Says something to whoever waits for it.
type Tell<T> = Box<dyn FnOnce(T) + Send>;

/// Requests of the service's own that wait for an answer, by id.
#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<Box<str>, Tell<Stanza>>>);

impl Answers {
    /// Takes what a room answers to the service; whether it was waited for.
    pub(super) fn take(&self, answer: &Stanza, service: &BareJid) -> bool {
        let is_ours = answer.head.from.as_ref().is_some_and(|from| from.domainpart() == service.as_str());
        let is_answer = matches!(answer.head.kind, Kind::Iq(IqType::Result | IqType::Error));
        let Some(id) = answer.head.id.as_deref().filter(|_| is_ours && is_answer) else { return false };
        let tell = self.0.lock().remove(id);
        tell.map(|tell| tell(answer.clone())).is_some()
    }
}

/// A room that an admin makes.
pub(super) struct Founding {
    owner: BareJid,
    config: Config,
    tell: Tell<Result<(), CommandError>>,
}

fn no_answer(room: &BareJid) -> CommandError {
    let text = format!("{room} does not answer; the server's log says why, if it knows");
    CommandError::new(CommandCondition::ServiceUnavailable, text)
}

impl Rooms {
    /// Carries out a command on one of the rooms, or lists them.
    pub(super) async fn command(
        self: Arc<Self>,
        server: Arc<Server>,
        request: RoomRequest,
    ) -> Result<RoomReply, CommandError> {
        if let RoomRequest::List { .. } = request {
            return self.list(&server).await;
        }
        let room = orders::room_of(&request)?;
        match &request {
            RoomRequest::Create { owner, config, .. } => {
                let (owner, terms) = (orders::person(owner)?, self.terms());
                let config = orders::new_config(&terms.room, &terms.service.limits, config)?;
                self.create(&server, room, owner, config).await
            }
            _ => self.order(&server, room, request).await,
        }
    }

    async fn order(
        self: &Arc<Self>,
        server: &Arc<Server>,
        room: BareJid,
        command: RoomRequest,
    ) -> Result<RoomReply, CommandError> {
        let id =
            random_id().map_err(|error| CommandError::new(CommandCondition::InternalServerError, error.to_string()))?;
        if let Some(stanza) = orders::request(&command, &id)? {
            let answer = self.administer(server, &room, &id, stanza).await?;
            if answer.head.kind == Kind::Iq(IqType::Error) {
                let error = answer.children().iter().find_map(StanzaError::from_element);
                return Err(error.map_or_else(|| no_answer(&room), |error| orders::refused(&command, &error)));
            }
        }
        // A room that does not stay without people may have ended by what was done.
        let is_done = !command.is_question();
        let ask = move |room: &mut Room, _| (orders::reply(&command, room, true), Outcome::default());
        let reply = self.ask_room(server, &room, ask).await.map_err(|_| no_answer(&room))?;
        let gone =
            || if is_done { Ok(RoomReply::Done { room: room.to_string() }) } else { Err(orders::missing(&room)) };
        reply.unwrap_or_else(gone)
    }

    /// Has a room do what a request asks, and waits for its answer.
    async fn administer(
        self: &Arc<Self>,
        server: &Arc<Server>,
        room: &BareJid,
        id: &str,
        request: Stanza,
    ) -> Result<Stanza, CommandError> {
        let (tell, told) = turns::word();
        self.answers.0.lock().insert(id.into(), Box::new(tell));
        let ask = move |room: &mut Room, at| {
            if room.is_locked() {
                return (false, Outcome::default());
            }
            (true, room.administer(at, request))
        };
        let asked = self.ask_room(server, room, ask).await;
        let mut answer = None;
        if matches!(asked, Ok(Some(true))) {
            server.within(PATIENCE, async { answer = told.await }).await;
        }
        self.answers.0.lock().remove(id);
        match asked {
            Ok(Some(true)) => answer.ok_or_else(|| no_answer(room)),
            Ok(Some(false)) => {
                let text = format!("{room} waits for the one who has made it to configure it");
                Err(CommandError::new(CommandCondition::Conflict, text))
            }
            Ok(None) => Err(orders::missing(room)),
            Err(_) => Err(no_answer(room)),
        }
    }

    async fn create(
        self: &Arc<Self>,
        server: &Arc<Server>,
        room: BareJid,
        owner: BareJid,
        config: Config,
    ) -> Result<RoomReply, CommandError> {
        let is_here = server.host(owner.domainpart()).is_some();
        if is_here && !server.store.account_exists(&owner).await? {
            return Err(orders::no_account(&owner));
        }
        let (tell, told) = turns::word();
        let founding = Founding { owner, config, tell: Box::new(tell) };
        self.give(server, &room, Job::Found(Box::new(founding))).await;
        told.await.unwrap_or_else(|| Err(no_answer(&room)))?;
        server.stored().await.map_err(|_| no_answer(&room))?;
        Ok(RoomReply::Done { room: room.to_string() })
    }

    /// All rooms that are in the database, and how many are in each.
    async fn list(self: &Arc<Self>, server: &Arc<Server>) -> Result<RoomReply, CommandError> {
        let mut occupants: HashMap<BareJid, usize> = HashMap::new();
        for room in self.loaded() {
            let count = self.ask_room(server, &room, |room, _| (room.occupants(), Outcome::default())).await;
            if let Ok(Some(count)) = count {
                occupants.insert(room, count);
            }
        }
        server.stored().await.map_err(|error| {
            let text = error.text.as_deref().unwrap_or("the database does not answer").to_owned();
            CommandError::new(CommandCondition::ServiceUnavailable, text)
        })?;
        let mut rooms = Vec::new();
        let mut after: Option<BareJid> = None;
        loop {
            let page = server.store.rooms(self.domain(), after.as_ref(), PAGE).await?;
            rooms.extend(page.iter().map(|head| ListedRoom {
                occupants: Some(occupants.get(&head.jid).copied().unwrap_or_default()),
                ..codec::listed(head)
            }));
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.jid.clone()),
                _ => return Ok(RoomReply::Rooms { rooms }),
            }
        }
    }
}

impl Turn {
    /// Makes a room for an admin.
    pub(super) async fn found(&mut self, founding: Founding) {
        let Founding { owner, config, tell } = founding;
        tell(match self.try_to_found(owner, config).await {
            Ok(outcome) => {
                // What it is made of is queued for the disk by this.
                self.answer(outcome, None, None).await;
                Ok(())
            }
            Err(error) => Err(error),
        });
    }

    async fn try_to_found(&mut self, owner: BareJid, config: Config) -> Result<Outcome, CommandError> {
        let (room, terms) = (self.hall.jid.clone(), self.rooms.terms());
        match self.load().await {
            Ok(true) => return Err(orders::taken(&room)),
            Ok(false) => {}
            Err(_) => return Err(no_answer(&room)),
        }
        // Whatever has the address in the database would not be a room's.
        if self.server.store.account_exists(&room).await? {
            return Err(orders::taken(&room));
        }
        let (room, outcome) = Room::found(room, terms.service.clone(), config, owner, turn::now(&self.server));
        self.open = Some(Box::new(Open::new(room)));
        Ok(outcome)
    }
}

/// A command's future, with its types left behind: what carries it out comes round to the rooms again.
pub(super) fn carried_out(
    rooms: Arc<Rooms>,
    server: Arc<Server>,
    request: RoomRequest,
) -> BoxFuture<Result<RoomReply, CommandError>> {
    Box::pin(rooms.command(server, request))
}
