//! Verdicts on the certificates of a little authority.

pub(crate) mod authority;
mod dane;
mod names;
mod path;

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rcgen::{CertificateParams, date_time_ymd};

use self::authority::{Authority, San, dns};
use super::*;

/// In the middle of 2026.
pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_781_481_600)
}

pub(super) fn judged(chain: &[CertificateDer<'_>], domain: &str, roots: &Roots) -> Verdict {
    judge(chain, domain, &Trust::new(roots, Role::Receiving), now())
}

pub(super) fn faults(verdict: Verdict) -> Vec<Fault> {
    match verdict {
        Verdict::Invalid(faults) => faults,
        Verdict::Valid(basis) => panic!("valid by {basis:?}"),
    }
}

pub(super) fn nothing(_: &mut CertificateParams) {}

#[test]
fn a_certificate_with_the_name_and_a_known_issuer_is_valid() {
    let authority = Authority::new("Test Root");
    let leaf = authority.issue(&[dns("chat.example")], nothing);
    let verdict = judged(&[leaf], "chat.example", &authority.roots());
    assert_eq!(verdict, Verdict::Valid(Basis::Authority("\"Test Root\"".to_owned())));
    assert!(verdict.is_valid());
    assert_eq!(verdict.to_string(), "is valid, issued under \"Test Root\" (whether it was revoked is not checked)");
}

#[test]
fn nothing_shown_is_a_fault_and_so_is_what_cannot_be_read() {
    let authority = Authority::new("Test Root");
    let roots = authority.roots();
    assert_eq!(faults(judged(&[], "chat.example", &roots)), [Fault::NoCertificate]);
    for bytes in [&b""[..], b"hello", &[0x30, 0x80], &[0xff; 100]] {
        let found = faults(judged(&[CertificateDer::from_slice(bytes)], "chat.example", &roots));
        assert!(matches!(&found[..], [Fault::Unreadable(_)]), "{found:?}");
    }
    let mut longer = authority.issue(&[dns("chat.example")], nothing).to_vec();
    longer.push(0);
    let found = faults(judged(&[longer.into()], "chat.example", &roots));
    assert!(matches!(&found[..], [Fault::Unreadable(_)]), "{found:?}");
}

#[test]
fn dates_are_said_and_so_is_the_doubt_about_the_clock() {
    let authority = Authority::new("Test Root");
    let roots = authority.roots();
    let ended = authority.issue(&[dns("chat.example")], |params| params.not_after = date_time_ymd(2026, 6, 1));
    let verdict = judged(std::slice::from_ref(&ended), "chat.example", &roots);
    assert!(verdict.is_a_matter_of_time() && !judged(&[ended], "other.example", &roots).is_a_matter_of_time());
    let found = faults(verdict);
    assert_eq!(found, [Fault::Expired { since: "2026-06-01 00:00 UTC".to_owned() }]);
    assert_eq!(found[0].to_string(), "has expired: it was valid until 2026-06-01 00:00 UTC");

    let early = authority.issue(&[dns("chat.example")], |params| params.not_before = date_time_ymd(2026, 12, 24));
    let found = faults(judged(&[early], "chat.example", &roots));
    assert_eq!(found, [Fault::NotYetValid { until: "2026-12-24 00:00 UTC".to_owned() }]);
    assert!(found[0].to_string().contains("is a clock wrong"), "{}", found[0]);

    // A clock before 1970, and dates that contradict each other, are no reason to panic.
    let leaf = authority.issue(&[dns("chat.example")], nothing);
    let verdict = judge(&[leaf], "chat.example", &Trust::new(&roots, Role::Receiving), UNIX_EPOCH);
    assert!(matches!(&faults(verdict)[..], [Fault::NotYetValid { .. }]));
    let absurd = authority.issue(&[dns("chat.example")], |params| {
        params.not_before = date_time_ymd(2026, 9, 1);
        params.not_after = date_time_ymd(2026, 3, 1);
    });
    assert!(!judged(&[absurd], "chat.example", &roots).is_valid());
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let stranger = Authority::new("Nobody's Root");
    let leaf = stranger.issue(&[dns("other.example")], |params| params.not_after = date_time_ymd(2026, 6, 1));
    let found = faults(judged(&[leaf], "chat.example", &Authority::new("Test Root").roots()));
    let expired = Fault::Expired { since: "2026-06-01 00:00 UTC".to_owned() };
    let unknown = Fault::UnknownIssuer { issuer: "\"Nobody's Root\"".to_owned() };
    let names = vec!["other.example".to_owned()];
    let other = Fault::OtherNames { names, more: 0, domain: "chat.example".to_owned() };
    assert_eq!(found, [expired, unknown, other]);
    assert_eq!(
        Verdict::Invalid(found).to_string(),
        "has expired: it was valid until 2026-06-01 00:00 UTC; it is issued by \"Nobody's Root\", an authority that is \
         not known here; it is for other.example, not for chat.example"
    );
}

#[test]
fn a_pin_is_the_key_and_nothing_else() {
    let authority = Authority::new("Test Root");
    let roots = authority.roots();
    let stranger = Authority::new("Nobody's Root");
    // Expired, for somebody else, by nobody: the key is the one.
    let (leaf, _) = stranger.issue_with_key(&[dns("x.example")], |params| params.not_after = date_time_ymd(2026, 2, 1));
    let pin = key_digest(&read(&leaf).expect("a certificate"));
    let trust = Trust::new(&roots, Role::Initiating);
    assert_eq!(judge(&[leaf], "chat.example", &trust.pinned(&[[0; 32], pin]), now()), Verdict::Valid(Basis::Pin));
    // All is well, but for the key.
    let other = authority.issue(&[dns("chat.example")], nothing);
    let found = faults(judge(std::slice::from_ref(&other), "chat.example", &trust.pinned(&[pin]), now()));
    let digest = key_digest(&read(&other).expect("a certificate"));
    assert_eq!(found, [Fault::PinMismatch { found: digest }]);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(found[0].to_string().ends_with(&hex), "{}", found[0]);
}

#[test]
fn a_pin_is_the_digest_that_openssl_counts() {
    use std::process::Command;

    use crate::certificate::tests::{Scratch, openssl};
    let dir = Scratch::new("pin");
    let (crt, _) = openssl(&dir, "pin.example", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], &[]);
    let script = "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -r";
    let out = Command::new("sh").args(["-c", script]).arg(&crt).output().expect("openssl runs");
    let hex = String::from_utf8(out.stdout).expect("text");
    let pem = std::fs::read(&crt).expect("a file");
    let der = <CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem).expect("a certificate");
    let ours: String =
        key_digest(&read(&der).expect("a certificate")).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.split(' ').next(), Some(&*ours));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is done to a certificate, it proves nobody else, and nothing panics.
    #[test]
    fn a6_damaged_certificates_prove_nothing_new(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let authority = Authority::new("Test Root");
        let mut leaf = authority.issue(&[dns("chat.example"), San::XmppAddr(b"chat.example")], nothing).to_vec();
        let whole = leaf.clone();
        for (at, with) in changes {
            let at = at.index(leaf.len());
            leaf[at] ^= with;
        }
        let changed = leaf != whole;
        let chain = [CertificateDer::from(leaf), authority.der.clone()];
        let verdict = judged(&chain, "chat.example", &authority.roots());
        prop_assert!(!changed || !verdict.is_valid());
        prop_assert!(!judged(&chain, "admin.example", &authority.roots()).is_valid());
    }

    /// Names that are made of anything at all.
    #[test]
    fn a6_reading_names_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), lead in 0_usize..4) {
        let wrapped = match lead {
            0 => bytes,
            1 => authority::der(0x30, &bytes),
            2 => authority::alternative(&[San::Dns(&bytes), San::Srv(&bytes), San::XmppAddr(&bytes), San::Address(&bytes)]),
            _ => authority::der(0x30, &authority::der(0xa0, &bytes)),
        };
        if let Ok(names) = Names::of_extension(&wrapped) {
            let reference = Reference::new("chat.example").expect("a domain");
            let _ = names.prove(&reference);
            for name in names.shown() {
                prop_assert!(!name.chars().any(char::is_control));
            }
        }
    }
}
