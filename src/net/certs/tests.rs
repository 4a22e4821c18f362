//! Certificates found, made, replaced and kept.

use super::*;
use crate::certificate::tests::{Scratch, openssl};

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

fn files(dir: &Scratch, host: &str, generate: bool) -> HostFiles {
    HostFiles {
        host: host.to_owned(),
        certificate: dir.path(&format!("{host}.crt")),
        key: dir.path(&format!("{host}.key")),
        generate,
        service: false,
    }
}

fn served(certificates: &Certificates, host: &str) -> Vec<u8> {
    certificates.of_host(host).expect("a certificate").key().cert[0].to_vec()
}

/// A new pair of files in the place of the old, as a renewal leaves them.
fn renew(dir: &Scratch, host: &str, days: &str) {
    let days = ["-days", days];
    openssl(dir, host, &P256, &days);
}

#[test]
fn a_domain_without_files_gets_a_certificate_once() {
    let dir = Scratch::new("made");
    let hosts = vec![files(&dir, "a.example", true), files(&dir, "bücher.example", true)];
    let first = Certificates::open(hosts.clone(), None).expect("made");
    let again = Certificates::open(hosts, None).expect("read");
    for host in ["a.example", "bücher.example", "xn--bcher-kva.example", "A.Example"] {
        assert_eq!(served(&first, host), served(&again, host), "{host}");
    }
    assert!(first.of_host("c.example").is_none());
    assert!(first.default().is_none(), "two domains, none of them the default");
}

#[test]
fn half_a_pair_and_missing_files_are_named() {
    let dir = Scratch::new("half");
    let certificates = Certificates::open(vec![files(&dir, "a.example", true)], None).expect("made");
    assert!(certificates.default().is_some(), "a lone domain");
    fs::remove_file(dir.path("a.example.crt")).expect("removed");
    let error = Certificates::open(vec![files(&dir, "a.example", true)], None).expect_err("half a pair");
    assert!(error.to_string().contains("a.example.crt does not"), "{error}");
    assert!(dir.path("a.example.key").exists(), "the key stays");
    let error = Certificates::open(vec![files(&dir, "b.example", false)], None).expect_err("conf names a file");
    assert!(error.to_string().contains("b.example.crt"), "{error}");
}

#[test]
fn changed_files_are_taken_when_two_polls_agree() {
    let dir = Scratch::new("poll");
    renew(&dir, "a.example", "90");
    let certificates = Certificates::open(vec![files(&dir, "a.example", false)], None).expect("read");
    let old = certificates.of_host("a.example").expect("a certificate");
    assert!(certificates.poll().changed.is_empty());
    renew(&dir, "a.example", "91");
    assert!(certificates.poll().changed.is_empty(), "it may be half written");
    assert_eq!(certificates.poll().changed, ["a.example"]);
    assert!(certificates.poll().changed.is_empty());
    assert_ne!(served(&certificates, "a.example"), *old.key().cert[0], "new handshakes get the new one");
    assert!(certificates.default().is_some());
}

#[test]
fn a_broken_or_foreign_or_expired_file_keeps_the_old_one() {
    let dir = Scratch::new("broken");
    renew(&dir, "a.example", "90");
    renew(&dir, "other.example", "90");
    let hosts = || vec![files(&dir, "a.example", false)];
    let certificates = Certificates::open(hosts(), None).expect("read");
    let old = served(&certificates, "a.example");
    let (crt, key) = (dir.path("a.example.crt"), dir.path("a.example.key"));
    let (good_crt, good_key) = (fs::read(&crt).expect("crt"), fs::read(&key).expect("key"));
    let expired = {
        let dir = Scratch::new("expired");
        let now = SystemTime::now() - Duration::from_secs(11 * 365 * 24 * 3600);
        let (crt, key) = (dir.path("x.crt"), dir.path("x.key"));
        selfsigned::generate("a.example", "a.example", &crt, &key, now).expect("made");
        (fs::read(crt).expect("crt"), fs::read(key).expect("key"))
    };
    let other_key = fs::read(dir.path("other.example.key")).expect("key");
    let cases: [(&str, &[u8], &[u8]); 5] = [
        ("a.example.crt is not a PEM file", b"-----BEGIN CERTIFICATE-----\nAAAA", &good_key),
        ("a.example.crt is not a PEM file", b"", &good_key),
        ("a.example.key is not a PEM file", &good_crt, b"nothing"),
        ("does not belong to the certificate", &good_crt, &other_key),
        ("is not valid since", &expired.0, &expired.1),
    ];
    for (why, new_crt, new_key) in cases {
        fs::write(&crt, new_crt).expect("written");
        fs::write(&key, new_key).expect("written");
        let reloaded = certificates.reload(hosts(), None);
        let [(host, error)] = &reloaded.kept[..] else { panic!("{why}: {reloaded:?}") };
        assert_eq!(host, "a.example");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(served(&certificates, "a.example"), old);
    }
    // The poll says it once, not every five seconds.
    fs::write(&crt, b"broken again").expect("written");
    let kept: usize = (0..5).map(|_| certificates.poll().kept.len()).sum();
    assert_eq!(kept, 1);
    fs::remove_file(&crt).expect("removed");
    let kept: usize = (0..5).map(|_| certificates.poll().kept.len()).sum();
    assert_eq!(kept, 1, "a file that vanished");
    fs::write(&crt, &good_crt).expect("written");
    fs::write(&key, &good_key).expect("written");
    assert!(certificates.reload(hosts(), None).kept.is_empty());
    assert_eq!(served(&certificates, "a.example"), old);
}

