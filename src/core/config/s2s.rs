//! `[s2s]`, `[s2s.domain."..."]` and `[component."..."]`: other servers and external components, as the conf has them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rookery_xmpp::jid::BareJid;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::types::{self, Count, Period, Secret, Size};
use super::{Conf, TlsMode};

/// `[s2s]`: what holds for all other servers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S2sConf {
    /// Whether the server talks to others at all.
    pub enabled: bool,
    /// What a server has to show that has no section of its own: `Valid` or `Dialback`.
    pub certificates: Certificates,
    /// The domains that the server talks to.
    pub allow: Domains,
    /// Those among them that it does not talk to all the same.
    pub deny: Domains,
    /// How long a message waits to be taken by the other server, until its sender is told.
    pub wait: Period<5, 604_800>,
    /// The same for a request.
    pub wait_iq: Period<5, 604_800>,
    /// Bytes that wait for one other domain.
    pub queue: Size<65_536, { 1 << 30 }>,
    /// Bytes that wait for all of them.
    pub queues: Size<65_536, { 1 << 36 }>,
    /// A stream that nobody has used for so long is closed.
    pub idle: Period<10, 604_800>,
    /// A peer that has been silent for so long is asked whether it is there.
    pub keepalive: Period<5, 3600>,
    /// How long one attempt to connect may take, to the end of TLS and authentication.
    pub connect: Period<1, 600>,
    /// The longest time between two attempts to connect.
    pub retry: Period<1, 86_400>,
    /// A PEM file of certificate authorities beside the system's.
    #[serde(deserialize_with = "types::some_path")]
    pub authorities: Option<PathBuf>,
    /// The DNS servers to ask, in place of the system's.
    #[serde(deserialize_with = "types::socket_addresses")]
    pub nameservers: Vec<SocketAddr>,
    /// Whether DNSSEC is validated, and DANE (RFC 7712) used where a zone is signed.
    pub dnssec: bool,
    /// A file of DNSKEY records that DNSSEC begins with, in place of the root's keys: for names of one's own.
    #[serde(deserialize_with = "types::some_path")]
    pub trust_anchor: Option<PathBuf>,
    /// Whether other servers may be at addresses of private networks and of this machine (security.md D4).
    pub private_addresses: bool,
    /// Bytes a second that are read from one domain, in the long run; more is read later.
    pub rate: Size<1024, { 1 << 30 }>,
    /// Bytes that are read from one domain at once.
    pub burst: Size<10_000, { 1 << 30 }>,
    /// One stanza of another server or of a component (XEP-0478 announces it).
    pub stanza: Size<10_000, { 64 << 20 }>,
    /// Streams that one domain may have open to us at once.
    pub streams: Count<1, 1000>,
    /// Named here so that it is in the list of options.
    #[serde(rename = "domain")]
    pub(super) _domain: Ignored,
}

/// A section that is read elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Default for S2sConf {
    fn default() -> Self {
        Self {
            enabled: true,
            certificates: Certificates::Valid,
            allow: Domains { all: true, ..Domains::default() },
            deny: Domains::default(),
            wait: Period::minutes(5),
            wait_iq: Period::seconds(60),
            queue: Size::mib(16),
            queues: Size::mib(256),
            idle: Period::minutes(10),
            keepalive: Period::minutes(1),
            connect: Period::seconds(20),
            retry: Period::minutes(5),
            authorities: None,
            nameservers: Vec::new(),
            dnssec: true,
            trust_anchor: None,
            private_addresses: false,
            rate: Size::kib(512),
            burst: Size::mib(4),
            stanza: Size::kib(512),
            streams: Count::new(10),
            _domain: Ignored,
        }
    }
}

/// What another server has to show before it may speak for its domain, and before we speak to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certificates {
    /// A certificate that is valid for its domain.
    #[default]
    Valid,
    /// Any certificate, and then dialback (XEP-0220).
    Dialback,
    /// Dialback without TLS: only for a domain that is named.
    Plain,
    /// Nothing: the server does not talk to it.
    Refuse,
}

/// `[s2s.domain."..."]`: what holds for one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConf {
    /// What it has to show; otherwise as `[s2s]` says.
    pub certificates: Option<Certificates>,
    /// SHA-256 digests of public keys: with these its certificate need not be valid, but its key has to be one of them.
    pub pin: Vec<Pin>,
    /// Where it is, in place of what DNS says.
    #[serde(deserialize_with = "types::socket_addresses")]
    pub addresses: Vec<SocketAddr>,
    /// How to speak to these addresses: `Starttls` or `Direct`.
    pub tls: TlsMode,
}

