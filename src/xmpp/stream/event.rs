//! What a stream tells its driver, and what the driver answers.

use crate::{
    element::Element,
    error::{SaslCondition, StreamError},
    jid::{BareJid, FullJid, Jid},
    sasl::{ChannelBindings, ClientError, Mechanism},
    stanza::Stanza,
};

/// Something for the driver to act on. Five of them are questions: until each has its answer,
/// [`Stream::handle_input`](super::Stream::handle_input) takes no more bytes.
#[derive(Debug)]
pub enum Event {
    /// A stream header came. A question: answer with `handle_host`, on a component's stream with `handle_component`.
    Opened(Box<Opened>),
    /// Do the TLS handshake, after writing what `poll_transmit` has. A question: answer with
    /// `handle_tls`.
    StartTls,
    /// Look up the keys of this account. A question: answer with `handle_keys`.
    LookUp {
        /// Whose keys.
        user: BareJid,
        /// The answer will hash a password: some milliseconds of CPU.
        expensive: bool,
    },
    /// The client asks for a resource. A question: answer with `handle_bind`.
    Bind {
        /// The one it would like.
        resource: Option<String>,
    },
    /// A component says that it knows the secret. A question: answer with `handle_handshake`.
    Handshake {
        /// It does.
        right: bool,
    },
    /// The peer proved who it is, or we did as initiating entity.
    Authenticated {
        /// An account, or the domain of a server.
        identity: Jid,
        /// How.
        mechanism: Mechanism,
    },
    /// An attempt to authenticate failed. The stream lives on until there were too many.
    AuthFailed {
        /// Whose account, as far as it got.
        user: Option<BareJid>,
        /// By which mechanism, if it is one that was offered.
        mechanism: Option<Mechanism>,
        /// What the peer was told, or told us.
        condition: SaslCondition,
    },
    /// An IQ in the namespace of XEP-0077 from a peer that is not authenticated.
    PreAuthIq(Stanza),
    /// A stanza.
    Stanza(Stanza),
    /// The stream has answered a stanza itself; it still counts as received. What is here goes
    /// back like any other stanza, so that XEP-0198 counts it.
    Answered(Option<Stanza>),
    /// A top-level element that is no stanza and that the stream does not know.
    Nonza(Element),
    /// We opened the stream, and these are the features the peer offers now.
    Features(Element),
    /// We opened the stream, and this is our address on it. Stanzas may flow.
    Bound(FullJid),
    /// The stream is over: write what `poll_transmit` still has and close the connection.
    Closed(Ending),
}

/// How far a stream has come when its header arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not encrypted, though it could be.
    BeforeTls,
    /// As encrypted as it gets; the peer is not authenticated.
    BeforeAuth,
    /// Authenticated.
    AfterAuth,
}

/// The peer's stream header.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The domain the peer wants.
    pub to: BareJid,
    /// Who the peer says it is. Proves nothing, and must change nothing that the peer can see,
    /// before [`Phase::AfterAuth`].
    pub from: Option<Jid>,
    /// Language of the peer's texts.
    pub lang: Option<Box<str>>,
    /// How far the stream has come.
    pub phase: Phase,
    /// A server that speaks no XMPP 1.0: there are no features, no TLS and no SASL, only dialback.
    pub is_old: bool,
    /// Who the peer is, after [`Phase::AfterAuth`].
    pub identity: Option<Jid>,
}

/// The answer to [`Event::Opened`] when the host is served.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Stream features to add to those the stream has of its own, for the phase at hand.
    pub features: Vec<Element>,
    /// Identities at or for this host that the certificate of the peer proves: EXTERNAL is
    /// offered when there is one.
    pub external: Vec<BareJid>,
    /// Let queries of XEP-0077 through before authentication, as [`Event::PreAuthIq`].
    pub register: bool,
    /// This server may go on without encryption, and without XMPP 1.0, though others may not.
    pub plain: bool,
}

/// What the TLS handshake came to.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// Empty when channel binding cannot be trusted here.
    pub bindings: ChannelBindings,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The peer ended it, maybe with an error.
    ByPeer(Option<StreamError>),
    /// We ended it, maybe with an error.
    ByUs(Option<StreamError>),
    /// We could not log in, for a reason of our own.
    Login(ClientError),
}
