//! Certificates of the tests' own: an authority, and what it issues or would never issue.

use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, OtherNameValue,
    SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// id-on-xmppAddr (RFC 6120 §13.7.1.4).
const XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

/// An authority that signs what it is told to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A certificate with its chain, and the key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The same as files hold it.
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let made = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), der: made.der().clone(), pem: made.pem() }
    }

    /// One that this one vouches for.
    pub(crate) fn below(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let made = params.signed_by(&key, &self.issuer).unwrap();
        Self { issuer: Issuer::new(params, key), der: made.der().clone(), pem: made.pem() }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = common_name(name);
        params
    }

    /// A certificate for these domains (DNS-IDs), for both sides of TLS.
    pub(crate) fn issue(&self, domains: &[&str]) -> Identity {
        self.sign(names(domains))
    }

    /// The same, but for what is wished.
    pub(crate) fn issue_as(&self, domains: &[&str], wish: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = names(domains);
        wish(&mut params);
        self.sign(params)
    }

    /// One that says what it likes.
    pub(crate) fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        identity(params.signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

impl Identity {
    /// Shows the authority's certificate with it.
    pub(crate) fn with(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.der.clone());
        self.certificate_pem += &authority.pem;
        self
    }

    /// As a server for servers shows it.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config_for(b"xmpp-server")
    }

    /// As a server for others (ALPN) shows it.
    pub(crate) fn config_for(&self, whom: &[u8]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![whom.to_vec()];
        Arc::new(config)
    }
}

/// A certificate for these domains that nobody but itself vouches for.
pub(crate) fn self_signed(domains: &[&str]) -> Identity {
    let key = KeyPair::generate().unwrap();
    identity(names(domains).self_signed(&key).unwrap(), &key)
}

/// The parameters of a certificate for these domains.
pub(crate) fn names(domains: &[&str]) -> CertificateParams {
    let domains: Vec<String> = domains.iter().map(|domain| (*domain).to_owned()).collect();
    let mut params = CertificateParams::new(domains).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name = common_name("a server");
    params
}

/// A subject with this common name alone.
pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// An XmppAddr for a certificate.
pub(crate) fn xmpp_addr(address: &str) -> SanType {
    SanType::OtherName((XMPP_ADDR.to_vec(), OtherNameValue::Utf8String(address.to_owned())))
}

fn identity(certificate: rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    }
}
