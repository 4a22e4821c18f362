//! A whole server with a database in memory, and clients that talk to it in text.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rookery_core::config::{Conf, Listener, TlsMode};
use rookery_core::module::Entry;
use rookery_core::server::Server;
use rookery_core::store::AccountStore;
use rookery_net::c2s::C2s;
use rookery_net::limits::{Admission, ConnectionLimits};
use rookery_store::MemoryStore;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::sasl::Credentials;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Client, Scratch, client_config, listener, tls};

pub(crate) const STREAM: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='chat.example' version='1.0'>";

pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clients: Arc<C2s>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) starttls: SocketAddr,
    pub(crate) direct: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<()>,
    pub(crate) dir: Scratch,
}

impl World {
    pub(crate) async fn new(name: &str) -> Self {
        Self::with_conf(name, "").await
    }

    pub(crate) async fn with_conf(name: &str, conf: &str) -> Self {
        let store = Arc::new(MemoryStore::new());
        let keys = Credentials::from_password("secret", 4096).expect("keys");
        for user in ["romeo@chat.example", "juliet@chat.example"] {
            assert!(store.create_account(&BareJid::new(user).expect("a JID"), &keys).await.expect("stored"));
        }
        Self::over(name, conf, store, rookery_modules::ALL).await
    }

    /// A server with a database that is there already, and with these modules.
    pub(crate) async fn over(name: &str, conf: &str, store: Arc<MemoryStore>, modules: &[Entry]) -> Self {
        let dir = Scratch::new(name);
        let tls = tls(&dir);
        let config = client_config(&dir);
        let conf = Conf::parse(&format!("[host.'chat.example']\n{conf}"), "test").expect("a conf");
        let server = Server::start(conf, store.clone(), modules).await.expect("started");
        let admission = Admission::new(ConnectionLimits::from(server.conf().limits()));
        let mut plain = listener(TlsMode::Plain);
        plain.allow_plain_passwords = true;
        let ports: [Listener; 3] = [listener(TlsMode::Starttls), listener(TlsMode::Direct), plain];
        let handshake = server.conf().limits().tls_handshake.get();
        let net = rookery_net::server::Server::bind(&ports, tls, admission.clone(), handshake).expect("ports");
        let addresses: Vec<SocketAddr> = net.ports().map(|port| port.address).collect();
        let (stop, stopped) = oneshot::channel::<()>();
        let end = async move {
            let _ = stopped.await;
        };
        let clients = C2s::new(server.clone());
        let task = tokio::spawn(net.run(clients.clone(), end, Duration::from_secs(5)));
        let [starttls, direct, plain] = addresses[..] else { panic!("three ports") };
        Self { server, store, clients, admission, starttls, direct, plain, config, stop: Some(stop), task, dir }
    }

    /// A client on direct TLS that has said nothing yet.
    pub(crate) async fn connect(&self) -> Talk {
        let client = Client::connect(self.direct, &self.config).await.expect("secured");
        Talk { client, heard: String::new() }
    }

    /// A client that logs in by PLAIN on direct TLS and binds.
    pub(crate) async fn login(&self, user: &str, resource: &str) -> Talk {
        let mut talk = self.connect().await;
        talk.authenticate(user).await;
        let bind =
            format!("<iq id='b' type='set'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>", ns::BIND);
        talk.say(&bind).await;
        talk.hear("</iq>").await;
        talk
    }
}

/// A conversation in text, inside TLS.
pub(crate) struct Talk {
    pub(crate) client: Client,
    pub(crate) heard: String,
}

impl Talk {
    pub(crate) async fn say(&mut self, text: &str) {
        self.client.say(text.as_bytes()).await.expect("said");
    }

    /// Everything up to and with this text.
    pub(crate) async fn hear(&mut self, until: &str) -> String {
        loop {
            if let Some(at) = self.heard.find(until) {
                let rest = self.heard.split_off(at + until.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            let more = self.client.hear(1).await.expect("heard");
            assert!(!more.is_empty(), "the end came before {until}: {}", self.heard);
            self.heard += std::str::from_utf8(&more).expect("text");
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn hear_out(&mut self) -> String {
        while let Ok(more) = self.client.hear(1).await {
            if more.is_empty() {
                break;
            }
            self.heard += std::str::from_utf8(&more).expect("text");
        }
        std::mem::take(&mut self.heard)
    }

    pub(crate) async fn authenticate(&mut self, user: &str) {
        self.say(STREAM).await;
        self.hear("</stream:features>").await;
        self.say(&plain(user, "secret")).await;
        self.hear("<success").await;
        self.say(STREAM).await;
        self.hear("</stream:features>").await;
    }
}

pub(crate) fn plain(user: &str, password: &str) -> String {
    let message = STANDARD.encode(format!("\0{user}\0{password}"));
    format!("<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>", ns::SASL)
}
