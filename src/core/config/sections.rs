//! The sections `[server]`, `[log]`, `[store]`, `[[listen]]` and `[host."..."]` with their defaults.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use rookery_xmpp::jid::BareJid;
use serde::Deserialize;

use super::types::{self, Count, Secret};

/// `[server]`: where the server keeps its things and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConf {
    /// The folder of the database, the control socket and what else the server writes; relative to the working directory.
    #[serde(deserialize_with = "types::path")]
    pub data: PathBuf,
    /// The folder of the hosts' certificates: `<host>.crt` and `<host>.key`.
    #[serde(deserialize_with = "types::path")]
    pub certs: PathBuf,
    /// How many rounds of PBKDF2 the keys of new passwords take (RFC 7677 §4 asks for 4096 at least).
    pub scram_iterations: Count<10_000, 1_000_000>,
}

impl Default for ServerConf {
    fn default() -> Self {
        Self { data: "data".into(), certs: "certs".into(), scram_iterations: Count::new(10_000) }
    }
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConf {
    /// The least important lines that are still logged.
    pub level: LogLevel,
    /// For people or for programs.
    pub format: LogFormat,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Something may soon not work.
    Warn,
    /// What an admin wants to know from day to day.
    #[default]
    Info,
    /// What helps to find out why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word of the conf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[store]`: the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConf {
    /// Which database.
    pub backend: Backend,
    /// SQLite's file. [`super::Conf`] fills it in: `rookery.sqlite` in the data folder when the conf names none.
    #[serde(deserialize_with = "types::path")]
    pub path: PathBuf,
    /// Where PostgreSQL is: `postgres://user:password@host/database`. What it leaves out comes from libpq's variables
    /// (`PGHOST`, `PGUSER`, `PGPASSWORD`...).
    pub url: Secret,
    /// Connections to the database at most.
    pub connections: Count<1, 1000>,
    /// What an acknowledged stanza survives.
    pub durability: Durability,
}

impl Default for StoreConf {
    fn default() -> Self {
        Self {
            backend: Backend::Sqlite,
            path: PathBuf::new(),
            url: Secret::default(),
            connections: Count::new(8),
            durability: Durability::Full,
        }
    }
}

/// A database that the server knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A file beside the server.
    #[default]
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// What an acknowledged stanza survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A crash of the machine: each commit waits for the disk.
    #[default]
    Full,
    /// A crash of the server, not of the machine.
    Relaxed,
}

/// `[[listen]]`: a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Who connects.
    pub kind: ListenerKind,
    /// Address and port; `[::]` takes IPv4 too. Port 0 lets the system choose.
    #[serde(deserialize_with = "types::socket_address")]
    pub address: SocketAddr,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// On a plain listener: lets clients send their password as it is (SASL PLAIN).
    pub allow_plain_passwords: bool,
}

impl Default for Listener {
    fn default() -> Self {
        Self::new(ListenerKind::C2s, 5222, TlsMode::Starttls)
    }
}

impl Listener {
    /// A listener on all addresses.
    pub fn new(kind: ListenerKind, port: u16, tls: TlsMode) -> Self {
        let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        Self { kind, address, tls, allow_plain_passwords: false }
    }
}

/// Who connects to a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// Clients (RFC 6120).
    #[default]
    C2s,
    /// Other servers.
    S2s,
    /// External components (XEP-0114).
    Component,
}

impl ListenerKind {
    /// The word of the conf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::C2s => "c2s",
            Self::S2s => "s2s",
            Self::Component => "component",
        }
    }
}

/// How a listener's connections are protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// TLS begins inside the stream, and nothing goes before it (RFC 6120 §5).
    #[default]
    Starttls,
    /// TLS from the first byte (XEP-0368).
    Direct,
    /// No TLS: behind a proxy that ends it, or on the own machine.
    Plain,
}

impl TlsMode {
    /// The word of the conf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Direct => "direct",
            Self::Plain => "plain",
        }
    }
}

/// Whether an address is reached from the own machine or a private network only, so that a listener without TLS may use it:
/// loopback, RFC 1918, shared (RFC 6598), link-local and unique local (RFC 4193).
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, _, _] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || (a == 100 && b & 0b1100_0000 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// `[host."example.org"]`: a domain that the server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The domain, normalised.
    pub domain: BareJid,
    /// The file of its certificate and chain; otherwise `<host>.crt` in the folder of certificates.
    pub certificate: Option<PathBuf>,
    /// The file of its key; otherwise `<host>.key` in the folder of certificates.
    pub key: Option<PathBuf>,
}

/// Where a host's certificate is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
    /// The conf names the files, so none is to be made there.
    pub is_named: bool,
}

impl Host {
    /// The files that the conf names, or those of the host in the folder of certificates.
    pub fn certificate_files(&self, server: &ServerConf) -> CertificateFiles {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                CertificateFiles { certificate: certificate.clone(), key: key.clone(), is_named: true }
            }
            _ => CertificateFiles {
                certificate: server.certs.join(format!("{}.crt", self.domain)),
                key: server.certs.join(format!("{}.key", self.domain)),
                is_named: false,
            },
        }
    }
}

/// A host's section as it is written; its modules are read one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HostConf {
    #[serde(deserialize_with = "types::some_path")]
    pub(super) certificate: Option<PathBuf>,
    #[serde(deserialize_with = "types::some_path")]
    pub(super) key: Option<PathBuf>,
    /// Named here so that it is in the list of options.
    pub(super) modules: serde::de::IgnoredAny,
}