/// The SHA-256 digest of a public key (SubjectPublicKeyInfo), written in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        types::parsed(deserializer, "the SHA-256 digest of a public key as 64 hexadecimal digits")
    }
}

impl FromStr for Pin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut digits = text.bytes().filter(|byte| *byte != b':').map(|byte| char::from(byte).to_digit(16));
        let mut pin = [0; 32];
        for byte in &mut pin {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else { return Err(()) };
            *byte = (high << 4 | low) as u8;
        }
        if digits.next().is_none() { Ok(Self(pin)) } else { Err(()) }
    }
}

/// A list of domains: `"*"` is all, `"*.example.org"` all below example.org, and a name is that domain alone. However long it
/// is, looking takes as many steps as the domain has labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    all: bool,
    below: BTreeSet<String>,
    only: BTreeSet<String>,
}

impl Domains {
    /// Whether a domain, normalised, is one of them.
    pub fn has(&self, domain: &str) -> bool {
        let mut above = domain.match_indices('.').filter_map(|(at, _)| domain.get(at + 1..));
        self.all || self.only.contains(domain) || above.any(|above| self.below.contains(above))
    }
}

impl<'de> Deserialize<'de> for Domains {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut domains = Self::default();
        for pattern in Vec::<Pattern>::deserialize(deserializer)? {
            match pattern {
                Pattern::All => domains.all = true,
                Pattern::Below(domain) => drop(domains.below.insert(domain.to_string())),
                Pattern::Only(domain) => drop(domains.only.insert(domain.to_string())),
            }
        }
        Ok(domains)
    }
}

enum Pattern {
    All,
    /// Every domain below this one, and not itself.
    Below(BareJid),
    Only(BareJid),
}

impl FromStr for Pattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        match BareJid::new(name) {
            Ok(domain) if domain.localpart().is_none() => {
                Ok(if is_below { Self::Below(domain) } else { Self::Only(domain) })
            }
            _ => Err(()),
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        types::parsed(deserializer, "\"*\", a domain such as \"example.org\", or all below it, \"*.example.org\"")
    }
}

/// `[component."..."]`: an external component (XEP-0114), as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ComponentConf {
    pub(super) secret: Secret,
    pub(super) wait: Period<0, 86_400>,
}

impl Default for ComponentConf {
    fn default() -> Self {
        Self { secret: Secret::default(), wait: Period::minutes(1) }
    }
}

/// An external component (XEP-0114).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its domain, normalised.
    pub domain: BareJid,
    /// What it and we know; never empty.
    pub secret: Secret,
    /// How long a stanza waits for it while it is not connected, until its sender is told.
    pub wait: Period<0, 86_400>,
}

impl Conf {
    /// `[s2s]`.
    pub fn s2s(&self) -> &S2sConf {
        &self.s2s
    }

    /// `[s2s.domain."..."]` of a domain, normalised; all defaults when it has no section.
    pub fn remote(&self, domain: &str) -> RemoteConf {
        self.remotes.get(domain).cloned().unwrap_or_default()
    }

    /// The domains, normalised, that have a section `[s2s.domain."..."]`, with it.
    pub fn remotes(&self) -> impl Iterator<Item = (&str, &RemoteConf)> {
        self.remotes.iter().map(|(domain, remote)| (domain.as_str(), remote))
    }

    /// What a domain has to show, by its own section or `[s2s]`.
    pub fn certificates(&self, domain: &str) -> Certificates {
        self.remotes.get(domain).and_then(|remote| remote.certificates).unwrap_or(self.s2s.certificates)
    }

    /// Whether the server talks to a domain, normalised, as far as the conf goes: `deny` is stronger than `allow`, and a
    /// section of its own that refuses it stronger than both.
    pub fn may_federate(&self, domain: &str) -> bool {
        let s2s = &self.s2s;
        s2s.enabled
            && self.certificates(domain) != Certificates::Refuse
            && s2s.allow.has(domain)
            && !s2s.deny.has(domain)
    }

    /// The external components, in their order.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// An external component.
    pub fn component(&self, domain: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.domain.as_str() == domain)
    }
}
