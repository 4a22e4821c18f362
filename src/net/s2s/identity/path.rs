//! The path from a certificate to an authority (RFC 5280 section 6), and why there is none.
//!
//! rustls-webpki builds and checks it. Its answer is one error; what an admin wants to know is all that is wrong. So the
//! dates of the leaf are looked at here, and the path is then asked for at a moment at which they are right.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::fault::Fault;
use super::names::shown;
use super::{NOT_V3, Role, read};
use crate::s2s::roots::Roots;

/// RSA keys below this can be broken, and rustls takes none.
const RSA_BITS: usize = 2048;

/// What a path must be like.
pub(super) struct Asked<'a> {
    /// Where it must end.
    pub(super) roots: &'a Roots,
    pub(super) role: Role,
    pub(super) now: SystemTime,
    /// The domain stands in a name that no constraint speaks of: no authority on the path may be under any.
    pub(super) beyond_dns: bool,
    /// One of these certificates must be on the path.
    pub(super) through: Option<&'a [Vec<u8>]>,
}

/// Finds the path and returns the authority's name.
pub(super) fn to_authority(
    chain: &[CertificateDer<'_>],
    leaf: &X509Certificate<'_>,
    asked: &Asked<'_>,
) -> Result<String, Vec<Fault>> {
    let mut faults = Vec::new();
    let (from, until) = (seconds(leaf.validity().not_before), seconds(leaf.validity().not_after));
    let now = asked.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now < from {
        faults.push(Fault::NotYetValid { until: moment(leaf.validity().not_before) });
    } else if now > until {
        faults.push(Fault::Expired { since: moment(leaf.validity().not_after) });
    }
    // No clamp(): it panics on a certificate that ends before it begins.
    let moment = UnixTime::since_unix_epoch(Duration::from_secs(now.min(until).max(from)));

    let own: Vec<CertificateDer<'_>> = chain.to_vec();
    let Some((first, intermediates)) = own.split_first() else {
        return Err(vec![Fault::NoCertificate]);
    };
    let (roots, misses_one) = (asked.roots, Cell::new(false));
    let fits = |path: &VerifiedPath<'_>| {
        if asked.beyond_dns && is_constrained(path) {
            return Err(webpki::Error::NameConstraintViolation);
        }
        if asked.through.is_some_and(|wanted| !leads_through(path, wanted, roots)) {
            misses_one.set(true);
            return Err(webpki::Error::UnknownIssuer);
        }
        Ok(())
    };
    let found = EndEntityCert::try_from(first).and_then(|end_entity| {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let purpose = Purpose(asked.role);
        let anchors = roots.anchors();
        let path =
            end_entity.verify_for_usage(algorithms, anchors, intermediates, moment, purpose, None, Some(&fits))?;
        Ok(roots.name_of(path.anchor()))
    });
    match found {
        Ok(authority) if faults.is_empty() => return Ok(authority),
        Ok(_) => {}
        Err(_) if misses_one.get() => faults.push(Fault::DaneMismatch),
        Err(error) => faults.push(explain(error, chain, leaf, roots)),
    }
    Err(faults)
}

fn leads_through(path: &VerifiedPath<'_>, wanted: &[Vec<u8>], roots: &Roots) -> bool {
    let is_wanted = |der: &[u8]| wanted.iter().any(|other| other == der);
    path.intermediate_certificates().any(|intermediate| is_wanted(&intermediate.der()))
        || roots.certificate_of(path.anchor()).is_some_and(|root| is_wanted(root))
}

/// What a certificate must be meant for.
struct Purpose(Role);

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut any = false;
        for purpose in purposes {
            any = true;
            let purpose = purpose?.to_decoded_oid();
            let is_for_servers = purpose == webpki::KeyUsage::SERVER_AUTH_REPR;
            let is_for_clients = purpose == webpki::KeyUsage::CLIENT_AUTH_REPR;
            if is_for_servers || (is_for_clients && self.0 == Role::Initiating) {
                return Ok(());
            }
        }
        // A certificate that says nothing of its purpose has any.
        if any { Err(webpki::Error::RequiredEkuNotFoundContext(no_purpose())) } else { Ok(()) }
    }
}

fn no_purpose() -> webpki::RequiredEkuNotFoundContext {
    webpki::RequiredEkuNotFoundContext { required: webpki::KeyUsage::server_auth(), present: Vec::new() }
}

fn is_constrained(path: &VerifiedPath<'_>) -> bool {
    path.anchor().name_constraints.is_some()
        || path.intermediate_certificates().any(|intermediate| {
            let der = intermediate.der();
            // What cannot be read might be under any.
            read(&der).map_or(true, |parsed| !matches!(parsed.name_constraints(), Ok(None)))
        })
}

/// The fault behind webpki's error.
fn explain(error: webpki::Error, chain: &[CertificateDer<'_>], leaf: &X509Certificate<'_>, roots: &Roots) -> Fault {
    use webpki::Error as E;
    match error {
        E::UnknownIssuer => why_unknown(chain, leaf, roots),
        E::CertExpired { .. } | E::CertNotValidYet { .. } => why_not_now(error, chain),
        E::InvalidSignatureForPublicKey | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            // An authority of the same name has not signed it: nobody but itself has.
            let is_alone = chain.len() == 1 && is_self_issued(leaf);
            weakness(chain).unwrap_or(if is_alone { Fault::SelfSigned } else { Fault::WrongSignature })
        }
        E::CaUsedAsEndEntity if is_self_issued(leaf) => Fault::SelfSigned,
        E::CaUsedAsEndEntity => Fault::Authority,
        E::EndEntityUsedAsCa | E::PathLenConstraintViolated => Fault::IssuerNoAuthority,
        E::NameConstraintViolation => Fault::NameConstraints,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Fault::Purpose,
        E::UnsupportedCertVersion => Fault::Unreadable(NOT_V3.to_owned()),
        E::UnsupportedSignatureAlgorithmContext(_) => Fault::WeakSignature { what: algorithm(chain) },
        E::InvalidCertValidity => Fault::Path("the dates of a certificate contradict each other".to_owned()),
        E::UnsupportedCriticalExtension => {
            Fault::Path("a certificate has a critical extension that is not understood".to_owned())
        }
        E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumNameConstraintComparisonsExceeded => {
            Fault::Path("the way there is too long or too tangled".to_owned())
        }
        other => Fault::Path(format!("{other:?}")),
    }
}

