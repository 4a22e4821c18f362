//! `rookery s2s check` on certificates that prove nothing, theirs and ours, and on clocks.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData};
use rookery_xmpp::datetime;

use crate::authority::{Authority, Identity, self_signed};
use crate::s2s_check::{OURS, Scene, THEIRS, place, zone};
use crate::s2s_peers::{EXTERNAL, serve, starttls};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What is shown is refused, in these words after "the certificate at ...".
async fn refused(code: &str, words: &str, show: impl FnOnce(&Authority) -> Identity) {
    let (scene, address) = Scene::showing(show).await;
    let text = format!("the certificate at {} {words}", place(address));
    scene.fails(code, THEIRS, &text).step("error", "certificate", &text);
}

/// For `partner.test`, otherwise as wished.
async fn wished(code: &str, words: &str, wish: impl FnOnce(&mut CertificateParams)) {
    refused(code, words, |ca| ca.issue_as(&["partner.test"], wish)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired() {
    wished("certificate-expired", "has expired: it was valid until 2020-03-01 00:00 UTC", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 3, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_yet_valid() {
    let words = "is not valid before 2099-01-01 00:00 UTC (is a clock wrong, theirs or ours?)";
    wished("certificate-not-yet-valid", words, |params| {
        params.not_before = rcgen::date_time_ymd(2099, 1, 1);
        params.not_after = rcgen::date_time_ymd(2099, 3, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_clock_is_off() {
    // Theirs and ours begin in a future that is the present for everybody else.
    let late = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2099, 1, 1);
        params.not_after = rcgen::date_time_ymd(2099, 3, 1);
    };
    let (scene, _) = Scene::showing(|ca| ca.issue_as(&["partner.test"], late)).await;
    scene.shows(&scene.authority.issue_as(&["home.test"], late));
    let said = scene.check("partner.test");
    said.is("whose", OURS);
    said.is("details", "docs/troubleshooting-federation.md, clock");
    let now = datetime::format(SystemTime::now());
    let (today, _) = now.split_once('T').unwrap();
    let verdict = said.line("verdict");
    let words = format!("no message gets to partner.test: the clock of this machine is behind: it says {today} ");
    assert!(verdict.starts_with(&words), "{verdict}");
    assert!(verdict.ends_with(" UTC, and our own certificate begins on 2099-01-01 00:00:00 UTC"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_other_names() {
    let words = "is for xmpp.partner.test, www.partner.test, not for partner.test";
    refused("certificate-other-name", words, |ca| ca.issue(&["xmpp.partner.test", "www.partner.test"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_common_name_only() {
    let words = "has partner.test only as common name (CN), which does not count; it must be a DNS name (SAN)";
    refused("certificate-cn-only", words, |ca| {
        ca.issue_as(&[], |params| params.distinguished_name.push(DnType::CommonName, "partner.test"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_unknown_authority() {
    let words = "is issued by \"Somebody Else\", an authority that is not known here";
    refused("certificate-unknown-issuer", words, |_| {
        let other = Authority::new("Somebody Else");
        other.issue(&["partner.test"]).with(&other)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_itself() {
    let show = |_: &Authority| self_signed(&["partner.test"]);
    refused("certificate-self-signed", "is self-signed: nobody vouches for it", show).await;

    let (scene, address) = Scene::showing(show).await;
    let place = place(address);
    scene.conf("certificates = \"dialback\"\n");
    let said = scene.check("partner.test");
    said.works(&format!(
        "messages get to partner.test: {place}, TLS 1.3; we prove who we are by our certificate (EXTERNAL)"
    ));
    said.step("warning", "certificate", &format!("the certificate at {place} is self-signed: nobody vouches for it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_intermediate() {
    let url = "http://ca.test/sub.der";
    let oid = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    let (inner, name) = (u8::try_from(oid.len() + 2 + url.len()).unwrap(), u8::try_from(url.len()).unwrap());
    // AuthorityInfoAccess (RFC 5280 section 4.2.2.1) with caIssuers.
    let access = [&[0x30, inner + 2, 0x30, inner][..], &oid, &[0x86, name], url.as_bytes()].concat();
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access);
    let words = "comes without that of its issuer, \"Test Sub\": the server must send the whole chain (what is missing is at \
                 http://ca.test/sub.der)";
    refused("certificate-chain", words, |ca| {
        ca.below("Test Sub").issue_as(&["partner.test"], |params| params.custom_extensions = vec![extension])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_intermediate() {
    let (scene, address) = Scene::showing(|ca| {
        let below = ca.below("Test Sub");
        below.issue(&["partner.test"]).with(&below)
    })
    .await;
    let place = place(address);
    let said = scene.check("partner.test");
    said.works(&format!(
        "messages get to partner.test: {place}, TLS 1.3; we prove who we are by our certificate (EXTERNAL)"
    ));
    assert!(
        said.text().contains(&format!("{place}: the certificate is valid, issued under \"Test Root\"")),
        "{}",
        said.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn not_for_servers() {
    let words = "is not meant for servers (its extended key usage lacks serverAuth)";
    wished("certificate-purpose", words, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_in_several_ways() {
    let words = "has expired: it was valid until 2020-03-01 00:00 UTC; it is for other.test, not for partner.test";
    refused("certificate-expired", words, |ca| {
        ca.issue_as(&["other.test"], |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 3, 1);
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_key_than_the_conf_names() {
    let (scene, address) = Scene::showing(|ca| ca.issue(&["partner.test"])).await;
    scene.conf(&format!("[s2s.domain.\"partner.test\"]\npin = [\"{}\"]\n", "ab".repeat(32)));
    let said = scene.check("partner.test");
    said.is("details", "docs/troubleshooting-federation.md, certificate-pin");
    let verdict = said.line("verdict");
    let words = format!(
        "the certificate at {} has another key than the conf names; the SHA-256 of this one is ",
        place(address)
    );
    let (_, pin) = verdict.split_once(&words).unwrap_or_else(|| panic!("{verdict}"));
    scene.conf(&format!("[s2s.domain.\"partner.test\"]\npin = [\"{pin}\"]\n"));
    let said = scene.check("partner.test");
    said.step(
        "ok",
        "conf",
        "home.test may talk to partner.test, which has to show one of the keys that the conf names",
    );
    assert!(said.line("verdict").starts_with("messages get to partner.test"), "{}", said.text());
}

// --- our own -----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn our_own_has_expired() {
    let (scene, _) = Scene::showing(|ca| ca.issue(&["partner.test"])).await;
    scene.shows(&scene.authority.issue_as(&["home.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 3, 1);
    }));
    let said = scene.check("partner.test");
    assert!(said.line("verdict").starts_with("messages get to partner.test"), "{}", said.text());
    said.is("besides", "our own certificate for home.test has expired: it was valid until 2020-03-01 00:00 UTC");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_is_not_there_or_broken() {
    let (scene, _) = Scene::showing(|ca| ca.issue(&["partner.test"])).await;
    scene.write("home.crt", "nonsense");
    let said = scene.check("partner.test");
    assert!(said.text().contains("warning  own          our own certificate cannot be looked at: "), "{}", said.text());
    assert!(said.text().contains("home.crt is not a PEM file"), "{}", said.text());
    scene.conf_without_certificate();
    let said = scene.check("partner.test");
    said.step("warning", "own", "home.test has no certificate yet: others get dialback alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_domain_as_others_see_it() {
    let scene = Scene::new("").await;
    let ours = scene.authority.issue(&["home.test"]);
    scene.shows(&ours);
    let address = serve(LOOPBACK, 0, starttls("home.test", &ours.config(), EXTERNAL));
    let records = |address| zone("_xmpp-server", address).replace("partner.test", "home.test");
    scene.zones(&records(address));
    let said = scene.check("home.test");
    said.works(&format!("other servers find and reach home.test: {address} (xmpp.home.test, STARTTLS), TLS 1.3"));

    // Others do not accept what we have; that is said once.
    let alone = self_signed(&["home.test"]);
    scene.shows(&alone);
    let address = serve(LOOPBACK, 0, starttls("home.test", &alone.config(), EXTERNAL));
    let more = "_xmpp-server._tcp SRV 1 5 {port} xmpp\n".replace("{port}", &address.port().to_string());
    scene.zones(&format!("{}{more}", records(address)));
    let said = scene.check("home.test");
    let text = "our own certificate for home.test is self-signed: nobody vouches for it";
    said.is("verdict", &format!("other servers do not reach home.test: {text}"));
    said.is("details", "docs/troubleshooting-federation.md, own-certificate");
    assert!(!said.text().contains("besides"), "{}", said.text());
    scene.shows(&ours);

    // Somebody else has the port, or the server has not read the new certificate.
    let other = scene.authority.issue(&["home.test"]);
    let address = serve(LOOPBACK, 0, starttls("home.test", &other.config(), EXTERNAL));
    scene.zones(&records(address));
    let said = scene.check("home.test");
    said.is(
        "verdict",
        &format!(
            "other servers do not reach home.test: {address} (xmpp.home.test, STARTTLS) shows another certificate than the \
             one that this server has for home.test"
        ),
    );
    said.is("whose", OURS);

    // What would be theirs to do is ours.
    let gone = crate::s2s_peers::closed(LOOPBACK);
    scene.zones(&records(gone));
    let said = scene.check("home.test");
    said.is("details", "docs/troubleshooting-federation.md, port-closed");
    said.is("whose", OURS);

    // The conf has ports for clients alone.
    scene.conf("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    let text = "the conf has no port for other servers: none of its [[listen]] sections says kind = \"s2s\"";
    scene.check("home.test").is("verdict", &format!("other servers do not reach home.test: {text}"));
}

// --- DANE --------------------------------------------------------------------------------------------------------

/// A zone that is signed and says which key the server has.
async fn with_tlsa(digest: impl FnOnce(&Identity) -> String) -> (Scene, String) {
    let scene = Scene::new("").await;
    let shown = self_signed(&["partner.test"]);
    let address = serve(LOOPBACK, 0, starttls("partner.test", &shown.config(), EXTERNAL));
    let tlsa = format!("_{}._tcp.xmpp TLSA 3 1 1 {}\n", address.port(), digest(&shown));
    scene.zones(
        &zone("_xmpp-server", address).replacen('\n', "\n$SIGN\n", 1).replace("xmpp A", &format!("{tlsa}xmpp A")),
    );
    scene.believes_signatures();
    (scene, place(address))
}

#[tokio::test(flavor = "multi_thread")]
async fn as_dns_names_it() {
    let digest = |shown: &Identity| {
        let key = KeyPair::from_pem(&shown.key_pem).unwrap().subject_public_key_info();
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let (scene, place) = with_tlsa(digest).await;
    let said = scene.check("partner.test");
    said.works(&format!(
        "messages get to partner.test: {place}, TLS 1.3; we prove who we are by our certificate (EXTERNAL)"
    ));
    said.step("ok", "dns", "xmpp.partner.test: 127.0.0.1, signed (DNSSEC)");
    assert!(said.text().contains("the certificate is the one that DNS names (DANE)"), "{}", said.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn not_as_dns_names_it() {
    let (scene, place) = with_tlsa(|_| "ab".repeat(32)).await;
    let words = "is none of those that DNS names (DANE): no TLSA record of the server's host fits it";
    scene.fails("certificate-dane", THEIRS, &format!("the certificate at {place} {words}"));
}
