//! The SASL mechanisms, which of them a stream offers, and channel binding types
//! (RFC 5929, RFC 9266, XEP-0440, XEP-0474).

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::keys::{Hash, Secret};
use crate::jid::BareJid;

/// A SASL mechanism, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// The password itself (RFC 4616); only ever inside TLS.
    Plain,
    /// RFC 5802.
    ScramSha1,
    /// RFC 7677.
    ScramSha256,
    /// RFC 5802 bound to the TLS channel.
    ScramSha1Plus,
    /// RFC 7677 bound to the TLS channel.
    ScramSha256Plus,
    /// The certificate shown in the TLS handshake (RFC 4422, appendix A; XEP-0178).
    External,
}

impl Mechanism {
    /// All of them, the strongest first.
    pub const ALL: [Self; 6] =
        [Self::External, Self::ScramSha256Plus, Self::ScramSha1Plus, Self::ScramSha256, Self::ScramSha1, Self::Plain];

    /// The name registered with IANA.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::External => "EXTERNAL",
        }
    }

    /// The mechanism of that name, which is compared exactly.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Whether the exchange proves that both ends see the same TLS channel.
    pub const fn binds_channel(self) -> bool {
        matches!(self, Self::ScramSha1Plus | Self::ScramSha256Plus)
    }

    /// The hash function, for the SCRAM family.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Self::ScramSha1 | Self::ScramSha1Plus => Some(Hash::Sha1),
            Self::ScramSha256 | Self::ScramSha256Plus => Some(Hash::Sha256),
            Self::Plain | Self::External => None,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The channel binding types we know, the strongest first. tls-unique is not among them: TLS 1.3
/// has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingType {
    /// RFC 9266: keying material exported from the TLS session.
    TlsExporter,
    /// RFC 5929, section 4: hash of the server's certificate.
    TlsServerEndPoint,
}

impl BindingType {
    /// All of them, the strongest first.
    pub const ALL: [Self; 2] = [Self::TlsExporter, Self::TlsServerEndPoint];

    /// The name registered with IANA.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsExporter => "tls-exporter",
            Self::TlsServerEndPoint => "tls-server-end-point",
        }
    }

    /// The type of that name, which is compared exactly.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What identifies the TLS session a stream runs in. Empty without TLS, and behind a proxy that
/// ends it.
#[derive(Clone, Debug, Default)]
pub struct ChannelBindings {
    /// 32 bytes exported with the label `EXPORTER-Channel-Binding` and an empty context.
    pub exporter: Option<Secret>,
    /// Hash of the server's certificate in DER, by the hash function of its signature (SHA-256
    /// in place of MD5 and SHA-1).
    pub end_point: Option<Secret>,
}

impl ChannelBindings {
    /// The binding data of `kind`, when this session has it.
    pub fn get(&self, kind: BindingType) -> Option<&Secret> {
        match kind {
            BindingType::TlsExporter => self.exporter.as_ref(),
            BindingType::TlsServerEndPoint => self.end_point.as_ref(),
        }
    }

    /// The types this session has, the strongest first.
    pub fn types(&self) -> impl Iterator<Item = BindingType> + '_ {
        BindingType::ALL.into_iter().filter(|kind| self.get(*kind).is_some())
    }

    /// Whether no type can be used.
    pub fn is_empty(&self) -> bool {
        self.types().next().is_none()
    }
}

/// Which mechanisms a server may offer on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// PLAIN is allowed; it needs TLS all the same.
    pub plain: bool,
    /// The mechanisms with SHA-1 are allowed.
    pub sha1: bool,
    /// Logging in by password is allowed at all; a stream between servers has none.
    pub passwords: bool,
}

impl Policy {
    /// Every mechanism that is safe on the stream at hand.
    pub const CLIENTS: Self = Self { plain: true, sha1: true, passwords: true };
    /// EXTERNAL alone.
    pub const SERVERS: Self = Self { plain: false, sha1: false, passwords: false };
}

/// What a server offers on one stream, in one place: nothing else is ever accepted.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    mechanisms: Vec<Mechanism>,
    bindings: ChannelBindings,
    external: Vec<BareJid>,
}

