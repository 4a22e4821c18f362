//! Whole exchanges, server against client and server against liars.

use zeroize::Zeroizing;

use super::{
    BindingType, ChannelBindings, ClientError, ClientExchange, Credentials, Decoy, Exchange, Hash, Login, Mechanism,
    Offer, Policy, ScramKeys, Secret, Server, Step, decode, decode_initial,
};
use crate::{
    error::SaslCondition::{self, *},
    jid::BareJid,
};

fn host() -> BareJid {
    BareJid::new("localhost").unwrap()
}

fn bindings() -> ChannelBindings {
    ChannelBindings { exporter: Some(Secret::new(&[0xe1; 32])), end_point: Some(Secret::new(&[0xe2; 32])) }
}

fn offer() -> Offer {
    Offer::new(Policy::CLIENTS, true, bindings(), Vec::new())
}

/// Few rounds: the tests are about the exchange.
fn credentials(password: &str) -> Credentials {
    Credentials {
        sha256: ScramKeys::derive(Hash::Sha256, password, b"salt of sha-256!", 3).unwrap(),
        sha1: ScramKeys::derive(Hash::Sha1, password, b"salt of sha-1!!!", 3).unwrap(),
    }
}

fn decoy() -> Decoy {
    Decoy { secret: Secret::new(b"server secret"), iterations: 10_000 }
}

fn begin(offer: &Offer, mechanism: &str, initial: &str) -> Result<(Exchange, Step), SaslCondition> {
    let mut exchange = Exchange::new(offer, &host(), mechanism).map_err(|error| error.condition)?;
    let step = exchange.respond(Some(initial.as_bytes())).map_err(|error| error.condition)?;
    Ok((exchange, step))
}

fn refused(offer: &Offer, mechanism: &str, initial: &str) -> SaslCondition {
    begin(offer, mechanism, initial).map(|(_, step)| step).expect_err(initial)
}

fn login(password: &str) -> Login {
    Login {
        user: "user".to_owned(),
        password: Zeroizing::new(password.to_owned()),
        plain: true,
        external: false,
        only: None,
    }
}

fn announced(offer: &Offer) -> Server {
    Server {
        mechanisms: offer.mechanisms().iter().map(|m| m.name().to_owned()).collect(),
        binding_types: offer.binding_types().iter().map(|t| t.name().to_owned()).collect(),
    }
}

/// Runs a whole exchange; the account `user` has the password `pencil`.
fn run(login: Login, offer: &Offer, seen: Server, client: &ChannelBindings) -> Result<String, String> {
    let mut client = ClientExchange::new(login, seen, true, client).map_err(|error| format!("client: {error:?}"))?;
    let server = |error: crate::error::SaslError| format!("server: {}", error.condition);
    let mut exchange = Exchange::new(offer, &host(), client.mechanism().name()).map_err(server)?;
    let mut step = exchange.respond(Some(&client.initial())).map_err(server)?;
    loop {
        step = match step {
            Step::Challenge(data) => {
                let answer = client.challenge(&data).map_err(|error| format!("client: {error:?}"))?;
                exchange.respond(Some(&answer)).map_err(server)?
            }
            Step::NeedKeys(user) => {
                let known = user.as_str() == "user@localhost";
                exchange.keys(known.then(|| credentials("pencil")), &decoy()).map_err(server)?
            }
            Step::Success { identity, data } => {
                let mechanism = client.mechanism();
                client.success(data.as_deref()).map_err(|error| format!("client: {error:?}"))?;
                return Ok(format!("{identity} {mechanism}"));
            }
        };
    }
}

#[test]
fn every_mechanism_lets_the_right_password_in_and_no_other() {
    for mechanism in Mechanism::ALL.into_iter().filter(|mechanism| *mechanism != Mechanism::External) {
        let only = |password| Login { only: Some(mechanism), ..login(password) };
        // A client that binds no channel says so; one that could, and sees -PLUS, says n as well.
        let offer = offer();
        let expected = Ok(format!("user@localhost {mechanism}"));
        assert_eq!(run(only("pencil"), &offer, announced(&offer), &bindings()), expected);
        let wrong = run(only("Pencil"), &offer, announced(&offer), &bindings());
        assert_eq!(wrong, Err("server: not-authorized".to_owned()), "{mechanism}");
    }
}

