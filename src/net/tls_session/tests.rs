//! Handshakes and data between rustls' own client and our server side, in memory.

mod servers;

use std::io::{Read, Write};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore,
    SupportedProtocolVersion,
};

use super::*;
use crate::certificate::tests::Scratch;
use crate::certs::{Certificates, HostFiles};
use crate::tls::ALPN_CLIENT;

fn files(dir: &Scratch, host: &str) -> HostFiles {
    HostFiles {
        host: host.to_owned(),
        certificate: dir.path(&format!("{host}.crt")),
        key: dir.path(&format!("{host}.key")),
        generate: true,
        service: false,
    }
}

/// TLS for these hosts, with certificates made for the test.
fn tls(dir: &Scratch, hosts: &[&str]) -> Tls {
    let hosts = hosts.iter().map(|host| files(dir, host)).collect();
    let certificates = Certificates::open(hosts, None).expect("certificates");
    Tls::for_clients(Arc::new(certificates)).expect("a configuration")
}

/// A client that trusts the certificates of these hosts.
fn trusting(tls: &Tls, hosts: &[&str], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for host in hosts {
        let certificate = tls.certificates().of_host(host).expect("a certificate");
        roots.add(certificate.key().cert[0].clone()).expect("a root");
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

struct Pair {
    client: ClientConnection,
    server: TlsSession,
    /// Plaintext that the server got, and whether it was secured meanwhile.
    got: Vec<u8>,
    secured: bool,
    /// Plaintext that the client got.
    client_got: Vec<u8>,
    /// What the client's side ran into.
    client_error: Option<rustls::Error>,
    /// Bytes that the server is given at a time.
    piece: usize,
}

impl Pair {
    fn new(tls: &Tls, entry: Entry, config: &ClientConfig, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self {
            client: ClientConnection::new(Arc::new(config.clone()), name).expect("a client"),
            server: TlsSession::new(tls, entry).expect("a session"),
            got: Vec::new(),
            secured: false,
            client_got: Vec::new(),
            client_error: None,
            piece: usize::MAX,
        }
    }

    fn server_gets(&mut self, bytes: &[u8]) -> Result<Vec<u8>, TlsError> {
        let mut wire = Vec::new();
        for piece in bytes.chunks(self.piece.min(bytes.len().max(1))) {
            let mut input = [self.server.unfinished(), piece].concat();
            loop {
                let got = &mut self.got;
                let result =
                    self.server.receive(&mut input, &mut wire, &mut |plain: &[u8]| got.extend_from_slice(plain));
                if result.is_err() {
                    self.client_gets(&wire);
                }
                if !result? {
                    break;
                }
                assert!(!self.secured, "secured once");
                self.secured = true;
                input = self.server.unfinished().to_vec();
            }
        }
        Ok(wire)
    }

    fn client_gets(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.client_error.is_none() {
            self.client.read_tls(&mut bytes).expect("read");
            self.client_error = self.client.process_new_packets().err();
            let mut record = [0; 1 << 15];
            let count = self.client.reader().read(&mut record).unwrap_or(0);
            self.client_got.extend_from_slice(&record[..count]);
        }
    }

    fn client_sends(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("written");
        }
        bytes
    }

    /// Both sides talk until neither has anything to say.
    fn run(&mut self) -> Result<(), TlsError> {
        loop {
            let bytes = self.client_sends();
            if bytes.is_empty() {
                return Ok(());
            }
            let wire = self.server_gets(&bytes)?;
            self.client_gets(&wire);
        }
    }

    fn client_reads(&mut self) -> Vec<u8> {
        mem::take(&mut self.client_got)
    }

    fn say(&mut self, text: &[u8]) {
        self.client.writer().write_all(text).expect("written");
    }

    fn info(&self) -> &TlsInfo {
        self.server.info().expect("secured")
    }

    fn alert(&self) -> Option<AlertDescription> {
        match self.client_error {
            Some(rustls::Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }

    fn exported(&self) -> [u8; 32] {
        self.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).expect("exported")
    }
}

fn digest_of_peer_certificate(client: &ClientConnection) -> Vec<u8> {
    let certificate = &client.peer_certificates().expect("a certificate")[0];
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate).as_ref().to_vec()
}

#[test]
fn tls13_is_post_quantum_and_both_bindings_agree() {
    let dir = Scratch::new("tls13");
    let tls = tls(&dir, &["a.example"]);
    let mut config = trusting(&tls, &["a.example"], BOTH);
    config.alpn_protocols = vec![b"h2".to_vec(), ALPN_CLIENT.to_vec()];
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    pair.run().expect("a handshake");
    let info = pair.info();
    assert_eq!(info.version(), ProtocolVersion::TLSv1_3);
    assert_eq!(info.group(), Some(NamedGroup::X25519MLKEM768));
    assert!(info.is_for("a.example") && !info.is_for("b.example"));
    assert_eq!(info.tls_exporter(), Some(&pair.exported()[..]));
    assert_eq!(info.tls_server_end_point(), Some(&digest_of_peer_certificate(&pair.client)[..]));
    assert_eq!(pair.client.alpn_protocol(), Some(ALPN_CLIENT));
}

#[test]
fn the_exporter_agrees_with_sha256_suites_too() {
    let dir = Scratch::new("exporter");
    let tls = tls(&dir, &["a.example"]);
    for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
        if suite.tls13().is_none() {
            continue;
        }
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![*suite];
        let mut roots = RootCertStore::empty();
        let certificate = tls.certificates().of_host("a.example").expect("a certificate");
        roots.add(certificate.key().cert[0].clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
        pair.run().expect("a handshake");
        assert_eq!(pair.info().tls_exporter(), Some(&pair.exported()[..]), "{suite:?}");
    }
}

#[test]
fn a_client_that_must_try_another_key_share_gets_the_same_certificate() {
    let dir = Scratch::new("retry");
    let hosts = ["a.example", "b.example"];
    let tls = tls(&dir, &hosts);
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![rustls::crypto::aws_lc_rs::kx_group::MLKEM1024, rustls::crypto::aws_lc_rs::kx_group::SECP384R1];
    let mut roots = RootCertStore::empty();
    let certificate = tls.certificates().of_host("b.example").expect("a certificate");
    roots.add(certificate.key().cert[0].clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "b.example");
    pair.run().expect("a handshake");
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    assert_eq!(pair.info().group(), Some(NamedGroup::secp384r1));
    assert!(pair.info().is_for("b.example"));
    assert_eq!(pair.info().tls_exporter(), Some(&pair.exported()[..]));
}

#[test]
fn tls12_works_and_offers_the_end_point_alone() {
    let dir = Scratch::new("tls12");
    let tls = tls(&dir, &["a.example"]);
    let config = trusting(&tls, &["a.example"], ONLY_12);
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    pair.run().expect("a handshake");
    assert_eq!(pair.info().version(), ProtocolVersion::TLSv1_2);
    assert_eq!(pair.info().tls_exporter(), None);
    assert_eq!(pair.info().tls_server_end_point(), Some(&digest_of_peer_certificate(&pair.client)[..]));
    pair.say(b"<stream>");
    pair.run().expect("data");
    assert_eq!(pair.got, b"<stream>");
}

#[test]
fn alpn_of_another_protocol_is_refused_and_none_is_not() {
    let dir = Scratch::new("alpn");
    let tls = tls(&dir, &["a.example"]);
    let mut config = trusting(&tls, &["a.example"], BOTH);
    for (offered, alert) in [
        (vec![b"h2".to_vec(), b"http/1.1".to_vec()], Some(AlertDescription::NoApplicationProtocol)),
        (vec![b"xmpp-server".to_vec()], Some(AlertDescription::NoApplicationProtocol)),
        (vec![], None),
    ] {
        config.alpn_protocols = offered;
        let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
        assert_eq!(pair.run().is_err(), alert.is_some());
        assert_eq!(pair.alert(), alert);
    }
    // STARTTLS has no use for ALPN and does not mind it.
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut pair = Pair::new(&tls, Entry::StartTls { to: "a.example".into() }, &config, "a.example");
    pair.run().expect("a handshake");
}

#[test]
fn sni_chooses_the_certificate_and_an_unknown_name_gets_an_alert() {
    let dir = Scratch::new("sni");
    let hosts = ["a.example", "bücher.example"];
    let tls = tls(&dir, &hosts);
    let config = trusting(&tls, &hosts, BOTH);
    for name in ["a.example", "xn--bcher-kva.example"] {
        let mut pair = Pair::new(&tls, Entry::Direct, &config, name);
        pair.run().expect("a handshake");
        assert_eq!(pair.info().certificate().host(), name);
    }
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "c.example");
    let error = pair.run().expect_err("no such host");
    assert!(error.to_string().contains("c.example"), "{error}");
    assert_eq!(pair.alert(), Some(AlertDescription::AccessDenied));
    assert_eq!(pair.client.peer_certificates(), None, "no other domain's certificate");
}

