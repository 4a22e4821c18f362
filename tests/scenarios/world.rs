//! The server of a scenario: the real one, in this process, on ports of the system's choice, with a database of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};

use rookery::StartError;
use rookery_core::config::Conf;
use rookery_core::store::Store;
use rookery_store::MemoryStore;
use rookery_store::testing::{PostgresServer, TempDir};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::sasl::Credentials;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::script::{Kind, Script};

/// Which database the servers have, by `ROOKERY_TEST_STORE`.
pub(crate) enum Database {
    Sqlite,
    Memory,
    Postgres(PostgresServer),
}

/// A running server.
pub(crate) struct World {
    ports: BTreeMap<&'static str, SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StartError>>,
    _folder: TempDir,
}

/// The ports of each server, by the name that a script's property `listener` has for them.
const LISTENERS: [(&str, &str); 3] = [
    ("trusted", "tls = \"plain\"\nallow_plain_passwords = true"),
    ("plain", "tls = \"plain\""),
    ("starttls", "tls = \"starttls\""),
];

impl World {
    /// Starts a server for the domains of a script, with its accounts.
    pub(crate) async fn start(script: &Script, database: &Database) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let conf = conf(script, &folder, database)?;
        let conf = Conf::parse(&conf, "the scenario's conf").map_err(|error| error.to_string())?;
        let store: Arc<dyn Store> = match database {
            Database::Memory => Arc::new(MemoryStore::new()),
            _ => rookery::database::open(conf.store()).await.map_err(|error| error.to_string())?,
        };
        for character in script.characters.iter().filter(|character| character.kind == Kind::Client) {
            let missing = || format!("{} has no jid and password", character.name);
            let jid = character.property("jid").and_then(|jid| Jid::new(jid).ok()).ok_or_else(missing)?;
            let password = character.property("password").ok_or_else(missing)?;
            if character.property("account") != Some("none") {
                store.create_account(&jid.bare(), &credentials(password)).await.map_err(|error| error.to_string())?;
            }
        }
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_, reloads) = mpsc::channel(1);
        let on_ready = move |begun: &rookery::Ready| drop(ready.send(begun.clone()));
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(rookery::serve_from(async move { Ok(store) }, conf, on_ready, reloads, stopped));
        let Ok(ready) = is_ready.await else {
            return Err(match task.await {
                Ok(Err(error)) => format!("the server does not start: {error}"),
                other => format!("the server does not start: {other:?}"),
            });
        };
        let addresses = ready.listeners.into_iter().map(|(_, address)| address);
        let ports = LISTENERS.iter().map(|(name, _)| *name).zip(addresses).collect();
        Ok(Self { ports, stop, task, _folder: folder })
    }

    /// Where a listener of this name is.
    pub(crate) fn port(&self, name: &str) -> Result<SocketAddr, String> {
        self.ports.get(name).copied().ok_or_else(|| format!("there is no listener \"{name}\""))
    }

    /// Ends the server; that it can is part of every test.
    pub(crate) async fn stop(self) -> Result<(), String> {
        drop(self.stop);
        match self.task.await {
            Ok(Ok(())) => Ok(()),
            other => Err(format!("the server ended badly: {other:?}")),
        }
    }
}

fn conf(script: &Script, folder: &TempDir, database: &Database) -> Result<String, String> {
    let path = folder.path().display();
    let store = match database {
        Database::Postgres(server) => {
            format!("store.backend = \"postgres\"\nstore.connections = 3\nstore.url = {:?}", server.create_database()?)
        }
        _ => "store.durability = \"relaxed\"".to_owned(),
    };
    let mut conf = format!("server.data = \"{path}/data\"\nserver.certs = \"{path}/certs\"\n{store}\n{}", script.conf);
    let domains = script.characters.iter().filter_map(|character| Jid::new(character.property("jid")?).ok());
    let domains: BTreeSet<String> =
        domains.map(|jid| jid.domainpart().to_owned()).chain(["localhost".to_owned()]).collect();
    for domain in domains.iter().filter(|domain| !script.conf.contains(&format!("host.\"{domain}\""))) {
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
