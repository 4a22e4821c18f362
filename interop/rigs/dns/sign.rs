//! Signing zones (RFC 4034, 4035) with ECDSA P-256, one key for each. The keys are made when they are first needed and stay
//! for the server's life, whatever the zones become meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::sig::SigInput;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_proto::dnssec::{Algorithm, DigestType, DnssecSigner, SigningKey, TBS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType, SerialNumber};
use parking_lot::Mutex;

use super::zone::Trouble;

/// Signatures hold from this long before now until as long behind.
const VALID: u32 = 86_400;

/// The keys of all zones.
#[derive(Default)]
pub(super) struct Keys(Mutex<HashMap<Name, Arc<DnssecSigner>>>);

impl Keys {
    fn signer(&self, apex: &Name) -> Arc<DnssecSigner> {
        let mut signers = self.0.lock();
        let signer = signers.entry(apex.clone()).or_insert_with(|| {
            let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).expect("a key");
            let key = EcdsaSigningKey::from_pkcs8(&pkcs8, Algorithm::ECDSAP256SHA256).expect("the key just made");
            let dnskey = DNSKEY::from_key(&key.to_public_key().expect("its public half"));
            Arc::new(DnssecSigner::new(dnskey, Box::new(key), apex.clone(), Duration::from_secs(VALID.into())))
        });
        signer.clone()
    }

    /// A zone's DNSKEY records.
    pub(super) fn dnskey(&self, apex: &Name) -> RecordSet {
        let dnskey = self.signer(apex).to_dnskey();
        one(apex, RecordType::DNSKEY, RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)))
    }

    /// What the zone above says of a zone's key.
    pub(super) fn ds(&self, apex: &Name) -> RecordSet {
        let signer = self.signer(apex);
        let digest = signer.dnskey().to_digest(apex, DigestType::SHA256).expect("a digest");
        let tag = signer.calculate_key_tag().expect("a tag");
        let ds = DS::new(tag, Algorithm::ECDSAP256SHA256, DigestType::SHA256, digest.as_ref().to_vec());
        one(apex, RecordType::DS, RData::DNSSEC(DNSSECRData::DS(ds)))
    }

    /// The signature of records by a zone's key; spoiled, if so it shall be.
    pub(super) fn sign(&self, apex: &Name, set: &RecordSet, trouble: Option<Trouble>) -> Option<Record> {
        let signer = self.signer(apex);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let expires = if trouble == Some(Trouble::Expired) { now - VALID / 2 } else { now + VALID };
        let input = SigInput {
            type_covered: set.record_type(),
            algorithm: Algorithm::ECDSAP256SHA256,
            num_labels: set.name().num_labels(),
            original_ttl: set.ttl(),
            sig_expiration: SerialNumber::new(expires),
            sig_inception: SerialNumber::new(now - VALID),
            key_tag: signer.calculate_key_tag().expect("a tag"),
            signer_name: apex.clone(),
        };
        let signed = TBS::from_input(set.name(), DNSClass::IN, &input, set.records_without_rrsigs()).expect("records");
        let mut signature = signer.sign(&signed).expect("a signature");
        match trouble {
            Some(Trouble::Strip) => return None,
            Some(Trouble::Bogus) => signature[20] ^= 1,
            _ => {}
        }
        let rrsig = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)));
        Some(Record::from_rdata(set.name().clone(), set.ttl(), rrsig))
    }
}

fn one(owner: &Name, kind: RecordType, data: RData) -> RecordSet {
    let mut set = RecordSet::with_ttl(owner.clone(), kind, 60);
    set.add_rdata(data);
    set
}
