//! Random conversations against an oracle: authenticated means that valid credentials came last,
//! and the address is that of the account they belong to.

use proptest::prelude::*;

use super::*;
use crate::sasl::{ClientExchange, Mechanism, Server};

#[derive(Clone, Debug)]
enum Move {
    Raw(&'static str),
    Plain {
        user: &'static str,
        password: &'static str,
        authzid: &'static str,
    },
    /// Begins SCRAM; with the right password or a wrong one.
    Scram {
        mechanism: Mechanism,
        right: bool,
    },
    /// Answers the last challenge as the client that began would.
    Answer,
    /// Answers it with a proof that is off by one bit.
    Forge,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let raw = prop::sample::select(vec![
        HEADER,
        STARTTLS,
        BIND,
        END,
        " ",
        "<presence/>",
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AHVzZXIAcGVuY2ls</response>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'/>",
        "<auth xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>AHVzZXIAcGVuY2ls</auth>",
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='1'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
    ]);
    let plain = (
        prop::sample::select(vec!["user", "USER", "other", "nobody", "", "user\0x"]),
        prop::sample::select(vec!["pencil", "pencil", "wrong", "", "pencil\0"]),
        prop::sample::select(vec!["", "", "user@localhost", "other@localhost", "user@localhost/r"]),
    )
        .prop_map(|(user, password, authzid)| Move::Plain { user, password, authzid });
    let scram = (
        prop::sample::select(vec![Mechanism::ScramSha1, Mechanism::ScramSha256, Mechanism::ScramSha256Plus]),
        any::<bool>(),
    )
        .prop_map(|(mechanism, right)| Move::Scram { mechanism, right });
    let any_move = prop_oneof![
        3 => raw.prop_map(Move::Raw),
        2 => plain,
        2 => scram,
        3 => Just(Move::Answer),
        1 => Just(Move::Forge),
    ];
    prop::collection::vec(any_move, 1..14)
}

/// The account that this one PLAIN message logs in to, if any.
fn plain_is_valid(user: &str, password: &str, authzid: &str) -> Option<&'static str> {
    let account = match user {
        "user" | "USER" => "user@localhost",
        "other" => "other@localhost",
        _ => return None,
    };
    (password == "pencil" && (authzid.is_empty() || authzid == account)).then_some(account)
}

struct Attacker {
    side: Side,
    client: Option<(ClientExchange, bool)>,
    challenge: Option<Vec<u8>>,
}

impl Attacker {
    /// Makes a move; the account it proves to own, if it does.
    fn make(&mut self, step: &Move) -> Option<&'static str> {
        let (xml, proves) = match step {
            Move::Raw(xml) => ((*xml).to_owned(), None),
            Move::Plain { user, password, authzid } => {
                (auth("PLAIN", &format!("{authzid}\0{user}\0{password}")), plain_is_valid(user, password, authzid))
            }
            Move::Scram { mechanism, right } => {
                let login = Login {
                    user: "user".to_owned(),
                    password: Zeroizing::new(if *right { "pencil" } else { "pencils" }.to_owned()),
                    plain: false,
                    external: false,
                    only: Some(*mechanism),
                };
                let server = Server {
                    mechanisms: ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]
                        .map(str::to_owned)
                        .to_vec(),
                    binding_types: ["tls-exporter", "tls-server-end-point"].map(str::to_owned).to_vec(),
                };
                let mut client = ClientExchange::new(login, server, true, &bindings()).unwrap();
                let initial = String::from_utf8(client.initial()).unwrap();
                self.client = Some((client, *right));
                (auth(mechanism.name(), &initial), None)
            }
            Move::Answer | Move::Forge => {
                let challenge = self.challenge.take().unwrap_or_default();
                let answer = self
                    .client
                    .as_mut()
                    .and_then(|(client, right)| client.challenge(&challenge).ok().map(|answer| (answer, *right)));
                let (mut answer, right) = answer.unwrap_or_default();
                let forge = matches!(step, Move::Forge);
                if forge && let Some(at) = answer.len().checked_sub(6) {
                    answer[at] = if answer[at] == b'A' { b'B' } else { b'A' };
                }
                let text = crate::sasl::encode(&answer);
                let xml = format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{text}</response>");
                (xml, (right && !forge).then_some("user@localhost"))
            }
        };
        let answer = self.side.feed(&xml);
        if let Some((_, text)) = answer.split_once("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>") {
            let text = text.split('<').next().unwrap_or_default();
            self.challenge = crate::sasl::decode(text).ok();
        }
        proves
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f4_nobody_gets_in_without_valid_credentials(moves in moves(), encrypted in any::<bool>(), seed in any::<u64>()) {
        let mut side = Side::receiving(if encrypted { direct() } else { config(Kind::C2s) });
        side.seed = seed;
        if encrypted {
            side.stream.handle_tls(side.now, TlsInfo { bindings: bindings() });
        }
        let mut attacker = Attacker { side, client: None, challenge: None };
        if encrypted {
            attacker.side.feed(HEADER);
        }
        for step in &moves {
            let before = attacker.side.log.len();
            let proves = attacker.make(step);
            for line in &attacker.side.log[before..] {
                if let Some(who) = line.strip_prefix("authenticated ") {
                    // `<response/>` may carry PLAIN when `<auth/>` came without it: never here,
                    // since no move begins PLAIN without its message.
                    let account = proves.expect("authenticated by valid credentials alone");
                    prop_assert!(who.starts_with(&format!("{account} ")), "{who} is not {account}");
                    prop_assert!(attacker.side.stream.is_secured());
                }
                if line.starts_with("stanza") {
                    prop_assert!(attacker.side.identity.is_some());
                }
            }
            if let Some(identity) = &attacker.side.identity && attacker.side.stream.is_open() {
                prop_assert!(matches!(identity.as_str(), "user@localhost" | "other@localhost"));
            }
        }
    }

    #[test]
    fn f1_chunking_changes_nothing(
        moves in moves(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        at in any::<prop::sample::Index>(),
        seed in 1..u64::MAX,
    ) {
        let mut bytes = HEADER.as_bytes().to_vec();
        for step in &moves {
            match step {
                Move::Raw(xml) => bytes.extend_from_slice(xml.as_bytes()),
                Move::Plain { user, password, .. } => {
                    bytes.extend_from_slice(plain(user, password).as_bytes());
                    bytes.extend_from_slice(HEADER.as_bytes());
                }
                Move::Scram { .. } | Move::Answer => bytes.extend_from_slice(BIND.as_bytes()),
                Move::Forge => bytes.splice(at.index(bytes.len()).., noise.clone()).for_each(drop),
            }
        }
        let log = |seed| {
            let mut side = Side::receiving(direct());
            side.seed = seed;
            side.feed_bytes(&bytes);
            side.log
        };
        prop_assert_eq!(log(0), log(seed));
    }
}
