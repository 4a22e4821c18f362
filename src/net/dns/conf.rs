//! What the search for servers goes by: the keys of `[s2s]` that are about DNS and addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rookery_core::config::{self, Conf, RemoteConf};

use super::target::TlsMode;

/// The numbers and names. `Default` is what an empty conf means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConf {
    /// `s2s.nameservers`: whom to ask. Empty: those of `/etc/resolv.conf`, and `/etc/hosts` counts too.
    pub nameservers: Vec<SocketAddr>,
    /// `s2s.dnssec`: whether answers are validated here.
    pub dnssec: bool,
    /// `s2s.trust_anchor`: a file of DNSKEY records that signatures are to lead to. None: the root's keys, as IANA has
    /// published them.
    pub trust_anchor: Option<PathBuf>,
    /// `s2s.private_addresses`: whether to connect to loopback, private and link-local addresses that DNS names.
    pub private_addresses: bool,
    /// `[s2s.domain."..."] addresses`: domains (as in JIDs, prepared) whose servers the conf names.
    pub overrides: HashMap<String, Override>,
    /// How long one answer may take, all tries included; a whole search, which is several questions, twice as long.
    pub timeout: Duration,
}

impl Default for DnsConf {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            dnssec: true,
            trust_anchor: None,
            private_addresses: false,
            overrides: HashMap::new(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl DnsConf {
    /// What the conf says.
    pub fn of_conf(conf: &Conf) -> Self {
        let s2s = conf.s2s();
        let named = |remote: &RemoteConf| Override {
            addresses: remote.addresses.clone(),
            tls: match remote.tls {
                config::TlsMode::Direct => TlsMode::Direct,
                config::TlsMode::Starttls | config::TlsMode::Plain => TlsMode::Starttls,
            },
        };
        Self {
            nameservers: s2s.nameservers.clone(),
            dnssec: s2s.dnssec,
            trust_anchor: s2s.trust_anchor.clone(),
            private_addresses: s2s.private_addresses,
            overrides: conf
                .remotes()
                .filter(|(_, remote)| !remote.addresses.is_empty())
                .map(|(domain, remote)| (domain.to_owned(), named(remote)))
                .collect(),
            ..Self::default()
        }
    }
}

/// Where a domain's server is, whatever DNS says. Private addresses are fine here: the admin has named them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// In this order.
    pub addresses: Vec<SocketAddr>,
    /// How TLS begins there.
    pub tls: TlsMode,
}
