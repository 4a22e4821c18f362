//! Certificates of the tests' own: an authority, and what it issues or would never issue.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, OtherNameValue,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// id-on-xmppAddr (RFC 6120 §13.7.1.4).
const XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

/// An authority that signs what it is told to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
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
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = common_name(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these domains (DNS-IDs), for both sides of TLS.
    pub(crate) fn issue(&self, domains: &[&str]) -> Identity {
        self.sign(names(domains))
    }

    /// One that says what it likes.
    pub(crate) fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        identity(params.signed_by(&key, &self.issuer).unwrap(), &key)
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
