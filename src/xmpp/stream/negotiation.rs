//! What a stream remembers until it is open, and the features it offers on the way.

use std::time::Instant;

use crate::{
    element::Element,
    jid::{BareJid, Jid},
    ns,
    sasl::{ChannelBindings, ClientExchange, Exchange, Offer, Secret},
};

use super::{
    config::{Config, Kind, Role},
    event::Phase,
};

#[derive(Debug)]
pub(super) struct Negotiation {
    pub(super) role: Role,
    /// When all of it must be over.
    pub(super) deadline: Instant,
    pub(super) secured: bool,
    pub(super) bindings: ChannelBindings,
    /// The domain of the last header; must stay once the peer is authenticated.
    pub(super) host: Option<BareJid>,
    /// Who the peer said it is.
    pub(super) from: Option<Jid>,
    pub(super) offer: Offer,
    pub(super) register: bool,
    /// The peer may do without encryption.
    pub(super) plain: bool,
    /// The peer speaks no XMPP 1.0.
    pub(super) old: bool,
    pub(super) exchange: Option<Exchange>,
    /// The account that the exchange is about.
    pub(super) user: Option<BareJid>,
    pub(super) failures: u8,
    pub(super) identity: Option<Jid>,
    /// The id of the IQ that asked for a resource.
    pub(super) bind_id: Box<str>,
    pub(super) client: Option<ClientExchange>,
    /// What a component must know, until it has tried once.
    pub(super) secret: Option<Secret>,
    /// It has shown that it does.
    pub(super) proven: bool,
}

impl Negotiation {
    pub(super) fn new(config: &Config, role: Role, now: Instant) -> Self {
        Self {
            role,
            deadline: now + config.deadlines.negotiation,
            secured: config.secured,
            bindings: ChannelBindings::default(),
            host: None,
            from: None,
            offer: Offer::default(),
            register: false,
            plain: false,
            old: false,
            exchange: None,
            user: None,
            failures: 0,
            identity: None,
            bind_id: Box::default(),
            client: None,
            secret: None,
            proven: false,
        }
    }

    pub(super) fn phase(&self, config: &Config) -> Phase {
        if self.identity.is_some() {
            Phase::AfterAuth
        } else if config.starttls && !self.secured {
            Phase::BeforeTls
        } else {
            Phase::BeforeAuth
        }
    }

    /// Whether TLS must come first.
    pub(super) fn lacks_tls(&self, config: &Config) -> bool {
        config.require_tls && !self.secured && !self.plain
    }

    /// The stream's own features, for the phase at hand (XEP-0170).
    pub(super) fn features(&self, config: &Config) -> Vec<Element> {
        let mut features = Vec::new();
        match self.phase(config) {
            Phase::AfterAuth if config.kind == Kind::C2s => {
                features.push(Element::new("bind", ns::BIND));
                // COMPAT: clients of RFC 3921 wait for a session unless told that they need not.
                features.push(Element::new("session", ns::SESSION).child(Element::new("optional", ns::SESSION)));
            }
            Phase::AfterAuth => {}
            phase => {
                if phase == Phase::BeforeTls {
                    let required = self.lacks_tls(config).then(|| Element::new("required", ns::TLS));
                    features.push(Element::new("starttls", ns::TLS).children(required));
                }
                features.extend(self.sasl_features());
            }
        }
        features
    }

    fn sasl_features(&self) -> Vec<Element> {
        let mechanisms = self.offer.mechanisms();
        if mechanisms.is_empty() {
            return Vec::new();
        }
        let mut features = Vec::new();
        let types = self.offer.binding_types();
        if !types.is_empty() {
            features.push(Element::new("sasl-channel-binding", ns::SASL_CB).children(
                types.iter().map(|kind| Element::new("channel-binding", ns::SASL_CB).attr("type", kind.name())),
            ));
        }
        features.push(
            Element::new("mechanisms", ns::SASL).children(
                mechanisms.iter().map(|mechanism| Element::new("mechanism", ns::SASL).text(mechanism.name())),
            ),
        );
        features
    }
}
