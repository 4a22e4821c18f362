//! Conversations with a stream: two of them joined, or one against raw XML, with a made-up clock.

mod attacks;
mod component;
mod login;
mod oracle;
mod servers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use super::{Binding, Config, Deadlines, Ending, Event, Host, Kind, Peer, Phase, Stream, TlsInfo};
use crate::{
    element::Element,
    error::{Condition, StanzaError, StreamCondition, StreamError},
    jid::{BareJid, Jid},
    limits::Limits,
    sasl::{ChannelBindings, Credentials, Decoy, Hash, Login, Policy, ScramKeys, Secret},
};

const SECOND: Duration = Duration::from_secs(1);
const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                      to='localhost' version='1.0'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const END: &str = "</stream:stream>";
const BIND: &str = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";

fn config(kind: Kind) -> Config {
    Config {
        kind,
        starttls: true,
        require_tls: true,
        secured: false,
        policy: if kind == Kind::C2s { Policy::CLIENTS } else { Policy::SERVERS },
        decoy: Decoy { secret: Secret::new(b"server secret"), iterations: 10_000 },
        auth_attempts: 5,
        pre_auth: Limits::pre_auth(),
        limits: Limits::c2s(),
        deadlines: Deadlines::default(),
    }
}

/// Inside TLS from the start, as on port 5223.
fn direct() -> Config {
    Config { secured: true, ..config(Kind::C2s) }
}

fn bindings() -> ChannelBindings {
    ChannelBindings { exporter: Some(Secret::new(&[7; 32])), end_point: Some(Secret::new(&[8; 32])) }
}

fn auth(mechanism: &str, message: &str) -> String {
    let text = crate::sasl::encode(message.as_bytes());
    let text = if text.is_empty() { "=" } else { &text };
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{text}</auth>")
}

fn plain(user: &str, password: &str) -> String {
    auth("PLAIN", &format!("\0{user}\0{password}"))
}

/// One end of a stream with a driver that answers every question at once. The accounts are
/// `user@localhost` and `other@localhost`, with the password `pencil`.
struct Side {
    stream: Stream,
    now: Instant,
    external: Vec<BareJid>,
    register: bool,
    plain: bool,
    features: Vec<Element>,
    /// Cuts what it is fed into pieces, by this seed.
    seed: u64,
    /// Everything that happened, one line an event.
    log: Vec<String>,
    identity: Option<Jid>,
    /// Bytes that wait because the stream takes no input.
    backlog: Vec<u8>,
    holds_keys: bool,
}

impl Side {
    fn receiving(config: Config) -> Self {
        let now = Instant::now();
        Self::new(Stream::receiving(Arc::new(config), now), now)
    }

    fn initiating(config: Config, peer: Peer) -> Self {
        let now = Instant::now();
        Self::new(Stream::initiating(Arc::new(config), Arc::new(peer), now), now)
    }

    fn new(stream: Stream, now: Instant) -> Self {
        Self {
            stream,
            now,
            external: Vec::new(),
            register: false,
            plain: false,
            features: Vec::new(),
            seed: 0,
            log: Vec::new(),
            identity: None,
            backlog: Vec::new(),
            holds_keys: false,
        }
    }

    /// An open stream of `user@localhost/r`.
    fn open() -> Self {
        let mut side = Self::receiving(direct());
        side.feed(&format!("{HEADER}{}{HEADER}{BIND}", plain("user", "pencil")));
        assert!(side.stream.is_open(), "{:?}", side.log);
        side.log.clear();
        side
    }

    /// Feeds `xml` and says what the stream wrote.
    fn feed(&mut self, xml: &str) -> String {
        self.feed_bytes(xml.as_bytes());
        self.written()
    }

    fn written(&mut self) -> String {
        let mut written = Vec::new();
        while let Some(bytes) = self.stream.poll_transmit() {
            written.extend_from_slice(&bytes);
        }
        String::from_utf8(written).unwrap()
    }