#[test]
fn a_vanished_self_signed_certificate_is_not_made_anew_behind_the_clients_backs() {
    let dir = Scratch::new("vanished");
    let certificates = Certificates::open(vec![files(&dir, "a.example", true)], None).expect("made");
    let old = served(&certificates, "a.example");
    for file in ["a.example.crt", "a.example.key"] {
        fs::remove_file(dir.path(file)).expect("removed");
    }
    let kept: usize = (0..3).map(|_| certificates.poll().kept.len()).sum();
    assert_eq!(kept, 1);
    assert_eq!(served(&certificates, "a.example"), old);
    assert!(!dir.path("a.example.crt").exists());
}

#[test]
fn hosts_come_and_go_with_the_conf() {
    let dir = Scratch::new("hosts");
    let host = |name| files(&dir, name, true);
    let certificates = Certificates::open(vec![host("a.example"), host("b.example")], None).expect("made");
    let a = certificates.of_host("a.example").expect("a certificate");
    let done = certificates.reload(vec![host("a.example"), host("c.example")], Some("c.example"));
    assert_eq!(done.changed, ["c.example"]);
    assert!(certificates.of_host("b.example").is_none());
    let same = certificates.of_host("a.example").expect("a certificate");
    assert!(Arc::ptr_eq(&a, &same), "what did not change keeps its tickets");
    assert_eq!(certificates.default().expect("the default").host(), "c.example");
}

#[test]
fn the_end_is_announced_at_21_7_and_1_days() {
    let dir = Scratch::new("expiry");
    renew(&dir, "a.example", "90");
    let certificates = Certificates::open(vec![files(&dir, "a.example", false)], None).expect("read");
    let end = certificates.of_host("a.example").expect("a certificate").not_after();
    let at = |days: u64| certificates.warn_of_expiry(end - DAY * u32::try_from(days).expect("days")).len();
    let warned: Vec<usize> = [30, 22, 21, 20, 8, 7, 6, 2, 1, 1].into_iter().map(at).collect();
    assert_eq!(warned, [0, 0, 1, 0, 0, 1, 0, 0, 1, 0]);
    assert_eq!(certificates.warn_of_expiry(end + DAY), [("a.example".to_owned(), 0)]);
    assert!(certificates.warn_of_expiry(end + DAY * 2).is_empty());
}

#[test]
fn the_conf_says_where_the_files_are() {
    let conf = Conf::parse(
        "[server]\ncerts = 'elsewhere'\n[host.'a.example']\n[host.'b.example']\ncertificate = '/x/b.pem'\nkey = '/x/b.key'\n",
        "test",
    )
    .expect("a conf");
    let [a, b] = &HostFiles::of_conf(&conf)[..] else { panic!("two hosts") };
    assert_eq!((a.certificate.as_path(), a.generate), (Path::new("elsewhere/a.example.crt"), true));
    assert_eq!((b.key.as_path(), b.generate), (Path::new("/x/b.key"), false));
}

#[test]
fn services_have_files_of_their_own_which_servers_see_and_clients_do_not() {
    let dir = Scratch::new("services");
    for host in ["a.example", "rooms.a.example", "irc.elsewhere.example", "stranger.example", "b.a.example"] {
        renew(&dir, host, "90");
    }
    fs::write(dir.path("half.a.example.crt"), "no key beside it").expect("written");
    let conf = format!(
        "[server]\ncerts = '{}'\n[host.'a.example']\n[host.'b.a.example']\n[component.'irc.elsewhere.example']\nsecret = \
         '0123456789abcdef'\n",
        dir.0.display()
    );
    let conf = Conf::parse(&conf, "test").expect("a conf");
    let files = || HostFiles::of_conf(&conf);
    let found: Vec<_> = files().into_iter().map(|files| (files.host, files.service)).collect();
    let expected =
        [("a.example", false), ("b.a.example", false), ("irc.elsewhere.example", true), ("rooms.a.example", true)];
    assert_eq!(found, expected.map(|(host, service)| (host.to_owned(), service)));

    let lone = || files().into_iter().filter(|files| files.host != "b.a.example").collect();
    let certificates = Certificates::open(lone(), None).expect("read");
    let of_domain = |domain| certificates.of_domain(domain).map(|found| found.host().to_owned());
    assert_eq!(of_domain("rooms.a.example").as_deref(), Some("rooms.a.example"));
    assert_eq!(of_domain("irc.elsewhere.example").as_deref(), Some("irc.elsewhere.example"));
    assert!(certificates.of_host("rooms.a.example").is_none());
    assert_eq!(certificates.default().expect("the only host").host(), "a.example");

    // A service whose file is no good does with its host's, and the server starts.
    fs::write(dir.path("rooms.a.example.crt"), "broken").expect("written");
    let kept = certificates.reload(lone(), None).kept;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(of_domain("rooms.a.example").as_deref(), Some("rooms.a.example"), "that of before");
    let anew = Certificates::open(lone(), None).expect("read");
    assert_eq!(anew.of_domain("rooms.a.example").expect("a certificate").host(), "a.example");
    renew(&dir, "rooms.a.example", "91");
    assert_eq!((anew.poll().changed, anew.poll().changed), (vec![], vec!["rooms.a.example".to_owned()]));
    assert_eq!(anew.of_domain("rooms.a.example").expect("a certificate").host(), "rooms.a.example");
}
