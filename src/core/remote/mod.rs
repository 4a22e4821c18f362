//! Other servers, and external components (RFC 6120 §10.4, XEP-0114): what waits to go to them, and what comes from them.
//!
//! Going out: `dispatch` (`router.rs`) finds that a stanza is for a domain that is not ours and gives it to `sending.rs`, which
//! asks the policy and appends it to the [`Link`] of the two domains. There it waits (`queue.rs`) until a stream carries it
//! and the peer has confirmed it; meanwhile the writer has stored it (`posted.rs`). Coming in: a stream is an [`Inbound`],
//! and each of its stanzas passes `accepting.rs`. Rooms and archives send by `many.rs`.
//!
//! Who connects, finds and authenticates is `rookery-net`'s matter: it implements [`Federation`].

mod accepting;
mod inbound;
mod link;
mod links;
mod many;
mod posted;
mod queue;
mod sending;
mod status;

use std::sync::Arc;

use rookery_xmpp::error::Condition;
use rookery_xmpp::jid::BareJid;

pub use self::inbound::Inbound;
pub use self::link::{Due, Link, Waiting};
pub(crate) use self::links::{Links, keep_time};
pub(crate) use self::posted::{Over, Posted};
pub use self::queue::Carrier;
pub use self::sending::RemoteLimits;
pub use self::status::{FailureStatus, LinkStatus, PairStatus, RemoteStatus, StreamStatus};

/// Two domains that talk to each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// One of ours: a host, or a component of one. In the link of an external component, which carries what all of ours
    /// send to it and all other servers, the component's own domain.
    pub local: BareJid,
    /// The other one.
    pub remote: BareJid,
}

/// Why there is no stream to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// To try again makes no sense (no such domain, refused by policy): what waits goes back to its senders at once.
    pub definite: bool,
    /// What senders are told.
    pub condition: Condition,
    /// Why, in plain words: for senders, the log, and the admin.
    pub text: String,
}

/// The network, as far as other servers are its matter. It is given to [`crate::server::Server::federate`].
pub trait Federation: Send + Sync + 'static {
    /// Something waits in a link that nobody carries. Comes once for all that waits, and again after [`Link::let_go`], or
    /// with the next stanza after [`Link::failed`]; between two attempts it is for the network to wait, and to try again as long as
    /// [`Link::waiting`] says that something waits. To be called from any task; must not block.
    fn wanted(&self, link: Arc<Link>);
    /// The streams to and from all domains that have some.
    fn list(&self) -> Vec<RemoteStatus>;
    /// Those of one domain; `None` when nothing is known of it.
    fn show(&self, domain: &BareJid) -> Option<RemoteStatus>;
    /// Closes the streams to and from a domain; says how many.
    fn close(&self, domain: &BareJid) -> usize;
}
