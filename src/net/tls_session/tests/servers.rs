//! Two servers shake hands: our client's side with our server's, and each with rustls' own other side.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::mem::size_of;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, SignatureScheme};

use super::*;
use crate::certificate::tests::openssl;
use crate::outgoing::OutgoingTls;
use crate::peer_certificate::{AnyCertificate, MAX_CERTIFICATES};
use crate::s2s::identity::tests::authority::{Authority, as_pem, dns};
use crate::tls::ALPN_SERVER;

fn certificates(dir: &Scratch, hosts: &[&str]) -> Arc<Certificates> {
    let hosts = hosts.iter().map(|host| files(dir, host)).collect();
    Arc::new(Certificates::open(hosts, None).expect("certificates"))
}

/// Two of our ends, and what they got.
struct Servers {
    caller: TlsSession,
    called: TlsSession,
    caller_got: Vec<u8>,
    called_got: Vec<u8>,
}

impl Servers {
    /// `local` of `calling` calls `remote` of `called`.
    fn new(calling: &Arc<Certificates>, called: &Arc<Certificates>, direct: bool, [local, remote]: [&str; 2]) -> Self {
        let outgoing = OutgoingTls::new(calling.clone()).expect("a configuration");
        let incoming = Tls::for_servers(called.clone()).expect("a configuration");
        let mut wire = Vec::new();
        let caller = TlsSession::client(&outgoing, direct, local, remote, &mut wire).expect("a session");
        let entry = if direct { Entry::Direct } else { Entry::StartTls { to: remote.into() } };
        let called = TlsSession::new(&incoming, entry).expect("a session");
        let mut this = Self { caller, called, caller_got: Vec::new(), called_got: Vec::new() };
        this.run(wire).expect("a handshake");
        this
    }

    /// Lets both talk, beginning with what the caller says.
    fn run(&mut self, mut to_called: Vec<u8>) -> Result<(), TlsError> {
        while !to_called.is_empty() {
            let to_caller = give(&mut self.called, &to_called, &mut self.called_got)?;
            to_called = give(&mut self.caller, &to_caller, &mut self.caller_got)?;
        }
        Ok(())
    }
}

/// Gives a session bytes, in pieces, and returns its answer.
fn give(session: &mut TlsSession, bytes: &[u8], got: &mut Vec<u8>) -> Result<Vec<u8>, TlsError> {
    let mut wire = Vec::new();
    for piece in bytes.chunks(1000) {
        let mut input = [session.unfinished(), piece].concat();
        while session.receive(&mut input, &mut wire, &mut |plain: &[u8]| got.extend_from_slice(plain))? {
            input = session.unfinished().to_vec();
        }
    }
    Ok(wire)
}

/// Our caller and rustls' own server, until neither has anything to say.
fn call(session: &mut TlsSession, mut wire: Vec<u8>, server: &mut ServerConnection) -> Result<(), TlsError> {
    let mut got = Vec::new();
    loop {
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).expect("read");
            // Its error becomes an alert, which is what counts here.
            let _ = server.process_new_packets();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).expect("written");
        }
        if answer.is_empty() {
            return Ok(());
        }
        wire = give(session, &answer, &mut got)?;
    }
}

/// Holds one certificate, whatever its key, on either side, and notes what it was asked for.
#[derive(Debug)]
struct Holder {
    key: Arc<CertifiedKey>,
    asked: AtomicBool,
}

impl Holder {
    fn new(chain: Vec<CertificateDer<'static>>, key: &rcgen::KeyPair) -> Arc<Self> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).expect("a key");
        Arc::new(Self { key: Arc::new(CertifiedKey::new(chain, key)), asked: AtomicBool::new(false) })
    }
}

impl ResolvesClientCert for Holder {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        assert!(hints.is_empty(), "a list of authorities would keep others' certificates away");
        self.asked.store(true, Ordering::Relaxed);
        Some(self.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Holder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.store(hello.server_name() == Some("xn--bcher-kva.example"), Ordering::Relaxed);
        Some(self.key.clone())
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A client of rustls' own that shows what `holder` holds.
fn showing(holder: &Arc<Holder>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&provider())))
        .with_client_cert_resolver(holder.clone());
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

