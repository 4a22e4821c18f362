//! A little certificate authority for tests: whatever a real one would refuse to sign, it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::super::Roots;

/// A name as bytes, so that it can be a wrong one.
pub(crate) enum San<'a> {
    Dns(&'a [u8]),
    Srv(&'a [u8]),
    XmppAddr(&'a [u8]),
    Address(&'a [u8]),
}

pub(crate) fn dns(name: &str) -> San<'_> {
    San::Dns(name.as_bytes())
}

/// A DER item.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=127 => out.push(length as u8),
        128..=255 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The value of a SubjectAltName.
pub(crate) fn alternative(names: &[San<'_>]) -> Vec<u8> {
    let other = |last: u8, tag: u8, text: &[u8]| {
        let kind = der(6, &[0x2b, 6, 1, 5, 5, 7, 8, last]);
        der(0xa0, &[kind, der(0xa0, &der(tag, text))].concat())
    };
    let names = names.iter().map(|name| match name {
        San::Dns(name) => der(0x82, name),
        San::Srv(name) => other(7, 0x16, name),
        San::XmppAddr(name) => other(5, 0x0c, name),
        San::Address(octets) => der(0x87, octets),
    });
    der(0x30, &names.collect::<Vec<_>>().concat())
}

pub(crate) fn with_names(params: &mut CertificateParams, names: &[San<'_>]) {
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], alternative(names)));
}

/// Says where the issuer's certificate is (authority information access).
pub(crate) fn with_issuer_at(params: &mut CertificateParams, url: &str) {
    let access = [der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 2]), der(0x86, url.as_bytes())].concat();
    let value = der(0x30, &der(0x30, &access));
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], value));
}

pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().expect("a key"));
        let der = params.self_signed(&key).expect("signed").der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// One that has its power from this one.
    pub(crate) fn delegate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (Self::params(name), KeyPair::generate().expect("a key"));
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = Self::blank();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    /// Valid in 2026.
    fn blank() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        params
    }

    /// A server's certificate, as authorities of the Web issue them: for TLS servers, and nothing else.
    pub(crate) fn issue(
        &self,
        names: &[San<'_>],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        self.issue_with_key(names, change).0
    }

    pub(crate) fn issue_with_key(
        &self,
        names: &[San<'_>],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = Self::blank();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if !names.is_empty() {
            with_names(&mut params, names);
        }
        change(&mut params);
        (params.signed_by(&key, &self.issuer).expect("signed").der().clone(), key)
    }

    pub(crate) fn roots(&self) -> Roots {
        let mut roots = Roots::default();
        roots.add(&self.der).expect("a root");
        roots
    }
}

pub(crate) fn as_pem(certificates: &[&CertificateDer<'_>]) -> String {
    use base64::Engine as _;
    let one = |der: &&CertificateDer<'_>| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    certificates.iter().map(one).collect()
}

/// A certificate as it was before there were extensions; its signature is none.
pub(crate) fn version_1(name: &str) -> CertificateDer<'static> {
    let key = KeyPair::generate().expect("a key");
    let algorithm = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    let name = der(0x30, &der(0x31, &der(0x30, &[der(6, &[0x55, 4, 3]), der(0x0c, name.as_bytes())].concat())));
    let dates = der(0x30, &[der(0x17, b"260101000000Z"), der(0x17, b"270101000000Z")].concat());
    let (serial, key) = (der(2, &[1]), key.subject_public_key_info());
    let inner = [&serial, &algorithm, &name, &dates, &name, &key].map(Vec::as_slice).concat();
    let signature = der(3, &[0, 0x30, 6, 2, 1, 1, 2, 1, 1]);
    der(0x30, &[der(0x30, &inner), algorithm, signature].concat()).into()
}
