//! A server without network: sessions are bound by hand, stanzas are given and taken as text, the database is in memory
//! and does as it is told. For what needs streams and sockets see the scenarios.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rookery_core::config::Conf;
use rookery_core::module::{Entry, Nonza, NonzaOutcome};
use rookery_core::server::Server;
use rookery_core::session::{Session, StreamInfo};
use rookery_core::store::{AccountStore, Store};
use rookery_store::MemoryStore;
use rookery_xmpp::element::Element;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{Parsed, parse};
use rookery_xmpp::sasl::Credentials;

pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Arc<MemoryStore>,
}

/// A client without a stream: what it would send goes to the server, what it would read is taken from its session.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
    pub(crate) session: Arc<Session>,
    pub(crate) connection: u64,
}

impl World {
    /// A server for `localhost` with these accounts.
    pub(crate) async fn new(accounts: &[&str]) -> Self {
        Self::with_conf("[host.localhost]\n", accounts).await
    }

    /// The same that keeps messages until they are delivered and no longer.
    pub(crate) async fn without_archive(accounts: &[&str]) -> Self {
        Self::with_conf("[host.localhost]\n[modules.archive]\nenabled = false\n", accounts).await
    }

    pub(crate) async fn with_conf(conf: &str, accounts: &[&str]) -> Self {
        Self::with_modules(conf, accounts, rookery_modules::ALL).await
    }

    pub(crate) async fn with_modules(conf: &str, accounts: &[&str], modules: &[Entry]) -> Self {
        let store = Arc::new(MemoryStore::new());
        let credentials = Credentials::from_password("secret", 4096).unwrap();
        for account in accounts {
            assert!(store.create_account(&jid(account), &credentials).await.unwrap());
        }
        let conf = Conf::parse(conf, "test.toml").unwrap();
        let database: Arc<dyn Store> = store.clone();
        let server = Server::start(conf, database, modules).await.unwrap();
        Self { server, store }
    }

    /// The server ends and starts again: its database is what is left of it.
    pub(crate) async fn restart(&self) -> Self {
        self.stop().await;
        self.start_again().await
    }

    /// The server ends.
    pub(crate) async fn stop(&self) {
        self.server.stop().await;
        self.server.finish().await;
    }

    /// Another server with the same conf and database. The one before may be killed so.
    pub(crate) async fn start_again(&self) -> Self {
        let conf = Conf::clone(&self.server.conf());
        let server = Server::start(conf, self.store.clone(), rookery_modules::ALL).await.unwrap();
        Self { server, store: self.store.clone() }
    }

    /// A new connection of a user's asks to go on with a session. The error is what it is told instead.
    pub(crate) async fn resume(&self, user: &str, id: &str, h: u32) -> Result<Client, String> {
        let host = self.server.host(jid(user).domainpart()).unwrap();
        let resume = Element::new("resume", ns::SM).attr("previd", id).attr("h", h.to_string());
        let user = jid(user);
        let mut nonza = Nonza { user: &user, session: None, reply: Vec::new(), wait: None };
        let known = self.server.nonza(&host, &mut nonza, &resume).expect("a known nonza");
        known.map_err(|error| error.to_element().to_xml())?;
        let outcome = match nonza.wait.take() {
            Some(wait) => wait.await.map_err(|error| error.to_element().to_xml())?,
            None => NonzaOutcome::default(),
        };
        let reply = nonza.reply.iter().chain(&outcome.reply).map(Element::to_xml).collect();
        let (session, connection) = outcome.resume.ok_or::<String>(reply)?;
        Ok(Client { server: self.server.clone(), session, connection })
    }

    /// Binds a resource without presence.
    pub(crate) async fn bind(&self, user: &str, resource: &str) -> Client {
        let stream = StreamInfo { id: self.server.next_stream(), peer: [127, 0, 0, 1].into(), secured: true };
        let session = self.server.bind(&jid(user), Some(resource), stream).await.unwrap();
        let connection = session.connection();
        Client { server: self.server.clone(), session, connection }
    }

    /// Binds a resource and sends initial presence; what that brings is read and dropped.
    pub(crate) async fn login(&self, user: &str, resource: &str) -> Client {
        let client = self.bind(user, resource).await;
        client.send("<presence/>").await;
        client.read();
        client
    }

    /// Binds a resource that asks for the roster and sends initial presence; what that brings is read and dropped.
    pub(crate) async fn interested(&self, user: &str, resource: &str) -> Client {
        let client = self.bind(user, resource).await;
        client.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>").await;
        client.send("<presence/>").await;
        client.read();
        client
    }