/// A server of rustls' own that asks for no certificate.
fn serving(holder: &Arc<Holder>, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(holder.clone());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

fn held(names: &[&str]) -> Arc<Holder> {
    let names: Vec<_> = names.iter().map(|name| dns(name)).collect();
    let (der, key) = Authority::new("Test Root").issue_with_key(&names, |_| {});
    Holder::new(vec![der], &key)
}

#[test]
fn both_servers_see_each_others_certificate_and_keep_no_buffer() {
    let dir = Scratch::new("servers");
    let (ours, theirs) = (certificates(&dir, &["a.example", "b.example"]), certificates(&dir, &["bücher.example"]));
    for direct in [true, false] {
        let mut pair = Servers::new(&ours, &theirs, direct, ["b.example", "bücher.example"]);
        let own = |all: &Arc<Certificates>, host| all.of_host(host).expect("a certificate").key().cert.clone();
        assert_eq!(pair.caller.peer_chain(), own(&theirs, "bücher.example"));
        assert_eq!(pair.called.peer_chain(), own(&ours, "b.example"), "that of the domain that calls");
        for session in [&pair.caller, &pair.called] {
            let info = session.info().expect("secured");
            assert_eq!((info.version(), info.group()), (ProtocolVersion::TLSv1_3, Some(NamedGroup::X25519MLKEM768)));
            assert!(!info.resumed());
        }
        let text: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let mut wire = Vec::new();
        pair.caller.send(&text, &mut wire).expect("sent");
        pair.run(wire).expect("data");
        let mut wire = Vec::new();
        pair.called.send(b"<stream>", &mut wire).expect("sent");
        pair.called.close(&mut wire).expect("closed");
        give(&mut pair.caller, &wire, &mut pair.caller_got).expect("data");
        assert_eq!(pair.called_got, text);
        assert_eq!(pair.caller_got, b"<stream>");
        assert!(pair.caller.peer_closed() && !pair.called.peer_closed());
        for session in [&pair.caller, &pair.called] {
            assert_eq!((session.unfinished.capacity(), session.early.capacity()), (0, 0));
            assert!(session.handshake.is_none());
        }
    }
}

#[test]
fn a_connection_of_a_client_is_no_larger_for_the_sake_of_servers() {
    assert_eq!(size_of::<Side>(), size_of::<UnbufferedServerConnection>());
}

#[test]
fn servers_are_asked_for_a_certificate_and_clients_are_not() {
    let dir = Scratch::new("asked");
    let all = certificates(&dir, &["a.example"]);
    for versions in [BOTH, ONLY_12] {
        for (tls, is_asked) in [
            (Tls::for_clients(all.clone()).expect("a configuration"), false),
            (Tls::for_servers(all.clone()).expect("a configuration"), true),
        ] {
            let holder = held(&["other.example"]);
            let mut pair = Pair::new(&tls, Entry::Direct, &showing(&holder, versions), "a.example");
            pair.run().expect("a handshake");
            assert_eq!(holder.asked.load(Ordering::Relaxed), is_asked);
            let shown = if is_asked { &holder.key.cert[..] } else { &[] };
            assert_eq!(pair.server.peer_chain(), shown);
        }
    }
}

#[test]
fn a_server_without_a_certificate_is_let_in() {
    let dir = Scratch::new("none");
    let tls = Tls::for_servers(certificates(&dir, &["a.example"])).expect("a configuration");
    let mut pair = Pair::new(&tls, Entry::Direct, &trusting(&tls, &["a.example"], BOTH), "a.example");
    pair.run().expect("a handshake");
    assert!(pair.server.peer_chain().is_empty());
}

#[test]
fn a10_a_certificate_without_its_key_ends_the_handshake() {
    let dir = Scratch::new("stolen");
    let all = certificates(&dir, &["a.example"]);
    let tls = Tls::for_servers(all.clone()).expect("a configuration");
    let stolen = held(&["victim.example"]).key.cert.clone();
    let (_, own_key) = Authority::new("Test Root").issue_with_key(&[dns("mallory.example")], |_| {});
    for versions in [BOTH, ONLY_12] {
        let holder = Holder::new(stolen.clone(), &own_key);
        let mut pair = Pair::new(&tls, Entry::Direct, &showing(&holder, versions), "a.example");
        pair.run().expect_err("refused");
        assert!(pair.server.peer_chain().is_empty() && pair.server.info().is_none());

        // The same from the one that is called.
        let outgoing = OutgoingTls::new(all.clone()).expect("a configuration");
        let mut wire = Vec::new();
        let mut session =
            TlsSession::client(&outgoing, true, "a.example", "victim.example", &mut wire).expect("a session");
        let mut server = ServerConnection::new(Arc::new(serving(&holder, versions))).expect("a server");
        call(&mut session, wire, &mut server).expect_err("refused");
        assert!(session.peer_chain().is_empty() && session.info().is_none());
    }
}

#[test]
fn nothing_is_resumed_between_servers() {
    let dir = Scratch::new("full");
    let tls = Tls::for_servers(certificates(&dir, &["a.example"])).expect("a configuration");
    for versions in [BOTH, ONLY_12] {
        let holder = held(&["b.example"]);
        let config = showing(&holder, versions);
        for _ in 0..2 {
            let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
            pair.run().expect("a handshake");
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(pair.client.tls13_tickets_received(), 0);
            assert_eq!(pair.server.peer_chain().len(), 1);
        }
    }
}

#[test]
fn alpn_on_direct_tls_says_that_it_is_for_servers() {
    let dir = Scratch::new("alpn-servers");
    let all = certificates(&dir, &["a.example"]);
    let tls = Tls::for_servers(all.clone()).expect("a configuration");
    let mut config = trusting(&tls, &["a.example"], BOTH);
    for (offered, alert) in [
        (vec![ALPN_CLIENT.to_vec()], Some(AlertDescription::NoApplicationProtocol)),
        (vec![ALPN_SERVER.to_vec()], None),
        (vec![], None),
    ] {
        config.alpn_protocols = offered;
        let mut pair = Pair::new(&tls, Entry::Direct, &config, "a.example");
        assert_eq!(pair.run().is_err(), alert.is_some());
        assert_eq!(pair.alert(), alert);
    }
    for (spoken, direct, is_well) in [
        (Some(ALPN_SERVER), true, true),
        (Some(ALPN_CLIENT), true, false),
        (None, true, true),
        (Some(ALPN_CLIENT), false, true),
    ] {
        let outgoing = OutgoingTls::new(all.clone()).expect("a configuration");
        let mut config = serving(&held(&["b.example"]), BOTH);
        config.alpn_protocols = spoken.map(<[u8]>::to_vec).into_iter().collect();
        let mut server = ServerConnection::new(Arc::new(config)).expect("a server");
        let mut wire = Vec::new();
        let mut session =
            TlsSession::client(&outgoing, direct, "a.example", "b.example", &mut wire).expect("a session");
        assert_eq!(call(&mut session, wire, &mut server).is_ok(), is_well, "{spoken:?} {direct}");
        assert_eq!(server.alpn_protocol(), spoken.filter(|_| direct && is_well));
    }
}

#[test]
fn sni_is_the_domain_in_ascii_form() {
    let dir = Scratch::new("sni-servers");
    let outgoing = OutgoingTls::new(certificates(&dir, &["a.example"])).expect("a configuration");
    for versions in [BOTH, ONLY_12] {
        let holder = held(&["xn--bcher-kva.example"]);
        let mut server = ServerConnection::new(Arc::new(serving(&holder, versions))).expect("a server");
        let mut wire = Vec::new();
        let mut session =
            TlsSession::client(&outgoing, true, "a.example", "Bücher.example", &mut wire).expect("a session");
        call(&mut session, wire, &mut server).expect("a handshake");
        assert!(holder.asked.load(Ordering::Relaxed));
        assert_eq!(session.peer_chain(), holder.key.cert);
    }
    for (local, remote) in [("a.example", "[::1]"), ("a.example", "192.0.2.1")] {
        TlsSession::client(&outgoing, true, local, remote, &mut Vec::new()).expect("an address needs no SNI");
    }
    for (local, remote) in [("a.example", "not a domain"), ("a.example", ""), ("nobody.example", "b.example")] {
        let refused = TlsSession::client(&outgoing, true, local, remote, &mut Vec::new()).err().expect("refused");
        assert!(matches!(refused, TlsError::Refused(_)), "{refused}");
    }
}

#[test]
fn services_are_served_with_the_certificate_that_names_them_or_that_of_their_host() {
    let dir = Scratch::new("services");
    let authority = Authority::new("Test Root");
    for (host, names) in
        [("a.example", vec!["a.example"]), ("b.example", vec!["b.example", "*.b.example", "rooms.a.example"])]
    {
        let names: Vec<_> = names.into_iter().map(dns).collect();
        let (der, key) = authority.issue_with_key(&names, |_| {});
        std::fs::write(dir.path(&format!("{host}.crt")), as_pem(&[&der])).expect("written");
        std::fs::write(dir.path(&format!("{host}.key")), key.serialize_pem()).expect("written");
    }
    let all = certificates(&dir, &["a.example", "b.example"]);
    for (domain, host) in [
        ("a.example", Some("a.example")),
        ("A.example", Some("a.example")),
        ("rooms.b.example", Some("b.example")),
        ("rooms.a.example", Some("b.example")),
        ("files.a.example", Some("a.example")),
        ("xa.example", None),
        ("example", None),
        ("c.example", None),
    ] {
        assert_eq!(all.of_domain(domain).map(|found| found.host().to_owned()).as_deref(), host, "{domain}");
    }
    // Clients, who have no business there, get none.
    for (tls, is_well) in [
        (Tls::for_servers(all.clone()).expect("a configuration"), true),
        (Tls::for_clients(all.clone()).expect("a configuration"), false),
    ] {
        let config = showing(&held(&["x.example"]), BOTH);
        assert_eq!(Pair::new(&tls, Entry::Direct, &config, "rooms.b.example").run().is_ok(), is_well);
    }
}

#[test]
fn long_chains_are_taken_and_endless_ones_are_not() {
    let dir = Scratch::new("long");
    let tls = Tls::for_servers(certificates(&dir, &["a.example"])).expect("a configuration");
    let authority = Authority::new("Test Root");
    let padded = |bytes| {
        authority.issue_with_key(&[dns("b.example")], |params| {
            let padding = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0; bytes]);
            params.custom_extensions.push(padding);
        })
    };
    for (bytes, is_well) in [(30_000, true), (60_000, false)] {
        let (der, key) = padded(bytes);
        let mut pair = Pair::new(&tls, Entry::Direct, &showing(&Holder::new(vec![der], &key), BOTH), "a.example");
        pair.piece = 4096;
        let done = pair.run();
        assert_eq!(done.is_ok(), is_well, "{bytes}: {done:?}");
        assert!(pair.server.unfinished.capacity() <= MAX_HANDSHAKE);
    }
    let (der, key) = padded(10);
    for (number, is_well) in [(MAX_CERTIFICATES, true), (MAX_CERTIFICATES + 1, false)] {
        let mut chain = vec![der.clone()];
        chain.resize(number, authority.der.clone());
        let mut pair = Pair::new(&tls, Entry::Direct, &showing(&Holder::new(chain, &key), BOTH), "a.example");
        match pair.run() {
            Ok(()) => assert!(is_well),
            Err(error) => {
                assert!(!is_well);
                assert_eq!(error.to_string(), "the peer shows 11 certificates, more than 10");
            }
        }
    }
}

