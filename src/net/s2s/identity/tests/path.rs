//! Paths to an authority, and why there is none.

use std::path::Path;
use std::time::Instant;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints, date_time_ymd};
use rustls::pki_types::pem::PemObject;

use super::super::*;
use super::authority::{Authority, San, as_pem, dns, with_issuer_at};
use super::{faults, judged, nothing, now};
use crate::certificate::tests::{Scratch, openssl};

fn pem(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&std::fs::read(path).expect("a file")).expect("a certificate")
}

#[test]
fn a_chain_is_found_in_any_order_and_with_strangers_in_it() {
    let root = Authority::new("Test Root");
    let upper = root.delegate("Upper", nothing);
    let lower = upper.delegate("Lower", nothing);
    let leaf = lower.issue(&[dns("chat.example")], nothing);
    let stranger = Authority::new("Stranger").der;
    for chain in [
        [leaf.clone(), lower.der.clone(), upper.der.clone(), root.der.clone()],
        [leaf.clone(), root.der.clone(), upper.der.clone(), lower.der.clone()],
        [leaf.clone(), stranger, upper.der.clone(), lower.der.clone()],
    ] {
        assert!(judged(&chain, "chat.example", &root.roots()).is_valid());
    }
}

#[test]
fn an_intermediate_that_is_missing_is_told_from_an_authority_that_is_not_known() {
    let root = Authority::new("Test Root");
    let url = "http://ca.example/lower.crt";
    let lower = root.delegate("Lower", nothing);
    let leaf = lower.issue(&[dns("chat.example")], |params| with_issuer_at(params, url));
    let found = faults(judged(std::slice::from_ref(&leaf), "chat.example", &root.roots()));
    assert_eq!(found, [Fault::IntermediateMissing { issuer: "\"Lower\"".to_owned(), url: url.to_owned() }]);
    assert!(found[0].to_string().contains("the server must send the whole chain"), "{}", found[0]);

    // One further up.
    let lowest = lower.delegate("Lowest", |params| with_issuer_at(params, url));
    let leaf = lowest.issue(&[dns("chat.example")], nothing);
    let found = faults(judged(&[leaf, lowest.der], "chat.example", &root.roots()));
    assert_eq!(found, [Fault::IntermediateMissing { issuer: "\"Lower\"".to_owned(), url: url.to_owned() }]);

    // Nobody says where it would be; or the whole chain is there and ends nowhere.
    let leaf = lower.issue(&[dns("chat.example")], nothing);
    let found = faults(judged(&[leaf], "chat.example", &root.roots()));
    assert_eq!(found, [Fault::UnknownIssuer { issuer: "\"Lower\"".to_owned() }]);
    let stranger = Authority::new("Nobody's Root");
    let leaf = stranger.issue(&[dns("chat.example")], |params| with_issuer_at(params, url));
    let found = faults(judged(&[leaf, stranger.der], "chat.example", &root.roots()));
    assert_eq!(found, [Fault::UnknownIssuer { issuer: "\"Nobody's Root\"".to_owned() }]);
}

#[test]
fn self_signed_is_said_so_whether_it_claims_to_be_an_authority_or_not() {
    let dir = Scratch::new("self-signed");
    let roots = Authority::new("Test Root").roots();
    let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    for extra in [&[][..], &["-addext", "basicConstraints=critical,CA:FALSE"]] {
        let (crt, _) = openssl(&dir, "chat.example", &p256, extra);
        let trust = Trust::new(&roots, Role::Initiating);
        let found = faults(judge(&[pem(&crt)], "chat.example", &trust, SystemTime::now()));
        assert_eq!(found, [Fault::SelfSigned], "{extra:?}");
    }
    // Those that Rookery makes are like that, too.
    let (crt, key) = (dir.path("own.crt"), dir.path("own.key"));
    crate::selfsigned::generate("own.example", "own.example", &crt, &key, SystemTime::now()).expect("written");
    let trust = Trust::new(&roots, Role::Initiating);
    assert_eq!(faults(judge(&[pem(&crt)], "own.example", &trust, SystemTime::now())), [Fault::SelfSigned]);
    // Also where an authority of the same name is known.
    let namesake = Authority::new("own.example").roots();
    let trust = Trust::new(&namesake, Role::Initiating);
    assert_eq!(faults(judge(&[pem(&crt)], "own.example", &trust, SystemTime::now())), [Fault::SelfSigned]);
    // An admin may believe it by itself.
    let own = Roots::only(&crt).expect("a root");
    assert!(judge(&[pem(&crt)], "own.example", &Trust::new(&own, Role::Initiating), SystemTime::now()).is_valid());
}

