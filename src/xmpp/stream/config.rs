//! What a stream is told before it begins.

use std::{sync::Arc, time::Duration};

use crate::{
    jid::{BareJid, Jid},
    limits::Limits,
    ns,
    sasl::{Decoy, Login, Policy},
};

/// Whom a stream joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client and its server.
    C2s,
    /// Two servers.
    S2s,
    /// A server and an external component of it (XEP-0114).
    Component,
}

impl Kind {
    /// The namespace of the stanzas (RFC 6120, section 4.8.2).
    pub const fn content_ns(self) -> &'static str {
        match self {
            Self::C2s => ns::CLIENT,
            Self::S2s => ns::SERVER,
            Self::Component => ns::COMPONENT,
        }
    }
}

/// What holds for every stream of a listener, or for one stream that we open.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom the stream joins.
    pub kind: Kind,
    /// STARTTLS can be done: a certificate is there. An initiating entity does it when offered.
    pub starttls: bool,
    /// Nothing but STARTTLS before TLS.
    pub require_tls: bool,
    /// The bytes are inside TLS from the start, or come by a way that is trusted as if they were.
    pub secured: bool,
    /// Mechanisms that may be offered.
    pub policy: Policy,
    /// How logins of unknown users are answered.
    pub decoy: Decoy,
    /// Failed attempts to authenticate that close the stream.
    pub auth_attempts: u8,
    /// Limits of the peer's XML until it is authenticated.
    pub pre_auth: Limits,
    /// Limits of the peer's XML from then on.
    pub limits: Limits,
    /// How long the peer may take.
    pub deadlines: Deadlines,
}

/// How long a peer may take. Each runs from the first byte it could have sent, and nothing that
/// it sends in the meantime makes it longer.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// A stream header, when it is the peer's turn to send one.
    pub header: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// All of the negotiation, until stanzas may flow.
    pub negotiation: Duration,
    /// The peer's end tag after ours.
    pub closing: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            negotiation: Duration::from_secs(60),
            closing: Duration::from_secs(5),
        }
    }
}

/// Where a stream that we open leads.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The domain to reach.
    pub to: BareJid,
    /// Who we are. Left out of the header until the stream is encrypted, for a client.
    pub from: Option<Jid>,
    /// What a client logs in with; servers have none.
    pub login: Option<Login>,
    /// The resource a client asks for.
    pub binding: Binding,
}

/// What a client does once it is authenticated.
#[derive(Clone, Debug, Default)]
pub enum Binding {
    /// Asks for a resource at once: this one, or one of the server's choice.
    #[default]
    Any,
    /// Asks for this resource at once.
    Resource(String),
    /// Leaves it to the driver, which may rather resume a session (XEP-0198).
    Later,
}

/// Which end of a stream we are.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Receiving,
    Initiating(Arc<Peer>),
}