#[test]
fn the_strongest_mechanism_both_sides_know_is_used() {
    let check = |offer: &Offer, bindings: ChannelBindings, expected: &str| {
        assert_eq!(run(login("pencil"), offer, announced(offer), &bindings), Ok(format!("user@localhost {expected}")));
    };
    check(&offer(), bindings(), "SCRAM-SHA-256-PLUS");
    check(&offer(), ChannelBindings::default(), "SCRAM-SHA-256");
    check(&offer(), ChannelBindings { exporter: None, ..bindings() }, "SCRAM-SHA-256-PLUS");
    let unbound = Offer::new(Policy::CLIENTS, true, ChannelBindings::default(), Vec::new());
    check(&unbound, bindings(), "SCRAM-SHA-256");
    let none = run(login("pencil"), &Offer::default(), Server::default(), &bindings());
    assert_eq!(none, Err("client: NoMechanism".to_owned()));
}

/// RFC 5802, section 5, and RFC 7677, section 3, from both sides.
#[test]
fn scram_vectors() {
    struct Vector {
        hash: Hash,
        mechanism: Mechanism,
        salt: &'static str,
        client: &'static str,
        server: &'static str,
        proof: &'static str,
        signature: &'static str,
    }
    for v in [
        Vector {
            hash: Hash::Sha1,
            mechanism: Mechanism::ScramSha1,
            salt: "QSXCR+Q6sek8bf92",
            client: "fyko+d2lbbFgONRv9qkxdawL",
            server: "3rfcNHYJY1ZVvWVs7j",
            proof: "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            signature: "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        },
        Vector {
            hash: Hash::Sha256,
            mechanism: Mechanism::ScramSha256,
            salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
            client: "rOprNGfwEbeRWgbNEkqO",
            server: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        },
    ] {
        let offer = Offer::new(Policy::CLIENTS, true, ChannelBindings::default(), Vec::new());
        let keys = ScramKeys::derive(v.hash, "pencil", &decode(v.salt).unwrap(), 4096).unwrap();
        let credentials = Credentials { sha256: keys.clone(), sha1: keys };
        let mut server = Exchange::new(&offer, &host(), v.mechanism.name()).unwrap();
        server.nonce = v.server.to_owned();
        server.announces_hash = false;
        let only = Login { only: Some(v.mechanism), ..login("pencil") };
        let mut client = ClientExchange::new(only, announced(&offer), true, &ChannelBindings::default()).unwrap();
        client.nonce = v.client.to_owned();

        let initial = client.initial();
        assert_eq!(initial, format!("n,,n=user,r={}", v.client).into_bytes());
        assert!(matches!(server.respond(Some(&initial)), Ok(Step::NeedKeys(_))));
        let Ok(Step::Challenge(challenge)) = server.keys(Some(credentials), &decoy()) else { panic!("no challenge") };
        let nonce = format!("{}{}", v.client, v.server);
        assert_eq!(challenge, format!("r={nonce},s={},i=4096", v.salt).into_bytes());
        let answer = client.challenge(&challenge).unwrap();
        assert_eq!(answer, format!("c=biws,r={nonce},p={}", v.proof).into_bytes());
        let Ok(Step::Success { data, .. }) = server.respond(Some(&answer)) else { panic!("no success") };
        assert_eq!(data, Some(format!("v={}", v.signature).into_bytes()));
        assert_eq!(client.success(data.as_deref()), Ok(()));
    }
}