impl Offer {
    /// Computes the offer. `tls` says whether the stream is inside TLS; `external` lists the
    /// identities that the peer's certificate proves.
    pub fn new(policy: Policy, tls: bool, bindings: ChannelBindings, external: Vec<BareJid>) -> Self {
        let bound = !bindings.is_empty();
        let allowed = |mechanism: &Mechanism| match mechanism {
            Mechanism::External => tls && !external.is_empty(),
            Mechanism::ScramSha256Plus => policy.passwords && bound,
            Mechanism::ScramSha1Plus => policy.passwords && bound && policy.sha1,
            Mechanism::ScramSha256 => policy.passwords,
            Mechanism::ScramSha1 => policy.passwords && policy.sha1,
            Mechanism::Plain => policy.passwords && policy.plain && tls,
        };
        let mechanisms = Mechanism::ALL.into_iter().filter(allowed).collect();
        Self { mechanisms, bindings, external }
    }

    /// The mechanisms, the strongest first.
    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// The channel binding types to announce by XEP-0440, the strongest first; none when no
    /// mechanism offered would use them.
    pub fn binding_types(&self) -> Vec<BindingType> {
        if self.binds_channel() { self.bindings.types().collect() } else { Vec::new() }
    }

    /// Whether a mechanism of that name is offered.
    pub fn find(&self, name: &str) -> Option<Mechanism> {
        Mechanism::from_name(name).filter(|mechanism| self.mechanisms.contains(mechanism))
    }

    pub(super) fn external(&self) -> &[BareJid] {
        &self.external
    }

    pub(super) fn binds_channel(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.binds_channel())
    }

    pub(super) fn binding(&self, kind: BindingType) -> Option<&Secret> {
        if self.binds_channel() { self.bindings.get(kind) } else { None }
    }

    pub(super) fn downgrade_hash(&self, hash: Hash) -> String {
        let mechanisms = self.mechanisms.iter().map(|mechanism| mechanism.name());
        let types = self.binding_types();
        downgrade_hash(hash, mechanisms, types.iter().map(|kind| kind.name()))
    }
}

/// XEP-0474, section 5.1: a hash of what the server announced, in base64, for SCRAM to sign.
pub(super) fn downgrade_hash<'a>(
    hash: Hash,
    mechanisms: impl Iterator<Item = &'a str>,
    binding_types: impl Iterator<Item = &'a str>,
) -> String {
    let sorted = |names: &mut Vec<&'a str>| {
        names.sort_unstable();
        names.join("\u{1e}")
    };
    let mut text = sorted(&mut mechanisms.collect());
    let mut types: Vec<_> = binding_types.collect();
    if !types.is_empty() {
        text.push('\u{1f}');
        text.push_str(&sorted(&mut types));
    }
    BASE64.encode(hash.digest(text.as_bytes()).expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> ChannelBindings {
        ChannelBindings { exporter: Some(Secret::new(&[1; 32])), end_point: Some(Secret::new(&[2; 32])) }
    }

    fn names(offer: &Offer) -> String {
        offer.mechanisms().iter().map(|m| m.name()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a2_offer_follows_the_channel() {
        let check = |policy, tls, bindings, external, expected: &str| {
            let external = if external { vec![BareJid::new("a.example").unwrap()] } else { vec![] };
            assert_eq!(names(&Offer::new(policy, tls, bindings, external)), expected);
        };
        let none = ChannelBindings::default;
        check(
            Policy::CLIENTS,
            true,
            bound(),
            false,
            "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 PLAIN",
        );
        check(Policy::CLIENTS, true, none(), false, "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN");
        check(Policy::CLIENTS, false, none(), true, "SCRAM-SHA-256 SCRAM-SHA-1");
        check(Policy { plain: false, ..Policy::CLIENTS }, true, none(), true, "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1");
        check(Policy { sha1: false, ..Policy::CLIENTS }, true, none(), false, "SCRAM-SHA-256 PLAIN");
        check(Policy::SERVERS, true, bound(), true, "EXTERNAL");
        check(Policy::SERVERS, true, bound(), false, "");
        let servers = Offer::new(Policy::SERVERS, true, bound(), Vec::new());
        assert!(servers.binding_types().is_empty());
    }

    /// The example of XEP-0474, section 5.3.
    #[test]
    fn a16_downgrade_hash_is_that_of_the_specification() {
        let hash = downgrade_hash(
            Hash::Sha1,
            ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"].into_iter(),
            ["tls-server-end-point", "tls-exporter"].into_iter(),
        );
        assert_eq!(hash, "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    }
}