#[test]
fn without_sni_only_a_lone_or_default_domain_answers() {
    let dir = Scratch::new("no-sni");
    let (one, two) = (tls(&dir, &["a.example"]), tls(&dir, &["a.example", "b.example"]));
    let mut config = trusting(&two, &["a.example", "b.example"], BOTH);
    config.enable_sni = false;
    let mut pair = Pair::new(&one, Entry::Direct, &config, "a.example");
    pair.run().expect("a handshake");
    let mut pair = Pair::new(&two, Entry::Direct, &config, "a.example");
    pair.run().expect_err("which of the two?");
    assert_eq!(pair.alert(), Some(AlertDescription::AccessDenied));
    let done = two.certificates().reload(vec![files(&dir, "a.example"), files(&dir, "b.example")], Some("b.example"));
    assert!(done.kept.is_empty());
    let mut pair = Pair::new(&two, Entry::Direct, &config, "b.example");
    pair.run().expect("a handshake");
    assert_eq!(pair.info().certificate().host(), "b.example");
}

#[test]
fn with_starttls_the_stream_names_the_domain() {
    let dir = Scratch::new("starttls-sni");
    let hosts = ["a.example", "b.example"];
    let tls = tls(&dir, &hosts);
    let mut config = trusting(&tls, &hosts, BOTH);
    let to = |host: &str| Entry::StartTls { to: host.into() };
    // The name of the machine, from SRV, is none of ours: the stream's `to` counts. The client does not like it.
    let mut pair = Pair::new(&tls, to("b.example"), &config, "xmpp.machine.example");
    let _ = pair.run();
    assert!(matches!(pair.client_error, Some(rustls::Error::InvalidCertificate(_))), "{:?}", pair.client_error);
    config.enable_sni = false;
    let mut pair = Pair::new(&tls, to("b.example"), &config, "b.example");
    pair.run().expect("a handshake");
    assert!(pair.info().is_for("b.example"));
}

