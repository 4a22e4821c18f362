//! What the TLSA records of a signed zone make of a certificate.

use aws_lc_rs::digest;
use rcgen::date_time_ymd;

use super::super::*;
use super::authority::{Authority, dns};
use super::{faults, nothing, now};
use crate::dns::TlsMode;

fn record(usage: u8, certificate: &[u8]) -> Tlsa {
    let data = digest::digest(&digest::SHA256, certificate).as_ref().to_vec();
    Tlsa { usage, selector: 0, matching: 1, data }
}

fn target(secure: bool, tlsa: Vec<Tlsa>) -> Target {
    Target {
        host: "xmpp.host.example".to_owned(),
        port: 5269,
        tls: TlsMode::Starttls,
        priority: 0,
        addresses: Vec::new(),
        refused: Vec::new(),
        secure,
        tlsa,
        notes: Vec::new(),
    }
}

fn judged(chain: &[CertificateDer<'_>], roots: &Roots, target: &Target) -> Verdict {
    judge(chain, "chat.example", &Trust::new(roots, Role::Receiving).found_at(target), now())
}

#[test]
fn a_record_for_the_certificate_itself_is_enough() {
    let roots = Authority::new("Test Root").roots();
    let stranger = Authority::new("Stranger");
    let leaf = stranger.issue(&[dns("x.example")], |params| params.not_after = date_time_ymd(2026, 2, 1));
    let of_leaf = target(true, vec![record(3, b"another"), record(3, &leaf)]);
    assert_eq!(judged(std::slice::from_ref(&leaf), &roots, &of_leaf), Verdict::Valid(Basis::Dane));
    // Without a signature on it, the record is anybody's.
    let unsigned = target(false, of_leaf.tlsa);
    assert!(!judged(&[leaf], &roots, &unsigned).is_valid());
}

#[test]
fn records_that_name_others_outweigh_any_authority() {
    let root = Authority::new("Test Root");
    let leaf = [root.issue(&[dns("chat.example")], nothing)];
    let found = faults(judged(&leaf, &root.roots(), &target(true, vec![record(3, b"another")])));
    assert_eq!(found, [Fault::DaneMismatch]);
    // Those that nobody understands, or none, leave all to authorities.
    let strange = Tlsa { usage: 77, ..record(3, b"another") };
    assert!(judged(&leaf, &root.roots(), &target(true, vec![strange])).is_valid());
    assert!(judged(&leaf, &root.roots(), &target(true, vec![])).is_valid());
}

#[test]
fn an_authority_that_dns_names_needs_no_other_but_names_and_dates_count() {
    let roots = Authority::new("Test Root").roots();
    let own = Authority::new("Own Root");
    let of_own = target(true, vec![record(2, &own.der)]);
    let chain = |leaf| [leaf, own.der.clone()];
    let leaf = own.issue(&[dns("chat.example")], nothing);
    assert_eq!(judged(&chain(leaf), &roots, &of_own), Verdict::Valid(Basis::Dane));
    let leaf = own.issue(&[dns("x.example")], nothing);
    assert!(matches!(&faults(judged(&chain(leaf), &roots, &of_own))[..], [Fault::OtherNames { .. }]));
    let leaf = own.issue(&[dns("chat.example")], |params| params.not_after = date_time_ymd(2026, 2, 1));
    assert!(matches!(&faults(judged(&chain(leaf), &roots, &of_own))[..], [Fault::Expired { .. }]));
    // Somebody else's leaf, sent together with the authority that DNS names.
    let leaf = Authority::new("Stranger").issue(&[dns("chat.example")], nothing);
    assert!(!judged(&chain(leaf), &roots, &of_own).is_valid());
}

#[test]
fn records_may_narrow_down_the_known_authorities() {
    let (root, other) = (Authority::new("Test Root"), Authority::new("Other Root"));
    let mut roots = root.roots();
    roots.add(&other.der).expect("a root");
    let leaf = [root.issue(&[dns("chat.example")], nothing)];
    // The root is not sent by the peer: we have it.
    assert!(judged(&leaf, &roots, &target(true, vec![record(0, &root.der)])).is_valid());
    let found = faults(judged(&leaf, &roots, &target(true, vec![record(0, &other.der)])));
    assert_eq!(found, [Fault::DaneMismatch]);
    // An intermediate.
    let lower = root.delegate("Lower", nothing);
    let chain = [lower.issue(&[dns("chat.example")], nothing), lower.der.clone()];
    assert!(judged(&chain, &roots, &target(true, vec![record(0, &lower.der)])).is_valid());
    // The certificate itself, which must be valid all the same.
    assert!(judged(&leaf, &roots, &target(true, vec![record(1, &leaf[0])])).is_valid());
    let stranger = [Authority::new("Stranger").issue(&[dns("chat.example")], nothing)];
    let found = faults(judged(&stranger, &roots, &target(true, vec![record(1, &stranger[0])])));
    assert!(matches!(&found[..], [Fault::UnknownIssuer { .. }]), "{found:?}");
}

#[test]
fn a10_the_host_that_srv_names_counts_only_where_dns_is_signed() {
    let root = Authority::new("Test Root");
    let leaf = [root.issue(&[dns("xmpp.host.example")], nothing)];
    assert!(judged(&leaf, &root.roots(), &target(true, vec![])).is_valid());
    let found = faults(judged(&leaf, &root.roots(), &target(false, vec![])));
    assert!(matches!(&found[..], [Fault::OtherNames { .. }]), "{found:?}");
}

#[test]
fn a_pin_outweighs_dns() {
    let roots = Roots::default();
    let leaf = [Authority::new("Stranger").issue(&[dns("chat.example")], nothing)];
    let pin = [key_digest(&read(&leaf[0]).expect("a certificate"))];
    let target = target(true, vec![record(3, b"another")]);
    let trust = Trust::new(&roots, Role::Receiving).found_at(&target).pinned(&pin);
    assert_eq!(judge(&leaf, "chat.example", &trust, now()), Verdict::Valid(Basis::Pin));
}

#[test]
fn a10_a_caller_is_who_it_should_be_if_one_of_the_domains_servers_may_show_this() {
    let root = Authority::new("Test Root");
    let roots = root.roots();
    let stranger = Authority::new("Stranger");
    let of =
        |secure, tlsa| Target { addresses: vec!["192.0.2.1".parse().expect("an address")], ..target(secure, tlsa) };
    let judged = |leaf: &CertificateDer<'static>, found: Result<&[Target], &str>| {
        let trust = Trust::new(&roots, Role::Initiating);
        judge_caller(std::slice::from_ref(leaf), "chat.example", &trust, found, now())
    };
    let (own, other) = (stranger.issue(&[dns("x.example")], nothing), stranger.issue(&[dns("chat.example")], nothing));
    let vouched = root.issue(&[dns("chat.example")], nothing);
    let two = [of(true, vec![record(3, b"another")]), of(true, vec![record(3, &own)])];
    assert_eq!(judged(&own, Ok(&two)), Verdict::Valid(Basis::Dane));
    assert_eq!(faults(judged(&other, Ok(&two))), [Fault::DaneMismatch]);
    assert_eq!(faults(judged(&vouched, Ok(&two))), [Fault::DaneMismatch]);
    // One without keys in DNS may show what an authority vouches for, and nobody else's.
    let mixed = [of(true, vec![record(3, &own)]), of(false, vec![])];
    assert!(judged(&vouched, Ok(&mixed)).is_valid() && !judged(&other, Ok(&mixed)).is_valid());
    // A server that nobody is sent to does not count, nor do unsigned records.
    let nowhere =
        [Target { addresses: Vec::new(), ..of(true, vec![record(3, &own)]) }, of(false, vec![record(3, &own)])];
    assert!(!judged(&own, Ok(&nowhere)).is_valid() && judged(&vouched, Ok(&nowhere)).is_valid());
    assert!(judged(&vouched, Ok(&[])).is_valid() && !judged(&own, Ok(&[])).is_valid());
    // Forged answers.
    let verdict = judged(&vouched, Err("DNSSEC: no"));
    assert_eq!(verdict, Verdict::Invalid(vec![Fault::Bogus("DNSSEC: no".to_owned())]));
    assert_eq!(
        verdict.to_string(),
        "cannot be compared with what DNS names (DANE), whose answer is forged or damaged: DNSSEC: no"
    );
    assert!(faults(judged(&other, Err("DNSSEC: no"))).len() > 1);
}
