//! A stanza goes to another server or to an external component: policy, bounds, and the link it waits in.

use std::sync::Arc;

use rookery_xmpp::error::{Condition, ErrorKind, StanzaError, StreamCondition, StreamError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stanza::{Kind, Stanza};
use tracing::error;

use super::link::{Room, Sender};
use super::links::refused;
use super::posted::{Known, Posted, is_durable};
use super::{Link, LinkStatus, Pair, RemoteStatus};
use crate::router::Waiting;
use crate::seen;
use crate::server::Server;
use crate::session::Session;

/// What one remote domain may take from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Bytes a second that are read from all its streams, in the long run.
    pub rate: usize,
    /// Bytes that are read from them at once.
    pub burst: usize,
    /// The largest stanza, in bytes.
    pub stanza: usize,
    /// Streams that it may have open to us.
    pub streams: usize,
}

/// A stanza that waits, if it does; or it is given back with what its sender is to be told.
pub(super) type Posting = Result<Option<Arc<Posted>>, (Box<Stanza>, StanzaError)>;

impl Server {
    /// Whether a domain is served here: a host, a component of one, or an external component.
    pub fn is_ours(&self, domain: &str) -> bool {
        let hosts = self.hosts.load();
        hosts.hosts.contains_key(domain)
            || hosts.components.contains_key(domain)
            || self.conf().component(domain).is_some()
    }

    /// Whether the server talks to a remote domain, normalised. The error is for its stream.
    pub fn may_federate(&self, domain: &str) -> Result<(), StreamError> {
        if self.conf().may_federate(domain) {
            return Ok(());
        }
        let text = format!("This server does not talk to {domain}.");
        Err(StreamError::new(StreamCondition::PolicyViolation).with_text(text))
    }

    /// What each remote domain may take from the server.
    pub fn remote_limits(&self) -> RemoteLimits {
        let conf = self.conf();
        let s2s = conf.s2s();
        RemoteLimits {
            rate: s2s.rate.get(),
            burst: s2s.burst.get(),
            stanza: s2s.stanza.get(),
            streams: s2s.streams.len(),
        }
    }

    /// Brings a stanza on its way to a domain that is no host of ours, nor a component of one.
    pub(crate) async fn send_away(self: &Arc<Self>, stanza: Stanza, waiting: Waiting, session: Option<&Arc<Session>>) {
        // Lives until no tail is locked.
        let sender = waiting.clone();
        let posted = match session {
            Some(session) => self.post_once(stanza, waiting, session),
            None => {
                let durable = is_durable(&stanza);
                self.post(stanza, durable, Sender { waiting, known: None })
            }
        };
        if let Err((stanza, error)) = posted {
            if error.kind == ErrorKind::Wait
                && let Some(receipt) = &sender
            {
                receipt.withdraw();
            }
            self.bounce(&stanza, error, session).await;
        }
    }

    /// What a client sends. A message that it sends again waits already, or has gone.
    fn post_once(self: &Arc<Self>, stanza: Stanza, waiting: Waiting, session: &Arc<Session>) -> Posting {
        let (account, stream) = (&session.account, Some(session.stream.id));
        let durable = is_durable(&stanza);
        let to = stanza.head.to.as_ref().filter(|_| durable && matches!(stanza.head.kind, Kind::Message(_)));
        let Some(digest) = to.and_then(|to| seen::posted(&session.jid, to, &stanza, session.has_acks())) else {
            return self.post(stanza, durable, Sender { waiting, known: None });
        };
        let mut tail = account.tail.lock();
        if let Some(id) = tail.seen.find(digest, stream) {
            let posted = tail.seen.posted_again(digest, id, &session.jid);
            if let (Some(receipt), Some(posted)) = (&waiting, posted) {
                posted.wait_too(receipt);
            }
            return Ok(None);
        }
        let known = Some(Known { account: account.clone(), digest });
        let posted = self.post(stanza, durable, Sender { waiting, known })?;
        if let Some(posted) = &posted {
            tail.seen.insert_posted(digest, posted, stream);
        }
        Ok(posted)
    }

    /// Appends a stanza to its link; `None` when it is not to go anywhere.
    pub(super) fn post(self: &Arc<Self>, stanza: Stanza, durable: bool, sender: Sender) -> Posting {
        let (Some(from), Some(to)) = (&stanza.head.from, &stanza.head.to) else { return Ok(None) };
        let link = match self.link_for(from.domainpart(), to.domainpart()) {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(None),
            Err(error) => return Err((Box::new(stanza), error)),
        };
        let conf = self.conf();
        let room = Room { link: conf.s2s().queue.get() as u64, all: conf.s2s().queues.get() as u64 };
        let wait = self.patience(&link.pair().remote, &stanza);
        link.post(self, stanza, durable, sender, wait, &room).map(Some)
    }

    /// The link that a stanza goes by; `None` when it is not to go anywhere.
    fn link_for(self: &Arc<Self>, from: &str, to: &str) -> Result<Option<Arc<Link>>, StanzaError> {
        let conf = self.conf();
        let domain = |text: &str| BareJid::new(text).map_err(|_| StanzaError::new(Condition::RemoteServerNotFound));
        if conf.component(to).is_some() {
            return Ok(self.component_link(&domain(to)?));
        }
        if !self.is_ours(from) {
            // To pass on what one server says to another would be to speak in its name.
            error!(from, to, "a stanza in the name of another server is not sent");
            return Ok(None);
        }
        if self.links.net().is_none() || !conf.s2s().enabled {
            return Err(StanzaError::new(Condition::RemoteServerNotFound));
        }
        if !conf.may_federate(to) {
            return Err(refused(to));
        }
        if let Some(link) = self.links.find(from, to) {
            return Ok(Some(link));
        }
        Ok(Some(self.link(Pair { local: domain(from)?, remote: domain(to)? })))
    }

    // ---- for the admin --------------------------------------------------------------------------------------------

    /// What there is to know of other servers: all that have streams, or for which something waits.
    pub fn remotes(&self) -> Vec<RemoteStatus> {
        let mut remotes = self.links.net().map(|net| net.list()).unwrap_or_default();
        for link in self.links.all() {
            let domain = link.pair().remote.as_str();
            let at = remotes.iter().position(|remote| remote.domain == domain);
            let status = LinkStatus::of(&link);
            match at.and_then(|at| remotes.get_mut(at)) {
                Some(remote) => remote.links.push(status),
                None => remotes.push(RemoteStatus { links: vec![status], ..RemoteStatus::new(domain) }),
            }
        }
        remotes.sort_by(|a, b| a.domain.cmp(&b.domain));
        remotes
    }

    /// The same of one domain.
    pub fn remote(&self, domain: &BareJid) -> Option<RemoteStatus> {
        let links: Vec<_> = self.links_to(domain).iter().map(LinkStatus::of).collect();
        let remote = self.links.net().and_then(|net| net.show(domain));
        let remote = remote.or_else(|| (!links.is_empty()).then(|| RemoteStatus::new(domain.as_str())))?;
        Some(RemoteStatus { links, ..remote })
    }

    /// Closes the streams to and from a domain; what waits is sent on new ones. Says how many.
    pub fn close_remote(&self, domain: &BareJid) -> usize {
        self.links.net().map_or(0, |net| net.close(domain))
    }
}