#[test]
fn a_ticket_resumes_with_its_own_certificate_only() {
    for versions in [BOTH, ONLY_12] {
        let dir = Scratch::new("resume");
        let tls = tls(&dir, &["a.example"]);
        let mut config = trusting(&tls, &["a.example"], versions);
        config.resumption = Resumption::in_memory_sessions(8);
        let mut first = Pair::new(&tls, Entry::Direct, &config, "a.example");
        first.run().expect("a handshake");
        assert!(!first.info().resumed());

        let mut second = Pair::new(&tls, Entry::Direct, &config, "a.example");
        second.run().expect("a handshake");
        assert!(second.info().resumed());
        assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed));
        let binding = second.info().tls_exporter().map(<[u8]>::to_vec);
        if versions.len() == BOTH.len() {
            assert_eq!(binding.as_deref(), Some(&second.exported()[..]));
            assert_ne!(binding.as_deref(), first.info().tls_exporter());
        }

        // A new certificate: what the client still has is no longer taken.
        for file in ["a.example.crt", "a.example.key"] {
            std::fs::remove_file(dir.path(file)).expect("removed");
        }
        let files = files(&dir, "a.example");
        crate::selfsigned::generate(
            "a.example",
            "a.example",
            &files.certificate,
            &files.key,
            std::time::SystemTime::now(),
        )
        .expect("generated");
        assert_eq!(tls.certificates().reload(vec![files], None).changed, ["a.example"]);
        let mut third = Pair::new(&tls, Entry::Direct, &config, "a.example");
        let _ = third.run();
        assert!(third.client_error.is_some(), "a full handshake, with a certificate that this client does not trust");
    }
}

