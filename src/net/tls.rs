//! How Rookery speaks TLS: 1.2 and 1.3, post-quantum key exchange first, no 0-RTT, one session ticket per handshake.
//!
//! Which certificate a client gets (security rule: never data of a domain that it did not ask for):
//!
//! | TLS begins | SNI names a domain of ours | SNI names another | no SNI |
//! |---|---|---|---|
//! | directly (XEP-0368) | that domain's | alert | the default domain's, else alert |
//! | by STARTTLS | that domain's | the stream's `to` | the stream's `to` |
//!
//! (Another server is treated alike, but may mean a service of ours as well, see [`Certificates::of_domain`]. With STARTTLS, some clients put the machine's name that SRV gave them into SNI; the stream header has already
//! said which domain they mean.)
//!
//! Channel bindings: `tls-exporter` (RFC 9266) and `tls-server-end-point` (RFC 5929). The exporter is offered on TLS 1.3
//! only: for 1.2 it needs the extended master secret, and TLS libraries disagree there whether an empty context is
//! a context (RFC 5705 section 4), so that a client that tries would fail to log in.
//!
//! Driving the connection is `tls_session`'s.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::{digest, hkdf};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, KeyLog, NamedGroup, ProtocolVersion, ServerConfig};
use zeroize::Zeroizing;

use crate::certificate::HostCertificate;
use crate::certs::{Certificates, ascii_host};
use crate::peer_certificate::AnyCertificate;

/// ALPN's name for XMPP from client to server (XEP-0368).
pub const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// ALPN's name for XMPP from server to server (XEP-0368).
pub const ALPN_SERVER: &[u8] = b"xmpp-server";

/// The domain that RFC 9266 section 2 gives the exporter.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// How a connection came to TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// From its first byte (XEP-0368).
    Direct,
    /// After `<starttls/>` on a stream to this domain, one of ours.
    StartTls {
        /// The stream header's `to`.
        to: Box<str>,
    },
}

/// What every handshake has in common.
#[derive(Debug, Clone)]
pub struct Tls {
    certificates: Arc<Certificates>,
    direct: Arc<ServerConfig>,
    starttls: Arc<ServerConfig>,
    from: Peers,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peers {
    Clients,
    Servers,
}

impl Tls {
    /// TLS for client connections.
    pub fn for_clients(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        let verifier = WebPkiClientVerifier::no_client_auth();
        Self::new(certificates, verifier, ALPN_CLIENT, Peers::Clients)
    }

    /// TLS for connections of other servers. They are asked for a certificate and need not have one; whose it is, and
    /// whether to believe it, is judged afterwards ([`crate::s2s::identity`]). No session is resumed: the certificate is
    /// to be seen, and judged, each time.
    pub fn for_servers(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        let verifier = Arc::new(AnyCertificate::new(certificates.provider()));
        Self::new(certificates, verifier, ALPN_SERVER, Peers::Servers)
    }

    fn new(
        certificates: Arc<Certificates>,
        verifier: Arc<dyn ClientCertVerifier>,
        alpn: &[u8],
        from: Peers,
    ) -> Result<Self, rustls::Error> {
        let starttls = config(certificates.provider(), verifier, from)?;
        let mut direct = starttls.clone();
        direct.alpn_protocols = vec![alpn.to_vec()];
        Ok(Self { certificates, direct: Arc::new(direct), starttls: Arc::new(starttls), from })
    }

    /// The certificates that handshakes choose from.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// The configuration of one handshake, and the place where its choices appear.
    pub(crate) fn handshake(&self, entry: Entry) -> (Arc<ServerConfig>, Arc<Handshake>) {
        let mut config = match entry {
            Entry::Direct => ServerConfig::clone(&self.direct),
            Entry::StartTls { .. } => ServerConfig::clone(&self.starttls),
        };
        let handshake = Arc::new(Handshake {
            certificates: self.certificates.clone(),
            entry,
            with: self.from,
            chosen: OnceLock::new(),
            refused: OnceLock::new(),
            exporter: OnceLock::new(),
        });
        config.cert_resolver = handshake.clone();
        config.key_log = handshake.clone();
        if self.from == Peers::Clients {
            config.ticketer = handshake.clone();
        }
        (Arc::new(config), handshake)
    }
}

/// The versions of TLS that we speak, on both sides.
pub(crate) const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    from: Peers,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(verifier)
        // Each handshake has its own, see `Tls::handshake`.
        .with_cert_resolver(Arc::new(NoCertificate));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A client reconnects once at a time and gets a new ticket when it does.
    config.send_tls13_tickets = if from == Peers::Clients { 1 } else { 0 };
    config.max_early_data_size = 0;
    Ok(config)
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// What one handshake chooses; dropped with its end, save what goes into [`TlsInfo`].
#[derive(Debug)]
pub(crate) struct Handshake {
    certificates: Arc<Certificates>,
    entry: Entry,
    with: Peers,
    chosen: OnceLock<Arc<HostCertificate>>,
    refused: OnceLock<String>,
    exporter: OnceLock<Exporter>,
}

/// The channel binding `tls-exporter`: not a secret between the two ends, and nobody else's business.
pub(crate) type Exporter = Zeroizing<[u8; 32]>;

impl Handshake {
    /// The handshake of a connection that we begin, with the certificate that we show if we are asked.
    pub(crate) fn outgoing(certificates: Arc<Certificates>, shown: Arc<HostCertificate>) -> Self {
        Self {
            certificates,
            entry: Entry::Direct,
            with: Peers::Servers,
            chosen: OnceLock::from(shown),
            refused: OnceLock::new(),
            exporter: OnceLock::new(),
        }
    }

