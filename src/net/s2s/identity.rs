//! Who a certificate is: whether the chain that another server has shown proves that it speaks for a domain.
//!
//! RFC 6120 section 13.7.2 with RFC 9525 for the names, RFC 5280 for the path to an authority (rustls-webpki's). TLS has
//! made sure that the peer holds the leaf's key, and nothing else (`peer_certificate`). What proves a domain, in this
//! order:
//!
//! 1. a pin of the conf: this key and no other, whatever else the certificate says;
//! 2. DANE: what the TLSA records of a signed zone say (RFC 7712, 7671, 7673), if there are any that we understand;
//! 3. a path to an authority, valid now, from a leaf that names the domain.
//!
//! The domain is the one that the stream is for. The host that SRV names may stand in the certificate in its place only
//! if the zone is signed (RFC 7673 section 4): else whoever forges DNS chooses the name.
//!
//! What a peer connects for matters little: many authorities issue no certificates for TLS clients any more (the browsers'
//! root programs forbid them from 2026 on), so one for servers is as good from a server that calls us (XEP-0178 never
//! asked for more). A certificate for clients alone is good for calling, not for being called.
//!
//! POSH (RFC 7711) is not here. It would be a step between the second and the third: digests of certificates from a document
//! that the domain's web server has, given by [`Trust`] as pins are, but beside authorities and not in their place; and it would
//! be fetched where DNS is asked, in `call` and in `callers`, whose bounds hold for it. It takes an HTTPS client that goes to
//! hosts which strangers name (security.md D4: no private addresses, one redirect, few bytes), and there is none in this server.
//!
//! Deliberately absent: the common name, which proves nothing (RFC 9525 section 2); revocation, which nobody publishes in
//! a form that a server could rely on: authorities answer with certificates of a few days instead.
//!
//! A refusal names everything that is wrong, not the first thing found (`fault`), since whoever reads it has to write to
//! the other server's admin.

mod fault;
pub mod names;
mod path;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

pub use self::fault::Fault;
use self::names::{Names, Reference};
pub(super) use self::path::name_of;
use super::roots::Roots;
use crate::dns::dane::{self, Comparison};
use crate::dns::{Target, Tlsa};

/// SHA-256 of a key (the SubjectPublicKeyInfo, as in RFC 7469 section 2.4).
pub type KeyDigest = [u8; 32];

/// What the peer is to us: RFC 5280 gives certificates a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has called us (TLS's client).
    Initiating,
    /// We have called it (TLS's server).
    Receiving,
}

/// Whom to believe.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    roots: &'a Roots,
    role: Role,
    pins: &'a [KeyDigest],
    host: Option<&'a str>,
    tlsa: &'a [Tlsa],
}

impl<'a> Trust<'a> {
    /// These authorities, for a peer in that role.
    pub fn new(roots: &'a Roots, role: Role) -> Self {
        Self { roots, role, pins: &[], host: None, tlsa: &[] }
    }

    /// With keys that the conf names for the domain: if there are any, nothing else counts.
    #[must_use]
    pub fn pinned(self, pins: &'a [KeyDigest]) -> Self {
        Self { pins, ..self }
    }

    /// For a peer that is at one of the hosts that DNS names for the domain; counts only where DNS is signed.
    #[must_use]
    pub fn found_at(self, target: &'a Target) -> Self {
        match target.secure {
            true => Self { host: Some(&target.host), tlsa: &target.tlsa, ..self },
            false => self,
        }
    }
}

/// Whether it is who it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is, and this proves it.
    Valid(Basis),
    /// It is not proven, for these reasons: never empty.
    Invalid(Vec<Fault>),
}

/// What a valid certificate rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The authority of this name.
    Authority(String),
    /// The conf names the key.
    Pin,
    /// A TLSA record, without an authority that we know.
    Dane,
}

/// Of the servers of a domain that has called us, so many that differ in what they may show are looked at.
const MOST_WAYS: usize = 16;

impl Verdict {
    /// What proves the domain, in a word for the admin.
    pub fn by(&self) -> &'static str {
        match self {
            Self::Valid(Basis::Dane) => "DANE",
            _ => "certificate",
        }
    }

    /// Whether nothing is wrong but the time: who has forgotten to renew a certificate does so soon, and a clock is set.
    pub fn is_a_matter_of_time(&self) -> bool {
        let of_time = |fault: &Fault| {
            matches!(
                fault,
                Fault::Expired { .. }
                    | Fault::NotYetValid { .. }
                    | Fault::IssuerExpired { .. }
                    | Fault::IssuerNotYetValid { .. }
            )
        };
        matches!(self, Self::Invalid(faults) if faults.iter().all(of_time))
    }

    /// Whether the domain is proven.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid(_))
    }
}

/// In plain words, after "the certificate of …".
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(Basis::Authority(name)) => {
                write!(f, "is valid, issued under {name} (whether it was revoked is not checked)")
            }
            Self::Valid(Basis::Pin) => write!(f, "has the key that the conf names"),
            Self::Valid(Basis::Dane) => write!(f, "is the one that DNS names (DANE)"),
            Self::Invalid(faults) => {
                for (n, fault) in faults.iter().enumerate() {
                    write!(f, "{}{fault}", if n == 0 { "" } else { "; it " })?;
                }
                Ok(())
            }
        }
    }
}