#[test]
fn who_only_calls_itself_an_authority_is_none() {
    let root = Authority::new("Test Root");
    let impostor = Authority::new("Test Root");
    let leaf = impostor.issue(&[dns("chat.example")], nothing);
    for chain in [vec![leaf.clone()], vec![leaf.clone(), impostor.der.clone()], vec![leaf, root.der.clone()]] {
        assert_eq!(faults(judged(&chain, "chat.example", &root.roots())), [Fault::WrongSignature]);
    }
    // A leaf that issues: mallory has a certificate of his own, and makes one for somebody else with it.
    let mallory = root.delegate("mallory.example", |params| params.is_ca = IsCa::NoCa);
    let leaf = mallory.issue(&[dns("chat.example")], nothing);
    let found = faults(judged(&[leaf, mallory.der], "chat.example", &root.roots()));
    assert_eq!(found, [Fault::IssuerNoAuthority]);
    // One that may issue to servers, but not make others.
    let short = root.delegate("Short", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.delegate("Below", nothing);
    let leaf = below.issue(&[dns("chat.example")], nothing);
    let found = faults(judged(&[leaf, below.der, short.der], "chat.example", &root.roots()));
    assert_eq!(found, [Fault::IssuerNoAuthority]);
    // An authority's own certificate is no server's.
    let upper = root.delegate("Upper", |params| super::authority::with_names(params, &[dns("chat.example")]));
    assert_eq!(faults(judged(&[upper.der], "chat.example", &root.roots())), [Fault::Authority]);
}

#[test]
fn an_intermediate_has_dates_too() {
    let root = Authority::new("Test Root");
    let old = root.delegate("Old", |params| params.not_after = date_time_ymd(2026, 5, 1));
    let leaf = old.issue(&[dns("chat.example")], nothing);
    let found = faults(judged(&[leaf, old.der], "chat.example", &root.roots()));
    let since = "2026-05-01 00:00 UTC".to_owned();
    assert_eq!(found, [Fault::IssuerExpired { issuer: "\"Old\"".to_owned(), since }]);
    let new = root.delegate("New", |params| params.not_before = date_time_ymd(2026, 10, 1));
    let leaf = new.issue(&[dns("chat.example")], nothing);
    let found = faults(judged(&[leaf, new.der], "chat.example", &root.roots()));
    let until = "2026-10-01 00:00 UTC".to_owned();
    assert_eq!(found, [Fault::IssuerNotYetValid { issuer: "\"New\"".to_owned(), until }]);
}

#[test]
fn one_for_servers_is_good_for_calling_and_one_for_clients_is_not_good_for_being_called() {
    let root = Authority::new("Test Root");
    let roots = root.roots();
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    for (purposes, calls, is_called) in [
        (vec![], true, true),
        (vec![server.clone()], true, true),
        (vec![server, client.clone()], true, true),
        (vec![client], true, false),
        (vec![ExtendedKeyUsagePurpose::CodeSigning], false, false),
    ] {
        let leaf = root.issue(&[dns("chat.example")], |params| params.extended_key_usages = purposes.clone());
        for (role, is_good) in [(Role::Initiating, calls), (Role::Receiving, is_called)] {
            let verdict = judge(std::slice::from_ref(&leaf), "chat.example", &Trust::new(&roots, role), now());
            assert_eq!(verdict.is_valid(), is_good, "{role:?} {purposes:?}: {verdict}");
            if !is_good {
                assert_eq!(faults(verdict), [Fault::Purpose]);
            }
        }
    }
}

#[test]
fn a6_name_constraints_hold_and_names_that_they_do_not_speak_of_do_not_get_round_them() {
    let root = Authority::new("Test Root");
    let permitted = NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("partner.example".to_owned())],
        excluded_subtrees: vec![],
    };
    let excluded = NameConstraints {
        permitted_subtrees: vec![],
        excluded_subtrees: vec![GeneralSubtree::DnsName("chat.example".to_owned())],
    };
    for constraints in [permitted, excluded] {
        let lower = root.delegate("Constrained", |params| params.name_constraints = Some(constraints));
        let verdict = |names: &[San<'_>], domain| {
            judged(&[lower.issue(names, nothing), lower.der.clone()], domain, &root.roots())
        };
        assert!(verdict(&[dns("chat.partner.example")], "chat.partner.example").is_valid());
        assert_eq!(faults(verdict(&[dns("chat.example")], "chat.example")), [Fault::NameConstraints]);
        let mixed = [dns("chat.partner.example"), dns("chat.example")];
        assert_eq!(faults(verdict(&mixed, "chat.example")), [Fault::NameConstraints]);
        for other in [San::XmppAddr(b"chat.example"), San::Srv(b"_xmpp-server.chat.example")] {
            let names = [dns("chat.partner.example"), other];
            assert_eq!(faults(verdict(&names, "chat.example")), [Fault::NameConstraints]);
            assert!(verdict(&names, "chat.partner.example").is_valid());
        }
    }
    // Without constraints these names are as good as any.
    let lower = root.delegate("Free", nothing);
    let leaf = lower.issue(&[San::XmppAddr(b"chat.example")], nothing);
    assert!(judged(&[leaf, lower.der], "chat.example", &root.roots()).is_valid());
}