    /// Whether the peer is a server, too, which may have a certificate.
    pub(crate) fn is_between_servers(&self) -> bool {
        self.with == Peers::Servers
    }

    pub(crate) fn chosen(&self) -> Option<&Arc<HostCertificate>> {
        self.chosen.get()
    }

    /// Why no certificate was served, for the log.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    pub(crate) fn exporter(&self) -> Option<Exporter> {
        self.exporter.get().cloned()
    }

    fn choose(&self, sni: Option<&str>) -> Option<Arc<HostCertificate>> {
        let of = |name: &str| match self.with {
            Peers::Clients => self.certificates.of_host(name),
            Peers::Servers => self.certificates.of_domain(name),
        };
        match (&self.entry, sni) {
            (Entry::Direct, Some(name)) => of(name),
            (Entry::Direct, None) => self.certificates.default(),
            (Entry::StartTls { to }, _) => sni.and_then(of).or_else(|| of(to)),
        }
    }
}

impl ResolvesServerCert for Handshake {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Asked twice when the client must retry with another key share: the answer stays.
        if let Some(chosen) = self.chosen.get() {
            return Some(chosen.key().clone());
        }
        let sni = hello.server_name();
        let Some(certificate) = self.choose(sni) else {
            let _ = self.refused.set(match sni {
                Some(name) => format!("the peer asks for {name}, no domain of this server"),
                None => "the peer names no domain (SNI) and there is no default domain".to_owned(),
            });
            return None;
        };
        Some(self.chosen.get_or_init(|| certificate).key().clone())
    }
}

/// rustls hands the exporter's secret to its key log and, in the interface that leaves buffers to the caller, to
/// nobody else. Nothing is logged: of that one secret the channel binding is derived, and no other secret is taken.
impl KeyLog for Handshake {
    fn will_log(&self, label: &str) -> bool {
        label == "EXPORTER_SECRET"
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if self.will_log(label)
            && let Some(binding) = export(secret)
        {
            let _ = self.exporter.set(binding);
        }
    }
}

/// A ticket is good for the certificate it was issued under, and for no other domain's.
impl ProducesTickets for Handshake {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.chosen.get().map_or(0, |chosen| chosen.tickets().lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.chosen.get()?.tickets().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.chosen.get()?.tickets().decrypt(cipher)
    }
}

/// RFC 8446 section 7.5 for RFC 9266's label, an empty context and 32 bytes.
fn export(secret: &[u8]) -> Option<Exporter> {
    let (hash, hkdf) = match secret.len() {
        32 => (&digest::SHA256, hkdf::HKDF_SHA256),
        48 => (&digest::SHA384, hkdf::HKDF_SHA384),
        _ => return None,
    };
    let empty = digest::digest(hash, b"");
    let mut derived = Zeroizing::new(vec![0; secret.len()]);
    expand_label(hkdf, secret, EXPORTER_LABEL, empty.as_ref(), &mut derived)?;
    let mut binding = Zeroizing::new([0; 32]);
    expand_label(hkdf, &derived, b"exporter", empty.as_ref(), &mut *binding)?;
    Some(binding)
}

/// HKDF-Expand-Label (RFC 8446 section 7.1).
fn expand_label(algorithm: hkdf::Algorithm, secret: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) -> Option<()> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let context_length = [u8::try_from(context.len()).ok()?];
    let info = [&length[..], &label_length, PREFIX, label, &context_length, context];
    hkdf::Prk::new_less_safe(algorithm, secret).expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).ok()
}

/// What a handshake settled.
#[derive(Clone)]
pub struct TlsInfo {
    pub(crate) certificate: Arc<HostCertificate>,
    pub(crate) version: ProtocolVersion,
    pub(crate) suite: CipherSuite,
    pub(crate) group: Option<NamedGroup>,
    pub(crate) resumed: bool,
    pub(crate) exporter: Option<Exporter>,
}

impl TlsInfo {
    /// The certificate that the peer saw; on a connection that we began, the one that it saw if it asked.
    pub fn certificate(&self) -> &Arc<HostCertificate> {
        &self.certificate
    }

    /// Whether the certificate shown is this domain's: a stream to another one must not go on (the client
    /// would have checked a name that is not the domain's).
    pub fn is_for(&self, host: &str) -> bool {
        ascii_host(host).is_ok_and(|ascii| *ascii == *self.certificate.host())
    }

    /// The channel binding `tls-exporter`.
    pub fn tls_exporter(&self) -> Option<&[u8]> {
        self.exporter.as_ref().map(|exporter| exporter.as_slice())
    }

    /// The channel binding `tls-server-end-point`.
    pub fn tls_server_end_point(&self) -> Option<&[u8]> {
        self.certificate.end_point()
    }

    /// TLS 1.2 or 1.3.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The key exchange; `None` where a TLS 1.2 session was resumed.
    pub fn group(&self) -> Option<NamedGroup> {
        self.group
    }

    /// Whether a ticket spared the key exchange with the certificate.
    pub fn resumed(&self) -> bool {
        self.resumed
    }
}

/// For the log: version, suite, group; no secrets.
impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.version, self.suite)?;
        if let Some(group) = self.group {
            write!(f, " {group:?}")?;
        }
        if self.resumed {
            write!(f, " resumed")?;
        }
        Ok(())
    }
}
