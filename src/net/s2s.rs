//! Streams between servers (RFC 6120, XEP-0220): what they go by, and what they share.
//!
//! Read it in the order a stanza goes out: [`S2s`] is told that a link is wanted; `call` finds and connects to the server
//! of its domain, and tries again; `driver` drives each stream, ours (`opened`) and theirs (`accepted`), and `waiting` is what it does in between; `flow` is what
//! happens on it, `outflow` what the peer has of it for certain, and `rest` what outlives its connection. `callers` judges
//! who calls us, `verify` asks about dialback, `remotes` knows all streams, `turns` bounds what strangers may have us do,
//! `settings` is the conf.
//!
//! `identity` says whether a certificate proves a domain, `roots` whom we believe that. The rules of the stream are
//! `rookery_xmpp::stream`'s, those of dialback's packets and keys `rookery_xmpp::dialback`'s; what waits, and who may say
//! what, is core's (`core/remote`). `check` looks at another domain for an admin.

mod accepted;
mod call;
mod callers;
pub mod check;
mod driver;
mod flow;
mod gone;
pub mod identity;
mod opened;
mod outflow;
mod remotes;
mod rest;
pub mod roots;
mod settings;
mod turns;
mod verify;
mod waiting;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rookery_core::remote::{Failure, Federation, Link, RemoteStatus};
use rookery_core::server::Server;
use rookery_xmpp::dialback::Keys;
use rookery_xmpp::error::Condition;
use rookery_xmpp::jid::BareJid;
use tokio::sync::watch;
use tracing::debug;

use self::remotes::{Handle, Order, Remotes};
use self::rest::Resting;
use self::roots::{Roots, RootsError};
use self::settings::Settings;
use self::turns::Turns;
use crate::certs::Certificates;
use crate::dns::{DnsConf, ResolveError, Resolver};
use crate::outgoing::OutgoingTls;
use crate::rate::{self, Buckets};
use crate::server::{Connection, Ending, Service};

/// How long all streams together may take to end with the server.
const LAST_OF_ALL: Duration = Duration::from_secs(4);

/// A stranger's key makes us call whomever it names: so many such calls at a time, and no more.
const MOST_QUESTIONS: usize = 200;

/// The same because of one address: as many as one stream may ask for at once.
const MOST_QUESTIONS_OF_ONE: usize = 16;

