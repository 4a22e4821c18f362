//! Rookery, put together: the conf, the database, the modules and the network become a server.

pub mod control;
pub mod database;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rookery_core::config::{Conf, ConfigError, Listener, ListenerKind};
use rookery_core::control::{AccountCommands, CommandCondition, CommandError, Commands, Reply, Request};
use rookery_core::server::Server;
use rookery_core::store::Store;
use rookery_net::c2s::C2s;
use rookery_net::certs::{Certificates, HostFiles};
use rookery_net::component::Components;
use rookery_net::limits::Admission;
use rookery_net::s2s::{FederateError, S2s};
use rookery_net::server::TlsByKind;
use rookery_net::services::Services;
use rookery_xmpp::jid::BareJid;
use tokio::sync::mpsc;
use tracing::error;

/// How long the connections may take to end when the server does.
const GRACE: Duration = Duration::from_secs(5);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The conf is wrong.
    #[error("{0}")]
    Conf(#[from] ConfigError),
    /// The data folder cannot be had.
    #[error("cannot use the data folder {folder}: {error}")]
    Data {
        /// The folder.
        folder: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The database cannot be had.
    #[error("{0}")]
    Store(#[from] rookery_store::OpenError),
    /// The server's own parts do not start.
    #[error("{0}")]
    Server(#[from] rookery_core::server::StartError),
    /// A certificate cannot be had.
    #[error("{0}")]
    Certificate(#[from] rookery_net::certificate::CertificateError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// There is no talking to other servers.
    #[error("{0}")]
    Federate(#[from] FederateError),
    /// A port cannot be had.
    #[error("{0}")]
    Listen(#[from] rookery_net::listen::ListenError),
}

/// A server that has begun to serve.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The ports, with the addresses they really have.
    pub listeners: Vec<(Listener, SocketAddr)>,
}

/// Judges what a conf says of modules, without starting anything.
pub fn judge(conf: &Conf) -> Result<(), ConfigError> {
    conf.check_modules(&rookery_modules::ALL.iter().map(|module| module.name).collect::<Vec<_>>())?;
    conf.hosts()
        .iter()
        .try_for_each(|host| rookery_modules::ALL.iter().try_for_each(|module| module.judge(conf, &host.domain)))
}

/// Whether a conf has a domain served here, without starting anything: a host, a service of one, or a component.
pub fn serves(conf: &Conf, domain: &BareJid) -> Result<bool, ConfigError> {
    if conf.is_host(domain.as_str()) || conf.component(domain.as_str()).is_some() {
        return Ok(true);
    }
    for host in conf.hosts() {
        for module in rookery_modules::ALL {
            if module.domains(conf, &host.domain)?.contains(domain) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Serves until `shutdown`. `on_ready` is called once all ports are open; each conf from `reloads` replaces the one before.
pub async fn serve(
    conf: Conf,
    on_ready: impl FnOnce(&Ready),
    reloads: mpsc::Receiver<Conf>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let store = conf.store().clone();
    serve_from(async move { Ok(database::open(&store).await?) }, conf, on_ready, reloads, shutdown).await
}

/// The same with a database that the caller opens, once nothing else stands in the way.
pub async fn serve_from(
    store: impl Future<Output = Result<Arc<dyn Store>, StartError>>,
    conf: Conf,
    on_ready: impl FnOnce(&Ready),
    mut reloads: mpsc::Receiver<Conf>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    judge(&conf)?;
    let data = &conf.server().data;
    let control = control::ControlSocket::open(data)
        .map_err(|error| StartError::Data { folder: data.display().to_string(), error })?;
    let store = store.await?;
    let server = Server::start(conf.clone(), store.clone(), rookery_modules::ALL).await?;
    let certificates = Arc::new(Certificates::open(HostFiles::of_conf(&conf), None)?);
    let tls = TlsByKind::new(certificates.clone()).map_err(|error| StartError::Tls(error.to_string()))?;
    let admission = Admission::new(conf.limits().into());
    let federates = conf.s2s().enabled;
    let listeners: Vec<_> =
        conf.listeners().iter().filter(|port| federates || port.kind != ListenerKind::S2s).cloned().collect();
    let ports =
        rookery_net::server::Server::bind(&listeners, tls, admission.clone(), conf.limits().tls_handshake.get())?;
    let ready = Ready { listeners: ports.ports().map(|port| (port.conf.clone(), port.address)).collect() };

    let servers = federates.then(|| S2s::new(server.clone(), certificates.clone())).transpose()?;
    let services =
        Arc::new(Services { clients: C2s::new(server.clone()), servers, components: Components::new(server.clone()) });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let stopped = || {
        let mut stopped = stopped.clone();
        // An error means that the other end is gone: that, too, is the end.
        async move { drop(stopped.wait_for(|stopped| *stopped).await) }
    };
    let commands = Arc::new(LiveCommands { accounts: AccountCommands::new(&conf, store), server: server.clone() });
    let control = tokio::spawn(control.serve(commands, stopped()));
    let network = tokio::spawn(ports.run(services.clone(), stopped(), GRACE));
    on_ready(&ready);
    let sessions = server.clone();
    tokio::spawn(async move { sessions.bring_all_back().await });

    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(conf) = reloads.recv() => {
                if let Err(fault) = server.reload(conf.clone(), rookery_modules::ALL) {
                    error!("the conf stays as it was: {fault}");
                    continue;
                }
                certificates.reload(HostFiles::of_conf(&conf), None);
                admission.set_limits(conf.limits().into());
                services.reload();
                if let Err(failure) = server.begin().await {
                    error!("not all modules could begin with the new conf: {failure}");
                }
            }
        }
    }
    stop.send_replace(true);
    for task in [network, control] {
        if let Err(failure) = task.await {
            error!("a part of the server ended badly: {failure}");
        }
    }
    server.finish().await;
    Ok(())
}

/// Commands as a running server carries them out: sessions follow the database.
struct LiveCommands {
    accounts: AccountCommands<dyn Store>,
    server: Arc<Server>,
}

#[async_trait]
impl Commands for LiveCommands {
    async fn run(&self, request: Request) -> Result<Reply, CommandError> {
        let jid = match &request {
            Request::Room(request) => return Ok(Reply::Room(self.server.command_rooms(request.clone()).await?)),
            Request::S2s(request) => return Ok(Reply::S2s(self.server.command_remotes(request.clone())?)),
            Request::UserDel { jid } => jid,
            Request::UserPasswd { jid, .. } => {
                let account = self.accounts.account(jid)?;
                let reply = self.accounts.run(request).await?;
                self.server.password_changed(&account, None);
                return Ok(reply);
            }
            Request::UserAdd { .. } | Request::UserList { .. } | Request::UserArchive { .. } => {
                return self.accounts.run(request).await;
            }
        };
        let account = self.accounts.account(jid)?;
        if self.server.delete_account(&account).await? {
            Ok(Reply::Account { jid: account.to_string() })
        } else {
            Err(CommandError::new(CommandCondition::ItemNotFound, format!("there is no account {account}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rookery_core::config::Secret;
    use rookery_core::session::StreamInfo;
    use rookery_store::MemoryStore;
    use rookery_xmpp::error::StreamCondition;
    use rookery_xmpp::sasl::Credentials;

    use super::*;

    #[tokio::test]
    async fn a15_a_password_that_an_admin_sets_ends_the_sessions() {
        let conf = Conf::parse("[host.localhost]\n", "test.toml").unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let romeo = BareJid::new("romeo@localhost").unwrap();
        store.create_account(&romeo, &Credentials::from_password("old", 10_000).unwrap()).await.unwrap();
        let server = Server::start(conf.clone(), store.clone(), rookery_modules::ALL).await.unwrap();
        let stream = StreamInfo { id: 1, peer: [127, 0, 0, 1].into(), secured: true };
        let session = server.bind(&romeo, Some("orchard"), stream).await.unwrap();
        let commands = LiveCommands { accounts: AccountCommands::new(&conf, store.clone()), server };
        let close = || session.drain(session.connection(), &mut Vec::new(), 1 << 16, Instant::now()).unwrap().close;
        for (jid, ends) in [("nobody@localhost", false), ("romeo@example.org", false), ("Romeo@localhost", true)] {
            let request = Request::UserPasswd { jid: jid.to_owned(), password: Secret::new("new") };
            assert_eq!(commands.run(request).await.is_ok(), ends);
            assert_eq!(close().map(|error| error.condition), ends.then_some(StreamCondition::Reset));
        }
        assert!(store.credentials(&romeo).await.unwrap().unwrap().verify_password("new"));
    }
}
