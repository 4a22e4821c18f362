//! The page has each fault, in the words of the command.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_net::s2s::identity::Fault;

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

/// One of each kind.
fn samples() -> Vec<Problem> {
    let at =
        |mode, port: u16| At { host: "xmpp.partner.example".to_owned(), address: ([192, 0, 2, 7], port).into(), mode };
    let starttls = || at(TlsMode::Starttls, 5269);
    let direct = || at(TlsMode::Direct, 5270);
    let moment = |days: u64| NOW + Duration::from_secs(days * 86_400);
    let text = |text: &str| text.to_owned();
    let stream = StreamError::new;
    let stops = [
        (starttls(), Stop::Refused),
        (starttls(), Stop::NoAnswer),
        (at(TlsMode::Starttls, 5269), Stop::NoRoute),
        (starttls(), Stop::NotConnected(text("Too many open files (os error 24)"))),
        (starttls(), Stop::Silent(Stage::Header)),
        (starttls(), Stop::Stalled(Stage::Features)),
        (starttls(), Stop::Ended(Stage::Header)),
        (starttls(), Stop::Broken(Stage::SecretFeatures, text("Connection timed out (os error 110)"))),
        (starttls(), Stop::NotXmpp(Speech::Http)),
        (starttls(), Stop::NotXmpp(Speech::Other)),
        (starttls(), Stop::NotXmpp(Speech::Tls)),
        (starttls(), Stop::Excessive(Stage::Features)),
        (starttls(), Stop::StreamError(stream(StreamCondition::HostUnknown))),
        (starttls(), Stop::StreamError(stream(StreamCondition::InvalidNamespace))),
        (direct(), Stop::TlsAlert(text("no_application_protocol"))),
        (starttls(), Stop::StreamError(stream(StreamCondition::SeeOtherHost))),
        (starttls(), Stop::StreamError(stream(StreamCondition::PolicyViolation).with_text("you are not welcome"))),
        (starttls(), Stop::OldStream),
        (starttls(), Stop::NoStarttls),
        (starttls(), Stop::StarttlsRefused),
        (direct(), Stop::TlsSilent),
        (direct(), Stop::HelloSwallowed),
        (starttls(), Stop::TlsStalled { bytes: 1360 }),
        (starttls(), Stop::TlsEnded),
        (starttls(), Stop::TlsOld),
        (direct(), Stop::TlsNotSpoken(Speech::Xml)),
        (direct(), Stop::TlsNotSpoken(Speech::Other)),
        (starttls(), Stop::TlsAlert(text("certificate_required"))),
        (direct(), Stop::TlsAlert(text("unrecognized_name"))),
        (starttls(), Stop::TlsAlert(text("handshake_failure"))),
        (starttls(), Stop::TlsFailed(text("peer is incompatible: NoCipherSuitesInCommon"))),
    ];
    let issuer = || text("\"Example CA\"");
    let date = || text("2026-10-01 00:00 UTC");
    let domain = || text("partner.example");
    let faults = [
        Fault::NoCertificate,
        Fault::Expired { since: date() },
        Fault::NotYetValid { until: date() },
        Fault::OtherNames { names: vec![text("xmpp.partner.example")], more: 0, domain: domain() },
        Fault::NoNames { domain: domain() },
        Fault::CommonNameOnly { domain: domain() },
        Fault::SelfSigned,
        Fault::UnknownIssuer { issuer: issuer() },
        Fault::IntermediateMissing { issuer: issuer(), url: text("http://ca.example/sub.der") },
        Fault::IssuerExpired { issuer: issuer(), since: date() },
        Fault::IssuerNotYetValid { issuer: issuer(), until: date() },
        Fault::WrongSignature,
        Fault::WeakKey { what: text("RSA of 1024 bits (\"partner.example\"), 2048 are the least") },
        Fault::WeakSignature { what: text("RSA with SHA-1") },
        Fault::Purpose,
        Fault::Authority,
        Fault::IssuerNoAuthority,
        Fault::NameConstraints,
        Fault::PinMismatch { found: [0xab; 32] },
        Fault::DaneMismatch,
        Fault::Unreadable(text("there are bytes behind its end")),
    ];
    let mut samples = vec![
        Problem::Off,
        Problem::NoPort,
        Problem::Denied(Denial::Denied),
        Problem::Denied(Denial::NotAllowed),
        Problem::Denied(Denial::Section),
        Problem::Lookup(LookupError::NoSuchDomain(text("the domain partner.example does not exist in DNS"))),
        Problem::Lookup(LookupError::NoSuchDomain(text(
            "its SRV records lead nowhere: they name xmpp.partner.example:5269 (no such host)",
        ))),
        Problem::Lookup(LookupError::NotOffered),
        Problem::Lookup(LookupError::Bogus(text(
            "DNSSEC: the answer for _xmpp-server._tcp.partner.example SRV does not have the signatures that it must have",
        ))),
        Problem::Lookup(LookupError::Failing(text(
            "no nameserver answers (asked for _xmpp-server._tcp.partner.example SRV)",
        ))),
        Problem::OnlyIpv6,
        Problem::NoProof { at: starttls() },
        Problem::OwnCertificate { faults: vec![Fault::SelfSigned] },
        Problem::Clock { begins: moment(20_000), now: moment(10_000) },
        Problem::OtherServer { at: starttls() },
    ];
    samples.extend(stops.into_iter().map(|(at, stop)| Problem::Stopped { at, stop }));
    samples.extend(faults.into_iter().map(|fault| Problem::Certificate { at: starttls(), faults: vec![fault] }));
    samples
}