/// Federation cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum FederateError {
    /// The conf's authorities cannot be read.
    #[error("{0}")]
    Roots(#[from] RootsError),
    /// There is no resolver.
    #[error("{0}")]
    Resolver(#[from] ResolveError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Talks to other servers.
pub struct S2s {
    common: Arc<Common>,
}

/// What all streams share.
struct Common {
    me: Weak<Self>,
    server: Arc<Server>,
    settings: ArcSwap<Settings>,
    resolver: Resolver,
    tls: OutgoingTls,
    keys: Keys,
    remotes: Remotes,
    resting: Arc<Resting>,
    /// Pings that are under way, by id: whom we have asked for whom, and the stream that waits.
    pings: Mutex<HashMap<Box<str>, Ping>>,
    /// Questions of dialback that are under way on streams of their own, for all domains.
    questions: Turns,
    /// Questions to DNS because of those who call us.
    lookups: callers::Lookups,
    buckets: rate::Shared,
    /// Of remote domains.
    rates: Buckets,
    ending: watch::Sender<bool>,
}

struct Ping {
    local: Box<str>,
    remote: Box<str>,
    stream: Arc<Handle>,
}

impl S2s {
    /// For a server that has started; it is told of this network, and calls from then on. Must be called within a tokio
    /// runtime.
    pub fn new(server: Arc<Server>, certificates: Arc<Certificates>) -> Result<Arc<Self>, FederateError> {
        let conf = server.conf();
        let roots = Arc::new(Roots::load(conf.s2s().authorities.as_deref())?);
        let resolver = Resolver::new(&DnsConf::of_conf(&conf))?;
        let tls = OutgoingTls::new(certificates)?;
        let secret = [server.secret(), b" dialback"].concat();
        let common = Arc::new_cyclic(|me| Common {
            me: me.clone(),
            settings: ArcSwap::from_pointee(Settings::new(&server, roots)),
            resolver,
            tls,
            keys: Keys::new(&secret),
            remotes: Remotes::default(),
            resting: Arc::default(),
            pings: Mutex::default(),
            questions: Turns::new(MOST_QUESTIONS, MOST_QUESTIONS_OF_ONE),
            lookups: callers::Lookups::default(),
            buckets: rate::Shared::default(),
            rates: Buckets::default(),
            ending: watch::channel(false).0,
            server: server.clone(),
        });
        let s2s = Arc::new(Self { common });
        server.federate(s2s.clone());
        Ok(s2s)
    }

    /// Takes up the server's conf for new streams (SIGHUP). On an error all stays as it was. Streams to domains that the
    /// server does not talk to any more are closed.
    pub fn reload(&self) -> Result<(), FederateError> {
        let common = &self.common;
        let conf = common.server.conf();
        let roots = Arc::new(Roots::load(conf.s2s().authorities.as_deref())?);
        common.resolver.reload(&DnsConf::of_conf(&conf))?;
        common.settings.store(Arc::new(Settings::new(&common.server, roots)));
        for remote in common.remotes.list() {
            if let Ok(domain) = BareJid::new(&remote.domain)
                && !conf.may_federate(&remote.domain)
            {
                common.remotes.close(&domain);
            }
        }
        Ok(())
    }
}

impl Federation for S2s {
    fn wanted(&self, link: Arc<Link>) {
        self.common.want(link);
    }

    fn list(&self) -> Vec<RemoteStatus> {
        self.common.remotes.list()
    }

    fn show(&self, domain: &BareJid) -> Option<RemoteStatus> {
        self.common.remotes.show(domain)
    }

    fn close(&self, domain: &BareJid) -> usize {
        self.common.remotes.close(domain)
    }
}

impl Service for S2s {
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        // Boxed: there are few servers, and their future is large.
        Box::pin(accepted::serve(self.common.clone(), connection))
    }

    /// Closes all streams, ours too, and waits for them. What has not gone out stays in the queues of core.
    async fn end(&self) {
        self.common.ending.send_replace(true);
        if tokio::time::timeout(LAST_OF_ALL, self.common.ending.closed()).await.is_err() {
            debug!(streams = self.common.ending.receiver_count(), "some streams of servers did not end in time");
        }
    }
}

impl Common {
    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Tells when the server ends, which waits for those who hold one.
    fn ending(&self) -> Ending {
        Ending::of(&self.ending)
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// A link wants to be carried: by a stream of the peer's that takes our stanzas, or by one of our own.
    fn want(&self, link: Arc<Link>) {
        let Some(common) = self.me.upgrade().filter(|_| !self.is_ending()) else { return };
        let pair = link.pair();
        let remote = self.remotes.get(&pair.remote);
        if let Some(handle) = remote.carrier_of(pair)
            && handle.orders.send(Order::Carry(link.clone())).is_ok()
        {
            return;
        }
        if remote.begin_call(&pair.local) {
            tokio::spawn(call::carry(common, remote, link));
        }
    }

    /// A stream waits for the answer to a ping from `local` to `remote`, which may come by another stream.
    fn expect_answer(&self, id: &str, local: &str, remote: &str, stream: &Arc<Handle>) {
        let ping = Ping { local: local.into(), remote: remote.into(), stream: stream.clone() };
        let mut pings = self.pings.lock();
        pings.retain(|_, ping| ping.stream.id != stream.id && !ping.stream.orders.is_closed());
        pings.insert(id.into(), ping);
    }

    /// An answer from `remote` to `local`: whether it is that to a ping of ours.
    fn answered(&self, id: &str, remote: &str, local: &str) -> bool {
        let mut pings = self.pings.lock();
        if pings.get(id).is_none_or(|ping| *ping.local != *local || *ping.remote != *remote) {
            return false;
        }
        if let Some(ping) = pings.remove(id) {
            // The stream may be over: then what it carried goes out again.
            let _ = ping.stream.orders.send(Order::Answered(id.into()));
        }
        true
    }

    /// A stream does not wait for its ping any more.
    fn forget_ping(&self, stream: u64) {
        self.pings.lock().retain(|_, ping| ping.stream.id != stream);
    }
}

fn failure(definite: bool, condition: Condition, text: &str) -> Failure {
    Failure { definite, condition, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use rookery_core::config::Conf;
    use rookery_store::MemoryStore;

    use super::*;

    /// A server for a.example, and its streams to others, whom it does not find.
    pub(super) async fn alone() -> (Arc<Server>, Arc<S2s>) {
        let conf = Conf::parse("[host.'a.example']\n[s2s]\nnameservers = ['127.0.0.1:9']\n", "test").unwrap();
        let server = Server::start(conf, Arc::new(MemoryStore::new()), &[]).await.unwrap();
        let s2s = S2s::new(server.clone(), Arc::new(Certificates::open(Vec::new(), None).unwrap())).unwrap();
        (server, s2s)
    }
}
