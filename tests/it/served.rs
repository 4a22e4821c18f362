//! A whole server in this process, met by its sockets alone: every port on the loopback net, a database in memory. Its users
//! talk over a plain port that only this test knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rookery::{Ready, StartError};
use rookery_core::config::{Conf, ListenerKind, TlsMode};
use rookery_core::store::{AccountStore, Store};
use rookery_store::MemoryStore;
use rookery_store::testing::TempDir;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::Credentials;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::talk::Talk;

pub(crate) struct Served {
    ready: Ready,
    pub(crate) store: Arc<MemoryStore>,
    conf: String,
    reloads: mpsc::Sender<Conf>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StartError>>,
    folder: Arc<TempDir>,
}

impl Served {
    /// A server with these accounts. `conf` has hosts, other ports than that of users, and all else; `{folder}` in it is a
    /// folder of the test's own, where `files` lie.
    pub(crate) async fn new(conf: &str, files: &[(&str, &str)], accounts: &[&str]) -> Self {
        let folder = Arc::new(TempDir::new().unwrap());
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let store = Arc::new(MemoryStore::new());
        let credentials = Credentials::from_password("secret", 4096).unwrap();
        for account in accounts {
            assert!(store.create_account(&BareJid::new(account).unwrap(), &credentials).await.unwrap());
        }
        let conf = format!(
            "server.data = '{{folder}}/data'\nserver.certs = '{{folder}}/certs'\n{conf}\n\
             [[listen]]\naddress = '127.0.0.1:0'\ntls = 'plain'\nallow_plain_passwords = true\n"
        );
        let conf = conf.replace("{folder}", folder.path().to_str().unwrap());
        Self::start(conf, store, folder).await
    }

    async fn start(conf: String, store: Arc<MemoryStore>, folder: Arc<TempDir>) -> Self {
        let read = Conf::parse(&conf, "test.toml").unwrap();
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (reload, reloads) = mpsc::channel(1);
        let on_ready = move |begun: &Ready| drop(ready.send(begun.clone()));
        let stopped = async move { drop(stopped.await) };
        let database: Arc<dyn Store> = store.clone();
        let task = tokio::spawn(rookery::serve_from(async move { Ok(database) }, read, on_ready, reloads, stopped));
        let Ok(ready) = is_ready.await else { panic!("the server does not start: {:?}", task.await) };
        Self { ready, store, conf, reloads: reload, stop, task, folder }
    }

    /// Takes up another conf, made of the one that it has, as SIGHUP does.
    pub(crate) async fn reload(&self, change: impl FnOnce(&str) -> String) {
        let conf = Conf::parse(&change(&self.conf), "test.toml").unwrap();
        // The second is taken when the first has been taken up.
        for _ in 0..2 {
            self.reloads.send(conf.clone()).await.unwrap();
        }
        self.reloads.reserve().await.unwrap();
    }

    /// Ends in order, and starts again with the same database; the ports are others.
    pub(crate) async fn restart(self) -> Self {
        let (conf, store, folder) = (self.conf.clone(), self.store.clone(), self.folder.clone());
        self.stop().await;
        Self::start(conf, store, folder).await
    }

    /// Ends; that it can is part of every test.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }

    /// What a command says to its admin, and its exit code. Needs a runtime with threads.
    pub(crate) fn rookery(&self, arguments: &[&str]) -> (i32, String) {
        let conf = self.folder.path().join("rookery.toml");
        std::fs::write(&conf, &self.conf).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.arg("--config").arg(conf).args(arguments).env_remove("RUST_LOG");
        let output = tokio::task::block_in_place(|| command.output()).unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    }

    /// The first port of this kind.
    pub(crate) fn port(&self, kind: ListenerKind, tls: TlsMode) -> SocketAddr {
        let mut listeners = self.ready.listeners.iter();
        let found = listeners.find(|(listener, _)| listener.kind == kind && listener.tls == tls);
        found.unwrap_or_else(|| panic!("no port for {kind:?}, {tls:?}")).1
    }

    /// A user who has logged in, is available, and has read what that brings.
    pub(crate) async fn login(&self, user: &str, resource: &str) -> Talk {
        let mut talk = Talk::connect(self.port(ListenerKind::C2s, TlsMode::Plain)).await;
        let (_, host) = user.split_once('@').unwrap();
        let header = format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{host}' version='1.0'>"
        );
        let name = user.split('@').next().unwrap();
        let message = STANDARD.encode(format!("\0{name}\0secret"));
        talk.say(&header).await;
        talk.hear("</stream:features>").await;
        talk.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>")).await;
        talk.hear("<success").await;
        talk.say(&header).await;
        talk.hear("</stream:features>").await;
        talk.say(&format!(
            "<iq id='bind' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        ))
        .await;
        talk.hear("</iq>").await;
        talk.say("<presence/>").await;
        talk.synced(host).await;
        talk
    }
}

/// So many seconds pass for the server at once. In each it deals with what its sockets bring, and `each` is done before. Not
/// for a runtime with threads.
pub(crate) async fn seconds_pass(seconds: usize, mut each: impl FnMut()) {
    tokio::time::pause();
    for _ in 0..seconds {
        each();
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
}

impl Talk {
    /// What came before the server's answer to a ping: all that it had to say up to now.
    pub(crate) async fn synced(&mut self, host: &str) -> String {
        self.say(&format!("<iq type='get' id='synced' to='{host}'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
        let heard = self.hear("id='synced'").await;
        self.hear(">").await;
        let at = heard.rfind("<iq").unwrap_or_default();
        heard[..at].to_owned()
    }
}
