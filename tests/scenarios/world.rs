//! The server of a scenario: the real one, in this process, on ports of the system's choice, with a database of its own. Or
//! several of them, with a wire in between.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use rookery_core::config::{Conf, ListenerKind};
use rookery_core::server::Server;
use rookery_core::store::Store;
use rookery_net::c2s::C2s;
use rookery_net::certs::{Certificates, HostFiles};
use rookery_net::limits::Admission;
use rookery_net::tls::Tls;
use rookery_store::MemoryStore;
use rookery_store::testing::{PostgresServer, TempDir};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::sasl::Credentials;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::script::{Character, Kind, Script};
use crate::support::wire::Wire;

/// Which database the servers have, by `ROOKERY_TEST_STORE`.
pub(crate) enum Database {
    Sqlite,
    Memory,
    Postgres(PostgresServer),
}

/// The servers of a scenario: one, or several that federate.
pub(crate) struct World {
    servers: BTreeMap<String, Running>,
    domains: BTreeSet<String>,
    /// What lies between them, if there are several.
    wire: Option<Arc<Wire>>,
}

/// A running server.
struct Running {
    ports: BTreeMap<&'static str, SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
    _folder: TempDir,
}

/// The ports of each server, by the name that a script's property `listener` has for them.
const LISTENERS: [(&str, &str); 3] = [
    ("trusted", "tls = \"plain\"\nallow_plain_passwords = true"),
    ("plain", "tls = \"plain\""),
    ("starttls", "tls = \"starttls\""),
];

/// How long the connections may take to end when a server does.
const GRACE: Duration = Duration::from_secs(5);

impl World {
    /// Starts the servers for the domains of a script, with its accounts.
    pub(crate) async fn start(script: &Script, database: &Database) -> Result<Self, String> {
        let names: BTreeSet<&str> = script.characters.iter().map(Character::server).collect();
        let mut world = Self { servers: BTreeMap::new(), domains: BTreeSet::new(), wire: None };
        if names.len() > 1 {
            world.wire = Some(Wire::new());
        }
        for name in names {
            let domains = domains(script, name);
            let running = Running::start(script, name, &domains, database, world.wire.as_ref()).await?;
            world.servers.insert(name.to_owned(), running);
            world.domains.extend(domains);
        }
        Ok(world)
    }

    /// Where a listener of this name is.
    pub(crate) fn port(&self, server: &str, name: &str) -> Result<SocketAddr, String> {
        let ports = self.servers.get(server).map(|server| &server.ports);
        ports.and_then(|ports| ports.get(name)).copied().ok_or_else(|| format!("there is no listener \"{name}\""))
    }

    /// What lies between the servers, if there are several.
    pub(crate) fn wire(&self) -> Option<&Arc<Wire>> {
        self.wire.as_ref()
    }

    /// The domains of all servers.
    pub(crate) fn domains(&self) -> impl Iterator<Item = &String> {
        self.domains.iter()
    }

    /// Ends the servers; that they can is part of every test.
    pub(crate) async fn stop(self) -> Result<(), String> {
        if let Some(refused) = self.wire.as_ref().map(|wire| wire.refused()).filter(|refused| !refused.is_empty()) {
            return Err(format!("a server has refused what another has sent: {refused:?}"));
        }
        for (_, server) in self.servers {
            drop(server.stop);
            match server.task.await {
                Ok(Ok(())) => {}
                other => return Err(format!("the server ended badly: {other:?}")),
            }
        }
        Ok(())
    }
}

