//! TLS to other servers, as the client: which name we ask for, which certificate we show.
//!
//! SNI is the A-label form of the domain that the stream is for, never the host that SRV gave (RFC 6120 section 5.4.3.1,
//! RFC 6066 section 3): the peer serves many domains and the certificate must be that domain's. Of our certificates it
//! is the one of the domain that the stream is from, whatever authorities the peer says it prefers: it is all we
//! have. Nothing is resumed, as on the other side: the peer's certificate is to be judged each time (`s2s::identity`).

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};

use crate::certs::{Certificates, ascii_host};
use crate::peer_certificate::AnyCertificate;
use crate::tls::{ALPN_SERVER, Handshake, VERSIONS};
use crate::tls_session::TlsError;

/// What every handshake that we begin has in common.
#[derive(Debug, Clone)]
pub struct OutgoingTls {
    certificates: Arc<Certificates>,
    direct: Arc<ClientConfig>,
    starttls: Arc<ClientConfig>,
}

impl OutgoingTls {
    /// TLS for connections to other servers.
    pub fn new(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        let verifier = Arc::new(AnyCertificate::new(certificates.provider()));
        let mut starttls = ClientConfig::builder_with_provider(certificates.provider().clone())
            .with_protocol_versions(VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            // Each handshake has its own.
            .with_no_client_auth();
        starttls.resumption = Resumption::disabled();
        let mut direct = starttls.clone();
        direct.alpn_protocols = vec![ALPN_SERVER.to_vec()];
        Ok(Self { certificates, direct: Arc::new(direct), starttls: Arc::new(starttls) })
    }

    /// The configuration of one handshake, the name to ask for, and what is known of the handshake already.
    pub(crate) fn handshake(
        &self,
        direct: bool,
        local: &str,
        remote: &str,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>, Arc<Handshake>), TlsError> {
        let name = server_name(remote)
            .ok_or_else(|| TlsError::Refused(format!("{remote} is no domain that TLS can ask for")))?;
        let shown = self
            .certificates
            .of_domain(local)
            .ok_or_else(|| TlsError::Refused(format!("{local} has no certificate on this server")))?;
        let mut config = ClientConfig::clone(if direct { &self.direct } else { &self.starttls });
        config.client_auth_cert_resolver = Arc::new(Shown(shown.key().clone()));
        let handshake = Handshake::outgoing(self.certificates.clone(), shown);
        Ok((Arc::new(config), name, Arc::new(handshake)))
    }
}

/// A domain as TLS names it; an address (of a server without a domain) goes without SNI.
fn server_name(domain: &str) -> Option<ServerName<'static>> {
    let bare = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain);
    let ascii = ascii_host(bare).ok()?;
    ServerName::try_from(String::from(ascii)).ok()
}

/// The one certificate that we have for the domain.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
