//! A receiving stream fed with anything, whole and in pieces: it never panics, never opens without
//! credentials, and the way the bytes are cut changes nothing.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::sasl::{Decoy, Policy, Secret};
use rookery_xmpp::stream::{Config, Deadlines, Event, Host, Kind, Stream};

fn config(kind: Kind) -> Arc<Config> {
    Arc::new(Config {
        kind,
        starttls: false,
        require_tls: false,
        secured: true,
        policy: Policy::CLIENTS,
        decoy: Decoy {
            secret: Secret::new(b"secret"),
            iterations: 1,
        },
        auth_attempts: 5,
        pre_auth: Limits::pre_auth(),
        limits: Limits::c2s(),
        deadlines: Deadlines::default(),
    })
}

/// What happened, as text.
fn run(config: Arc<Config>, now: Instant, bytes: &[u8], piece: usize) -> Vec<String> {
    let mut stream = Stream::receiving(config, now);
    let (mut log, mut backlog) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        backlog.extend_from_slice(piece);
        loop {
            let taken = stream.handle_input(now, &backlog);
            backlog.drain(..taken);
            let mut quiet = taken == 0;
            while let Some(event) = stream.poll_event() {
                quiet = false;
                log.push(format!("{event:?}"));
                match event {
                    Event::Opened(_) => stream.handle_host(Ok(Host {
                        register: true,
                        ..Host::default()
                    })),
                    // No account exists; not asking keeps the fuzzer from hashing passwords.
                    Event::LookUp { .. } => stream.handle_keys(now, Err(())),
                    Event::Authenticated { .. } | Event::Bind { .. } | Event::Stanza(_) => {
                        panic!("opened without credentials")
                    }
                    _ => {}
                }
            }
            while stream.poll_transmit().is_some() {}
            if quiet {
                break;
            }
        }
    }
    assert!(!stream.is_open());
    log
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let config = config(if choice & 0x80 == 0 {
        Kind::C2s
    } else {
        Kind::S2s
    });
    let now = Instant::now();
    let whole = run(config.clone(), now, bytes, usize::MAX);
    let cut = run(config, now, bytes, usize::from(choice & 0x7f).max(1));
    assert_eq!(whole, cut);
});
