//! What is found: the hosts, ports and addresses of a domain's servers, or why there are none.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::dane;

/// Where servers listen for servers when DNS does not say (RFC 6120 §14.8).
pub const DEFAULT_PORT: u16 = 5269;

/// How TLS begins with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Inside the stream (RFC 6120 §5): `_xmpp-server._tcp`.
    Starttls,
    /// From the first byte (XEP-0368): `_xmpps-server._tcp`.
    Direct,
}

impl TlsMode {
    /// The word of the conf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Direct => "direct",
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A TLSA record (RFC 6698 §2.1): what the certificate of a host and port is to be.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE.
    pub usage: u8,
    /// 0: the whole certificate; 1: its public key (SubjectPublicKeyInfo).
    pub selector: u8,
    /// 0: `data` is what is selected; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// As `matching` says.
    pub data: Vec<u8>,
}

impl fmt::Display for Tlsa {
    /// As zone files write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tlsa({self})")
    }
}

/// A host and port that DNS, or the conf, names for a domain. Targets are tried in the order in which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host's name as in DNS (A-labels, no final dot), or an address of the conf.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How TLS begins.
    pub tls: TlsMode,
    /// Its SRV priority: lower ones are tried first, and longer before others are tried as well (RFC 2782).
    pub priority: u16,
    /// Where to connect to, in the order of RFC 8305 §4 (families in turn).
    pub addresses: Vec<IpAddr>,
    /// Addresses that DNS names as well and that nobody is to be sent to: loopback, private, link-local...
    pub refused: Vec<IpAddr>,
    /// Whether all that led here is signed (DNSSEC): the SRV record and the addresses. Then the host's name may be taken for
    /// the domain's (RFC 7673 §4), and `tlsa` holds.
    pub secure: bool,
    /// Its TLSA records, only if they are signed too. Empty: no DANE.
    pub tlsa: Vec<Tlsa>,
    /// Why `addresses` is empty, or TLSA could not be asked for; in plain words.
    pub notes: Vec<String>,
}

impl Target {
    /// Whether a TLSA record says what its certificate must be (see [`dane::is_usable`]).
    pub fn has_dane(&self) -> bool {
        self.tlsa.iter().any(dane::is_usable)
    }
}

/// One SRV record, as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvRecord {
    /// Which of the two services it is of.
    pub tls: TlsMode,
    /// Lower ones first.
    pub priority: u16,
    /// Among those of one priority: how often it is first, relative to the others.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, A-labels, no final dot; empty for `.`, which says that the service is not offered.
    pub host: String,
}

/// What the targets were made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `[s2s.domain."..."] addresses` of the conf; DNS was not asked for SRV.
    Conf,
    /// SRV records.
    Srv,
    /// There is no SRV record: the domain's own addresses, and port 5269 (RFC 6120 §3.2.2).
    Domain,
    /// The domain is an address.
    Literal,
}

/// All that DNS says of a domain, for those who want to see it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What it is made of.
    pub source: Source,
    /// The SRV records of both services, in the order of their priority.
    pub records: Arc<[SrvRecord]>,
    /// Where to connect to, in this order: weights are drawn anew each time.
    pub targets: Vec<Target>,
    /// What is odd without being in the way, in plain words.
    pub notes: Vec<String>,
}

/// Why a domain has no server to be found. Its text is a sentence without an end, for logs, errors and `rookery s2s check`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// For certain: no such domain, no address, no such host.
    #[error("{0}")]
    NoSuchDomain(String),
    /// For certain: the domain says that it has no XMPP server (RFC 2782, target ".").
    #[error("its SRV record has the target \".\", which says that the domain does not federate")]
    NotOffered,
    /// DNSSEC says that somebody has tampered with the answer, or that the zone is signed badly.
    #[error("{0}")]
    Bogus(String),
    /// Not now: nameservers that fail or do not answer.
    #[error("{0}")]
    Failing(String),
}

impl LookupError {
    /// Whether asking again soon is in vain: what waits can be bounced at once.
    pub fn is_definite(&self) -> bool {
        matches!(self, Self::NoSuchDomain(_) | Self::NotOffered)
    }
}
