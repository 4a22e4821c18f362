//! DANE (RFC 6698, 7671): whether the certificates that a server shows are those that its TLSA records name. Pure: bytes in,
//! an answer out. Whether the records may be believed (DNSSEC) was settled before; whether a path is valid is for the caller.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, SHA512, SHA512_OUTPUT_LEN, digest};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::target::Tlsa;

const PKIX_TA: u8 = 0;
const PKIX_EE: u8 = 1;
const DANE_TA: u8 = 2;
const DANE_EE: u8 = 3;

/// What the records say of a chain. One record that fits is enough (RFC 6698 §2.1); what else it asks for differs by its
/// usage, so all that fit are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// At least one record is of a kind that we understand. False: go on as if there were no TLSA (RFC 6698 §4.1).
    pub usable: bool,
    /// DANE-EE(3): the server's certificate is the one. That is all: its names, dates and issuer do not matter
    /// (RFC 7671 §5.1).
    pub end_entity: bool,
    /// DANE-TA(2): these certificates (DER) are trust anchors for this server: with a valid path from its certificate to one of
    /// them, and the right name and dates, it is the one (RFC 7671 §5.2). No other anchor counts.
    pub anchors: Vec<Vec<u8>>,
    /// PKIX-EE(1): the server's certificate is the one, if it is valid by the ordinary rules, too.
    pub pkix_end_entity: bool,
    /// PKIX-TA(0): the server's certificate is the one if it is valid by the ordinary rules, and by a path that has one of
    /// these certificates (DER) in it.
    pub pkix_anchors: Vec<Vec<u8>>,
}

impl Comparison {
    /// There are records, and none fits: the server is not to be trusted, whatever its certificate says.
    pub fn is_mismatch(&self) -> bool {
        let Self { usable, end_entity, anchors, pkix_end_entity, pkix_anchors } = self;
        *usable && !end_entity && anchors.is_empty() && !pkix_end_entity && pkix_anchors.is_empty()
    }
}

/// Compares the certificates that a server has shown (DER, its own first) with the TLSA records of its host and port. `roots`
/// are certificates that it need not show since we have them (those of `s2s.authorities` and the system): a PKIX-TA record
/// may name one of them. Certificates that cannot be parsed fit nothing that asks for their key.
pub fn compare<C: AsRef<[u8]>, R: AsRef<[u8]>>(records: &[Tlsa], chain: &[C], roots: &[R]) -> Comparison {
    let mut comparison = Comparison::default();
    let (leaf, issuers) = match chain.split_first() {
        Some((leaf, issuers)) => (Some(leaf.as_ref()), issuers),
        None => (None, chain),
    };
    let is_leaf = |record| leaf.is_some_and(|leaf| matches(record, leaf));
    for record in records.iter().filter(|record| is_usable(record)) {
        comparison.usable = true;
        match record.usage {
            DANE_EE => comparison.end_entity |= is_leaf(record),
            PKIX_EE => comparison.pkix_end_entity |= is_leaf(record),
            DANE_TA => {
                let shown = issuers.iter().map(AsRef::as_ref).filter(|issuer| matches(record, issuer));
                // RFC 7671 §5.2.2 wants the anchor shown; where the record holds it whole, it is known all the same.
                let told = Some(record.data.as_slice()).filter(|_| (record.selector, record.matching) == (0, 0));
                add(&mut comparison.anchors, shown.chain(told));
            }
            PKIX_TA => {
                let known = roots.iter().map(AsRef::as_ref);
                let shown = issuers.iter().map(AsRef::as_ref);
                add(&mut comparison.pkix_anchors, shown.chain(known).filter(|issuer| matches(record, issuer)));
            }
            _ => {}
        }
    }
    comparison
}

fn add<'a>(to: &mut Vec<Vec<u8>>, certificates: impl Iterator<Item = &'a [u8]>) {
    for certificate in certificates {
        if !to.iter().any(|other| other == certificate) {
            to.push(certificate.to_vec());
        }
    }
}

/// Whether a record is of a kind that we understand, and holds what its kind says: a digest of the right length, or a
/// certificate or key. Others are passed over (RFC 6698 §4.1).
pub fn is_usable(record: &Tlsa) -> bool {
    let data = match (record.selector, record.matching) {
        (0 | 1, 1) => record.data.len() == SHA256_OUTPUT_LEN,
        (0 | 1, 2) => record.data.len() == SHA512_OUTPUT_LEN,
        (0, 0) => X509Certificate::from_der(&record.data).is_ok_and(|(rest, _)| rest.is_empty()),
        (1, 0) => SubjectPublicKeyInfo::from_der(&record.data).is_ok_and(|(rest, _)| rest.is_empty()),
        _ => false,
    };
    data && record.usage <= DANE_EE
}

/// Whether a certificate (DER) is the one that a record describes, whatever the record's usage.
pub fn matches(record: &Tlsa, certificate: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let selected = match record.selector {
        0 => certificate,
        1 => parsed.public_key().raw,
        _ => return false,
    };
    match record.matching {
        0 => selected == record.data,
        1 => digest(&SHA256, selected).as_ref() == record.data,
        2 => digest(&SHA512, selected).as_ref() == record.data,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
