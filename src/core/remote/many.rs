//! For services that send much to other servers: rooms, which say one thing to many, and archives, which answer with a lot.
//! They are told at once when something does not fit, and go at the pace of the link where they can.

use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stanza::Stanza;
use tokio::time::Instant;

use super::link::Sender;
use super::posted::is_durable;
use super::{Failure, Link};
use crate::module::BoxFuture;
use crate::server::Server;

/// A link with more bytes than this, or with a quarter of what it may have, should be given time by those who can wait.
const PLENTY: u64 = 256 << 10;
/// How long they wait before they give up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often they look.
const LOOK: Duration = Duration::from_millis(20);

impl Server {
    /// Sends a stanza to another server or an external component, and not to one of our hosts; `false` if there is no place
    /// for it, or no way. Nobody else is told of that.
    pub(crate) fn offer_away(self: &Arc<Self>, stanza: Stanza) -> bool {
        let durable = is_durable(&stanza);
        self.post(stanza, durable, Sender::default()).is_ok()
    }

    /// The same for whoever is not in an account of ours, a service of ours included.
    pub fn offer(self: &Arc<Self>, stanza: Stanza) -> BoxFuture<bool> {
        let server = self.clone();
        Box::pin(async move {
            let to = stanza.head.to.as_ref().map(|to| to.domainpart());
            let is_service = to.is_some_and(|to| server.hosts.load().components.contains_key(to));
            if !is_service {
                return server.offer_away(stanza);
            }
            server.route(stanza).await;
            true
        })
    }

    /// Why there is no way at present from one of our domains to another server, if somebody has tried and failed since
    /// there was one.
    pub fn unreachable(&self, local: &BareJid, remote: &str) -> Option<Failure> {
        let waiting = self.link_between(local, remote)?.waiting();
        waiting.failure.filter(|_| !waiting.carried).map(|(failure, _)| failure)
    }

    fn link_between(&self, local: &BareJid, remote: &str) -> Option<Arc<Link>> {
        self.links.find(local.as_str(), remote).or_else(|| self.links.find(remote, remote))
    }

    /// Waits until little is under way from one of our domains to another server: for what can be read as slowly as it is
    /// taken. `false` when that takes too long.
    pub fn when_clear(self: &Arc<Self>, local: &BareJid, remote: &str) -> BoxFuture<bool> {
        let (server, local, remote) = (self.clone(), local.clone(), remote.to_owned());
        Box::pin(async move {
            let begun = Instant::now();
            loop {
                let most = PLENTY.min(server.conf().s2s().queue.get() as u64 / 4);
                let link = server.link_between(&local, &remote);
                if link.is_none_or(|link| link.waiting().bytes < most) {
                    return true;
                }
                if begun.elapsed() >= PATIENCE {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    }
}