/// The page with the words as they are; what is written about them stays.
fn rewritten(page: &str) -> String {
    let mut by_code: BTreeMap<&str, Vec<Words>> = BTreeMap::new();
    for words in samples().iter().map(|problem| words(problem, "example.org", "partner.example")) {
        by_code.entry(words.code).or_default().push(words);
    }
    let mut sections = page.split("\n### ");
    let mut text = sections.next().unwrap_or_default().to_owned();
    for section in sections {
        let (code, body) = section.split_once('\n').unwrap_or((section, ""));
        let (prose, tail) = match body.find("\n## ") {
            Some(at) => body.split_at(at),
            None => (body, ""),
        };
        let is_ours = |line: &&str| !line.starts_with('>') && !line.starts_with("**Remedy:**");
        let prose = prose.lines().filter(is_ours).collect::<Vec<_>>().join("\n");
        let all = by_code.remove(code).unwrap_or_else(|| panic!("the page has {code}, which is no fault"));
        let said: Vec<String> = all.iter().map(|words| format!("> {}\n", words.text)).collect();
        let mut remedies: Vec<String> = all.iter().map(|words| format!("**Remedy:** {}\n", words.remedy)).collect();
        remedies.dedup();
        text += &format!("\n### {code}\n\n{}\n{}\n\n{}", said.join(">\n"), prose.trim(), remedies.join("\n"));
        text += tail;
    }
    assert!(by_code.is_empty(), "not in the page: {:?}", by_code.keys());
    text
}

/// `ROOKERY_UPDATE=1 cargo test --bin rookery the_page` writes the words anew.
#[test]
fn the_page_says_what_the_command_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting-federation.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let wanted = rewritten(&page);
    if std::env::var_os("ROOKERY_UPDATE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert_eq!(page, wanted, "the page is out of date: ROOKERY_UPDATE=1 cargo test --bin rookery the_page");
    }
}

#[test]
fn every_fault_has_a_remedy_and_one_who_can_act() {
    for problem in samples() {
        let theirs = words(&problem, "example.org", "partner.example");
        assert!(!theirs.text.is_empty() && theirs.remedy.ends_with('.'), "{theirs:?}");
        assert!(!theirs.text.contains('\n') && !theirs.remedy.contains('\n'), "{theirs:?}");
        let own = words(&problem, "partner.example", "partner.example");
        assert_ne!(own.whose, Whose::Theirs, "{own:?}");
    }
}

#[test]
fn what_others_write_does_nothing_to_the_terminal() {
    let stop = Stop::StreamError(StreamError::new(StreamCondition::PolicyViolation).with_text("a\u{1b}[2Jb\nc"));
    let at = At { host: String::new(), address: ([192, 0, 2, 7], 5269).into(), mode: TlsMode::Starttls };
    let said = words(&Problem::Stopped { at, stop }, "example.org", "partner.example").text;
    assert!(said.ends_with("policy-violation: a [2Jb c"), "{said}");
}