    fn feed_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.piece(bytes.len()));
            self.backlog.extend_from_slice(piece);
            bytes = rest;
            self.drive();
        }
    }

    fn drive(&mut self) {
        loop {
            let taken = self.stream.handle_input(self.now, &self.backlog);
            self.backlog.drain(..taken);
            let mut quiet = taken == 0;
            while let Some(event) = self.stream.poll_event() {
                self.answer(event);
                quiet = false;
            }
            if quiet {
                break;
            }
        }
    }

    fn piece(&mut self, most: usize) -> usize {
        if self.seed == 0 {
            return most;
        }
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = usize::try_from(self.seed >> 59).unwrap();
        size.clamp(1, most)
    }

    fn answer(&mut self, event: Event) {
        let now = self.now;
        let line = match event {
            Event::Opened(opened) => {
                let served = matches!(opened.to.as_str(), "localhost" | "example.org" | "a.example" | "b.example");
                self.stream.handle_host(if served {
                    Ok(Host {
                        features: self.features.clone(),
                        external: self.external.clone(),
                        register: self.register,
                        plain: self.plain,
                    })
                } else {
                    Err(StreamCondition::HostUnknown.into())
                });
                format!("opened {} {:?}", opened.to, opened.phase)
            }
            Event::StartTls => {
                self.stream.handle_tls(now, TlsInfo { bindings: bindings() });
                "starttls".to_owned()
            }
            Event::LookUp { user, expensive } => {
                if !self.holds_keys {
                    self.stream.handle_keys(now, Ok(keys(user.as_str())));
                }
                format!("lookup {user}{}", if expensive { " expensive" } else { "" })
            }
            Event::Bind { resource } => {
                let identity = self.identity.clone().expect("authenticated").bare();
                let wanted = resource.clone().unwrap_or_else(|| "r".to_owned());
                self.stream
                    .handle_bind(identity.with_resource(&wanted).map_err(|_| StanzaError::new(Condition::BadRequest)));
                format!("bind {resource:?}")
            }
            Event::Handshake { right } => {
                self.stream.handle_handshake(Ok(()));
                format!("handshake {right}")
            }
            Event::Authenticated { identity, mechanism } => {
                self.identity = Some(identity.clone());
                format!("authenticated {identity} {mechanism}")
            }
            Event::AuthFailed { user, condition, .. } => {
                format!("failed {} {condition}", user.map(|user| user.to_string()).unwrap_or_default())
            }
            Event::PreAuthIq(stanza) => format!("pre-auth {}", stanza.to_xml()),
            Event::Stanza(stanza) => format!("stanza {}", stanza.to_xml()),
            Event::Answered(reply) => format!("answered {}", reply.map(|reply| reply.to_xml()).unwrap_or_default()),
            Event::Nonza(element) => format!("nonza {}", element.to_xml()),
            Event::Features(features) => format!("features {}", features.to_xml()),
            Event::Bound(jid) => format!("bound {jid}"),
            Event::Closed(ending) => match ending {
                Ending::ByUs(error) => format!("closed by us{}", condition(error.as_ref())),
                Ending::ByPeer(error) => format!("closed by peer{}", condition(error.as_ref())),
                Ending::Login(error) => format!("closed, no login: {error:?}"),
            },
        };
        self.log.push(line);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.stream.handle_timeout(self.now);
        self.drive();
    }

    fn last(&self) -> &str {
        self.log.last().map_or("", String::as_str)
    }

    fn has(&self, start: &str) -> bool {
        self.log.iter().any(|line| line.starts_with(start))
    }
}

fn condition(error: Option<&StreamError>) -> String {
    error.map(|error| format!(": {}", error.condition)).unwrap_or_default()
}

fn keys(user: &str) -> Option<Credentials> {
    // Few rounds: these tests are about the stream.
    matches!(user, "user@localhost" | "other@localhost").then(|| Credentials {
        sha256: ScramKeys::derive(Hash::Sha256, "pencil", b"0123456789abcdef", 2).unwrap(),
        sha1: ScramKeys::derive(Hash::Sha1, "pencil", b"fedcba9876543210", 2).unwrap(),
    })
}

fn peer(password: &str) -> Peer {
    Peer {
        to: BareJid::new("localhost").unwrap(),
        from: Some(Jid::new("user@localhost").unwrap()),
        login: Some(Login {
            user: "user".to_owned(),
            password: Zeroizing::new(password.to_owned()),
            plain: true,
            external: false,
            only: None,
        }),
        binding: Binding::Any,
    }
}

/// Two streams, each writing into the other.
struct Pair {
    client: Side,
    server: Side,
}

impl Pair {
    fn new(client: Side, server: Side) -> Self {
        let mut pair = Self { client, server };
        pair.client.drive();
        pair
    }

    /// Lets them talk until neither has anything to say.
    fn talk(&mut self) {
        loop {
            let there = self.client.written();
            let back = self.server.feed(&there);
            if there.is_empty() && back.is_empty() {
                break;
            }
            self.client.feed_bytes(back.as_bytes());
        }
    }
}

#[test]
fn phases_are_told_apart() {
    let mut side = Side::receiving(config(Kind::C2s));
    side.feed(&format!("{HEADER}{STARTTLS}"));
    side.feed(&format!("{HEADER}{}", plain("user", "pencil")));
    side.feed(HEADER);
    let opened: Vec<_> = side.log.iter().filter(|line| line.starts_with("opened")).collect();
    let expected =
        [Phase::BeforeTls, Phase::BeforeAuth, Phase::AfterAuth].map(|phase| format!("opened localhost {phase:?}"));
    assert_eq!(opened, expected.iter().collect::<Vec<_>>());
}

#[test]
fn an_open_stream_is_small() {
    assert!(size_of::<Stream>() <= 512, "{}", size_of::<Stream>());
    let side = Side::open();
    assert!(side.stream.negotiation.is_none());
    assert_eq!(side.stream.out.capacity(), 0);
    assert!(side.stream.framer.is_idle());
    assert_eq!(side.stream.poll_timeout(), None);
}
