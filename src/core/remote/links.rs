//! All links of the server: found by their domains, made when needed, read from the disk at the start, timed out.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::Stanza;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Federation, Link, Pair};
use crate::server::Server;
use crate::store::{OutgoingEntry, StoreError};

/// How often links are looked at for what has waited too long.
const TICK: Duration = Duration::from_secs(1);
/// What waits when the server starts has so long at least: it could not be sent meanwhile.
const LEAST: Duration = Duration::from_secs(60);
/// How long to sleep while there is no link.
const IDLE: Duration = Duration::from_secs(60);
/// Stanzas that are read at once when the server starts.
const PAGE: usize = 1000;

type ByLocal = HashMap<BareJid, Arc<Link>>;

/// The links, and the network that carries them.
#[derive(Default)]
pub(crate) struct Links {
    /// By the remote domain, then by ours.
    links: RwLock<HashMap<BareJid, ByLocal>>,
    /// Bytes in all of them.
    pub(super) bytes: Arc<AtomicU64>,
    net: OnceLock<Arc<dyn Federation>>,
    /// There is a first link.
    begun: Notify,
}

impl Links {
    pub(super) fn net(&self) -> Option<&Arc<dyn Federation>> {
        self.net.get()
    }

    pub(super) fn find(&self, local: &str, remote: &str) -> Option<Arc<Link>> {
        self.links.read().get(remote)?.get(local).cloned()
    }

    pub(super) fn get(&self, server: &Arc<Server>, pair: Pair, is_component: bool) -> Arc<Link> {
        if let Some(link) = self.find(pair.local.as_str(), pair.remote.as_str()) {
            return link;
        }
        let mut links = self.links.write();
        let by_local = links.entry(pair.remote.clone()).or_default();
        let link = by_local.entry(pair.local.clone()).or_insert_with(|| Link::new(pair, is_component, server)).clone();
        drop(links);
        self.begun.notify_one();
        link
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.links.read().values().flat_map(HashMap::values).cloned().collect()
    }

    pub(super) fn to(&self, remote: &str) -> Vec<Arc<Link>> {
        self.links.read().get(remote).map(|links| links.values().cloned().collect()).unwrap_or_default()
    }

    /// Drops those that nobody needs. `false` when none is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut links = self.links.write();
        links.retain(|_, by_local| {
            // Whoever wants a link finds it under this lock, so one that only the map holds is nobody's.
            by_local.retain(|_, link| !link.is_idle(now));
            !by_local.is_empty()
        });
        !links.is_empty()
    }
}

/// Lets what has waited too long go back to its senders.
pub(crate) async fn keep_time(server: Weak<Server>) {
    loop {
        let Some(links) = server.upgrade().map(|server| server.links.clone()) else { return };
        if !links.sweep(Instant::now()) {
            // Now and then, to see whether the server is still there.
            let _ = tokio::time::timeout(IDLE, links.begun.notified()).await;
        }
        drop(links);
        tokio::time::sleep(TICK).await;
        let Some(server) = server.upgrade() else { return };
        let now = Instant::now();
        server.links.all().iter().for_each(|link| link.expire(now));
    }
}

impl Server {
    /// The network is ready to carry stanzas to other servers: it is told which links are wanted, from now on. Only the
    /// first one is taken. Without one no server but this is known.
    pub fn federate(&self, net: Arc<dyn Federation>) {
        if self.links.net.set(net).is_err() {
            return warn!("there is a network for other servers already");
        }
        self.links.all().iter().for_each(|link| link.ask());
    }

    /// The link to an external component of the conf, over which it gets what everybody sends to it. `None` when there is
    /// no such component.
    pub fn component_link(self: &Arc<Self>, domain: &BareJid) -> Option<Arc<Link>> {
        let conf = self.conf();
        let domain = conf.component(domain.as_str())?.domain.clone();
        Some(self.links.get(self, Pair { local: domain.clone(), remote: domain }, true))
    }

    /// The link of two domains: for a stream that both may use, so that what will come finds it.
    pub fn link(self: &Arc<Self>, pair: Pair) -> Arc<Link> {
        self.links.get(self, pair, false)
    }

    /// The links to a domain, from all of ours.
    pub fn links_to(&self, remote: &BareJid) -> Vec<Arc<Link>> {
        self.links.to(remote.as_str())
    }

    /// What the last run of the server did not get rid of.
    pub(crate) async fn load_outgoing(self: &Arc<Self>) -> Result<(), StoreError> {
        let (mut after, mut count) = (0, 0_usize);
        loop {
            let page = self.store.outgoing(after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                after = entry.id;
                count += 1;
                self.recall_outgoing(entry);
            }
        }
        self.review_links();
        if count > 0 {
            info!(stanzas = count, "so many stanzas of the last run wait for other servers");
        }
        Ok(())
    }

    fn recall_outgoing(self: &Arc<Self>, entry: OutgoingEntry) {
        let OutgoingEntry { id, local, remote, stamp, stanza } = entry;
        let stanza = match parser::parse(stanza, &Namespaces::none()) {
            Ok(Parsed::Stanza(stanza)) => stanza,
            Ok(_) | Err(_) => {
                return error!(id, %remote, "a stored stanza for another server cannot be read; it is left where it is");
            }
        };
        let age = SystemTime::now().duration_since(stamp).unwrap_or_default();
        let wait = self.patience(&remote, &stanza);
        let left = wait.saturating_sub(age).max(LEAST.min(wait));
        let is_component = local == remote;
        let link = self.links.get(self, Pair { local, remote }, is_component);
        link.recall(id, stanza, stamp, left);
    }

    /// The conf is another: what it does not allow any more goes back.
    pub(crate) fn review_links(self: &Arc<Self>) {
        let conf = self.conf();
        for link in self.links.all() {
            let remote = link.pair().remote.as_str();
            let stays = match link.is_component() {
                true => conf.component(remote).is_some(),
                false => conf.may_federate(remote) && !self.is_ours(remote) && self.is_ours(link.pair().local.as_str()),
            };
            if !stays {
                link.give_up(&refused(remote));
                if let Some(net) = self.links.net() {
                    net.close(&link.pair().remote);
                }
            }
        }
    }

    /// How long a stanza may wait for a domain.
    pub(super) fn patience(&self, remote: &BareJid, stanza: &Stanza) -> Duration {
        let conf = self.conf();
        match conf.component(remote.as_str()) {
            Some(component) => component.wait.get(),
            None if stanza.head.kind.name() == "iq" => conf.s2s().wait_iq.get(),
            None => conf.s2s().wait.get(),
        }
    }
}

/// The answer to those who want to talk to a domain that the conf does not allow.
pub(super) fn refused(remote: &str) -> StanzaError {
    StanzaError::new(Condition::NotAllowed).with_text(format!("This server does not talk to {remote}."))
}
