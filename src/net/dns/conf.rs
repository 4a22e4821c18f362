//! What the search for servers goes by: the keys of `[s2s]` that are about DNS and addresses.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// How long one answer may take, all tries included.
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

/// Where a domain's server is, whatever DNS says. Private addresses are fine here: the admin has named them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// In this order.
    pub addresses: Vec<Where>,
    /// How TLS begins there.
    pub tls: TlsMode,
}

/// A host or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Where {
    /// What to connect to.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// An address, or a name that DNS has the address of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// This address.
    Address(IpAddr),
    /// The addresses of this host.
    Name(String),
}

impl Where {
    /// From `192.0.2.1:5269`, `[2001:db8::1]:5269` or `host.example:5269`; None if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self { host: Host::Address(address.ip()), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let ascii = idna::domain_to_ascii(host).ok()?;
        let plain =
            !ascii.is_empty() && ascii.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        plain.then_some(Self { host: Host::Name(ascii), port })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn addresses_of_the_conf_are_read() {
        let named = |text| Where::parse(text).unwrap();
        assert_eq!(named("192.0.2.1:5269"), Where { host: Host::Address("192.0.2.1".parse().unwrap()), port: 5269 });
        assert_eq!(named("[2001:db8::1]:1"), Where { host: Host::Address("2001:db8::1".parse().unwrap()), port: 1 });
        assert_eq!(
            named("Bücher.example:5270"),
            Where { host: Host::Name("xn--bcher-kva.example".into()), port: 5270 }
        );
        for wrong in [
            "",
            "host.example",
            "host.example:",
            "host.example:0",
            "host.example:65536",
            "2001:db8::1",
            ":5269",
            "a b:1",
        ] {
            assert_eq!(Where::parse(wrong), None, "{wrong}");
        }
    }
}