#[test]
fn a1_authzid_of_another_user_is_refused() {
    // A trailing dot is no part of a domain (RFC 7622, section 3.2).
    let accepted = ["user@localhost", "USER@LocalHost", "user@localhost."];
    let refused_ones = [
        "other@localhost",
        "user@example.org",
        "nobody@localhost",
        "user@localhost/desktop",
        "user",
        "localhost",
        "@localhost",
        "user@localhost@localhost",
        "user@localhost..",
        "admin",
        " user@localhost",
    ];
    type Message = fn(&str) -> (&'static str, String);
    let messages: [Message; 3] = [
        |authzid| ("PLAIN", format!("{authzid}\0user\0pencil")),
        |authzid| ("SCRAM-SHA-256", format!("n,a={authzid},n=user,r=x")),
        |authzid| ("SCRAM-SHA-1-PLUS", format!("p=tls-exporter,a={authzid},n=user,r=x")),
    ];
    for message in messages {
        for authzid in accepted {
            let (mechanism, text) = message(authzid);
            let (_, step) = begin(&offer(), mechanism, &text).unwrap();
            assert!(matches!(step, Step::NeedKeys(user) if user.as_str() == "user@localhost"), "{text}");
        }
        for authzid in refused_ones {
            let (mechanism, text) = message(authzid);
            assert_eq!(refused(&offer(), mechanism, &text), InvalidAuthzid, "{text}");
        }
    }
    // A NUL cannot smuggle a second name in.
    assert_eq!(refused(&offer(), "PLAIN", "user@localhost\0other\0\0pencil"), MalformedRequest);
    assert_eq!(refused(&offer(), "PLAIN", "\0user\0pencil\0other"), MalformedRequest);
    assert_eq!(refused(&offer(), "SCRAM-SHA-1", "n,,n=user\0other,r=x"), MalformedRequest);
}

#[test]
fn a1_a_certificate_proves_what_it_names_and_no_more() {
    let jid = |text: &str| BareJid::new(text).unwrap();
    let check = |proven: &[&str], authzid: &str| {
        let external = proven.iter().map(|text| jid(text)).collect();
        let offer = Offer::new(Policy::SERVERS, true, ChannelBindings::default(), external);
        let (mut exchange, step) = begin(&offer, "EXTERNAL", authzid)?;
        match step {
            Step::Success { identity, .. } => Ok(identity.to_string()),
            Step::NeedKeys(user) if user.as_str() == "user@localhost" => {
                let step = exchange.keys(Some(credentials("pencil")), &decoy());
                assert!(matches!(step, Ok(Step::Success { identity, .. }) if identity.as_str() == "user@localhost"));
                Ok("user".to_owned())
            }
            Step::NeedKeys(_) => Err(exchange.keys(None, &decoy()).unwrap_err().condition),
            Step::Challenge(_) => panic!("a challenge"),
        }
    };
    assert_eq!(check(&["a.example"], ""), Ok("a.example".to_owned()));
    assert_eq!(check(&["a.example"], "a.example"), Ok("a.example".to_owned()));
    assert_eq!(check(&["a.example"], "b.example"), Err(InvalidAuthzid));
    assert_eq!(check(&["a.example", "b.example"], ""), Err(InvalidAuthzid));
    assert_eq!(check(&["a.example", "b.example"], "b.example"), Ok("b.example".to_owned()));
    assert_eq!(check(&["user@localhost"], ""), Ok("user".to_owned()));
    assert_eq!(check(&["user@localhost"], "user@localhost/a"), Err(InvalidAuthzid));
    assert_eq!(check(&["user@elsewhere"], ""), Err(InvalidAuthzid));
    assert_eq!(check(&["gone@localhost"], ""), Err(NotAuthorized));
    assert_eq!(check(&[], "a.example"), Err(InvalidMechanism));
}

#[test]
fn a2_what_was_not_offered_is_never_evaluated() {
    let plaintext = Offer::new(Policy::CLIENTS, false, ChannelBindings::default(), Vec::new());
    for (offer, mechanism) in [
        (&plaintext, "PLAIN"),
        (&plaintext, "SCRAM-SHA-256-PLUS"),
        (&offer(), "EXTERNAL"),
        (&offer(), "ANONYMOUS"),
        (&offer(), "plain"),
        (&offer(), ""),
        (&offer(), "SCRAM-SHA-256 "),
        (&offer(), "DIGEST-MD5"),
    ] {
        assert_eq!(refused(offer, mechanism, "\0user\0pencil"), InvalidMechanism, "{mechanism}");
    }
    // Nor is an answer that was not asked for, or one after the end.
    let (mut exchange, _) = begin(&offer(), "PLAIN", "\0user\0pencil").unwrap();
    assert!(exchange.respond(Some(b"\0user\0pencil")).is_err());
    assert!(exchange.keys(Some(credentials("pencil")), &decoy()).is_err());
}

#[test]
fn a4_secrets_are_compared_in_constant_time_only() {
    // Secrets have no PartialEq: this compiles because `matches` is what there is.
    let secret = Secret::new(b"abc");
    assert!(secret.matches(b"abc"));
    assert!(!secret.matches(b"abd"));
    assert!(!secret.matches(b"ab"));
    assert!(!secret.matches(b""));
}

#[test]
fn a5_an_unknown_user_fails_only_at_the_proof() {
    let challenge = |user: &str, keys: Option<Credentials>| {
        let initial = format!("n,,n={user},r=x");
        let (mut exchange, _) = begin(&offer(), "SCRAM-SHA-256", &initial).unwrap();
        match exchange.keys(keys, &decoy()) {
            Ok(Step::Challenge(data)) => (exchange, String::from_utf8(data).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let attributes = |text: &str| -> Vec<(String, usize)> {
        text.split(',').filter_map(|a| a.split_once('=')).map(|(k, v)| (k.to_owned(), v.len())).collect()
    };
    let real = Credentials::from_password("pencil", 10_000).unwrap();
    let (_, known) = challenge("user", Some(real));
    let (mut exchange, unknown) = challenge("nobody", None);
    let (_, again) = challenge("NoBody", None);
    assert_eq!(attributes(&known), attributes(&unknown));
    assert!(unknown.contains(",i=10000,"));
    let salt = |text: &str| text.split(',').nth(1).unwrap().to_owned();
    assert_eq!(salt(&unknown), salt(&again));
    let nonce = unknown.split(',').next().unwrap().to_owned();
    let proof = super::encode(&[0; 32]);
    let error = exchange.respond(Some(format!("c=biws,{nonce},p={proof}").as_bytes())).unwrap_err();
    assert_eq!(error.condition, NotAuthorized);
    // PLAIN, with the right password of somebody else.
    let (mut exchange, _) = begin(&offer(), "PLAIN", "\0nobody\0pencil").unwrap();
    assert!(exchange.is_expensive());
    assert_eq!(exchange.keys(None, &decoy()).unwrap_err().condition, NotAuthorized);
    // A name that cannot exist is as unknown as any.
    assert_eq!(refused(&offer(), "PLAIN", "\0a b\0pencil"), NotAuthorized);
    assert_eq!(refused(&offer(), "PLAIN", "\0user@localhost\0pencil"), NotAuthorized);
}

#[test]
fn a16_the_channel_binding_flag_is_taken_at_its_word() {
    let unbound = Offer::new(Policy::CLIENTS, true, ChannelBindings::default(), Vec::new());
    let accepted = |offer: &Offer, mechanism, initial| begin(offer, mechanism, initial).is_ok();
    assert!(accepted(&offer(), "SCRAM-SHA-256", "n,,n=user,r=x"));
    assert!(accepted(&unbound, "SCRAM-SHA-256", "y,,n=user,r=x"));
    assert!(accepted(&offer(), "SCRAM-SHA-256-PLUS", "p=tls-exporter,,n=user,r=x"));
    assert!(accepted(&offer(), "SCRAM-SHA-1-PLUS", "p=tls-server-end-point,,n=user,r=x"));
    // `y` though -PLUS was offered: somebody cut it out.
    assert_eq!(refused(&offer(), "SCRAM-SHA-256", "y,,n=user,r=x"), NotAuthorized);
    for (mechanism, initial) in [
        ("SCRAM-SHA-256-PLUS", "n,,n=user,r=x"),
        ("SCRAM-SHA-256-PLUS", "y,,n=user,r=x"),
        ("SCRAM-SHA-256", "p=tls-exporter,,n=user,r=x"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=user,r=x"),
        ("SCRAM-SHA-256-PLUS", "p=,,n=user,r=x"),
        ("SCRAM-SHA-256-PLUS", "p=TLS-EXPORTER,,n=user,r=x"),
    ] {
        assert_eq!(refused(&offer(), mechanism, initial), MalformedRequest, "{mechanism} {initial}");
    }
    let exporter_only = ChannelBindings { end_point: None, ..bindings() };
    let offer = Offer::new(Policy::CLIENTS, true, exporter_only, Vec::new());
    assert_eq!(refused(&offer, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=user,r=x"), MalformedRequest);
}

#[test]
fn a16_another_channel_does_not_pass() {
    let mut elsewhere = bindings();
    elsewhere.exporter = Some(Secret::new(&[0xff; 32]));
    let end = run(login("pencil"), &offer(), announced(&offer()), &elsewhere);
    assert_eq!(end, Err("server: not-authorized".to_owned()));
}

#[test]
fn a16_a_thinned_out_announcement_is_noticed() {
    let all = announced(&offer());
    let without = |name: &str| Server {
        mechanisms: all.mechanisms.iter().filter(|m| !m.contains(name)).cloned().collect(),
        binding_types: all.binding_types.clone(),
    };
    // Some mechanisms gone: the hash of XEP-0474 tells.
    let end = run(login("pencil"), &offer(), without("SHA-256"), &bindings());
    assert_eq!(end, Err("client: Downgraded".to_owned()));
    // All with channel binding gone, but not their types.
    let end = run(login("pencil"), &offer(), without("PLUS"), &bindings());
    assert_eq!(end, Err("client: Downgraded".to_owned()));
    // Both gone: the client says `y`.
    let seen = Server { binding_types: Vec::new(), ..without("PLUS") };
    assert_eq!(run(login("pencil"), &offer(), seen, &bindings()), Err("server: not-authorized".to_owned()));
    // The strongest type gone.
    let seen = Server { binding_types: vec![BindingType::TlsServerEndPoint.name().to_owned()], ..all.clone() };
    assert_eq!(run(login("pencil"), &offer(), seen, &bindings()), Err("client: Downgraded".to_owned()));
}

#[test]
fn a_proof_is_good_for_its_own_exchange_only() {
    let attempt = |change: fn(&str) -> String| {
        let offer = offer();
        let only = Login { only: Some(Mechanism::ScramSha256), ..login("pencil") };
        let mut client = ClientExchange::new(only, announced(&offer), true, &bindings()).unwrap();
        let (mut server, _) = begin(&offer, "SCRAM-SHA-256", std::str::from_utf8(&client.initial()).unwrap()).unwrap();
        let Ok(Step::Challenge(data)) = server.keys(Some(credentials("pencil")), &decoy()) else { panic!() };
        let answer = String::from_utf8(client.challenge(&data).unwrap()).unwrap();
        let end = server.respond(Some(change(&answer).as_bytes()));
        let again = server.respond(Some(answer.as_bytes()));
        assert!(again.is_err(), "an exchange ends once");
        end.map(|_| ()).map_err(|error| error.condition)
    };
    assert_eq!(attempt(str::to_owned), Ok(()));
    assert_eq!(attempt(|text| text.replace("c=biws", "c=eSws")), Err(NotAuthorized));
    assert_eq!(attempt(|text| text.replace(",p=", "x,p=")), Err(NotAuthorized));
    assert_eq!(attempt(|text| text.replace(",p=", ",q=1,p=")), Err(NotAuthorized));
    assert_eq!(attempt(|text| text.replace("p=", "p=AAAA")), Err(NotAuthorized));
    assert_eq!(attempt(|text| format!("{},p=", text.split(",p=").next().unwrap())), Err(NotAuthorized));
    assert_eq!(attempt(|text| text.replace(",p=", ",")), Err(MalformedRequest));
    assert_eq!(attempt(|_| String::new()), Err(MalformedRequest));
}

#[test]
fn a_server_that_does_not_know_the_account_is_left() {
    let scram = || {
        let only = Login { only: Some(Mechanism::ScramSha256), ..login("pencil") };
        let mut client = ClientExchange::new(only, announced(&offer()), true, &bindings()).unwrap();
        let initial = String::from_utf8(client.initial()).unwrap();
        let nonce = initial.rsplit("r=").next().unwrap().to_owned();
        (client, nonce)
    };
    // Success out of the blue, or with the wrong signature.
    let (client, _) = scram();
    assert_eq!(client.success(None), Err(ClientError::ServerNotProven));
    let (mut client, nonce) = scram();
    client.challenge(format!("r={nonce}more,s=AAAA,i=4096").as_bytes()).unwrap();
    assert_eq!(client.success(Some(b"v=AAAA")), Err(ClientError::ServerNotProven));
    for bad in
        ["r=other,s=AAAA,i=1", "r={},s=AAAA,i=1", "r={}x,s=AAAA,i=0", "r={}x,s=AAAA,i=4000000000", "r={}x,s=,i=1", "x"]
    {
        let (mut client, nonce) = scram();
        let message = bad.replace("{}", &nonce);
        assert_eq!(client.challenge(message.as_bytes()), Err(ClientError::Malformed), "{message}");
    }
}

#[test]
fn base64_is_read_strictly() {
    assert_eq!(decode_initial(""), Ok(None));
    assert_eq!(decode_initial("="), Ok(Some(Vec::new())));
    assert_eq!(decode_initial("\n AHVzZXI= \n"), Ok(Some(b"\0user".to_vec())));
    for bad in ["A", "AHVzZXI", "AHVz ZXI=", "AHVzZXI=AHVz", "AHVzZXI==", "\u{e9}", "AHVz-_I=", "=="] {
        assert_eq!(decode(bad).unwrap_err().condition, IncorrectEncoding, "{bad}");
    }
    for bytes in [&b"\0user\0\xff"[..], b"\xc0\x80user\0a", b"n,,n=\xed\xa0\x80,r=x"] {
        for mechanism in ["PLAIN", "SCRAM-SHA-1"] {
            let mut exchange = Exchange::new(&offer(), &host(), mechanism).unwrap();
            assert_eq!(exchange.respond(Some(bytes)).unwrap_err().condition, MalformedRequest);
        }
    }
}

#[test]
fn a_client_may_keep_its_first_message_back() {
    let mut exchange = Exchange::new(&offer(), &host(), "PLAIN").unwrap();
    assert!(matches!(exchange.respond(None), Ok(Step::Challenge(data)) if data.is_empty()));
    assert!(matches!(exchange.respond(Some(b"\0user\0pencil")), Ok(Step::NeedKeys(_))));
    let end = exchange.keys(Some(credentials("pencil")), &decoy());
    assert!(matches!(end, Ok(Step::Success { identity, data: None }) if identity.as_str() == "user@localhost"));
}
