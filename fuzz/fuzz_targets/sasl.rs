//! SASL exchanges fed with anything, both sides. No account has keys that a password fits, so an
//! exchange that succeeds is a bug.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::{
    ChannelBindings, ClientExchange, Credentials, Decoy, Exchange, Login, Mechanism, Offer, Policy,
    Secret, Server, Step, decode, decode_initial,
};

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let messages = || data.split(|byte| *byte == b'\n');
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = decode_initial(text);
        let _ = decode(text);
    }
    let bindings = if choice & 0x80 == 0 {
        ChannelBindings::default()
    } else {
        ChannelBindings {
            exporter: Some(Secret::new(&[1; 32])),
            end_point: None,
        }
    };
    let offer = Offer::new(Policy::CLIENTS, true, bindings.clone(), Vec::new());
    let mechanism = Mechanism::ALL[usize::from(choice & 0x3f) % Mechanism::ALL.len()];

    let Ok(host) = BareJid::new("localhost") else {
        return;
    };
    if let Ok(mut exchange) = Exchange::new(&offer, &host, mechanism.name()) {
        let decoy = Decoy {
            secret: Secret::new(b"secret"),
            iterations: 1,
        };
        let mut keys = Credentials::fake(b"another secret", "user@localhost", 1);
        keys.sha256.iterations = 1;
        keys.sha1.iterations = 1;
        for message in messages() {
            let step = match exchange.respond(Some(message)) {
                Ok(Step::NeedKeys(_)) => exchange.keys(Some(keys.clone()), &decoy),
                step => step,
            };
            match step {
                Ok(Step::Success { .. }) => panic!("success without credentials"),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }

    let login = Login {
        user: "user".to_owned(),
        password: "pencil".to_owned().into(),
        plain: true,
        external: false,
        only: Some(mechanism),
    };
    let server = Server {
        mechanisms: vec![mechanism.name().to_owned()],
        binding_types: Vec::new(),
    };
    if let Ok(mut client) = ClientExchange::new(login, server, true, &bindings) {
        let sends_password = mechanism == Mechanism::Plain;
        let _ = client.initial();
        for message in messages() {
            // A real server's count of iterations would only make the fuzzer slow.
            if message
                .windows(4)
                .any(|window| window.starts_with(b"i=") && window[2..] > b"09"[..])
            {
                return;
            }
            if client.challenge(message).is_err() {
                return;
            }
        }
        if !sends_password {
            assert!(
                client.success(Some(data)).is_err(),
                "a server that knows nothing"
            );
        }
    }
});