impl Running {
    async fn start(
        script: &Script,
        name: &str,
        domains: &BTreeSet<String>,
        database: &Database,
        wire: Option<&Arc<Wire>>,
    ) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let conf = conf(script, name, domains, &folder, database)?;
        let conf = Conf::parse(&conf, "the scenario's conf").map_err(|error| error.to_string())?;
        let store: Arc<dyn Store> = match database {
            Database::Memory => Arc::new(MemoryStore::new()),
            _ => rookery::database::open(conf.store()).await.map_err(|error| error.to_string())?,
        };
        let is_here = |character: &&Character| character.kind == Kind::Client && character.server() == name;
        for character in script.characters.iter().filter(is_here) {
            let missing = || format!("{} has no jid and password", character.name);
            let jid = character.property("jid").and_then(|jid| Jid::new(jid).ok()).ok_or_else(missing)?;
            let password = character.property("password").ok_or_else(missing)?;
            if character.property("account") != Some("none") {
                store.create_account(&jid.bare(), &credentials(password)).await.map_err(|error| error.to_string())?;
            }
        }
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let task = match wire {
            None => {
                let (_, reloads) = mpsc::channel(1);
                let on_ready = move |begun: &rookery::Ready| {
                    drop(ready.send(begun.listeners.iter().map(|(_, address)| *address).collect()));
                };
                let serve = rookery::serve_from(async move { Ok(store) }, conf, on_ready, reloads, stopped);
                tokio::spawn(async move { serve.await.map_err(|error| error.to_string()) })
            }
            Some(wire) => tokio::spawn(serve_on_wire(wire.clone(), conf, store, ready, stopped)),
        };
        let Ok(addresses) = is_ready.await else {
            return Err(match task.await {
                Ok(Err(error)) => format!("the server does not start: {error}"),
                other => format!("the server does not start: {other:?}"),
            });
        };
        let addresses: Vec<SocketAddr> = addresses;
        let ports = LISTENERS.iter().map(|(name, _)| *name).zip(addresses).collect();
        Ok(Self { ports, stop, task, _folder: folder })
    }
}

/// A server whose clients come by the network, and other servers by the wire.
async fn serve_on_wire(
    wire: Arc<Wire>,
    conf: Conf,
    store: Arc<dyn Store>,
    ready: oneshot::Sender<Vec<SocketAddr>>,
    stopped: impl Future<Output = ()> + Send,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let certificates = Certificates::open(HostFiles::of_conf(&conf), None).map_err(|error| text(&error))?;
    let tls = Tls::for_clients(Arc::new(certificates)).map_err(|error| text(&error))?;
    let server = Server::start(conf.clone(), store, rookery_modules::ALL).await.map_err(|error| text(&error))?;
    let (admission, handshake) = (Admission::new(conf.limits().into()), conf.limits().tls_handshake.get());
    let listeners: Vec<_> = conf.listeners().iter().filter(|port| port.kind == ListenerKind::C2s).cloned().collect();
    let ports =
        rookery_net::server::Server::bind(&listeners, tls, admission, handshake).map_err(|error| text(&error))?;
    wire.join(&server);
    drop(ready.send(ports.ports().map(|port| port.address).collect()));
    ports.run(C2s::new(server.clone()), stopped, GRACE).await;
    server.finish().await;
    wire.leave(&server);
    Ok(())
}

/// The domains of a server: those of its characters, or `localhost`.
fn domains(script: &Script, server: &str) -> BTreeSet<String> {
    let here = script.characters.iter().filter(|character| character.server() == server);
    let jids = here.filter_map(|character| Jid::new(character.property("jid")?).ok());
    let mut domains: BTreeSet<String> = jids.map(|jid| jid.domainpart().to_owned()).collect();
    if server.is_empty() {
        domains.insert("localhost".to_owned());
    }
    domains
}

fn conf(
    script: &Script,
    server: &str,
    domains: &BTreeSet<String>,
    folder: &TempDir,
    database: &Database,
) -> Result<String, String> {
    let path = folder.path().display();
    let store = match database {
        Database::Postgres(server) => {
            format!("store.backend = \"postgres\"\nstore.connections = 3\nstore.url = {:?}", server.create_database()?)
        }
        _ => "store.durability = \"relaxed\"".to_owned(),
    };
    let mut conf = format!("server.data = \"{path}/data\"\nserver.certs = \"{path}/certs\"\n{store}\n");
    let names: BTreeSet<&str> = ["", server].into();
    let said: String = names.into_iter().filter_map(|name| script.confs.get(name)).map(String::as_str).collect();
    conf += &said;
    for domain in domains.iter().filter(|domain| !said.contains(&format!("host.\"{domain}\""))) {
        conf += &format!("[host.\"{domain}\"]\n");
    }
    for (_, options) in LISTENERS {
        conf += &format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{options}\n");
    }
    Ok(conf)
}

/// Keys with as few rounds as RFC 7677 allows, made once for each password.
fn credentials(password: &str) -> Credentials {
    static MADE: LazyLock<Mutex<BTreeMap<String, Credentials>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let make = || Credentials::from_password(password, 4096).expect("a password of a script");
    made.entry(password.to_owned()).or_insert_with(make).clone()
}