#[test]
fn cut_into_single_bytes_it_is_the_same() {
    let dir = Scratch::new("bytes");
    let tls = tls(&dir, &["a.example"]);
    let config = trusting(&tls, &["a.example"], BOTH);
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    pair.piece = 1;
    pair.run().expect("a handshake");
    let text: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    pair.say(&text);
    pair.run().expect("data");
    assert_eq!(pair.got, text);
    assert_eq!(pair.server.unfinished.capacity(), 0, "nothing is kept while idle");
    assert_eq!(pair.server.early.capacity(), 0);
    assert!(pair.server.handshake.is_none());
}

#[test]
fn data_behind_the_handshake_waits_for_its_turn() {
    let dir = Scratch::new("early");
    let tls = tls(&dir, &["a.example"]);
    let config = trusting(&tls, &["a.example"], BOTH);
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    let hello = pair.client_sends();
    let wire = pair.server_gets(&hello).expect("hello");
    pair.client_gets(&wire);
    // The client's Finished and its first two records, in one piece.
    pair.say(b"<stream>");
    pair.say(b"<auth/>");
    let mut bytes = pair.client_sends();
    let mut wire = Vec::new();
    let secured = pair
        .server
        .receive(&mut bytes, &mut wire, &mut |_| panic!("not before the driver knows of TLS"))
        .expect("finished");
    assert!(secured && pair.server.has_more());
    // Writing now must not lose what is there.
    pair.server.send(b"<features/>", &mut wire).expect("sent");
    let mut got = pair.server.take_early();
    let mut rest = pair.server.unfinished().to_vec();
    pair.server.receive(&mut rest, &mut wire, &mut |plain: &[u8]| got.extend_from_slice(plain)).expect("received");
    assert_eq!(got, b"<stream><auth/>");
    assert!(!pair.server.has_more());
    pair.client_gets(&wire);
    assert_eq!(pair.client_reads(), b"<features/>");
}

#[test]
fn writing_amid_an_unfinished_record() {
    let dir = Scratch::new("amid");
    let tls = tls(&dir, &["a.example"]);
    let config = trusting(&tls, &["a.example"], BOTH);
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    pair.run().expect("a handshake");
    pair.say(b"<presence/>");
    let record = pair.client_sends();
    let (head, tail) = record.split_at(7);
    let wire = pair.server_gets(head).expect("a piece");
    assert!(wire.is_empty() && pair.got.is_empty());
    let mut wire = Vec::new();
    let long = vec![b'x'; 100_000];
    pair.server.send(&long, &mut wire).expect("sent");
    pair.client_gets(&wire);
    assert_eq!(pair.client_reads(), long);
    pair.server_gets(tail).expect("the rest");
    assert_eq!(pair.got, b"<presence/>");
}

