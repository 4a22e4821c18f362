//! What the log of a running server says of logins and ends, and what it must never say (security.md A21).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::sasl::{Decoy, Login, Mechanism, Policy, Secret};
use rookery_xmpp::stream::{Binding, Config, Deadlines, Event, Kind, Peer, Stream};

use crate::commands::{CANARY, Folder, Server};

/// Logs in over TCP; on the way out the client may say more. `false` when the password is wrong.
fn log_in(address: &str, password: &str, by: Mechanism, then: &str) -> bool {
    let config = Config {
        kind: Kind::C2s,
        starttls: false,
        require_tls: false,
        secured: true,
        policy: Policy::CLIENTS,
        decoy: Decoy { secret: Secret::new(&[0; 32]), iterations: 4096 },
        auth_attempts: 1,
        pre_auth: Limits::c2s(),
        limits: Limits::c2s(),
        deadlines: Deadlines::default(),
    };
    let user = BareJid::new("alice@localhost").unwrap();
    let login = Login {
        user: "alice".into(),
        password: password.to_owned().into(),
        plain: true,
        external: false,
        only: Some(by),
    };
    let peer = Peer { to: user.domain(), from: Some(user.into()), login: Some(login), binding: Binding::Any };
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut stream = Stream::initiating(Arc::new(config), Arc::new(peer), Instant::now());
    loop {
        while let Some(bytes) = stream.poll_transmit() {
            tcp.write_all(&bytes).unwrap();
        }
        match stream.poll_event() {
            Some(Event::Bound(_)) => break,
            Some(Event::AuthFailed { .. }) => return false,
            Some(Event::Closed(ending)) => panic!("{ending:?}"),
            Some(_) => continue,
            None => {}
        }
        let mut buffer = [0; 4096];
        let count = tcp.read(&mut buffer).unwrap();
        let mut rest = &buffer[..count];
        while !rest.is_empty() && !stream.is_busy() {
            rest = &rest[stream.handle_input(Instant::now(), rest)..];
        }
    }
    tcp.write_all(then.as_bytes()).unwrap();
    let mut answer = String::new();
    while !then.is_empty() && !answer.contains("</iq>") && !answer.contains("/>") {
        let mut buffer = [0; 4096];
        let count = tcp.read(&mut buffer).unwrap();
        assert!(count > 0, "{answer}");
        answer += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    assert!(then.is_empty() || answer.contains("type='result'"), "{answer}");
    tcp.write_all(b"</stream:stream>").unwrap();
    tcp.read_to_end(&mut Vec::new()).unwrap();
    true
}

/// Reads the log to its end beside the test, so that the server never waits for its reader.
fn read_on(server: &mut Server) -> JoinHandle<String> {
    let mut log = server.log.take().unwrap();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        log.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    })
}

/// The password as it is, and what of its base64 does not depend on what stands before and behind it.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for before in 0..3 {
        let padded = [&vec![0; before], secret.as_bytes()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.push(encoded.get(4..encoded.len() - 4).unwrap().to_owned());
        }
    }
    forms
}

#[test]
fn a21_no_password_is_in_the_finest_log_and_logins_and_ends_are_in_it() {
    let folder = Folder::new();
    let conf = "[log]\nlevel = \"trace\"\nformat = \"json\"\n[host.\"localhost\"]\n\
                [[listen]]\naddress = \"127.0.0.1:0\"\ntls = \"plain\"\nallow_plain_passwords = true\n";
    std::fs::write(folder.0.join("rookery.toml"), conf).unwrap();
    let mut server = Server::run(folder.command(&["serve"]).env("RUST_LOG", "trace"));
    let line = server.seen.lines().find(|line| line.contains("clients connect here")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    let reading = read_on(&mut server);

    let input = format!("{CANARY}\n");
    assert_eq!(folder.run(&["user", "add", "alice@localhost", "--password-stdin"], &input).0, 0);
    let changed = format!("{CANARY}-changed");
    let change = format!(
        "<iq id='c' type='set'><query xmlns='jabber:iq:register'><username>alice</username><password>{changed}</password></query></iq>"
    );
    assert!(log_in(&address, CANARY, Mechanism::Plain, ""));
    assert!(log_in(&address, CANARY, Mechanism::ScramSha256, ""));
    assert!(log_in(&address, CANARY, Mechanism::ScramSha1, &change));
    assert!(log_in(&address, &changed, Mechanism::ScramSha256, ""));
    for by in [Mechanism::Plain, Mechanism::ScramSha256] {
        assert!(!log_in(&address, &format!("{CANARY}-wrong"), by, ""));
    }
    assert_eq!(folder.run(&["user", "passwd", "alice@localhost", "--password-stdin"], &input).0, 0);
    assert!(log_in(&address, CANARY, Mechanism::Plain, ""));

    server.signal("-TERM");
    let log = std::mem::take(&mut server.seen) + &reading.join().unwrap();
    assert!(server.child.wait().unwrap().success());
    for form in forms(CANARY) {
        let line = log.lines().find(|line| line.contains(&form));
        assert_eq!(line, None, "{form}");
    }

    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |message: &'static str| lines.iter().filter(move |line| line["message"] == message);
    let logins: Vec<_> = said("logged in").map(|line| line["mechanism"].as_str().unwrap()).collect();
    assert_eq!(logins, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"]);
    let failures: Vec<_> = said("authentication failed").collect();
    assert_eq!(failures.len(), 2);
    for line in said("logged in").chain(said("authentication failed")) {
        assert_eq!((&line["level"], &line["jid"]), (&"INFO".into(), &"alice@localhost".into()), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        // Where there is a span, it says the same.
        assert_eq!(line["span"]["id"], line["stream"], "{line}");
    }
    assert_eq!(failures[1]["mechanism"], "SCRAM-SHA-256");
    let ends: Vec<_> = said("disconnected").collect();
    assert_eq!(ends.len(), 5);
    for line in ends {
        assert_eq!(line["reason"], "closed by the client");
        assert!(line["jid"].as_str().unwrap().starts_with("alice@localhost/"), "{line}");
        let begin = said("logged in").find(|begin| begin["stream"] == line["stream"]);
        assert!(begin.is_some_and(|begin| begin["peer"] == line["peer"]), "{line}");
    }
}

#[test]
fn t11_the_end_is_soon_with_idle_clients_and_at_once_when_it_is_asked_for_twice() {
    let folder = Folder::new();
    for signals in [1, 2] {
        let mut server = Server::run(&mut folder.command(&["serve"]));
        let line = server.seen.lines().find(|line| line.contains("clients connect here")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let address = line["address"].as_str().unwrap();
        let mut idle = TcpStream::connect(address).unwrap();
        idle.write_all(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>")
            .unwrap();
        idle.read_exact(&mut [0; 100]).unwrap();
        let start = Instant::now();
        server.signal("-TERM");
        server.read_until("ending; once more ends at once");
        if signals == 2 {
            server.signal("-TERM");
        }
        let status = server.child.wait().unwrap();
        assert_eq!(status.code(), Some(signals - 1), "the second time it does not wait");
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
}
