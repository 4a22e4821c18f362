//! Rooms as services: the domains they live in, which rooms there are, and the way from a stanza that arrives to a room and
//! from there to sessions and to the disk.
//!
//! `rooms` has the rooms and lets each be busy with one thing at a time (`turn`); `answer` does what a room says;
//! `creation` judges who may make one; `codec` and `record` are between the room and the database; `desk` answers what is
//! asked of the service itself, from the `directory`; `archive` what is asked of a room's archive; `ghosts` are those who are in
//! a room and nowhere else; the `blocklist` names those who are kept out; `commands` are an admin's, and `stopped` does them without a server.

mod answer;
mod archive;
mod blocklist;
mod codec;
mod commands;
mod conf;
mod creation;
mod desk;
mod directory;
mod ghosts;
mod rate;
pub mod record;
mod retraction;
mod rooms;
mod stopped;
mod terms;
mod turn;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rookery_core::archive::keeping::{self, Keeping};
use rookery_core::control::rooms::{RoomReply, RoomRequest};
use rookery_core::control::{CommandCondition, CommandError};
use rookery_core::module::{Arrival, Fault, Hooks, Module, Setup, Xep};
use rookery_core::server::Server;
use rookery_core::store::StoreError;
use rookery_xmpp::jid::BareJid;

pub use self::conf::MucConf;
use self::rooms::Rooms;
pub use self::stopped::StoppedRooms;
use self::terms::Terms;

/// How often rooms are looked after.
const ROUND: Duration = Duration::from_secs(15);

/// Rooms.
pub struct Muc {
    services: Vec<Arc<Rooms>>,
    /// The archives of each service.
    keeping: Vec<Arc<Keeping>>,
    terms: Arc<Terms>,
}

/// A service as long as the server runs.
#[derive(Default)]
struct Lasting(OnceLock<Arc<Rooms>>);

impl Module for Muc {
    const NAME: &'static str = "muc";
    const XEPS: &'static [Xep] = &[
        Xep(45, "1.35.5"),
        Xep(59, "1.0"),
        Xep(203, "2.0"),
        Xep(313, "1.1.3"),
        Xep(317, "0.3.1"),
        Xep(359, "0.7.0"),
        Xep(410, "1.1.0"),
        Xep(421, "1.0.1"),
        Xep(424, "0.4.2"),
        Xep(425, "0.3.0"),
        Xep(431, "0.2.0"),
        Xep(463, "0.2.0"),
        Xep(486, "0.1.0"),
        Xep(488, "0.1.0"),
        Xep(500, "0.1.1"),
        Xep(502, "0.1.0"),
    ];
    type Config = MucConf;

    fn judge(conf: &MucConf) -> Result<(), Fault> {
        conf.judge()
    }

    fn domains(conf: &MucConf, host: &BareJid) -> Result<Vec<BareJid>, Fault> {
        conf.domains(host)
    }

    fn new(conf: MucConf, setup: &Setup<'_>) -> Result<Self, Fault> {
        let domains = conf.domains(setup.domain)?;
        let terms = Arc::new(Terms::new(&conf, setup)?);
        let service = |domain| {
            let lasting: Arc<Lasting> = setup.lasting(&domain);
            lasting.0.get_or_init(|| Rooms::new(domain, setup.domain.clone(), terms.clone())).clone()
        };
        let services: Vec<_> = domains.into_iter().map(service).collect();
        let keeping = |service: &Arc<Rooms>| Arc::new(Keeping::new(service.domain().clone(), conf.archive_keep));
        let keeping = services.iter().map(keeping).collect();
        Ok(Self { services, keeping, terms })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        let domains: Vec<_> = on.module().services.iter().map(|service| service.domain().clone()).collect();
        for domain in domains {
            on.component(domain.clone(), Self::arrived).rooms(domain, Self::command);
        }
        on.begin(Self::begin).end(Self::end).every(ROUND, Self::round).every(keeping::EXPIRY, Self::expire);
    }
}

impl Muc {
    async fn arrived(self: Arc<Self>, server: Arc<Server>, arrival: Arrival) {
        let domain = arrival.stanza.head.to.as_ref().map(|to| to.domainpart());
        let service = self.services.iter().find(|service| domain == Some(service.domain().as_str()));
        if let Some(service) = service.cloned() {
            service.arrived(&server, arrival).await;
        }
    }

    async fn command(self: Arc<Self>, server: Arc<Server>, request: RoomRequest) -> Result<RoomReply, CommandError> {
        let domain = match &request {
            RoomRequest::List { service } => service.clone(),
            _ => BareJid::new(request.room().unwrap_or_default()).ok().map(|room| room.domainpart().to_owned()),
        };
        let service = self.services.iter().find(|service| domain.as_deref() == Some(service.domain().as_str()));
        match service.cloned() {
            Some(service) => commands::carried_out(service, server, request).await,
            None => Err(CommandError::new(CommandCondition::BadRequest, "there are no rooms at this address")),
        }
    }

    async fn begin(self: Arc<Self>, server: Arc<Server>) -> Result<(), StoreError> {
        for service in &self.services {
            service.set_terms(&self.terms);
            service.begin(&server).await?;
        }
        Ok(())
    }

    async fn end(self: Arc<Self>, server: Arc<Server>) {
        for service in &self.services {
            service.say_farewell(&server).await;
        }
    }

    fn expire(self: &Arc<Self>, server: &Arc<Server>) {
        self.keeping.iter().for_each(|keeping| keeping.expire(server));
    }

    fn round(self: &Arc<Self>, server: &Arc<Server>) {
        for service in &self.services {
            service.look_after(server);
        }
    }
}