#[test]
fn weak_keys_and_old_signatures_are_called_so() {
    let dir = Scratch::new("weak");
    let made = |host: &str, key: &[&str], sign: &[&str]| pem(&openssl(&dir, host, key, sign).0);
    let no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let rsa = made("weak.example", &["-newkey", "rsa:1024"], &no_authority);
    let mut roots = Roots::default();
    roots.add(&rsa).expect("a root");
    let trust = Trust::new(&roots, Role::Receiving);
    let found = faults(judge(std::slice::from_ref(&rsa), "weak.example", &trust, SystemTime::now()));
    let what = "RSA of 1024 bits (\"x\"), 2048 are the least".to_owned();
    assert_eq!(found, [Fault::WeakKey { what }]);
    assert_eq!(unfit(&rsa), Some(found[0].clone()));

    let old = made("old.example", &["-newkey", "rsa:2048", "-sha1"], &no_authority);
    let mut roots = Roots::default();
    roots.add(&old).expect("a root");
    let trust = Trust::new(&roots, Role::Receiving);
    let found = faults(judge(&[old], "old.example", &trust, SystemTime::now()));
    assert_eq!(found, [Fault::WeakSignature { what: "RSA with SHA-1".to_owned() }]);
}

#[test]
fn version_1_of_x509_is_too_old() {
    let der = super::authority::version_1("v1.example");
    assert_eq!(unfit(&der), Some(Fault::Unreadable("it is not of version 3 of X.509".to_owned())));
    let roots = Authority::new("Test Root").roots();
    let verdict = judge(&[der], "v1.example", &Trust::new(&roots, Role::Receiving), now());
    assert!(verdict.to_string().contains("version 3"), "{verdict}");
}

#[test]
fn a_chain_that_leads_in_circles_is_soon_given_up() {
    let root = Authority::new("Test Root");
    let stranger = Authority::new("Stranger");
    let leaf = stranger.issue(&[dns("chat.example")], nothing);
    // Ten authorities of the same two names that all vouch for each other's name.
    let mut chain = vec![leaf];
    for n in 0..9 {
        chain.push(stranger.delegate(if n % 2 == 0 { "Stranger" } else { "Other" }, nothing).der);
    }
    let started = Instant::now();
    assert!(!judged(&chain, "chat.example", &root.roots()).is_valid());
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn roots_are_read_from_a_file_beside_the_systems() {
    let dir = Scratch::new("roots");
    let (good, bad) = (dir.path("good.pem"), dir.path("bad.pem"));
    let (root, other) = (Authority::new("Test Root"), Authority::new("Other Root"));
    std::fs::write(&good, as_pem(&[&root.der, &other.der, &root.der])).expect("written");
    std::fs::write(&bad, "nothing of that kind").expect("written");
    assert_eq!(Roots::only(&good).expect("roots").len(), 2, "each once");
    for wrong in [&bad, &dir.path("missing.pem")] {
        let words = Roots::load(Some(wrong)).expect_err("no roots").to_string();
        assert!(words.contains(&wrong.display().to_string()), "{words}");
    }
    let roots = Roots::load(Some(&good)).expect("roots");
    assert!(roots.len() >= 2);
    for authority in [root, other] {
        let leaf = authority.issue(&[dns("chat.example")], nothing);
        assert!(judged(&[leaf], "chat.example", &roots).is_valid());
    }
}