#[test]
fn a_certificate_that_tls_cannot_use_is_refused_in_plain_words() {
    let dir = Scratch::new("unfit");
    let tls = Tls::for_servers(certificates(&dir, &["a.example"])).expect("a configuration");
    let (_, key) = Authority::new("Test Root").issue_with_key(&[dns("b.example")], |_| {});
    let old = crate::s2s::identity::tests::authority::version_1("b.example");
    for (der, words) in [(old, "not of version 3"), (CertificateDer::from(vec![1, 2, 3]), "cannot be read")] {
        let mut pair = Pair::new(&tls, Entry::Direct, &showing(&Holder::new(vec![der], &key), BOTH), "a.example");
        let error = pair.run().expect_err("refused").to_string();
        assert!(error.starts_with("the peer's certificate") && error.contains(words), "{error}");
    }
}

/// Our side, calling, with OpenSSL's server.
fn call_openssl(dir: &Scratch, key: &[&str], how: &[&str]) -> Result<usize, TlsError> {
    let (crt, pem) = openssl(dir, "b.example", key, &["-addext", "basicConstraints=critical,CA:FALSE"]);
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cipher", "DEFAULT@SECLEVEL=0", "-cert"])
        .arg(&crt)
        .arg("-key")
        .arg(&pem)
        .args(how)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let lines = BufReader::new(server.stdout.take().expect("its output")).lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned));
    let mut tcp = TcpStream::connect(address.expect("a port")).expect("a connection");
    let outgoing = OutgoingTls::new(certificates(dir, &["a.example"])).expect("a configuration");
    let mut wire = Vec::new();
    let mut session = TlsSession::client(&outgoing, true, "a.example", "b.example", &mut wire).expect("a session");
    let done = loop {
        tcp.write_all(&wire).expect("written");
        if session.info().is_some() {
            break Ok(session.peer_chain().len());
        }
        let mut bytes = [0; 4096];
        let count = tcp.read(&mut bytes).expect("read");
        assert!(count > 0, "the server ended without a word");
        match give(&mut session, &bytes[..count], &mut Vec::new()) {
            Ok(answer) => wire = answer,
            Err(error) => break Err(error),
        }
    };
    let _ = server.kill();
    let _ = server.wait();
    done
}