#[test]
fn both_sides_say_when_they_close() {
    let dir = Scratch::new("close");
    let tls = tls(&dir, &["a.example"]);
    let config = trusting(&tls, &["a.example"], BOTH);
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    let mut wire = Vec::new();
    assert!(pair.server.close(&mut wire).is_err(), "nothing to say before the handshake");
    pair.run().expect("a handshake");
    pair.say(b"</stream>");
    pair.client.send_close_notify();
    pair.run().expect("the end");
    assert_eq!(pair.got, b"</stream>");
    assert!(pair.server.peer_closed());
    pair.server.send(b"</stream>", &mut wire).expect("we may still speak");
    pair.server.close(&mut wire).expect("closed");
    pair.client_gets(&wire);
    assert_eq!(pair.client_reads(), b"</stream>");
    assert!(pair.client.process_new_packets().expect("no error").peer_has_closed());
    assert!(pair.server.send(b"more", &mut wire).is_err());
}

#[test]
fn plaintext_on_a_tls_port_is_an_error_with_an_alert() {
    let dir = Scratch::new("garbage");
    let tls = tls(&dir, &["a.example"]);
    for text in [&b"<?xml version='1.0'?><stream:stream to='a.example'>"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 64]] {
        let mut session = TlsSession::new(&tls, Entry::Direct).expect("a session");
        let mut wire = Vec::new();
        session.receive(&mut text.to_vec(), &mut wire, &mut |_| {}).expect_err("not TLS");
        assert_eq!(wire.first(), Some(&21), "an alert record");
        // Dead is dead, and says so again.
        session.receive(&mut text.to_vec(), &mut Vec::new(), &mut |_| {}).expect_err("dead");
        session.send(b"x", &mut wire).expect_err("dead");
    }
}

#[test]
fn b13_a_flood_of_key_updates_ends_the_connection() {
    let dir = Scratch::new("key-update");
    let tls = tls(&dir, &["a.example"]);
    let config = trusting(&tls, &["a.example"], BOTH);
    let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
    pair.run().expect("a handshake");
    for n in 0..3 {
        pair.client.refresh_traffic_keys().expect("a key update");
        pair.say(b"<r/>");
        pair.run().expect("fine now and then");
        let mut wire = Vec::new();
        pair.server.send(b"<a/>", &mut wire).expect("sent");
        pair.client_gets(&wire);
        assert_eq!(pair.client_reads(), b"<a/>", "{n}");
    }
    let refused = (0..1000).any(|_| {
        pair.client.refresh_traffic_keys().expect("a key update");
        pair.run().is_err()
    });
    assert!(refused);
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    let dir = Scratch::new("endless");
    let tls = tls(&dir, &["a.example"]);
    let mut session = TlsSession::new(&tls, Entry::Direct).expect("a session");
    // Records that all belong to one ClientHello of 60,000 bytes.
    let mut record = vec![22, 3, 1, 0x10, 0x00];
    record.resize(5 + 0x1000, 0);
    record[5..9].copy_from_slice(&[1, 0, 0xea, 0x60]);
    for n in 0..10 {
        let mut input = [session.unfinished(), &record].concat();
        if session.receive(&mut input, &mut Vec::new(), &mut |_| {}).is_err() {
            assert!(n >= 3, "a long one is read for a while");
            assert!(session.unfinished().len() <= MAX_UNFINISHED);
            return;
        }
    }
    panic!("never refused");
}

mod never_panics {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn on_damaged_input(at in 0_usize..4000, with in any::<u8>(), piece in 1_usize..600, moment in 0_u8..3) {
            let dir = Scratch::new("damage");
            let tls = tls(&dir, &["a.example"]);
            let config = trusting(&tls, &["a.example"], BOTH);
            let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
            pair.piece = piece;
            for turn in 0..4 {
                if turn == 2 {
                    pair.say(b"<message/>");
                    let _ = pair.client.refresh_traffic_keys();
                }
                let mut bytes = pair.client_sends();
                if turn == moment && !bytes.is_empty() {
                    let at = at % bytes.len();
                    bytes[at] ^= with;
                }
                let Ok(mut wire) = pair.server_gets(&bytes) else { break };
                let _ = pair.server.send(b"<presence/>", &mut wire);
                pair.client_gets(&wire);
            }
            let _ = pair.server.close(&mut Vec::new());
        }
    }
}