/// The way up from the leaf by names alone, as far as it goes: what is missing is above its end.
fn why_unknown(chain: &[CertificateDer<'_>], leaf: &X509Certificate<'_>, roots: &Roots) -> Fault {
    if is_self_issued(leaf) {
        return Fault::SelfSigned;
    }
    let sent: Vec<_> = chain.iter().skip(1).filter_map(|der| read(der).ok()).collect();
    let mut top = leaf;
    // Each step uses one that was sent; names may lead in circles.
    for _ in 0..sent.len() {
        match sent.iter().find(|above| above.subject().as_raw() == top.issuer().as_raw()) {
            Some(above) if !is_self_issued(top) => top = above,
            _ => break,
        }
    }
    let issuer = name_of(top.issuer());
    if roots.knows(top.issuer().as_raw()) {
        // The authority is known, but one with another key: renewed, or only called the same.
        return weakness(chain).unwrap_or(Fault::WrongSignature);
    }
    match issuer_url(top) {
        Some(url) if !is_self_issued(top) => Fault::IntermediateMissing { issuer, url },
        _ => Fault::UnknownIssuer { issuer },
    }
}

/// Which of those above the leaf is out of time; the leaf's own dates were right when the path was asked for.
fn why_not_now(error: webpki::Error, chain: &[CertificateDer<'_>]) -> Fault {
    let above = chain.iter().skip(1).filter_map(|der| read(der).ok());
    let mut above = above.filter(|certificate| match &error {
        webpki::Error::CertExpired { not_after, .. } => {
            seconds(certificate.validity().not_after) == not_after.as_secs()
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            seconds(certificate.validity().not_before) == not_before.as_secs()
        }
        _ => false,
    });
    match (above.next(), &error) {
        (Some(above), webpki::Error::CertExpired { .. }) => {
            Fault::IssuerExpired { issuer: name_of(above.subject()), since: moment(above.validity().not_after) }
        }
        (Some(above), _) => {
            Fault::IssuerNotYetValid { issuer: name_of(above.subject()), until: moment(above.validity().not_before) }
        }
        (None, _) => Fault::Path(format!("{error:?}")),
    }
}

/// A key or a signature that nobody accepts any more, the first in the chain.
pub(super) fn weakness(chain: &[CertificateDer<'_>]) -> Option<Fault> {
    chain.iter().filter_map(|der| read(der).ok()).find_map(|certificate| {
        let whose = name_of(certificate.subject());
        match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if rsa_bits(key.modulus) < RSA_BITS => {
                let bits = rsa_bits(key.modulus);
                Some(Fault::WeakKey { what: format!("RSA of {bits} bits ({whose}), {RSA_BITS} are the least") })
            }
            _ => None,
        }
    })
}

/// The modulus begins with a zero byte where its highest bit is set.
fn rsa_bits(modulus: &[u8]) -> usize {
    let leading = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(leading).map_or(0, |byte| byte.leading_zeros() as usize);
    (modulus.len() - leading) * 8 - first
}

/// How the first of those certificates is signed that are signed in a way that nobody accepts any more.
fn algorithm(chain: &[CertificateDer<'_>]) -> String {
    let name = |certificate: &X509Certificate<'_>| {
        Some(match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.4" => "RSA with MD5",
            "1.2.840.113549.1.1.5" => "RSA with SHA-1",
            "1.2.840.10045.4.1" => "ECDSA with SHA-1",
            _ => return None,
        })
    };
    let old = chain.iter().filter_map(|der| read(der).ok()).find_map(|certificate| name(&certificate));
    old.unwrap_or("an algorithm that is not known here").to_owned()
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Where the certificate says that its issuer's is (RFC 5280 section 4.2.2.1).
fn issuer_url(certificate: &X509Certificate<'_>) -> Option<String> {
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    let access = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(access),
        _ => None,
    })?;
    access.accessdescs.iter().find_map(|description| match &description.access_location {
        GeneralName::URI(url) if description.access_method.to_id_string() == CA_ISSUERS => Some(shown(url)),
        _ => None,
    })
}

/// A name as people call it: the common name, or the organisation's.
pub(crate) fn name_of(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().find_map(|part| part.as_str().ok());
    let organisation = name.iter_organization().find_map(|part| part.as_str().ok());
    match (common, organisation) {
        (Some(common), Some(organisation)) if !common.contains(organisation) => {
            format!("\"{}\" ({})", shown(common), shown(organisation))
        }
        (Some(text), _) | (None, Some(text)) => format!("\"{}\"", shown(text)),
        (None, None) => "somebody without a name".to_owned(),
    }
}

fn seconds(time: ASN1Time) -> u64 {
    time.timestamp().max(0).unsigned_abs()
}

fn moment(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", time.hour(), time.minute())
}