#[test]
fn what_goes_wrong_with_openssl_is_said_in_plain_words() {
    let dir = Scratch::new("openssl-server");
    let rsa = |bits: &'static str| ["-newkey", bits];
    let chain = call_openssl(&dir, &rsa("rsa:2048"), &["-tls1_2"]).expect("a handshake");
    assert_eq!(chain, 1);
    for version in ["-tls1_2", "-tls1_3"] {
        let error = call_openssl(&dir, &rsa("rsa:1024"), &[version]).expect_err("refused").to_string();
        let words = "the peer's certificate has a key that is too weak: RSA of 1024 bits (\"x\"), 2048 are the least";
        assert_eq!(error, words, "{version}");
    }
    let error = call_openssl(&dir, &rsa("rsa:2048"), &["-tls1_1"]).expect_err("refused").to_string();
    assert_eq!(error, "the peer speaks no version of TLS that is accepted here (1.2 and 1.3)");
    let error = call_openssl(&dir, &rsa("rsa:2048"), &["-alpn", "h2"]).expect_err("refused").to_string();
    assert_eq!(error, "the peer serves something else than XMPP between servers there (ALPN)");
}

#[test]
fn what_is_no_tls_is_called_so() {
    let dir = Scratch::new("no-tls");
    let outgoing = OutgoingTls::new(certificates(&dir, &["a.example"])).expect("a configuration");
    let mut session =
        TlsSession::client(&outgoing, true, "a.example", "b.example", &mut Vec::new()).expect("a session");
    let said = give(&mut session, b"<?xml version='1.0'?><stream:stream>", &mut Vec::new());
    assert_eq!(said.expect_err("no TLS").to_string(), "what the peer says is not TLS");
    // Clients get rustls' words, as before.
    let tls = tls(&dir, &["a.example"]);
    let mut session = TlsSession::new(&tls, Entry::Direct).expect("a session");
    let said = give(&mut session, b"GET / HTTP/1.1\r\n\r\n", &mut Vec::new());
    assert!(matches!(said, Err(TlsError::Protocol(_))));
}

mod never_panics {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn on_damaged_answers(at in 0_usize..6000, with in 1_u8.., moment in 0_u8..3) {
            let dir = Scratch::new("damage-servers");
            let outgoing = OutgoingTls::new(certificates(&dir, &["a.example"])).expect("a configuration");
            let mut server = ServerConnection::new(Arc::new(serving(&held(&["b.example"]), BOTH))).expect("a server");
            let mut wire = Vec::new();
            let mut session = TlsSession::client(&outgoing, true, "a.example", "b.example", &mut wire).expect("a session");
            let mut got = Vec::new();
            for turn in 0..4 {
                server.read_tls(&mut &wire[..]).expect("read");
                let _ = server.process_new_packets();
                let mut answer = Vec::new();
                while server.wants_write() {
                    server.write_tls(&mut answer).expect("written");
                }
                if turn == moment && !answer.is_empty() {
                    let at = at % answer.len();
                    answer[at] ^= with;
                }
                match give(&mut session, &answer, &mut got) {
                    Ok(next) => wire = next,
                    Err(_) => break,
                }
                let _ = session.send(b"<presence/>", &mut wire);
            }
            let _ = session.close(&mut Vec::new());
        }
    }
}