    /// The first asks for the presence of the second, who approves; what that brings is read and dropped.
    pub(crate) async fn subscribe(&self, user: &Client, contact: &Client) {
        user.send(&format!("<presence type='subscribe' to='{}'/>", contact.session.account.jid)).await;
        contact.send(&format!("<presence type='subscribed' to='{}'/>", user.session.account.jid)).await;
        let roster = user.session.account.roster();
        assert!(roster.subscription(contact.session.account.jid.as_str()).is_to());
        user.read();
        contact.read();
    }

    /// Routes a stanza as if another server had sent it.
    pub(crate) async fn route(&self, xml: &str) {
        let bytes = Bytes::copy_from_slice(xml.as_bytes());
        match parse(bytes, &Namespaces::content_only("jabber:client")).unwrap() {
            Parsed::Stanza(stanza) => self.server.route(stanza).await,
            other => panic!("{other:?} for {xml}"),
        }
    }

    /// The same with stream management and resumption.
    pub(crate) async fn login_resumable(&self, user: &str, resource: &str) -> Client {
        let client = self.login(user, resource).await;
        client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
        let enabled = client.read();
        assert!(enabled.starts_with("<enabled"), "{enabled}");
        client
    }

    /// Lets the tasks beside the clients run until nothing is left for them to do now. The clock may be paused.
    pub(crate) async fn settle(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }
}

impl Client {
    /// A client of a session that was bound elsewhere.
    pub(crate) fn over(world: &World, session: Arc<Session>) -> Self {
        let connection = session.connection();
        Self { server: world.server.clone(), session, connection }
    }

    /// Waits until the server closes the stream: what came before, and the stream error.
    pub(crate) async fn last_words(&self) -> (String, String) {
        let mut buffer = Vec::new();
        for _ in 0..10_000 {
            let drained = self.session.drain(self.connection, &mut buffer, 1 << 20, Instant::now());
            if let Some(error) = drained.expect("the connection is the session's").close {
                return (String::from_utf8(buffer).unwrap(), error.to_element().to_xml());
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("the stream is open still");
    }

    /// Sends a stanza or a nonza.
    pub(crate) async fn send(&self, xml: &str) {
        let bytes = Bytes::copy_from_slice(xml.as_bytes());
        match parse(bytes, &Namespaces::content_only("jabber:client")).unwrap() {
            Parsed::Stanza(stanza) => {
                let receipt = self.session.receive(self.session.connection()).unwrap();
                self.server.accept(&self.session, stanza, receipt).await.unwrap();
            }
            Parsed::Nonza(element) => self.nonza(&element).await,
            Parsed::Invalid { error, .. } => panic!("{error:?} for {xml}"),
        }
    }

    /// Sends a stanza if the session is open; one that has ended takes nothing.
    pub(crate) async fn try_send(&self, xml: &str) {
        let bytes = Bytes::copy_from_slice(xml.as_bytes());
        let Parsed::Stanza(stanza) = parse(bytes, &Namespaces::content_only("jabber:client")).unwrap() else {
            panic!("{xml} is no stanza")
        };
        if let Ok(receipt) = self.session.receive(self.connection) {
            self.server.accept(&self.session, stanza, receipt).await.unwrap();
        }
    }

    async fn nonza(&self, element: &Element) {
        let host = self.server.host(self.session.jid.domainpart()).unwrap();
        let mut nonza =
            Nonza { user: &self.session.account.jid, session: Some(&self.session), reply: Vec::new(), wait: None };
        self.server.nonza(&host, &mut nonza, element).expect("a known nonza").unwrap();
        for reply in nonza.reply {
            self.session.push_nonza(reply.to_xml().into());
        }
    }

    /// Takes what waits for the client, as if it had been written to the socket.
    pub(crate) fn read(&self) -> String {
        let mut buffer = Vec::new();
        loop {
            let drained = self
                .session
                .drain(self.session.connection(), &mut buffer, 1 << 20, Instant::now())
                .expect("the connection is the session's");
            if drained.hungry {
                self.server.catch_up(&self.session);
            }
            self.session.flushed();
            if !drained.more {
                return String::from_utf8(buffer).unwrap();
            }
        }
    }

    /// The bodies of the messages that wait for the client.
    pub(crate) fn bodies(&self) -> Vec<String> {
        bodies(&self.read())
    }

    /// What resumes the session.
    pub(crate) fn id(&self) -> String {
        self.session.resumption_id().expect("stream management").into()
    }

    /// The connection goes away without a word.
    pub(crate) async fn cut(&self) {
        self.server.disconnected(&self.session, self.connection, false).await;
    }

    /// The client closes its stream.
    pub(crate) async fn leave(&self) {
        self.server.disconnected(&self.session, self.connection, true).await;
    }
}

pub(crate) fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

/// The texts of the `<body/>`s, in their order.
pub(crate) fn bodies(xml: &str) -> Vec<String> {
    xml.split("<body>").skip(1).filter_map(|rest| rest.split("</body>").next()).map(str::to_owned).collect()
}
