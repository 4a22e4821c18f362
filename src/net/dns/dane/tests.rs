#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

/// A root, an intermediate and a server's certificate, DER, the server's first.
fn chain() -> [Vec<u8>; 3] {
    let ca = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let (params, key) = ca("root.test");
    let root = CertifiedIssuer::self_signed(params, key).unwrap();
    let (params, key) = ca("between.test");
    let between = CertifiedIssuer::signed_by(params, key, &root).unwrap();
    let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &between).unwrap();
    [leaf.der().to_vec(), between.der().to_vec(), root.der().to_vec()]
}

/// The record of a certificate.
fn record(usage: u8, selector: u8, matching: u8, certificate: &[u8]) -> Tlsa {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let selected = if selector == 0 { certificate } else { parsed.public_key().raw };
    let data = match matching {
        0 => selected.to_vec(),
        1 => digest(&SHA256, selected).as_ref().to_vec(),
        _ => digest(&SHA512, selected).as_ref().to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

const NONE: [&[u8]; 0] = [];

#[test]
fn every_selector_and_matching_fits_its_own_certificate_and_no_other() {
    let [leaf, between, root] = chain();
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let record = record(DANE_EE, selector, matching, &leaf);
        assert!(is_usable(&record) && matches(&record, &leaf), "{record}");
        assert!(!matches(&record, &between) && !matches(&record, &root), "{record}");
    }
}

#[test]
fn dane_ee_is_about_the_server_alone() {
    let [leaf, between, root] = chain();
    let fits = compare(&[record(3, 1, 1, &leaf)], &[&leaf, &between], &NONE);
    assert_eq!(fits, Comparison { usable: true, end_entity: true, ..Comparison::default() });
    assert!(!fits.is_mismatch());
    // The record of an issuer does not make it the server's.
    for other in [&between, &root] {
        let comparison = compare(&[record(3, 1, 1, other)], &[&leaf, &between, &root], &NONE);
        assert!(comparison.is_mismatch(), "{comparison:?}");
    }
}

#[test]
fn dane_ta_names_the_anchors() {
    let [leaf, between, root] = chain();
    let shown = [&leaf, &between, &root];
    for (selector, matching) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)] {
        let comparison = compare(&[record(2, selector, matching, &root)], &shown, &NONE);
        assert_eq!(comparison.anchors, std::slice::from_ref(&root), "{selector} {matching}");
        assert!(!comparison.end_entity && comparison.pkix_anchors.is_empty());
    }
    // Not shown: only a record that holds it whole will do.
    assert!(compare(&[record(2, 0, 1, &root)], &[&leaf, &between], &NONE).is_mismatch());
    assert!(compare(&[record(2, 1, 0, &root)], &[&leaf, &between], &NONE).is_mismatch());
    assert_eq!(compare(&[record(2, 0, 0, &root)], &[&leaf, &between], &NONE).anchors, std::slice::from_ref(&root));
    // The roots that everybody trusts are none of this domain's.
    assert!(compare(&[record(2, 0, 1, &root)], &[&leaf, &between], &[&root]).is_mismatch());
    // The server's own certificate is no anchor.
    assert!(compare(&[record(2, 1, 1, &leaf)], &shown, &NONE).is_mismatch());
}

#[test]
fn pkix_usages_come_on_top_of_the_ordinary_rules() {
    let [leaf, between, root] = chain();
    let ee = compare(&[record(1, 1, 1, &leaf)], &[&leaf, &between], &NONE);
    assert_eq!(ee, Comparison { usable: true, pkix_end_entity: true, ..Comparison::default() });
    let ta = compare(&[record(0, 0, 1, &root)], &[&leaf, &between], &[&root]);
    assert_eq!(ta, Comparison { usable: true, pkix_anchors: vec![root.clone()], ..Comparison::default() });
    assert_eq!(
        compare(&[record(0, 1, 1, &between)], &[&leaf, &between], &NONE).pkix_anchors,
        std::slice::from_ref(&between)
    );
    // A root that nobody has.
    assert!(compare(&[record(0, 0, 1, &root)], &[&leaf, &between], &NONE).is_mismatch());
    assert!(compare(&[record(1, 1, 1, &between)], &[&leaf, &between], &NONE).is_mismatch());
}

#[test]
fn one_record_that_fits_is_enough() {
    let [leaf, between, root] = chain();
    let others = chain();
    let records = [record(3, 1, 1, &others[0]), record(2, 0, 1, &others[2]), record(3, 1, 1, &leaf)];
    assert!(compare(&records, &[&leaf, &between], &NONE).end_entity);
    assert!(compare(&records[..2], &[&leaf, &between, &root], &NONE).is_mismatch());
    let twice = [record(2, 0, 1, &root), record(2, 1, 1, &root)];
    assert_eq!(compare(&twice, &[&leaf, &between, &root], &NONE).anchors, [root]);
}

#[test]
fn what_nobody_understands_counts_for_nothing() {
    let [leaf, ..] = chain();
    let good = record(3, 1, 1, &leaf);
    let unusable = [
        Tlsa { usage: 4, ..good.clone() },
        Tlsa { usage: 255, ..good.clone() },
        Tlsa { selector: 2, ..good.clone() },
        Tlsa { matching: 3, ..good.clone() },
        Tlsa { data: good.data[1..].to_vec(), ..good.clone() },
        Tlsa { matching: 2, ..good.clone() },
        Tlsa { data: Vec::new(), ..good.clone() },
        Tlsa { matching: 0, ..good.clone() },
        Tlsa { selector: 0, matching: 0, data: [leaf.clone(), vec![0]].concat(), ..good.clone() },
    ];
    for record in &unusable {
        assert!(!is_usable(record), "{record}");
    }
    let comparison = compare(&unusable, &[&leaf], &NONE);
    assert!(!comparison.usable && !comparison.is_mismatch());
    assert!(!compare(&[], &[&leaf], &NONE).is_mismatch());
}

#[test]
fn chains_that_are_none_fit_nothing() {
    let [leaf, ..] = chain();
    let records = [record(3, 1, 1, &leaf), record(3, 0, 1, &leaf)];
    assert!(compare(&records, &NONE, &NONE).is_mismatch());
    assert!(compare(&records, &[b"nonsense".as_slice(), &[]], &NONE).is_mismatch());
    assert!(compare(&records, &[&leaf[..leaf.len() - 1]], &NONE).is_mismatch());
}
