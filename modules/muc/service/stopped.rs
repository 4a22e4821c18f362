//! An admin's commands on rooms when no server runs: the rooms are read from the database, told what to do, and what they
//! say is to be stored goes back. Nobody is in them to be told.

use std::sync::Arc;
use std::time::SystemTime;

use rookery_core::config::{Conf, ConfigError};
use rookery_core::control::rooms::{self, RoomReply, RoomRequest};
use rookery_core::control::{CommandCondition, CommandError};
use rookery_core::ids;
use rookery_core::module::Module;
use rookery_core::store::{Store, TailChange};
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};

use super::Muc;
use super::codec;
use super::conf::MucConf;
use crate::muc::config::Config;
use crate::muc::orders;
use crate::muc::outcome::{At, Outcome, Recipients, Stored};
use crate::muc::room::{Room, Service};

/// Rooms that are read at once.
const PAGE: usize = 500;

/// The rooms of a conf, in the database.
pub struct StoppedRooms {
    services: Vec<StoppedService>,
    hosts: Vec<BareJid>,
    store: Arc<dyn Store>,
}

struct StoppedService {
    domain: BareJid,
    default: Config,
    service: Arc<Service>,
}

impl StoppedRooms {
    /// The rooms of all hosts of a conf.
    ///
    /// # Errors
    /// When the conf is wrong.
    pub fn new(conf: &Conf, store: Arc<dyn Store>) -> Result<Self, ConfigError> {
        let mut services = Vec::new();
        for host in conf.hosts() {
            let Some(options) = conf.module::<MucConf>(host.domain.as_str(), Muc::NAME, Muc::ON)? else { continue };
            let fault = |fault: rookery_core::module::Fault| {
                conf.fault(host.domain.as_str(), Muc::NAME, fault.option, &fault.why)
            };
            // Nothing is said to anybody that would carry an occupant id, and nobody gets a token.
            let service = Service {
                limits: options.limits(),
                occupant_id: Box::new(|_, _| String::new()),
                token: Box::new(|| None),
            };
            let service = Arc::new(service);
            for domain in options.domains(&host.domain).map_err(fault)? {
                services.push(StoppedService { domain, default: options.room(), service: service.clone() });
            }
        }
        let hosts = conf.hosts().iter().map(|host| host.domain.clone()).collect();
        Ok(Self { services, hosts, store })
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// When it is not carried out.
    pub async fn run(&self, request: RoomRequest) -> Result<RoomReply, CommandError> {
        let domains: Vec<BareJid> = self.services.iter().map(|service| service.domain.clone()).collect();
        let mut replies = Vec::new();
        for (domain, request) in rooms::addressed(request, &domains)? {
            let Some(service) = self.services.iter().find(|service| service.domain == *domain) else { continue };
            replies.push(self.carry_out(service, request).await?);
        }
        Ok(rooms::joined(replies))
    }

    async fn carry_out(&self, service: &StoppedService, request: RoomRequest) -> Result<RoomReply, CommandError> {
        if let RoomRequest::List { .. } = request {
            return self.list(&service.domain).await;
        }
        let room = orders::room_of(&request)?;
        match &request {
            RoomRequest::Create { owner, config, .. } => {
                let owner = orders::person(owner)?;
                let config = orders::new_config(&service.default, &service.service.limits, config)?;
                self.create(service, room, owner, config).await
            }
            RoomRequest::Kick { .. } => {
                let text = format!("no server runs, so nobody is in {room}");
                Err(CommandError::new(CommandCondition::ServiceUnavailable, text))
            }
            _ => self.order(service, room, &request).await,
        }
    }

    async fn list(&self, service: &BareJid) -> Result<RoomReply, CommandError> {
        let mut rooms = Vec::new();
        let mut after: Option<BareJid> = None;
        loop {
            let page = self.store.rooms(service, after.as_ref(), PAGE).await?;
            rooms.extend(page.iter().map(codec::listed));
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.jid.clone()),
                _ => return Ok(RoomReply::Rooms { rooms }),
            }
        }
    }

    async fn create(
        &self,
        service: &StoppedService,
        jid: BareJid,
        owner: BareJid,
        config: Config,
    ) -> Result<RoomReply, CommandError> {
        if self.hosts.iter().any(|host| host.as_str() == owner.domainpart())
            && !self.store.account_exists(&owner).await?
        {
            return Err(orders::no_account(&owner));
        }
        if self.store.room(&jid).await?.is_some() || self.store.account_exists(&jid).await? {
            return Err(orders::taken(&jid));
        }
        let (mut room, outcome) = Room::found(jid.clone(), service.service.clone(), config, owner, now());
        self.follow(service, &mut room, None, outcome).await?;
        Ok(RoomReply::Done { room: jid.to_string() })
    }

    async fn order(
        &self,
        service: &StoppedService,
        jid: BareJid,
        command: &RoomRequest,
    ) -> Result<RoomReply, CommandError> {
        let stored = self.store.room(&jid).await?.ok_or_else(|| orders::missing(&jid))?;
        let (image, maker) = codec::image(&jid, stored)?;
        let mut room = Room::restore(jid.clone(), service.service.clone(), image, now());
        if let Some(stanza) = orders::request(command, "command")? {
            let outcome = room.administer(now(), stanza);
            match self.follow(service, &mut room, maker.as_ref(), outcome).await? {
                Some(answer) if answer.head.kind == Kind::Iq(IqType::Result) => {}
                answer => {
                    let error = answer.iter().flat_map(Stanza::children).find_map(StanzaError::from_element);
                    let nothing = || CommandError::new(CommandCondition::InternalServerError, "the room says nothing");
                    return Err(error.map_or_else(nothing, |error| orders::refused(command, &error)));
                }
            }
        }
        orders::reply(command, &room, false)
    }

    /// Stores what a room says is to be stored. What it says to the service is the answer.
    async fn follow(
        &self,
        service: &StoppedService,
        room: &mut Room,
        maker: Option<&BareJid>,
        outcome: Outcome,
    ) -> Result<Option<Stanza>, CommandError> {
        let mut answer = None;
        let mut next = Some(outcome);
        while let Some(Outcome { send, store, pending }) = next.take() {
            for delivery in send {
                if matches!(&delivery.to, Recipients::One(to) if to.as_str() == service.domain.as_str()) {
                    answer = Some(delivery.stanza);
                }
            }
            let jid = room.jid().clone();
            let writes = store.into_iter().filter_map(|change| codec::write(&service.domain, maker, change));
            let changes: Vec<_> = writes.map(|change| TailChange::Room { room: jid.clone(), change }).collect();
            if !changes.is_empty() {
                self.store.commit(&changes).await?;
            }
            next = pending.map(|pending| room.stored(now(), pending, Ok(Stored::Done)));
        }
        Ok(answer)
    }
}

fn now() -> At {
    let now = SystemTime::now();
    At { now, id: ids::at(now), digest: None, stream: None }
}