/// Judges what a peer has shown: `chain` as it came, its own certificate first; `domain` is whom it must prove to be, in
/// Unicode or in ASCII form.
pub fn judge(chain: &[CertificateDer<'_>], domain: &str, trust: &Trust<'_>, now: SystemTime) -> Verdict {
    let Some(leaf) = chain.first() else {
        return Verdict::Invalid(vec![Fault::NoCertificate]);
    };
    let parsed = match read(leaf) {
        Ok(parsed) => parsed,
        Err(fault) => return Verdict::Invalid(vec![fault]),
    };
    if !trust.pins.is_empty() {
        let found = key_digest(&parsed);
        return match trust.pins.contains(&found) {
            true => Verdict::Valid(Basis::Pin),
            false => Verdict::Invalid(vec![Fault::PinMismatch { found }]),
        };
    }

    let compared = dane::compare(trust.tlsa, chain, trust.roots.certificates());
    if !compared.usable {
        return by_authority(chain, &parsed, domain, trust, trust.roots, now, None);
    }
    by_dane(&compared, chain, &parsed, domain, trust, now)
}

/// Judges what a peer has shown that has called us. It may be any of the servers that DNS names (`found`), so it is who it
/// should be if one of them may show this; without any, authorities alone say it. `Err` says why DNS is not to be
/// believed: then nothing is.
pub fn judge_caller(
    chain: &[CertificateDer<'_>],
    domain: &str,
    trust: &Trust<'_>,
    found: Result<&[Target], &str>,
    now: SystemTime,
) -> Verdict {
    let targets = match found {
        Ok(targets) => targets,
        Err(why) => {
            let mut faults = match judge(chain, domain, trust, now) {
                Verdict::Invalid(faults) => faults,
                Verdict::Valid(_) => Vec::new(),
            };
            faults.push(Fault::Bogus(why.to_owned()));
            return Verdict::Invalid(faults);
        }
    };
    let mut ways: Vec<Trust<'_>> = Vec::new();
    // A server that nobody is sent to calls nobody in the domain's name either.
    for target in targets.iter().filter(|target| !target.addresses.is_empty()) {
        let way = trust.found_at(target);
        if ways.len() < MOST_WAYS && !ways.iter().any(|other| other.host == way.host && other.tlsa == way.tlsa) {
            ways.push(way);
        }
    }
    let mut verdicts = ways.iter().map(|way| judge(chain, domain, way, now));
    let Some(first) = verdicts.next() else { return judge(chain, domain, trust, now) };
    if first.is_valid() { first } else { verdicts.find(Verdict::is_valid).unwrap_or(first) }
}

/// What TLSA records say, at least one of them usable: then nothing else counts (RFC 7671 section 4.1).
fn by_dane(
    compared: &Comparison,
    chain: &[CertificateDer<'_>],
    leaf: &X509Certificate<'_>,
    domain: &str,
    trust: &Trust<'_>,
    now: SystemTime,
) -> Verdict {
    if compared.end_entity {
        return Verdict::Valid(Basis::Dane);
    }
    let mut last = Verdict::Invalid(vec![Fault::DaneMismatch]);
    if !compared.anchors.is_empty() {
        let anchors = Roots::of(&compared.anchors);
        last = match by_authority(chain, leaf, domain, trust, &anchors, now, None) {
            Verdict::Valid(_) => return Verdict::Valid(Basis::Dane),
            invalid => invalid,
        };
    }
    if compared.pkix_end_entity || !compared.pkix_anchors.is_empty() {
        let through = (!compared.pkix_end_entity).then_some(&*compared.pkix_anchors);
        last = by_authority(chain, leaf, domain, trust, trust.roots, now, through);
    }
    last
}

/// The ordinary way: the right name, and a path to one of `roots` (through one of the certificates `through`, if given).
fn by_authority(
    chain: &[CertificateDer<'_>],
    leaf: &X509Certificate<'_>,
    domain: &str,
    trust: &Trust<'_>,
    roots: &Roots,
    now: SystemTime,
    through: Option<&[Vec<u8>]>,
) -> Verdict {
    let mut faults = Vec::new();
    let mut constrained = true;
    match Names::of(leaf) {
        Err(fault) => faults.push(fault),
        Ok(names) => {
            let proves = |name: &str| names.prove(&Reference::new(name)?);
            match proves(domain).or_else(|| trust.host.and_then(proves)) {
                Some(by) => constrained = by.is_constrained(),
                None => faults.push(names.fault(domain)),
            }
        }
    }
    faults.extend(path::weakness(chain.get(..1).unwrap_or_default()));
    let asked = path::Asked { roots, role: trust.role, now, beyond_dns: !constrained, through };
    match path::to_authority(chain, leaf, &asked) {
        Ok(authority) if faults.is_empty() => Verdict::Valid(Basis::Authority(authority)),
        Ok(_) => Verdict::Invalid(faults),
        Err(mut of_path) => {
            of_path.retain(|fault| !faults.contains(fault));
            of_path.append(&mut faults);
            Verdict::Invalid(of_path)
        }
    }
}

/// Why TLS could not even check that a peer has the key of this certificate.
pub(crate) fn unfit(der: &CertificateDer<'_>) -> Option<Fault> {
    match read(der) {
        Ok(certificate) if certificate.version() != X509Version::V3 => Some(Fault::Unreadable(NOT_V3.to_owned())),
        Ok(_) => path::weakness(std::slice::from_ref(der)),
        Err(fault) => Some(fault),
    }
}

const NOT_V3: &str = "it is not of version 3 of X.509";

/// The whole of `der` as a certificate.
fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Fault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Fault::Unreadable("there are bytes behind its end".to_owned())),
        Err(error) => Err(Fault::Unreadable(error.to_string())),
    }
}

fn key_digest(certificate: &X509Certificate<'_>) -> KeyDigest {
    let mut found = [0; 32];
    let digest = digest::digest(&digest::SHA256, certificate.public_key().raw);
    for (to, from) in found.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    found
}
