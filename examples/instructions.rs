//! The hot path, step by step, for counting its instructions: `interop/bench/instructions` runs it under callgrind.
//!
//! `instructions STEP STANZA COUNT` does a step, and all steps before it, COUNT times: `frame` finds the element in the
//! stream's bytes, `parse` makes a stanza of it, `route` brings it to the recipient's outbox and from there into the socket's
//! buffer. `remembered` is a message on a stream with acknowledgements (XEP-0198), with an id of its own, so that sender and
//! recipient remember it against being sent again. The clock stands still, so that nothing runs beside it but the group
//! commit, now and then.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_core::config::Conf;
use rookery_core::server::Server;
use rookery_core::session::{Session, StreamInfo};
use rookery_core::store::{AccountStore, Store};
use rookery_store::MemoryStore;
use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::parser::{Parsed, parse};
use rookery_xmpp::sasl::Credentials;
use rookery_xmpp::stanza::Stanza;

type Failed = Box<dyn Error>;

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xml:lang='en' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";

/// Where the number stands in the id of a message that is remembered.
const NUMBER: &str = "0000000000000000";

/// What is sent, two of a kind by turns, so that none is what it was before.
fn stanzas(kind: &str) -> Result<[String; 2], Failed> {
    let body = "b".repeat(100);
    Ok(match kind {
        "message" => [0, 1].map(|turn| {
            format!("<message to='{JULIET}/balcony' type='chat' id='5f4dcc3b-5aa{turn}'><body>{body}</body></message>")
        }),
        "remembered" => [0, 1]
            .map(|_| format!("<message to='{JULIET}/balcony' type='chat' id='{NUMBER}'><body>{body}</body></message>")),
        "presence" => [0, 1].map(|turn| {
            format!("<presence><show>away</show><status>I am here, for the {turn}. time</status></presence>")
        }),
        "iq" => [0, 1].map(|turn| {
            format!("<iq type='get' id='5f4dcc3b-5aa{turn}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        }),
        other => return Err(format!("no stanza of the kind {other}").into()),
    })
}

struct World {
    server: Arc<Server>,
    romeo: Arc<Session>,
    juliet: Arc<Session>,
    framer: Framer,
    namespaces: Namespaces,
    out: Vec<u8>,
}

impl World {
    async fn new() -> Result<Self, Failed> {
        let store = Arc::new(MemoryStore::new());
        let keys = Credentials::from_password("secret", 4096).map_err(|error| error.to_string())?;
        for user in [ROMEO, JULIET] {
            store.create_account(&BareJid::new(user)?, &keys).await?;
        }
        let conf = Conf::parse("[host.localhost]\n[modules.archive]\nenabled = false\n", "bench.toml")?;
        let database: Arc<dyn Store> = store;
        let server = Server::start(conf, database, rookery_modules::ALL).await?;
        let mut framer = Framer::new(Limits::c2s());
        let Some(Frame::Header(header)) = framer.next(&mut &*HEADER)? else { return Err("no header".into()) };
        let mut sessions = Vec::new();
        for (user, resource) in [(ROMEO, "orchard"), (JULIET, "balcony")] {
            let stream = StreamInfo { id: server.next_stream(), peer: [127, 0, 0, 1].into(), secured: true };
            sessions.push(
                server
                    .bind(&BareJid::new(user)?, Some(resource), stream)
                    .await
                    .map_err(|error| format!("{error:?}"))?,
            );
        }
        let [romeo, juliet] = <[_; 2]>::try_from(sessions).map_err(|_| "two sessions")?;
        let mut world =
            Self { server, romeo, juliet, framer, namespaces: header.namespaces, out: Vec::with_capacity(1 << 16) };
        for (session, text) in [
            (&world.romeo, "<presence/>".to_owned()),
            (&world.juliet, "<presence/>".to_owned()),
            (&world.juliet, format!("<presence to='{ROMEO}' type='subscribe'/>")),
            (&world.romeo, format!("<presence to='{JULIET}' type='subscribed'/>")),
        ] {
            let stanza = world.parse(text.into_bytes().into())?;
            world.server.accept(&session.clone(), stanza, None).await?;
        }
        world.drain();
        Ok(world)
    }

    fn parse(&self, bytes: bytes::Bytes) -> Result<Stanza, Failed> {
        match parse(bytes, &self.namespaces)? {
            Parsed::Stanza(stanza) => Ok(stanza),
            other => Err(format!("no stanza: {other:?}").into()),
        }
    }

    /// Writes what waits for both; how many bytes that was.
    fn drain(&mut self) -> usize {
        self.out.clear();
        for session in [&self.romeo, &self.juliet] {
            while session
                .drain(session.connection(), &mut self.out, 1 << 16, Instant::now())
                .is_some_and(|drained| drained.more)
            {}
            session.flushed();
        }
        self.out.len()
    }

    async fn step(&mut self, step: &str, text: &str) -> Result<usize, Failed> {
        let Some(Frame::Element(bytes)) = self.framer.next(&mut black_box(text.as_bytes()))? else {
            return Err("no element".into());
        };
        if step == "frame" {
            return Ok(black_box(bytes).len());
        }
        let stanza = self.parse(bytes)?;
        if step == "parse" {
            return Ok(usize::from(black_box(stanza).head.to.is_some()) + 1);
        }
        let receipt = self.romeo.receive(self.romeo.connection()).map_err(|_| "the connection is past")?;
        self.server.accept(&self.romeo.clone(), stanza, receipt).await?;
        Ok(self.drain())
    }
}

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [step, kind, count] = words.as_slice() else { return Err("instructions STEP STANZA COUNT".into()) };
    let (mut texts, count) = (stanzas(kind)?, count.parse::<usize>()?);
    let place = texts.first().and_then(|text| text.find(NUMBER));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let mut world = World::new().await?;
        if place.is_some() && !world.romeo.enable_acks("stream".into(), None, "<enabled/>".into()) {
            return Err("no acknowledgements".into());
        }
        for number in 0..count {
            let text = texts.get_mut(number % 2).ok_or("two texts")?;
            if let Some(place) = place {
                text.replace_range(place..place + NUMBER.len(), &format!("{number:016x}"));
            }
            if world.step(step, text).await? == 0 {
                return Err(format!("nothing came of {text}").into());
            }
            if number % 256 == 255 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    })
}
